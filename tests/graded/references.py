"""The three networks in NumPy, forward, as the report states them; the graded tests compare."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tests.graded.checks import demand

Named = list[list]  # [name, array] of each parameter of a PyTorch net, in its order


def softmax(x: np.ndarray) -> np.ndarray:
    """Row by row."""
    exponentials = np.exp(x - x.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean over the batch, of labels (N,)."""
    return float(-np.log(softmax(logits)[range(len(labels)), labels]).mean())


def mlp(x: np.ndarray, layers: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Logits; layers: weights (in, out) and biases (out,)."""
    for weight, bias in layers[:-1]:
        x = np.maximum(x @ weight + bias, 0)
    return x @ layers[-1][0] + layers[-1][1]


def cnn(x: np.ndarray, named: Named) -> np.ndarray:
    """Logits of images (N, C, 32, 32): blocks of two convolutions and pooling, three linear layers.

    The order of the weights is that of their shapes, not that in which the net lists them.
    """
    pairs = sorted(weights_and_biases(named), key=lambda pair: _place(pair[0]))
    for i, (weight, bias) in enumerate(pairs[:6]):
        x = np.maximum(_convolution(x, weight, bias), 0)
        if i % 2:
            n, c, height, width = x.shape
            x = x.reshape(n, c, height // 2, 2, width // 2, 2).max(axis=(3, 5))
    return mlp(x.reshape(len(x), -1), [(weight.T, bias) for weight, bias in pairs[6:]])


def weights_and_biases(named: Named) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each weight with the bias of the same module or, if there is none, the next of its size.

    Raises:
        Wrong: if a weight has none.
    """
    biases = [(name.rpartition(".")[0], array) for name, array in named if array.ndim == 1]
    pairs = []
    for name, weight in named:
        if weight.ndim == 1:
            continue
        fitting = [pair for pair in biases if pair[1].shape == weight.shape[:1]]
        demand(fitting, f"no bias of shape ({weight.shape[0]},) belongs to {name} {weight.shape}")
        own = [pair for pair in fitting if pair[0] == name.rpartition(".")[0]]
        chosen = (own or fitting)[0]
        biases = [pair for pair in biases if pair is not chosen]
        pairs.append((weight, chosen[1]))
    return pairs


def _place(weight: np.ndarray) -> tuple:
    """Sorts convolutions before linear layers, and each in the order of the net."""
    if weight.ndim == 4:
        return 0, weight.shape[0], weight.shape[1]
    return 1, -weight.shape[1], -weight.shape[0]


def _convolution(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """3x3, with a border of zeros."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    result = np.tensordot(windows, weight, axes=([1, 4, 5], [1, 2, 3]))  # (N, 32, 32, filters)
    return result.transpose(0, 3, 1, 2) + bias[:, None, None]


def rnn(x: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """Logits: h_t = tanh(x_t W_xh + h_{t-1} W_hh + b_h), output = h_T W_hy + b_y."""
    h = np.zeros((len(x), len(weights["W_hh"])))
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] @ weights["W_xh"] + h @ weights["W_hh"] + weights["b_h"])
    return h @ weights["W_hy"] + weights["b_y"]


def rnn_readings(
    named: Named, n_inputs: int, n_hidden: int, n_outputs: int
) -> Iterator[Callable[[Named], dict[str, np.ndarray]]]:
    """What the parameters of a recurrent net may mean: functions to the formula's weights.

    With the formula's names and shapes there is one reading. Otherwise (a net of nn.Linear, say)
    shapes decide; a square matrix may be meant either way round, and one matrix may hold both of
    W_xh and W_hh. The three sizes have to differ.
    """
    shapes = {name: array.shape for name, array in named}
    if shapes == {
        "W_xh": (n_inputs, n_hidden), "W_hh": (n_hidden, n_hidden), "W_hy": (n_hidden, n_outputs),
        "b_h": (n_hidden,), "b_y": (n_outputs,),
    }:  # fmt: skip
        yield lambda named: dict(named)
        return

    def by_shape(named: Named, turned: bool, hidden_first: bool) -> dict[str, np.ndarray]:
        weights: dict[str, np.ndarray] = {}
        for _, array in named:
            array = array.squeeze() if 1 not in (n_inputs, n_hidden) else array  # (H, 1): a bias
            match array.shape:
                case (n,) if n == n_hidden:
                    weights["b_h"] = weights.get("b_h", 0) + array
                case (n,) if n == n_outputs:
                    weights["b_y"] = weights.get("b_y", 0) + array
                case (n, m) if n == m == n_hidden:
                    weights["W_hh"] = array.T if turned else array
                case (n, m) if sorted((n, m)) == sorted((n_inputs, n_hidden)):
                    weights["W_xh"] = array if n == n_inputs else array.T
                case (n, m) if sorted((n, m)) == sorted((n_outputs, n_hidden)):
                    weights["W_hy"] = array if m == n_outputs else array.T
                case (n, m) if sorted((n, m)) == sorted((n_inputs + n_hidden, n_hidden)):
                    both = array if m == n_hidden else array.T
                    first = n_hidden if hidden_first else n_inputs
                    parts = both[:first], both[first:]
                    weights["W_hh"], weights["W_xh"] = parts if hidden_first else parts[::-1]
        return weights

    for turned in (True, False):
        for hidden_first in (False, True):
            yield lambda named, t=turned, h=hidden_first: by_shape(named, t, h)


def numeric_gradients(
    loss: Callable[[list[np.ndarray]], float], arrays: list[np.ndarray], step: float = 1e-5
) -> list[np.ndarray]:
    """d loss / d array for each array, by central differences."""
    arrays = [array.astype(np.float64) for array in arrays]
    found = []
    for array in arrays:
        gradient = np.empty_like(array)
        for index in np.ndindex(array.shape):
            value = array[index]
            array[index] = value + step
            above = loss(arrays)
            array[index] = value - step
            below = loss(arrays)
            array[index] = value
            gradient[index] = (above - below) / (2 * step)
        found.append(gradient)
    return found
