"""What the faults share: the four trainers on toy tasks, and how two runs are compared."""

import os
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.cifar10 import BATCH_FOLDER, TEST_BATCH, TRAIN_BATCHES
from training.checkpoint import load_checkpoint
from training.record import CHECKPOINTS, CONFIG, HISTORY, HISTORY_COLUMNS, RESULT, read_run
from training.script import ROOT

TINY_BATCH = 40  # images in each batch of a made-up CIFAR-10
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
# Every trainer, at a task of a second or two. A checkpoint after each step where that is cheap.
TRAINERS = {
    "NumPy MLP": ("part1_mlp/train.py --model numpy --n_samples 200 --max_epochs 60 "
                  "--momentum 0.9 --checkpoint_seconds 0"),
    "PyTorch MLP": ("part1_mlp/train.py --model pytorch --n_samples 200 --max_epochs 40 "
                    "--dropout 0.1 --checkpoint_seconds 0"),
    "CNN": ("part2_cnn/train.py --max_steps 16 --eval_freq 4 --batch_size 8 --image_sizes 8 "
            "--views 1 --cifar10_md5 skip --checkpoint_seconds 0.2"),
    "RNN": ("part3_rnn/train.py --input_length 4 --train_steps 60 --eval_freq 20 --num_hidden 16 "
            "--checkpoint_seconds 0"),
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

    def count(self, trial: Callable[[], str | None], name: object = "") -> None:
        """Try once; a trial fails by returning what is wrong, or by raising."""
        self.tried += 1
        try:
            wrong = trial()
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}"
        if wrong:
            self.failures.append(f"{name}: {wrong}")

    @property
    def survived(self) -> int:
        """Trials in which nothing went wrong."""
        return self.tried - len(self.failures)


def new_folder(path: Path) -> Path:
    """Make a folder for a fault's runs."""
    path.mkdir(parents=True)
    return path


def make_tiny_cifar10(folder: Path, images_per_batch: int = TINY_BATCH) -> Path:
    """Made-up images in the format of the python version; returns the folder."""
    (folder / BATCH_FOLDER).mkdir(parents=True)
    rng = np.random.default_rng(0)
    typical = rng.integers(60, 196, (10, 3072))  # one picture a class, so that there is something
    for name in (*TRAIN_BATCHES, TEST_BATCH):
        labels = np.arange(images_per_batch) % 10
        images = typical[labels] + rng.integers(-60, 60, (images_per_batch, 3072))  # to learn
        batch = {"data": images.astype(np.uint8), "labels": labels.tolist()}
        (folder / BATCH_FOLDER / name).write_bytes(pickle.dumps(batch, protocol=2))
    return folder


def command(trainer: str, folder: Path, scratch: Path, *flags: object) -> list[str]:
    """How that trainer is called to train into a folder."""
    script, *given = TRAINERS[trainer].split()
    if trainer == "CNN":
        if not (scratch / "tiny").exists():
            make_tiny_cifar10(scratch / "tiny")
        given += ["--data_dir", str(scratch / "tiny")]
    return [sys.executable, str(ROOT / script), *given, "--quiet", *map(str, flags),
            "--run_dir", str(folder)]  # fmt: skip


def endless(trainer: str, folder: Path, scratch: Path) -> subprocess.Popen:
    """Start a training without an end, and wait for its first checkpoint."""
    process = start([*command(trainer, folder, scratch), *ENDLESS[trainer].split()])
    wait_until(lambda: checkpoint_of(folder) or process.poll() is not None)
    return process


def start(arguments: Sequence[str]) -> subprocess.Popen:
    """Start a process whose messages are kept."""
    return subprocess.Popen(
        arguments, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(
    arguments: Sequence[str], seconds: float = 120, *, env: dict[str, str] = ENVIRONMENT, **options
) -> subprocess.CompletedProcess:
    """Run a process to its end; the options are those of `subprocess.run`."""
    return subprocess.run(
        arguments,
        env=env,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        **options,
    )


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for something to come true.

    Raises:
        TimeoutError: it does not.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s in vain")
        time.sleep(0.002)


def checkpoint_of(folder: Path) -> Path | None:
    """The folder's checkpoint, if there is one."""
    return next((folder / name for name in CHECKPOINTS if (folder / name).exists()), None)


def scraps(folder: Path) -> list[str]:
    """What is in a folder and does not belong into that of a run."""
    known = {CONFIG, HISTORY, RESULT, *CHECKPOINTS}
    return sorted(f.name for f in folder.iterdir() if f.name not in known)


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
    states = [load_checkpoint(checkpoint_of(folder))["best"] for folder in (a, b)]
    for name in states[0]:
        if not np.array_equal(*(np.asarray(state[name]) for state in states)):
            return f"the weights {name}"
    return f"also in the folder: {scraps(b)}" if scraps(b) else None


def one_line(code: int, stderr: str, expected_code: int, words: Iterable[str] = ()) -> str | None:
    """What is wrong with how a script failed: its exit code, or its one line on stderr."""
    if code != expected_code:
        return f"exit code {code}, expected {expected_code}; it said {stderr[-300:]!r}"
    if stderr.count("\n") != 1 or "Traceback" in stderr:
        return f"not one line: {stderr[-300:]!r}"
    missing = [word for word in words if not re.search(word, stderr)]
    return f"{stderr!r} does not hold {missing}" if missing else None
