"""Draw CNN runs: curves, and of the first run the confusions, worst mistakes and filters.

python part2_cnn/plot.py runs/cnn_cifar10_report_seed0 --data_dir DIR
python part2_cnn/plot.py RUN [RUN ...] --out comparison
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from matplotlib.figure import Figure

from data import DataError, Dataset, load_dataset
from data.pipeline import class_probabilities
from part2_cnn.model import CNN
from part2_cnn.trained import check_part, load_net
from training.curves import draw_curves, new_figure, save_figure
from training.flags import plot_parser
from training.record import RunRecord, read_run
from training.script import one_line_errors

MISTAKE_ROWS, MISTAKE_COLUMNS = 4, 6
FILTERS_A_ROW = 8


def draw_confusion(dataset: Dataset, probabilities: np.ndarray) -> Figure:
    """How many test images of each class (rows) were taken for which (columns)."""
    n = dataset.n_classes
    predicted = probabilities.argmax(1)
    counts = np.zeros((n, n), dtype=int)
    np.add.at(counts, (dataset.y_test, predicted), 1)
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    figure, ((axes,),) = new_figure(1, 1, panel=(5.2, 4.6))
    shading = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row in range(n):
        for column in range(n):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(
                column, row, counts[row, column], ha="center", va="center", color=colour, size=7
            )
    axes.set_xticks(range(n), dataset.class_names, rotation=45, ha="right")
    axes.set_yticks(range(n), dataset.class_names)
    axes.grid(visible=False)
    accuracy = np.mean(predicted == dataset.y_test)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(f"{len(predicted):,} test images, accuracy {accuracy:.4f}")
    figure.colorbar(shading, ax=axes, label="share of the true class", shrink=0.8)
    return figure


def draw_mistakes(dataset: Dataset, probabilities: np.ndarray) -> Figure:
    """The wrong answers on test images that the net was surest of, the surest first."""
    predicted, sureness = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(predicted != dataset.y_test)
    wrong = wrong[np.argsort(-sureness[wrong], kind="stable")]
    figure, panels = new_figure(MISTAKE_ROWS, MISTAKE_COLUMNS, panel=(1.3, 1.5))
    for axes in panels.flat:
        axes.set_axis_off()
    for axes, i in zip(panels.flat, wrong, strict=False):
        axes.imshow(dataset.x_test[i].transpose(1, 2, 0))
        names = dataset.class_names
        axes.set_title(
            f"{names[predicted[i]]} {sureness[i]:.0%}\nis {names[dataset.y_test[i]]}", fontsize=7
        )
    figure.suptitle(f"The surest of {len(wrong):,} mistakes")
    return figure


def draw_filters(net: CNN) -> Figure:
    """The first layer's filters as colours: grey is 0, all on one scale."""
    filters = net.features[0].weight.detach().numpy().transpose(0, 2, 3, 1)
    scale = np.abs(filters).max() or 1.0
    rows = -(-len(filters) // FILTERS_A_ROW)
    figure, panels = new_figure(rows, FILTERS_A_ROW, panel=(0.55, 0.55))
    for axes, weights in zip(panels.flat, filters, strict=True):
        axes.imshow(0.5 + 0.5 * weights / scale)
        axes.set_axis_off()
    figure.suptitle(f"First layer: {len(filters)} filters of 3x3, grey is 0", fontsize=9)
    return figure


def _draw_trained(run: RunRecord, net: CNN, data_dir: str | None) -> dict[str, Figure]:
    dataset = load_dataset(
        run.config["dataset"],
        seed=run.config["seed"],
        data_dir=data_dir or run.config["data_dir"],
        check_md5=run.config["cifar10_md5"] == "check",
    )
    probabilities = class_probabilities(net, dataset.x_test, run.config["views"])
    return {
        "confusion": draw_confusion(dataset, probabilities),
        "mistakes": draw_mistakes(dataset, probabilities),
        "filters": draw_filters(net),
    }


def main() -> int:
    """Draw the figures of the given runs; returns the exit code."""
    parser = plot_parser(__doc__.split("\n\n")[0])
    parser.add_argument(
        "--data_dir", metavar="DIR", help="where CIFAR-10 lies (default: as in the run)"
    )
    args = parser.parse_args()
    runs = [read_run(path) for path in args.runs]
    for run in runs:
        check_part(run)
    figures = {"curves": draw_curves(runs)}
    if runs[0].checkpoint:
        figures |= _draw_trained(runs[0], load_net(runs[0]), args.data_dir)
    else:
        print("curves alone: the first run has not kept its weights", file=sys.stderr)
    for name, figure in figures.items():
        for path in save_figure(figure, (args.out or args.runs[0]) / name):
            print(path)
    return 0


if __name__ == "__main__":
    one_line_errors(main, DataError)
