"""The tables of numbers in the README, written from the records."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from data.toy import DEFAULT_NOISE, bayes_accuracy
from training.record import RunRecord, write_whole

BEGIN, END = "<!-- results: written by figures/regenerate.py -->", "<!-- end of results -->"
PUBLISHED = {"mlp_pytorch_cifar10_report": 0.5666}  # the report's own test accuracy


def results_table(records: Iterable[RunRecord]) -> str:
    """A Markdown table with one line for all seeds of a recipe, on a data set, with a model."""
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(record.path.name.rpartition("_seed")[0], []).append(record)
    lines = [
        "| runs | seeds | test accuracy | from | to | goes by | epochs | seconds a run |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, runs in sorted(groups.items()):
        accuracy = np.array([run.result["test_accuracy"] for run in runs])
        epochs = np.mean([run.result["epochs"] for run in runs])
        seconds = np.mean([run.result["seconds"] for run in runs])
        lines.append(
            f"| `{name}` | {len(runs)} | {accuracy.mean():.4f} | {accuracy.min():.4f} "
            f"| {accuracy.max():.4f} | {_yardstick(name, runs[0])} "
            f"| {epochs:.0f} | {seconds:.1f} |"
        )
    return "\n".join(lines)


def _yardstick(name: str, run: RunRecord) -> str:
    """What the accuracy is to be compared with."""
    dataset = run.config["dataset"]
    if dataset in DEFAULT_NOISE:
        noise = DEFAULT_NOISE[dataset] if run.config["noise"] is None else run.config["noise"]
        return f"best possible {bayes_accuracy(dataset, noise):.4f}"
    return f"published {PUBLISHED[name]:.4f}" if name in PUBLISHED else ""


def update_readme(readme: Path, table: str) -> None:
    """Put the table between its two marks in the README."""
    text = readme.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    write_whole(readme, f"{before}{BEGIN}\n\n{table}\n\n{END}{after}")
