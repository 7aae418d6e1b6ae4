"""Train the MLP, in NumPy or in PyTorch, on moons, circles or CIFAR-10.

python part1_mlp/train.py --model numpy --dataset moons
python part1_mlp/train.py --model pytorch --dataset cifar10 --data_dir DIR

The defaults of most flags are in part1_mlp/recipes.py.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data import DATASETS, Dataset, load_dataset
from data.batches import ArrayBatches, Batches, check_batch_size
from part1_mlp.mlp_numpy import MLP as NumpyMLP
from part1_mlp.mlp_numpy import SGD, NumpyModel
from part1_mlp.modules import INITIALISERS, NEG_SLOPE
from part1_mlp.recipes import recipe
from training import UsageError, distributed, flags
from training.cli import run_cli, run_training
from training.flags import Parser, counts, flag_adder, number, on_off, or_word
from training.trainer import Trainable

SCRIPT = "part1_mlp/train.py"
DRY_RUN_SAMPLES = 32  # of a dry run with --batch_size full
# Flags for PyTorch alone, or for images alone, and the value that switches each off.
PYTORCH_ONLY = {
    "dropout": 0.0, "batch_norm": False, "skip": False,
    "label_smoothing": 0.0, "mixup": 0.0, "average_decay": 0.0,
}  # fmt: skip
IMAGES_ONLY = {
    "augment": False, "cutout": 0, "whiten": False, "views": 1, "data_dir": None,
    "cifar10_url": None,
}  # fmt: skip


# fmt: off
def recipe_flags() -> Parser:
    """The flags that name a recipe."""
    parser = flags.recipe_parser()
    add = flag_adder(parser, "what to train")
    add("--model", choices=("numpy", "pytorch"), default="numpy", help="implementation of the net")
    add("--dataset", choices=DATASETS, default="moons", help="data set")
    return parser


def build_parser(parent: Parser) -> Parser:
    """All flags."""
    parser = Parser(prog="train.py", description=__doc__, parents=[parent])
    add = flag_adder(parser, "data")
    add("--n_samples", type=number(int, 10, 10**7), metavar="N",
        help="samples in all, a fifth each for validation and test (default: 5000); cifar10: "
        "training images to keep, and at most as many test images (default: all)")
    add("--noise", type=number(float, 0), metavar="X",
        help="toy sets: standard deviation of the noise (default: moons 0.2, circles 0.1)")
    add("--factor", type=number(float, 0, 1, above=True), metavar="X",
        help="circles: radius of the inner circle, that of the outer being 1 (default: 0.5)")
    flags.add_cifar10_flags(add)
    add("--validation", choices=("held_out", "test"), default="held_out",
        help="samples that stop the training and choose the weights: held out from training, or "
        "the test samples, as is often done, with which the test accuracy is too high")
    add("--whiten", type=on_off, metavar="on|off",
        help="images: whitening, after which pixels and channels are far less correlated")
    add = flag_adder(parser, "net")
    add("--dnn_hidden_units", type=or_word("", (), counts), metavar="N,N,...",
        help="width of each hidden layer; '': no hidden layer")
    add("--init", choices=tuple(INITIALISERS),
        help="initialisation; he or normal give both models the same weights for the same seed")
    add("--precision", choices=("auto", "float32", "float64", "bfloat16"),
        help="float32, float64: of all numbers; bfloat16: pytorch: of the net's products, the rest "
        "in float32; auto: bfloat16 on a device that has units for it, else float32")
    add("--dropout", type=number(float, 0, 0.99), metavar="P",
        help="pytorch: probability of zeroing a hidden activation")
    add("--batch_norm", type=on_off, metavar="on|off", help="pytorch: batch normalisation")
    add("--skip", type=on_off, metavar="on|off",
        help="pytorch: skip connections around hidden layers as wide as their input")
    add("--activation", choices=("relu", "leaky_relu", "elu", "gelu", "silu"),
        help="activation of the hidden layers; gelu and silu: pytorch alone")
    add("--neg_slope", type=number(float, 0), default=NEG_SLOPE, metavar="X",
        help="slope of leaky_relu below 0")
    add = flag_adder(parser, "optimiser and regularisation (numpy: sgd, momentum, weight decay)")
    flags.add_optimiser_flags(add, hidden_weights="the weights of hidden layers")
    flags.add_regularisation_flags(add)
    flags.add_training_flags(flag_adder(parser, "training"))
    flags.add_run_flags(flag_adder(parser, "run"))
    return parser
# fmt: on


# As `flags.parse_with_recipe` takes them.
FLAGS = build_parser, recipe_flags, lambda args: recipe(args.model, args.dataset, args.recipe)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the flags and refuse what does not go together.

    Raises:
        UsageError: a flag needs another model, data set or optimiser, or the machine lacks the
            device or the precision.
    """
    args = flags.parse_with_recipe(*FLAGS, argv)
    if args.model == "numpy":
        _refuse_unless(args, PYTORCH_ONLY, "needs --model pytorch")
        if args.activation in ("gelu", "silu"):
            raise UsageError(f"--activation: {args.activation} needs --model pytorch")
        if args.optimizer != "sgd":
            raise UsageError(f"--optimizer: {args.optimizer} needs --model pytorch; numpy has sgd")
        if args.device not in ("auto", "cpu"):
            raise UsageError(f"--device: {args.device} needs --model pytorch; numpy has cpu")
        if args.precision == "bfloat16":
            raise UsageError("--precision: bfloat16 needs --model pytorch")
        args.device, args.precision = "cpu", args.precision.replace("auto", "float32")
    else:
        args.device = distributed.choose_device(args.device)
        args.precision = distributed.choose_precision(args.precision, args.device)
        if args.device == "mps" and args.precision == "float64":
            raise UsageError("--precision: mps has no float64; choose float32")
    if args.dataset != "cifar10":
        _refuse_unless(args, IMAGES_ONLY, "is for --dataset cifar10")
    if args.neg_slope != NEG_SLOPE and args.activation != "leaky_relu":
        raise UsageError("--neg_slope is for --activation leaky_relu")
    return args


def _refuse_unless(args: argparse.Namespace, off: dict, reason: str) -> None:
    for flag, value in off.items():
        if getattr(args, flag) != value:
            raise UsageError(f"--{flag} {reason}")


def build(args: argparse.Namespace) -> tuple[Trainable, Batches]:
    """The model and the batches it will be trained on; sets PyTorch's seed and threads.

    Raises:
        UsageError: batch normalisation would meet a batch of one sample, or no layer can have a
            skip connection.
        DataError: the batch size is out of range, or the data are missing or broken.
    """
    dataset = load_dataset(
        args.dataset, seed=args.seed, n_samples=args.n_samples, noise=args.noise,
        factor=args.factor, data_dir=args.data_dir, cifar10_url=args.cifar10_url,
    )  # fmt: skip
    if args.validation == "test":
        dataset = dataset.validated_on_test()
    n = len(dataset.x_train)
    batch_size = n if args.batch_size == "full" else args.batch_size
    if args.batch_norm and (batch_size == 1 or n % batch_size == 1):
        raise UsageError("--batch_size: batch normalisation cannot train on a batch of one sample")
    if args.dry_run:
        check_batch_size(batch_size, n)  # of the run; there are fewer samples below
        batch_size = DRY_RUN_SAMPLES if args.batch_size == "full" else batch_size
        dataset = dataset.head(max(2, batch_size))  # one sample has no variance to whiten by
        batch_size = min(batch_size, len(dataset.x_train))
    return (_build_numpy if args.model == "numpy" else _build_pytorch)(args, dataset, batch_size)


def _build_numpy(
    args: argparse.Namespace, dataset: Dataset, batch_size: int
) -> tuple[Trainable, Batches]:
    net = _numpy_net(args, dataset, activation=args.activation)
    optimizer = SGD(
        net.linears, args.learning_rate, momentum=args.momentum, weight_decay=args.weight_decay
    )
    splits = dataset.evaluated()
    x, y = dataset.split("train")
    if args.dataset != "cifar10":
        batches = ArrayBatches(x.astype(net.dtype), y, batch_size, args.seed)
        return NumpyModel(net, optimizer, splits), batches
    import torch  # images are augmented in PyTorch; the toy sets do without it

    images, labels = torch.from_numpy(x), torch.from_numpy(y)
    prepare, batches, views = _image_pipeline(args, images, labels, batch_size)
    splits = {name: (torch.from_numpy(x), y) for name, (x, y) in splits.items()}
    return NumpyModel(net, optimizer, splits, prepare=prepare, views=views), batches


def _build_pytorch(
    args: argparse.Namespace, dataset: Dataset, batch_size: int
) -> tuple[Trainable, Batches]:
    import torch

    from part1_mlp.mlp_pytorch import MLP
    from training.torch_model import model_of

    device, dtype = distributed.own_device(args.device), _dtype(args)
    torch.manual_seed(args.seed)
    net = MLP.from_config(vars(args), dataset.n_inputs, dataset.n_classes).to(device, dtype)
    if args.skip and not any(net.skips):
        raise UsageError("--skip: no hidden layer is as wide as its input")
    distributed.choose_threads(batch_size * max(p.numel() for p in net.parameters()))
    if args.init != "pytorch":
        net.load_numpy_weights(_numpy_net(args, dataset).state_dict())

    def to_device(x: np.ndarray, y: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.from_numpy(x)
        if x.is_floating_point():  # points; cast before they are moved: MPS has no float64
            x = x.to(dtype)
        return x.to(device), torch.from_numpy(y).to(device)

    x, y = to_device(*dataset.split("train"))
    if args.dataset == "cifar10":
        prepare, batches, views = _image_pipeline(args, x, y, batch_size)
        image_settings = {"prepare": prepare, "views": views}
    else:
        batches = ArrayBatches(x, y, batch_size, args.seed)
        image_settings = {}
    splits = {name: to_device(*split) for name, split in dataset.evaluated().items()}
    hidden = [layer[0].weight for layer in net.hidden]
    return model_of(args, net, splits, hidden_weights=hidden, **image_settings), batches


def _numpy_net(args: argparse.Namespace, dataset: Dataset, *, activation: str = "relu") -> NumpyMLP:
    """The NumPy MLP. Its weights depend neither on the activation nor on bfloat16."""
    precision = args.precision.replace("bfloat16", "float32")
    config = vars(args) | {"activation": activation, "precision": precision}
    rng = np.random.default_rng(args.seed)
    return NumpyMLP.from_config(config, dataset.n_inputs, dataset.n_classes, rng=rng)


def _image_pipeline(args: argparse.Namespace, images, labels, batch_size: int):
    from data.images import image_pipeline

    return image_pipeline(
        images, labels, batch_size, seed=args.seed, augment=args.augment, cutout=args.cutout,
        whiten=args.whiten, n_views=args.views, dtype=_dtype(args),
    )  # fmt: skip


def _dtype(args: argparse.Namespace):
    """The type of inputs, weights and sums in PyTorch; bfloat16 is that of products alone."""
    import torch

    return torch.float64 if args.precision == "float64" else torch.float32


def run_name(args: argparse.Namespace) -> str:
    """The name of a run's folder."""
    return f"mlp_{args.model}_{args.dataset}_{args.recipe}_seed{args.seed}"


def main() -> int:
    """Train one net for each seed: `run_training` calls `build` and `Trainer.fit`."""
    return run_training(parse(), SCRIPT, run_name, build)


if __name__ == "__main__":
    run_cli(main)
