"""Draw runs of recurrent nets: curves, accuracy against length, gradients, hidden states.

python part3_rnn/plot.py runs/rnn_rnn_T5_report_seed0
python part3_rnn/plot.py RUN [RUN ...] --out comparison
"""

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from data.palindromes import N_DIGITS, draw_palindromes
from part3_rnn.analysis import gradient_norms, trajectories
from part3_rnn.model import VanillaRNN
from part3_rnn.trained import load_net
from training.curves import COLOURS, draw_curves, new_figure, save_figure
from training.errors import UsageError
from training.flags import plot_parser
from training.record import RunRecord, read_run
from training.script import one_line_errors

SEQUENCES = 500  # on which gradients are measured
TRAJECTORIES = 150  # sequences whose states are drawn
TRACED = 2  # of each first digit, drawn step by step
SEED = 7  # of the palindromes that are drawn for the pictures


def draw_accuracy_against_length(runs: Sequence[RunRecord]) -> Figure:
    """Test accuracy against T, a line for each kind of net: mean and range over the seeds."""
    figure, ((axes,),) = new_figure(1, 1, panel=(4.6, 3.2))
    kinds: dict[str, list[RunRecord]] = {}
    for run in runs:
        kinds.setdefault(f"{run.config['cell']}, {run.config['recipe']}", []).append(run)
    draw_accuracy_against(axes, kinds, "input_length")
    axes.lines[-1].set_label("guessing")
    axes.set(xlabel="digits read (T)", ylabel="test accuracy", ylim=(0, 1.03))
    axes.legend(fontsize=7)
    return figure


def draw_accuracy_against(axes: Axes, kinds: dict[str, list[RunRecord]], flag: str) -> None:
    """Test accuracy against a flag's value: a line for each kind, mean and range over the seeds.

    A dotted line shows what guessing reaches.
    """
    styles = itertools.cycle(("o-", "s--", "^-.", "D:"))  # so that no line hides one below it
    for (kind, runs), colour, style in zip(kinds.items(), COLOURS, styles, strict=False):
        values = sorted({run.config[flag] for run in runs})
        accuracies = [
            [run.result["test_accuracy"] for run in runs if run.config[flag] == value]
            for value in values
        ]
        means, low, high = ([f(each) for each in accuracies] for f in (np.mean, min, max))
        axes.plot(values, means, style, color=colour, markersize=3, label=kind)
        axes.fill_between(values, low, high, color=colour, alpha=0.2, linewidth=0)
    mark_guessing(axes)


def mark_guessing(axes: Axes) -> None:
    """A dotted line at the accuracy of guessing."""
    axes.axhline(1 / N_DIGITS, color="black", linewidth=0.8, linestyle=":")


def draw_gradient_norms(nets: dict[str, tuple[VanillaRNN, int]]) -> Figure:
    """The norm of the loss's gradient with respect to h_t against t, a line a net.

    Args:
        nets: by label: the net, and the length of the sequences it reads.
    """
    figure, ((axes,),) = new_figure(1, 1, panel=(4.6, 3.2))
    for (label, (net, length)), colour in zip(nets.items(), COLOURS, strict=False):
        norms = gradient_norms(net, *draw_palindromes(SEQUENCES, length, SEED))
        axes.semilogy(
            range(1, length + 1), np.maximum(norms, np.finfo(float).tiny), color=colour, label=label
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="step t", ylabel=r"$\|\partial\,$loss$\,/\,\partial h_t\|$")
    axes.legend(fontsize=7)
    return figure


def draw_trajectories(net: VanillaRNN, length: int) -> Figure:
    """Last hidden states, and the way to some of them, in 2-D, coloured by the first digit."""
    x, y = draw_palindromes(TRAJECTORIES, length, SEED)
    points, shown = trajectories(net, x)
    figure, ((axes,),) = new_figure(1, 1, panel=(4.4, 3.8))
    colours = new_colours(N_DIGITS)
    traced = dict.fromkeys(range(N_DIGITS), 0)
    for path, digit in zip(points, y.tolist(), strict=True):
        if traced[digit] < TRACED:
            axes.plot(*path.T, color=colours[digit], linewidth=0.8, alpha=0.7)
            traced[digit] += 1
        axes.plot(*path[-1], "o", color=colours[digit], markersize=3.5)
    for digit, colour in enumerate(colours):
        axes.plot([], [], "o", color=colour, markersize=4, label=str(digit))
    axes.legend(title="first digit", fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set(xlabel="first component", ylabel="second component")
    axes.set_title(f"h_1 to h_{length} (dot), {shown:.0%} of their variance")
    return figure


def new_colours(n: int) -> list:
    """So many colours that can be told apart."""
    import matplotlib

    return list(matplotlib.colormaps["tab10"].resampled(n).colors)


def main() -> int:
    """Draw the figures of the given runs; returns the exit code."""
    args = plot_parser(__doc__.split("\n\n")[0]).parse_args()
    runs = [read_run(path) for path in args.runs]
    for run in runs:
        if "input_length" not in run.config:
            raise UsageError(f"{run.path} holds no run of part 3")
    figures = {"curves": draw_curves(runs)}
    if len({run.config["input_length"] for run in runs}) > 1:
        figures["lengths"] = draw_accuracy_against_length(runs)
    nets = {
        run.path.name: (load_net(run), run.config["input_length"])
        for run in runs
        if run.checkpoint and run.config["cell"] == "rnn" and run.config["input_length"] > 1
    }
    if nets:
        figures["gradients"] = draw_gradient_norms(nets)
        figures["trajectories"] = draw_trajectories(*next(iter(nets.values())))
    else:
        print("curves alone: no vanilla RNN that has kept its weights", file=sys.stderr)
    for name, figure in figures.items():
        for path in save_figure(figure, (args.out or args.runs[0]) / name):
            print(path)
    return 0


if __name__ == "__main__":
    one_line_errors(main)
