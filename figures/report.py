"""REPORT.md, results.json and results.tex: the report's text and numbers, from the records."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

import numpy as np

from figures.effects import CONFIDENCE, Claim
from figures.layers import layers_table
from figures.results import PUBLISHED, table
from training.record import RunRecord

TEMPLATE = Path(__file__).with_name("report.md.in")
DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")


@dataclass(frozen=True)
class Caption:
    """What the report says of a picture.

    Attributes:
        stem: the picture's file, without its ending.
        name: for `--retrain`.
        title, story: what it shows, and what is to be seen.
        took: the time that its runs took, in words; empty if it shows none.
    """

    stem: str
    name: str
    title: str
    story: str
    took: str


def numbers(groups: Mapping[str, Sequence[RunRecord]], claims: Sequence[Claim]) -> dict[str, float]:
    """Every number by its name: of each group of seeds, then of each claim's effects."""
    found: dict[str, float] = {}
    for name, runs in groups.items():
        accuracy = np.array([run.result["test_accuracy"] for run in runs])
        found |= {
            f"{name}_accuracy": round(float(accuracy.mean()), 4),
            f"{name}_lowest": round(float(accuracy.min()), 4),
            f"{name}_highest": round(float(accuracy.max()), 4),
            f"{name}_seeds": len(runs),
            f"{name}_parameters": runs[0].result["parameters"],
            f"{name}_seconds": round(float(np.mean([run.result["seconds"] for run in runs])), 1),
        }
    for claim in claims:
        for i, effect in enumerate(claim.effects):
            name = claim.number + (f"_{i + 1}" if len(claim.effects) > 1 else "")
            found |= {
                f"{name}_effect": float(f"{effect.value:.4g}"),
                f"{name}_low": float(f"{effect.low:.4g}"),
                f"{name}_high": float(f"{effect.high:.4g}"),
            }
    return found


def as_json(found: Mapping[str, float], claims: Sequence[Claim]) -> str:
    """The numbers, and a verdict on each claim."""
    verdicts = {claim.number: claim.verdict for claim in claims}
    return json.dumps({"numbers": found, "verdicts": verdicts}, indent=2) + "\n"


def as_latex(found: Mapping[str, float], claims: Sequence[Claim]) -> str:
    """Each number and verdict as a macro, named as in the JSON, in letters alone."""
    lines = ["% Written by figures/regenerate.py."]
    lines += [f"\\newcommand{{\\{macro(name)}}}{{{value:g}}}" if isinstance(value, float)
              else f"\\newcommand{{\\{macro(name)}}}{{{value}}}"
              for name, value in found.items()]  # fmt: skip
    lines += [
        f"\\newcommand{{\\{macro(claim.number + '_verdict')}}}{{{claim.verdict}}}"
        for claim in claims
    ]
    return "\n".join(lines) + "\n"


def macro(name: str) -> str:
    """A LaTeX name: cnn_report_accuracy -> cnnReportAccuracy, T5 -> TFive."""
    words = [word[:1].upper() + word[1:] for word in name.split("_")]
    first = words[0][0].lower() + words[0][1:]
    return re.sub(r"\d", lambda digit: DIGITS[int(digit[0])], "".join([first, *words[1:]]))


def comparison_table(groups: Mapping[str, Sequence[RunRecord]]) -> str:
    """What the report gives, ours with both recipes, and the gap."""

    def ours(name: str) -> float:
        return float(np.mean([run.result["test_accuracy"] for run in groups[name]]))

    mlp = PUBLISHED["mlp_pytorch_cifar10_report"][1]
    parameters = groups["cnn_report"][0].result["parameters"]
    facts = [
        ("MLP on CIFAR-10, test accuracy", mlp, ours("mlp_pytorch_cifar10_report"),
         ours("mlp_pytorch_cifar10_best")),
        ("CNN on CIFAR-10, test accuracy", None, ours("cnn_report"), ours("cnn_best")),
        ("CNN, parameters", 6_400_586, parameters, groups["cnn_best"][0].result["parameters"]),
        ("RNN, T = 5, test accuracy", None, ours("rnn_T5_report"), ours("rnn_length_best_T5")),
    ]  # fmt: skip
    rows = []
    for what, published, report, best in facts:
        form = (lambda x: f"{x:,}") if isinstance(report, int) else (lambda x: f"{x:.4f}")
        gap = "" if published is None else f"{report - published:+.4g}"
        given = "no number" if published is None else form(published)
        rows.append((what, given, form(report), form(best), gap))
    return table(("what", "the report", "ours, `report`", "ours, `best`", "gap of `report`"), rows)


def figures_text(captions: Sequence[Caption]) -> str:
    """Every picture: its title, its story, how its runs are trained again, how long that took."""
    told = []
    for caption in captions:
        name = f"Figure {caption.name}" if caption.name.isdigit() else caption.name
        option = "--retrain" if caption.took else "--only"
        took = f" ({caption.took})" if caption.took else ""
        told += [
            f"![{caption.title}](figures/{caption.stem}.png)",
            f"*{name}.* {caption.title}",
            caption.story,
            f"Again: `python figures/regenerate.py {option} {caption.name}`{took}; the runs and "
            f"their commands: [{caption.stem}.txt](figures/{caption.stem}.txt).",
        ]
    return "\n\n".join(told)


def report(
    tables: Mapping[str, str],
    groups: Mapping[str, Sequence[RunRecord]],
    claims: Sequence[Claim],
    captions: Sequence[Caption],
    hardware: str,
    took: str,
) -> str:
    """The whole of REPORT.md."""
    stories = "\n\n".join(
        f"**{claim.number}. {claim.text}: {claim.verdict}.** Measured: "
        + "; ".join(map(str, claim.effects))
        + f".\n\n{claim.story}"
        for claim in claims
    )
    return Template(TEMPLATE.read_text()).substitute(
        hardware=hardware,
        took=took,
        confidence=f"{CONFIDENCE:.0%}",
        comparison=comparison_table(groups),
        results=tables["results"],
        lengths=tables["lengths"],
        claims=tables["claims"],
        stories=stories,
        layers=layers_table(groups["mlp_pytorch_cifar10_report"][0].config["dnn_hidden_units"]),
        figures=figures_text(captions),
    )
