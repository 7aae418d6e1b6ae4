"""Patience: when a run has stopped getting better on the validation set."""

import math
from dataclasses import dataclass


@dataclass
class EarlyStopping:
    """Counts evaluations since the validation loss was last the lowest.

    Attributes:
        patience: evaluations without a new best after which to stop; None never stops.
        best_loss: lowest validation loss so far.
        best_step: step at which it was measured.
        waited: evaluations since then.
    """

    patience: int | None
    best_loss: float = math.inf
    best_step: int = 0
    waited: int = 0

    def update(self, val_loss: float, step: int) -> bool:
        """Take in one evaluation; True if it is the best so far."""
        if val_loss < self.best_loss:
            self.best_loss, self.best_step, self.waited = val_loss, step, 0
            return True
        self.waited += 1
        return False

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return self.patience is not None and self.waited >= self.patience
