"""The NumPy MLP as something that `training.run` can train."""

from collections.abc import Callable, Iterable

import numpy as np

from part1_mlp.mlp_numpy import MLP, SGD
from part1_mlp.modules import log_softmax, softmax_cross_entropy_gradient

EVALUATION_CHUNK = 2000  # samples at once: bounds the memory, not the result


class NumpyLearner:
    """A NumPy MLP, its optimiser and the splits it is evaluated on.

    Args:
        splits: x and y arrays of `train`, `val` and `test`.
        prepare: turns stored samples into inputs of the net (for images: normalises them).
        views: the versions of stored samples over which a final evaluation averages the
            probabilities; None: the samples alone.
    """

    checkpoint_name = "checkpoint.npz"

    def __init__(
        self,
        net: MLP,
        optimizer: SGD,
        splits: dict[str, tuple[np.ndarray, np.ndarray]],
        n_classes: int,
        prepare: Callable[[np.ndarray], np.ndarray] = lambda x: x,
        views: Callable[[np.ndarray], Iterable[np.ndarray]] | None = None,
    ):
        self.net, self.optimizer, self.splits, self.prepare = net, optimizer, splits, prepare
        self.views = views
        self.n_parameters = net.n_parameters
        self._one_hot = np.eye(n_classes, dtype=net.dtype)

    @property
    def learning_rate(self) -> float:
        """The optimiser's."""
        return self.optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self.optimizer.learning_rate = value

    def train_step(self, x: np.ndarray, y: np.ndarray) -> None:
        """One step of SGD on inputs (N, ...) and labels (N,), arrays or CPU tensors."""
        logits = self.net.forward(np.asarray(x))
        self.net.backward(softmax_cross_entropy_gradient(logits, self._one_hot.take(y, axis=0)))
        self.optimizer.step()

    def evaluate(self, split: str, *, final: bool = False) -> tuple[float, float]:
        """Mean loss and accuracy on a split; a final evaluation averages over all views."""
        x, y = self.splits[split]
        loss, correct = 0.0, 0
        for start in range(0, len(x), EVALUATION_CHUNK):
            labels = y[start : start + EVALUATION_CHUNK]
            log_p = self._log_probabilities(x[start : start + EVALUATION_CHUNK], final)
            loss -= float(log_p[np.arange(len(labels)), labels].sum())
            correct += int((log_p.argmax(axis=1) == labels).sum())
        return loss / len(x), correct / len(x)

    def _log_probabilities(self, x: np.ndarray, final: bool) -> np.ndarray:
        if not (final and self.views):
            return log_softmax(self.net.forward(self.prepare(x)))
        views = [log_softmax(self.net.forward(self.prepare(view))) for view in self.views(x)]
        return np.logaddexp.reduce(views) - np.log(len(views))

    def is_finite(self) -> bool:
        """Whether every weight is a finite number."""
        return all(np.isfinite(value).all() for value in self.net.state_dict().values())

    def weights(self) -> dict[str, np.ndarray]:
        """A copy of the net's parameters."""
        return self.net.state_dict()

    def load_weights(self, weights: dict[str, np.ndarray]) -> None:
        """Give the net these parameters."""
        self.net.load_state_dict(weights)

    def state_dict(self) -> dict:
        """Parameters and, once there is one, the velocity."""
        velocity = self.optimizer.velocity
        return {"net": self.net.state_dict()} | ({} if velocity is None else {"velocity": velocity})

    def load_state_dict(self, state: dict) -> None:
        """Go back to such a state."""
        self.net.load_state_dict(state["net"])
        self.optimizer.velocity = state.get("velocity")
