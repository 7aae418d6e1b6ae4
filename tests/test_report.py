"""The report: effects and verdicts, and that every number in it comes from the records."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from data.toy import DEFAULT_NOISE, bayes_accuracy
from figures.catalogue import cnn_best
from figures.claims import all_claims, markdown_table, steps_to_reach
from figures.effects import (
    CONFIDENCE,
    Claim,
    Effect,
    above,
    between_accuracies,
    exactly,
    normal,
    over_seeds,
)
from figures.experiments import CIRCLES_NOISE, EXPERIMENTS, Group, Records
from figures.measurements import cnn_costs, mlp_costs, total
from figures.report import TEMPLATE, exports, macro, readme_table, reference
from part1_mlp.mlp_pytorch import MLP
from part2_cnn.model import CNN
from training.cli import ROOT, format_duration
from training.runs import RunRecord


@pytest.fixture(scope="module")
def records() -> Records:
    return Records(ROOT / "figures" / "records")


@pytest.fixture(scope="module")
def claims(records) -> list[Claim]:
    return all_claims(records)


# --- Statistics -----------------------------------------------------------------------------------


def test_interval_over_seeds_is_students():
    effect = over_seeds("x", [1.0, 2.0, 3.0, 4.0, 5.0])
    assert effect.value == 3
    # Student's t at 0.975 with 4 degrees of freedom is 2.776 (any table); the standard error is
    # sqrt(2.5 / 5).
    assert effect.high - 3 == pytest.approx(2.776 * 0.5**0.5, abs=1e-3)
    assert effect.high - 3 == pytest.approx(3 - effect.low)


def test_interval_over_seeds_covers_the_mean_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(1, 2, (2000, 4))
    effects = [over_seeds("x", draw) for draw in draws]
    covered = np.mean([effect.low <= 1 <= effect.high for effect in effects])
    assert covered == pytest.approx(CONFIDENCE, abs=4 * (0.95 * 0.05 / 2000) ** 0.5)


def test_an_accuracy_without_a_mistake_still_has_an_interval():
    effect = above("x", 1.0, 10_000, 0.99)
    # With no mistake in n the interval of Clopper and Pearson ends at (alpha / 2) ** (1 / n).
    assert effect.low == pytest.approx(0.025 ** (1 / 10_000) - 0.99)
    assert effect.value == effect.high == pytest.approx(0.01)
    assert above("x", 0.5, 10, 0.5).verdict == "undecided"


def test_interval_between_accuracies():
    effect = between_accuracies("x", 0.9, 10_000, 0.5, 100)
    assert effect.value == pytest.approx(0.4)
    error = (0.9 * 0.1 / 10_000 + 0.5 * 0.5 / 100) ** 0.5
    assert effect.high - effect.value == pytest.approx(1.96 * error, rel=1e-3)
    assert normal("x", 2, 9).low == pytest.approx(2 - 1.96 * 3, abs=1e-3)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 0.2, "holds"), (-0.1, 0.2, "undecided"), (-0.2, -0.1, "does not hold"),
     (-0.2, 0.0, "does not hold"), (0.0, 0.2, "undecided")],
)  # fmt: skip
def test_the_verdict_follows_from_the_interval(low, high, verdict):
    effect = Effect("x", (low + high) / 2, low, high)
    assert effect.verdict == verdict
    assert Claim("C0", "", (effect,), "").verdict == verdict


def test_a_claim_is_as_good_as_its_worst_effect():
    good, unsure, bad = exactly("x", 1), Effect("x", 0, -1, 1), exactly("x", -1)
    assert Claim("C0", "", (good, unsure), "").verdict == "undecided"
    assert Claim("C0", "", (good, unsure, bad), "").verdict == "does not hold"


def test_circles_are_as_noisy_as_moons_where_they_are_compared():
    circles = bayes_accuracy("circles", CIRCLES_NOISE)
    assert circles == pytest.approx(bayes_accuracy("moons", DEFAULT_NOISE["moons"]), abs=0.002)


def test_a_curve_has_converged_at_the_first_evaluation_near_its_best():
    history = {
        "val_accuracy": np.array([0.5, 0.9, 0.96, 0.94, 1.0]),
        "step": np.array([0, 10, 20, 30, 40]),
    }
    assert steps_to_reach(RunRecord(Path(), {}, history, {})) == 20


# --- Claims and tables ----------------------------------------------------------------------------


def test_nine_claims_each_with_a_verdict_and_numbers(claims):
    assert [claim.number for claim in claims] == [f"C{i}" for i in range(1, 10)]
    for claim in claims:
        assert claim.verdict in ("holds", "does not hold", "undecided")
        assert len(re.findall(r"\d", claim.discussion)) > 5
        assert "nan" not in f"{claim.measured} {claim.discussion}"


def test_effects_are_the_differences_of_the_records(records, claims):
    effects = {claim.number: claim.effects for claim in claims}
    short, long = (records[f"rnn_length_original_T{T}"].accuracies for T in (5, 30))
    assert effects["C7"][0].value == pytest.approx((short - long).mean())
    cnn, mlp = (records[f"{net}_original"].accuracies for net in ("cnn", "mlp_pytorch_cifar10"))
    assert effects["C3"][0].value == pytest.approx(cnn.mean() - mlp.mean())
    assert effects["C6"][0].value == pytest.approx(
        records["rnn_T5_original"].accuracies.min() - 0.99
    )


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


def made_up_group(seconds: list[float], python: str | None, cell: str) -> Group:
    config = {"cell": cell, "environment": {"python": python}}
    runs = [RunRecord(Path(), config, {}, {"seconds": each}) for each in seconds]
    return Group(EXPERIMENTS["rnn_T5_original"], runs)


def test_seeds_that_were_trained_at_once_took_their_time_once():
    assert made_up_group([100, 90, 80], None, "rnn").seconds == 100
    assert made_up_group([100, 90, 80], "3.12.1", "rnn").seconds == 270
    assert made_up_group([100, 90, 80], None, "lstm").seconds == 270


@pytest.mark.parametrize(
    ("seconds", "words"), [(7.4, "7 seconds"), (90 * 60, "90 minutes"), (7560, "2.1 hours")]
)
def test_durations(seconds, words):
    assert format_duration(seconds) == words


def test_the_discussion_follows_runs_that_fell_short():
    def group(accuracy: float) -> Group:
        validation = np.array([accuracy / 2, accuracy])
        history = {"val_accuracy": validation, "seconds": np.array([1.0, 30.0])}
        result = {"test_accuracy": accuracy, "seconds": 9}
        return Group(EXPERIMENTS["cnn_best"], [RunRecord(Path(), {}, history, result)])

    assert "best never reaches" in cnn_best([group(0.9), group(0.8)])
    assert "best reaches after 30 seconds" in cnn_best([group(0.8), group(0.9)])


def test_the_readme_has_six_rows_with_what_to_compare(records):
    head, _, *rows = readme_table(records).splitlines()
    assert head.count("|") == 7
    assert len(rows) == 6
    accuracy = records["mlp_numpy_moons_original"].accuracies
    spread = f"{accuracy.mean():.4f} ({accuracy.min():.4f} to {accuracy.max():.4f})"
    bayes = f"{bayes_accuracy('moons', DEFAULT_NOISE['moons']):.4f}"
    assert rows[0] == f"| MLP (NumPy) | moons | original | 5 | {spread} | Bayes accuracy {bayes} |"
    assert reference(records["mlp_pytorch_cifar10_original"]) == "the original 0.5666"
    assert reference(records["rnn_T5_original"]) == ""


def test_a_markdown_table():
    assert markdown_table(("a", "b"), [(1, "x")]) == "| a | b |\n| --- | --- |\n| 1 | x |"


# --- Files ----------------------------------------------------------------------------------------


def test_no_number_is_typed_into_the_report():
    assert not re.search(r"\d", TEMPLATE.read_text())


def test_exports_hold_the_numbers_of_records_and_claims(records, claims):
    as_json, as_latex = exports(records, claims)
    content = json.loads(as_json)
    assert content["verdicts"] == {claim.number: claim.verdict for claim in claims}
    for name in EXPERIMENTS:
        expected = round(float(records[name].accuracies.mean()), 4)
        assert content["numbers"][f"{name}_accuracy"] == expected
    assert content["numbers"]["C4_effect"] == pytest.approx(claims[3].effects[0].value, rel=1e-3)
    names = {macro(name) for name in content["numbers"]}
    assert len(names) == len(content["numbers"])
    for name in names:
        assert re.fullmatch(r"[a-zA-Z]+", name)
        assert f"\\newcommand{{\\{name}}}" in as_latex
    assert macro("rnn_T5_original_accuracy") == "rnnTFiveOriginalAccuracy"
