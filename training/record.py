"""The run folder: config.json, history.csv, result.json and the checkpoint, each written whole."""

import contextlib
import csv
import io
import json
import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where a run folder is not locked
    fcntl = None

import numpy as np

from training.errors import UsageError

HISTORY_COLUMNS = (
    "step", "epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy",
    "test_loss", "test_accuracy", "learning_rate", "seconds",
)  # fmt: skip
RESULT_NUMBERS = (
    "test_accuracy", "test_loss", "best_epoch", "epochs", "steps", "seconds", "seed", "parameters",
)  # fmt: skip
CONFIG, HISTORY, RESULT = "config.json", "history.csv", "result.json"
CHECKPOINTS = ("checkpoint.npz", "checkpoint.pt")
SCRAP = ".part"  # how a file is called while it is being written
# What may differ between a run and its resumption without changing a single weight.
FREE_TO_CHANGE = frozenset(
    {"run_dir", "resume", "overwrite", "quiet", "data_dir", "cifar10_url", "checkpoint_seconds"}
)


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file so that at any moment either the old one or the whole new one is there."""
    content = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=SCRAP)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):  # its folder may have vanished
            os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


class RunFolder:
    """A folder being written by a run; `open` keeps other processes out until this one ends."""

    def __init__(self, path: Path):
        self.path = path
        self._lock: int | None = None

    def check(self, config: dict, *, resume: bool, overwrite: bool) -> None:
        """Refuse a folder that a run of this configuration must not write to; change nothing.

        Raises:
            UsageError: it holds a run and neither resume nor overwrite was asked for, or holds
                another run than the one to resume, or something else, or cannot be written, or
                another process trains there.
        """
        path = self.path
        try:
            if path.exists() and not path.is_dir():
                raise UsageError(f"--run_dir: {path} is a file, not a folder")
            nearest = next(p for p in (path, *path.absolute().parents) if p.exists())
        except (OSError, ValueError) as error:  # too long a name, or one with a zero byte
            raise UsageError(f"--run_dir: {path} cannot be a folder ({error})") from error
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            raise UsageError(f"--run_dir: {path} cannot be written")
        if path.is_dir():
            _unlock(_locked(path))
            _check_contents(path, config, resume=resume, overwrite=overwrite)

    def open(self, config: dict, *, resume: bool, overwrite: bool) -> None:
        """Make the folder, or empty it of an earlier run, and lock it.

        Raises:
            UsageError: as `check`.
        """
        path = self.path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(path)
            _check_contents(path, config, resume=resume, overwrite=overwrite)
            for scrap in path.glob(f".*{SCRAP}"):  # of a process that was killed while writing
                scrap.unlink()
            if not resume:
                for name in (RESULT, HISTORY, *CHECKPOINTS):
                    (path / name).unlink(missing_ok=True)
            write_whole(path / CONFIG, json.dumps(config, indent=2) + "\n")
        except OSError as error:
            self.close()
            raise UsageError(f"--run_dir: {path} cannot be written ({error.strerror})") from error
        except UsageError:
            self.close()
            raise

    def close(self) -> None:
        """Let other processes in."""
        _unlock(self._lock)
        self._lock = None

    def write_history(self, rows: list[dict]) -> None:
        """Write all evaluations so far; a missing or None value leaves its cell empty."""
        text = io.StringIO()
        writer = csv.DictWriter(text, HISTORY_COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(row.get(name)) for name in HISTORY_COLUMNS})
        write_whole(self.path / HISTORY, text.getvalue())

    def write_result(self, result: dict) -> None:
        """Write the numbers that the run is judged by; null for one that is not finite."""
        finite = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in result.items()
        }
        write_whole(self.path / RESULT, json.dumps(finite, indent=2, allow_nan=False) + "\n")

    def result(self) -> dict | None:
        """The result, if the run has ended.

        Raises:
            UsageError: it is broken.
        """
        path = self.path / RESULT
        return _read_result(path) if path.is_file() else None


def _locked(folder: Path) -> int | None:
    """A lock on a folder, which ends with the process at the latest.

    Raises:
        UsageError: another process has it.
    """
    if fcntl is None:
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise UsageError(f"--run_dir: another process is training in {folder}") from error
    except OSError:
        pass  # a file system that knows no locks
    return handle


def _unlock(handle: int | None) -> None:
    if handle is not None:
        os.close(handle)


def _check_contents(path: Path, config: dict, *, resume: bool, overwrite: bool) -> None:
    if all(file.name.endswith(SCRAP) for file in path.iterdir()):
        return
    if not (path / CONFIG).is_file():
        raise UsageError(f"--run_dir: {path} holds other files and no run; name another folder")
    if resume:
        _check_same_run(path, config)
    elif not overwrite:
        raise UsageError(f"--run_dir: {path} holds a run; give --resume or --overwrite")


def _cell(value: float | int | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.7g}"


TELLING = ("model", "dataset", "recipe", "seed")  # what differs first says it best


def _check_same_run(path: Path, config: dict) -> None:
    earlier = read_json(path / CONFIG)
    for name in sorted(config, key=lambda name: name not in TELLING):
        if name not in FREE_TO_CHANGE and earlier.get(name) != config[name]:
            raise UsageError(
                f"--{name}: {path} holds a run with {earlier.get(name)}, "
                f"which cannot be resumed with {config[name]}"
            )


@dataclass(frozen=True)
class RunRecord:
    """A run read back: flags, evaluations (one array a column, NaN where empty) and result."""

    path: Path
    config: dict
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
    try:
        present = path.is_dir()
    except OSError as error:  # too long a name
        raise UsageError(f"{path} cannot be a run folder ({error.strerror})") from error
    if not present:
        raise UsageError(f"{path} is not a run folder")
    config, result = read_json(path / CONFIG), _read_result(path / RESULT)
    return RunRecord(path, config, read_history(path / HISTORY), result)


def read_history(path: Path) -> dict[str, np.ndarray]:
    """The columns of a history.csv, NaN where a cell is empty.

    Raises:
        UsageError: it is missing or broken; the line is named.
    """
    try:
        header, *lines = path.read_text().split("\n")
    except OSError as error:
        raise UsageError(f"{path} is missing") from error
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise UsageError(f"{path} is broken in line {line}: not text") from error
    if tuple(header.split(",")) != HISTORY_COLUMNS:
        raise UsageError(f"{path} is broken in line 1: not the columns of a history")
    if lines[-1:] != [""]:
        raise UsageError(f"{path} is broken in line {len(lines) + 1}: it is cut off")
    rows = []
    for number, line in enumerate(lines[:-1], start=2):
        try:
            row = [float(cell) if cell else math.nan for cell in line.split(",")]
        except ValueError as error:
            raise UsageError(f"{path} is broken in line {number}: {error}") from error
        if len(row) != len(HISTORY_COLUMNS):
            raise UsageError(f"{path} is broken in line {number}: {len(row)} cells")
        if not row[0] > (rows[-1][0] if rows else -1):
            raise UsageError(f"{path} is broken in line {number}: the step does not rise")
        rows.append(row)
    if not rows:
        raise UsageError(f"{path} holds no evaluation")
    return dict(zip(HISTORY_COLUMNS, np.array(rows).T, strict=True))


def _read_result(path: Path) -> dict:
    result = read_json(path)
    for name in RESULT_NUMBERS:
        if not isinstance(result.get(name, ""), int | float | None):
            raise UsageError(f"{path} is broken: {name} is not a number")
    if not isinstance(result.get("stopped_by"), str):
        raise UsageError(f"{path} is broken: stopped_by is missing")
    return result


def read_json(path: Path) -> dict:
    """A file that holds one JSON object.

    Raises:
        UsageError: it is missing or broken.
    """
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"{path} is missing: no run, or one that has not ended") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is broken ({error})") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} is broken (not an object)")
    return content
