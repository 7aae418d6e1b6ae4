"""What a train script has to leave behind, and the images it is given."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.graded.checks import close, demand, equal, numbers
from tests.sandbox import Submission, TrainedRun

COLUMNS = ("step,epoch,train_loss,train_accuracy,val_loss,val_accuracy,test_loss,test_accuracy,"
           "learning_rate,seconds")  # fmt: skip
RESULT = {"test_accuracy", "test_loss", "best_epoch", "epochs", "steps", "seconds", "seed",
          "parameters", "stopped_by"}  # fmt: skip
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
           "truck")  # fmt: skip

# Between these are all losses of ten classes if softmax is applied twice: log(e + 9) - 1 = 1.461
# and log(e + 9) = 2.461, rounded away from one another.
TWICE = 1.46, 2.47


def make_images(
    folder: Path, rng: np.random.Generator, n_train: int, n_test: int, *, learnable: bool = True,
    turned: bool = False, halves: bool = False,
) -> Path:  # fmt: skip
    """Image folders of CIFAR-10's ten classes, with so many images a class.

    They are noise with a bright band, whose place and colour belong to a class; if they are not to
    be learnable, the bands are drawn at random, and the classes as well. `turned`: each test image
    has the label of the next class, so that what is learnt is wrong there. `halves`: bands of
    training images are on the left alone, those of test images on the right.
    """
    for split, n in (("train", n_train), ("test", n_test)):
        bands = np.repeat(np.arange(10), n)
        labels = bands if learnable else rng.permutation(bands)
        labels = (labels + 1) % 10 if turned and split == "test" else labels
        names = rng.permutation(len(bands))  # which do not tell the band
        columns = slice(None)
        if halves:
            columns = slice(12) if split == "train" else slice(20, None)  # out of reach of crops
        for i, band, label in zip(names, bands, labels, strict=True):
            pixels = rng.integers(0, 100, (32, 32, 3))
            pixels[8 * (band // 3) :][:8, columns, band % 3] += 150
            place = folder / split / CLASSES[label]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(place / f"{i}.png")
    return folder


def column(run: TrainedRun, name: str) -> np.ndarray:
    """The numbers of a column where something was measured, at least one."""
    demand(name in run.history, f"history.csv has no column {name}")
    values = run.history[name]
    demand(np.isfinite(values).any(), f"history.csv has no number in the column {name}")
    return values[np.isfinite(values)]


def keeps_a_record(run: TrainedRun) -> None:
    """Fails unless a run folder holds what every script promises."""
    for key, value in (("recipe", "original"), ("seed", 0)):
        equal(run.config.get(key), value, f"config.json: {key}")
    equal(run.header, COLUMNS, "history.csv: the columns")
    demand((np.diff(column(run, "step")) > 0).all(), "history.csv: the steps have to increase")
    missing = sorted(RESULT - run.result.keys())
    demand(not missing, f"result.json has no {', '.join(missing)}")
    steps, last = numbers(run.result["steps"], "result.json: steps", ()), column(run, "step")[-1]
    demand(steps >= last, f"result.json: steps: expected {last:g} as in history.csv, got {steps:g}")


def is_chosen_on_validation(run: TrainedRun) -> None:
    """Fails unless the result is that of the evaluation with the lowest validation loss."""
    for name in ("train_loss", "val_loss", "test_loss"):
        column(run, name)
    validation, test = run.history["val_loss"], run.history["test_loss"]

    def same(losses: np.ndarray) -> bool:
        """Whether they are those of validation; sums in another order may differ in last digits."""
        return np.allclose(validation, losses, rtol=1e-5, atol=1e-7, equal_nan=True)

    demand(
        not same(test), "the validation loss is the test loss: the test set was used for validation"
    )
    demand(
        not same(run.history["train_loss"]),
        "the validation loss is the training loss: no samples were held out",
    )
    near = np.flatnonzero(validation <= np.nanmin(validation) + 1e-3)  # a script may round
    said = run.result.get("best_epoch")
    said = said if type(said) in (int, float) else 0
    best = min(near, key=lambda i: abs(run.history["epoch"][i] - said))
    for name, value in (
        ("best_epoch", run.history["epoch"][best]),
        ("test_loss", test[best]),
        ("test_accuracy", run.history["test_accuracy"][best]),
    ):
        if np.isfinite(value) or run.result.get(name) is not None:
            what = f"result.json: {name} (of the lowest validation loss)"
            close(run.result.get(name), value, what, rtol=1e-3, atol=1e-3)


def learns_what_can_be_learnt(
    submission: Submission, rng: np.random.Generator, part: str, *flags: object, n_train: int,
    n_test: int, at_least: float,
) -> TrainedRun:  # fmt: skip
    """Train on images that can be learnt and on images that cannot; returns the first run.

    Both are made here and look alike. A script that reports success on both, or on neither, has
    not learnt anything.
    """
    runs = {}
    for learnable in rng.permutation([True, False]):  # in an order that cannot be guessed
        images = make_images(submission.folder(), rng, n_train, n_test, learnable=learnable)
        runs[bool(learnable)] = submission.train(part, "--data_dir", images, "--seed", 0, *flags)
    for run in runs.values():  # where labels are drawn at random the last weights are not the best
        is_chosen_on_validation(run)
    learnt, chance = (accuracy_on_test(runs[kind]) for kind in (True, False))
    demand(
        learnt >= at_least,
        "ten classes of images that are easy to tell apart were to be learnt: expected a test "
        f"accuracy of {at_least} or more, got {learnt:.3g}",
    )
    most = 0.1 + 5 * (0.1 * 0.9 / (10 * n_test)) ** 0.5
    demand(
        chance <= most,
        "images whose labels were drawn at random cannot be learnt: expected a test accuracy near "
        f"0.1, at most {most:.2g}, got {chance:.3g}",
    )
    known = column(runs[False], "val_accuracy").max()
    demand(
        known < 0.9,
        "validation images whose labels were drawn at random: expected an accuracy near 0.1, got "
        f"{known:.3g} (are they trained on?)",
    )
    return runs[True]


def accuracy_on_test(run: TrainedRun) -> float:
    """The test accuracy of the result; fails unless it is a fraction."""
    found = float(numbers(run.result.get("test_accuracy"), "result.json: test_accuracy", ()))
    demand(0 <= found <= 1, f"result.json: test_accuracy: expected a fraction of 1, got {found:g}")
    losses = np.concatenate([column(run, f"{split}_loss") for split in ("train", "val", "test")])
    demand(
        found < 0.6 or losses.min() < TWICE[0] or losses.max() > TWICE[1],
        f"a test accuracy of {found:.3g}, but all losses in history.csv are between {TWICE[0]} and "
        f"{TWICE[1]} (is softmax applied twice?)",
    )
    return found


def a_seed_decides(run: Callable[[int], TrainedRun], what: str = "train_loss") -> None:
    """Fails unless a seed twice gives the same curve, and another one another."""
    first, again, other = (column(run(seed), "train_loss") for seed in (0, 0, 1))
    close(again, first, f"{what} of a second run with the same seed", rtol=0, atol=0)
    demand(
        not np.array_equal(first, other),
        f"{what} with another seed: expected another curve, got the same",
    )


def stands_still(run: TrainedRun) -> None:
    """Fails unless the losses of weights that do not change are all alike."""
    for split in ("val", "test"):
        losses = column(run, f"{split}_loss")
        demand(len(losses) >= 2, f"history.csv: expected 2 evaluations, got {len(losses)}")
        close(
            losses, np.full_like(losses, losses[0]), rtol=2e-5, atol=1e-6,
            what=f"with a learning rate of 1e-12 (dropout and augmentation off?), {split}_loss",
        )  # fmt: skip
