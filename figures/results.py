"""The tables of numbers in the README, written from the records."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from data.toy import DEFAULT_NOISE, bayes_accuracy
from training.record import RunRecord, write_whole

PUBLISHED = {  # test accuracies that others give
    "mlp_pytorch_cifar10_report": ("the report's own", 0.5666),
    # Neyshabur, Towards Learning Convolutions from Scratch (2020).
    "mlp_pytorch_cifar10_wide": ("best published without convolution", 0.8519),
}

LEARNT = 0.99  # the accuracy at which a length counts as learnt


def by_name(records: Iterable[RunRecord]) -> dict[str, list[RunRecord]]:
    """The runs that differ in their seeds alone, by what their names share."""
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(record.path.name.rpartition("_seed")[0], []).append(record)
    return groups


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def results_table(records: Iterable[RunRecord]) -> str:
    """A Markdown table with one line for all seeds of a recipe, on a data set, with a model."""
    rows = []
    for name, runs in sorted(by_name(records).items()):
        accuracy = np.array([run.result["test_accuracy"] for run in runs])
        epochs = np.mean([run.result["epochs"] for run in runs])
        seconds = np.mean([run.result["seconds"] for run in runs])
        rows.append(
            (
                f"`{name}`",
                f"{runs[0].result['parameters']:,}",
                len(runs),
                *(f"{each:.4f}" for each in (accuracy.mean(), accuracy.min(), accuracy.max())),
                _yardstick(name, runs[0]),
                f"{epochs:.0f}",
                f"{seconds:.1f}",
            )
        )
    head = ("runs", "parameters", "seeds", "test accuracy", "from", "to", "to compare", "epochs",
            "seconds")  # fmt: skip
    return table(head, rows)


def lengths_table(records: Iterable[RunRecord]) -> str:
    """How far each recurrent net got: the longest T at which every seed reaches 0.99."""
    kinds: dict[str, dict[int, list[RunRecord]]] = {}
    for run in records:
        kind = run.path.name.rpartition("_T")[0]
        kinds.setdefault(kind, {}).setdefault(run.config["input_length"], []).append(run)
    rows = []
    for kind, lengths in sorted(kinds.items()):
        longest = longest_learnt(lengths)
        if longest is None:
            rows.append((f"`{kind}`", "", "none", "", "", "", min(lengths), ""))
            continue
        runs = lengths[longest]
        lowest = min(run.result["test_accuracy"] for run in runs)
        steps = max(run.result["steps"] for run in runs)
        together = len(runs) if trained_at_once(runs[0]) else 1
        seconds = max(run.result["seconds"] for run in runs) / together
        beyond = min(set(lengths) - set(range(longest + 1)), default=None)
        there = [run.result["test_accuracy"] for run in lengths[beyond]] if beyond else []
        rows.append(
            (
                f"`{kind}`",
                len(runs),
                f"{longest:,}",
                f"{lowest:.4f}",
                f"{steps:,}",
                f"{seconds:.1f}",
                f"{beyond:,}" if beyond else "",
                f"{np.mean(there):.4f}" if there else "",
            )
        )
    head = ("runs", "seeds", f"longest T, all seeds at least {LEARNT}", "lowest accuracy there",
            "steps there", "seconds a seed there", "next T tried",
            "mean accuracy there")  # fmt: skip
    return table(head, rows)


def longest_learnt(lengths: Mapping[int, Sequence[RunRecord]]) -> int | None:
    """The longest T at which every seed's accuracy is 0.99, if there is one."""
    learnt = [
        T
        for T, runs in lengths.items()
        if min(run.result["test_accuracy"] for run in runs) >= LEARNT
    ]
    return max(learnt, default=None)


def trained_at_once(run: RunRecord) -> bool:
    """Whether a run's seeds shared one process, so that the record of each has the time of all."""
    return run.config.get("cell") == "rnn"


def training_seconds(records: Iterable[RunRecord]) -> float:
    """What it took to train them, one process after another."""
    seconds = 0.0
    for runs in by_name(records).values():
        each = [run.result["seconds"] for run in runs]
        seconds += max(each) if trained_at_once(runs[0]) else sum(each)
    return seconds


def in_words(seconds: float) -> str:
    """A length of time: 30 seconds, 90 minutes, 2.5 hours."""
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 6000 else f"{seconds / 3600:.1f} hours"


def best_possible(run: RunRecord) -> float:
    """The accuracy that no classifier can beat on the toy set of that run."""
    dataset, noise = run.config["dataset"], run.config["noise"]
    return bayes_accuracy(dataset, DEFAULT_NOISE[dataset] if noise is None else noise)


def _yardstick(name: str, run: RunRecord) -> str:
    """What the accuracy is to be compared with."""
    if run.config.get("dataset") in DEFAULT_NOISE:
        return f"best possible {best_possible(run):.4f}"
    return "{} {:.4f}".format(*PUBLISHED[name]) if name in PUBLISHED else ""


def benchmark_table(path: Path) -> str:
    """A Markdown table of a benchmark's rows, and the machine that they were measured on."""
    content = json.loads(path.read_text())
    rows = [
        (
            row["what"],
            f"{row['ours']:.4g} {row['unit']}",
            row["against"],
            f"{row['theirs']:.4g} {row['unit']}",
            f"{row['ratio']:.3g}",
            row["goal"],
        )
        for row in content["rows"]
    ]
    repeats = content["machine"]["repeats"]
    return (
        table(("what", "ours", "against", "theirs", "ratio", "goal"), rows)
        + f"\n\nMedians of {repeats}, {machine_in_words(path)}."
    )


def faults_table(path: Path) -> str:
    """A Markdown table of the faults that were tried, as `tests.survival` left them."""
    tried = [row for rows in json.loads(path.read_text()).values() for row in rows]
    return table(
        ("fault", "tried", "survived", ""),
        [
            (row["fault"], f"{row['tried']:,}", f"{row['survived']:,}", row["remark"])
            for row in tried
        ],
    )


def machine_in_words(path: Path) -> str:
    """The machine and the libraries that a benchmark ran on."""
    machine = json.loads(path.read_text())["machine"]
    return (
        f"{machine['cores']} cores ({machine['machine']}, {machine['cpu_capability']}), "
        f"Python {machine['python']}, NumPy {machine['numpy']}, PyTorch {machine['torch']}"
    )


def update_readme(readme: Path, section: str, table: str) -> None:
    """Put the table between the two marks of its section in the README."""
    begin, end = marks(section)
    before, _, rest = readme.read_text().partition(begin)
    _, _, after = rest.partition(end)
    write_whole(readme, f"{before}{begin}\n\n{table}\n\n{end}{after}")


def marks(section: str) -> tuple[str, str]:
    """What stands before and after a generated table."""
    return f"<!-- {section}: written by figures/regenerate.py -->", f"<!-- end of {section} -->"
