"""The flags that all train scripts share, their exact checks, and defaults that a recipe sets."""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from training.errors import UsageError, in_one_line
from training.schedule import SCHEDULES

LARGEST = 10**9  # whole number, and a million times the largest that makes sense
LARGEST_REAL = 1e6
MOST_COUNTS = 1000  # numbers in a list of them
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")


class Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line and takes hyphens for underscores."""

    def __init__(self, **kwargs) -> None:
        super().__init__(
            allow_abbrev=False,
            formatter_class=lambda prog: argparse.HelpFormatter(
                prog, max_help_position=34, width=100
            ),
            **kwargs,
        )

    def error(self, message: str) -> NoReturn:
        """Print one line on stderr and exit with code 2."""
        print(f"{self.prog}: error: {in_one_line(message)}", file=sys.stderr)
        sys.exit(2)

    def parse_args(self, args: Sequence[str] | None = None, namespace=None):
        """Parse, with `--max-epochs` meaning `--max_epochs`."""
        args = sys.argv[1:] if args is None else args
        return super().parse_args([_with_underscores(a) for a in args], namespace)


def _with_underscores(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value


def number(
    kind: type, low: float, high: float | None = None, *, above: bool = False
) -> Callable[[str], float]:
    """A parser of numbers from low to high; `above` leaves low itself out."""
    word = "a whole number" if kind is int else "a number"
    if high is None:
        high = LARGEST if kind is int else LARGEST_REAL
    limits = f"{'above' if above else 'from'} {low} to {high:{'' if kind is int else 'g'}}"

    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high or (above and value == low):
            raise argparse.ArgumentTypeError(f"{text!r} is not allowed; give {word} {limits}")
        return value

    return parse


def counts(text: str) -> tuple[int, ...]:
    """Parse `512,256,128` into (512, 256, 128)."""
    try:
        units = tuple(int(part) for part in text.split(","))
    except ValueError:
        units = ()
    if not units or min(units) < 1 or max(units) > LARGEST or len(units) > MOST_COUNTS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not allowed; give whole numbers of 1 or more, such as 512,256,128"
        )
    return units


def batch_sizes(text: str) -> tuple[int, ...] | str:
    """Parse `128`, `512,1024` or `full` (all samples)."""
    if text == "full":
        return text
    try:
        return counts(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not allowed; give whole numbers of 1 or more with commas, or full"
        ) from None


def on_off(text: str) -> bool:
    """Parse `on` or `off`."""
    if text not in ("on", "off"):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; give on or off")
    return text == "on"


SEED = number(int, 0, 2**32 - 1)


class Group:
    """A titled group of flags whose help tells the default that each recipe sets."""

    def __init__(self, parser: argparse.ArgumentParser, title: str, recipes: dict[str, dict]):
        self._group = parser.add_argument_group(title)
        self._recipes = recipes

    def add(self, flag: str, *, help: str, **kwargs) -> None:
        """Add one flag."""
        name = flag.removeprefix("--")
        values = {label: recipe[name] for label, recipe in self._recipes.items() if name in recipe}
        if values:
            help += f" (default: {_in_words(values)})"
        elif kwargs.get("default") is not None and "action" not in kwargs:
            help += " (default: %(default)s)"
        self._group.add_argument(flag, help=help, **kwargs)


def _in_words(values: dict[str, object]) -> str:
    """`0.1` if all recipes agree, else `toy: 0.1; cifar10 report: 0.01; ...`."""
    by_value: dict[str, list[str]] = {}
    for label, value in values.items():
        by_value.setdefault(_shown(value), []).append(label)
    if len(by_value) == 1:
        return next(iter(by_value))
    return "; ".join(f"{_merged(labels)}: {value}" for value, labels in by_value.items())


def _merged(labels: list[str]) -> str:
    """`toy report, toy best, cifar10 best` in fewer words: `toy, cifar10 best`."""
    words = []
    for label in labels:
        family, _, _ = label.rpartition(" ")
        both = {f"{family} report", f"{family} best"} <= set(labels)
        words.append(family if both else label)
    return ", ".join(dict.fromkeys(words))


def _shown(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)


def add_cifar10_flags(group: Group) -> None:
    """Where CIFAR-10 comes from, and what is done to its images in training."""
    group.add(
        "--data_dir",
        metavar="DIR",
        help="where CIFAR-10 lies (default: $CIFAR10_DIR, then data/cifar10/, then download)",
    )
    group.add("--cifar10_url", metavar="URL", help="a mirror to download the archive from")
    group.add(
        "--cifar10_md5",
        choices=("check", "skip"),
        default="check",
        help="skip accepts a set of your own in CIFAR-10's format",
    )
    group.add(
        "--augment",
        type=on_off,
        metavar="on|off",
        help="images: random flip and random 32x32 crop with padding 4",
    )
    group.add(
        "--views",
        type=int,
        choices=(1, 2, 18, 50),
        help="images: versions of a test image to average over at the end: the image, "
        "its mirror image, and both shifted over a 3x3 or 5x5 grid",
    )


def add_optimiser_flags(group: Group, *, filters: bool = False) -> None:
    """The optimiser; `filters`: the net has convolutions, for which there is one more."""
    muon = "; muon takes orthogonal steps with convolution filters, adamw's at a twentieth of the "
    group.add(
        "--optimizer",
        choices=(*OPTIMIZERS, "muon") if filters else OPTIMIZERS,
        help="how gradients become steps" + (muon + "rate with the rest" if filters else ""),
    )
    group.add(
        "--momentum",
        type=number(float, 0, 0.999),
        metavar="X",
        help="of sgd and rmsprop" + (" and muon" if filters else ""),
    )
    group.add(
        "--weight_decay", type=number(float, 0), metavar="X", help="pull of all weights towards 0"
    )


def add_regularisation_flags(group: Group) -> None:
    """What keeps a classifier of images or points from learning by heart."""
    group.add(
        "--label_smoothing",
        type=number(float, 0, 0.99),
        metavar="X",
        help="share of the target spread over all classes",
    )
    group.add(
        "--mixup",
        type=number(float, 0),
        metavar="X",
        help="Beta parameter for mixing pairs of samples; 0 mixes none",
    )
    group.add(
        "--average_decay",
        type=number(float, 0, 0.99999),
        metavar="X",
        help="judge a moving average of the weights with this decay a step",
    )


def check_momentum(args: argparse.Namespace) -> None:
    """Refuse a momentum that the optimiser would ignore.

    Raises:
        UsageError: there is one.
    """
    if args.momentum and args.optimizer in ("adam", "adamw"):
        raise UsageError(f"--momentum: {args.optimizer} has its own; give it to another")


def fill_in(args: argparse.Namespace, recipe: dict) -> None:
    """Give every flag that was not given the recipe's value."""
    given = {name for name, value in vars(args).items() if value is not None}
    for flag, value in recipe.items():
        if flag not in given:
            setattr(args, flag, value)
    if "max_steps" in given and "max_epochs" not in given:
        args.max_epochs = None  # a number of steps that was asked for is not cut short


def add_training_flags(group: Group, *, stream: bool = False) -> None:
    """How to train: rate, schedule, length, batches, when to look and when to stop.

    Args:
        stream: the data have no end, so that there are no epochs to count.
    """
    group.add(
        "--learning_rate",
        type=number(float, 0, above=True),
        metavar="X",
        help="learning rate of the optimiser",
    )
    group.add("--schedule", choices=SCHEDULES, help="how the learning rate changes over the steps")
    if stream:
        group.add("--train_steps", type=number(int, 1), metavar="N", help="weight updates")
        group.add("--batch_size", type=number(int, 1), metavar="N", help="sequences a step")
    else:
        _add_epoch_flags(group)
    group.add(
        "--eval_freq",
        type=number(int, 1),
        metavar="N",
        help="steps between evaluations" + ("" if stream else "; none: once an epoch"),
    )
    group.add(
        "--patience",
        type=number(int, 0),
        metavar="N",
        help="stop after this many evaluations without a lower validation loss, counted anew when "
        "the batch grows; 0 never stops",
    )


def _add_epoch_flags(group: Group) -> None:
    group.add("--max_epochs", type=number(int, 1), metavar="N", help="passes over the training set")
    group.add(
        "--max_steps",
        type=number(int, 1),
        metavar="N",
        help="weight updates; with --max_epochs as well, whichever is reached first ends the run",
    )
    group.add(
        "--batch_size",
        type=batch_sizes,
        metavar="N|full",
        help="samples a step; 1 is single-sample, full is full-batch gradient descent; N,N,... "
        "gives each size an equal share of --max_epochs (a growing batch calms the last steps as "
        "a falling learning rate would)",
    )


def add_run_flags(group: Group) -> None:
    """What happens to the run: its recipe, device, seed and folder, resumption, messages."""
    group.add(
        "--recipe",
        choices=("report", "best"),
        default="report",
        help="sets the default of every flag above; a flag that you give still counts",
    )
    group.add(
        "--device",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help="where PyTorch trains",
    )
    group.add(
        "--seed",
        type=SEED,
        default=0,
        metavar="N",
        help="draws the split, the initial weights, the batches and the augmentation",
    )
    group.add(
        "--run_dir",
        type=Path,
        metavar="DIR",
        help="folder of the run (default: a name made of the flags, under runs/)",
    )
    group.add(
        "--resume",
        action="store_true",
        help="go on from the last checkpoint in the run's folder, if there is one",
    )
    group.add("--overwrite", action="store_true", help="replace the run in the run's folder")
    group.add(
        "--checkpoint_seconds",
        type=number(float, 0),
        default=60.0,
        metavar="X",
        help="seconds between checkpoints",
    )
    group.add(
        "--dry_run", action="store_true", help="one batch of everything, nothing kept, then exit"
    )
    group.add("--quiet", action="store_true", help="no progress bar")


def plot_parser(description: str) -> Parser:
    """What every plot script takes: runs, and a folder for the pictures."""
    parser = Parser(prog="plot.py", description=description)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for the pictures (default: the first run's folder)",
    )
    return parser
