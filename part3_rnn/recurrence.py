"""Back-propagation through time, by hand: h_t = tanh(x_t W_xh + h_{t-1} W_hh + b_h) from h_0 = 0.

Autograd would record some five operations a step and differentiate each. By hand, a step backwards
is one matrix product, and the gradient of W_hh is a single product over all steps at once. Several
nets can be run at once, stacked along a first dimension S of everything.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F


class LastState(torch.autograd.Function):
    """h_T of a recurrence."""

    @staticmethod
    def forward(
        ctx, x: torch.Tensor, w_xh: torch.Tensor, w_hh: torch.Tensor, b_h: torch.Tensor
    ) -> torch.Tensor:
        """The last state (N, H), or (S, N, H).

        Args:
            x: inputs (T, N, D), or (T, N) numbers of w_xh's rows; stacked: (S, T, N, D), (S, T, N).
            w_xh, w_hh, b_h: (D, H), (H, H), (H,); stacked: (S, D, H), (S, H, H), (S, H).
        """
        states = inputs(x, w_xh, b_h)  # turned into the states one by one, in place
        add_product = torch.Tensor.addmm_ if w_hh.dim() == 2 else torch.Tensor.baddbmm_
        each = states.unbind(-3)
        each[0].tanh_()
        for before, state in pairwise(each):
            add_product(state, before, w_hh).tanh_()
        ctx.save_for_backward(x, w_hh, states)
        ctx.input_dim = w_xh.shape[-2]
        return each[-1].clone()

    @staticmethod
    def backward(ctx, dlast: torch.Tensor) -> tuple[None, torch.Tensor, torch.Tensor, torch.Tensor]:
        """The gradients of w_xh, w_hh and b_h.

        With s_t the argument of tanh: ds_t = dh_t (1 - h_t^2) and dh_{t-1} = ds_t W_hh^T. Then
        dW_hh is the sum over t of h_{t-1}^T ds_t, dW_xh of x_t^T ds_t, db_h of ds_t.
        """
        x, w_hh, states = ctx.saved_tensors
        product = torch.mm if w_hh.dim() == 2 else torch.bmm
        transposed = w_hh.mT.contiguous()
        ds = torch.addcmul(states.new_ones(()), states, states, value=-1)  # as yet the slopes
        each, dh = ds.unbind(-3), torch.empty_like(dlast)
        each[-1].mul_(dlast)
        for after, slope in pairwise(reversed(each)):
            slope.mul_(product(after, transposed, out=dh))
        dw_hh = _sum_of_products(states[..., :-1, :, :], ds[..., 1:, :, :])
        if x.is_floating_point():
            return None, _sum_of_products(x, ds), dw_hh, ds.sum((-3, -2))
        dw_xh = _sum_of_products(F.one_hot(x, ctx.input_dim).to(ds.dtype), ds)
        return None, dw_xh, dw_hh, dw_xh.sum(-2)  # a one-hot row sums to 1


def inputs(x: torch.Tensor, w_xh: torch.Tensor, b_h: torch.Tensor) -> torch.Tensor:
    """x_t W_xh + b_h for all steps, see `LastState`; a one-hot row times W_xh is a row of it."""
    if x.is_floating_point():
        return x @ w_xh.unsqueeze(-3) + b_h[..., None, None, :]
    rows = w_xh + b_h.unsqueeze(-2)
    if rows.dim() == 2:
        return F.embedding(x, rows)
    net = torch.arange(len(rows), device=rows.device)
    return F.embedding(x + len(rows[0]) * net[:, None, None], rows.flatten(0, 1))


def _sum_of_products(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Sum over t of left_t^T right_t: (T, N, D) and (T, N, H) -> (D, H); stacked: -> (S, D, H)."""
    return left.flatten(-3, -2).mT @ right.flatten(-3, -2)
