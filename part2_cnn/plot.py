"""Draw CNN runs: curves, and of the first run the confusion matrix, worst mistakes and filters.

python part2_cnn/plot.py runs/cnn_cifar10_original_seed0 --data_dir DIR
python part2_cnn/plot.py RUN [RUN ...] --out comparison
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data import CLASS_NAMES, Dataset, load_dataset
from data.images import class_probabilities
from part2_cnn import train
from part2_cnn.model import CNN
from training.cli import run_cli
from training.flags import folder, plot_parser, read_own_run
from training.plotting import Axes, Figure, draw_curves, new_figure, save_figure, style
from training.runs import RunRecord, load_best

MISTAKE_ROWS, MISTAKE_COLUMNS = 4, 6
FILTERS_A_ROW = 8


def draw_confusion(axes: Axes, labels: np.ndarray, predicted: np.ndarray) -> None:
    """How many images of each true class (rows) were predicted as each class (columns).

    Args:
        labels, predicted: numbers of CLASS_NAMES, (N,).
    """
    answers, numbers = (labels, predicted), range(len(CLASS_NAMES))
    counts = confusion_matrix(*answers, labels=numbers)
    shares = confusion_matrix(*answers, labels=numbers, normalize="true")
    display = ConfusionMatrixDisplay(shares, display_labels=CLASS_NAMES).plot(
        ax=axes, cmap="Blues", colorbar=False, im_kw={"vmin": 0, "vmax": 1}, text_kw={"size": 7}
    )
    for text, count in zip(display.text_.flat, counts.flat, strict=True):
        text.set_text(count)
    axes.set_xticks(numbers, CLASS_NAMES, rotation=45, ha="right")
    axes.grid(visible=False)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(f"{counts.sum():,} answers, accuracy {counts.trace() / counts.sum():.4f}")
    axes.figure.colorbar(
        display.im_, ax=axes, label="share of the true class", shrink=0.8, pad=0.02
    )


def confident_mistakes(
    labels: np.ndarray, predicted: np.ndarray, confidence: np.ndarray
) -> np.ndarray:
    """The indices of the answers that are wrong, the most confident one first; all (N,)."""
    wrong = np.flatnonzero(labels != predicted)
    return wrong[np.argsort(-confidence[wrong], kind="stable")]


def draw_mistakes(dataset: Dataset, probabilities: np.ndarray) -> Figure:
    """The most confident mistakes on test images, by decreasing confidence.

    Args:
        probabilities: of the test images, (N, n_classes). The largest is the confidence.
    """
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong = confident_mistakes(dataset.y_test, predicted, confidence)
    figure, panels = new_figure(MISTAKE_ROWS, MISTAKE_COLUMNS, panel=(1.3, 1.5))
    for axes in panels.flat:
        axes.set_axis_off()
    names = dataset.class_names
    for axes, i in zip(panels.flat, wrong, strict=False):
        axes.imshow(dataset.x_test[i].transpose(1, 2, 0))
        prediction = f"{names[predicted[i]]} {confidence[i]:.0%}"
        axes.set_title(f"{prediction}\nis {names[dataset.y_test[i]]}", fontsize=7)
    figure.suptitle(f"The most confident of {len(wrong):,} mistakes")
    return figure


def draw_filters(net: CNN) -> Figure:
    """The first layer's filters as colours: grey is 0, all on one scale."""
    filters = net.features[0].weight.detach().numpy().transpose(0, 2, 3, 1)
    scale = np.abs(filters).max() or 1.0
    rows = -(-len(filters) // FILTERS_A_ROW)
    figure, panels = new_figure(rows, FILTERS_A_ROW, panel=(0.55, 0.55))
    for axes in panels.flat:
        axes.set_axis_off()
    for axes, weights in zip(panels.flat, filters, strict=False):
        axes.imshow(0.5 + 0.5 * weights / scale)
    figure.suptitle(f"First layer: {len(filters)} filters of 3x3, grey is 0", fontsize=9)
    return figure


def _draw_net(run: RunRecord, data_dir: Path | None) -> dict[str, Figure]:
    net = load_best(CNN.from_config(run.config), run)
    dataset = load_dataset(
        "cifar10", n_samples=run.config["n_samples"], data_dir=data_dir or run.config["data_dir"]
    )
    probabilities = class_probabilities(net, dataset.x_test, run.config["views"])
    confusion, ((axes,),) = new_figure(1, 1, panel=(5.2, 4.6))
    draw_confusion(axes, dataset.y_test, probabilities.argmax(1))
    return {
        "confusion": confusion,
        "mistakes": draw_mistakes(dataset, probabilities),
        "filters": draw_filters(net),
    }


def main() -> int:
    """Draw the figures of the given runs; returns the exit code."""
    parser = plot_parser(__doc__)
    parser.add_argument("--data_dir", type=folder, metavar="DIR",
        help="where CIFAR-10 lies (default: as in the run)")  # fmt: skip
    args = parser.parse_args()
    runs = [read_own_run(path, train) for path in args.runs]
    with style():
        figures = {"curves": draw_curves(runs)}
        if runs[0].checkpoint:
            figures |= _draw_net(runs[0], args.data_dir)
        else:
            print("curves alone: the first run has not kept its weights", file=sys.stderr)
        for name, figure in figures.items():
            for path in save_figure(figure, (args.out or args.runs[0]) / name):
                print(path)
    return 0


if __name__ == "__main__":
    run_cli(main)
