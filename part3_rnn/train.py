"""Train a recurrent net to say the last digit of a palindrome.

python part3_rnn/train.py --input_length 5
python part3_rnn/train.py --recipe best --input_length 200 --cell rnn
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.palindromes import N_DIGITS, PalindromeBatches, draw_palindromes
from part3_rnn.initialise import INITS
from part3_rnn.model import CELLS, GatedRNN, VanillaRNN
from part3_rnn.recipes import RECIPES
from training.device import choose_device, choose_threads
from training.errors import UsageError
from training.flags import (
    Group,
    Parser,
    add_optimiser_flags,
    add_run_flags,
    add_training_flags,
    check_momentum,
    fill_in,
    number,
)
from training.flat import flatten_parameters
from training.memory import check_memory
from training.run import Batches, Learner
from training.script import ROOT, execute, execute_together, one_line_errors
from training.torch_learner import TorchLearner, make_optimizer

VANILLA_ONLY = ("init", "init_scale", "input_scale")
DIGITS_AT_ONCE = 200_000  # evaluated: their states take 100 MB with 128 units
EVALUATED = {"train": 2_000, "val": 10_000, "test": 10_000}  # palindromes a split, but for
LONGEST_EVALUATION = 10**7  # digits in all, for very long ones
EVALUATION_SEEDS = {"train": 2**40, "val": 2**40 + 1, "test": 2**40 + 2}  # the same for every run


def build_parser() -> Parser:
    """All flags, with the default of each recipe in the help."""
    parser = Parser(prog="train.py", description=__doc__.split("\n\n")[0])
    data = Group(parser, "data", RECIPES)
    data.add(
        "--input_length",
        type=number(int, 1),
        default=5,
        metavar="T",
        help="digits to read, of palindromes of T + 1",
    )
    data.add(
        "--input_dim",
        type=int,
        choices=(1, N_DIGITS),
        default=N_DIGITS,
        help="10: digits as one-hot rows; 1: as numbers from 0 to 9",
    )
    data.add(
        "--num_classes",
        type=int,
        choices=(N_DIGITS,),
        default=N_DIGITS,
        help="digits that can be said",
    )
    net = Group(parser, "net", RECIPES)
    net.add("--cell", choices=CELLS, default="rnn", help="rnn is the vanilla one")
    net.add("--num_hidden", type=number(int, 1), default=128, metavar="N", help="hidden units")
    net.add("--init", choices=INITS, help="how the vanilla RNN's W_hh begins")
    net.add(
        "--init_scale",
        type=number(float, 0),
        metavar="X",
        help="times W_hh; identity above 1: every unit begins as a latch",
    )
    net.add(
        "--input_scale",
        type=number(float, 0),
        metavar="X",
        help="standard deviation of the vanilla RNN's W_xh",
    )
    optimiser = Group(parser, "optimiser", RECIPES)
    add_optimiser_flags(optimiser)
    optimiser.add(
        "--max_norm",
        type=number(float, 0),
        metavar="X",
        help="longest gradient, over all parameters; a longer one is scaled down; 0: any",
    )
    training = Group(parser, "training", RECIPES)
    add_training_flags(training, stream=True)
    training.add(
        "--target_accuracy",
        type=number(float, 0, 1, above=True),
        metavar="X",
        help="stop at the first evaluation with this validation accuracy (default: go on)",
    )
    run = Group(parser, "run", RECIPES)
    run.add(
        "--n_seeds",
        type=number(int, 1, 100),
        default=1,
        metavar="N",
        help="train N runs at once, with the seeds from --seed on, each in its own folder under "
        "--run_dir",
    )
    add_run_flags(run)
    return parser


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the flags, fill in the recipe, and refuse what does not go together."""
    args = build_parser().parse_args(argv)
    given = {name for name in VANILLA_ONLY if getattr(args, name) is not None}
    fill_in(args, RECIPES[args.recipe])
    check_momentum(args)
    if args.cell != "rnn":
        for name in given:
            raise UsageError(f"--{name} is for --cell rnn; {args.cell} begins as PyTorch has it")
    _check_memory(args)
    return args


def _check_memory(args: argparse.Namespace) -> None:
    """Weights with their gradients and the optimiser's memory; digits and states of a batch."""
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[args.cell]
    weights = gates * args.num_hidden * (args.num_hidden + args.input_dim)
    states = args.batch_size * args.input_length * (args.num_hidden * 3 * gates + 2 * N_DIGITS)
    flags = "--num_hidden, --batch_size or --input_length"
    check_memory(4 * (6 * weights + states), flags)


def make_net(args: argparse.Namespace) -> VanillaRNN | GatedRNN:
    """The net, with the weights that the seed draws."""
    torch.manual_seed(args.seed)
    if args.cell != "rnn":
        return GatedRNN(args.cell, args.input_dim, args.num_hidden, args.num_classes)
    return VanillaRNN(
        args.input_length,
        args.input_dim,
        args.num_hidden,
        args.num_classes,
        init=args.init,
        init_scale=args.init_scale,
        input_scale=args.input_scale,
    )


def make_learner(args: argparse.Namespace) -> tuple[Learner, Batches]:
    """The net with its optimiser, and the palindromes it will be trained on."""
    device = choose_device(args.device)
    most = args.batch_size if args.dry_run else max(1, LONGEST_EVALUATION // args.input_length)
    splits = {
        name: draw_palindromes(min(n, most), args.input_length, EVALUATION_SEEDS[name])
        for name, n in EVALUATED.items()
    }
    held_out = torch.cat([splits["val"][0], splits["test"][0]])
    net = make_net(args).to(device)
    flat = flatten_parameters(net) if args.cell == "rnn" else None
    choose_threads(args.batch_size * args.num_hidden**2)
    learner = TorchLearner(
        net,
        make_optimizer(
            args.optimizer,
            net.parameters() if flat is None else [flat],
            learning_rate=args.learning_rate,
            momentum=args.momentum,
            weight_decay=args.weight_decay,
        ),
        {name: (x.to(device), y.to(device)) for name, (x, y) in splits.items()},
        max_norm=args.max_norm,
        evaluation_chunk=max(1, DIGITS_AT_ONCE // args.input_length),
        flat=flat,
    )
    batches = PalindromeBatches(
        args.input_length, args.batch_size, args.seed, held_out=held_out, device=device
    )
    return learner, batches


def main() -> int:
    """Train one net, or several with different seeds; returns the exit code."""
    args = parse()
    n_seeds = vars(args).pop("n_seeds")  # each run is recorded as if it were alone
    if n_seeds == 1:
        return execute(args, _run_name(args), lambda: make_learner(args))
    if args.dry_run:
        raise UsageError("--n_seeds: a dry run is of one seed")
    runs = []
    for seed in range(args.seed, args.seed + n_seeds):
        each = argparse.Namespace(**vars(args) | {"seed": seed})
        folder = (args.run_dir or ROOT / "runs") / _run_name(each)
        runs.append((each, folder, partial(make_learner, each)))
    return execute_together(runs)


def _run_name(args: argparse.Namespace) -> str:
    cell = "rnn" if args.cell == "rnn" else f"rnn_{args.cell}"
    return f"{cell}_T{args.input_length}_{args.recipe}_seed{args.seed}"


if __name__ == "__main__":
    one_line_errors(main)
