"""What the benchmarks share: the flag for CIFAR-10, measuring times, medians, the table."""

import argparse
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import CIFAR10

from data.cifar10 import DEFAULT_DIR
from training.distributed import n_cores
from training.flags import folder
from training.runs import write_atomically

REPEATS = 5


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Add `--data_dir`, the folder of torchvision's form of CIFAR-10."""
    form = CIFAR10.base_folder

    def holding_it(text: str) -> Path:
        path = folder(text)
        if not (path / form).is_dir():
            raise argparse.ArgumentTypeError(f"{text} holds no {form}")
        return path

    parser.add_argument(
        "--data_dir", type=holding_it, metavar="DIR",
        default=os.environ.get("CIFAR10_DIR") or str(DEFAULT_DIR),  # checked like one that is given
        help=f"folder that holds {form} (default: $CIFAR10_DIR, else data/cifar10/)",
    )  # fmt: skip


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds that the work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def medians(*measures: Callable[[], float], repeats: int = REPEATS) -> list[float]:
    """Median of several measurements of each, taken in turn so that all see the same machine."""
    samples = [[measure() for measure in measures] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*samples, strict=True)]


def row(
    what: str, unit: str, ours: float, against: str, theirs: float, ratio: float, goal: str
) -> dict:
    """One line of the table."""
    return {"what": what, "unit": unit, "ours": ours, "against": against, "theirs": theirs,
            "ratio": ratio, "goal": goal}  # fmt: skip


def processor() -> str:
    """The name of the processor, as far as the system tells it."""
    try:
        (name, *_) = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except (OSError, ValueError):
        name = platform.processor() or platform.machine()
    return name


def write_table(path: Path, rows: list[dict], repeats: int = REPEATS) -> None:
    """Print the rows and write them, with the machine they were measured on."""
    for r in rows:
        print(f"{r['what']}: {r['ours']:.4g} {r['unit']}; {r['against']}: {r['theirs']:.4g} "
              f"{r['unit']}; ratio {r['ratio']:.3g} (goal: {r['goal']})")  # fmt: skip
    machine = {
        "cores": n_cores(), "machine": processor(), "python": platform.python_version(),
        "numpy": np.__version__, "torch": torch.__version__, "repeats": repeats,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }  # fmt: skip
    write_atomically(path, json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")
