"""What is written from the records: tables, REPORT.md, results.json, results.tex, page sections."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

import numpy as np

import part1_mlp.recipes
import part2_cnn.recipes
import part3_rnn.recipes
from data.toy import DEFAULT_FACTOR, DEFAULT_NOISE, DEFAULT_SAMPLES
from figures import experiments
from figures.catalogue import ReportFigure, stem
from figures.effects import CONFIDENCE, Claim, Effect, p_value, paired, wilson
from figures.experiments import EXPERIMENTS, ORIGINAL_ACCURACY, Group, Records, is_on_gpu, seeds_of
from figures.gradient_claims import adam_effects
from figures.images import optimisation_effects
from figures.measurements import cnn_costs, mlp_costs, total
from figures.rnn import n_solved
from training.cli import RESUMABLE_FLAGS, format_duration, markdown_table
from training.runs import RunRecord

Figures = Mapping[str, ReportFigure]
TEMPLATE = Path(__file__).with_name("report.md.in")
TOY_NETS = ("mlp_numpy_moons_original", "mlp_pytorch_moons_original")
MLP_ORIGINAL, MLP_BEST = "mlp_pytorch_cifar10_original", "mlp_pytorch_cifar10_best"
CNN_ORIGINAL, CNN_BEST = "cnn_original", "cnn_best"
TEST_STOPPED, MLP_WIDE = "mlp_pytorch_cifar10_test_stopped", "mlp_pytorch_cifar10_wide"
NOT_STOPPED = "mlp_pytorch_cifar10_without_early_stopping"
RNN_ORIGINAL, RNN_BEST = "rnn_T5_original", "rnn_length_bistable_T5"
NO_SETTINGS = {  # told by the columns' names, without effect, or not of the experiment
    "model", "dataset", "recipe", "neg_slope", "num_classes", "script", "environment", "seed",
    "device", "dry_run", "compile",
}  # fmt: skip
GIVEN = {  # flags whose value the original states, by group
    MLP_ORIGINAL: part1_mlp.recipes.GIVEN,
    CNN_ORIGINAL: part2_cnn.recipes.GIVEN,
    RNN_ORIGINAL: part3_rnn.recipes.GIVEN,
}
ON_VALIDATION = {  # flags whose value was chosen among others, see figures/tuning/
    MLP_ORIGINAL: {"batch_size"},
    MLP_BEST: {"optimizer", "learning_rate", "weight_decay", "batch_size", "max_epochs",
                "dropout", "label_smoothing", "cutout", "mixup"},
    MLP_WIDE: {"optimizer", "dnn_hidden_units", "max_epochs"},
    CNN_ORIGINAL: {"batch_size", "learning_rate"},
    CNN_BEST: {"weight_decay", "views"},
}  # fmt: skip


def _deviation(values: np.ndarray) -> float:
    """The standard deviation over seeds; 0 for one."""
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


STATISTICS = {"mean": np.mean, "sd": _deviation, "min": np.min, "max": np.max}
TEXTS = (".verdict", ".what", ".p")  # the ends of keys whose values are no plain numbers


def results_table(records: Records) -> str:
    """A line for each group that is no part of a sweep, which has too many."""
    rows = []
    for name in (name for name, each in EXPERIMENTS.items() if each not in experiments.SWEEPS):
        group = records[name]
        single, averaged = group.single_view(), group.averaged()
        rows.append((
            f"`{name}`", f"{group.runs[0].result['parameters']:,}", len(group.runs),
            *(f"{f(single):.4f}" for f in STATISTICS.values()),
            "" if averaged is None else f"{averaged.mean():.4f}",
            f"{group.epochs:.0f}", f"{group.seconds / len(group.runs):.1f}",
        ))  # fmt: skip
    head = ("runs", "parameters", "seeds", "test accuracy, single view", "standard deviation")
    rest = "min", "max", "with test-time augmentation", "epochs", "seconds a seed"
    return markdown_table((*head, *rest), rows)


def comparison_table(records: Records) -> str:
    """What the original gives, ours with both recipes, and the gap."""
    rows = []
    for what, given, original, *best in (
        ("MLP on CIFAR-10, test accuracy", ORIGINAL_ACCURACY, MLP_ORIGINAL, MLP_BEST),
        ("the same, stopped by the test loss", ORIGINAL_ACCURACY, TEST_STOPPED),
        ("CNN on CIFAR-10, test accuracy", None, CNN_ORIGINAL, CNN_BEST),
        ("RNN, T = 5, test accuracy", None, RNN_ORIGINAL, RNN_BEST),
    ):
        ours, cells = records[original].accuracies, ["", ""]
        for group in (records[name] for name in best):
            cells = [_mean(group, values) for values in (group.single_view(), group.averaged())]
        gap = f"{ours.mean() - given:+.4f}".replace("-", "\N{MINUS SIGN}") if given else ""
        rows.append((what, given or "no number", _mean(records[original], ours), gap, *cells))
    given = 6_400_586
    both = records[CNN_ORIGINAL], records[CNN_BEST]
    original, best = (group.runs[0].result["parameters"] for group in both)
    counts = f"{original:,}", f"{original - given:+,}", f"{best:,}", ""
    rows.append(("CNN, parameters", f"{given:,}", *counts))
    head = ("what", "the original", "ours, `original`", "gap", "ours, `best`, single view")
    return markdown_table((*head, "with test-time augmentation"), rows)


def _mean(group: Group, values: np.ndarray | None) -> str:
    """The mean over the group's seeds and how many there are; empty where nothing was measured."""
    return "" if values is None else f"{values.mean():.4f} ({seeds_of(group)})"


def settings_table(records: Records) -> str:
    """Every setting of the main runs; bold if the original states it, italic if tuned."""
    numpy, pytorch = TOY_NETS
    toy = numpy, numpy.replace("moons", "circles"), pytorch
    names = *toy, MLP_ORIGINAL, MLP_BEST, MLP_WIDE, CNN_ORIGINAL, CNN_BEST, RNN_ORIGINAL, RNN_BEST
    configs = {name: records[name].config for name in names}

    def cell(name: str, flag: str, value: object) -> str:
        if isinstance(value, bool):
            value = "on" if value else "off"
        if value is None:
            value = unset(flag, configs[name].get("dataset"))
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        mark = "**" if flag in GIVEN.get(name, ()) else "*" * (flag in ON_VALIDATION.get(name, ()))
        return f"{mark}{text}{mark}"

    rows = []
    for flag in sorted(set().union(*configs.values()) - {*NO_SETTINGS, *RESUMABLE_FLAGS}):
        cells = [cell(name, flag, c[flag]) if flag in c else "" for name, c in configs.items()]
        if any(cells):
            rows.append((f"`{flag}`", *cells))
    return markdown_table(("flag", *(f"`{name}`" for name in configs)), rows)


def unset(flag: str, dataset: str | None) -> object:
    """What a flag that is not given means for a data set; empty if it is for others."""
    return {
        "eval_freq": "epoch",
        "factor": DEFAULT_FACTOR if dataset == "circles" else "",
        "noise": DEFAULT_NOISE.get(dataset, ""),
        "n_samples": DEFAULT_SAMPLES if dataset in DEFAULT_NOISE else "all",
    }.get(flag, "")


def _first_sentence(claim: Claim) -> str:
    return claim.meaning.partition(". ")[0].removesuffix(".") + "."


def summary(records: Records, claims: Sequence[Claim]) -> str:
    """A line for each claim, with the first sentence of what it means, and the two accuracies."""
    lines = [
        f"- **{claim.number}, {claim.verdict}**: {claim.text} *{_first_sentence(claim)}*"
        for claim in claims
    ]
    reached = []
    for net, name in (("MLP", MLP_ORIGINAL), ("CNN", CNN_ORIGINAL)):
        values = records[name].accuracies
        spread = f"standard deviation {_deviation(values):.4f} over {seeds_of(records[name])}"
        reached.append(f"{net} {values.mean():.4f} ({spread})")
    lines.append(f"- **Test accuracy on CIFAR-10, recipe original**: {', '.join(reached)}.")
    return "\n".join(lines)


def stopped_effect(records: Records) -> Effect:
    """What stopping by the test loss changes of the accuracy."""
    names = "stopped by the test loss", "by the validation loss"
    stopped, held_out = (records[name].accuracies for name in (TEST_STOPPED, MLP_ORIGINAL))
    return paired("test accuracy", names, stopped, held_out)


def stopped_text(records: Records) -> str:
    """What stopping by the test loss changes, and what not stopping early does."""
    held_out, stopped, whole = (records[name] for name in (MLP_ORIGINAL, TEST_STOPPED, NOT_STOPPED))
    epochs = whole.config["max_epochs"]
    return (
        f"Paired by seed, {stopped_effect(records)}. The two differ in the training images, in "
        f"what chooses the weights, and in length ({stopped.epochs:.0f} and {held_out.epochs:.0f} "
        "epochs on average). Without early stopping, and with weights chosen by the validation "
        f"loss, recipe original reaches {whole.accuracies.mean():.4f} within {epochs} epochs."
    )


def layers_text(hidden_units: Sequence[int]) -> str:
    """What the table of layers shows."""
    costs, mlp = cnn_costs(), total(mlp_costs(hidden_units).values())
    cnn = total(costs.values())
    shared = total(cost for (name, _), cost in costs.items() if name.startswith("conv"))
    return (
        f"The CNN has {cnn.parameters:,} parameters, the MLP {mlp.parameters:,}. The six "
        f"convolutions have {shared.parameters:,} of them, where fully connected layers of their "
        f"shapes would have {shared.dense_parameters / shared.parameters:,.0f} times as many; the "
        "rest is in the CNN's three linear layers. Filters that see few pixels save parameters and "
        "work; sharing them among positions saves parameters alone. So an image takes the CNN "
        f"{cnn.multiply_adds:,} multiply-adds, the MLP {mlp.multiply_adds:,}."
    )


def layers_table(hidden_units: Sequence[int]) -> str:
    """The CNN's layers, the MLP's, and the sums, beside fully connected layers of their shapes."""
    rows = []
    for net, layers in (("CNN", cnn_costs()), ("MLP", mlp_costs(hidden_units))):
        layers[f"**{net}, whole**", ""] = total(layers.values())
        for name, (parameters, adds, dense, dense_adds) in layers.items():
            numbers = parameters, dense, dense / parameters, adds, dense_adds, dense_adds / adds
            rows.append((*name, *(f"{number:,.0f}" for number in numbers)))
    dense = ("fully connected", "times as many")
    head = ("layer", "output", "parameters", *dense, "multiply-adds an image", *dense)
    return markdown_table(head, rows)


# --- Files ----------------------------------------------------------------------------------------


def results(records: Records, claims: Sequence[Claim]) -> dict[str, str]:
    """The accuracies of the groups and the effects of the claims, by key, rounded as on the page.

    `test_accuracy` is of a single view, `augmented` with test-time augmentation; `solved` counts
    the seeds that solve a task, and `solved.share` is Wilson's interval of their share.
    """
    found: dict[str, str] = {}
    for name in EXPERIMENTS:
        group, key = records[name], name.replace("_", ".")
        kinds = {"test_accuracy": group.single_view(), "augmented": group.averaged()}
        for kind, values in kinds.items():
            if values is not None:
                for statistic, f in STATISTICS.items():
                    found[f"{key}.{kind}.{statistic}"] = f"{f(values):.4f}"
        if group.net == "RNN":
            solved, n = n_solved(group)
            found[f"{key}.solved"] = f"{solved}"
            for end, value in zip(("low", "high"), wilson(solved, n), strict=True):
                found[f"{key}.solved.share.{end}"] = f"{value:.2f}"
        found[f"{key}.seeds"] = f"{len(group.runs)}"
        found[f"{key}.seconds"] = f"{group.seconds / len(group.runs):.1f}"
        found[f"{key}.parameters"] = f"{group.runs[0].result['parameters']}"
    effects = {claim.number: claim.effects for claim in claims}
    effects["optimisations"] = optimisation_effects(
        [records[name] for name in (MLP_ORIGINAL, *(each.group for each in experiments.ABLATION))]
    )
    effects["stopped"] = (stopped_effect(records),)
    effects["adam"] = adam_effects([records.read(each) for each in experiments.RNN_ADAM])
    for claim in claims:
        found[f"{claim.number}.verdict"] = claim.verdict
    for key, those in effects.items():
        for i, effect in enumerate(those, 1):
            values = (*effect.values, effect.difference, effect.low, effect.high)
            parts = "first", "second", "difference", "low", "high"
            for part, value in zip(parts, values, strict=True):
                found[f"{key}.{i}.{part}"] = f"{value:.{effect.decimals}f}"
            found[f"{key}.{i}.p"] = p_value(effect.p)
            found[f"{key}.{i}.what"] = f"{effect.what}: {', '.join(effect.names)}"
    return found


def exports(found: Mapping[str, str]) -> tuple[str, str]:
    r"""The results as JSON and as LaTeX, in which \result{KEY} is the text of a key."""
    numbers = {k: v if k.endswith(TEXTS) else json.loads(v) for k, v in found.items()}
    lines = [
        "% Written by figures/regenerate.py. In the preamble: \\input{results.tex}; in the text:",
        r"% \result{cnn.original.test_accuracy.mean}, or \num{\result{C8.1.low}} for a true minus.",
        r"\newcommand{\result}[1]{\ifcsname result@#1\endcsname\csname result@#1\endcsname"
        r"\else\textbf{?? \detokenize{#1}}\fi}",
    ]
    for key, value in found.items():
        text = value.replace("%", r"\%").replace("<", "$<$")
        lines.append(rf"\expandafter\def\csname result@{key}\endcsname{{{text}}}")
    return json.dumps(numbers, indent=2) + "\n", "\n".join(lines) + "\n"


def claim_text(claim: Claim) -> str:
    """A claim: the original's words in ours, what was done, what was found, what it means."""
    found = "".join(f"\n- {effect}" for effect in claim.effects)
    return (
        f"**{claim.number}. {claim.text} {claim.verdict.capitalize()}.**\n\n"
        f"{claim.design}\n{found}\n\n{claim.meaning}"
    )


def part_text(part: int, figures: Figures, claims: Sequence[Claim], records: Records) -> str:
    """The figures of a part, each with its discussion and the claims that it shows."""
    texts = []
    for name, figure in figures.items():
        if figure.part == part:
            heading = f"Figure {name}" if name.isdigit() else name
            image = f"![{figure.title}](figures/output/{stem(name)}.png)"
            texts.append(f"{image}\\\n*{heading}.* {figure.title}")
            texts += [claim_text(claim) for claim in claims if claim.figure == name]
            if figure.discussion:
                texts.append(figure.discussion(figure.groups(records)))
    return "\n\n".join(texts)


def reproduction_table(figures: Figures, records: Records) -> str:
    """How each figure is made again: the command, the time, the machine and the precision."""
    rows = []
    for name, figure in figures.items():
        groups = figure.groups(records)
        how, took, trained = "only", "", "nothing is trained"
        if groups:
            how, took = "retrain", format_duration(sum(group.seconds for group in groups))
            where = (trained_on(run) for group in groups for run in group.runs)
            trained = "; ".join(dict.fromkeys(where))
        command = f"python figures/regenerate.py --{how} {name}"
        caption = f"[{name}](figures/output/{stem(name)}.txt)"
        rows.append((caption, f"`{command}`", took, trained))
    return markdown_table(("figure", "command", "one run after another", "trained on"), rows)


def trained_on(run: RunRecord) -> str:
    """The processor and the precision of a run, as far as it recorded them."""
    found = run.config["environment"]
    if is_on_gpu(run):
        name = found.get("gpu") or found["device"]  # earlier versions did not record it
        return f"GPU ({name}), {found['precision'] or 'float32'}"
    cpu = found["cpu"] or found["machine"]
    threads, cores = found["threads"], found["cores"]
    threads = f", {threads} thread{'s' * (threads > 1)}" if threads else ""
    threads += f" of {cores} cores" * bool(threads and cores)
    return f"{cpu}{threads}, {found['precision']}"


def report(records: Records, claims: Sequence[Claim], figures: Figures) -> str:
    """The whole of REPORT.md."""
    hidden_units = records[MLP_ORIGINAL].config["dnn_hidden_units"]
    return Template(TEMPLATE.read_text()).substitute(
        summary=summary(records, claims),
        small_inputs=experiments.SMALL_INPUTS.split()[-1],
        confidence=f"{100 * CONFIDENCE:g} %",
        level=f"{1 - CONFIDENCE:.2g}",
        comparison=comparison_table(records),
        stopped=stopped_text(records),
        settings=settings_table(records),
        results=results_table(records),
        layers_text=layers_text(hidden_units),
        layers=layers_table(hidden_units),
        took=format_duration(sum(records[name].seconds for name in EXPERIMENTS)),
        reproduction=reproduction_table(figures, records),
        **{f"part{n}": part_text(n, figures, claims, records) for n in (1, 2, 3)},
    )
