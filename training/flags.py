"""The flags that all train scripts share, their checks, and defaults that a recipe sets."""

import argparse
import difflib
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from data import LARGEST_SEED
from training import UsageError
from training.runs import CONFIG, RunRecord, read_run
from training.trainer import SCHEDULES

LARGEST = 10**9  # whole number that a flag takes
LARGEST_REAL = 1e6
MAX_COUNTS = 1000  # most numbers in a list
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
OWN_MOMENTUM = ("adam", "adamw")  # which take no other
SWITCHES = ("compile", "dry_run", "overwrite", "quiet", "resume", "test")  # they take no value

# --- Parsing --------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """An argument parser with one-line errors; a hyphen may stand for each underscore.

    Args:
        description: a docstring, of which `--help` shows the first paragraph; None under `-OO`.
    """

    def __init__(self, *, description: str | None = None, **kwargs: Any) -> None:
        kwargs["description"] = (description or "").split("\n\n")[0]
        kwargs["formatter_class"] = partial(argparse.HelpFormatter, max_help_position=34, width=100)
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raise a UsageError, with the flag that may be meant."""
        unknown = re.match(r"unrecognized arguments: (--\w+)", message)
        if unknown and (near := difflib.get_close_matches(unknown[1], self._option_string_actions)):
            message += f" (did you mean {near[0]}?)"
        raise UsageError(message)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None):
        """Parse, with `--max-epochs` meaning `--max_epochs`."""
        args = sys.argv[1:] if args is None else args
        if empty := [a for a in args if a.endswith("=--")]:  # for which argparse gives []
            self.error(f"argument {empty[0][:-3]}: '--' is not allowed")
        args = [re.sub("^--[^=]*", lambda f: "--" + f[0][2:].replace("-", "_"), a) for a in args]
        return super().parse_known_args(args, namespace)


def parse_with_recipe(
    build_parser: Callable[[Parser], Parser],
    recipe_flags: Callable[[], Parser],
    recipe: Callable[[argparse.Namespace], dict],
    argv: Sequence[str] | None,
) -> argparse.Namespace:
    """Parse the flags that name a recipe, make its values the defaults, and parse all flags.

    Args:
        build_parser: makes the script's parser, whose parent is the given parser.
        recipe_flags: makes that parent, the parser of the flags that name a recipe.
        recipe: the recipe that those flags, parsed, name: flags and their values.

    Raises:
        UsageError: a flag is unknown or wrong, or a momentum that the optimiser would ignore.
    """
    parent = recipe_flags()
    defaults = recipe(parent.parse_known_args(argv)[0])
    parser = build_parser(parent)
    parser.set_defaults(**defaults)
    args = parser.parse_args(argv)
    if vars(args).get("max_steps"):  # the recipe's epochs do not cut short the steps asked for
        parser.set_defaults(max_epochs=None)
    if args.optimizer in OWN_MOMENTUM:  # nor is the recipe's momentum that of another optimiser
        parser.set_defaults(momentum=0.0)
    args = parser.parse_args(argv)
    if args.momentum and args.optimizer in OWN_MOMENTUM:
        raise UsageError(f"--momentum: {args.optimizer} has its own; give it to another")
    return args


def read_own_run(path: Path, train: ModuleType) -> RunRecord:
    """Read a finished run of a train script, each value in its config.json parsed by its flag.

    Raises:
        UsageError: it is another script's run, or a file or a value is broken; it is named.
    """
    run = read_run(path)
    if run.config.get("script", train.SCRIPT) != train.SCRIPT:
        raise UsageError(f"{path} holds no run of {train.SCRIPT}")
    flags = parse_with_recipe(*train.FLAGS, [])
    values = {name: value for name, value in run.config.items() if name in flags}
    try:
        argv = [text for name, value in values.items() for text in _as_given(name, value)]
        parsed = vars(parse_with_recipe(*train.FLAGS, argv))
    except UsageError as error:
        raise UsageError(f"{path / CONFIG}: {error}") from error
    for name, value in values.items():
        if plain(parsed[name]) != value:
            raise UsageError(f"{path / CONFIG}: --{name} cannot have been {value!r}")
    return run


def _as_given(name: str, value: object) -> list[str]:
    """The flag as on the command line; none for a value that is the flag's absence."""
    if name in SWITCHES and isinstance(value, bool):
        return [f"--{name}"] * value
    if value is None:
        return ["--eval_freq=epoch"] * (name == "eval_freq")
    if isinstance(value, bool):
        value = "on" if value else "off"
    return [f"--{name}=" + (",".join(map(str, value)) if isinstance(value, list) else str(value))]


def plain(value: object) -> object:
    """The value as JSON will give it back."""
    if isinstance(value, Path):
        return value.as_posix()  # as every system reads it
    return list(value) if isinstance(value, tuple) else value


def number(
    kind: type, low: float, high: float | None = None, *, above: bool = False
) -> Callable[[str], float]:
    """A parser of numbers from low to high; `above` excludes low itself."""
    name = "a whole number" if kind is int else "a number"
    if high is None:
        high = LARGEST if kind is int else LARGEST_REAL
    limits = f"{'above' if above else 'from'} {low} to {high:{'' if kind is int else 'g'}}"

    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high or (above and value == low):
            raise argparse.ArgumentTypeError(f"{text!r} is not allowed; give {name} {limits}")
        return value

    return parse


def counts(text: str) -> tuple[int, ...]:
    """Parse `512,256,128` into (512, 256, 128)."""
    try:
        units = tuple(int(part) for part in text.split(","))
    except ValueError:
        units = ()
    if not units or min(units) < 1 or max(units) > LARGEST or len(units) > MAX_COUNTS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not allowed; give whole numbers of 1 or more, such as 512,256,128"
        )
    return units


def or_word(
    word: str, value: object, otherwise: Callable[[str], object]
) -> Callable[[str], object]:
    """A parser for which the word means a value; other texts go to another parser."""

    def parse(text: str) -> object:
        if text == word:
            return value
        try:
            return otherwise(text)
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentTypeError(f"{error}, or {word or repr('')}") from None

    return parse


def mixup(text: str) -> float:
    """Parse 0, for none, or a parameter of a Beta distribution that float32 can draw from."""
    value = number(float, 0, 1000)(text)
    if 0 < value < 0.001:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; give 0 or 0.001 to 1000")
    return value


def on_off(text: str) -> bool:
    """Parse `on` or `off`."""
    if text not in ("on", "off"):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; give on or off")
    return text == "on"


def device(text: str) -> str:
    """Parse the name of a device: auto, cpu, cuda, cuda:N or mps, in any case."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?|mps", text.lower()):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not allowed; choose from auto, cpu, cuda, cuda:N, mps"
        )
    return text.lower()


def folder(text: str) -> Path:
    """Parse the name of a file or folder; `~` is the home folder."""
    if not text:
        raise argparse.ArgumentTypeError("the name is empty")
    return Path(os.path.expanduser(text))


# --- Shared flags ---------------------------------------------------------------------------------


def flag_adder(parser: Parser, title: str) -> Callable[..., None]:
    """A function that adds a flag to a titled group; its help ends with the flag's default."""
    group = parser.add_argument_group(title)

    def add(*flags: str, help: str, **kwargs: Any) -> None:
        if isinstance(kwargs.get("choices", (0,))[0], str):
            kwargs["type"] = str.lower  # `--optimizer Adam` is as good
        if "default:" not in help and "action" not in kwargs:
            help += " (default: %(default)s)"
        group.add_argument(*flags, help=help, **kwargs)

    return add


# fmt: off
def recipe_parser() -> Parser:
    """A parser of `--recipe`, to be the parent of a script's parser."""
    parser = Parser(add_help=False)
    add = flag_adder(parser, "recipe, which sets the default of the other flags")
    add("--recipe", choices=("original", "best"), default="original",
        help="as in the original report, or tuned")
    return parser


def add_cifar10_flags(add: Callable[..., None]) -> None:
    """Where CIFAR-10 comes from, and what is done to its images."""
    add("--data_dir", type=folder, metavar="DIR",
        help="folder that holds CIFAR-10 (default: $CIFAR10_DIR, data/cifar10/, or a download)")
    add("--cifar10_url", metavar="URL",
        help="a mirror to download the archive from (default: the original server)")
    add("--augment", type=on_off, metavar="on|off",
        help="data augmentation: random flip and random 32x32 crop with padding 4")
    add("--cutout", type=number(int, 0, 32), metavar="N",
        help="data augmentation: a grey square of N pixels a side at a random place; 0: none")
    add("--views", type=int, choices=(1, 2, 18, 50),
        help="test-time augmentation: average the final predictions over so many versions of an "
        "image: 1 itself, 2 with its mirror image, 18 and 50 both, shifted over a 3x3 or 5x5 grid")


def add_optimiser_flags(add: Callable[..., None], *, hidden_weights: str = "") -> None:
    """The optimiser and its settings; muon among them where hidden weights are named."""
    optimizers, more, with_momentum = OPTIMIZERS, "", "sgd and rmsprop"
    if hidden_weights:
        optimizers, with_momentum = (*OPTIMIZERS, "muon"), "sgd, rmsprop and muon"
        more = f"; muon: orthogonal steps for {hidden_weights}, AdamW for the rest"
    add("--optimizer", choices=optimizers, help=f"optimiser{more}")
    add("--momentum", type=number(float, 0, 0.999), metavar="X",
        help=f"momentum of {with_momentum}")
    add("--weight_decay", type=number(float, 0), metavar="X", help="weight decay")


def add_regularisation_flags(add: Callable[..., None]) -> None:
    """Regularisation of a classifier of images or points."""
    add("--label_smoothing", type=number(float, 0, 0.99), metavar="X",
        help="label smoothing: share of the target spread over all classes")
    add("--mixup", type=mixup, metavar="X",
        help="mixup: parameter of the Beta distribution that mixes pairs of samples; 0: none")
    add("--average_decay", type=number(float, 0, 0.99999), metavar="X",
        help="evaluate an exponential moving average of the weights with this decay a step")


def add_training_flags(add: Callable[..., None], *, stream: bool = False) -> None:
    """Learning rate, length, batches, evaluation and early stopping.

    Args:
        stream: the data have no end, so there are no epochs to count.
    """
    steps = number(int, 1)
    add("--learning_rate", "--lr", type=number(float, 0, above=True), metavar="X",
        help="learning rate")
    add("--schedule", choices=SCHEDULES, help="learning rate over the steps")
    if stream:
        add("--train_steps", type=steps, metavar="N", help="weight updates")
        add("--batch_size", type=steps, metavar="N", help="sequences a step")
        add("--eval_freq", type=steps, metavar="N", help="steps between evaluations")
    else:
        add("--max_epochs", "--epochs", type=steps, metavar="N",
            help="passes over the training set")
        add("--max_steps", type=steps, metavar="N",
            help="weight updates, not epochs (default: as many as --max_epochs has); with "
            "--max_epochs as well, whichever is reached first ends the run")
        add("--batch_size", type=or_word("full", "full", steps), metavar="N|full",
            help="samples a step; 1: stochastic, full: full-batch gradient descent")
        add("--eval_freq", type=or_word("epoch", None, steps), metavar="N|epoch",
            help="steps between evaluations, or one an epoch")
    add("--patience", type=number(int, 0), metavar="N",
        help="early stopping after so many evaluations without a lower validation loss; 0: none")


def add_run_flags(add: Callable[..., None]) -> None:
    """Device, seed, folder, resumption and messages of a run."""
    add("--device", type=device, default="auto", metavar="auto|cpu|cuda|cuda:N|mps",
        help="where PyTorch computes")
    add("--seed", type=number(int, 0, LARGEST_SEED), default=0, metavar="N",
        help="of everything random: data, initial weights, batches")
    add("--n_seeds", type=number(int, 1, 100), default=1, metavar="N",
        help="train N runs one after another, with the seeds from --seed on, each in a folder of "
        "its own under --run_dir")
    add("--run_dir", type=folder, metavar="DIR",
        help="folder of the run (default: named after the flags, under runs/)")
    add("--resume", action="store_true",
        help="continue from the last checkpoint in the run's folder, if there is one")
    add("--overwrite", action="store_true", help="replace the run in the run's folder; with "
        "--n_seeds all of them, before the first is trained")
    add("--checkpoint_seconds", type=number(float, 0), default=60.0, metavar="X",
        help="seconds between checkpoints")
    add("--dry_run", action="store_true", help="one batch of everything, write nothing, then exit")
    add("--test", action="store_true",
        help="print the test accuracy as well, by which nothing may be chosen")
    add("--quiet", action="store_true", help="no progress bar")


def plot_parser(description: str | None) -> Parser:
    """The flags of every plot script: runs, and a folder for the figures."""
    parser = Parser(prog="plot.py", description=description)
    add = flag_adder(parser, "figures")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run folder")
    add("--out", type=folder, metavar="DIR", help="folder for the figures (default: the first RUN)")
    return parser
# fmt: on


def one_line(message: str) -> str:
    """The message without line breaks, and without the whole of a very long word."""
    return re.sub(r"\S{200,}", lambda word: f"{word[0][:100]}...", " ".join(message.split()))
