"""The flags of part 1's train script, and what goes together with what."""

import argparse

from data import DATASETS
from part1_mlp.modules import INITIALISERS
from part1_mlp.recipes import RECIPES, defaults
from training.errors import UsageError
from training.flags import (
    Group,
    Parser,
    add_run_flags,
    add_training_flags,
    counts,
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
        type=number(int, 10),
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
    data.add(
        "--data_dir",
        metavar="DIR",
        help="where CIFAR-10 lies (default: $CIFAR10_DIR, then data/cifar10/, then download)",
    )
    data.add("--cifar10_url", metavar="URL", help="a mirror to download the archive from")
    data.add(
        "--cifar10_md5",
        choices=("check", "skip"),
        default="check",
        help="skip accepts a set of your own in CIFAR-10's format",
    )
    data.add(
        "--augment",
        type=on_off,
        metavar="on|off",
        help="images: random flip and random 32x32 crop with padding 4",
    )
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
    optimiser = Group(parser, "optimiser and regularisation", RECIPES)
    optimiser.add(
        "--optimizer", choices=("sgd", "adam", "adamw", "rmsprop"), help="numpy: sgd alone"
    )
    optimiser.add(
        "--momentum", type=number(float, 0, 0.999), metavar="X", help="of sgd and rmsprop"
    )
    optimiser.add(
        "--weight_decay", type=number(float, 0), metavar="X", help="pull of all weights towards 0"
    )
    optimiser.add(
        "--label_smoothing",
        type=number(float, 0, 0.99),
        metavar="X",
        help="pytorch: share of the target spread over all classes",
    )
    optimiser.add(
        "--mixup",
        type=number(float, 0),
        metavar="X",
        help="pytorch: Beta parameter for mixing pairs of samples; 0 mixes none",
    )
    optimiser.add(
        "--average_decay",
        type=number(float, 0, 0.99999),
        metavar="X",
        help="pytorch: judge a moving average of the weights with this decay a step",
    )
    optimiser.add(
        "--views",
        type=int,
        choices=(1, 2, 18, 50),
        help="images: versions of a test image to average over at the end: the image, "
        "its mirror image, and both shifted over a 3x3 or 5x5 grid",
    )
    add_training_flags(Group(parser, "training", RECIPES))
    run = Group(parser, "run", RECIPES)
    run.add(
        "--recipe",
        choices=("report", "best"),
        default="report",
        help="sets the default of every flag above; a flag that you give still counts",
    )
    run.add(
        "--device",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help="pytorch: where to train",
    )
    add_run_flags(run)
    return parser


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the flags, fill in the recipe, and refuse what does not go together."""
    args = build_parser().parse_args(argv)
    epochs = args.max_epochs
    for flag, value in defaults(args.model, args.dataset, args.recipe).items():
        if getattr(args, flag) is None:
            setattr(args, flag, value)
    if args.max_steps and not epochs:
        args.max_epochs = None  # a number of steps that was asked for is not cut short
    args.init = args.init or ("he" if args.model == "numpy" else "pytorch")
    if args.model == "numpy":
        _refuse_unless(args, PYTORCH_ONLY, "needs --model pytorch")
        if args.optimizer != "sgd":
            raise UsageError(f"--optimizer: {args.optimizer} needs --model pytorch; numpy has sgd")
        if args.device not in ("auto", "cpu"):
            raise UsageError(f"--device: {args.device} needs --model pytorch; numpy has cpu")
    if args.dataset != "cifar10":
        _refuse_unless(args, IMAGES_ONLY, "is for --dataset cifar10")
    if args.momentum and args.optimizer in ("adam", "adamw"):
        raise UsageError(f"--momentum: {args.optimizer} has its own; it is for sgd and rmsprop")
    return args


def _refuse_unless(args: argparse.Namespace, off: dict, reason: str) -> None:
    for flag, value in off.items():
        if getattr(args, flag) != value:
            raise UsageError(f"--{flag} {reason}")
