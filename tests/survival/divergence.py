"""Weights that become infinite or not a number."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np

from part1_mlp.numpy_learner import NumpyLearner
from tests.survival.common import TRAINERS, Tally, checkpoint_of, command, new_folder
from tests.survival.inputs import call
from training.checkpoint import load_checkpoint
from training.record import read_run
from training.torch_learner import TorchLearner

LONGER = {"NumPy MLP": "--max_epochs 200", "PyTorch MLP": "--max_epochs 200",
          "CNN": "--eval_freq 1000", "RNN": "--train_steps 500"}  # fmt: skip


def divergence(scratch: Path) -> Tally:
    """A gradient is infinite or not a number: the run says so soon, and keeps its best weights."""
    tally = Tally("an infinite or undefined weight, after the first step or after the tenth")
    for trainer in TRAINERS:
        for value in (float("inf"), float("nan")):
            for step in (1, 10):

                def trial(trainer=trainer, value=value, step=step) -> str | None:
                    folder = scratch / f"{trainer}_{value}_{step}"
                    script, *flags = command(trainer, folder, scratch)[1:]
                    with _spoilt(value, step):
                        code, _, stderr = call(script, [*flags, *LONGER[trainer].split()])
                    if code != 1 or not stderr.startswith("diverged: "):
                        return f"exit code {code}: {stderr[-300:]}"
                    if "at step" not in stderr or "--learning_rate" not in stderr:
                        return f"said {stderr}"
                    if read_run(folder).result["stopped_by"] != "diverged":
                        return "result.json does not say so"
                    best = load_checkpoint(checkpoint_of(folder))["best"]
                    finite = all(np.isfinite(np.asarray(w)).all() for w in best.values())
                    return None if finite else "the best weights are lost"

                tally.count(trial, f"{trainer}, {value} at step {step}")
    return tally


@contextmanager
def _spoilt(value: float, at: int) -> Iterator[None]:
    """Let a gradient have that value in that step, by its trace in a weight."""
    steps = iter(range(1, 10**9))

    def spoil(original, weight_of):
        def train_step(self, *batch) -> None:
            original(self, *batch)
            if next(steps) == at:
                weight_of(self)[0, 0] = value

        return train_step

    with (
        mock.patch.object(
            NumpyLearner,
            "train_step",
            spoil(NumpyLearner.train_step, lambda self: self.net.linears[0].params["weight"]),
        ),
        mock.patch.object(
            TorchLearner,
            "train_step",
            spoil(TorchLearner.train_step, lambda self: next(self.net.parameters()).data),
        ),
    ):
        yield


def all_tallies(scratch: Path) -> Iterator[Tally]:
    """Every fault of this file."""
    yield divergence(new_folder(scratch / "divergence"))
