"""The vanilla recurrent network, by its formula; PyTorch's LSTM and GRU beside it.

h_0 = 0,  h_t = tanh(x_t W_xh + h_{t-1} W_hh + b_h),  output = h_T W_hy + b_y
"""

import torch
import torch.nn.functional as F
from torch import nn

from part3_rnn.initialise import initialise
from part3_rnn.recurrence import LastState, inputs

CELLS = ("rnn", "lstm", "gru")


class VanillaRNN(nn.Module):
    """Reads a sequence step by step and answers at its end.

    Several nets can be stacked to one: then every parameter, the digits and the logits have a first
    dimension more.

    Args:
        input_length: T, the steps of a sequence.
        input_dim: numbers a step: 10 for digits as one-hot rows, 1 for digits as numbers.
        hidden_dim: units of the hidden state.
        output_dim: classes.
        init, init_scale: how W_hh begins, see `part3_rnn.initialise`.
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
        initialise(self.W_xh, self.W_hh, self.W_hy, init, init_scale, input_scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Sequences (N, T, input_dim), or digits (N, T) as whole numbers -> logits (N, classes)."""
        last = LastState.apply(self._time_first(x), self.W_xh, self.W_hh, self.b_h)
        return last @ self.W_hy + self.b_y.unsqueeze(-2)

    def _time_first(self, x: torch.Tensor) -> torch.Tensor:
        """Steps before sequences; whole numbers stay such, if they stand for one-hot rows."""
        if x.is_floating_point():
            return x.transpose(-3, -2)
        steps = x.mT.contiguous()
        return steps.unsqueeze(-1).to(self.W_xh.dtype) if self.input_dim == 1 else steps

    def inputs(self, x: torch.Tensor) -> torch.Tensor:
        """x_t W_xh + b_h for each step, of shape (T, N, hidden_dim)."""
        return inputs(self._time_first(x), self.W_xh, self.b_h)

    def hidden_states(self, x: torch.Tensor) -> list[torch.Tensor]:
        """h_1, ..., h_T, each (N, hidden_dim), by the formula, for autograd to look into."""
        states = []
        for a in self.inputs(x):
            states.append(torch.tanh(a + states[-1] @ self.W_hh if states else a))
        return states


class GatedRNN(nn.Module):
    """PyTorch's LSTM or GRU and a linear layer, to be compared with the vanilla RNN."""

    def __init__(self, cell: str, input_dim: int, hidden_dim: int, output_dim: int):
        super().__init__()
        self.input_dim = input_dim
        self.cell = {"lstm": nn.LSTM, "gru": nn.GRU}[cell](input_dim, hidden_dim)
        self.linear = nn.Linear(hidden_dim, output_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Sequences (N, T, input_dim), or digits (N, T) as whole numbers -> logits (N, classes)."""
        if not x.is_floating_point():
            x = x.unsqueeze(2) if self.input_dim == 1 else F.one_hot(x, self.input_dim)
            x = x.to(self.linear.weight.dtype)
        states, _ = self.cell(x.transpose(0, 1))
        return self.linear(states[-1])
