"""Speed and memory of part 2, against the plain script that every tutorial has.

    python tests/benchmarks/part2.py --data_dir DIR

Run it on an idle machine. Each measurement is a process of its own, so that none sees the memory
or the threads of another. It prints a table and writes it to tests/benchmarks/part2.json, from
where figures/regenerate.py takes it into the documentation.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms
from torchvision.datasets import CIFAR10

from data.images import MEAN, STD
from part2_cnn import train
from part2_cnn.model import CNN
from tests.benchmarks.common import add_data_dir, medians, row, seconds_of, write_table
from training.distributed import choose_precision, process_group, speaks_for_its_machine

OUTPUT = Path(__file__).with_suffix(".json")
BATCH = 128
WARM_UP, STEPS = 2, 8
REPEATS = 3
TEST_IMAGES = 10_000
PRODUCT_SIZE = 2048
PRODUCT_SECONDS = 3  # to find the best in; without bfloat16 units one product takes longer


# --- Measurements, each in its own process --------------------------------------------------------


def our_step(data_dir: str) -> dict:
    """Images a second through train.py's own code, and its memory; also under torchrun."""
    with process_group("cpu") as group:
        args = train.parse(["--batch_size", str(BATCH), "--data_dir", data_dir])
        model, batches = train.build(args, group)
        drawn = batches.epoch(0)

        def steps(n: int) -> None:
            for batch in islice(drawn, n):
                model.train_step(*batch)

        steps(WARM_UP)
        seconds = seconds_of(lambda: steps(STEPS))
        model.evaluate("val")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # given in KiB
        return {"images_per_second": BATCH * STEPS / seconds, "bytes": peak}


def plain_step(data_dir: str) -> dict:
    """PIL transforms, DataLoader with 2 workers, float32, contiguous, Adam."""
    augmented = transforms.Compose([
        transforms.RandomHorizontalFlip(), transforms.RandomCrop(32, padding=4),
        transforms.ToTensor(), transforms.Normalize(MEAN, STD),
    ])  # fmt: skip
    dataset = CIFAR10(data_dir, transform=augmented)
    loader = iter(DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=2))
    net = plain_cnn()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def steps(n: int) -> None:
        for x, y in islice(loader, n):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            loss.item()

    steps(WARM_UP)
    return {"images_per_second": BATCH * STEPS / seconds_of(lambda: steps(STEPS))}


def our_evaluation(data_dir: str) -> dict:
    """Seconds for the test set as a run evaluates it."""
    model, _ = train.build(train.parse(["--data_dir", data_dir]))
    return {"seconds": seconds_of(lambda: model.evaluate("test"))}


def plain_evaluation(data_dir: str) -> dict:
    """Seconds for the test set through DataLoader with 2 workers."""
    prepared = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    dataset = CIFAR10(data_dir, train=False, transform=prepared)
    net = plain_cnn().eval()

    def evaluate() -> None:
        correct = 0
        with torch.no_grad():
            for x, y in DataLoader(dataset, batch_size=BATCH, num_workers=2):
                correct += (net(x).argmax(1) == y).sum().item()

    return {"seconds": seconds_of(evaluate)}


def plain_cnn() -> CNN:
    """The same layers as a tutorial has them: no Winograd, no work in place."""
    net = CNN(3, 10, winograd=False)
    for layer in net.modules():
        if isinstance(layer, torch.nn.ReLU):
            layer.inplace = False
    return net


def products(data_dir: str) -> dict:
    """Operations a second of the best of several large matrix products, as precise as our step."""
    precision = choose_precision("auto", "cpu")
    a = torch.randn(PRODUCT_SIZE, PRODUCT_SIZE, dtype=getattr(torch, precision))
    taken = []
    while sum(taken) < PRODUCT_SECONDS:
        taken.append(seconds_of(lambda: a @ a))
    return {precision: 2 * PRODUCT_SIZE**3 / min(taken)}


def operations(data_dir: str) -> dict:
    """Floating-point operations of a step, as PyTorch counts them for direct convolutions."""
    net = CNN(3, 10, winograd=False)
    with FlopCounterMode(display=False) as counter:
        net(torch.randn(BATCH, 3, 32, 32)).sum().backward()
    return {"direct": counter.get_total_flops()}


MEASUREMENTS = {
    f.__name__: f
    for f in (our_step, plain_step, our_evaluation, plain_evaluation, products, operations)
}


# --- The table ------------------------------------------------------------------------------------


def measured(name: str, data_dir: str, *, processes: int = 1) -> dict:
    """Take one measurement in a new process, or in several that torchrun starts."""
    command = [sys.executable]
    environment = dict(os.environ)
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        environment["OMP_NUM_THREADS"] = "1"
    command += [str(Path(__file__)), "--measure", name, "--data_dir", data_dir]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr}")
    return json.loads(done.stdout)


def rows(data_dir: str) -> list[dict]:
    """All lines of the table."""
    peaks = []

    def speed(name: str, processes: int = 1) -> float:
        result = measured(name, data_dir, processes=processes)
        if processes == 1 and "bytes" in result:
            peaks.append(result["bytes"])
        return result["images_per_second"]

    ours, plain, two_processes, ours_eval, plain_eval = medians(
        lambda: speed("our_step"),
        lambda: speed("plain_step"),
        lambda: speed("our_step", processes=2),
        lambda: measured("our_evaluation", data_dir)["seconds"],
        lambda: measured("plain_evaluation", data_dir)["seconds"],
        repeats=REPEATS,
    )
    ((precision, best),) = measured("products", data_dir).items()
    flops = measured("operations", data_dir)["direct"] / BATCH * ours
    script = "plain script: torchvision, DataLoader with 2 workers, float32, contiguous"
    step = f"CNN, a step of {BATCH} images, augmentation included"
    product = f"the best {PRODUCT_SIZE} x {PRODUCT_SIZE} product in {precision}"
    return [
        row(f"{step}: images a second", "", ours, script, plain, ours / plain, "at least 2.8"),
        row(f"{step}: operations a second, as of direct convolutions", "GFLOPS", flops / 1e9,
            product, best / 1e9, flops / best, "at least 0.9"),
        row(f"CNN, evaluation of {TEST_IMAGES:,} test images", "s", ours_eval, script, plain_eval,
            plain_eval / ours_eval, "at least 3"),
        row(f"{step}, two processes of one core each: images a second", "", two_processes,
            "one process of two cores", ours, ours / two_processes, "at most 1.05 of its time"),
        row(f"CNN, training with batch {BATCH}: peak memory", "GiB", max(peaks) / 2**30,
            "the goal", 1.5, max(peaks) / 2**30 / 1.5, "at most 1.5 GiB"),
    ]  # fmt: skip


def main() -> None:
    """Measure everything, print it and write it; or take one measurement and print that."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add_data_dir(parser)
    parser.add_argument("--measure", choices=MEASUREMENTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    data_dir = str(args.data_dir)
    if args.measure:
        measured_here = MEASUREMENTS[args.measure](data_dir)
        if speaks_for_its_machine():
            print(json.dumps(measured_here))
    else:
        write_table(OUTPUT, rows(data_dir), repeats=REPEATS)


if __name__ == "__main__":
    main()
