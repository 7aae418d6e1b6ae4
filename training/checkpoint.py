"""Saving and loading what a run needs to go on: weights, optimiser state, where it was.

A state is a nested dict. The NumPy learner's leaves are arrays and strings and go into an .npz
file, read with allow_pickle=False; a PyTorch learner's go into a .pt file, read with
weights_only=True. So a foreign checkpoint cannot run code.
"""

import io
import pickle
import warnings
from pathlib import Path
from typing import Protocol

import numpy as np

from training.errors import UsageError
from training.record import RunRecord, write_whole


def save_checkpoint(path: Path, state: dict) -> None:
    """Write the state; the file's ending chooses the format."""
    buffer = io.BytesIO()
    if path.suffix == ".npz":
        np.savez(buffer, **_flatten(state))
    else:
        import torch

        torch.save(state, buffer)
    write_whole(path, buffer.getvalue())


def load_checkpoint(path: Path) -> dict:
    """Read a state back, onto the CPU.

    Raises:
        UsageError: the file is broken, or holds anything but arrays, tensors and plain values.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return _unflatten({name: arrays[name] for name in arrays.files})
        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what PyTorch finds odd about a foreign file
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UsageError(
            f"{path}: broken or foreign checkpoint (it holds more than tensors and plain values)"
        ) from error
    except Exception as error:  # a broken file can raise nearly anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"{path}: broken or foreign checkpoint ({reason})") from error
    if not isinstance(state, dict):
        raise UsageError(f"{path}: broken or foreign checkpoint (not a state)")
    return state


class Loadable(Protocol):
    """A net that takes weights by name."""

    def load_state_dict(self, state: dict) -> object:
        """Take these weights."""


def load_best(net: Loadable, run: RunRecord, whose: str = "this run") -> None:
    """Give the net the weights of the run's best evaluation.

    Raises:
        UsageError: they are gone, broken, or not those of such a net (of `whose`).
    """
    if not run.checkpoint:
        raise UsageError(f"{run.path} has not kept its weights: there is no checkpoint")
    state = load_checkpoint(run.checkpoint)
    try:
        net.load_state_dict(state["best"])
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{run.checkpoint}: not the weights of {whose}") from error


def _flatten(state: dict, prefix: str = "") -> dict[str, np.ndarray]:
    flat = {}
    for key, value in state.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}/")
        else:
            flat[prefix + key] = np.asarray(value)
    return flat


def _unflatten(flat: dict[str, np.ndarray]) -> dict:
    state: dict = {}
    for path, value in flat.items():
        *folders, name = path.split("/")
        place = state
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = str(value) if value.dtype.kind == "U" else value
    return state
