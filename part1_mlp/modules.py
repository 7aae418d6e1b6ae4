"""The layers of the NumPy MLP, each with a forward pass and a backward pass by hand.

Notation: N samples in a batch, D inputs and M outputs of a layer, C classes. `dout` is the gradient
of the loss with respect to a layer's output; `backward` returns it with respect to the input.
Derivations: Goodfellow, Bengio and Courville, Deep Learning (2016), chapter 6.5.
"""

import functools
from collections.abc import Callable

import numpy as np

NEG_SLOPE = 0.01  # of a leaky ReLU below 0, unless another is given
Initial = tuple[np.ndarray, np.ndarray]  # weight (in_features, out_features), bias (out_features,)


def he_normal(rng: np.random.Generator, in_features: int, out_features: int) -> Initial:
    """Weights from N(0, 2 / in_features), which keep a ReLU net's variance (He et al., 2015)."""
    weight = rng.normal(0, np.sqrt(2 / in_features), (in_features, out_features))
    return weight, np.zeros(out_features)


def pytorch_uniform(rng: np.random.Generator, in_features: int, out_features: int) -> Initial:
    """Weights and biases from U(-1/sqrt(in_features), 1/sqrt(in_features)), as nn.Linear's are."""
    bound = 1 / np.sqrt(in_features)
    weight = rng.uniform(-bound, bound, (in_features, out_features))
    return weight, rng.uniform(-bound, bound, out_features)


def small_normal(rng: np.random.Generator, in_features: int, out_features: int) -> Initial:
    """Weights from N(0, 0.01^2), whatever the size of the layer."""
    return rng.normal(0, 0.01, (in_features, out_features)), np.zeros(out_features)


INITIALISERS: dict[str, Callable[[np.random.Generator, int, int], Initial]] = {
    "he": he_normal,
    "pytorch": pytorch_uniform,
    "normal": small_normal,
}


@functools.lru_cache(maxsize=64)
def ones(shape: int | tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array of ones: a product with it is a sum, far faster than np.sum. Do not write to it."""
    return np.ones(shape, dtype)


class Linear:
    """y = x W + b.

    Attributes:
        params: `weight` of shape (in_features, out_features) and `bias` of shape (out_features,).
        grads: the gradient of the loss with respect to each, of the same shapes.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        rng: np.random.Generator | None = None,
        init: str = "he",
        dtype: type = np.float64,
    ):
        rng = np.random.default_rng() if rng is None else rng
        weight, bias = INITIALISERS[init](rng, in_features, out_features)
        self.params = {"weight": weight.astype(dtype), "bias": bias.astype(dtype)}
        self.grads = {name: np.zeros_like(value) for name, value in self.params.items()}

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Map x of shape (N, D) to (N, M)."""
        self._x = x
        out = x.dot(self.params["weight"])
        out += self.params["bias"]
        return out

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Set `grads` from dout of shape (N, M) and return dx of shape (N, D)."""
        weight = self.params["weight"]
        self._x, dout = (each.astype(weight.dtype, copy=False) for each in (self._x, dout))
        self.accumulate(dout)
        return dout.dot(weight.T)

    def accumulate(self, dout: np.ndarray) -> None:
        """Set `grads` alone, from x and dout of their type: all a net needs of its first layer."""
        self._x.T.dot(dout, out=self.grads["weight"])
        ones(len(dout), dout.dtype).dot(dout, out=self.grads["bias"])


class ReLU:
    """y = max(0, x); its derivative at 0 is taken as 0, as PyTorch takes it."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Map x of any shape to the same shape."""
        self._out = np.maximum(x, 0)
        return self._out

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Let dout pass where x was positive."""
        return dout * np.sign(self._out)  # 0 or 1, for y >= 0; faster than dout * (y > 0)


class LeakyReLU:
    """y = x where x > 0, else neg_slope * x (Maas, Hannun and Ng, 2013)."""

    def __init__(self, neg_slope: float = NEG_SLOPE):
        self.neg_slope = neg_slope

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Map x of any shape to the same shape."""
        self._slope = np.where(x > 0, 1, self.neg_slope).astype(np.result_type(x, np.float16))
        return x * self._slope

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Multiply dout by the derivative: 1 or neg_slope."""
        return dout * self._slope


class ELU:
    """y = x where x > 0, else exp(x) - 1 (Clevert, Unterthiner and Hochreiter, 2016)."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Map x of any shape to the same shape."""
        self._out = np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
        return self._out

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Multiply dout by the derivative: 1, or exp(x) = y + 1 where x is not above 0."""
        return dout * np.where(self._out > 0, 1, self._out + 1)


class SoftMax:
    """p_i = exp(x_i) / sum_j exp(x_j), a row at a time."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Map logits (N, C) to probabilities (N, C).

        Subtracting a row's maximum changes nothing in exact arithmetic and keeps exp from
        overflowing.
        """
        exponentials = np.exp(x - x.max(axis=1, keepdims=True))
        self._p = exponentials / exponentials.sum(axis=1, keepdims=True)
        return self._p

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Multiply dout (N, C) by the Jacobian dp_i/dx_j = p_i (delta_ij - p_j)."""
        return self._p * (dout - (dout * self._p).sum(axis=1, keepdims=True))


class CrossEntropy:
    """L = -(1/N) sum over samples and classes of one_hot * log(probabilities)."""

    def forward(self, probabilities: np.ndarray, one_hot: np.ndarray) -> float:
        """The mean loss of (N, C) probabilities; one of 0 counts as the smallest positive float.

        Raises:
            ValueError: one_hot is not of shape (N, C), but integer labels, say.
        """
        p = self._checked(probabilities, one_hot)
        return float(-(one_hot * np.log(p)).sum() / len(p))

    def backward(self, probabilities: np.ndarray, one_hot: np.ndarray) -> np.ndarray:
        """dL/dp = -one_hot / (N p), of shape (N, C)."""
        p = self._checked(probabilities, one_hot)
        return -(one_hot / (len(p) * p))  # targets may be unsigned, or bool

    @staticmethod
    def _checked(probabilities: np.ndarray, one_hot: np.ndarray) -> np.ndarray:
        """The probabilities, none of them 0."""
        if np.shape(one_hot) != probabilities.shape:
            raise ValueError(
                f"the targets must be one-hot (N, C) = {probabilities.shape}, not of shape "
                f"{np.shape(one_hot)}; np.eye(C)[labels] makes them of integer labels"
            )
        return np.maximum(probabilities, np.finfo(probabilities.dtype).tiny)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """log p = x - max - log(sum(exp(x - max))), finite for any finite logits (N, C)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def softmax_cross_entropy_gradient(logits: np.ndarray, one_hot: np.ndarray) -> np.ndarray:
    """d(mean cross-entropy of softmax)/d(logits) = (p - one_hot) / N, of shape (N, C).

    SoftMax and CrossEntropy in one: no division by a probability, and a third of the work.
    """
    n, c = logits.shape
    gradient = np.exp(logits - np.maximum.reduce(logits, axis=1, keepdims=True))
    gradient /= gradient.dot(ones((c, c), logits.dtype))  # (N, C): each row's sum, C times
    gradient -= one_hot
    gradient /= n
    return gradient
