"""Figures 6 and 7 and what explains them: the RNN on palindromes."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from data.palindromes import N_DIGITS
from figures.memory import read_memory
from part3_rnn.plot import draw_accuracy_against, mark_guessing
from training.curves import COLOURS, SPLIT_COLOURS, SPLIT_LINES, band, column, new_figure
from training.record import RunRecord

KINDS = {  # of net, by cell and how it begins
    ("rnn", "normal"): "vanilla RNN, normal",
    ("rnn", "orthogonal"): "vanilla RNN, orthogonal",
    ("rnn", "identity"): "vanilla RNN, latches",
    ("lstm", None): "LSTM",
    ("gru", None): "GRU, Adam at 0.01",
}

FIRST_STEPS = 300  # in which T = 5 is learnt
LIMITS = {  # what differs from the report, by the begin of a record's name
    "rnn_limits_report": "as the report",
    "rnn_limits_small_inputs": "inputs 0.03",
    "rnn_limits_orthogonal": "orthogonal",
    "rnn_limits_both": "orthogonal, 0.03",
    "rnn_limits_both_slow": "orthogonal, 0.03, small steps",
    "rnn_limits_latches": "latches (best)",
}


def by_kind(runs: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """The runs of each kind of net, as the figures name it."""
    kinds: dict[str, list[RunRecord]] = {}
    for run in runs:
        cell = run.config["cell"]
        init = run.config["init"] if cell == "rnn" else None
        kinds.setdefault(KINDS[cell, init], []).append(run)
    return kinds


def draw_curves(runs: Sequence[RunRecord]) -> Figure:
    """Figure 6: loss and accuracy over the steps, mean and range over the seeds."""
    figure, ((loss, accuracy),) = new_figure(1, 2)
    for axes, quantity in ((loss, "loss"), (accuracy, "accuracy")):
        for split in ("train", "test"):
            band(
                axes,
                column(runs, "step")[0],
                column(runs, f"{split}_{quantity}"),
                colour=SPLIT_COLOURS[split],
                line=SPLIT_LINES[split],
                label=split,
            )
        axes.set(xlabel="step", ylabel=quantity)
    length = runs[0].config["input_length"]
    loss.set(yscale="log", title=f"vanilla RNN, T = {length}, {len(runs)} seeds")
    accuracy.set(ylim=(0, 1.03), xlim=(0, FIRST_STEPS), title="its first steps; dotted: guessing")
    mark_guessing(accuracy)
    accuracy.legend(loc="lower right")
    return figure


def draw_lengths(runs: Sequence[RunRecord]) -> Figure:
    """Figure 7: test accuracy against T for each kind of net, mean and range over the seeds."""
    figure, ((axes,),) = new_figure(1, 1, panel=(6.4, 3.4))
    draw_accuracy_against(axes, by_kind(runs), "input_length")
    axes.set(xlabel="digits read (T)", ylabel="test accuracy", ylim=(0, 1.03), xscale="log")
    ticks = sorted({run.config["input_length"] for run in runs} - {25, 40})  # too close to others
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], fontsize=7, rotation=45)
    axes.minorticks_off()
    axes.legend(fontsize=8)
    return figure


def draw_hidden_sizes(runs: Sequence[RunRecord]) -> Figure:
    """Claim C9: test accuracy against the number of hidden units, a panel for each length."""
    lengths = sorted({run.config["input_length"] for run in runs})
    figure, (panels,) = new_figure(1, len(lengths), sharey=True)
    for axes, length in zip(panels, lengths, strict=True):
        of_length = [run for run in runs if run.config["input_length"] == length]
        draw_accuracy_against(axes, by_kind(of_length), "num_hidden")
        sizes = sorted({run.config["num_hidden"] for run in runs})
        axes.set(xlabel="hidden units", xscale="log", title=f"T = {length}", ylim=(0, 1.03))
        axes.set_xticks(sizes, sizes)
        axes.minorticks_off()
    panels[0].set_ylabel("test accuracy")
    panels[-1].legend(fontsize=7)  # there every kind is shown
    return figure


def draw_limits(runs: Sequence[RunRecord]) -> Figure:
    """Claims C8 and C9: gradient, memory and accuracy for one way to begin after the other.

    Lines are means over the seeds (of the logarithm, for gradients), bands their range.
    """
    figure, ((gradient, before), (accuracy, after)) = new_figure(2, 2, panel=(3.9, 2.7))
    kinds: dict[str, list[RunRecord]] = {}
    for run in runs:
        kinds.setdefault(LIMITS[run.path.name.split("_T")[0]], []).append(run)
    for place, ((kind, of_kind), colour) in enumerate(zip(kinds.items(), COLOURS, strict=False)):
        memory = [read_memory(run.path) for run in of_kind]
        measured = {name: np.stack([m[name] for m in memory]) for name in memory[0]}
        steps = measured["step"][0]
        line = "--" if "orthogonal" in kind else "-"  # some lines lie upon another
        norms = measured["initial_gradient"]
        gradient.semilogy(steps, np.exp(np.log(norms).mean(0)), line, color=colour, label=kind)
        gradient.fill_between(
            steps, norms.min(0), norms.max(0), color=colour, alpha=0.2, linewidth=0
        )
        for axes, when in ((before, "initial_share"), (after, "trained_share")):
            band(axes, steps, measured[when], colour=colour, line=line, label=kind)
        reached = np.array([run.result["test_accuracy"] for run in of_kind])
        accuracy.barh(place, reached.mean(), color=colour, alpha=0.6)
        accuracy.plot(reached, np.full(len(reached), place), "|", color="black", markersize=7)
    gradient.set(ylabel=r"$\|\partial\,$loss$\,/\,\partial h_t\|$", title="before training")
    before.set(ylabel="share of the first digit in h_t", title="before training", ylim=(0, 1.03))
    after.set(ylabel="share of the first digit in h_t", title="after training", ylim=(0, 1.03))
    for axes in (gradient, before, after):
        axes.set_xlabel("step t")
    accuracy.set_yticks(range(len(kinds)), kinds, fontsize=7)
    accuracy.invert_yaxis()
    accuracy.axvline(1 / N_DIGITS, color="black", linewidth=0.8, linestyle=":")
    accuracy.set(xlabel="test accuracy", xlim=(0, 1.03), title="after training; marks: seeds")
    return figure
