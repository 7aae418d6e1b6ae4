"""The run folder: config.json, history.csv, result.json and the checkpoint.

Each file is written atomically: a temporary file replaces the old one in one step. A checkpoint is
a nested dict. NumPy's arrays go into an .npz file, which is read with allow_pickle=False, tensors
into a .pt file, which is read with weights_only=True; so a foreign checkpoint cannot run code.
"""

import io
import json
import os
import pickle
import re
import warnings
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows, where a run folder is not locked
    fcntl = None

import numpy as np

from training import UsageError

HISTORY_COLUMNS = (
    "step", "epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy",
    "test_loss", "test_accuracy", "learning_rate", "seconds",
)  # fmt: skip
RESULT_KEYS = (
    "test_accuracy", "test_loss", "val_accuracy", "val_loss", "best_epoch", "best_step", "epochs",
    "steps", "seconds", "seed", "parameters", "stopped_by",
)  # fmt: skip
IDENTIFYING_FLAGS = ("model", "dataset", "recipe", "seed")  # named first where runs differ
CONFIG, HISTORY, RESULT = "config.json", "history.csv", "result.json"
CHECKPOINTS = ("checkpoint.npz", "checkpoint.pt")
FIGURES = (  # that a part's plot.py or predict.py draws into a run's folder
    "curves", "boundary", "confusion", "mistakes", "filters", "predictions", "lengths", "gradients",
    "trajectories",
)  # fmt: skip
FIGURE_FILE = re.compile(rf"({'|'.join(FIGURES)})\.(png|pdf|gif)|boundary_\d+\.gif")
TEMPORARY = ".part"  # suffix of a file that is being written


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file so that at any moment either the old one or the whole new one is there.

    What is no file, such as /dev/null, is written to and stays what it is; so does a link.
    """
    content = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    path = path.resolve()  # where a link points to
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class RunFolder:
    """A folder that a run writes to; `open` locks it until `close`, or this process ends."""

    def __init__(self, path: Path):
        self.path = path
        self._handle: int | None = None  # of the locked folder

    def check(self, *, resume: bool, overwrite: bool) -> "Config | None":
        """Refuse a folder that a run must not write to; change nothing.

        Returns:
            The flags of the run to resume, if there is one.

        Raises:
            UsageError: it holds a run and neither resume nor overwrite was asked for, or holds
                something else, or cannot be written, or another process trains there.
        """
        path = self.path
        if os.path.exists(path) and not path.is_dir():
            raise UsageError(f"--run_dir: {path} is a file, not a folder")
        parents = path, *path.absolute().parents
        nearest = next((p for p in parents if os.path.exists(p)), path)  # a drive may not exist
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            raise UsageError(f"--run_dir: {path} cannot be written")
        if nearest != path:
            return None
        self._lock()
        self.close()
        self._check_contents(resume=resume, overwrite=overwrite)
        config = path / CONFIG
        return read_config(config) if resume and config.is_file() else None

    def open(self, *, resume: bool, overwrite: bool) -> None:
        """Make the folder, or empty it of an earlier run, and lock it.

        Raises:
            UsageError: as `check`.
        """
        path = self.path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock()
            self._check_contents(resume=resume, overwrite=overwrite)
            for file in path.iterdir():
                earlier = file.name in (RESULT, HISTORY, *CHECKPOINTS)
                earlier = earlier or FIGURE_FILE.fullmatch(file.name)
                if file.match(f".*{TEMPORARY}") or (overwrite and earlier):
                    file.unlink()
        except (OSError, ValueError) as error:  # a ValueError: UsageError, or a zero byte in a name
            self.close()
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"--run_dir: {path} cannot be written ({error})") from error

    def _check_contents(self, *, resume: bool, overwrite: bool) -> None:
        if all(file.name.startswith(".") for file in self.path.iterdir()):
            return  # temporary files, and what a file manager leaves
        if not (self.path / CONFIG).is_file():
            raise UsageError(f"--run_dir: {self.path} holds other files and no run")
        if not (resume or overwrite):
            raise UsageError(f"--run_dir: {self.path} holds a run; give --resume or --overwrite")

    def close(self) -> None:
        """Unlock the folder."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _lock(self) -> None:
        """Lock the folder until `close` or this process's end; a UsageError if another has."""
        if fcntl is None:
            return
        self._handle = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise UsageError(f"--run_dir: another process is training in {self.path}") from error
        except OSError:
            pass  # a file system without locks

    def write_config(self, config: dict) -> None:
        """Write all flags of the run."""
        write_atomically(self.path / CONFIG, json.dumps(config, indent=2) + "\n")

    def write_history(self, rows: list[dict]) -> None:
        """Write all evaluations so far."""
        values = ([row[name] for name in HISTORY_COLUMNS] for row in rows)
        cells = ([f"{x:.7g}" if isinstance(x, float) else str(x) for x in row] for row in values)
        text = "".join(f"{','.join(row)}\n" for row in (HISTORY_COLUMNS, *cells))
        write_atomically(self.path / HISTORY, text)

    def write_result(self, result: dict) -> None:
        """Write the result; null stands for a number that is not finite."""
        finite = json.loads(json.dumps(result), parse_constant=lambda name: None)
        write_atomically(self.path / RESULT, json.dumps(finite, indent=2) + "\n")

    def result(self) -> dict | None:
        """The result, if the run has ended; a UsageError if it is broken."""
        path = self.path / RESULT
        return _read_result(path) if path.is_file() else None


class Config(dict):
    """The flags of a run; a key that is missing is a UsageError that names the file."""

    def __init__(self, path: Path, flags: dict):
        super().__init__(flags)
        self._path = path

    def __missing__(self, name: str) -> object:
        script = self.get("script", "?")
        raise UsageError(f"{self._path}: the key {name!r} is missing (script: {script})")


@dataclass(frozen=True)
class RunRecord:
    """A run read back: flags, evaluations (one array a column, NaN where empty) and result."""

    path: Path
    config: Config
    history: dict[str, np.ndarray]
    result: dict

    @property
    def checkpoint(self) -> Path | None:
        """The file with the best weights, if the run still has it."""
        return next((self.path / c for c in CHECKPOINTS if (self.path / c).is_file()), None)


def read_run(path: str | Path) -> RunRecord:
    """Read a finished run.

    Raises:
        UsageError: the folder or one of its files is missing or broken.
    """
    path = Path(path)
    if not os.path.isdir(path):  # unlike Path.is_dir, False for a name that is too long
        raise UsageError(f"{path} is not a run folder")
    config, result = read_config(path / CONFIG), _read_result(path / RESULT)
    return RunRecord(path, config, read_history(path / HISTORY), result)


def read_config(path: Path) -> Config:
    """The flags of a run.

    Raises:
        UsageError: the file is missing or broken.
    """
    config = Config(path, read_json(path))
    if not isinstance(config.get("environment"), dict | None):
        raise UsageError(f"{path} is broken: environment is of the wrong kind")
    return config


def read_history(path: Path) -> dict[str, np.ndarray]:
    """The columns of a history.csv, NaN where a cell is empty.

    Raises:
        UsageError: it is missing or broken; the row is named.
    """
    try:
        header, _, rows = path.read_text().partition("\n")
        if header != ",".join(HISTORY_COLUMNS):
            raise ValueError("line 1 does not name the columns of a history")
        if not rows.endswith("\n") or not all(map(str.strip, rows.split("\n")[:-1])):
            raise ValueError("no evaluation, a blank line, or the last line is cut off")
        values = np.loadtxt(
            io.StringIO(rows), delimiter=",", ndmin=2, comments=None,
            converters=lambda cell: float(cell or "nan"),
        )  # fmt: skip
        if values.shape[1] != len(HISTORY_COLUMNS) or np.isnan(values[:, 0]).any():
            raise ValueError("a row is not one of a history")
        if not (np.diff(values[:, 0]) > 0).all():
            raise ValueError("the step does not rise")
    except OSError as error:
        raise UsageError(f"{path} {_trouble(error)}") from error
    except ValueError as error:
        raise UsageError(f"{path} is broken: {error}") from error
    return dict(zip(HISTORY_COLUMNS, values.T, strict=True))


def _trouble(error: OSError, if_missing: str = "") -> str:
    missing = isinstance(error, FileNotFoundError)
    return f"is missing{if_missing}" if missing else f"cannot be read ({error.strerror})"


def _read_result(path: Path) -> dict:
    result = read_json(path)
    for name in RESULT_KEYS:
        number = int | float | None if name.endswith("_loss") else int | float  # None: not finite
        if not isinstance(result.get(name, ...), str if name == "stopped_by" else number):
            raise UsageError(f"{path} is broken: {name} is missing or of the wrong kind")
    return result


def read_json(path: Path) -> dict:
    """A file that holds one JSON object.

    Raises:
        UsageError: it is missing or broken.
    """
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        why = _trouble(error, ": no run, or one that has not ended")
        raise UsageError(f"{path} {why}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is broken ({error})") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} is broken (not an object)")
    return content


def save_checkpoint(path: Path, state: dict) -> None:
    """Write a state; the file's ending chooses the format."""
    buffer = io.BytesIO()
    if path.suffix == ".npz":
        np.savez(buffer, **_flatten(state))
    else:
        import torch

        torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


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
            warnings.simplefilter("ignore")  # PyTorch's, about a foreign file
            state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise ValueError("not a state")
        return state
    except Exception as error:  # a broken file can raise nearly anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, pickle.UnpicklingError):
            reason = "it holds more than tensors and plain values"
        raise UsageError(f"{path}: broken or foreign checkpoint ({reason})") from error


def load_best(net: Any, run: RunRecord) -> Any:
    """Give a net, by its `load_state_dict`, the weights of the run's best evaluation; return it.

    Raises:
        UsageError: they are gone, broken, or not those of such a net.
    """
    if not run.checkpoint:
        raise UsageError(f"{run.path} has not kept its weights: there is no checkpoint")
    state = load_checkpoint(run.checkpoint)
    try:
        net.load_state_dict(state["best"])
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{run.checkpoint}: not the weights of this run") from error
    return net


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
        *outer, name = path.split("/")
        inner = reduce(lambda part, key: part.setdefault(key, {}), outer, state)
        inner[name] = str(value) if value.dtype.kind == "U" else value
    return state
