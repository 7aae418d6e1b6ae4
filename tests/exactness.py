"""How far part 1 is from central differences, and its two nets from each other."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from data import load_dataset
from part1_mlp.mlp_numpy import MLP, SGD
from part1_mlp.mlp_pytorch import MLP as TorchMLP
from part1_mlp.modules import (
    CrossEntropy,
    Linear,
    ReLU,
    SoftMax,
    log_softmax,
    softmax_cross_entropy_gradient,
)

STEP = 1e-5  # near the cube root of float64's rounding, where the difference is most exact


def central_difference(loss: Callable[[], float], array: np.ndarray) -> np.ndarray:
    """d loss / d array, entry by entry; `loss` reads the array, which is changed and restored."""
    gradient = np.empty_like(array)
    for index in np.ndindex(array.shape):
        value = array[index]
        array[index] = value + STEP
        above = loss()
        array[index] = value - STEP
        below = loss()
        array[index] = value
        gradient[index] = (above - below) / (2 * STEP)
    return gradient


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    """|a - b| / (|a| + |b|) in the Euclidean norm."""
    return float(np.linalg.norm(a - b) / (np.linalg.norm(a) + np.linalg.norm(b)))


def layer_error(layer: Linear | ReLU | SoftMax, x: np.ndarray, rng: np.random.Generator) -> float:
    """Largest relative error of a layer's gradients, for a random weighted sum of its outputs."""
    weights = rng.normal(size=layer.forward(x).shape)

    def loss() -> float:
        return float((layer.forward(x) * weights).sum())

    errors = [relative_error(layer.backward(weights), central_difference(loss, x))]
    for name, value in getattr(layer, "params", {}).items():
        errors.append(relative_error(layer.grads[name], central_difference(loss, value)))
    return max(errors)


def cross_entropy_error(probabilities: np.ndarray, one_hot: np.ndarray) -> float:
    """Relative error of the gradient of the cross-entropy module."""
    module = CrossEntropy()
    numeric = central_difference(lambda: module.forward(probabilities, one_hot), probabilities)
    return relative_error(module.backward(probabilities, one_hot), numeric)


def net_error(net: MLP, x: np.ndarray, labels: np.ndarray) -> float:
    """Largest relative error of the gradients of a net."""

    def loss() -> float:
        return float(-log_softmax(net.forward(x))[np.arange(len(x)), labels].mean())

    logits = net.forward(x)
    dlogits = softmax_cross_entropy_gradient(logits, np.eye(logits.shape[1])[labels])
    net.backward(dlogits)
    errors = []
    for linear in net.linears:
        for name, value in linear.params.items():
            errors.append(relative_error(linear.grads[name], central_difference(loss, value)))
    return max(errors)


def largest_error(seed: int = 7) -> float:
    """The largest relative error of any gradient of any module and of nets of several depths."""
    rng = np.random.default_rng(seed)
    x, labels = rng.normal(size=(6, 5)), rng.integers(0, 3, 6)
    layers = (Linear(5, 4, rng=rng), ReLU(), SoftMax())
    nets = [MLP(5, hidden, 3, rng=rng) for hidden in ((), (8,), (8, 6), (8, 6, 5, 4))]
    return max(
        *(layer_error(layer, x, rng) for layer in layers),
        cross_entropy_error(rng.uniform(0.1, 0.9, (6, 3)), np.eye(3)[labels]),
        *(net_error(net, x, labels) for net in nets),
    )


def largest_difference_after_training(n_hidden, weight_decay: float, n_steps: int) -> float:
    """Largest difference of any parameter, relative to the largest in its array."""
    dataset = load_dataset("moons", seed=0, n_samples=500)
    ours = MLP(2, n_hidden, 2, rng=np.random.default_rng(0))
    theirs = TorchMLP(2, n_hidden, 2).double()
    theirs.load_numpy_weights(ours.state_dict())
    sgd = SGD(ours.linears, 0.05, momentum=0.9, weight_decay=weight_decay)
    torch_sgd = torch.optim.SGD(
        theirs.parameters(), lr=0.05, momentum=0.9, weight_decay=weight_decay
    )
    rng = np.random.default_rng(1)
    for _ in range(n_steps):
        chosen = rng.integers(0, len(dataset.x_train), 32)
        x, y = dataset.x_train[chosen], dataset.y_train[chosen]
        ours.backward(softmax_cross_entropy_gradient(ours.forward(x), np.eye(2)[y]))
        sgd.step()
        torch_sgd.zero_grad()
        nn.functional.cross_entropy(theirs(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        torch_sgd.step()
    linears = [m for m in theirs.modules() if isinstance(m, nn.Linear)]
    differences = []
    for a, b in zip(ours.linears, linears, strict=True):
        for mine, other in ((a.params["weight"], b.weight.T), (a.params["bias"], b.bias)):
            other = other.detach().numpy()
            differences.append(np.abs(mine - other).max() / np.abs(other).max())
    return float(max(differences))
