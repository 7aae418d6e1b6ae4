"""What the fault tests share: small training runs, calling scripts, comparing runs."""

import contextlib
import importlib
import io
import os
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from tests.tiny_cifar10 import make_tiny_cifar10
from training.cli import ROOT, run_cli
from training.runs import (
    CHECKPOINTS,
    CONFIG,
    HISTORY,
    HISTORY_COLUMNS,
    RESULT,
    load_checkpoint,
    read_run,
)

HANGS = 600  # seconds after which a process counts as hanging; it needs a few
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
# Every trainer, on a task of a second or two. A checkpoint after each step where that is cheap.
TRAINERS = {
    "NumPy MLP": "part1_mlp/train.py --model numpy --n_samples 200 --max_epochs 20 "
                 "--momentum 0.9 --checkpoint_seconds 0",
    "PyTorch MLP": "part1_mlp/train.py --model pytorch --n_samples 200 --max_epochs 20 "
                   "--dropout 0.1 --checkpoint_seconds 0",
    "CNN": "part2_cnn/train.py --max_steps 16 --eval_freq 4 --batch_size 8 --image_sizes 8 "
           "--views 1 --checkpoint_seconds 0.2",
    "RNN": "part3_rnn/train.py --input_length 4 --train_steps 60 --eval_freq 20 --num_hidden 16 "
           "--checkpoint_seconds 0",
}  # fmt: skip
ENDLESS = {  # a later flag counts
    "NumPy MLP": "--max_epochs 1000000 --checkpoint_seconds 0.2",
    "PyTorch MLP": "--max_epochs 1000000 --checkpoint_seconds 0.2",
    "CNN": "--max_steps 1000000 --eval_freq 1000000",
    "RNN": "--train_steps 1000000 --eval_freq 1000000 --checkpoint_seconds 0.2",
}


@dataclass
class Tally:
    """How often one kind of fault was tried, and what went wrong."""

    fault: str
    tried: int = 0
    failures: list[str] = field(default_factory=list)
    remark: str = ""

    def count(self, trial: Callable[..., str | None], *case: Any) -> None:
        """Try one case; a trial fails by returning what is wrong, or by raising."""
        self.tried += 1
        try:
            wrong = trial(*case)
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}"
        if wrong:
            names = ", ".join(str(getattr(part, "__name__", part)) for part in case)
            self.failures.append(f"{names[:400]}: {wrong}")

    def count_all(self, trial: Callable[..., str | None], cases: Iterable[tuple]) -> "Tally":
        """Try every case; returns the tally."""
        for case in cases:
            self.count(trial, *case)
        return self

    @property
    def survived(self) -> int:
        """Trials in which nothing went wrong."""
        return self.tried - len(self.failures)


# --- Calling scripts ------------------------------------------------------------------------------


def flags_of(trainer: str, folder: Path, scratch: Path) -> tuple[str, list[str]]:
    """The script and the flags that train into a folder; made-up images lie in `scratch`."""
    script, *flags = TRAINERS[trainer].split()
    if trainer == "CNN":
        if not (scratch / "tiny").exists():
            make_tiny_cifar10(scratch / "tiny")
        flags += ["--data_dir", str(scratch / "tiny")]
    return script, [*flags, "--quiet", "--run_dir", str(folder)]


def command(trainer: str, folder: Path, scratch: Path, *more: object) -> list[str]:
    """The command line that trains into a folder."""
    script, flags = flags_of(trainer, folder, scratch)
    return [sys.executable, str(ROOT / script), *flags, *map(str, more)]


def call(
    script: str, flags: Sequence[str], main: Callable[[], int] | None = None
) -> tuple[int, str, str]:
    """Call a script, or a main in its place, in this process: exit code, stdout and stderr."""
    main = main or module_of(script).main
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", [str(script), *flags]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            run_cli(main)
        except SystemExit as exit_:
            code = exit_.code or 0
        except Exception:
            traceback.print_exc(file=err)
            code = -1
    return code, out.getvalue(), err.getvalue()


def module_of(script: str) -> Any:
    """The script as a module."""
    return importlib.import_module(script.removesuffix(".py").replace("/", "."))


def start(arguments: Sequence[str]) -> subprocess.Popen:
    """Start a process whose messages are kept."""
    return subprocess.Popen(
        arguments, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def start_endless(trainer: str, folder: Path, scratch: Path) -> subprocess.Popen:
    """Start a training without an end, and wait for its first checkpoint."""
    process = start(command(trainer, folder, scratch, *ENDLESS[trainer].split()))
    wait_until(lambda: checkpoint_of(folder), process)
    return process


def finish(process: subprocess.Popen) -> str:
    """Wait for the end of a process; returns its stderr.

    Raises:
        TimeoutExpired: it hangs, and is ended.
    """
    try:
        return process.communicate(timeout=HANGS)[1]
    except subprocess.TimeoutExpired:
        process.terminate()
        process.communicate()
        raise


def run(arguments: Sequence[str], **options: Any) -> subprocess.CompletedProcess:
    """Run a process to its end; the options are those of `subprocess.run`."""
    options = {"env": ENVIRONMENT, "timeout": HANGS} | options
    return subprocess.run(arguments, capture_output=True, text=True, check=False, **options)


def wait_until(condition: Callable[[], object], process: subprocess.Popen) -> None:
    """Wait for a condition, or for the end of the process.

    Raises:
        TimeoutError: neither comes.
    """
    end = time.monotonic() + HANGS
    while not condition() and process.poll() is None:
        if time.monotonic() > end:
            process.kill()
            raise TimeoutError("the process hangs")
        time.sleep(0.002)


# --- What a run leaves behind ---------------------------------------------------------------------


def checkpoint_of(folder: Path) -> Path | None:
    """The folder's checkpoint, if there is one."""
    return next((folder / name for name in CHECKPOINTS if (folder / name).exists()), None)


def foreign_files(folder: Path) -> list[str]:
    """What is in a folder and is not a file of a run."""
    expected = {CONFIG, HISTORY, RESULT, *CHECKPOINTS}
    return sorted(f.name for f in folder.iterdir() if f.name not in expected)


def difference(a: Path, b: Path) -> str | None:
    """In what two runs differ, times aside; None if in nothing."""
    one, other = read_run(a), read_run(b)
    for name in HISTORY_COLUMNS:
        if name != "seconds" and not np.array_equal(
            one.history[name], other.history[name], equal_nan=True
        ):
            return f"{name} in history.csv"
    if one.result | {"seconds": 0} != other.result | {"seconds": 0}:
        return "result.json"
    states = [load_checkpoint(run.checkpoint)["best"] for run in (one, other)]
    for name in states[0]:
        if not np.array_equal(*(np.asarray(state[name]) for state in states)):
            return f"the weights {name}"
    return f"also in the folder: {foreign_files(b)}" if foreign_files(b) else None


def one_line(code: int, stderr: str, expected_code: int, words: Iterable[str] = ()) -> str | None:
    """What is wrong with how a script failed: its exit code, or its one line on stderr."""
    if code != expected_code:
        return f"exit code {code}, expected {expected_code}; it printed {stderr[-300:]!r}"
    if stderr.count("\n") != 1 or "Traceback" in stderr or len(stderr) > 1000:
        return f"not one line: {stderr[-600:]!r}"
    missing = [word for word in words if not re.search(word, stderr)]
    return f"{stderr!r} does not hold {missing}" if missing else None
