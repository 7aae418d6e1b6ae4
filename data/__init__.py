"""Every data set of the coursework, by name: `load_dataset`."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np


class DataError(ValueError):
    """Missing, broken or contradictory data, or a request that no data set can serve."""


SPLITS = ("train", "val", "test")
LARGEST_SEED = 2**32 - 1  # that scikit-learn takes
DATASETS = ("moons", "circles", "cifar10")
CLASS_NAMES = (  # of CIFAR-10
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
TOY_VALIDATION_SHARE = 0.2  # of all samples; the test share is the same
MAX_TRAIN_EVALUATED = 5000  # training samples, as many as CIFAR-10's validation set has
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
        """What a net is evaluated on, by split; of the training samples at most the first 5,000."""
        splits = {name: self.split(name) for name in SPLITS}
        splits["train"] = tuple(array[:MAX_TRAIN_EVALUATED] for array in splits["train"])
        return splits

    def validated_on_test(self) -> "Dataset":
        """The test samples also validate; the validation samples join those for training."""
        x = np.concatenate([self.x_train, self.x_val])
        y = np.concatenate([self.y_train, self.y_val])
        return replace(self, x_train=x, y_train=y, x_val=self.x_test, y_val=self.y_test)

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
    factor: float | None = None,
    data_dir: str | Path | None = None,
    cifar10_url: str | None = None,
) -> Dataset:
    """Load a data set and split it into training, validation and test samples.

    Args:
        name: `moons`, `circles` or `cifar10`.
        seed: draws the toy sets; chooses which training images of CIFAR-10 are kept, and
            which of them validate.
        n_samples: toy sets: samples in all (default 5000), 60 % to train, 20 % to validate and
            20 % to test on. CIFAR-10: training images to keep, validation included, and at most as
            many test images, the same for every seed (default all).
        noise: toy sets: standard deviation of the Gaussian noise (default: moons 0.2, circles 0.1).
        factor: circles: radius of the inner circle, that of the outer being 1 (default 0.5).
        data_dir, cifar10_url: CIFAR-10: where to read it, see `data.cifar10.load_cifar10`.

    Raises:
        DataError: an unknown name, an argument out of range, or data that is missing or broken.
    """
    if name not in DATASETS:
        raise DataError(f"--dataset: {name!r} is unknown; choose from {', '.join(DATASETS)}")
    if not 0 <= seed <= LARGEST_SEED:
        raise DataError(f"--seed: {seed} is out of range, choose from 0 to {LARGEST_SEED}")
    if name == "cifar10":
        if noise is not None:
            raise DataError("--noise is for moons and circles; CIFAR-10 takes none")
        if factor is not None:
            raise DataError("--factor is for circles; CIFAR-10 takes none")
        return _cifar10(seed, n_samples, data_dir, cifar10_url)
    from data import toy  # here, as below: each data set imports no more than it needs

    points, labels = toy.make_toy(name, seed=seed, n_samples=n_samples, noise=noise, factor=factor)
    held_out = int(len(points) * TOY_VALIDATION_SHARE)
    bounds = [len(points) - 2 * held_out, len(points) - held_out]
    x, y = np.split(points, bounds), np.split(labels, bounds)
    classes = ("outer", "inner") if name == "circles" else ("upper", "lower")
    return Dataset(name, x[0], y[0], x[1], y[1], x[2], y[2], classes)


def _cifar10(seed: int, n_samples: int | None, data_dir, url: str | None) -> Dataset:
    from data import cifar10

    x, y, x_test, y_test = cifar10.load_cifar10(data_dir, url=url)
    if n_samples is not None and not 10 <= n_samples <= len(x):
        raise DataError(f"--n_samples: {n_samples} is out of range, choose from 10 to {len(x)}")
    order = np.random.default_rng(seed).permutation(len(x))[:n_samples]
    n_val = max(1, int(len(order) * CIFAR10_VALIDATION_SHARE))
    val, train = order[:n_val], order[n_val:]
    if n_samples is not None:  # at random: image folders are read class by class
        test = np.sort(np.random.default_rng(0).permutation(len(x_test))[:n_samples])
        x_test, y_test = x_test[test], y_test[test]
    arrays = x[train], y[train], x[val], y[val], x_test, y_test
    return Dataset("cifar10", *arrays, CLASS_NAMES)
