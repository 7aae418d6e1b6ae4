"""The optimisers by name; SGD, RMSprop and Muon are written out here.

Muon is momentum with orthogonal steps on the weights of hidden layers. The gradient of a layer's
weight matrix is mostly of low rank: few directions carry nearly all of it, and plain momentum or
Adam neglects the rest. Muon replaces the momentum matrix by the nearest orthogonal one, all of
whose singular values are 1.

Source: K. Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024.
"""

from collections.abc import Iterable

import torch
from torch import nn

# Of the odd polynomial a x + b x^3 + c x^5 that, applied five times, takes singular values from
# (0, 1] to about 1 (Jordan et al.); on matrices it needs products alone, no decomposition.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
LARGE = 1024  # rows of a matrix from which these products are most of a step
ADAMW_SHARE = 0.05  # of the learning rate, for parameters whose steps are not orthogonal


def make_optimizer(
    name: str,
    parameters: Iterable[nn.Parameter],
    *,
    learning_rate: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    hidden_weights: Iterable[nn.Parameter] = (),
    precision: torch.dtype = torch.float32,
) -> "torch.optim.Optimizer | SGD":
    """The optimiser of that name: PyTorch's adam or adamw, or our sgd, rmsprop or muon.

    `fused` updates all parameters in one pass over memory. `hidden_weights` are those of the
    parameters on which muon takes orthogonal steps, `precision` that of its large products.
    """
    common = {"lr": learning_rate, "weight_decay": weight_decay}
    if name == "muon":
        return Muon(parameters, hidden_weights, momentum=momentum, precision=precision, **common)
    if name in ("sgd", "rmsprop"):
        return {"sgd": SGD, "rmsprop": RMSprop}[name](parameters, momentum=momentum, **common)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    return kind(parameters, fused=True, **common)


class SGD:
    """Stochastic gradient descent: v <- momentum v + g + weight_decay w; w <- w - learning_rate v.

    The steps, and the buffers that are saved, are those of torch.optim.SGD, which would import
    PyTorch's compiler; that takes longer than training a toy net.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        *,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ):
        self.parameters = list(parameters)
        self.param_groups = [{"lr": lr, "momentum": momentum, "weight_decay": weight_decay}]
        self.buffers: dict[str, list[torch.Tensor]] = {}  # by name, one a parameter

    def zero_grad(self) -> None:
        """Clear the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update all parameters by their gradients."""
        (settings,) = self.param_groups
        update = [parameter.grad for parameter in self.parameters]
        if settings["weight_decay"]:
            update = torch._foreach_add(update, self.parameters, alpha=settings["weight_decay"])
        update = self.scaled(update)
        if settings["momentum"]:
            velocity = self.buffer("momentum_buffer")
            torch._foreach_mul_(velocity, settings["momentum"])
            torch._foreach_add_(velocity, update)
            update = velocity
        torch._foreach_add_(self.parameters, update, alpha=-settings["lr"])

    def scaled(self, gradients: list[torch.Tensor]) -> list[torch.Tensor]:
        """The gradients as they are."""
        return gradients

    def buffer(self, name: str) -> list[torch.Tensor]:
        """The buffer of that name of each parameter, 0 at first."""
        if name not in self.buffers:
            self.buffers[name] = [torch.zeros_like(parameter) for parameter in self.parameters]
        return self.buffers[name]

    def state_dict(self) -> dict:
        """The buffers of each parameter, by its number."""
        each = zip(*self.buffers.values(), strict=True)
        return {"state": {i: dict(zip(self.buffers, b, strict=True)) for i, b in enumerate(each)}}

    def load_state_dict(self, state: dict) -> None:
        """Return to such a state; a RuntimeError or ValueError if it is that of others."""
        self.buffers, saved = {}, state["state"].values()
        for parameter, buffers in zip(self.parameters if saved else (), saved, strict=True):
            for name, buffer in buffers.items():
                same = buffer.to(parameter, copy=True).view_as(parameter)
                self.buffers.setdefault(name, []).append(same)


class RMSprop(SGD):
    """RMSprop (Hinton, 2012): SGD on g / (sqrt(s) + 1e-8), where s <- 0.99 s + 0.01 g^2.

    The steps are those of torch.optim.RMSprop.
    """

    def scaled(self, gradients: list[torch.Tensor]) -> list[torch.Tensor]:
        """The gradients, divided by their recent root mean square."""
        mean_squares = self.buffer("square_avg")
        torch._foreach_mul_(mean_squares, 0.99)
        torch._foreach_addcmul_(mean_squares, gradients, gradients, value=0.01)
        divisors = torch._foreach_sqrt(mean_squares)
        torch._foreach_add_(divisors, 1e-8)
        return torch._foreach_div(gradients, divisors)


class Muon(torch.optim.AdamW):
    """Muon for the weights of hidden layers; AdamW at a twentieth of the rate for the rest.

    One step changes a weight matrix by the learning rate, in the spectral norm.

    Args:
        hidden_weights: of the parameters, matrices (K, C), or filters (K, C, h, w), whose matrix
            is (K, C * h * w).
        momentum: of the hidden weights' gradients, in Nesterov's form.
        weight_decay: decoupled from the gradient, as in AdamW.
        precision: bfloat16: of the products of LARGE matrices; those of others are in float32.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        hidden_weights: Iterable[nn.Parameter],
        lr: float,
        *,
        momentum: float,
        weight_decay: float,
        precision: torch.dtype,
    ):
        self.precision = precision
        hidden = list(hidden_weights)
        others = [p for p in parameters if all(p is not each for each in hidden)]
        groups = [
            {"params": hidden, "lr_share": 1.0, "momentum": momentum},
            {"params": others, "lr_share": ADAMW_SHARE},
        ]
        groups = [group | {"lr": lr * group["lr_share"]} for group in groups if group["params"]]
        super().__init__(groups, weight_decay=weight_decay, fused=True)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update all parameters by their gradients."""
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
        step = orthogonalised(direction.flatten(1), self.precision).view_as(direction)
        parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(step, alpha=-group["lr"])


def orthogonalised(matrix: torch.Tensor, precision: torch.dtype = torch.float32) -> torch.Tensor:
    """A matrix (m, n) with the same singular vectors, and singular values of about 1.

    Each iteration is x <- p(x x^T) x. All these factors are polynomials of the first x x^T, which
    is small, and so they are multiplied among themselves first and x but once. In bfloat16 that
    would lose too many digits, and each factor is multiplied by x at once.
    """
    a, b, c = COEFFICIENTS
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / (wide.norm() + 1e-12)  # no singular value is above the norm of all of them
    if precision == torch.bfloat16 and len(x) >= LARGE:
        x = x.to(precision)
        for _ in range(ITERATIONS):
            square = x @ x.T
            factor = torch.addmm(square, square, square, beta=b, alpha=c)
            x = torch.addmm(x, factor, x, beta=a)
        return (x if wide is matrix else x.T).to(matrix)
    square = x @ x.T
    identity = torch.eye(len(x), device=x.device, dtype=x.dtype)
    factors = identity
    for _ in range(ITERATIONS):
        factor = a * identity + b * square + c * square @ square
        factors = factor @ factors
        square = factor @ square @ factor
    x = factors @ x
    return x if wide is matrix else x.T
