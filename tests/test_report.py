"""The report: that every number in it comes from the records, in the page, JSON and LaTeX alike."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from data.toy import DEFAULT_NOISE, bayes_accuracy
from figures import report
from figures.catalogue import all_claims, figures
from figures.effects import SUPPORTED, VERDICTS, Claim, Effect, p_value, wilson
from figures.experiments import EXPERIMENTS
from figures.measurements import cnn_costs, mlp_costs, total
from figures.pages import readme_table, reference
from part1_mlp.mlp_pytorch import MLP
from part2_cnn.model import CNN
from training.cli import format_duration, markdown_table
from training.runs import RunRecord

EFFECT = Effect("accuracy", ("a", "b"), (0.5, 0.51234), -0.02, -0.004, 0.01)
CLAIM = Claim(
    "C3", "A is better.", "Both were trained.", (EFFECT,), SUPPORTED, "So it is.", "shifts"
)


@pytest.fixture(scope="module")
def claims(records) -> list[Claim]:
    return all_claims(records)


# --- Claims and tables ----------------------------------------------------------------------------


def test_nine_claims_each_with_a_verdict_numbers_and_a_figure(claims):
    assert [claim.number for claim in claims] == [f"C{i}" for i in range(1, 10)]
    for claim in claims:
        assert claim.verdict in VERDICTS
        assert claim.effects
        assert claim.figure in figures()
        text = report.claim_text(claim)
        assert "nan" not in text
        assert claim.verdict.capitalize() in text


def test_a_claim_stands_with_its_design_effects_and_meaning():
    text = report.claim_text(CLAIM)
    assert text.startswith("**C3. A is better. Supported.**\n")
    found = "- accuracy: a 0.5000, b 0.5123: difference \N{MINUS SIGN}0.0123 [\N{MINUS SIGN}0.0200"
    order = [text.index(part) for part in ("Both were trained.", found, "So it is.")]
    assert order == sorted(order)


def test_the_summary_names_every_claim_once_with_its_verdict(records, claims):
    *lines, accuracies = report.summary(records, claims).splitlines()
    assert len(lines) == 9
    for line, claim in zip(lines, claims, strict=True):
        assert line.startswith(f"- **{claim.number}, {claim.verdict}**: {claim.text} *")
        assert claim.meaning.startswith(line.split("*")[-2].removesuffix("."))
    cnn = records["cnn_original"].accuracies
    spread = f"(standard deviation {cnn.std(ddof=1):.4f} over 3 seeds)"
    assert "recipe original**: MLP 0.5530 (" in accuracies
    assert accuracies.endswith(f"CNN {cnn.mean():.4f} {spread}.")
    two = dataclasses.replace(CLAIM, meaning="So it is. Mostly.")
    line = report.summary(records, [two]).splitlines()[0]
    assert line == "- **C3, supported**: A is better. *So it is.*"


def test_stopping_by_the_test_loss_is_compared_in_numbers(records):
    text = report.stopped_text(records)
    ours, stopped, whole = (
        records[f"mlp_pytorch_cifar10_{name}"].accuracies
        for name in ("original", "test_stopped", "without_early_stopping")
    )
    difference = (stopped - ours).mean()
    assert f"stopped by the test loss {stopped.mean():.4f}, by the validation loss " in text
    assert f"{ours.mean():.4f}: difference {difference:.4f} [" in text
    assert text.endswith(f"recipe original reaches {whole.mean():.4f} within 200 epochs.")
    assert text in report.report(records, [], figures())


def test_claims_stand_with_the_figure_that_shows_them(records, claims):
    whole = report.report(records, claims, figures())
    for claim in claims:
        picture = f"(figures/output/{report.stem(claim.figure)}.png)"
        assert whole.count(report.claim_text(claim)) == 1
        assert whole.index(picture) < whole.index(report.claim_text(claim))
    for name in figures():
        assert whole.count(f"(figures/output/{report.stem(name)}.png)") == 1
    assert len(whole.splitlines()) < 400


def test_single_view_and_test_time_augmentation_are_separate_columns(records):
    head, _, *rows = report.comparison_table(records).splitlines()
    assert head.endswith("| ours, `best`, single view | with test-time augmentation |")
    best = records["mlp_pytorch_cifar10_best"].runs
    kept = [(run.history["test_accuracy"], np.argmin(run.history["val_loss"])) for run in best]
    single = np.mean([accuracy[at] for accuracy, at in kept])
    averaged = np.mean([run.result["test_accuracy"] for run in best])
    assert single < averaged
    assert rows[0].endswith(f"| {single:.4f} (3 seeds) | {averaged:.4f} (3 seeds) |")
    assert rows[3].endswith("(5 seeds) |  |")  # the RNN has no test-time augmentation
    mlp = records["mlp_pytorch_cifar10_original"].accuracies.mean()
    gap = f"{mlp - 0.5666:+.4f}".replace("-", "\N{MINUS SIGN}")
    assert f"| 0.5666 | {mlp:.4f} (3 seeds) | {gap} |" in rows[0]


def test_settings_are_marked_as_given_or_chosen_on_validation(records):
    rows = report.settings_table(records).splitlines()
    head = [cell.strip(" `") for cell in rows[0].split("|")]
    cells = {row.split("|")[1].strip(" `"): row.split("|") for row in rows[2:]}
    for flag, group, text in (
        ("patience", "mlp_pytorch_cifar10_original", "**10**"),
        ("batch_size", "mlp_pytorch_cifar10_original", "*4096*"),
        ("patience", "cnn_original", "10"), ("channels", "cnn_original", "**64, 128, 256**"),
        ("cell", "rnn_T5_original", "**rnn**"), ("optimizer", "cnn_original", "**adam**"),
        ("optimizer", "cnn_best", "muon"), ("weight_decay", "cnn_best", "*0.1*"),
        ("learning_rate", "mlp_pytorch_cifar10_wide", "0.014"),
        ("dnn_hidden_units", "mlp_pytorch_cifar10_wide", "*1024, 512, 256*"),
        ("noise", "mlp_numpy_moons_original", "0.2"), ("noise", "cnn_best", ""),
        ("noise", "mlp_numpy_circles_original", "0.1"), ("factor", "mlp_numpy_moons_original", ""),
        ("factor", "mlp_numpy_circles_original", "0.5"), ("n_samples", "cnn_original", "all"),
        ("n_samples", "mlp_numpy_moons_original", "5000"), ("n_samples", "rnn_T5_original", ""),
        ("augment", "cnn_original", "**on**"),
        ("batch_size", "rnn_T5_original", "**128**"), ("init_scale", "rnn_T5_original", "1.0"),
        ("momentum", "mlp_numpy_moons_original", "0.0"), ("eval_freq", "cnn_original", "epoch"),
        ("dropout", "rnn_T5_original", ""),
    ):  # fmt: skip
        assert cells[flag][head.index(group)].strip() == text, (flag, group)
    configs = [records[name].config for name in head[2:-1]]
    wanted = {flag for config in configs for flag, value in config.items() if value is not None}
    wanted |= {"noise", "factor", "n_samples"}  # not given, which has a meaning
    assert cells.keys() == wanted - {*report.NO_SETTINGS, *report.RESUMABLE_FLAGS}


def test_layers_stand_beside_fully_connected_ones_of_their_shapes():
    costs = cnn_costs()
    whole = total(costs.values())
    assert whole.parameters == sum(p.numel() for p in CNN(3, 10).parameters()) == 6_400_586
    name, output = next(iter(costs))
    assert (name.split(",")[0], output) == ("conv 3x3", "64 x 32 x 32")
    first = costs[name, output]
    assert (first.parameters, first.multiply_adds) == (64 * 28, 64 * 27 * 32 * 32)
    assert first.dense_parameters == (3 * 1024 + 1) * 64 * 1024
    assert first.dense_multiply_adds == 3 * 1024 * 64 * 1024
    linears = [cost for (name, _), cost in costs.items() if name.startswith("linear")]
    assert len(costs) == 9
    assert len(linears) == 3
    assert all(cost[:2] == cost[2:] for cost in linears)
    mlp = MLP(3072, [512, 256, 128], 10)
    parameters = sum(p.numel() for p in mlp.parameters())
    assert total(mlp_costs([512, 256, 128]).values()).parameters == parameters


@pytest.mark.parametrize(
    ("seconds", "words"), [(7.4, "7 seconds"), (90 * 60, "90 minutes"), (7560, "2.1 hours")]
)
def test_durations(seconds, words):
    assert format_duration(seconds) == words


def test_the_readme_has_a_row_for_each_net_with_what_to_compare(records):
    head, _, *rows = readme_table(records).splitlines()
    assert head.count("|") == 8
    assert len(rows) == 7
    accuracy = records["mlp_numpy_moons_original"].accuracies
    spread = f"{accuracy.mean():.4f} ({accuracy.min():.4f} to {accuracy.max():.4f})"
    bayes = f"{bayes_accuracy('moons', DEFAULT_NOISE['moons']):.4f}"
    n = len(accuracy)
    assert (
        rows[0]
        == f"| MLP 20 (NumPy) | moons | original | {n} | {spread} |  | Bayes accuracy {bayes} |"
    )
    assert reference(records["mlp_pytorch_cifar10_original"]) == "the original 0.5666"
    assert reference(records["rnn_T5_original"]) == ""
    averaged = f"{records['cnn_best'].accuracies.mean():.4f}"
    assert rows[-1].split("|")[-3].strip() == averaged
    assert [row.split(" | ")[0] for row in rows[2:6]] == [
        "| MLP 512-256-128 (PyTorch)", "| MLP 512-256-128 (PyTorch)",
        "| MLP 1024-512-256 (PyTorch)", "| CNN",
    ]  # fmt: skip


def test_a_markdown_table():
    assert markdown_table(("a", "b"), [(1, "x")]) == "| a | b |\n| --- | --- |\n| 1 | x |"


def test_where_runs_were_trained_is_told_as_far_as_it_is_known(records):
    environment = {"cpu": "AVX2", "machine": "x86_64", "threads": 2, "precision": "float32",
                   "device": "cpu", "cores": 4}  # fmt: skip
    known = RunRecord(Path(), {"environment": environment}, {}, {})
    assert report.trained_on(known) == "AVX2, 2 threads of 4 cores, float32"
    known.config["environment"] = environment | {"threads": 1}
    assert report.trained_on(known) == "AVX2, 1 thread of 4 cores, float32"
    on_gpu = RunRecord(Path(), {"environment": environment | {"device": "cuda"}}, {}, {})
    assert report.trained_on(on_gpu) == "GPU (cuda), float32"
    on_gpu.config["environment"]["gpu"] = "Some GPU"
    assert report.trained_on(on_gpu) == "GPU (Some GPU), float32"
    numpy = environment | {"cpu": None, "threads": None}
    run = RunRecord(Path(), {"environment": numpy}, {}, {})
    assert report.trained_on(run) == "x86_64, float32"


# --- Files ----------------------------------------------------------------------------------------


def test_no_number_is_typed_into_the_template():
    text = re.sub(r"C\d|[Pp]art ?\d|figure \d", "", report.TEMPLATE.read_text())
    assert not re.search(r"\d", text)


def test_exports_have_the_keys_and_the_rounding_of_the_page(records, claims):
    found = report.results(records, claims)
    as_json, as_latex = report.exports(found)
    numbers = json.loads(as_json)
    assert numbers.keys() == found.keys()
    definition = r"\\expandafter\\def\\csname result@(.+?)\\endcsname\{(.*)\}"
    *comments, command, rest = as_latex.split("\n", 3)
    assert all(comment.startswith("%") for comment in comments)
    assert command == (
        r"\newcommand{\result}[1]{\ifcsname result@#1\endcsname\csname result@#1\endcsname"
        r"\else\textbf{?? \detokenize{#1}}\fi}"
    )
    defined = dict(re.fullmatch(definition, line).groups() for line in rest.splitlines())
    plain = {key: v.replace(r"\%", "%").replace("$<$", "<") for key, v in defined.items()}
    assert plain == found
    assert "p $<$ 0.0001" in defined.values()
    assert not any(re.search(r"(?<!\\)%", value) for value in defined.values())  # no comment
    for key, value in found.items():
        assert re.fullmatch(r"[A-Za-z0-9._]+", key), key
        if key.endswith(("verdict", "what", ".p")):
            assert numbers[key] == value
        else:
            assert re.fullmatch(r"-?\d+(\.\d+)?(e-\d+)?", value), (key, value)  # as \num takes it
            assert numbers[key] == pytest.approx(float(value))
    for name in EXPERIMENTS:
        group, key = records[name], name.replace("_", ".")
        assert found[f"{key}.test_accuracy.mean"] == f"{group.single_view().mean():.4f}"
        averaged = group.averaged()
        assert (f"{key}.augmented.mean" in found) == (averaged is not None)
        if averaged is not None:
            assert found[f"{key}.augmented.mean"] == f"{averaged.mean():.4f}"
        if group.net == "RNN":
            solved, low, high = (
                found[f"{key}.solved{end}"] for end in ("", ".share.low", ".share.high")
            )
            assert int(solved) == (group.single_view() >= 0.99).sum()
            assert (low, high) == tuple(
                f"{end:.2f}" for end in wilson(int(solved), len(group.runs))
            )
    assert found["cnn.best.test_accuracy.mean"] < found["cnn.best.augmented.mean"]
    deviation = records["cnn_original"].single_view().std(ddof=1)
    assert found["cnn.original.test_accuracy.sd"] == f"{deviation:.4f}"
    effect = claims[0].effects[0]
    assert found["C1.1.what"] == f"{effect.what}: NumPy, PyTorch"
    assert found["C1.1.p"] == p_value(effect.p)
    assert found["adam.1.what"] == "share with Adam, 0.003: small inputs, original"
    assert report.STATISTICS["sd"](np.array([0.5])) == 0  # of one seed
    for claim in claims:
        assert found[f"{claim.number}.verdict"] == claim.verdict
    assert found["optimisations.4.what"] == "AdamW: with all of them, without it"
    ours, other = (
        records[f"mlp_pytorch_cifar10_{name}"].accuracies for name in ("original", "without_adamw")
    )
    assert found["optimisations.4.difference"] == f"{(ours - other).mean():.4f}"
    assert found["stopped.1.p"] in report.stopped_text(records)


def test_page_json_and_latex_follow_the_claim(records):
    key = "C3.1.difference"
    for difference in (EFFECT, dataclasses.replace(EFFECT, values=(0.9, 0.1))):
        claim = dataclasses.replace(CLAIM, effects=(difference,), verdict="conditional")
        found = report.results(records, [claim])
        assert found["C3.verdict"] == "conditional"
        assert found[key] == f"{difference.difference:.4f}"
        as_json, as_latex = report.exports(found)
        assert json.loads(as_json)[key] == pytest.approx(difference.difference, abs=5e-5)
        assert f"result@{key}\\endcsname{{{found[key]}}}" in as_latex
        page = report.report(records, [claim], figures())
        assert f"difference {found[key]}".replace("-", "\N{MINUS SIGN}") in page
        assert "A is better. Conditional." in page
