"""What several test files need: scripts run in this process, a tiny CIFAR-10, the real one."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

# One thread a process: tests of small nets, several at once, only wait for a second one.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def run_main(capsys, monkeypatch) -> Callable[..., tuple[int, str, str]]:
    """Call a script's main as the shell would: returns exit code, stdout and stderr."""
    from training.cli import run_cli

    def run(main: Callable[[], int], script: str, *flags: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", [script, *map(str, flags)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            run_cli(main)
        captured = capsys.readouterr()
        return int(exit_.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def tiny_cifar10(tmp_path) -> Path:
    """A folder of made-up images, as image folders."""
    from tests.tiny_cifar10 import make_tiny_cifar10

    return make_tiny_cifar10(tmp_path / "tiny")


@pytest.fixture(scope="session")
def records():
    """The committed records."""
    from figures.experiments import Records
    from training.cli import ROOT

    return Records(ROOT / "figures" / "records")


@pytest.fixture(scope="session")
def real_cifar10() -> Path:
    """Where the real CIFAR-10 lies; skips the test where it is absent."""
    from data.cifar10 import DEFAULT_DIR

    folder = Path(os.environ.get("CIFAR10_DIR") or DEFAULT_DIR)
    if not folder.is_dir():
        pytest.skip("needs CIFAR-10: set CIFAR10_DIR to the folder that holds it")
    return folder
