"""What the graded tests need.

Nothing of this project is imported here: the tests run on whatever lies in $GRADED_ROOT, which is
this project or somebody's submission, and they know no more of it than the interfaces in the
README.
"""

import contextlib
import csv
import json
import os
import runpy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(os.environ.get("GRADED_ROOT") or Path(__file__).resolve().parents[2])
COLUMNS = ("step,epoch,train_loss,train_accuracy,val_loss,val_accuracy,test_loss,test_accuracy,"
           "learning_rate,seconds")  # fmt: skip
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
           "truck")  # fmt: skip
STEP = 1e-5  # of central differences in float64


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark, for runs that see no other conftest.py."""
    config.addinivalue_line("markers", "points(n, seconds=30): what the test is worth")


@dataclass(frozen=True)
class TrainedRun:
    """What a train script has left in its run folder."""

    folder: Path
    header: str
    history: dict[str, np.ndarray]  # one array a column, NaN where a cell is empty
    result: dict


@pytest.fixture
def train(tmp_path, monkeypatch) -> Callable[..., TrainedRun]:
    """Call a part's train.py with flags, in this process; returns the run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CIFAR10_CACHE", str(tmp_path / "cache"))

    def run(part: str, *flags: object) -> TrainedRun:
        folder = tmp_path / f"run{len(list(tmp_path.glob('run*')))}"
        script = ROOT / part / "train.py"
        monkeypatch.setattr("sys.argv", [str(script), *map(str, flags), "--run_dir", str(folder)])
        with contextlib.suppress(SystemExit):  # a run that failed has left no result
            runpy.run_path(str(script), run_name="__main__")
        assert (folder / "result.json").is_file(), f"{part}/train.py has left no result.json"
        text = (folder / "history.csv").read_text()
        rows = list(csv.DictReader(text.splitlines()))
        history = {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}
        return TrainedRun(
            folder,
            text.partition("\n")[0].strip(),
            history,
            json.loads((folder / "result.json").read_text()),
        )

    return run


@pytest.fixture
def keeps_a_record() -> Callable[[TrainedRun], None]:
    """Fails unless a run folder holds what every script promises."""

    def check(run: TrainedRun) -> None:
        config = json.loads((run.folder / "config.json").read_text())
        assert config["recipe"] == "original"
        assert config["seed"] == 0
        assert run.header == COLUMNS
        assert (np.diff(run.history["step"]) > 0).all()
        promised = {"test_accuracy", "test_loss", "best_epoch", "epochs", "steps", "seconds",
                    "seed", "parameters", "stopped_by"}  # fmt: skip
        assert promised <= run.result.keys()
        assert run.result["steps"] == run.history["step"][-1]

    return check


@pytest.fixture
def is_chosen_on_validation() -> Callable[[TrainedRun], None]:
    """Fails unless the result is that of the evaluation with the lowest validation loss."""

    def check(run: TrainedRun) -> None:
        validation, test = run.history["val_loss"], run.history["test_loss"]
        assert not np.array_equal(validation, test), "the test set has been used for validation"
        best = int(np.nanargmin(validation))
        assert run.result["best_epoch"] == pytest.approx(run.history["epoch"][best], abs=1e-3)
        for name in ("test_loss", "test_accuracy"):
            assert run.result[name] == pytest.approx(run.history[name][best], abs=1e-4), name

    return check


@pytest.fixture
def tiny_images(tmp_path) -> Path:
    """Image folders of CIFAR-10's ten classes: 20 training and 5 test images a class.

    They are noise with a bright band, whose place and colour tell the class.
    """
    from PIL import Image

    rng = np.random.default_rng(0)
    for split, n in (("train", 20), ("test", 5)):
        for label, name in enumerate(CLASSES):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 100, (32, 32, 3))
                pixels[8 * (label // 3) :][:8, :, label % 3] += 150
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return tmp_path / "images"


@pytest.fixture
def numeric_gradient() -> Callable[[Callable[[], float], np.ndarray], np.ndarray]:
    """d loss / d array by central differences; the loss reads the array, which is restored."""

    def gradient(loss: Callable[[], float], array: np.ndarray) -> np.ndarray:
        result = np.empty_like(array)
        for index in np.ndindex(array.shape):
            value = array[index]
            array[index] = value + STEP
            above = loss()
            array[index] = value - STEP
            below = loss()
            array[index] = value
            result[index] = (above - below) / (2 * STEP)
        return result

    return gradient


@pytest.fixture
def linears_of() -> Callable[[object], list]:
    """The Linear modules of a NumPy net, in order, wherever it keeps them."""

    def find(net: object) -> list:
        from part1_mlp.modules import Linear

        found: dict[int, Linear] = {}

        def look(value: object) -> None:
            if isinstance(value, Linear):
                found.setdefault(id(value), value)
            elif isinstance(value, dict):
                look(list(value.values()))
            elif isinstance(value, list | tuple):
                for each in value:
                    look(each)

        look(list(vars(net).values()))
        return list(found.values())

    return find
