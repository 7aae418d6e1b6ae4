"""Ask a trained CNN what is on your own pictures.

python part2_cnn/predict.py --run runs/cnn_cifar10_best_seed0 cat.jpg holiday.png
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from matplotlib.figure import Figure

from data import DataError
from data.cifar10 import CLASS_NAMES
from data.pictures import open_picture, square_pixels
from data.pipeline import class_probabilities
from part2_cnn.trained import load_net
from training.curves import COLOURS, FORMATS, new_figure, save_figure
from training.flags import Parser, number
from training.record import read_run
from training.script import one_line_errors

SIZE = 32  # pixels a side that the net was trained on
SHOWN_SIZE = 256  # pixels a side at which a picture is drawn
PICTURES_A_ROW = 3


def draw_predictions(
    names: Sequence[str], pictures: Sequence[np.ndarray], probabilities: np.ndarray
) -> Figure:
    """Each picture beside a bar for every class.

    Args:
        pictures: (3, H, W) each, uint8.
        probabilities: (N, n_classes).
    """
    columns = min(PICTURES_A_ROW, len(pictures))
    rows = -(-len(pictures) // columns)
    figure, panels = new_figure(rows, 2 * columns, panel=(2.1, 2.1))
    for axes in panels.flat[2 * len(pictures) :]:
        axes.set_axis_off()
    places = panels.reshape(-1, 2)
    for name, picture, row, (left, right) in zip(
        names, pictures, probabilities, places, strict=False
    ):
        left.imshow(picture.transpose(1, 2, 0))
        left.set_axis_off()
        left.set_title(_shortened(name), fontsize=8)
        colours = [COLOURS[1] if p == row.max() else COLOURS[0] for p in row]
        right.barh(CLASS_NAMES, row, color=colours)
        right.invert_yaxis()
        right.set(xlim=(0, 1), xticks=(0, 0.5, 1))
        right.tick_params(labelsize=7)
        right.grid(visible=False, axis="y")
        right.set_title(f"{CLASS_NAMES[row.argmax()]} {row.max():.0%}", fontsize=8)
    return figure


def _shortened(name: str, longest: int = 28) -> str:
    name = name.replace("$", r"\$")  # or Matplotlib would read a formula
    return name if len(name) <= longest else f"{name[: longest - 4]}..."


def build_parser() -> Parser:
    """All flags."""
    parser = Parser(prog="predict.py", description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("pictures", nargs="+", type=Path, metavar="PICTURE", help="an image file of any size")
    add("--run", required=True, type=Path, metavar="RUN", help="folder of a run with its weights")
    add(
        "--top",
        type=number(int, 1, len(CLASS_NAMES)),
        default=3,
        metavar="N",
        help="classes to print, the likeliest first (default: 3)",
    )
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for predictions.png and .pdf (default: the run's folder)",
    )
    return parser


def main() -> int:
    """Print and draw what the net believes; returns the exit code."""
    args = build_parser().parse_args()
    run = read_run(args.run)
    net = load_net(run)
    opened = [open_picture(path) for path in args.pictures]
    images = np.stack([square_pixels(picture, SIZE) for picture in opened])
    probabilities = class_probabilities(net, images, run.config["views"])
    for path, row in zip(args.pictures, probabilities, strict=True):
        likeliest = np.argsort(-row, kind="stable")[: args.top]
        print(f"{path}: " + ", ".join(f"{CLASS_NAMES[k]} {row[k]:.1%}" for k in likeliest))
    shown = [square_pixels(picture, SHOWN_SIZE) for picture in opened]
    figure = draw_predictions([path.name for path in args.pictures], shown, probabilities)
    for path in save_figure(figure, (args.out or args.run) / "predictions", FORMATS):
        print(path)
    return 0


if __name__ == "__main__":
    one_line_errors(main, DataError)
