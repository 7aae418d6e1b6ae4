"""Weights that become infinite or not a number."""

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tests.faults.common import TRAINERS, Tally, call, flags_of, module_of
from training.cli import run_training
from training.runs import load_checkpoint, read_run
from training.trainer import Trainable

LONGER = {"NumPy MLP": "--max_epochs 200", "PyTorch MLP": "--max_epochs 200",
          "CNN": "--eval_freq 1000", "RNN": "--train_steps 500"}  # fmt: skip
VALUES, STEPS = (float("inf"), float("nan")), (1, 10)


def divergence(scratch: Path, trainers: Iterable[str] = TRAINERS) -> Tally:
    """A weight is infinite or not a number: the run says so soon, and keeps its best weights."""

    def trial(trainer: str, value: float, step: int) -> str | None:
        folder = scratch / f"{trainer}_{value}_{step}"
        script, flags = flags_of(trainer, folder, scratch)
        train = module_of(script)

        def build(args):
            model, batches = train.build(args)
            _spoil(model, value, step)
            return model, batches

        code, _, stderr = call(
            script,
            [*flags, *LONGER[trainer].split()],
            lambda: run_training(train.parse(), script, train.run_name, build),
        )
        if code != 1 or not stderr.startswith("diverged: "):
            return f"exit code {code}: {stderr[-300:]}"
        if "at step" not in stderr or "--learning_rate" not in stderr:
            return f"printed {stderr}"
        record = read_run(folder)
        if record.result["stopped_by"] != "diverged":
            return "result.json does not say so"
        best = load_checkpoint(record.checkpoint)["best"]
        finite = all(np.isfinite(np.asarray(weight)).all() for weight in best.values())
        return None if finite else "the best weights are lost"

    tally = Tally("an infinite or undefined weight, after the first step or after the tenth")
    return tally.count_all(trial, itertools.product(trainers, VALUES, STEPS))


def _spoil(model: Trainable, value: float, at: int) -> None:
    """Let a weight of the model have that value after so many steps."""
    train_step, steps = model.train_step, itertools.count(1)

    def spoilt(*batch) -> None:
        train_step(*batch)
        if next(steps) == at:
            weights = model.weights()
            next(iter(weights.values()))[0, 0] = value
            model.load_weights(weights)

    model.train_step = spoilt
