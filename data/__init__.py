"""Every data set of the coursework, behind one door: `load_dataset`."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data import cifar10, toy
from data.errors import DataError

__all__ = ["DATASETS", "SPLITS", "DataError", "Dataset", "load_dataset"]

SPLITS = ("train", "val", "test")
DATASETS = (*toy.NAMES, "cifar10")
TOY_VALIDATION_SHARE = 0.2  # of all samples; the test share is the same
MOST_TRAIN_EVALUATED = 5000  # training samples, not augmented: as many as validate for CIFAR-10
CIFAR10_VALIDATION_SHARE = 0.1  # of the training set: 5,000 of 50,000


@dataclass(frozen=True)
class Dataset:
    """Three splits of one data set.

    The x arrays are float64 points of shape (N, 2), or uint8 images of shape (N, 3, 32, 32);
    the y arrays are int64 labels of shape (N,).
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    class_names: tuple[str, ...]

    @property
    def n_inputs(self) -> int:
        """Numbers in one sample, flattened."""
        return int(np.prod(self.x_train.shape[1:]))

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def split(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The x and y arrays of `train`, `val` or `test`."""
        return getattr(self, f"x_{name}"), getattr(self, f"y_{name}")

    def evaluated(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """What a run is judged on, by split: of the training samples the first 5,000 at most."""
        splits = {name: self.split(name) for name in SPLITS}
        splits["train"] = tuple(array[:MOST_TRAIN_EVALUATED] for array in splits["train"])
        return splits

    def head(self, n: int) -> "Dataset":
        """The first n samples of every split."""
        arrays = {f"{a}_{s}": getattr(self, f"{a}_{s}")[:n] for a in "xy" for s in SPLITS}
        return replace(self, **arrays)


def load_dataset(
    name: str,
    *,
    seed: int = 0,
    n_samples: int | None = None,
    noise: float | None = None,
    data_dir: str | Path | None = None,
    cifar10_url: str | None = None,
    check_md5: bool = True,
) -> Dataset:
    """Load a data set and split off what training must not see.

    Args:
        name: `moons`, `circles` or `cifar10`.
        seed: draws the toy sets; chooses which training images of CIFAR-10 become validation.
        n_samples: toy sets: samples in all, of which 60 % train, 20 % validate and 20 % test
            (default 5000). CIFAR-10: keep this many training images, validation included
            (default all); the test set stays whole.
        noise: toy sets: standard deviation of the Gaussian noise (default 0.2 for moons, 0.1 for
            circles). CIFAR-10 has none.
        data_dir: CIFAR-10: the folder to read it from, see `data.cifar10.load_cifar10`.
        cifar10_url: CIFAR-10: a mirror of the archive.
        check_md5: CIFAR-10: refuse anything but the published files.

    Raises:
        DataError: an unknown name, an argument out of range, or data that is missing or broken.
    """
    if name not in DATASETS:
        raise DataError(f"--dataset: {name!r} is unknown; choose from {', '.join(DATASETS)}")
    if name == "cifar10":
        if noise is not None:
            raise DataError("--noise is for moons and circles; CIFAR-10 takes none")
        return _cifar10(seed, n_samples, data_dir, cifar10_url, check_md5)
    points, labels = toy.make_toy(
        name,
        seed=seed,
        n_samples=toy.DEFAULT_SAMPLES if n_samples is None else n_samples,
        noise=toy.DEFAULT_NOISE[name] if noise is None else noise,
    )
    held_out = int(len(points) * TOY_VALIDATION_SHARE)
    bounds = [len(points) - 2 * held_out, len(points) - held_out]
    x, y = np.split(points, bounds), np.split(labels, bounds)
    classes = ("outer", "inner") if name == "circles" else ("upper", "lower")
    return Dataset(name, x[0], y[0], x[1], y[1], x[2], y[2], classes)


def _cifar10(seed, n_samples, data_dir, url, check_md5) -> Dataset:
    x, y, x_test, y_test = cifar10.load_cifar10(data_dir, url=url, check_md5=check_md5)
    if n_samples is not None and not 10 <= n_samples <= len(x):
        raise DataError(f"--n_samples: {n_samples} is out of range, choose from 10 to {len(x)}")
    order = np.random.default_rng(seed).permutation(len(x))[:n_samples]
    n_val = max(1, int(len(order) * CIFAR10_VALIDATION_SHARE))
    val, train = order[:n_val], order[n_val:]
    return Dataset(
        "cifar10", x[train], y[train], x[val], y[val], x_test, y_test, cifar10.CLASS_NAMES
    )
