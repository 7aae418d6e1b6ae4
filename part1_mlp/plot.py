"""Draw loss and accuracy of MLP runs; for moons and circles also what the net decides where.

python part1_mlp/plot.py runs/mlp_numpy_moons_original_seed0
python part1_mlp/plot.py RUN [RUN ...] --out comparison
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


from data import load_dataset
from part1_mlp import train
from part1_mlp.mlp_numpy import MLP
from training.cli import run_cli
from training.flags import plot_parser, read_own_run
from training.plotting import (
    COLOURS,
    Axes,
    Figure,
    LinearSegmentedColormap,
    draw_curves,
    new_figure,
    save_figure,
    style,
)
from training.runs import RunRecord, load_best

GRID_POINTS = 300  # a side, of the grid on which a decision boundary is drawn
PROBABILITY_COLOURS = LinearSegmentedColormap.from_list(
    "blue-white-orange",
    ("#9DC8E6", "white", "#F5C09A"),  # the two classes' colours, pale
)


def draw_boundaries(runs: Sequence[RunRecord]) -> Figure | None:
    """The predicted probability over the plane with the test data, a panel a run.

    None if no run is of a toy set or none has kept its weights.
    """
    runs = [r for r in runs if r.config["dataset"] != "cifar10" and r.checkpoint]
    if not runs:
        return None
    columns = min(3, len(runs))
    rows = -(-len(runs) // columns)
    figure, panels = new_figure(rows, columns, panel=(3.4, 3.0))
    for axes in panels.flat[len(runs) :]:
        axes.set_axis_off()
    for run, axes in zip(runs, panels.flat, strict=False):
        filled = _draw_boundary(axes, run)
    figure.colorbar(filled, ax=panels, label="probability of orange", shrink=0.8)
    return figure


def _draw_boundary(axes: Axes, run: RunRecord):
    dataset = load_dataset(
        run.config["dataset"],
        seed=run.config["seed"],
        n_samples=run.config["n_samples"],
        noise=run.config["noise"],
    )
    x, y = dataset.x_test, dataset.y_test
    low, high = x.min(0) - 0.3, x.max(0) + 0.3
    grid = np.stack(
        np.meshgrid(*(np.linspace(a, b, GRID_POINTS) for a, b in zip(low, high, strict=True))), -1
    )
    probability = predict_probability(run, grid.reshape(-1, 2)).reshape(GRID_POINTS, GRID_POINTS)
    levels = np.linspace(0, 1, 11)
    filled = axes.contourf(*grid.transpose(2, 0, 1), probability, levels, cmap=PROBABILITY_COLOURS)
    axes.contour(*grid.transpose(2, 0, 1), probability, [0.5], colors="black", linewidths=1.2)
    for label, (colour, marker) in enumerate(((COLOURS[0], "o"), (COLOURS[1], "^"))):
        axes.scatter(
            *x[y == label].T,
            s=7,
            color=colour,
            marker=marker,
            linewidths=0,
            label=dataset.class_names[label],
        )
    axes.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    axes.set_title(
        f"{run.config['model']}, {run.config['dataset']}, seed {run.config['seed']}\n"
        f"test accuracy {run.result['test_accuracy']:.3f}",
        fontsize=8,
    )
    axes.legend(loc="upper right", fontsize=7, frameon=True)
    return filled


def predict_probability(run: RunRecord, points: np.ndarray) -> np.ndarray:
    """Probability (N,) of class 1 that the run's best net gives to points (N, 2)."""
    logits = (_numpy_logits if run.config["model"] == "numpy" else _pytorch_logits)(run, points)
    return 1 / (1 + np.exp(np.clip(logits[:, 0] - logits[:, 1], -500, 500)))


def _numpy_logits(run: RunRecord, points: np.ndarray) -> np.ndarray:
    net = MLP.from_config(run.config, points.shape[1], n_classes=2)
    load_best(net, run)
    return net.forward(points)


def _pytorch_logits(run: RunRecord, points: np.ndarray) -> np.ndarray:
    import torch

    from part1_mlp.mlp_pytorch import MLP as TorchMLP

    net = TorchMLP.from_config(run.config, points.shape[1], n_classes=2)
    load_best(net, run)
    with torch.no_grad():
        return net.eval()(torch.from_numpy(points).float()).numpy()


def main() -> int:
    """Draw the figures of the given runs; returns the exit code."""
    args = plot_parser(__doc__).parse_args()
    runs = [read_own_run(path, train) for path in args.runs]
    out = args.out or args.runs[0]
    with style():
        written = save_figure(draw_curves(runs), out / "curves")
        if boundaries := draw_boundaries(runs):
            written += save_figure(boundaries, out / "boundary")
        elif any(run.config["dataset"] != "cifar10" for run in runs):
            print("no decision boundary: no run has kept its weights", file=sys.stderr)
    for path in written:
        print(path)
    return 0


if __name__ == "__main__":
    run_cli(main)
