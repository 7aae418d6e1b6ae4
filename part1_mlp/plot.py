"""Draw loss and accuracy of MLP runs; for moons and circles also what the net decides where.

python part1_mlp/plot.py runs/mlp_numpy_moons_original_seed0
python part1_mlp/plot.py RUN [RUN ...] --out comparison
python part1_mlp/plot.py RUN --animate
"""

import io
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data import Dataset, load_dataset
from part1_mlp import train
from part1_mlp.mlp_numpy import MLP
from part1_mlp.replay import History, difference, replay
from training import UsageError
from training.cli import run_cli
from training.flags import plot_parser, read_own_run
from training.plotting import (
    COLOURS,
    SPLIT_COLOURS,
    SPLIT_LINES,
    Axes,
    Figure,
    Line2D,
    LinearSegmentedColormap,
    draw_curves,
    new_figure,
    save_figure,
    style,
)
from training.runs import RunRecord, load_best, write_atomically

GRID_POINTS = 300  # a side, of the grid on which a decision boundary is drawn
PROBABILITY_COLOURS = LinearSegmentedColormap.from_list(  # the two classes' colours, pale
    "blue-white-orange", ("#9DC8E6", "white", "#F5C09A")
)
MAX_FRAMES = 60
FRAME_MS, LAST_FRAME_MS = 150, 3000  # for which a frame is shown
FRAME_DPI, FRAME_GRID_POINTS = 100, 150
FRAME_COLOURS = 255  # of the 256 that a GIF may have; Pillow uses one for unchanged pixels


def draw_boundaries(runs: Sequence[RunRecord]) -> Figure:
    """The predicted probability over the plane with the test data, a panel a run on a toy set."""
    columns = min(3, len(runs))
    rows = -(-len(runs) // columns)
    figure, panels = new_figure(rows, columns, panel=(3.4, 3.0))
    for axes in panels.flat[len(runs) :]:
        axes.set_axis_off()
    for run, axes in zip(runs, panels.flat, strict=False):
        dataset = toy_set(run)
        grid = make_grid(dataset.x_test, GRID_POINTS)
        filled, *_ = _draw_field(axes, grid, predict_probability(run, grid))
        _draw_samples(axes, dataset)
        axes.set_title(f"{_name(run)}\ntest accuracy {run.result['test_accuracy']:.3f}", fontsize=8)
    figure.colorbar(filled, ax=panels, label="probability of orange", shrink=0.8)
    return figure


def _name(run: RunRecord) -> str:
    return f"{run.config['model']}, {run.config['dataset']}, seed {run.config['seed']}"


def toy_set(run: RunRecord) -> Dataset:
    """The points that a run was trained and evaluated on."""
    flags = {name: run.config[name] for name in ("seed", "n_samples", "noise", "factor")}
    return load_dataset(run.config["dataset"], **flags)


def make_grid(points: np.ndarray, side: int) -> np.ndarray:
    """A grid of shape (side, side, 2) over the part of the plane around the points (N, 2)."""
    low, high = points.min(0) - 0.3, points.max(0) + 0.3
    return np.stack(np.meshgrid(*np.linspace(low, high, side).T), -1)


def _draw_field(axes: Axes, grid: np.ndarray, probability: np.ndarray) -> list:
    """Draw a probability on a grid, and the decision boundary if it crosses the grid."""
    x = grid.transpose(2, 0, 1)
    filled = axes.contourf(*x, probability, np.linspace(0, 1, 11), cmap=PROBABILITY_COLOURS)
    return [filled, axes.contour(*x, probability, [0.5], colors="black", linewidths=1.2)]


def _draw_samples(axes: Axes, dataset: Dataset) -> None:
    for label, (colour, marker) in enumerate(((COLOURS[0], "o"), (COLOURS[1], "^"))):
        axes.scatter(
            *dataset.x_test[dataset.y_test == label].T, label=dataset.class_names[label],
            s=7, color=colour, marker=marker, linewidths=0,
            zorder=1.5,  # above the probability, below the decision boundary
        )  # fmt: skip
    axes.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    axes.legend(loc="upper right", fontsize=7, frameon=True, handletextpad=0.2, borderpad=0.3)


def predict_probability(run: RunRecord, points: np.ndarray) -> np.ndarray:
    """Probability (...) of class 1 that the run's best net gives to points (..., 2)."""
    if run.config["model"] == "numpy":
        net = MLP.from_config(run.config, points.shape[-1], n_classes=2)
    else:
        from part1_mlp.mlp_pytorch import MLP as TorchMLP

        net = TorchMLP.from_config(run.config, points.shape[-1], n_classes=2)
    return probability_by(load_best(net, run), points)


def probability_by(net: Any, points: np.ndarray) -> np.ndarray:
    """Probability (...) of class 1 that a net gives to points (..., 2).

    A net in PyTorch is left in evaluation mode.
    """
    x = points.reshape(-1, points.shape[-1])
    if isinstance(net, MLP):
        logits = net.forward(x)
    else:
        import torch

        with torch.no_grad():
            logits = net.eval()(torch.from_numpy(x).to(next(net.parameters()))).cpu().numpy()
    probability = 1 / (1 + np.exp(np.clip(logits[:, 0] - logits[:, 1], -80, 80)))
    return probability.reshape(points.shape[:-1])


# --- The animation --------------------------------------------------------------------------------


def draw_frames(
    run: RunRecord, history: History, grid: np.ndarray, probabilities: dict[int, np.ndarray]
) -> Iterator[np.ndarray]:
    """For each step an image (height, width, 3): the probability, and the accuracy so far.

    Args:
        history: of the replay.
        probabilities: of class 1 on the grid (side, side, 2), an array (side, side) by step.
    """
    dataset, steps = toy_set(run), history["step"]
    figure, ((plane, curves),) = new_figure(1, 2, panel=(3.6, 2.8), width_ratios=(3, 2))
    figure.set_dpi(FRAME_DPI)
    _draw_samples(plane, dataset)
    lines = _draw_accuracy(curves, history)
    field: list = []
    for i, (step, probability) in enumerate(probabilities.items()):
        for artist in field:
            artist.remove()
        field = _draw_field(plane, grid, probability)
        for column, line in lines.items():
            line.set_data(steps[steps <= step], history[column][steps <= step])
        accuracy = f"validation accuracy {history['val_accuracy'][steps == step].item():.3f}"
        plane.set_title(f"{_name(run)}\nstep {step}, {accuracy}", fontsize=8)
        if i == 0:
            figure.colorbar(field[0], ax=plane, label=f"probability of {dataset.class_names[1]}")
            figure.draw_without_rendering()  # lays out the panels, which then stay where they are
            figure.set_layout_engine("none")
        figure.canvas.draw()
        yield np.array(figure.canvas.buffer_rgba())[..., :3]


def _draw_accuracy(axes: Axes, history: History) -> dict[str, Line2D]:
    """Draw the training and validation accuracy; returns the lines by column of the history."""
    lines = {}
    for split, label in (("train", "training"), ("val", "validation")):
        column = f"{split}_accuracy"
        (lines[column],) = axes.plot(
            history["step"], history[column], SPLIT_LINES[split], color=SPLIT_COLOURS[split],
            label=label, marker="o", markersize=3, markevery=[-1],
        )  # fmt: skip
    first = max(1, *history["step"][:2])  # evaluation after that at step 0, which is shown, too
    axes.set_xscale("symlog", linthresh=10 ** math.floor(math.log10(first)), linscale=0.6)
    axes.set(xlabel="step", ylabel="accuracy")
    axes.legend(loc="lower right", fontsize=7)
    return lines


def animate(run: RunRecord, path: Path) -> None:
    """Write a GIF of the decision boundary of a toy run as it is learnt.

    Its frames are evaluations, evenly spread on a logarithmic scale. A replay that differs from the
    run is reported, and drawn all the same.
    """
    grid = make_grid(toy_set(run).x_test, FRAME_GRID_POINTS)
    steps = run.history["step"]
    rows = np.geomspace(1, len(steps), MAX_FRAMES).round().astype(int) - 1  # both ends included
    history, probabilities = replay(run, set(steps[rows]), lambda net: probability_by(net, grid))
    if message := difference(run, history):
        print(f"{path}: {message}", file=sys.stderr)
    frames = list(draw_frames(run, history, grid, probabilities))
    sheet = Image.fromarray(np.concatenate(frames)).quantize(FRAME_COLOURS)  # a palette for all
    height = len(frames[0])
    first, *others = (
        sheet.crop((0, top, sheet.width, top + height)) for top in range(0, sheet.height, height)
    )
    durations = [FRAME_MS] * len(others) + [LAST_FRAME_MS]
    gif = io.BytesIO()
    first.save(gif, "gif", save_all=True, append_images=others, duration=durations, loop=0)
    write_atomically(path, gif.getvalue())


def main() -> int:
    """Draw the figures of the given runs; returns the exit code."""
    parser = plot_parser(__doc__)
    what = "also draw boundary.gif, by default into each RUN: its decision boundary as it is learnt"
    parser.add_argument("--animate", action="store_true", help=what)
    args = parser.parse_args()
    runs = [read_own_run(path, train) for path in args.runs]
    images = [run for run in runs if run.config["dataset"] == "cifar10"]
    toy_with_weights = [r for r in runs if r.config["dataset"] != "cifar10" and r.checkpoint]
    if args.animate and images:
        raise UsageError(f"--animate is for moons and circles; {images[0].path} is of cifar10")
    out = args.out or args.runs[0]
    with style():
        written = save_figure(draw_curves(runs), out / "curves")
        if toy_with_weights:
            written += save_figure(draw_boundaries(toy_with_weights), out / "boundary")
        elif len(images) < len(runs):
            print("no boundary.png: no run has kept its weights", file=sys.stderr)
        for i, run in enumerate(runs if args.animate else [], 1):
            number = f"_{i}" if args.out and len(runs) > 1 else ""
            written.append((args.out or run.path) / f"boundary{number}.gif")
            animate(run, written[-1])
    for path in written:
        print(path)
    return 0


if __name__ == "__main__":
    run_cli(main)
