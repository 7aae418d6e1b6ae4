"""What a graded test demands of a value that a submission has computed, in words for a student."""

from collections.abc import Sequence

import numpy as np

MAX_VALUES = 6  # of an array that are shown


class Wrong(AssertionError):
    """A value is not what was asked for."""


def demand(holds: object, message: str) -> None:
    """Fail with that message unless the condition holds."""
    if not holds:
        raise Wrong(message)


def numbers(got: object, what: str, shape: Sequence[int] | None = None) -> np.ndarray:
    """A value as an array of float64 of that shape.

    Raises:
        Wrong: if it is none.
    """
    if isinstance(got, bool | int | float | np.ndarray):
        got = np.asarray(got)
    elif isinstance(got, list) and got:
        try:
            got = np.array(got, dtype=np.float64)
        except (ValueError, TypeError):
            raise Wrong(f"{what}: expected an array, got a list") from None
    else:
        raise Wrong(
            f"{what}: expected {'a number' if shape == () else 'an array'}, got {_kind(got)}"
        )
    if shape is not None and got.shape != tuple(shape):
        raise Wrong(f"{what}: expected the shape {tuple(shape)}, got {got.shape}")
    return got.astype(np.float64)


def close(
    got: object, expected: object, what: str, *, rtol: float = 1e-4, atol: float = 1e-5
) -> None:
    """Fail unless all numbers agree to that precision, by default one that float32 has."""
    expected = np.asarray(expected, dtype=np.float64)
    got = numbers(got, what, expected.shape)
    wrong = ~np.isclose(got, expected, rtol=rtol, atol=atol)
    if not wrong.any():
        return
    worst = np.where(wrong, np.nan_to_num(abs(got - expected), nan=np.inf), -1)
    index = np.unravel_index(worst.argmax(), worst.shape)
    lines = [f"{what}: wrong"]
    if got.size > 1:
        at = ", ".join(map(str, index))
        lines[0] += f" in {wrong.sum()} of {wrong.size} places, most at [{at}]"
    lines += [f"expected {expected[index]:.6g}, got {got[index]:.6g}"]
    if 1 < got.size <= MAX_VALUES:
        lines += [f"expected all of {_short(expected)}", f"got {_short(got)}"]
    elif got.size > 1:
        lines += [f"the array has the shape {got.shape}"]
    raise Wrong("\n".join(lines))


def equal(got: object, expected: object, what: str) -> None:
    """Fail unless they are the same plain values."""
    demand(
        type(got) is type(expected) and got == expected, f"{what}: expected {expected}, got {got}"
    )


def _kind(value: object) -> str:
    if value is None:
        return "None"
    return f"a {type(value).__name__}" if isinstance(value, str | dict | list) else "an object"


def _short(array: np.ndarray) -> str:
    return np.array2string(array, precision=4, separator=", ").replace("\n", "")
