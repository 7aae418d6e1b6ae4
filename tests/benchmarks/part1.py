"""Speed and exactness of part 1, against scikit-learn, plain PyTorch and torchvision.

    python tests/benchmarks/part1.py --data_dir DIR

Run it on an idle machine. It prints a table and writes it to tests/benchmarks/part1.json, from
where figures/regenerate.py takes it into the documentation.
"""

import argparse
import subprocess
import sys
import tempfile
import warnings
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import islice, pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import CIFAR10

from data import load_dataset
from data.images import MEAN, STD
from part1_mlp import train
from part1_mlp.mlp_numpy import MLP, SGD, NumpyModel
from part1_mlp.mlp_pytorch import MLP as TorchMLP
from tests.benchmarks.common import add_data_dir, medians, row, seconds_of, write_table
from tests.exactness import largest_difference_after_training, largest_error
from training.cli import ROOT
from training.distributed import has_bfloat16
from training.runs import RunFolder
from training.trainer import Trainer

OUTPUT = Path(__file__).with_suffix(".json")
TOY_EPOCHS = 60
WIDTHS = (512, 256, 128)
COURSE_SCRIPT = Path(__file__).with_name("course_mlp.py")


def median_seconds(*timed: Callable[[], float]) -> list[float]:
    """Medians, after one run of each that is not measured: imports, caches."""
    for measure in timed:
        measure()
    return medians(*timed)


def our_seconds_per_step(*flags: str) -> float:
    """Train with the trainer, from the first evaluation to the last; they take no time."""
    args = train.parse([*flags, "--eval_freq", "1000000000", "--quiet"])
    model, batches = train.build(args)
    with tempfile.TemporaryDirectory() as scratch:
        folder = RunFolder(Path(scratch))
        trainer = Trainer(model, batches, args, folder, evaluate=lambda *_, **__: (0.0, 0.0))
        trainer.fit()
    first, last = trainer.history
    return (last["seconds"] - first["seconds"]) / trainer.step


def process_seconds(*arguments: str) -> float:
    """Run Python with these arguments as a process of its own."""
    return seconds_of(
        lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    )


def whole_run_seconds(model: str) -> float:
    """Train on moons from the command line, with all defaults."""
    with tempfile.TemporaryDirectory() as scratch:
        script = str(ROOT / "part1_mlp" / "train.py")
        flags = ("--model", model, "--dataset", "moons", "--quiet", "--run_dir", f"{scratch}/run")
        return process_seconds(script, *flags)


def sklearn_seconds_per_step(
    x: np.ndarray, y: np.ndarray, hidden, batch: int, epochs: int
) -> float:
    """Train scikit-learn's MLPClassifier with plain SGD."""
    net = MLPClassifier(hidden, solver="sgd", batch_size=batch, learning_rate_init=0.01, alpha=0.0,
                        momentum=0.0, max_iter=epochs, n_iter_no_change=10**6, tol=0.0)  # fmt: skip
    steps = epochs * -(-len(x) // batch)
    return seconds_of(lambda: net.fit(x, y)) / steps


def plain_seconds_per_step(x: torch.Tensor, y: torch.Tensor, hidden, batch: int, epochs: int):
    """The loop of every tutorial: zero_grad, forward, loss.item(), backward, step."""
    sizes = [x.shape[1], *hidden]
    layers = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.ReLU())]
    net = nn.Sequential(*layers, nn.Linear(sizes[-1], int(y.max()) + 1))
    optimizer, criterion = torch.optim.SGD(net.parameters(), lr=0.01), nn.CrossEntropyLoss()

    def work() -> None:
        for _ in range(epochs):
            order = torch.randperm(len(x))
            for start in range(0, len(x), batch):
                chosen = order[start : start + batch]
                optimizer.zero_grad()
                loss = criterion(net(x[chosen]), y[chosen])
                loss.item()
                loss.backward()
                optimizer.step()

    return seconds_of(work) / (epochs * -(-len(x) // batch))


def torchvision_images_per_second(root: Path, n_images: int) -> float:
    """The usual pipeline: PIL transforms, DataLoader with 2 workers, the same net and AdamW."""
    pipeline = transforms.Compose([
        transforms.RandomHorizontalFlip(), transforms.RandomCrop(32, padding=4),
        transforms.ToTensor(), transforms.Normalize(MEAN, STD),
    ])  # fmt: skip
    dataset = torch.utils.data.Subset(CIFAR10(root, transform=pipeline), range(n_images))
    loader = DataLoader(dataset, batch_size=128, shuffle=True, num_workers=2)
    net = TorchMLP(3072, WIDTHS, 10, dropout=0.1)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-4)

    def epoch() -> None:
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()

    return n_images / seconds_of(epoch)


def our_images_per_second(n_images: int, data_dir: Path, precision: str) -> float:
    """The same training through train.py's own code."""
    seconds = our_seconds_per_step(
        "--model", "pytorch", "--dataset", "cifar10", "--batch_size", "128", "--max_epochs", "1",
        "--data_dir", str(data_dir), "--precision", precision,
    )  # fmt: skip
    return n_images / (seconds * -(-n_images // 128))


def image_timers(data_dir: Path, batch_size: int, precision: str) -> tuple[Callable, Callable]:
    """Two functions: seconds of a batch's augmentation and normalisation; seconds of a step."""
    args = train.parse(["--model", "pytorch", "--dataset", "cifar10", "--device", "cpu",
                        "--batch_size", str(batch_size), "--precision", precision,
                        "--data_dir", str(data_dir)])  # fmt: skip
    model, batches = train.build(args)
    drawn = list(islice(batches.epoch(0), 25))

    def draw() -> float:
        return seconds_of(lambda: deque(islice(batches.epoch(1), 25), maxlen=0)) / 25

    def step() -> float:
        return seconds_of(lambda: [model.train_step(x, y) for x, y in drawn]) / 25

    return draw, step


def products_seconds(batch: int, *, numpy: bool = False) -> float:
    """The matrix products of a step of the MLP on images, and nothing else."""
    products = []
    for n_in, n_out in pairwise((3072, *WIDTHS, 10)):
        shapes = (batch, n_in), (batch, n_out), (n_out, n_in)
        x, dout, weight = (torch.randn(shape) for shape in shapes)
        products += [(x, weight.T), (dout.T, x), (dout, weight)]
        if numpy:  # whose weights are (n_in, n_out)
            x, dout, weight = x.numpy(), dout.numpy(), weight.T.contiguous().numpy()
            products[-3:] = [(x, weight), (x.T, dout), (dout, weight.T)]
    del products[2]  # the gradient with respect to the images
    products = [(a, b, a @ b) for a, b in products]  # into memory that is there
    multiply = np.matmul if numpy else torch.mm
    return (
        seconds_of(lambda: [multiply(a, b, out=c) for _ in range(50) for a, b, c in products]) / 50
    )


def toy_rows() -> list[dict]:
    """2-20-2 on moons, batch 32, plain SGD."""
    common = ("--max_epochs", str(TOY_EPOCHS), "--dataset", "moons", "--learning_rate", "0.01")
    x, y = load_dataset("moons", seed=0).split("train")
    tx, ty = torch.from_numpy(x).float(), torch.from_numpy(y)
    threads = torch.get_num_threads()

    def with_threads(n: int, measure: Callable[[], float]) -> float:
        torch.set_num_threads(n)
        return measure()

    numpy, sklearn, ours, plain = median_seconds(
        lambda: our_seconds_per_step("--model", "numpy", *common),
        lambda: sklearn_seconds_per_step(x, y, (20,), 32, TOY_EPOCHS),
        lambda: our_seconds_per_step("--model", "pytorch", *common),
        lambda: with_threads(
            threads, lambda: plain_seconds_per_step(tx, ty, (20,), 32, TOY_EPOCHS)
        ),
    )
    torch.set_num_threads(threads)
    return [
        row("NumPy MLP 2-20-2, batch 32, SGD: a step", "us", numpy * 1e6, "MLPClassifier",
            sklearn * 1e6, sklearn / numpy, "at least 8"),
        row("PyTorch MLP 2-20-2, batch 32, SGD: a step", "us", ours * 1e6, "the plain loop",
            plain * 1e6, plain / ours, "at least 1.4"),
    ]  # fmt: skip


def process_rows() -> list[dict]:
    """Whole processes: python part1_mlp/train.py --model MODEL --dataset moons."""
    with tempfile.TemporaryDirectory() as scratch:
        pytorch, torch_alone, numpy, course = median_seconds(
            lambda: whole_run_seconds("pytorch"),
            lambda: process_seconds("-c", "import torch"),
            lambda: whole_run_seconds("numpy"),
            lambda: process_seconds(str(COURSE_SCRIPT), f"{scratch}/curves.csv"),
        )
    name = "train.py --model {} --dataset moons, the whole process"
    return [
        row(name.format("pytorch"), "s", pytorch, "import torch", torch_alone,
            pytorch / torch_alone, "at most 1.5 s more"),
        row(name.format("numpy"), "s", numpy, "a plain course script, with as many steps and "
            "evaluations", course, numpy / course, "at most 1 of its time"),
    ]  # fmt: skip


def wide_rows() -> list[dict]:
    """3072-512-256-128-10 on made-up float32 inputs, batch 128, plain SGD."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(128 * 30, 3072)).astype(np.float32)
    y = rng.integers(0, 10, len(x))
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)
    net = MLP(3072, WIDTHS, 10, rng=rng, dtype=np.float32)
    model = NumpyModel(net, SGD(net.linears, 0.01), {})

    def ours() -> float:
        def work() -> None:
            for start in range(0, len(x), 128):
                model.train_step(x[start : start + 128], y[start : start + 128])

        return seconds_of(work) / 30

    numpy, products, sklearn, plain = median_seconds(
        ours,
        lambda: products_seconds(128, numpy=True),
        lambda: sklearn_seconds_per_step(x, y, WIDTHS, 128, 1),
        lambda: plain_seconds_per_step(tx, ty, WIDTHS, 128, 1),
    )
    name = "NumPy MLP 3072-512-256-128-10, batch 128, float32: a step"
    return [
        row(name, "ms", numpy * 1e3, "MLPClassifier", sklearn * 1e3, sklearn / numpy,
            "at least 1.5"),
        row(name, "ms", numpy * 1e3, "PyTorch, plain loop", plain * 1e3, numpy / plain,
            "at most 0.7 of its time"),
        row(name, "ms", numpy * 1e3, "its matrix products alone", products * 1e3, products / numpy,
            ""),
    ]  # fmt: skip


def cifar10_rows(data_dir: Path) -> list[dict]:
    """Training on CIFAR-10 with augmentation, recipe original, batch 128."""
    n_images = 45_000
    precisions = ("float32", "bfloat16") if has_bfloat16("cpu") else ("float32",)
    theirs, *of_precisions = median_seconds(
        lambda: torchvision_images_per_second(data_dir, n_images),
        *(partial(our_images_per_second, n_images, data_dir, p) for p in precisions),
    )
    drawing, stepping, products = median_seconds(
        *image_timers(data_dir, 128, "float32"), lambda: products_seconds(128)
    )
    rows = [
        row(f"CIFAR-10 MLP, recipe original, batch 128, {precision}: images a second", "", ours,
            "torchvision and DataLoader, 2 workers, float32", theirs, ours / theirs, "at least 5")
        for precision, ours in zip(precisions, of_precisions, strict=True)
    ]  # fmt: skip
    ours = of_precisions[0]
    rows += [
        row("CIFAR-10 MLP, recipe original, batch 128: a step, augmentation included", "ms",
            128e3 / ours, "its matrix products alone", 1e3 * products, products * ours / 128, ""),
        row("augmentation of a batch of 128", "ms", 1e3 * drawing, "the MLP's own step",
            1e3 * stepping, drawing / stepping, "at most 0.15 of its time"),
    ]  # fmt: skip
    if "bfloat16" in precisions:
        (_, ours), (_, theirs) = (image_timers(data_dir, 512, p) for p in ("bfloat16", "float32"))
        ours, theirs = median_seconds(ours, theirs)
        name = "CIFAR-10 MLP, recipe original, batch 512, bfloat16: a step"
        rows += [row(name, "ms", 1e3 * ours, "ours in float32", 1e3 * theirs, theirs / ours,
                     "at least 1.5")]  # fmt: skip
    return rows


def exactness_rows() -> list[dict]:
    """Gradients against central differences, and NumPy against PyTorch after 300 equal steps."""
    error = largest_error()
    worst = max(largest_difference_after_training(hidden, 0.0, 300)
                for hidden in ((20,), (32, 16), (16, 16, 16, 16)))  # fmt: skip
    return [
        row("NumPy gradients, every module and four nets, float64: largest relative error", "",
            error, "central differences", 0.0, error, "below 1e-7"),
        row("NumPy MLP, three depths, 300 steps, float64: largest relative difference of a "
                "parameter", "", worst, "PyTorch", 0.0, worst, "below 1e-9")]  # fmt: skip


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add_data_dir(parser)
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    rows = [*toy_rows(), *process_rows(), *wide_rows(), *exactness_rows()]
    write_table(OUTPUT, rows + cifar10_rows(args.data_dir))


if __name__ == "__main__":
    main()
