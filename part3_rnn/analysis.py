"""What goes on inside a vanilla RNN: how far gradients reach, where its state goes."""

import copy

import numpy as np
import torch
import torch.nn.functional as F

from part3_rnn.model import VanillaRNN


def gradient_norms(net: VanillaRNN, x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    """How much the loss on each sequence depends on each hidden state.

    Args:
        x, y: digits (N, T) and the digits to say (N,).

    Returns:
        (T,): the root mean square over the sequences of ||d loss / d h_t||, for t = 1, ..., T;
        computed in float64, which has room for gradients that vanish.
    """
    net = copy.deepcopy(net).double()
    states = net.hidden_states(x)
    loss = F.cross_entropy(states[-1] @ net.W_hy + net.b_y, y, reduction="sum")
    gradients = torch.autograd.grad(loss, states)
    return np.array([g.square().sum(1).mean().sqrt().item() for g in gradients])


@torch.no_grad()
def first_digit_shares(net: VanillaRNN, x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    """How much of the hidden state is memory of the first digit: 1 all of it, 0 none.

    Args:
        x, y: digits (N, T) and the first digit of each (N,).

    Returns:
        (T,): of h_t's variance over the sequences, the share that lies between the means of the ten
        groups with the same first digit (the correlation ratio, Fisher, 1925), less what groups
        drawn by lot would be expected to have.
    """
    groups = y.unique()
    by_chance = (len(groups) - 1) / (len(y) - 1)
    shares = []
    for state in net.hidden_states(x):
        centred = state - state.mean(0)
        between = sum(
            (y == digit).sum() * centred[y == digit].mean(0).square().sum() for digit in groups
        )
        share = (between / centred.square().sum().clamp(min=1e-30)).item()
        shares.append(max(0.0, (share - by_chance) / (1 - by_chance)))
    return np.array(shares)


@torch.no_grad()
def trajectories(net: VanillaRNN, x: torch.Tensor) -> tuple[np.ndarray, float]:
    """The hidden states of sequences, on the plane in which they differ the most.

    Args:
        x: digits (N, T).

    Returns:
        (N, T, 2): the two first principal components of h_1, ..., h_T; and the share of the
        variance of the states that they show.
    """
    states = torch.stack(net.hidden_states(x), 1)  # (N, T, hidden_dim)
    flat = states.flatten(0, 1)
    flat = flat - flat.mean(0)
    _, values, directions = torch.linalg.svd(flat, full_matrices=False)
    shown = (values[:2].square().sum() / values.square().sum()).item()
    return (flat @ directions[:2].T).view(*states.shape[:2], 2).numpy(), shown
