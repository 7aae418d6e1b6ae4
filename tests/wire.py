"""Messages between the grader and the process that runs a submission: JSON, then raw arrays.

No pickle: whatever bytes a submission sends, decoding them yields numbers, texts, arrays, lists and
dicts, or a `WireError`. An object that stays where it is travels as its number, an `Ref`.

A message is three things in a row: two lengths, JSON that tells the structure of the value and the
dtypes and shapes of its arrays, and the arrays' bytes.
"""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

LENGTHS = struct.Struct("<QQ")  # bytes of the JSON, bytes of all arrays
MAX_JSON, MAX_ARRAYS = 2**24, 2**26  # bytes
MAX_AXES = 32  # of an array
DTYPES = {np.dtype(name).str for name in np.typecodes["AllInteger"] + "?efd"}


class WireError(Exception):
    """The bytes are no message."""


@dataclass(frozen=True)
class Ref:
    """An object in the other process, by number."""

    number: int


@dataclass(frozen=True)
class Tensor:
    """An array that becomes a PyTorch tensor in the process of the submission."""

    array: np.ndarray


def encode(value: object, keep: Callable[[object], object] | None = None) -> bytes:
    """The bytes of a message.

    Args:
        value: None, a bool, a number, a text, an array, a `Tensor`, a `Ref`, or lists, tuples and
            dicts of them.
        keep: turns any other object into one of these; without it they are refused.

    Raises:
        TypeError: for an object that cannot travel.
    """
    arrays: list[np.ndarray] = []

    def plain(value: object, depth: int = 0) -> object:
        if depth > 50:
            raise TypeError("nested too deeply to be sent")
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, int | float) and type(value) in (int, float):
            return value
        if isinstance(value, np.generic):
            return plain(np.asarray(value), depth)
        if isinstance(value, np.ndarray) and value.dtype.str in DTYPES:
            arrays.append(np.ascontiguousarray(value).reshape(value.shape))
            return {"array": len(arrays) - 1}
        if isinstance(value, Tensor):
            return {"tensor": plain(value.array)["array"]}
        if isinstance(value, Ref):
            return {"ref": value.number}
        if type(value) is list or isinstance(value, tuple):
            return {"list": [plain(each, depth + 1) for each in value]}
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return {"dict": {str(key): plain(each, depth + 1) for key, each in value.items()}}
        if keep is None:
            raise TypeError(f"a {type(value).__name__} cannot be sent")
        return plain(keep(value), depth + 1)

    head = {"value": plain(value), "arrays": [[a.dtype.str, list(a.shape)] for a in arrays]}
    text = json.dumps(head).encode()
    raw = [memoryview(array.reshape(-1)).cast("B") if array.size else b"" for array in arrays]
    return b"".join([LENGTHS.pack(len(text), sum(map(len, raw))), text, *raw])


def decode(read: Callable[[int], bytes]) -> object:
    """The value of the message that `read`, called with numbers of bytes, returns.

    Raises:
        WireError: if it is none, or larger than allowed.
    """
    n_text, n_raw = LENGTHS.unpack(read(LENGTHS.size))
    if n_text > MAX_JSON or n_raw > MAX_ARRAYS:
        raise WireError("a message that is too large")
    text, raw = read(n_text), read(n_raw)
    try:
        head = json.loads(text)
        arrays, begin = [], 0
        for dtype, shape in head["arrays"]:
            if dtype not in DTYPES or not _is_shape(shape):
                raise WireError("an array of a wrong dtype or shape")
            end = begin + np.dtype(dtype).itemsize * prod(shape)
            arrays.append(np.frombuffer(raw[begin:end], dtype).reshape(shape).copy())
            begin = end
        return _value(head["value"], arrays)
    except WireError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise WireError(f"a message that cannot be read ({type(error).__name__})") from error


def _is_shape(shape: object) -> bool:
    """Small enough, too, for the product of its numbers to be computed at once."""
    return (
        isinstance(shape, list)
        and len(shape) <= MAX_AXES
        and all(type(n) is int and 0 <= n <= MAX_ARRAYS for n in shape)
    )


def _value(plain: object, arrays: list[np.ndarray]) -> object:
    if not isinstance(plain, dict):
        if isinstance(plain, list):
            raise WireError("a list without its name")
        return plain
    ((kind, content),) = plain.items()
    match kind:
        case "array":
            return arrays[content]
        case "tensor":
            return Tensor(arrays[content])
        case "ref":
            return Ref(int(content))
        case "list":
            return [_value(each, arrays) for each in content]
        case "dict":
            return {key: _value(each, arrays) for key, each in content.items()}
    raise WireError(f"a value of kind {kind!r}")
