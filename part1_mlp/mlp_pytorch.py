"""The multi-layer perceptron in PyTorch, with optional dropout, batch normalisation, skips."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from part1_mlp.modules import NEG_SLOPE

ACTIVATIONS = {
    "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "elu": nn.ELU, "gelu": nn.GELU, "silu": nn.SiLU,
}  # fmt: skip


class MLP(nn.Module):
    """Linear, activation, ..., linear: n_inputs -> n_hidden[0] -> ... -> n_classes.

    Args:
        dropout: probability with which a hidden activation is zeroed in training.
        batch_norm: normalise over the batch between each hidden linear layer and its activation.
        skip: add the input of a hidden layer to its output where both have the same width
            (He et al., 2016).
        activation: one of `ACTIVATIONS`.
        neg_slope: slope of `leaky_relu` below 0.
    """

    def __init__(
        self,
        n_inputs: int,
        n_hidden: Sequence[int],
        n_classes: int,
        *,
        dropout: float = 0.0,
        batch_norm: bool = False,
        skip: bool = False,
        activation: str = "relu",
        neg_slope: float = NEG_SLOPE,
    ):
        super().__init__()
        sizes = [n_inputs, *n_hidden]
        slope = (neg_slope,) if activation == "leaky_relu" else ()
        self.hidden = nn.ModuleList()
        for n_in, n_out in pairwise(sizes):
            layer = nn.Sequential(nn.Linear(n_in, n_out))
            if batch_norm:
                layer.append(nn.BatchNorm1d(n_out))
            layer.append(ACTIVATIONS[activation](*slope))
            if dropout:
                layer.append(nn.Dropout(dropout))
            self.hidden.append(layer)
        self.skips = [skip and n_in == n_out for n_in, n_out in pairwise(sizes)]
        self.output = nn.Linear(sizes[-1], n_classes)

    @classmethod
    def from_config(cls, config: Mapping, n_inputs: int, n_classes: int) -> "MLP":
        """The net that a run's flags describe."""
        flags = ("dropout", "batch_norm", "skip", "activation", "neg_slope")
        settings = {flag: config[flag] for flag in flags}
        return cls(n_inputs, config["dnn_hidden_units"], n_classes, **settings)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map inputs (N, n_inputs), or (N, ...) to be flattened, to logits (N, n_classes)."""
        x = x.flatten(1)
        for layer, skip in zip(self.hidden, self.skips, strict=True):
            x = x + layer(x) if skip else layer(x)
        return self.output(x)

    @torch.no_grad()
    def load_numpy_weights(self, weights: dict[str, np.ndarray]) -> None:
        """Take the `state_dict` of a NumPy MLP of the same sizes (its weights are transposed)."""
        linears = [module for module in self.modules() if isinstance(module, nn.Linear)]
        for i, linear in enumerate(linears):
            linear.weight.copy_(torch.from_numpy(weights[f"{i}.weight"].T))
            linear.bias.copy_(torch.from_numpy(weights[f"{i}.bias"]))
