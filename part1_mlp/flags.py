"""The flags of part 1's train script, and what goes together with what."""

import argparse

from data import DATASETS
from part1_mlp.modules import INITIALISERS
from part1_mlp.recipes import RECIPES, defaults
from training.errors import UsageError
from training.flags import (
    Group,
    Parser,
    add_cifar10_flags,
    add_optimiser_flags,
    add_regularisation_flags,
    add_run_flags,
    add_training_flags,
    check_momentum,
    counts,
    fill_in,
    number,
    on_off,
)

DESCRIPTION = "Train the MLP, in NumPy or in PyTorch, on moons, circles or CIFAR-10."
PYTORCH_ONLY = {  # flag: the value that leaves it off
    "dropout": 0.0,
    "batch_norm": False,
    "skip": False,
    "activation": "relu",
    "label_smoothing": 0.0,
    "mixup": 0.0,
    "average_decay": 0.0,
}
IMAGES_ONLY = {"augment": False, "whiten": False, "views": 1}


def build_parser() -> Parser:
    """All flags, with the default of each recipe in the help."""
    parser = Parser(prog="train.py", description=DESCRIPTION)
    data = Group(parser, "data", RECIPES)
    data.add("--dataset", choices=DATASETS, default="moons", help="what to learn")
    data.add(
        "--n_samples",
        type=number(int, 10, 10**7),
        metavar="N",
        help="samples in all, a fifth each for validation and test (default: 5000); "
        "cifar10: training images to keep (default: all)",
    )
    data.add(
        "--noise",
        type=number(float, 0),
        metavar="X",
        help="toy sets: standard deviation of the noise (default: moons 0.2, circles 0.1)",
    )
    add_cifar10_flags(data)
    data.add(
        "--whiten",
        type=on_off,
        metavar="on|off",
        help="images: make neighbouring pixels and channels uncorrelated",
    )
    net = Group(parser, "net", RECIPES)
    net.add("--model", choices=("numpy", "pytorch"), default="numpy", help="which implementation")
    net.add(
        "--dnn_hidden_units",
        type=counts,
        metavar="N,N,...",
        help="width of each hidden layer",
    )
    net.add(
        "--init",
        choices=tuple(INITIALISERS),
        help="initial weights (default: numpy he, pytorch its own); he or normal give both "
        "models the same weights for the same seed",
    )
    net.add("--precision", choices=("float32", "float64"), default="float32", help="of all numbers")
    net.add(
        "--dropout",
        type=number(float, 0, 0.99),
        metavar="P",
        help="pytorch: probability of dropping a hidden activation",
    )
    net.add("--batch_norm", type=on_off, metavar="on|off", help="pytorch: batch normalisation")
    net.add(
        "--skip",
        type=on_off,
        metavar="on|off",
        help="pytorch: add a hidden layer's input to its output where both are equally wide",
    )
    net.add("--activation", choices=("relu", "gelu", "silu"), help="pytorch: other than relu")
    title = "optimiser and regularisation (numpy: sgd, momentum and weight decay)"
    optimiser = Group(parser, title, RECIPES)
    add_optimiser_flags(optimiser)
    add_regularisation_flags(optimiser)
    add_training_flags(Group(parser, "training", RECIPES))
    add_run_flags(Group(parser, "run", RECIPES))
    return parser


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the flags, fill in the recipe, and refuse what does not go together."""
    args = build_parser().parse_args(argv)
    fill_in(args, defaults(args.model, args.dataset, args.recipe))
    args.init = args.init or ("he" if args.model == "numpy" else "pytorch")
    if args.model == "numpy":
        _refuse_unless(args, PYTORCH_ONLY, "needs --model pytorch")
        if args.optimizer != "sgd":
            raise UsageError(f"--optimizer: {args.optimizer} needs --model pytorch; numpy has sgd")
        if args.device not in ("auto", "cpu"):
            raise UsageError(f"--device: {args.device} needs --model pytorch; numpy has cpu")
    if args.dataset != "cifar10":
        _refuse_unless(args, IMAGES_ONLY, "is for --dataset cifar10")
    check_momentum(args)
    return args


def _refuse_unless(args: argparse.Namespace, off: dict, reason: str) -> None:
    for flag, value in off.items():
        if getattr(args, flag) != value:
            raise UsageError(f"--{flag} {reason}")
