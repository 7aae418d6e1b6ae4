"""Train the MLP, in NumPy or in PyTorch, on moons, circles or CIFAR-10.

python part1_mlp/train.py --model numpy --dataset moons
python part1_mlp/train.py --model pytorch --dataset cifar10 --recipe report --data_dir DIR
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data import DATASETS, DataError, Dataset, load_dataset
from data.batches import ArrayBatches, ImageBatches
from data.cifar10 import MEAN, STD
from part1_mlp.mlp_numpy import MLP as NumpyMLP
from part1_mlp.mlp_numpy import SGD
from part1_mlp.modules import INITIALISERS
from part1_mlp.numpy_learner import NumpyLearner
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
from training.run import SPLITS, Batches, Learner
from training.script import execute, one_line_errors

TRAIN_SAMPLES_EVALUATED = 5000  # of CIFAR-10's 45,000, without augmentation: as many as validate
WHITENING_SAMPLES = 10_000  # training images that the statistics are taken from
DRY_RUN_SAMPLES = 32  # where the batch is the whole set
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
    parser = Parser(prog="train.py", description=__doc__.split("\n\n")[0])
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
    for flag, value in defaults(args.model, args.dataset, args.recipe).items():
        if getattr(args, flag) is None:
            setattr(args, flag, value)
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


def make_learner(args: argparse.Namespace) -> tuple[Learner, Batches]:
    """The net with its optimiser, and the batches it will be trained on."""
    dataset = load_dataset(
        args.dataset,
        seed=args.seed,
        n_samples=args.n_samples,
        noise=args.noise,
        data_dir=args.data_dir,
        cifar10_url=args.cifar10_url,
        check_md5=args.cifar10_md5 == "check",
    )
    if args.dry_run:
        dataset = dataset.head(DRY_RUN_SAMPLES if args.batch_size == "full" else args.batch_size[0])
        args.batch_size = "full"
    n = len(dataset.x_train)
    sizes = (n,) if args.batch_size == "full" else args.batch_size
    if args.batch_norm and any(size == 1 or n % size == 1 for size in sizes):
        raise UsageError("--batch_size: batch normalisation cannot train on a batch of one sample")
    make = _numpy_learner if args.model == "numpy" else _torch_learner
    return make(args, dataset, sizes)


def _numpy_mlp(args: argparse.Namespace, dataset: Dataset) -> NumpyMLP:
    return NumpyMLP(
        dataset.n_inputs,
        args.dnn_hidden_units,
        dataset.n_classes,
        rng=np.random.default_rng(args.seed),
        init=args.init,
        dtype=np.dtype(args.precision).type,
    )


def _evaluated(dataset: Dataset) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    splits = {name: dataset.split(name) for name in SPLITS}
    splits["train"] = tuple(a[:TRAIN_SAMPLES_EVALUATED] for a in splits["train"])
    return splits


def _image_pipeline(args: argparse.Namespace, images, labels, batch_sizes: tuple[int, ...]):
    """What turns uint8 images into inputs, the training batches, and the views to average."""
    from data.augment import Normaliser, views
    from data.whiten import Whitener

    prepare = Normaliser(MEAN, STD, images.device)
    if args.whiten:
        prepare = Whitener(prepare, images[:WHITENING_SAMPLES])
    batches = ImageBatches(
        images,
        labels,
        batch_sizes,
        args.seed,
        max_epochs=args.max_epochs or 1,
        prepare=prepare,
        augment=args.augment,
    )
    return prepare, batches, partial(views, n_views=args.views) if args.views > 1 else None


def _numpy_learner(
    args, dataset: Dataset, batch_sizes: tuple[int, ...]
) -> tuple[NumpyLearner, Batches]:
    net = _numpy_mlp(args, dataset)
    optimizer = SGD(
        net.linears, args.learning_rate, momentum=args.momentum, weight_decay=args.weight_decay
    )
    splits = _evaluated(dataset)
    if args.dataset == "cifar10":
        import torch

        images, labels = (torch.from_numpy(a) for a in dataset.split("train"))
        prepare, batches, views = _image_pipeline(args, images, labels, batch_sizes)
        learner = NumpyLearner(
            net,
            optimizer,
            splits,
            dataset.n_classes,
            prepare=lambda x: prepare(torch.as_tensor(x)).numpy(),
            views=views and (lambda x: views(torch.from_numpy(x))),
        )
        return learner, batches
    x, y = dataset.split("train")
    batches = ArrayBatches(
        x.astype(net.dtype), y, batch_sizes, args.seed, max_epochs=args.max_epochs or 1
    )
    return NumpyLearner(net, optimizer, splits, dataset.n_classes), batches


def _torch_learner(args, dataset: Dataset, batch_sizes: tuple[int, ...]) -> tuple[Learner, Batches]:
    import torch  # here, so that the NumPy MLP starts without it

    from part1_mlp.mlp_pytorch import MLP
    from training.device import choose_device, choose_threads
    from training.torch_learner import TorchLearner, make_optimizer

    device = choose_device(args.device)
    dtype = getattr(torch, args.precision)
    torch.manual_seed(args.seed)
    net = MLP(
        dataset.n_inputs,
        args.dnn_hidden_units,
        dataset.n_classes,
        dropout=args.dropout,
        batch_norm=args.batch_norm,
        skip=args.skip,
        activation=args.activation,
    ).to(device, dtype)
    choose_threads(sum(p.numel() for p in net.parameters()))
    if args.init != "pytorch":
        net.load_numpy_weights(_numpy_mlp(args, dataset).state_dict())
    optimizer = make_optimizer(
        args.optimizer,
        net.parameters(),
        learning_rate=args.learning_rate,
        momentum=args.momentum,
        weight_decay=args.weight_decay,
    )
    splits = {
        name: (torch.from_numpy(x).to(device), torch.from_numpy(y).to(device))
        for name, (x, y) in _evaluated(dataset).items()
    }
    x, y = (torch.from_numpy(a).to(device) for a in dataset.split("train"))
    views = None
    if args.dataset == "cifar10":
        prepare, batches, views = _image_pipeline(args, x, y, batch_sizes)
    else:

        def prepare(points: torch.Tensor) -> torch.Tensor:
            return points.to(dtype)

        batches = ArrayBatches(
            prepare(x), y, batch_sizes, args.seed, max_epochs=args.max_epochs or 1
        )
    learner = TorchLearner(
        net,
        optimizer,
        splits,
        prepare=prepare,
        label_smoothing=args.label_smoothing,
        mixup=args.mixup,
        average_decay=args.average_decay,
        views=views,
    )
    return learner, batches


def main() -> int:
    """Train one net; returns the exit code."""
    args = parse()
    name = f"mlp_{args.model}_{args.dataset}_{args.recipe}_seed{args.seed}"
    return execute(args, name, lambda: make_learner(args))


if __name__ == "__main__":
    one_line_errors(main, DataError)
