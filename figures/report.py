"""What is written from the records: tables, REPORT.md, results.json, results.tex, page sections."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template

import numpy as np

from data.toy import DEFAULT_NOISE
from figures import experiments
from figures.catalogue import ReportFigure, stem
from figures.claims import bayes_accuracy_of
from figures.effects import CONFIDENCE, Claim
from figures.experiments import EXPERIMENTS, MODELS, ORIGINAL_MLP, Group, Records, by_label
from figures.measurements import cnn_costs, mlp_costs, total
from training import UsageError
from training.cli import RESUMABLE_FLAGS, format_duration, markdown_table
from training.runs import read_json, write_atomically

Figures = Mapping[str, ReportFigure]
SOLVED = 0.99  # accuracy of every seed at which a length counts as learnt
TEMPLATE = Path(__file__).with_name("report.md.in")
TOY = ("mlp_numpy_moons_original", "mlp_pytorch_moons_original")
IMAGES = ("mlp_pytorch_cifar10_original", "mlp_pytorch_cifar10_best", "cnn_original", "cnn_best")
RNN = ("rnn_T5_original", "rnn_length_best_T5")
DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")


def readme_table(records: Records) -> str:
    """The README's results: a line for each net and recipe."""
    rows = []
    for group in (records[name] for name in (*TOY, *IMAGES)):
        config, accuracy = group.config, group.accuracies
        net = f"{group.net} ({MODELS[config['model']]})" if "model" in config else group.net
        data = config["dataset"].replace("cifar", "CIFAR-")
        spread = f" ({accuracy.min():.4f} to {accuracy.max():.4f})" if len(accuracy) > 1 else ""
        measured = len(accuracy), f"{accuracy.mean():.4f}{spread}", reference(group)
        rows.append((net, data, config["recipe"], *measured))
    head = ("net", "data", "recipe", "seeds", "test accuracy, mean (min to max)", "reference")
    return markdown_table(head, rows)


def reference(group: Group) -> str:
    """What the accuracy of a group is to be compared with."""
    if group.config.get("dataset") in DEFAULT_NOISE:
        return f"Bayes accuracy {bayes_accuracy_of(group.config):.4f}"
    return "{} {}".format(*experiments.PUBLISHED.get(group.experiment.group, ("", ""))).strip()


def results_table(records: Records) -> str:
    """A line for each group that is no part of a sweep, which has too many."""
    rows = []
    for name in (name for name, each in EXPERIMENTS.items() if each not in experiments.SWEEPS):
        group, n = records[name], len(records[name].runs)
        mean, low, high = (f"{f(group.accuracies):.4f}" for f in (np.mean, np.min, np.max))
        epochs = np.mean([run.result["epochs"] for run in group.runs])
        before = f"`{name}`", f"{group.runs[0].result['parameters']:,}", n
        after = reference(group), f"{epochs:.0f}", f"{group.seconds / n:.1f}"
        rows.append((*before, mean, low, high, *after))
    head = ("runs", "parameters", "seeds", "test accuracy", "min", "max", "reference", "epochs")
    return markdown_table((*head, "seconds a seed"), rows)


def lengths_table(groups: Sequence[Group]) -> str:
    """The longest T at which every seed of each recurrent net reaches an accuracy of 0.99."""
    rows = []
    for label, of_label in by_label(groups).items():
        lengths = {group.config["input_length"]: group for group in of_label}
        solved = max((T for T, g in lengths.items() if g.accuracies.min() >= SOLVED), default=0)
        there, after = ("none", "", "", ""), ("", "")
        if longest := lengths.get(solved):
            steps = max(run.result["steps"] for run in longest.runs)
            seconds = longest.seconds / len(longest.runs)
            lowest = longest.accuracies.min()
            there = f"{solved:,}", f"{lowest:.4f}", f"{steps:,}", f"{seconds:.1f}"
        if beyond := min((T for T in lengths if solved < T), default=None):
            after = f"{beyond:,}", f"{lengths[beyond].accuracies.mean():.4f}"
        rows.append((label, *there, *after))
    head = f"longest T, all seeds at least {SOLVED}", "lowest accuracy there", "steps there"
    rest = "seconds a seed there", "next T tried", "mean accuracy there"
    return markdown_table(("net", *head, *rest), rows)


def comparison_table(records: Records) -> str:
    """What the original gives, ours with both recipes, and the gap."""
    rows = []
    for what, given, *names in (
        ("MLP on CIFAR-10, test accuracy", ORIGINAL_MLP, *IMAGES[:2]),
        ("CNN on CIFAR-10, test accuracy", None, *IMAGES[2:]),
        ("RNN, T = 5, test accuracy", None, *RNN),
    ):
        original, best = (records[name].accuracies.mean() for name in names)
        gap = f"{original - given:+.4f}" if given else ""
        rows.append((what, given or "no number", f"{original:.4f}", f"{best:.4f}", gap))
    nets = (records[name].runs[0].result["parameters"] for name in IMAGES[2:])
    given, (original, best) = 6_400_586, nets
    counts = f"{given:,}", f"{original:,}", f"{best:,}", f"{original - given:+,}"
    rows.append(("CNN, parameters", *counts))
    head = ("what", "the original", "ours, `original`", "ours, `best`", "gap of `original`")
    return markdown_table(head, rows)


def settings_table(records: Records) -> str:
    """The flags in which the main runs differ, and their values."""

    def text(value: object) -> str:
        if isinstance(value, bool):
            return "on" if value else "off"
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    names = (*TOY, *IMAGES, *RNN)
    configs = [records[name].config for name in names]
    flags = sorted(set().union(*configs) - {"script", "environment", *RESUMABLE_FLAGS})
    rows = [(f"`{flag}`", *(text(c[flag]) if flag in c else "" for c in configs)) for flag in flags]
    differing = [row for row in rows if len({*row[1:]} - {""}) > 1]
    return markdown_table(("flag", *(f"`{name}`" for name in names)), differing)


def claims_table(claims: Sequence[Claim]) -> str:
    """Each claim, its effects, its verdict."""
    head = ("", "claim", f"measured, with {CONFIDENCE:.0%} interval", "verdict")
    rows = [(c.number, c.text, c.measured, f"**{c.verdict}**") for c in claims]
    return markdown_table(head, rows)


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


def benchmark_table(path: Path) -> str:
    """The rows of a benchmark, and the machine that they were measured on."""
    content = read_json(path)
    rows = []
    for row in content["rows"]:
        ours, theirs = (f"{row[name]:.4g} {row['unit']}".strip() for name in ("ours", "theirs"))
        rows.append((row["what"], ours, row["against"], theirs, f"{row['ratio']:.3g}", row["goal"]))
    table = markdown_table(("what", "ours", "against", "theirs", "ratio", "goal"), rows)
    return f"{table}\n\nMedians of {content['machine']['repeats']}, {machine(path)}."


def machine(path: Path) -> str:
    """The machine and the libraries that a benchmark ran on."""
    found = read_json(path)["machine"]
    versions = f"Python {found['python']}, NumPy {found['numpy']}, PyTorch {found['torch']}"
    return f"{found['cores']} cores ({found['machine']}, {found['cpu_capability']}), {versions}"


def faults_table(path: Path) -> str:
    """The faults that were injected, as `tests.faults` wrote them."""
    tried = [row for rows in read_json(path).values() for row in rows]
    rows = [(r["fault"], f"{r['tried']:,}", f"{r['survived']:,}", r["remark"]) for r in tried]
    return markdown_table(("fault", "tried", "survived", ""), rows)


def mutants_summary(path: Path) -> str:
    """What the mutation testing found, as `tests.mutants` wrote it."""
    found = read_json(path)
    survivors = len(found["survived"]), len(found["equivalent"])
    added = found["found"] - found["found_at_first"]
    return (
        f"Of {found['mutants']:,} mutants, drawn at random from {found['of']:,}, the tests noticed "
        f"{found['found']:,} ({found['found'] / found['mutants']:.0%}), {added} of them only after "
        "tests had been added for what had not been noticed at first. Of the others "
        f"{survivors[1]} are equivalent: they change nothing that a test could see; {survivors[0]} "
        "are gaps in the tests."
    )


def grade_summary(path: Path) -> str:
    """What a grade costs and sees, as `tests/benchmarks/grading.py` wrote it."""
    found = read_json(path)
    unseen = "; ".join(found["unseen"]) or "none"
    return (
        f"Of {found['planted']} planted mistakes the grade saw {found['seen']}; unseen: {unseen}. "
        f"Grading this project, {found['tests']} tests, takes {found['seconds']:.0f} s on "
        f"{found['cores']} cores ({found['cpu_seconds']:.0f} s of processor time) and "
        f"{found['megabytes']:.0f} MB at the peak, medians of {found['repeats']}. No submission "
        f"takes longer than {found['limit_seconds'] / 60:.1f} minutes with one job."
    )


# --- Files ----------------------------------------------------------------------------------------


def exports(records: Records, claims: Sequence[Claim]) -> tuple[str, str]:
    """results.json and results.tex: the numbers of each group and effect, and the verdicts."""
    found: dict[str, float] = {}
    for name in EXPERIMENTS:
        group, n = records[name], len(records[name].runs)
        accuracy = {"accuracy": np.mean, "lowest": np.min, "highest": np.max}
        found |= {f"{name}_{k}": round(float(f(group.accuracies)), 4) for k, f in accuracy.items()}
        found |= {f"{name}_seeds": n, f"{name}_seconds": round(group.seconds / n, 1)}
        found[f"{name}_parameters"] = group.runs[0].result["parameters"]
    for claim in claims:
        for i, effect in enumerate(claim.effects):
            name = claim.number + (f"_{i + 1}" if len(claim.effects) > 1 else "")
            ends = {"effect": effect.value, "low": effect.low, "high": effect.high}
            found |= {f"{name}_{end}": float(f"{value:.4g}") for end, value in ends.items()}
    verdicts = {claim.number: claim.verdict for claim in claims}
    texts = {n: f"{v:g}" if isinstance(v, float) else f"{v}" for n, v in found.items()}
    texts |= {f"{number}_verdict": verdict for number, verdict in verdicts.items()}
    macros = [f"\\newcommand{{\\{macro(name)}}}{{{text}}}\n" for name, text in texts.items()]
    content = json.dumps({"numbers": found, "verdicts": verdicts}, indent=2) + "\n"
    return content, "".join(("% Written by figures/regenerate.py.\n", *macros))


def macro(name: str) -> str:
    """A LaTeX name: cnn_original_accuracy -> cnnOriginalAccuracy, T5 -> TFive."""
    first, *words = name.split("_")
    camel = first[0].lower() + first[1:] + "".join(word[:1].upper() + word[1:] for word in words)
    return re.sub(r"\d", lambda digit: DIGITS[int(digit[0])], camel)


def figures_text(figures: Figures, records: Records) -> str:
    """Every figure: its title, its discussion, how its runs are trained, how long that took."""
    parts = []
    for name, figure in figures.items():
        groups = [records.read(experiment) for experiment in figure.experiments]
        took = f" ({format_duration(sum(group.seconds for group in groups))})" if groups else ""
        heading = f"Figure {name}" if name.isdigit() else name
        file = f"figures/output/{stem(name)}"
        command = f"`python figures/regenerate.py {'--retrain' if took else '--only'} {name}`{took}"
        caption = f"the runs and their commands: [{stem(name)}.txt]({file}.txt)"
        parts += [f"![{figure.title}]({file}.png)", f"*{heading}.* {figure.title}"]
        parts += [figure.discussion(groups), f"Reproduce: {command}; {caption}."]
    return "\n\n".join(parts)


def report(
    records: Records, claims: Sequence[Claim], figures: Figures, benchmarks: Iterable[Path]
) -> str:
    """The whole of REPORT.md."""
    discussions = (
        f"**{c.number}. {c.text}: {c.verdict}.** Measured: {c.measured}.\n\n{c.discussion}"
        for c in claims
    )
    return Template(TEMPLATE.read_text()).substitute(
        hardware="; ".join(dict.fromkeys(map(machine, benchmarks))),
        took=format_duration(sum(records[name].seconds for name in EXPERIMENTS)),
        confidence=f"{CONFIDENCE:.0%}",
        comparison=comparison_table(records),
        settings=settings_table(records),
        results=results_table(records),
        lengths=lengths_table([records.read(each) for each in experiments.RNN_LENGTHS]),
        claims=claims_table(claims),
        discussions="\n\n".join(discussions),
        layers=layers_table(records["mlp_pytorch_cifar10_original"].config["dnn_hidden_units"]),
        figures=figures_text(figures, records),
    )


def marks(section: str) -> tuple[str, str]:
    """What stands before and after a generated section of a page."""
    return f"<!-- {section}: written by figures/regenerate.py -->", f"<!-- end of {section} -->"


def find_pages(root: Path, sections: Iterable[str]) -> dict[str, Path]:
    """The one page of README.md and docs/ that holds the marks of each section, or a UsageError."""
    texts = {p: p.read_text() for p in (*root.glob("README.md"), *root.glob("docs/*.md"))}
    found = {}
    for section in sections:
        pages = [p for p, text in texts.items() if all(text.count(m) == 1 for m in marks(section))]
        if len(pages) != 1:
            where = f"{len(pages)} of README.md and docs/*.md hold"
            raise UsageError(f"--update: {where} the marks of a section {section!r}, not 1")
        found[section] = pages[0]
    return found


def update_section(page: Path, section: str, content: str) -> None:
    """Put the content between the two marks of its section."""
    begin, end = marks(section)
    before, _, rest = page.read_text().partition(begin)
    _, _, after = rest.partition(end)
    write_atomically(page, f"{before}{begin}\n\n{content}\n\n{end}{after}")
