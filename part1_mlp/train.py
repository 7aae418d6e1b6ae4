"""Train the MLP, in NumPy or in PyTorch, on moons, circles or CIFAR-10.

python part1_mlp/train.py --model numpy --dataset moons
python part1_mlp/train.py --model pytorch --dataset cifar10 --recipe report --data_dir DIR
"""

import argparse
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data import DataError, Dataset, load_dataset
from data.batches import ArrayBatches
from part1_mlp.flags import parse
from part1_mlp.mlp_numpy import MLP as NumpyMLP
from part1_mlp.mlp_numpy import SGD
from part1_mlp.numpy_learner import NumpyLearner
from part1_mlp.recipes import defaults
from training.errors import UsageError
from training.memory import check_memory
from training.run import Batches, Learner
from training.script import execute, one_line_errors

DRY_RUN_SAMPLES = 32  # where the batch is the whole set


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
    _check_memory(args, dataset, min(n, max(sizes)))
    make = _numpy_learner if args.model == "numpy" else _torch_learner
    return make(args, dataset, sizes)


def _check_memory(args: argparse.Namespace, dataset: Dataset, batch_size: int) -> None:
    """Weights with their gradients and the optimiser's memory; activations of a batch."""
    widths = (dataset.n_inputs, *args.dnn_hidden_units, dataset.n_classes)
    weights = sum(a * b for a, b in pairwise(widths))
    numbers = 6 * weights + 3 * batch_size * sum(widths)
    check_memory(numbers * np.dtype(args.precision).itemsize, "--dnn_hidden_units or --batch_size")


def _numpy_mlp(args: argparse.Namespace, dataset: Dataset) -> NumpyMLP:
    return NumpyMLP(
        dataset.n_inputs,
        args.dnn_hidden_units,
        dataset.n_classes,
        rng=np.random.default_rng(args.seed),
        init=args.init,
        dtype=np.dtype(args.precision).type,
    )


def _planned_epochs(args: argparse.Namespace) -> int:
    """The epochs that several batch sizes share, also where --max_steps sets the end."""
    return args.max_epochs or defaults(args.model, args.dataset, args.recipe)["max_epochs"]


def _image_pipeline(args: argparse.Namespace, images, labels, batch_sizes: tuple[int, ...]):
    import torch

    from data.pipeline import image_pipeline

    return image_pipeline(
        images,
        labels,
        batch_sizes,
        seed=args.seed,
        max_epochs=_planned_epochs(args),
        augment=args.augment,
        whiten=args.whiten,
        n_views=args.views,
        dtype=getattr(torch, args.precision),
    )


def _numpy_learner(
    args, dataset: Dataset, batch_sizes: tuple[int, ...]
) -> tuple[NumpyLearner, Batches]:
    net = _numpy_mlp(args, dataset)
    optimizer = SGD(
        net.linears, args.learning_rate, momentum=args.momentum, weight_decay=args.weight_decay
    )
    splits = dataset.evaluated()
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
        x.astype(net.dtype), y, batch_sizes, args.seed, max_epochs=_planned_epochs(args)
    )
    return NumpyLearner(net, optimizer, splits, dataset.n_classes), batches


def _torch_learner(args, dataset: Dataset, batch_sizes: tuple[int, ...]) -> tuple[Learner, Batches]:
    import torch  # here, so that the NumPy MLP starts without it

    from part1_mlp.mlp_pytorch import MLP
    from training.device import choose_device, choose_threads
    from training.torch_learner import TorchLearner, make_optimizer

    device = choose_device(args.device)
    if device.type == "mps" and args.precision == "float64":
        raise UsageError("--precision: mps has no float64; choose float32")
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
    choose_threads(max(batch_sizes) * max(p.numel() for p in net.parameters()))
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
        for name, (x, y) in dataset.evaluated().items()
    }
    x, y = (torch.from_numpy(a).to(device) for a in dataset.split("train"))
    views = None
    if args.dataset == "cifar10":
        prepare, batches, views = _image_pipeline(args, x, y, batch_sizes)
    else:

        def prepare(points: torch.Tensor) -> torch.Tensor:
            return points.to(dtype)

        batches = ArrayBatches(
            prepare(x), y, batch_sizes, args.seed, max_epochs=_planned_epochs(args)
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
