"""A small net's parameters as one vector, so that an optimiser updates them in one go.

Updating five small tensors takes five times as many operations as one, and each operation costs
more than its arithmetic.
"""

from collections.abc import Sequence

import torch
from torch import nn


def flatten_parameters(net: nn.Module) -> nn.Parameter:
    """All parameters of a net as one vector, whose parts they are from now on."""
    flat = nn.Parameter(torch.cat([p.detach().flatten() for p in net.parameters()]))
    share(net, flat)
    return flat


def share(net: nn.Module, flat: torch.Tensor) -> None:
    """Make a net's parameters parts of a vector (P,), or of rows (S, P) for a stacked net."""
    parameters = list(net.parameters())
    n = [p.numel() for p in parameters]
    parts = flat.detach().split(n, -1)
    for p, part in zip(parameters, parts, strict=True):
        p.data = part.view(*flat.shape[:-1], *p.shape)


def gather(gradients: Sequence[torch.Tensor], leading: int = 0) -> torch.Tensor:
    """Gradients of such parameters as one vector, or as rows, with so many leading dimensions."""
    return torch.cat([g.flatten(leading) for g in gradients], -1)
