"""Train a recurrent net to predict the last digit of a palindrome.

python part3_rnn/train.py --input_length 5
python part3_rnn/train.py --recipe best --input_length 200
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from data.palindromes import N_DIGITS, PalindromeBatches, draw_palindromes
from part3_rnn.model import CELLS, INITS, initial_net
from part3_rnn.recipes import RECIPES
from training import UsageError, flags
from training.cli import run_cli, run_training
from training.distributed import choose_device, choose_threads
from training.flags import Parser, flag_adder, number
from training.torch_model import TorchModel, model_of

SCRIPT = "part3_rnn/train.py"
VANILLA_ONLY = ("init", "init_scale", "input_scale")
EVALUATED = {"train": 2_000, "val": 10_000, "test": 10_000}  # palindromes of each split, at most
EVALUATED_DIGITS = 10**7  # of each split, at most: of very long palindromes there are fewer
EVALUATION_SEEDS = {"train": 2**40, "val": 2**40 + 1, "test": 2**40 + 2}  # the same for every run
CHUNK_DIGITS = 200_000  # evaluated at once: their states take 100 MB with 128 units


# fmt: off
def recipe_flags() -> Parser:
    """The flags that name a recipe."""
    parser = flags.recipe_parser()
    add = flag_adder(parser, "what to train")
    add("--cell", "--model_type", choices=CELLS, default="rnn",
        help="rnn: the vanilla RNN; lstm, gru: PyTorch's, with PyTorch's initialisation")
    return parser


def build_parser(parent: Parser) -> Parser:
    """All flags."""
    parser = Parser(prog="train.py", description=__doc__, parents=[parent])
    add = flag_adder(parser, "data")
    add("--input_length", type=number(int, 1), default=5, metavar="T",
        help="digits to read, of palindromes of T + 1")
    add("--input_dim", type=int, choices=(1, N_DIGITS), default=N_DIGITS,
        help="10: digits as one-hot vectors; 1: as numbers from 0 to 9")
    add("--num_classes", type=int, choices=(N_DIGITS,), default=N_DIGITS,
        help="possible target digits")
    add = flag_adder(parser, "net")
    add("--num_hidden", type=number(int, 1), default=128, metavar="N", help="hidden units")
    add("--init", choices=INITS, help="rnn: initialisation of W_hh")
    add("--init_scale", type=number(float, 0), metavar="X",
        help="rnn: factor of the initial W_hh; identity above 1: every unit is bistable, that is, "
        "has two stable states")
    add("--input_scale", type=number(float, 0), metavar="X",
        help="rnn: standard deviation of the initial W_xh")
    add("--forget_bias", type=number(float, -100, 100), metavar="X",
        help="lstm: initial bias of the forget gate (default: PyTorch's, about 0)")
    add = flag_adder(parser, "optimiser")
    flags.add_optimiser_flags(add)
    add("--max_norm", type=number(float, 0), metavar="X",
        help="gradient clipping by global norm: a longer gradient is scaled down to this norm; 0: "
        "no clipping")
    add = flag_adder(parser, "training")
    flags.add_training_flags(add, stream=True)
    add("--target_accuracy", type=number(float, 0, 1, above=True), metavar="X",
        help="stop at the first evaluation with this validation accuracy (default: go on)")
    flags.add_run_flags(flag_adder(parser, "run"))
    return parser
# fmt: on


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the flags and refuse what does not go together.

    Raises:
        UsageError: a flag needs another cell or optimiser, or the device is missing.
    """
    args = flags.parse_with_recipe(*FLAGS, argv)
    for flag in VANILLA_ONLY:
        if args.cell != "rnn" and getattr(args, flag) is not None:
            raise UsageError(f"--{flag} is for --cell rnn; PyTorch initialises the {args.cell}")
    if args.forget_bias is not None and args.cell != "lstm":
        raise UsageError(f"--forget_bias is for --cell lstm; the {args.cell} has no forget gate")
    args.device = choose_device(args.device)
    return args


def _recipe(args: argparse.Namespace) -> dict:
    without = {} if args.cell == "rnn" else dict.fromkeys(VANILLA_ONLY)
    return RECIPES[args.recipe] | without


FLAGS = build_parser, recipe_flags, _recipe  # as `flags.parse_with_recipe` takes them


def build(args: argparse.Namespace) -> tuple[TorchModel, PalindromeBatches]:
    """The model and the palindromes it will be trained on; sets PyTorch's seed and threads."""
    n_max = args.batch_size if args.dry_run else max(1, EVALUATED_DIGITS // args.input_length)
    splits = {
        name: draw_palindromes(min(n, n_max), args.input_length, EVALUATION_SEEDS[name])
        for name, n in EVALUATED.items()
    }
    net = initial_net(vars(args)).to(args.device)
    choose_threads(args.batch_size * args.num_hidden**2)
    held_out = torch.cat([splits["val"][0], splits["test"][0]])
    batches = PalindromeBatches(
        args.input_length, args.batch_size, args.seed, held_out=held_out, device=args.device
    )
    splits = {name: (x.to(args.device), y.to(args.device)) for name, (x, y) in splits.items()}
    chunk = max(1, CHUNK_DIGITS // args.input_length)
    return model_of(args, net, splits, max_norm=args.max_norm, evaluation_chunk=chunk), batches


def run_name(args: argparse.Namespace) -> str:
    """The name of a run's folder."""
    cell = "rnn" if args.cell == "rnn" else f"rnn_{args.cell}"
    return f"{cell}_T{args.input_length}_{args.recipe}_seed{args.seed}"


def main() -> int:
    """Train one net for each seed; returns the exit code."""
    return run_training(parse(), SCRIPT, run_name, build)


if __name__ == "__main__":
    run_cli(main)
