"""The whole life of a run: steps, evaluations, early stopping, checkpoints, resumption, result.

The loop knows its net only as a `Learner` and its data only as `Batches`, so the same two hundred
lines train the NumPy and the PyTorch MLP, the CNN and the RNN.
"""

import json
import math
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from tqdm import tqdm

from training.checkpoint import load_checkpoint, save_checkpoint
from training.early_stopping import EarlyStopping
from training.errors import DivergedError, Interrupted, UsageError
from training.record import RunFolder
from training.schedule import learning_rate_at
from training.team import ALONE, Team

SPLITS = ("train", "val", "test")
STEPS_BETWEEN_CHECKS = 100  # that all weights are finite
LOWER_RATE = "a lower --learning_rate may help"


class Learner(Protocol):
    """A net together with its optimiser and the splits it is evaluated on."""

    checkpoint_name: str
    n_parameters: int
    learning_rate: float

    def train_step(self, *batch: Any) -> None:
        """Change the weights once, to lower the loss on this batch, as `Batches` yields it."""

    def evaluate(self, split: str, *, final: bool = False) -> tuple[float, float]:
        """Mean loss and accuracy on `train`, `val` or `test`; `final` may spend more time on it."""

    def is_finite(self) -> bool:
        """Whether every weight is a finite number."""

    def weights(self) -> dict:
        """A copy of the weights that `evaluate` uses."""

    def load_weights(self, weights: dict) -> None:
        """Make `evaluate` use these weights."""

    def state_dict(self) -> dict:
        """All that the next steps depend on, random states included."""

    def load_state_dict(self, state: dict) -> None:
        """Go back to such a state."""


class Batches(Protocol):
    """Training batches as a function of epoch and step alone."""

    def position(self, step: int) -> tuple[int, int]:
        """The epoch that step belongs to, and its number within the epoch; both from 0."""

    def steps_in(self, epochs: int) -> int:
        """Steps in the first so many epochs."""

    def phase(self, step: int) -> int:
        """A number that rises when the size of the batches or of the images changes."""

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple]:
        """Yield the batch of each step of that epoch, from step `first_step` on."""


@dataclass(frozen=True)
class Plan:
    """How long to train and when to look.

    Attributes:
        total_steps: steps after which to end at the latest.
        limit: which flag set total_steps: `max_steps`, `max_epochs` or `train_steps`.
        eval_freq: steps between evaluations; None: one at the end of each epoch.
        target_accuracy: validation accuracy at which to stop; None: none.
        patience: evaluations without a better validation loss after which to stop, counted anew
            when the batch or the images grow; None never.
        checkpoint_seconds: seconds between checkpoints.
        quiet: draw no progress bar.
    """

    total_steps: int
    limit: str
    eval_freq: int | None
    learning_rate: float
    schedule: str
    patience: int | None
    seed: int
    checkpoint_seconds: float
    quiet: bool
    target_accuracy: float | None = None


class Run:
    """One training, from its first step or its last checkpoint to its result.

    In a team every process runs all of this and does the same; the leader alone reads and writes.
    """

    def __init__(
        self,
        learner: Learner,
        batches: Batches,
        plan: Plan,
        folder: RunFolder,
        team: Team = ALONE,
    ):
        self.learner, self.batches, self.plan, self.folder = learner, batches, plan, folder
        self.team = team
        self.checkpoint = folder.path / learner.checkpoint_name
        self.step = 0
        self.history: list[dict] = []
        self.result: dict | None = None
        self.stopping = EarlyStopping(plan.patience)
        self.best_weights = learner.weights()
        self._seconds_before = 0.0
        self._started: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds spent so far, those before a resumption included."""
        now = time.perf_counter()
        return self._seconds_before + now - (now if self._started is None else self._started)

    def train(self) -> dict:
        """Train to the end and return the result, as it is written to result.json.

        Raises: see `life`.
        """
        self.load()
        with Interrupts(one_is_enough=self.team.size > 1) as interrupts:
            for batch in self.life(interrupts):
                self.learner.train_step(*batch)
        return self.result

    def life(self, interrupts: "Interrupts") -> Iterator[tuple]:
        """Go from where the run is to its result.

        Yields each batch for its caller to train the learner on, and does all the rest itself.

        Raises:
            DivergedError: the loss or a weight is no longer finite; the best weights are kept.
            Interrupted: on Ctrl-C or a request to terminate, after saving a checkpoint.
        """
        self._started = time.perf_counter()
        hidden = self.plan.quiet or not (self.team.leads and sys.stderr.isatty())
        with tqdm(
            total=self.plan.total_steps, initial=self.step, unit="step", disable=hidden
        ) as bar:
            try:
                yield from self._steps(interrupts, bar)
                stopped_by = self._reason_to_stop()
            except DivergedError:
                self._finish("diverged")
                raise
            self._finish(stopped_by)

    def _steps(self, interrupts: "Interrupts", bar: tqdm) -> Iterator[tuple]:
        learner, plan = self.learner, self.plan
        if not self.history:
            self._evaluate(bar)
        next_look = self._next_look()
        next_save = time.perf_counter() + plan.checkpoint_seconds
        while not self._reason_to_stop():
            for batch in self.batches.epoch(*self.batches.position(self.step)):
                learner.learning_rate = learning_rate_at(
                    self.step, plan.total_steps, plan.learning_rate, plan.schedule
                )
                yield batch
                self.step += 1
                if self.step % STEPS_BETWEEN_CHECKS == 0:
                    self._check_weights()
                if self.step == next_look:
                    self._evaluate(bar)
                    next_look = self._next_look()
                    if self._reason_to_stop():
                        return
                if self.team.any(bool(interrupts.caught) or time.perf_counter() > next_save):
                    self._check_weights()
                    self._save()
                    next_save = time.perf_counter() + plan.checkpoint_seconds
                    if self.team.any(bool(interrupts.caught)):
                        raise Interrupted(interrupts.caught or signal.SIGTERM)

    def _next_look(self) -> int:
        """The step after which to evaluate next."""
        if self.plan.eval_freq:
            due = (self.step // self.plan.eval_freq + 1) * self.plan.eval_freq
        else:
            due = self.batches.steps_in(self.batches.position(self.step)[0] + 1)
        return min(due, self.plan.total_steps)

    def _reason_to_stop(self) -> str | None:
        if self.stopping.exhausted:
            return "early_stopping"
        target = self.plan.target_accuracy
        if target and self.history and self.history[-1]["val_accuracy"] >= target:
            return "target_accuracy"
        return self.plan.limit if self.step >= self.plan.total_steps else None

    def _evaluate(self, bar: tqdm) -> None:
        """Add a row to the history and, if it is the best on validation, keep the weights."""
        row: dict = {"step": self.step, "epoch": self._epoch(self.step)}
        for split in SPLITS:
            row[f"{split}_loss"], row[f"{split}_accuracy"] = self.learner.evaluate(split)
        row |= {"learning_rate": float(self.learner.learning_rate), "seconds": self.seconds}
        self.history.append(row)
        if not math.isfinite(row["train_loss"] + row["val_loss"]):
            raise DivergedError(
                f"diverged: the loss is {row['train_loss']} on training and {row['val_loss']} on "
                f"validation samples at step {self.step}; {LOWER_RATE}"
            )
        if self.stopping.update(row["val_loss"], self.step):
            self.best_weights = self.learner.weights()
        elif self.batches.phase(self.step) != self.batches.phase(self.history[-2]["step"]):
            # A larger batch calms the noise that kept the loss from falling, larger images show
            # more: wait anew.
            self.stopping.waited = 0
        bar.set_postfix(
            val_loss=f"{row['val_loss']:.4f}",
            val_accuracy=f"{row['val_accuracy']:.4f}",
            refresh=False,
        )
        bar.update(self.step - bar.n)

    def _check_weights(self) -> None:
        if not self.learner.is_finite():
            raise DivergedError(
                f"diverged: a weight is no longer a finite number at step {self.step}; {LOWER_RATE}"
            )

    def _epoch(self, step: int) -> float:
        epoch, done = self.batches.position(step)
        first = self.batches.steps_in(epoch)
        return round(epoch + done / (self.batches.steps_in(epoch + 1) - first), 4)

    def _save(self) -> None:
        progress = {
            "step": self.step,
            "seconds": self.seconds,
            "stopping": asdict(self.stopping),
            "history": self.history,
        }
        state = {
            "learner": self.learner.state_dict(),
            "best": self.best_weights,
            "progress": json.dumps(progress),
        }
        if self.team.leads:
            self.folder.write_history(self.history)
            save_checkpoint(self.checkpoint, state)

    def load(self) -> None:
        """Go back to the last checkpoint, if there is one."""
        state = self.team.from_leader(self._checkpointed)
        if state is None:
            return
        try:
            self.learner.load_state_dict(state["learner"])
            self.best_weights = state["best"]
            progress = json.loads(state["progress"])
            self.step, self.history = progress["step"], progress["history"]
            self.stopping = EarlyStopping(**progress["stopping"])
            self._seconds_before = progress["seconds"]
        except (KeyError, IndexError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            raise UsageError(f"{self.checkpoint}: not a checkpoint of this run") from error

    def _checkpointed(self) -> dict | None:
        return load_checkpoint(self.checkpoint) if self.checkpoint.exists() else None

    def _finish(self, stopped_by: str) -> None:
        """Restore the best weights, measure them, and write everything."""
        self._save()
        self.learner.load_weights(self.best_weights)
        test_loss, test_accuracy = self.learner.evaluate("test", final=True)
        val_loss, val_accuracy = self.learner.evaluate("val", final=True)
        result = {
            "test_accuracy": test_accuracy,
            "test_loss": test_loss,
            "val_accuracy": val_accuracy,
            "val_loss": val_loss,
            "best_epoch": self._epoch(self.stopping.best_step),
            "best_step": self.stopping.best_step,
            "epochs": self._epoch(self.step),
            "steps": self.step,
            "seconds": round(self.seconds, 3),
            "seed": self.plan.seed,
            "parameters": self.learner.n_parameters,
            "stopped_by": stopped_by,
        }
        if self.team.leads:
            self.folder.write_result(result)
        self.result = result


class Interrupts:
    """Notes the first Ctrl-C or SIGTERM, so that it never cuts a step in half.

    A second one means it, and stops at once; unless `one_is_enough`, for torchrun passes on to its
    processes a signal that they have had already.
    """

    def __init__(self, *, one_is_enough: bool = False) -> None:
        self.caught = 0  # the signal's number
        self._one_is_enough = one_is_enough

    def _catch(self, number: int, frame: object) -> None:
        if self.caught and not self._one_is_enough:
            raise Interrupted(number)
        self.caught = number

    def __enter__(self) -> "Interrupts":
        self._before = {s: signal.signal(s, self._catch) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
