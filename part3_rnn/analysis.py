"""What goes on inside a vanilla RNN: how far gradients reach, where its state goes."""

import numpy as np
import torch
import torch.nn.functional as F

from part3_rnn.model import VanillaRNN


def gradient_norms(net: VanillaRNN, x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    """How much the loss on each sequence depends on each hidden state.

    Args:
        x, y: digits (N, T) and the digits to say (N,).

    Returns:
        (T,): the root mean square over the sequences of ||d loss / d h_t||, for t = 1, ..., T.
    """
    states = net.hidden_states(x)
    loss = F.cross_entropy(states[-1] @ net.W_hy + net.b_y, y, reduction="sum")
    gradients = torch.autograd.grad(loss, states)
    return np.array([g.square().sum(1).mean().sqrt().item() for g in gradients])


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
