"""The vanilla RNN: its formula, its gradients by hand, its initialisation; PyTorch's LSTM and GRU.

h_0 = 0,  h_t = tanh(x_t W_xh + h_{t-1} W_hh + b_h),  output = h_T W_hy + b_y

The initialisation of W_hh decides how long a hidden state lasts:

| init | W_hh, with its scale s | effect on a small hidden state |
| --- | --- | --- |
| normal | normal, standard deviation s / sqrt(hidden_dim) | mixes it; shrinks it for s < 1 |
| orthogonal | s times a random orthogonal matrix | rotates it; keeps its norm for s = 1 |
| identity | s times the identity | keeps it for s = 1; bistable units for s > 1 |

A bistable unit is one whose own weight s is above 1. It has two stable states, the solutions of
h = tanh(s h) other than 0. The first input decides which of them it goes to, and later inputs
cannot move it away if they are small. `identity` with s > 1 is called the bistable initialisation.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

CELLS = ("rnn", "lstm", "gru")
INITS = ("normal", "orthogonal", "identity")


class LastState(torch.autograd.Function):
    """h_T of the recurrence, with back-propagation through time by hand.

    Autograd would record several operations a step and differentiate each. By hand, a step
    backwards is one matrix product, and the gradient of W_hh is one product over all steps.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, W_xh: torch.Tensor, W_hh: torch.Tensor, b_h: torch.Tensor
    ) -> torch.Tensor:
        """The last state (N, H).

        Args:
            x: inputs (T, N, D), or digits (T, N) that stand for one-hot vectors.
            W_xh, W_hh, b_h: (D, H), (H, H), (H,).
        """
        states = weighted_inputs(x, W_xh, b_h)  # replaced by the states one after another
        h = states.unbind()
        h[0].tanh_()
        for before, state in pairwise(h):
            state.addmm_(before, W_hh).tanh_()
        ctx.save_for_backward(x, W_hh, states)
        ctx.input_dim = len(W_xh)
        return h[-1].clone()

    @staticmethod
    @once_differentiable  # the products below are not recorded, so a second derivative is refused
    def backward(ctx: Any, dh: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients of W_xh, W_hh and b_h, from that of h_T; x gets none.

        With a_t the argument of tanh: da_t = dh_t (1 - h_t^2) and dh_{t-1} = da_t W_hh^T. Then
        dW_hh is the sum over t of h_{t-1}^T da_t, dW_xh that of x_t^T da_t, db_h that of da_t.
        """
        x, W_hh, states = ctx.saved_tensors
        W_hh_T = W_hh.T.contiguous()
        da = torch.addcmul(states.new_ones(()), states, states, value=-1)  # at first 1 - h_t^2
        each, dh_before = da.unbind(), torch.empty_like(dh)
        each[-1].mul_(dh)
        for da_t, da_before in pairwise(reversed(each)):
            da_before.mul_(torch.mm(da_t, W_hh_T, out=dh_before))
        dW_hh = _sum_of_products(states[:-1], da[1:])
        if x.is_floating_point():
            return None, _sum_of_products(x, da), dW_hh, da.sum((0, 1))
        dW_xh = _sum_of_products(F.one_hot(x, ctx.input_dim).to(da.dtype), da)
        return None, dW_xh, dW_hh, dW_xh.sum(0)  # each one-hot vector sums to 1


def weighted_inputs(x: torch.Tensor, W_xh: torch.Tensor, b_h: torch.Tensor) -> torch.Tensor:
    """x_t W_xh + b_h for all steps (T, N, H); a one-hot vector times W_xh is a row of it."""
    return x @ W_xh + b_h if x.is_floating_point() else F.embedding(x, W_xh + b_h)


def _sum_of_products(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The sum over t of left_t^T right_t: (T, N, D) and (T, N, H) -> (D, H)."""
    return left.flatten(0, 1).T @ right.flatten(0, 1)


class VanillaRNN(nn.Module):
    """Reads a sequence step by step and classifies it by its last hidden state.

    Args:
        input_length: T, the steps of a sequence.
        input_dim: numbers a step: 10 for digits as one-hot vectors, 1 for digits as numbers.
        hidden_dim: units of the hidden state.
        output_dim: classes.
        init: initialisation of W_hh, one of INITS (see the table above).
        init_scale: s in that table.
        input_scale: standard deviation of W_xh.
    """

    def __init__(
        self,
        input_length: int,
        input_dim: int,
        hidden_dim: int,
        output_dim: int,
        *,
        init: str = "normal",
        init_scale: float = 1.0,
        input_scale: float = 1.0,
    ):
        super().__init__()
        self.input_length, self.input_dim = input_length, input_dim
        self.W_xh = nn.Parameter(torch.empty(input_dim, hidden_dim))
        self.W_hh = nn.Parameter(torch.empty(hidden_dim, hidden_dim))
        self.W_hy = nn.Parameter(torch.empty(hidden_dim, output_dim))
        self.b_h = nn.Parameter(torch.zeros(hidden_dim))
        self.b_y = nn.Parameter(torch.zeros(output_dim))
        nn.init.normal_(self.W_xh, std=input_scale)
        if init == "normal":
            nn.init.normal_(self.W_hh, std=init_scale / hidden_dim**0.5)
        elif init == "orthogonal":
            nn.init.orthogonal_(self.W_hh, gain=init_scale)
        elif init == "identity":
            with torch.no_grad():
                self.W_hh.copy_(init_scale * torch.eye(hidden_dim))
        else:
            raise ValueError(f"unknown initialisation {init!r}; choose from {', '.join(INITS)}")
        nn.init.normal_(self.W_hy, std=hidden_dim**-0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Sequences (N, T, input_dim), or integer digits (N, T) -> logits (N, output_dim)."""
        last = LastState.apply(self._steps(x), self.W_xh, self.W_hh, self.b_h)
        return last @ self.W_hy + self.b_y

    def _steps(self, x: torch.Tensor) -> torch.Tensor:
        """Steps before sequences; digits stay integers if they stand for one-hot vectors."""
        if x.is_floating_point():
            return x.transpose(0, 1)
        steps = x.T.contiguous()
        return steps.unsqueeze(2).to(self.W_xh.dtype) if self.input_dim == 1 else steps

    def hidden_states(self, x: torch.Tensor) -> list[torch.Tensor]:
        """h_1, ..., h_T, each (N, hidden_dim), computed step by step so that autograd sees each."""
        states: list[torch.Tensor] = []
        for a in weighted_inputs(self._steps(x), self.W_xh, self.b_h):
            states.append(torch.tanh(a + states[-1] @ self.W_hh if states else a))
        return states


class GatedRNN(nn.Module):
    """PyTorch's LSTM or GRU and a linear layer, for comparison with the vanilla RNN."""

    def __init__(
        self, cell: str, input_dim: int, hidden_dim: int, output_dim: int,
        *, forget_bias: float | None = None,
    ):  # fmt: skip
        super().__init__()
        self.input_dim = input_dim
        self.cell = {"lstm": nn.LSTM, "gru": nn.GRU}[cell](input_dim, hidden_dim)
        self.linear = nn.Linear(hidden_dim, output_dim)
        if forget_bias is not None:
            forget = slice(hidden_dim, 2 * hidden_dim)  # PyTorch's order is input, forget, ...
            with torch.no_grad():
                self.cell.bias_ih_l0[forget] = forget_bias
                self.cell.bias_hh_l0[forget] = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Sequences (N, T, input_dim), or integer digits (N, T) -> logits (N, output_dim)."""
        if not x.is_floating_point():
            x = x.unsqueeze(2) if self.input_dim == 1 else F.one_hot(x, self.input_dim)
            x = x.to(self.linear.weight.dtype)
        states, _ = self.cell(x.transpose(0, 1))
        return self.linear(states[-1])


def net_from_config(config: Mapping[str, Any]) -> VanillaRNN | GatedRNN:
    """The net that a run's flags describe, with weights from PyTorch's global generator."""
    sizes = config["input_dim"], config["num_hidden"], config["num_classes"]
    if config["cell"] != "rnn":
        return GatedRNN(config["cell"], *sizes, forget_bias=config.get("forget_bias"))
    scales = {name: config[name] for name in ("init", "init_scale", "input_scale")}
    return VanillaRNN(config["input_length"], *sizes, **scales)


def initial_net(config: Mapping[str, Any]) -> VanillaRNN | GatedRNN:
    """The same net with the weights that the run's seed draws, as training starts from."""
    torch.manual_seed(config["seed"])
    return net_from_config(config)
