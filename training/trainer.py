"""The training loop: steps, evaluation, early stopping, checkpoints, resumption, signals.

The loop uses the model only through `Trainable` and the data only through `Batches`, so the same
code trains the NumPy MLP, the PyTorch MLP, the CNN and the RNN.
"""

import argparse
import json
import math
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from data import SPLITS
from data.batches import Batches
from training import DivergedError, Interrupted, UsageError, is_out_of_memory
from training.distributed import SINGLE_PROCESS, ProcessGroup, deferred_signals
from training.runs import RunFolder, load_checkpoint, save_checkpoint

LENGTH_FLAGS = ("max_epochs", "max_steps", "train_steps")
SCHEDULES = ("constant", "cosine", "one_cycle")
WARM_UP = 0.1  # share of the steps in which the learning rate of `one_cycle` rises
STEPS_BETWEEN_CHECKS = 100  # at which all weights must be finite
ADVICE = "a lower --learning_rate may help"


class Trainable(Protocol):
    """A net together with its optimiser and the data splits it is evaluated on."""

    checkpoint_name: str
    n_parameters: int
    learning_rate: float

    def train_step(self, *batch: Any) -> None:
        """Update the weights once on this batch, as `Batches` yields it."""

    def evaluate(self, split: str, *, final: bool = False) -> tuple[float, float]:
        """Mean loss and accuracy on `train`, `val` or `test`; `final` may spend more time on it."""

    def is_finite(self) -> bool:
        """Whether every weight is a finite number."""

    def weights(self) -> dict:
        """A copy of the weights that `evaluate` uses."""

    def load_weights(self, weights: dict) -> None:
        """Make `evaluate` use these weights."""

    def state_dict(self) -> dict:
        """Everything that the next steps depend on, random states included."""

    def load_state_dict(self, state: dict) -> None:
        """Return to such a state."""


def learning_rate_at(step: int, total: int, base: float, schedule: str) -> float:
    """Learning rate of step `step` (from 0) of `total`.

    `constant` is `base`; `cosine` falls from `base` to 0 along half a cosine (Loshchilov and
    Hutter, 2017); `one_cycle` first rises linearly over a tenth of the steps (after Smith, 2018).
    """
    if schedule == "constant":
        return base
    done = step / total
    if schedule == "one_cycle":
        if done < WARM_UP:
            return base * (step + 1) / math.ceil(WARM_UP * total)
        done = (done - WARM_UP) / (1 - WARM_UP)
    return base * 0.5 * (1 + math.cos(math.pi * done))


class Trainer:
    """One training run. Under torchrun every process runs it; only the main process writes.

    Args:
        model, batches: what is trained, on what.
        args: the parsed flags of a train script. Read here: the length (`max_epochs`, `max_steps`
            or `train_steps`), `eval_freq`, `learning_rate`, `schedule`, `patience`, `seed`,
            `checkpoint_seconds`, `quiet`, `dry_run` and, where there is one, `target_accuracy`.
        folder: where history, checkpoint and result are written.
        group: the processes that train together.
        evaluate: used in place of `model.evaluate`, by replays, tests and benchmarks.

    Attributes:
        step: weight updates so far.
        history: one row of numbers for each evaluation so far.
        best: index of the row with the lowest validation loss, of equal ones the first.
        best_weights: those at that evaluation.
        result: as it is written to result.json; None before the end.
    """

    def __init__(
        self,
        model: Trainable,
        batches: Batches,
        args: argparse.Namespace,
        folder: RunFolder,
        group: ProcessGroup = SINGLE_PROCESS,
        evaluate: Callable[..., tuple[float, float]] | None = None,
    ):
        self.model, self.batches, self.args = model, batches, args
        self.folder, self.group = folder, group
        self.evaluate = evaluate or model.evaluate
        self.limit, self.total_steps = training_length(args, batches)
        self.checkpoint = folder.path / model.checkpoint_name
        self.step = 0
        self.history: list[dict] = []
        self.best, self.best_weights = 0, model.weights()
        self.result: dict | None = None
        self._seconds_before = 0.0

    def fit(self) -> dict:
        """Train to the end and return the result, as it is written to result.json.

        Raises:
            DivergedError: the loss or a weight is no longer finite; the best weights are kept.
            Interrupted: on Ctrl-C or SIGTERM, after saving a checkpoint, or the result.
        """
        self._started = time.perf_counter() - self._seconds_before
        diverged = None
        next_save = time.perf_counter() + self.args.checkpoint_seconds
        quiet = np.errstate(all="ignore")  # for divergence has a message of its own
        with self._progress_bar() as bar, deferred_signals(self.group.size) as signals, quiet:
            try:
                if self.history:  # a run that diverged may not have got as far as its result
                    self._check_losses()
                    self._check_weights()
                else:
                    self._record_evaluation(bar)
                if self.step == self.total_steps > self.history[-1]["step"]:
                    self._record_evaluation(bar)  # a resumed run that was made shorter
                next_evaluation = self._next_evaluation()
                while not self._reason_to_stop():
                    for batch in self.batches.epoch(*self.batches.position(self.step)):
                        self.model.learning_rate = learning_rate_at(
                            self.step, self.total_steps, self.args.learning_rate, self.args.schedule
                        )
                        self.model.train_step(*batch)
                        self.step += 1
                        if self.step % STEPS_BETWEEN_CHECKS == 0:
                            self._check_weights()
                        if self.step == next_evaluation:
                            self._record_evaluation(bar)
                            next_evaluation = self._next_evaluation()
                            if self._reason_to_stop():
                                break
                        if self.group.any(signals or time.perf_counter() > next_save):
                            self._check_weights()
                            self._save()
                            next_save = time.perf_counter() + self.args.checkpoint_seconds
                            if self.group.any(signals):
                                raise interruption(signals)
            except DivergedError as error:
                diverged = error
            self._finish("diverged" if diverged else self._reason_to_stop())
            if self.group.any(signals):
                raise interruption(signals) from diverged
        if diverged:
            raise diverged
        return self.result

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those before a resumption included."""
        return time.perf_counter() - self._started

    def _progress_bar(self) -> tqdm:
        visible = self.group.is_main and sys.stderr is not None and sys.stderr.isatty()
        hidden = self.args.quiet or not visible
        return tqdm(total=self.total_steps, initial=self.step, unit="step", disable=hidden)

    def _next_evaluation(self) -> int:
        """The step after which to evaluate next."""
        every = self.args.eval_freq or self.batches.steps_per_epoch
        return min((self.step // every + 1) * every, self.total_steps)

    def _reason_to_stop(self) -> str | None:
        waited = len(self.history) - 1 - self.best
        if 0 < self.args.patience <= waited:
            return "early_stopping"
        target = vars(self.args).get("target_accuracy")
        if target and self.history[-1]["val_accuracy"] >= target:
            return "target_accuracy"
        return self.limit if self.step >= self.total_steps else None

    def _record_evaluation(self, bar: tqdm) -> None:
        """Add a row to the history and, if it is the best on validation, keep the weights."""
        row: dict = {"step": self.step, "epoch": self._epoch()}
        for split in SPLITS:
            row[f"{split}_loss"], row[f"{split}_accuracy"] = self.evaluate(split)
        row |= {"learning_rate": float(self.model.learning_rate), "seconds": self.seconds}
        self.history.append(row)
        self._check_losses()
        if row["val_loss"] < self.history[self.best]["val_loss"]:
            self.best, self.best_weights = len(self.history) - 1, self.model.weights()
        progress = {name: f"{row[name]:.4f}" for name in ("val_loss", "val_accuracy")}
        bar.set_postfix(progress, refresh=False)
        bar.update(self.step - bar.n)

    def _check_losses(self) -> None:
        row = self.history[-1]
        if not math.isfinite(row["train_loss"] + row["val_loss"]):
            raise DivergedError(
                f"diverged: the loss is {row['train_loss']} on training and {row['val_loss']} on "
                f"validation samples at step {row['step']}; {ADVICE}"
            )

    def _check_weights(self) -> None:
        if not self.model.is_finite():
            raise DivergedError(
                f"diverged: a weight is no longer a finite number at step {self.step}; {ADVICE}"
            )

    def _epoch(self) -> float:
        epoch, done = self.batches.position(self.step)
        return round(epoch + done / self.batches.steps_per_epoch, 4)

    def _save(self) -> None:
        progress = {"step": self.step, "seconds": self.seconds, "history": self.history}
        state = {
            "model": self.model.state_dict(),
            "best": self.best_weights,
            "progress": json.dumps(progress),
        }
        if self.group.is_main:
            self.folder.write_history(self.history)
            save_checkpoint(self.checkpoint, state)

    def restore(self) -> None:
        """Return to the last checkpoint, if there is one, from where `fit` goes on.

        Raises:
            UsageError: it is broken, of another run, or from after the end of this one.
        """
        state = self.group.on_main(
            lambda: load_checkpoint(self.checkpoint) if self.checkpoint.exists() else None
        )
        if state is None:
            return
        try:
            self.model.load_weights(state["best"])  # an error now, not at the end
            self.model.load_state_dict(state["model"])
            self.best_weights = state["best"]
            progress = json.loads(state["progress"])
            self.step, self.history = progress["step"], progress["history"]
            losses = [row["val_loss"] for row in self.history]
            self.best = losses.index(min(losses))
            self._seconds_before = progress["seconds"]
        except (KeyError, IndexError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            raise UsageError(f"{self.checkpoint}: not a checkpoint of this run") from error
        if self.step > self.total_steps:
            raise UsageError(f"--{self.limit}: the run has done {self.step} steps already")

    def _finish(self, stopped_by: str) -> None:
        """Save, evaluate the best weights, and write the result."""
        self._save()
        self.model.load_weights(self.best_weights)
        best = self.history[self.best]
        test_loss, test_accuracy = self.evaluate("test", final=True)
        val_loss, val_accuracy = self.evaluate("val", final=True)
        self.result = {
            "test_accuracy": test_accuracy,
            "test_loss": test_loss,
            "val_accuracy": val_accuracy,
            "val_loss": val_loss,
            "best_epoch": best["epoch"],
            "best_step": best["step"],
            "epochs": self._epoch(),
            "steps": self.step,
            "seconds": round(self.seconds, 3),
            "seed": self.args.seed,
            "parameters": self.model.n_parameters,
            "stopped_by": stopped_by,
        }
        if self.group.is_main:
            self.folder.write_result(self.result)


def interruption(signals: Sequence[int]) -> Interrupted:
    """The exception for the last signal; for SIGTERM where only another process got one."""
    return Interrupted(signals[-1] if signals else signal.SIGTERM)


def training_length(args: argparse.Namespace, batches: Batches) -> tuple[str, int]:
    """The flag that ends the training first, and the number of steps after which it does."""
    steps = {flag: value for flag in LENGTH_FLAGS if (value := vars(args).get(flag))}
    if "max_epochs" in steps:
        steps["max_epochs"] = batches.steps_in(steps["max_epochs"])
    limit = min(steps, key=steps.get)
    return limit, 1 if args.dry_run else steps[limit]
