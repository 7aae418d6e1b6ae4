"""Moons and circles: two-class problems in the plane, and their Bayes accuracy."""

import functools
from typing import Any

import numpy as np

from data import DataError

DEFAULT_NOISE = {"moons": 0.2, "circles": 0.1}
DEFAULT_FACTOR = 0.5  # of circles
DEFAULT_SAMPLES = 5000


def make_toy(
    name: str, *, seed: int, n_samples: int | None, noise: float | None, factor: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a toy set with scikit-learn; the arguments are those of `load_dataset`.

    Returns:
        points, float64 of shape (n_samples, 2), and labels, int64 of shape (n_samples,), shuffled.

    Raises:
        DataError: fewer than 10 samples, a noise that is negative or not finite, a factor that is
            not between 0 and 1, or a factor for moons.
    """
    n_samples = DEFAULT_SAMPLES if n_samples is None else n_samples
    noise = DEFAULT_NOISE[name] if noise is None else noise
    if n_samples < 10:
        raise DataError(f"--n_samples: {n_samples} is too few, {name} needs 10 or more")
    if not 0 <= noise < np.inf:
        raise DataError(f"--noise: {noise} must be a finite number, 0 or more")
    if factor is not None and name != "circles":
        raise DataError(f"--factor is for circles; {name} takes none")
    if factor is not None and not 0 < factor < 1:
        raise DataError(f"--factor: {factor} must be above 0 and below 1")
    points, labels = _generate(name, n_samples, factor, noise=noise, random_state=seed)
    return points, labels.astype(np.int64)


def _generate(
    name: str, n_samples: int, factor: float | None, **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import make_circles, make_moons  # slow to import

    if name == "moons":
        return make_moons(n_samples, **options)
    factor = DEFAULT_FACTOR if factor is None else factor
    return make_circles(n_samples, factor=factor, **options)


@functools.lru_cache(maxsize=16)
def bayes_accuracy(name: str, noise: float, *, factor: float | None = None) -> float:
    """The Bayes accuracy by numerical integration, to four decimals.

    No classifier does better than the one that chooses the class of the higher density (Bishop,
    Pattern Recognition and Machine Learning, 1.5.1). Its accuracy is half the integral of the
    larger of the two densities. A class is a curve plus Gaussian noise, so its density is a mean
    over the points c of the curve of exp(-(x - c_x)^2 / (2 noise^2)) times the same in y: on a
    grid, a product of two matrices.

    Raises:
        ValueError: the noise is not 0, and too small for the grid.
    """
    if noise == 0:
        return 1.0
    if noise < 0.01:
        raise ValueError(f"a noise of {noise} is below 0.01")
    curves = np.split(_generate(name, DEFAULT_SAMPLES, factor, shuffle=False)[0], 2)
    low, high = np.min(curves, (0, 1)) - 6 * noise, np.max(curves, (0, 1)) + 6 * noise
    x, y = (np.arange(a, b, noise / 8) for a, b in zip(low, high, strict=True))
    densities = [
        np.exp(-((x[:, None] - c_x) ** 2) / (2 * noise**2))
        @ np.exp(-((y - c_y[:, None]) ** 2) / (2 * noise**2))
        for c_x, c_y in (curve.T for curve in curves)
    ]
    return float(np.maximum(*densities).sum() / np.sum(densities))
