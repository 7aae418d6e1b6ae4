"""Claim C5: how well a trained net recognises test images that are shifted."""

import csv
import io
from pathlib import Path

import numpy as np

from data import Dataset, load_dataset
from data.pipeline import class_probabilities
from training.errors import UsageError
from training.record import RunRecord

SHIFTS_FILE = "shifts.csv"
SHIFTS = range(9)  # pixels
LARGEST_SEEN = 4  # pixels: how far a random crop moves a training image at most
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}  # rows, columns
CNN_IMAGES = 2000  # of 10,000, which take the CNN many times as long as the MLP
COLUMNS = ("shift", "direction", "images", "test_accuracy")


def measure_shifts(run: RunRecord, *, data_dir: str | None = None) -> str:
    """The test accuracy of a run's net at each shift in each direction, as the text of a CSV file.

    Args:
        run: a finished run of the PyTorch MLP, which is asked about all test images, or of the CNN,
            which is asked about the first 2,000; it still has its weights.
    """
    dataset = load_dataset(
        run.config["dataset"], data_dir=data_dir, check_md5=run.config["cifar10_md5"] == "check"
    )
    net = _load_net(run, dataset)
    n_images = None if is_mlp(run) else CNN_IMAGES
    images, labels = dataset.x_test[:n_images], dataset.y_test[:n_images]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for shift in SHIFTS:
        for name, (rows, columns) in DIRECTIONS.items():
            moved = shifted(images, shift * rows, shift * columns)
            predicted = class_probabilities(net, moved).argmax(1)
            accuracy = np.mean(predicted == labels)
            writer.writerow((shift, name, len(labels), f"{accuracy:.4f}"))
            if not shift:
                break  # all directions are the same
    return text.getvalue()


def is_mlp(run: RunRecord) -> bool:
    """Whether the run's net is an MLP, and no CNN."""
    return "dnn_hidden_units" in run.config


def _load_net(run: RunRecord, dataset: Dataset):
    from part1_mlp import trained as part1
    from part2_cnn import trained as part2

    if run.config.get("whiten"):
        raise UsageError(f"{run.path}: shifts are measured on nets without whitening alone")
    if is_mlp(run):
        return part1.load_net(run, dataset.n_inputs, dataset.n_classes)
    return part2.load_net(run)


def shifted(images: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Images (N, C, H, W) moved down by `rows` and right by `columns`, black filling the gap."""
    moved = np.zeros_like(images)
    height, width = images.shape[2:]
    to_rows, from_rows = _overlap(rows, height)
    to_columns, from_columns = _overlap(columns, width)
    moved[:, :, to_rows, to_columns] = images[:, :, from_rows, from_columns]
    return moved


def _overlap(shift: int, length: int) -> tuple[slice, slice]:
    """Where the part that stays visible goes, and where it comes from."""
    return (
        slice(max(0, shift), length + min(0, shift)),
        slice(max(0, -shift), length - max(0, shift)),
    )


def read_shifts(record: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """The shifts in pixels, the accuracies (n_shifts, n_directions), and on how many images.

    Raises:
        UsageError: the record has none, or they are broken.
    """
    path = record / SHIFTS_FILE
    try:
        with path.open(newline="") as file:
            read = list(csv.DictReader(file))
        rows = [(int(row["shift"]), float(row["test_accuracy"])) for row in read]
        by_shift = {s: [a for shift, a in rows if shift == s] for s in SHIFTS}
        by_shift[0] *= len(DIRECTIONS)
        accuracies = np.array([by_shift[s] for s in SHIFTS])
        return np.array(SHIFTS), accuracies, int(read[0]["images"])
    except (OSError, KeyError, IndexError, TypeError, ValueError) as error:
        raise UsageError(f"{path} is missing or broken") from error
