"""Moons and circles: two-class problems in the plane, with the best accuracy anyone can reach."""

import functools

import numpy as np

from data.errors import DataError

NAMES = ("moons", "circles")
DEFAULT_NOISE = {"moons": 0.2, "circles": 0.1}
CIRCLES_FACTOR = 0.5  # radius of the inner circle, that of the outer being 1
DEFAULT_SAMPLES = 5000
MINIMUM_SAMPLES = 10


def make_toy(
    name: str, *, seed: int, n_samples: int, noise: float
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a toy set with scikit-learn.

    Returns:
        points, float64 of shape (n_samples, 2), and labels, int64 of shape (n_samples,), shuffled.

    Raises:
        DataError: fewer than 10 samples, or a noise that is negative or not finite.
    """
    if n_samples < MINIMUM_SAMPLES:
        raise DataError(f"--n_samples: {n_samples} is too few, {name} needs 10 or more")
    if not 0 <= noise < np.inf:
        raise DataError(f"--noise: {noise} must be a finite number, 0 or more")
    from sklearn.datasets import make_circles, make_moons  # slow, and CIFAR-10 needs none of it

    if name == "moons":
        points, labels = make_moons(n_samples, noise=noise, random_state=seed)
    else:
        points, labels = make_circles(
            n_samples, noise=noise, factor=CIRCLES_FACTOR, random_state=seed
        )
    return points, labels.astype(np.int64)


def _noiseless_curves(name: str, n_points: int) -> tuple[np.ndarray, np.ndarray]:
    """Evenly spaced points, each (n_points, 2), on the two curves that noise is added to."""
    if name == "moons":
        t = np.linspace(0, np.pi, n_points)
        return (
            np.column_stack([np.cos(t), np.sin(t)]),
            np.column_stack([1 - np.cos(t), 0.5 - np.sin(t)]),
        )
    t = np.linspace(0, 2 * np.pi, n_points, endpoint=False)
    circle = np.column_stack([np.cos(t), np.sin(t)])
    return circle, CIRCLES_FACTOR * circle


@functools.lru_cache(maxsize=16)  # takes seconds, and every figure and table asks for it
def bayes_accuracy(
    name: str, noise: float, *, n_samples: int = 100_000, n_points: int = 300, seed: int = 0
) -> float:
    """Estimate the accuracy of the best possible classifier, which knows both densities.

    A class is a curve plus Gaussian noise, so its density at x is the mean over the curve of
    exp(-|x - c|^2 / (2 noise^2)), up to a factor that both classes share (Bayes decision rule,
    Bishop, Pattern Recognition and Machine Learning, 1.5.1). The classifier is scored on
    `n_samples` fresh points; the standard error is sqrt(p (1 - p) / n_samples), below 0.0007.
    """
    points, labels = make_toy(name, seed=seed, n_samples=n_samples, noise=noise)
    if noise == 0:
        return 1.0
    curves = _noiseless_curves(name, n_points)
    correct = 0
    for chunk in np.array_split(np.arange(n_samples), max(1, n_samples // 2000)):
        squared_distances = np.stack(  # (2, chunk, n_points)
            [
                (points[chunk] ** 2).sum(1)[:, None]
                - 2 * points[chunk] @ curve.T
                + (curve**2).sum(1)
                for curve in curves
            ]
        )
        # Less the nearest, which both densities share as a factor: with little noise they vanish.
        nearest = squared_distances.min((0, 2))[:, None]
        densities = np.exp((nearest - squared_distances) / (2 * noise**2)).mean(2)
        correct += int(((densities[1] > densities[0]) == labels[chunk]).sum())
    return correct / n_samples
