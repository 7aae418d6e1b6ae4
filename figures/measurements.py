"""What claims need beside a run's history: predictions, shifted images, memory, costs of layers."""

import math
from collections.abc import Iterable, Sequence
from itertools import chain, count, islice, pairwise, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from data import Dataset, load_dataset
from data.images import class_probabilities
from data.palindromes import N_DIGITS, PalindromeBatches, draw_palindromes, half_length, unfold
from part1_mlp.mlp_pytorch import MLP
from part2_cnn.model import CHANNELS, CNN, layer_table
from part3_rnn.model import initial_net
from part3_rnn.plot import correlation_ratio, gradient_norms
from training import UsageError
from training.distributed import choose_device
from training.runs import RunRecord, load_best

COLUMNS = {  # of each file
    "shifts.csv": {"shift": int, "direction": "U5", "fill": "U5", "images": int,
                   "test_accuracy": float, "consistency": float},
    "predictions.csv": {"label": int, "predicted": int, "confidence": float},
    "memory.csv": dict.fromkeys(  # a share is a correlation ratio
        ("step", "initial_gradient", "trained_gradient", "initial_share", "trained_share"), float),
    "palindromes.csv": dict.fromkeys(("step", "palindromes", "seen", "wrong"), int),
}  # fmt: skip
SHIFTS = range(9)  # pixels
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}  # rows, columns
FILLS = ("black", "edge")
SEQUENCES, SEED = 500, 11  # on which memory is measured
IMAGE, N_CLASSES = (3, 32, 32), 10  # of CIFAR-10: channels, height, width


def measure_shifts(run: RunRecord, *, data_dir: Path | None = None) -> str:
    """How a net classifies the test images when they are shifted, as the text of a CSV file.

    A row for each shift, direction, and way to fill the gap: the accuracy, and the share of images
    with the same prediction as unshifted. The run still has its weights.
    """
    net, dataset = _trained_on_images(run, data_dir)
    unshifted = class_probabilities(net, dataset.x_test).argmax(1)
    rows = []
    for shift, fill, (name, (down, right)) in product(SHIFTS, FILLS, DIRECTIONS.items()):
        predicted = unshifted
        if shift:
            moved = shifted(dataset.x_test, shift * down, shift * right, fill)
            predicted = class_probabilities(net, moved).argmax(1)
        shares = (f"{np.mean(predicted == same):.4f}" for same in (dataset.y_test, unshifted))
        rows.append((shift, name, fill, len(unshifted), *shares))
    return _csv("shifts.csv", rows)


def _trained_on_images(run: RunRecord, data_dir: Path | None) -> tuple[torch.nn.Module, Dataset]:
    """The net of a run that still has its weights, where PyTorch computes fastest; and CIFAR-10."""
    if run.config.get("whiten"):
        raise UsageError(f"{run.path}: nets without whitening alone are measured")
    dataset = load_dataset("cifar10", data_dir=data_dir)
    if "dnn_hidden_units" in run.config:
        net = MLP.from_config(run.config, dataset.n_inputs, dataset.n_classes)
    else:
        net = CNN.from_config(run.config)
    return load_best(net, run).to(choose_device("auto")), dataset


def shifted(images: np.ndarray, down: int, right: int, fill: str) -> np.ndarray:
    """Images (N, C, H, W) moved by so many pixels.

    Args:
        fill: of the gap: `black`, or `edge`, the nearest pixel that is left.
    """
    height, width = images.shape[2:]
    mode = {"black": "constant", "edge": "edge"}[fill]
    padded = np.pad(images, [(0, 0), (0, 0), (abs(down),) * 2, (abs(right),) * 2], mode)
    top, left = abs(down) - down, abs(right) - right
    return padded[:, :, top : top + height, left : left + width]


def read_shifts(record: Path, column: str, fill: str) -> np.ndarray:
    """A column of shifts.csv for one way to fill the gap, (n_shifts, n_directions)."""
    rows = read_measure(record, "shifts.csv")
    values = rows[column][rows["fill"] == fill]
    if len(values) != len(SHIFTS) * len(DIRECTIONS):
        raise UsageError(f"{record / 'shifts.csv'} is broken: a shift is missing")
    return values.reshape(len(SHIFTS), len(DIRECTIONS))


def measure_predictions(run: RunRecord, *, data_dir: Path | None = None) -> str:
    """What a net predicts for each test image, in their order, as the text of a CSV file."""
    net, dataset = _trained_on_images(run, data_dir)
    probabilities = class_probabilities(net, dataset.x_test)
    confidence = (f"{value:.4f}" for value in probabilities.max(1))
    rows = zip(dataset.y_test, probabilities.argmax(1), confidence, strict=True)
    return _csv("predictions.csv", rows)


def measure_memory(run: RunRecord, *, data_dir: Path | None = None) -> str:
    """How far gradients reach and the first digit stays, as the text of a CSV file.

    For each step t, before and after training: the norm of d loss / d h_t, and the correlation
    ratio of h_t and the first digit. `data_dir` is not needed; every measure takes it.
    """
    x, y = draw_palindromes(SEQUENCES, run.config["input_length"], SEED)
    nets = initial_net(run.config), load_best(initial_net(run.config), run)
    measured = [f(net, x, y) for f in (gradient_norms, correlation_ratio) for net in nets]
    rows = ([f"{value:.4g}" for value in values] for values in zip(*measured, strict=True))
    return _csv("memory.csv", ((t, *row) for t, row in enumerate(rows, start=1)))


def measure_palindromes(run: RunRecord, *, data_dir: Path | None = None) -> str:
    """How many of all palindromes of its length a net gets wrong, as the text of a CSV file.

    A row before training, and one for the weights that were kept: their step, the palindromes that
    there are, those among them that batches up to this step held, and those that are classified
    wrongly. `data_dir` is not needed; every measure takes it.
    """
    nets = initial_net(run.config), load_best(initial_net(run.config), run)
    length = run.config["input_length"]
    x, y = all_palindromes(length)
    batches = PalindromeBatches(length, run.config["batch_size"], run.config["seed"])
    rows = []
    for net, step in zip(nets, (0, run.result["best_step"]), strict=True):
        with torch.no_grad():
            wrong = int((net(x).argmax(1) != y).sum())
        rows.append((step, len(y), n_distinct(batches, step), wrong))
    return _csv("palindromes.csv", rows)


def all_palindromes(input_length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Every palindrome once, as inputs (n, T) and targets (n,), from 00... to 99...."""
    n = N_DIGITS ** half_length(input_length)
    places = N_DIGITS ** torch.arange(half_length(input_length) - 1, -1, -1)
    return unfold(torch.arange(n)[:, None] // places % N_DIGITS, input_length)


def n_distinct(batches: PalindromeBatches, steps: int) -> int:
    """How many different palindromes the first batches hold."""
    held = chain.from_iterable(map(batches.epoch, count()))
    inputs = [x for x, _ in islice(held, steps)]
    return len(torch.cat(inputs).unique(dim=0)) if inputs else 0


MEASURES = {
    "shifts.csv": measure_shifts,
    "predictions.csv": measure_predictions,
    "memory.csv": measure_memory,
    "palindromes.csv": measure_palindromes,
}


def _csv(name: str, rows: Iterable[Sequence[object]]) -> str:
    return "".join(",".join(map(str, row)) + "\n" for row in (COLUMNS[name], *rows))


def read_measure(record: Path, name: str) -> np.ndarray:
    """A file of a record, a field a column; UsageError if it is missing or broken."""
    path, columns = record / name, COLUMNS[name]
    try:
        header, *rows = path.read_text().splitlines()
        if header.split(",") != list(columns) or not rows:
            raise ValueError(f"its columns are not {', '.join(columns)}")
        return np.loadtxt(rows, delimiter=",", dtype=list(columns.items()), ndmin=1)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is missing or broken ({error})") from error


class Cost(NamedTuple):
    """Parameters, multiply-adds an image; and those of a fully connected layer in its place."""

    parameters: int
    multiply_adds: int
    dense_parameters: int
    dense_multiply_adds: int


def cnn_costs(
    channels: Sequence[int] = CHANNELS, global_pooling: bool = False
) -> dict[tuple[str, str], Cost]:
    """The cost of each of the CNN's layers, by its name and the shape of its output."""
    net = CNN(IMAGE[0], N_CLASSES, channels=channels, global_pooling=global_pooling)
    rows = layer_table(net)
    sizes = [math.prod(IMAGE), *(math.prod(map(int, row[1].split(" x "))) for row in rows)]
    return {
        tuple(row[:2]): Cost(*row[2:], (n_in + 1) * n_out, n_in * n_out)
        for row, (n_in, n_out) in zip(rows, pairwise(sizes), strict=True)
        if row[2]
    }


def mlp_costs(hidden_units: Sequence[int]) -> dict[tuple[str, str], Cost]:
    """The same of an MLP on CIFAR-10."""
    return {
        (f"linear {n_in} -> {n_out}", f"{n_out}"): Cost(*((n_in + 1) * n_out, n_in * n_out) * 2)
        for n_in, n_out in pairwise([math.prod(IMAGE), *hidden_units, N_CLASSES])
    }


def total(costs: Iterable[Cost]) -> Cost:
    """The sums of all columns."""
    return Cost(*map(sum, zip(*costs, strict=True)))
