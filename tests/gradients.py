"""Central differences, and how far two gradients are apart."""

from collections.abc import Callable

import numpy as np

STEP = 1e-5  # near the cube root of float64's rounding, where the difference is most exact


def central_difference(loss: Callable[[], float], array: np.ndarray) -> np.ndarray:
    """d loss / d array, entry by entry; `loss` reads the array, which is changed and restored."""
    gradient = np.empty_like(array)
    for index in np.ndindex(array.shape):
        value = array[index]
        array[index] = value + STEP
        above = loss()
        array[index] = value - STEP
        below = loss()
        array[index] = value
        gradient[index] = (above - below) / (2 * STEP)
    return gradient


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    """|a - b| / (|a| + |b|) in the Euclidean norm."""
    return float(np.linalg.norm(a - b) / (np.linalg.norm(a) + np.linalg.norm(b)))
