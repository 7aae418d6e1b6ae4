"""Draw runs of recurrent nets: curves, accuracy against length, gradients, hidden states.

python part3_rnn/plot.py runs/rnn_T5_original_seed0
python part3_rnn/plot.py RUN [RUN ...] --out comparison
"""

import copy
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F

from data.palindromes import N_DIGITS, draw_palindromes
from part3_rnn import train
from part3_rnn.model import VanillaRNN, net_from_config
from training.cli import RESUMABLE_FLAGS, run_cli
from training.flags import plot_parser, read_own_run
from training.plotting import (
    COLOURS,
    DOTTED,
    Axes,
    Figure,
    MaxNLocator,
    draw_curves,
    matplotlib,
    names,
    new_figure,
    save_figure,
    style,
)
from training.runs import RunRecord, load_best

GRADIENT_SEQUENCES = 500
TRAJECTORIES = 150  # sequences whose last hidden state is drawn
FULL_TRAJECTORIES = 2  # for each first digit: all hidden states are drawn
SEED = 7  # of the palindromes in the figures
MARKERS = ("o-", "s--", "^-.", "D:")  # no line hides another

# --- Analysis -------------------------------------------------------------------------------------


def gradient_norms(net: VanillaRNN, x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    """How much the loss on each sequence depends on each hidden state.

    Args:
        x, y: digits (N, T) and target digits (N,).

    Returns:
        (T,): the root mean square over the sequences of ||d loss / d h_t||, for t = 1, ..., T;
        computed in float64, in which vanishing gradients are still above 0.
    """
    net = copy.deepcopy(net).double()
    states = net.hidden_states(x)
    loss = F.cross_entropy(states[-1] @ net.W_hy + net.b_y, y, reduction="sum")
    gradients = torch.autograd.grad(loss, states)
    return np.array([g.square().sum(1).mean().sqrt().item() for g in gradients])


@torch.no_grad()
def correlation_ratio(net: VanillaRNN, x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    """The share of each hidden state's variance that the first digit explains, from 0 to 1.

    This is the correlation ratio eta squared (Pearson, 1905): the variance between the means of the
    groups with the same first digit, divided by the whole variance. Its expectation for groups
    drawn at random, (n_groups - 1) / (N - 1), is corrected for.

    Args:
        x, y: digits (N, T) and the first digit of each (N,).

    Returns:
        (T,): for h_1, ..., h_T.
    """
    groups = y.unique()
    bias = (len(groups) - 1) / (len(y) - 1)
    ratios = []
    for state in net.hidden_states(x):
        centred = state - state.mean(0)
        between = sum(
            (y == digit).sum() * centred[y == digit].mean(0).square().sum() for digit in groups
        )
        ratio = (between / centred.square().sum().clamp(min=1e-30)).item()
        ratios.append(max(0.0, (ratio - bias) / (1 - bias)))
    return np.array(ratios)


@torch.no_grad()
def trajectories(net: VanillaRNN, x: torch.Tensor) -> tuple[np.ndarray, float]:
    """The hidden states of sequences, projected to their first two principal components.

    Args:
        x: digits (N, T).

    Returns:
        (N, T, 2): the components of h_1, ..., h_T; and their share of the states' variance.
    """
    states = torch.stack(net.hidden_states(x), 1)  # (N, T, hidden_dim)
    flat = states.flatten(0, 1)
    flat = flat - flat.mean(0)
    _, values, directions = torch.linalg.svd(flat, full_matrices=False)
    variance = values.square().sum()
    share = (values[:2].square().sum() / variance).item() if variance else 1.0
    return (flat @ directions[:2].T).view(*states.shape[:2], 2).numpy(), share


# --- Figures --------------------------------------------------------------------------------------


def draw_accuracy_against_length(runs: Sequence[RunRecord]) -> Figure:
    """Test accuracy against T, a line for each kind of net: mean and range over the seeds.

    Nets are of a kind if they have all flags in common but for T, the seed and such as change no
    weight.
    """
    figure, ((axes,),) = new_figure(1, 1, panel=(4.6, 3.2))
    of_a_kind = {"cell", "recipe", "input_length", "seed", "script", "environment", "device"}
    flags = sorted(set().union(*(run.config for run in runs)) - of_a_kind - RESUMABLE_FLAGS)
    differing = [f for f in flags if len({str(run.config.get(f)) for run in runs}) > 1]
    by_kind: dict[str, dict[int, list[float]]] = {}  # test accuracies by kind of net and by T
    for run in runs:
        kind = [run.config["cell"], run.config["recipe"]]
        kind = ", ".join(kind + [f"{flag} {run.config.get(flag)}" for flag in differing])
        accuracies = by_kind.setdefault(kind, {}).setdefault(run.config["input_length"], [])
        accuracies.append(run.result["test_accuracy"])
    for (kind, by_length), colour, marker in zip(
        by_kind.items(), itertools.cycle(COLOURS), itertools.cycle(MARKERS)
    ):
        lengths = sorted(by_length)
        means, low, high = ([f(by_length[n]) for n in lengths] for f in (np.mean, min, max))
        axes.plot(lengths, means, marker, color=colour, markersize=3, label=kind)
        axes.fill_between(lengths, low, high, color=colour, alpha=0.2, linewidth=0)
    mark_chance(axes, label="chance")
    axes.set(xlabel="digits read, $T$", ylabel="test accuracy", ylim=(0, 1.03))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=7)
    return figure


def mark_chance(axes: Axes, label: str | None = None) -> None:
    """A dotted line at the accuracy of chance."""
    axes.axhline(1 / N_DIGITS, **DOTTED, label=label)


def draw_gradient_norms(nets: Sequence[VanillaRNN], labels: Sequence[str]) -> Figure:
    """The norm of the loss's gradient with respect to h_t against t, a line for each net."""
    figure, ((axes,),) = new_figure(1, 1, panel=(4.6, 3.2))
    for net, label, colour in zip(nets, labels, itertools.cycle(COLOURS)):
        norms = gradient_norms(net, *draw_palindromes(GRADIENT_SEQUENCES, net.input_length, SEED))
        above_zero = np.maximum(norms, np.finfo(float).tiny)
        axes.semilogy(range(1, len(norms) + 1), above_zero, color=colour, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="step $t$", ylabel=r"$\|\partial\,$loss$\,/\,\partial h_t\|$")
    axes.legend(fontsize=7)
    return figure


def draw_trajectories(net: VanillaRNN) -> Figure:
    """Last hidden states, and the way to some of them, in 2-D, coloured by the first digit."""
    x, y = draw_palindromes(TRAJECTORIES, net.input_length, SEED)
    points, share = trajectories(net, x)
    figure, ((axes,),) = new_figure(1, 1, panel=(4.4, 3.8))
    for digit, colour in enumerate(matplotlib.colormaps["tab10"].colors):
        of_digit = points[(y == digit).numpy()]
        for path in of_digit[:FULL_TRAJECTORIES]:
            axes.plot(*path.T, color=colour, linewidth=0.8, alpha=0.7)
        axes.plot(*of_digit[:, -1].T, "o", color=colour, markersize=3.5, label=str(digit))
    axes.legend(title="first digit", fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set(xlabel="first principal component", ylabel="second principal component")
    axes.set_title(f"$h_1$ to $h_{{{net.input_length}}}$ (dot), {share:.0%} of their variance")
    return figure


def main() -> int:
    """Draw the figures of the given runs; returns the exit code."""
    args = plot_parser(__doc__).parse_args()
    runs = [read_own_run(path, train) for path in args.runs]
    kept = [r for r in runs if r.checkpoint and r.config["cell"] == "rnn"]
    kept = [r for r in kept if r.config["input_length"] > 1]  # else h_1 is the only state
    nets = [load_best(net_from_config(run.config), run) for run in kept]
    with style():
        figures = {"curves": draw_curves(runs)}
        if len({run.config["input_length"] for run in runs}) > 1:
            figures["lengths"] = draw_accuracy_against_length(runs)
        if nets:
            figures["gradients"] = draw_gradient_norms(nets, names(kept))
            if len(nets[0].W_hh) > 1:  # the states of a single unit have one component alone
                figures["trajectories"] = draw_trajectories(nets[0])
        else:
            missing = "no vanilla RNN with T > 1 has kept its weights"
            print(f"no hidden states: {missing}", file=sys.stderr)
        for name, figure in figures.items():
            for path in save_figure(figure, (args.out or args.runs[0]) / name):
                print(path)
    return 0


if __name__ == "__main__":
    run_cli(main)
