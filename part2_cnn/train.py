"""Train the CNN on CIFAR-10.

python part2_cnn/train.py --recipe report --data_dir DIR
torchrun --standalone --nproc_per_node=2 part2_cnn/train.py --recipe best --data_dir DIR
"""

import argparse
import shutil
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data import DataError, Dataset, load_dataset
from data.augment import resize
from data.pipeline import image_pipeline
from part2_cnn.model import CNN
from part2_cnn.recipes import RECIPES
from training.device import choose_device, choose_precision, keep_freed_memory
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
from training.memory import check_memory
from training.run import Batches, Learner
from training.script import execute, one_line_errors
from training.team import ALONE, Team, joined
from training.torch_learner import TorchLearner, make_optimizer

BYTES_PER_PIXEL = 8_000  # of a batch's images, at most, in all that a step keeps
EVALUATION_CHUNK = 125  # images: the first block's output then takes 33 MB


def build_parser() -> Parser:
    """All flags, with the default of each recipe in the help."""
    parser = Parser(prog="train.py", description="Train the CNN on CIFAR-10.")
    data = Group(parser, "data", RECIPES)
    data.add("--dataset", choices=("cifar10",), default="cifar10", help="what to learn")
    data.add(
        "--n_samples",
        type=number(int, 10),
        metavar="N",
        help="training images to keep, a tenth of them for validation (default: all)",
    )
    add_cifar10_flags(data)
    data.add(
        "--image_sizes",
        type=counts,
        metavar="N,N,...",
        help="pixels a side that training images are scaled to, each for an equal share of "
        "--max_epochs, at least 8; small ones are quick lessons",
    )
    net = Group(parser, "net", RECIPES)
    net.add(
        "--dropout",
        type=number(float, 0, 0.99),
        metavar="P",
        help="probability of dropping an activation of a hidden linear layer",
    )
    net.add(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="of the net's products; auto is bfloat16 on a device that has units for it",
    )
    net.add(
        "--winograd",
        type=on_off,
        metavar="on|off",
        default=True,
        help="in float32 on a CPU: convolutions with fewer multiplications",
    )
    net.add(
        "--compile",
        action="store_true",
        help="let PyTorch compile the net first, which takes a minute, in place of --winograd; "
        "meant for GPUs",
    )
    optimiser = Group(parser, "optimiser and regularisation", RECIPES)
    add_optimiser_flags(optimiser, filters=True)
    add_regularisation_flags(optimiser)
    add_training_flags(Group(parser, "training", RECIPES))
    add_run_flags(Group(parser, "run", RECIPES))
    return parser


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the flags, fill in the recipe, and refuse what does not go together."""
    args = build_parser().parse_args(argv)
    fill_in(args, RECIPES[args.recipe])
    check_momentum(args)
    if min(args.image_sizes) < 8:
        raise UsageError("--image_sizes: the net halves an image three times; give 8 or more")
    if args.compile and not shutil.which("c++") and not torch.cuda.is_available():
        raise UsageError("--compile: this machine has no C++ compiler")
    return args


def make_learner(args: argparse.Namespace, team: Team = ALONE) -> tuple[Learner, Batches]:
    """The net with its optimiser, and the batches it will be trained on."""
    device = choose_device(args.device)
    precision = choose_precision(args.precision, device)
    if device.type == "cpu":
        keep_freed_memory()
    dataset = _load(args, team)
    n = len(dataset.x_train)
    batch = n if args.batch_size == "full" else min(n, max(args.batch_size))
    pixels = batch / team.size * max(args.image_sizes) ** 2
    check_memory(BYTES_PER_PIXEL * pixels, "--batch_size or --image_sizes")
    x, y = (torch.from_numpy(array).to(device) for array in dataset.split("train"))
    pipeline = image_pipeline(
        x,
        y,
        (n,) if args.batch_size == "full" else args.batch_size,
        seed=args.seed,
        max_epochs=args.max_epochs or RECIPES[args.recipe]["max_epochs"],
        augment=args.augment,
        n_views=args.views,
        memory_format=torch.channels_last,
        image_sizes=args.image_sizes,
        rank=team.rank,
        world_size=team.size,
    )
    torch.manual_seed(args.seed)
    winograd = args.winograd and not args.compile  # the compiler would unroll its loops
    net = CNN(x.shape[1], dataset.n_classes, dropout=args.dropout, winograd=winograd)
    net = net.to(device, memory_format=torch.channels_last)
    if args.compile:
        net.compile()
    torch.manual_seed(args.seed + team.rank)  # so that no two processes drop the same activations
    learner = TorchLearner(
        net,
        make_optimizer(
            args.optimizer,
            net.parameters(),
            learning_rate=args.learning_rate,
            momentum=args.momentum,
            weight_decay=args.weight_decay,
        ),
        {
            name: tuple(torch.from_numpy(array).to(device) for array in arrays)
            for name, arrays in dataset.evaluated().items()
        },
        prepare=pipeline.prepare,
        label_smoothing=args.label_smoothing,
        mixup=args.mixup,
        average_decay=args.average_decay,
        views=pipeline.views,
        resize=resize,
        precision=precision,
        evaluation_chunk=EVALUATION_CHUNK,
        team=team,
    )
    return learner, pipeline.batches


def _load(args: argparse.Namespace, team: Team) -> Dataset:
    def load() -> Dataset:
        return load_dataset(
            args.dataset,
            seed=args.seed,
            n_samples=args.n_samples,
            data_dir=args.data_dir,
            cifar10_url=args.cifar10_url,
            check_md5=args.cifar10_md5 == "check",
        )

    if team.size > 1:
        team.from_leader(lambda: load() and None)  # one process downloads and unpacks for all
    dataset = load()
    if args.dry_run:
        largest = len(dataset.x_train) if args.batch_size == "full" else max(args.batch_size)
        dataset = dataset.head(min(largest, EVALUATION_CHUNK // args.views))
        args.batch_size = "full"
    return dataset


def main() -> int:
    """Train one net; returns the exit code."""
    args = parse()
    with joined(choose_device(args.device).type) as team:
        name = f"cnn_{args.dataset}_{args.recipe}_seed{args.seed}"
        return execute(args, name, lambda: make_learner(args, team), team)


if __name__ == "__main__":
    one_line_errors(main, DataError)
