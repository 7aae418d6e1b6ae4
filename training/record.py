"""The run folder: config.json, history.csv, result.json and the checkpoint, each written whole."""

import csv
import io
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.errors import UsageError

HISTORY_COLUMNS = (
    "step", "epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy",
    "test_loss", "test_accuracy", "learning_rate", "seconds",
)  # fmt: skip
CONFIG, HISTORY, RESULT = "config.json", "history.csv", "result.json"
CHECKPOINTS = ("checkpoint.npz", "checkpoint.pt")
# What may differ between a run and its resumption without changing a single weight.
FREE_TO_CHANGE = frozenset(
    {"run_dir", "resume", "overwrite", "quiet", "data_dir", "cifar10_url", "checkpoint_seconds"}
)


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file so that at any moment either the old one or the whole new one is there."""
    content = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


class RunFolder:
    """A folder being written by a run."""

    def __init__(self, path: Path):
        self.path = path

    @classmethod
    def check(cls, path: Path, config: dict, *, resume: bool, overwrite: bool) -> None:
        """Refuse a folder that a run of this configuration must not write to; change nothing.

        Raises:
            UsageError: it holds a run and neither resume nor overwrite was asked for, or holds
                another run than the one to resume, or something else, or cannot be written.
        """
        if path.exists() and not path.is_dir():
            raise UsageError(f"--run_dir: {path} is a file, not a folder")
        nearest = next(p for p in (path, *path.absolute().parents) if p.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            raise UsageError(f"--run_dir: {path} cannot be written")
        if not path.is_dir() or all(file.name.endswith(".part") for file in path.iterdir()):
            return
        if not (path / CONFIG).is_file():
            raise UsageError(f"--run_dir: {path} holds other files and no run; name another folder")
        if resume:
            _check_same_run(path, config)
        elif not overwrite:
            raise UsageError(f"--run_dir: {path} holds a run; give --resume or --overwrite")

    @classmethod
    def open(cls, path: Path, config: dict, *, resume: bool) -> "RunFolder":
        """Make the folder, which `check` found fit, or empty it of an earlier run.

        Raises:
            UsageError: it cannot be written.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            if not resume:
                for name in (RESULT, HISTORY, *CHECKPOINTS):
                    (path / name).unlink(missing_ok=True)
            write_whole(path / CONFIG, json.dumps(config, indent=2) + "\n")
        except OSError as error:
            raise UsageError(f"--run_dir: {path} cannot be written ({error.strerror})") from error
        return cls(path)

    def write_history(self, rows: list[dict]) -> None:
        """Write all evaluations so far; a missing or None value leaves its cell empty."""
        text = io.StringIO()
        writer = csv.DictWriter(text, HISTORY_COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(row.get(name)) for name in HISTORY_COLUMNS})
        write_whole(self.path / HISTORY, text.getvalue())

    def write_result(self, result: dict) -> None:
        """Write the numbers that the run is judged by."""
        write_whole(self.path / RESULT, json.dumps(result, indent=2, allow_nan=False) + "\n")

    def result(self) -> dict | None:
        """The result, if the run has ended."""
        path = self.path / RESULT
        return json.loads(path.read_text()) if path.is_file() else None


def _cell(value: float | int | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.7g}"


TELLING = ("model", "dataset", "recipe", "seed")  # what differs first says it best


def _check_same_run(path: Path, config: dict) -> None:
    earlier = _read_json(path / CONFIG)
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
    if not path.is_dir():
        raise UsageError(f"{path} is not a run folder")
    config, result = _read_json(path / CONFIG), _read_json(path / RESULT)
    try:
        with (path / HISTORY).open(newline="") as file:
            rows = list(csv.DictReader(file))
        history = {
            name: np.array([float(row[name]) if row[name] else np.nan for row in rows])
            for name in HISTORY_COLUMNS
        }
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path / HISTORY} is missing or broken") from error
    if not rows:
        raise UsageError(f"{path / HISTORY} holds no evaluation")
    return RunRecord(path, config, history, result)


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"{path} is missing: no run, or one that has not ended") from error
    except ValueError as error:
        raise UsageError(f"{path} is broken ({error})") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} is broken (not an object)")
    return content
