"""Train the CNN on CIFAR-10.

python part2_cnn/train.py --recipe original --data_dir DIR
torchrun --standalone --nproc_per_node=2 part2_cnn/train.py --recipe best --data_dir DIR
"""

import argparse
import math
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data import Dataset, load_dataset
from data.batches import ImageBatches, check_batch_size, mix
from data.images import image_pipeline, resize
from part2_cnn.model import CHANNELS, CNN
from part2_cnn.recipes import RECIPES
from training import UsageError, distributed, flags
from training.cli import run_cli, run_training
from training.distributed import SINGLE_PROCESS, ProcessGroup
from training.flags import Parser, counts, flag_adder, number, on_off
from training.torch_model import TorchModel, model_of

SCRIPT = "part2_cnn/train.py"
SMALLEST_IMAGE = 8  # pixels a side: three poolings leave one
# Images evaluated at once: the first block's output then takes 33 MB, which suits a processor's
# cache; a GPU has more memory, and needs more to be busy.
EVALUATION_CHUNK, GPU_CHUNK = 125, 2500


# fmt: off
def build_parser(recipe_flags: Parser) -> Parser:
    """All flags."""
    parser = Parser(prog="train.py", description=__doc__, parents=[recipe_flags])
    add = flag_adder(parser, "data")
    add("--dataset", choices=("cifar10",), default="cifar10", help="data set")
    add("--n_samples", type=number(int, 10), metavar="N",
        help="training images to keep, a tenth of them for validation, and at most as many test "
        "images (default: all)")
    flags.add_cifar10_flags(add)
    add("--image_sizes", type=counts, metavar="N,N,...",
        help="progressive resizing: pixels a side that training images are scaled to, each for an "
        f"equal share of --max_epochs, at least {SMALLEST_IMAGE}; in fewer epochs than sizes the "
        "last, and some of the others")
    add = flag_adder(parser, "net")
    add("--channels", type=channels, metavar="N,N,N", default="64,128,256",
        help="channels of the three blocks")
    add("--global_pooling", type=on_off, metavar="on|off", default="off",
        help="the mean of each channel and one linear layer in place of the three linear layers")
    add("--dropout", type=number(float, 0, 0.99), metavar="P",
        help="probability of zeroing an input of the last linear layers")
    add("--precision", choices=("auto", "float32", "bfloat16"), default="auto",
        help="of the net's products; auto is bfloat16 on a device that has units for it")
    add("--winograd", type=on_off, metavar="on|off", default="on",
        help="in float32 on a CPU: convolutions with fewer multiplications")
    add("--compile", action="store_true",
        help="compile the net with PyTorch first, which takes a minute, in place of --winograd; "
        "meant for GPUs")
    add = flag_adder(parser, "optimiser and regularisation")
    flags.add_optimiser_flags(add, hidden_weights="convolution filters")
    flags.add_regularisation_flags(add)
    flags.add_training_flags(flag_adder(parser, "training"))
    flags.add_run_flags(flag_adder(parser, "run"))
    return parser
# fmt: on


def channels(text: str) -> tuple[int, ...]:
    """Parse the channels of the blocks."""
    found = counts(text)
    if len(found) != len(CHANNELS):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; give {len(CHANNELS)} numbers")
    return found


FLAGS = build_parser, flags.recipe_parser, lambda args: RECIPES[args.recipe]


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the flags, resolve `auto`, and refuse what does not go together.

    Raises:
        UsageError: the machine lacks the device, precision or compiler; or two flags exclude each
            other.
    """
    args = flags.parse_with_recipe(*FLAGS, argv)
    args.device = distributed.choose_device(args.device)
    args.precision = distributed.choose_precision(args.precision, args.device)
    if min(args.image_sizes) < SMALLEST_IMAGE:
        raise UsageError(
            f"--image_sizes: the net halves an image three times; give {SMALLEST_IMAGE} or more"
        )
    if args.compile and not shutil.which("c++") and not args.device.startswith("cuda"):
        raise UsageError("--compile: this machine has no C++ compiler")
    return args


def build(
    args: argparse.Namespace, group: ProcessGroup = SINGLE_PROCESS
) -> tuple[TorchModel, ImageBatches]:
    """The net with its optimiser, and its batches; sets PyTorch's seed and how memory is kept."""
    device = distributed.own_device(args.device)
    if device.type == "cpu":
        distributed.keep_freed_memory()
    dataset = _load(args, group)

    def to_device(x: np.ndarray, y: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)

    x, y = to_device(*dataset.split("train"))
    batch_size = len(x) if args.batch_size == "full" or args.dry_run else args.batch_size
    by_steps = args.max_steps and math.ceil(args.max_steps / math.ceil(len(x) / batch_size))
    max_epochs = min(filter(None, (args.max_epochs, by_steps)))
    prepare, batches, views = image_pipeline(
        x, y, batch_size, seed=args.seed, max_epochs=max_epochs, augment=args.augment,
        cutout=args.cutout, image_sizes=args.image_sizes, n_views=args.views,
        memory_format=torch.channels_last, rank=group.rank, world_size=group.size,
    )  # fmt: skip
    torch.manual_seed(args.seed)
    net = CNN.from_config(vars(args), x.shape[1], dataset.n_classes).to(device)
    if args.compile:
        net.compile()
    if group.size > 1:  # so that no two processes drop the same activations
        torch.manual_seed(mix(args.seed, group.rank, group.size))
    splits = {name: to_device(*split) for name, split in dataset.evaluated().items()}
    model = model_of(
        args, net, splits, prepare=prepare, views=views, resize=resize, group=group,
        hidden_weights=[p for p in net.parameters() if p.ndim == 4],
        evaluation_chunk=EVALUATION_CHUNK if device.type == "cpu" else GPU_CHUNK,
    )  # fmt: skip
    model.image_size = batches.image_size(0)  # of the evaluation before the first step
    return model, batches


def _load(args: argparse.Namespace, group: ProcessGroup) -> Dataset:
    load = partial(
        load_dataset, args.dataset, seed=args.seed, n_samples=args.n_samples,
        data_dir=args.data_dir, cifar10_url=args.cifar10_url,
    )  # fmt: skip
    if group.size > 1:
        group.on_main(lambda: load() and None)  # the main process downloads; then each reads
    dataset = load()
    fewest = min(len(y) for _, y in dataset.evaluated().values())
    if fewest < group.size:
        raise UsageError(f"torchrun: {group.size} processes cannot share a split of {fewest}")
    if args.dry_run:
        n = len(dataset.x_train)
        batch = n if args.batch_size == "full" else args.batch_size
        check_batch_size(batch, n, group.size)  # of the run; there are fewer samples below
        few = dataset.head(min(batch, max(group.size, EVALUATION_CHUNK // args.views)))
        dataset = replace(few, x_train=dataset.x_train[:batch], y_train=dataset.y_train[:batch])
    return dataset


def run_name(args: argparse.Namespace) -> str:
    """The name of a run's folder."""
    return f"cnn_{args.dataset}_{args.recipe}_seed{args.seed}"


def main() -> int:
    """Train one net for each seed; returns the exit code."""
    args = parse()
    with distributed.process_group(args.device) as group:
        return run_training(args, SCRIPT, run_name, partial(build, group=group), group)


if __name__ == "__main__":
    run_cli(main)
