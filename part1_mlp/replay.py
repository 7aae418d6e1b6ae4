"""Train a run on moons or circles again, to see the net at every evaluation.

A run folder keeps the weights of the best evaluation and of the last step alone. A run is
reproducible bit for bit, and a toy set takes seconds, so those in between need not be kept.
"""

import argparse
import contextlib
import math
import tempfile
from collections.abc import Callable, Collection
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from part1_mlp import train
from training import DivergedError, UsageError
from training.runs import HISTORY, RunFolder, RunRecord, read_history
from training.trainer import Trainer

COMPARED = ("step", "train_loss", "val_loss", "test_loss")  # of a run and its replay

History = dict[str, np.ndarray]  # as `read_history` returns it


def replay(
    run: RunRecord, steps: Collection[int], predict: Callable[[Any], np.ndarray]
) -> tuple[History, dict[int, np.ndarray]]:
    """Train the net of a run again, with the flags in its config.json.

    Args:
        steps: evaluations at which to predict, besides the last.
        predict: is given the net as it is evaluated. It may leave it in evaluation mode.

    Returns:
        The history, and the predictions by step.
    """
    args = _arguments(run)
    model, batches = train.build(args)
    predictions: dict[int, np.ndarray] = {}

    def evaluate(split: str, *, final: bool = False) -> tuple[float, float]:
        if split == "train":  # once an evaluation; not of the best weights, after the last
            if predictions and (latest := max(predictions)) not in steps:
                del predictions[latest]  # it was kept in case that the run ends there
            predictions[trainer.step] = predict(getattr(model, "evaluated_net", model.net))
        return model.evaluate(split, final=final)

    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(model, batches, args, RunFolder(Path(scratch)), evaluate=evaluate)
        with contextlib.suppress(DivergedError):  # as the run did
            trainer.fit()
        return read_history(Path(scratch) / HISTORY), predictions


def _arguments(run: RunRecord) -> argparse.Namespace:
    """The train script's arguments; another device where this machine lacks that of the run."""
    named = [f"--{flag}={run.config[flag]}" for flag in ("model", "dataset", "recipe")]
    try:
        args = train.parse([*named, f"--device={run.config['device']}"])
    except UsageError:
        args = train.parse(named)
    changed = {"device": args.device, "quiet": True, "checkpoint_seconds": math.inf}
    vars(args).update(run.config | changed)  # a flag that is newer than the run has its default
    return args


def difference(run: RunRecord, history: History) -> str:
    """A sentence on where a replay's history differs from the run's; empty if it does not.

    Each may deviate by the rounding of history.csv.
    """
    rows, replayed = (zip(*(h[c] for c in COMPARED), strict=True) for h in (run.history, history))
    for one, other in zip_longest(rows, replayed):
        if not (one and other and np.allclose(one, other, rtol=1e-6, atol=0, equal_nan=True)):
            losses = [f"{h['val_loss'][-1]:.4g}" for h in (history, run.history)]
            return (
                f"a replay that differs from {run.path} from step {(one or other)[0]:.0f} on, as "
                "with other library versions, another device, or a run that was made longer; its "
                f"last validation loss is {losses[0]}, that of the run {losses[1]}"
            )
    return ""
