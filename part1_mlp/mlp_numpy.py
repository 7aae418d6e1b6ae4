"""The multi-layer perceptron in NumPy: forward and backward by hand, SGD, and one training step.

Training uses the gradient of softmax and cross-entropy fused into one formula; the modules
`SoftMax` and `CrossEntropy` give the same, one after the other.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from part1_mlp.modules import (
    ELU,
    NEG_SLOPE,
    LeakyReLU,
    Linear,
    ReLU,
    log_softmax,
    softmax_cross_entropy_gradient,
)

EVALUATION_CHUNK = 2000  # samples at once: bounds the memory, not the result


class MLP:
    """Linear, activation, ..., linear: n_inputs -> n_hidden[0] -> ... -> n_classes.

    Attributes:
        layers: the modules in order, `Linear` and an activation (by default `ReLU`) in turn.
    """

    def __init__(
        self,
        n_inputs: int,
        n_hidden: Sequence[int],
        n_classes: int,
        *,
        rng: np.random.Generator | None = None,
        init: str = "he",
        activation: str = "relu",
        neg_slope: float = NEG_SLOPE,
        dtype: type = np.float64,
    ):
        make = {"relu": ReLU, "elu": ELU, "leaky_relu": partial(LeakyReLU, neg_slope)}[activation]
        rng = np.random.default_rng() if rng is None else rng
        sizes = [n_inputs, *n_hidden, n_classes]
        self.dtype, self.n_classes = np.dtype(dtype), n_classes
        self.layers: list[Linear | ReLU | LeakyReLU | ELU] = []
        for n_in, n_out in pairwise(sizes):
            self.layers += [Linear(n_in, n_out, rng=rng, init=init, dtype=dtype), make()]
        self.layers.pop()  # no activation after the logits
        self.linears = self.layers[::2]

    @classmethod
    def from_config(
        cls,
        config: Mapping,
        n_inputs: int,
        n_classes: int,
        *,
        rng: np.random.Generator | None = None,
    ) -> "MLP":
        """The net that a run's flags describe, its weights drawn from `rng`."""
        return cls(
            n_inputs, config["dnn_hidden_units"], n_classes, rng=rng, init=config["init"],
            activation=config["activation"], neg_slope=config["neg_slope"],
            dtype=np.dtype(config["precision"]).type,
        )  # fmt: skip

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Map inputs (N, n_inputs), or (N, ...) to be flattened, to logits (N, n_classes)."""
        x = x.reshape(len(x), -1).astype(self.dtype, copy=False)
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dlogits: np.ndarray) -> None:
        """Set every layer's `grads` from dlogits of shape (N, n_classes).

        The inputs' gradient is not computed: it would cost as much as the first layer's own.
        """
        gradient = dlogits
        for layer in reversed(self.layers[1:]):
            gradient = layer.backward(gradient)
        self.layers[0].accumulate(gradient.astype(self.dtype, copy=False))

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters, named `0.weight`, `0.bias`, `1.weight`, ..."""
        return {
            f"{i}.{name}": value.copy()
            for i, linear in enumerate(self.linears)
            for name, value in linear.params.items()
        }

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Take parameters of the same names and shapes.

        Raises:
            ValueError: a name is missing or a shape differs.
        """
        for i, linear in enumerate(self.linears):
            for name, value in linear.params.items():
                given = state.get(f"{i}.{name}")
                if given is None or given.shape != value.shape:
                    raise ValueError(f"no {i}.{name} of shape {value.shape} in the given weights")
                value[...] = given


class SGD:
    """Stochastic gradient descent: v <- momentum v + g + weight_decay w; w <- w - learning_rate v.

    The same formula and order of operations as torch.optim.SGD, so that both agree to rounding.
    """

    def __init__(
        self,
        linears: Sequence[Linear],
        learning_rate: float,
        *,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ):
        self.linears, self.learning_rate = linears, learning_rate
        self.momentum, self.weight_decay = momentum, weight_decay
        self._pool()
        self.velocity = np.zeros_like(self._values) if momentum else None  # of all parameters

    def step(self) -> None:
        """Update every parameter in place by its gradient."""
        if not self._is_pooled():
            self._pool()
        update = self._gradients
        if self.weight_decay:
            update = update + self.weight_decay * self._values
        if self.momentum:
            self.velocity *= self.momentum
            self.velocity += update
            update = self.velocity
        self._values -= np.multiply(update, self.learning_rate, out=self._scaled)

    def _pool(self) -> None:
        """Move all parameters into one array, and all gradients into another.

        The layers keep views of them, so that a few operations update all layers at once.
        """
        arrays = [(linear, name) for linear in self.linears for name in linear.params]
        self._values = np.concatenate([linear.params[name].ravel() for linear, name in arrays])
        self._gradients = np.concatenate([linear.grads[name].ravel() for linear, name in arrays])
        self._scaled = np.empty_like(self._values)
        start = 0
        for linear, name in arrays:
            shape, stop = linear.params[name].shape, start + linear.params[name].size
            linear.params[name] = self._values[start:stop].reshape(shape)
            linear.grads[name] = self._gradients[start:stop].reshape(shape)
            start = stop

    def _is_pooled(self) -> bool:
        """Whether every layer still writes into these two arrays.

        `grads["weight"] = ...` in a layer makes a new array, and is as right as writing into one.
        """
        return all(
            value.base is self._values and linear.grads[name].base is self._gradients
            for linear in self.linears
            for name, value in linear.params.items()
        )


class NumpyModel:
    """An MLP, its optimiser and the data splits it is evaluated on, for the trainer.

    Args:
        splits: x and y of `train`, `val` and `test`: arrays, or for images x a CPU tensor.
        prepare: turns stored samples into inputs of the net (for images: normalises them).
        views: test-time augmentation: the versions of stored samples over which a final evaluation
            averages the probabilities; None: the samples alone.
    """

    checkpoint_name = "checkpoint.npz"

    def __init__(
        self,
        net: MLP,
        optimizer: SGD,
        splits: dict[str, tuple[Any, np.ndarray]],
        *,
        prepare: Callable[[Any], Any] = lambda x: x,
        views: Callable[[Any], Iterable] | None = None,
    ):
        self.net, self.optimizer, self.splits = net, optimizer, splits
        self.prepare, self.views = prepare, views
        self.n_parameters = sum(value.size for value in net.state_dict().values())
        self.weights, self.load_weights = net.state_dict, net.load_state_dict
        self._one_hot = np.eye(net.n_classes, dtype=net.dtype)

    @property
    def learning_rate(self) -> float:
        """The optimiser's learning rate."""
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

    def _log_probabilities(self, x: Any, final: bool) -> np.ndarray:
        views = self.views(x) if final and self.views else (x,)
        log_p = [log_softmax(self.net.forward(np.asarray(self.prepare(view)))) for view in views]
        return np.logaddexp.reduce(log_p) - np.log(len(log_p))

    def is_finite(self) -> bool:
        """Whether every weight is a finite number."""
        return all(np.isfinite(value).all() for value in self.net.state_dict().values())

    def state_dict(self) -> dict:
        """Parameters and, with momentum, the velocity."""
        velocity = self.optimizer.velocity
        return {"net": self.net.state_dict()} | ({} if velocity is None else {"velocity": velocity})

    def load_state_dict(self, state: dict) -> None:
        """Return to such a state; a KeyError, ValueError or TypeError if it is that of others."""
        self.net.load_state_dict(state["net"])
        velocity = self.optimizer.velocity
        if velocity is not None:
            saved = state["velocity"].reshape(velocity.shape)
            np.copyto(velocity, saved, casting="equiv")
