"""Muon: momentum whose steps on a layer's filters turn all directions by the same amount.

The gradient of a layer's weight matrix is mostly of low rank: few directions carry nearly all of
it, and plain momentum or Adam neglects the rest. Muon replaces the momentum matrix by the nearest
orthogonal one, all of whose singular values are 1.

Source: K. Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024.
"""

from collections.abc import Iterable

import torch
from torch import nn

# Of the odd polynomial a x + b x^3 + c x^5 that, applied five times, takes singular values from
# (0, 1] to about 1 (Jordan et al.); on matrices it needs products alone, no decomposition.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
ADAMW_SHARE = 0.05  # of the learning rate, for parameters that are no filters


class Muon(torch.optim.AdamW):
    """Muon for convolution filters (K, C, h, w); AdamW at a twentieth of the rate for the rest.

    The matrix of a layer's filters is (K, C * h * w). One step changes it by the learning rate, in
    the spectral norm.

    Args:
        momentum: of the filters' gradients, in Nesterov's form.
        weight_decay: pull of all weights towards 0, apart from the gradient, as in AdamW.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        fused: bool = True,
    ):
        parameters = list(parameters)
        filters = [p for p in parameters if p.ndim == 4]
        others = [p for p in parameters if p.ndim != 4]
        groups = [
            {"params": filters, "lr_share": 1.0, "momentum": momentum},
            {"params": others, "lr_share": ADAMW_SHARE},
        ]
        groups = [group | {"lr": lr * group["lr_share"]} for group in groups if group["params"]]
        super().__init__(groups, weight_decay=weight_decay, fused=fused)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Change all parameters by their gradients."""
        for group in self.param_groups:
            if "momentum" in group:
                for parameter in group["params"]:
                    self._orthogonal_step(parameter, group)
                    parameter.grad = None  # so that AdamW leaves it alone
        super().step()

    def _orthogonal_step(self, parameter: nn.Parameter, group: dict) -> None:
        gradient, state = parameter.grad, self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
            state["step"] = torch.tensor(0.0)  # unused, but AdamW loads no state without one
        velocity = state["momentum_buffer"].mul_(group["momentum"]).add_(gradient)
        direction = gradient.add(velocity, alpha=group["momentum"])
        step = orthogonalised(direction.reshape(len(direction), -1)).view_as(direction)
        parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(step, alpha=-group["lr"])


def orthogonalised(matrix: torch.Tensor) -> torch.Tensor:
    """A matrix (m, n) with the same singular vectors, and singular values of about 1.

    Each iteration is x <- p(x x^T) x. All these factors are polynomials of the first x x^T, which
    is small, and so they are multiplied among themselves first and x but once.
    """
    a, b, c = COEFFICIENTS
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / (wide.norm() + 1e-12)  # no singular value is above the norm of all of them
    square = x @ x.T
    identity = torch.eye(len(x), device=x.device, dtype=x.dtype)
    factors = identity
    for _ in range(ITERATIONS):
        factor = a * identity + b * square + c * square @ square
        factors = factor @ factors
        square = factor @ square @ factor
    x = factors @ x
    return x if wide is matrix else x.T
