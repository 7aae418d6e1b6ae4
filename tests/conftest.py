"""What several test files need: scripts run in this process, a tiny CIFAR-10, the real one."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests import grader  # nothing else of ours: a grade is given even when a part is broken

TINY_BATCH = 40  # images in each of the five training batches and in the test batch


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("grade", "the grade (parts 1 to 3: 30, 30 and 40 points)")
    group.addoption(
        "--score", action="store_true", help="run the graded tests alone and print the points"
    )
    group.addoption(
        "--submission",
        type=Path,
        metavar="DIR",
        help="grade this folder of the same layout in place of this project",
    )
    group.addoption(
        "--gradescope", type=Path, metavar="FILE", help="grade, and write Gradescope's results.json"
    )


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    submission, file = config.option.submission, config.option.gradescope
    if not (config.option.score or submission or file):
        return None
    submission = grader.ROOT if submission is None else submission
    if not submission.is_dir():
        raise pytest.UsageError(f"--submission: {submission} is no folder")
    if file and not file.parent.is_dir():
        raise pytest.UsageError(f"--gradescope: there is no folder {file.parent}")
    return grader.main(submission.resolve(), file)


@pytest.fixture
def run_main(capsys, monkeypatch) -> Callable[..., tuple[int, str, str]]:
    """Call a script's main as the shell would: returns exit code, stdout and stderr."""
    from data import DataError
    from training.script import one_line_errors

    def run(main: Callable[[], int], script: str, *flags: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", [script, *map(str, flags)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            one_line_errors(main, DataError)
        captured = capsys.readouterr()
        return int(exit_.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def no_cache(tmp_path, monkeypatch) -> Path:
    """Let decoded sets be cached in a scratch folder, which is returned, here and in children."""
    monkeypatch.setattr("data.cifar10.CACHE_DIR", tmp_path / "cache")
    monkeypatch.setenv("CIFAR10_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tiny_cifar10(tmp_path, no_cache) -> Path:
    """A folder that holds made-up images in the format of the python version."""
    from data.cifar10 import BATCH_FOLDER, TEST_BATCH, TRAIN_BATCHES

    folder = tmp_path / "tiny" / BATCH_FOLDER
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    typical = rng.integers(60, 196, (10, 3072))  # one picture a class, so that there is something
    for name in (*TRAIN_BATCHES, TEST_BATCH):
        labels = np.arange(TINY_BATCH) % 10
        images = typical[labels] + rng.integers(-60, 60, (TINY_BATCH, 3072))  # to learn
        batch = {"data": images.astype(np.uint8), "labels": labels.tolist()}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return folder.parent


@pytest.fixture(scope="session")
def real_cifar10() -> Path:
    """Where the real CIFAR-10 lies; skips the test where it is absent."""
    from data.cifar10 import DEFAULT_DIR

    folder = Path(os.environ.get("CIFAR10_DIR") or DEFAULT_DIR)
    if not folder.is_dir():
        pytest.skip("needs CIFAR-10: set CIFAR10_DIR to the folder that holds it")
    return folder
