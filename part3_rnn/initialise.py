"""How the vanilla RNN's weights begin, which decides what it can remember.

| init | W_hh, with its scale s | what it does to a small state |
| --- | --- | --- |
| normal | normal, standard deviation s / sqrt(hidden_dim) | turns it; shrinks it for s < 1 |
| orthogonal | s times a random rotation | turns it; keeps its length for s = 1 |
| identity | s times the identity | keeps it for s = 1; for s > 1 every unit is a latch |

A unit whose own weight s is above 1 has two stable states, the solutions of h = tanh(s h) other
than 0: it falls to the side to which the first input pushes it, and small ones cannot move it back.
"""

import torch
from torch import nn

INITS = ("normal", "orthogonal", "identity")


@torch.no_grad()
def initialise(
    W_xh: torch.Tensor, W_hh: torch.Tensor, W_hy: torch.Tensor, init: str, scale: float,
    input_scale: float,
) -> None:  # fmt: skip
    """Draw the weights in place; the biases are zero.

    Args:
        W_xh: (input_dim, hidden_dim), normal with standard deviation `input_scale`.
        W_hh: (hidden_dim, hidden_dim), see the table above.
        W_hy: (hidden_dim, output_dim), normal with standard deviation 1 / sqrt(hidden_dim).
        init: one of INITS.
        scale: s in the table.
    """
    hidden_dim = len(W_hh)
    W_xh.normal_(std=input_scale)
    if init == "normal":
        W_hh.normal_(std=scale / hidden_dim**0.5)
    elif init == "orthogonal":
        nn.init.orthogonal_(W_hh, gain=scale)
    elif init == "identity":
        W_hh.zero_().fill_diagonal_(scale)
    else:
        raise ValueError(f"unknown initialisation {init!r}; choose from {', '.join(INITS)}")
    W_hy.normal_(std=hidden_dim**-0.5)
