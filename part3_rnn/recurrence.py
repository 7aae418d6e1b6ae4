"""Back-propagation through time, by hand: h_t = tanh(a_t + h_{t-1} W) from h_0 = 0.

Autograd would record some five operations a step and differentiate each. By hand, a step backwards
is one matrix product, and the gradient of W is a single product over all steps at once. Both
functions also take several nets at once, stacked along a first dimension S.
"""

import torch
import torch.nn.functional as F


class LastState(torch.autograd.Function):
    """h_T of a recurrence."""

    @staticmethod
    def forward(ctx, a: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """a (T, N, H) and W (H, H), or (T, S, N, H) and (S, H, H) -> h_T (N, H) or (S, N, H)."""
        add_product = torch.addmm if weight.dim() == 2 else torch.baddbmm
        states = torch.empty_like(a)
        torch.tanh(a[0], out=states[0])
        for before, state, inputs in zip(states[:-1], states[1:], a[1:], strict=True):
            add_product(inputs, before, weight, out=state).tanh_()
        ctx.save_for_backward(states, weight)
        return states[-1].clone()

    @staticmethod
    def backward(ctx, dlast: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The gradients of a and W.

        With s_t the argument of tanh: ds_t = dh_t (1 - h_t^2), dh_{t-1} = ds_t W^T, da_t = ds_t,
        and dW is the sum over t of h_{t-1}^T ds_t.
        """
        states, weight = ctx.saved_tensors
        product = torch.mm if weight.dim() == 2 else torch.bmm
        slopes = torch.addcmul(states.new_ones(()), states, states, value=-1)
        da, transposed = torch.empty_like(states), weight.mT.contiguous()
        torch.mul(dlast, slopes[-1], out=da[-1])
        for t in reversed(range(len(da) - 1)):
            product(da[t + 1], transposed, out=da[t]).mul_(slopes[t])
        return da, _sum_of_products(states[:-1], da[1:])


def _sum_of_products(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Sum over the first dimension of left_t^T right_t: (T, ..., N, H) twice -> (..., H, H)."""
    if left.dim() == 3:
        return left.flatten(0, 1).T @ right.flatten(0, 1)
    left, right = (each.transpose(0, 1).flatten(1, 2) for each in (left, right))  # (S, T * N, H)
    return left.mT @ right


class Rows(torch.autograd.Function):
    """Rows of a table by their numbers: what one-hot rows times the table would give."""

    @staticmethod
    def forward(ctx, table: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """table (D, H) and numbers (T, N) -> (T, N, H); or (S, D, H), (T, S, N) -> (T, S, N, H)."""
        ctx.save_for_backward(numbers)
        ctx.n_rows = table.shape[-2]
        if table.dim() == 2:
            return table[numbers]
        each = torch.arange(len(table), device=table.device)
        return table[each[:, None], numbers]

    @staticmethod
    def backward(ctx, dout: torch.Tensor) -> tuple[torch.Tensor, None]:
        """The gradient of the table: the sum of the gradients wherever a row was used."""
        (numbers,) = ctx.saved_tensors
        one_hot = F.one_hot(numbers, ctx.n_rows).to(dout.dtype)
        return _sum_of_products(one_hot, dout), None
