"""Classify your own pictures with a trained CNN.

python part2_cnn/predict.py --run runs/cnn_cifar10_best_seed0 cat.jpg holiday.png
"""

import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data import CLASS_NAMES
from data.images import class_probabilities
from part2_cnn import train
from part2_cnn.model import CNN
from training import UsageError
from training.cli import run_cli
from training.flags import Parser, folder, number, read_own_run
from training.plotting import COLOURS, Figure, new_figure, save_figure, style
from training.runs import load_best

SIZE = 32  # pixels a side of the training images
SHOWN_SIZE = 256  # pixels a side at which a picture is drawn
PICTURES_A_ROW, LONGEST_NAME = 3, 28
WHITES = {"F": (1, 255, 65535), "I": (255, 65535, 2**31 - 1)}  # values of white, by mode


def open_picture(path: Path) -> Image.Image:
    """Read a picture file, of an animation the first frame, as `to_rgb` does, and upright.

    Raises:
        UsageError: the file is missing, not a picture, broken, or has so many pixels (Pillow's
            limit is some 90 million) that unpacking it could exhaust the memory.
    """
    if not os.path.isfile(path):  # a pipe or device could be read for ever
        problem = "is not a regular file" if os.path.exists(path) else "does not exist"
        raise UsageError(f"{path}: {problem}; give an image file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about oddities of a file
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                return to_rgb(ImageOps.exif_transpose(picture))
    except Exception as error:  # a broken picture can raise nearly anything
        raise UsageError(f"{path}: not a readable image ({error})") from error


def to_rgb(picture: Image.Image) -> Image.Image:
    """A picture of any of Pillow's modes as 8-bit RGB; transparency is filled with white.

    Grey values of more than 8 bits are scaled: 16-bit ones by 65535, others by the least that
    holds them of 1 (fractions), 255, 65535 and 2^31 - 1 (32-bit integers).

    Raises:
        ValueError: grey values above 65535 or not finite, or a mode that Pillow cannot convert.
    """
    if picture.mode[0] in "IF":
        values = np.asarray(picture).astype(np.float64)
        whites = [w for w in WHITES.get(picture.mode, (65535,)) if values.max() <= w]
        if not whites or not np.isfinite(values).all():
            raise ValueError("grey values above 65535, or not finite")
        picture = Image.fromarray((255 * values.clip(0) / whites[0]).round().astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def square_pixels(picture: Image.Image, size: int) -> np.ndarray:
    """The largest central square of an RGB picture, scaled to uint8 of shape (3, size, size)."""
    square = ImageOps.fit(picture, (size, size), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))


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
    for name, picture, row, (left, right) in zip(
        names, pictures, probabilities, panels.reshape(-1, 2), strict=False
    ):
        left.imshow(picture.transpose(1, 2, 0))
        left.set_axis_off()
        left.set_title(name[:LONGEST_NAME], fontsize=8, parse_math=False)
        colours = [COLOURS[1] if p == row.max() else COLOURS[0] for p in row]
        right.barh(CLASS_NAMES, row, color=colours)
        right.invert_yaxis()
        right.set(xlim=(0, 1), xticks=(0, 0.5, 1))
        right.tick_params(labelsize=7)
        right.grid(visible=False, axis="y")
        right.set_title(f"{CLASS_NAMES[row.argmax()]} {row.max():.0%}", fontsize=8)
    return figure


def main() -> int:
    """Print and draw the class probabilities of each picture; returns the exit code."""
    parser = Parser(prog="predict.py", description=__doc__)
    add = parser.add_argument
    # fmt: off
    add("pictures", nargs="+", type=Path, metavar="PICTURE", help="an image file of any size")
    add("--run", required=True, type=folder, metavar="RUN", help="a run folder with its weights")
    add("--top", type=number(int, 1, len(CLASS_NAMES)), default=3, metavar="N",
        help="classes to print, the most probable first (default: %(default)s)")
    add("--out", type=folder, metavar="DIR",
        help="folder for predictions.png and .pdf (default: the run's folder)")
    # fmt: on
    args = parser.parse_args()
    run = read_own_run(args.run, train)
    net = load_best(CNN.from_config(run.config), run)
    images, shown = [], []
    for path in args.pictures:
        picture = open_picture(path)
        images.append(square_pixels(picture, SIZE))
        shown.append(square_pixels(picture, SHOWN_SIZE))
    probabilities = class_probabilities(net, np.stack(images), run.config["views"])
    paths = [os.fsencode(path).decode(errors="replace") for path in args.pictures]
    for path, row in zip(paths, probabilities, strict=True):
        most_probable = np.argsort(-row, kind="stable")[: args.top]
        print(f"{path}: " + ", ".join(f"{CLASS_NAMES[k]} {row[k]:.1%}" for k in most_probable))
    with style():
        figure = draw_predictions([Path(path).name for path in paths], shown, probabilities)
        for path in save_figure(figure, (args.out or args.run) / "predictions"):
            print(path)
    return 0


if __name__ == "__main__":
    run_cli(main)
