"""Train the runs behind the figures anew, and keep their records."""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from data import CLASS_NAMES
from figures.experiments import Experiment, Records
from figures.measurements import MEASURES
from training import UsageError
from training.cli import ROOT, markdown_table, side_by_side, train_in_process
from training.distributed import n_cores
from training.runs import CONFIG, HISTORY, RESULT, read_run, write_atomically

THIS_MACHINE = ("run_dir", "data_dir")  # flags that a record does not keep
LONG = 600  # seconds that a run takes, above which `--retrain original` trains one seed
SMALL = {"train": 300, "test": 50}  # images of CIFAR-10 that short runs use


def retrain(
    experiments: Sequence[Experiment], work: Path, records: Path, earlier: Records, *, jobs: int,
    small: bool, data_dir: Path | None,
) -> None:  # fmt: skip
    """Train every run in a process of its own and write its record.

    All that is trained stays in `work` until the last run has ended, so that a call that was
    interrupted continues where it was. What took longest in `earlier` records is trained first;
    `small`: on a small part of CIFAR-10.

    Raises:
        UsageError: a train script refused its input; its message is in ours.
        ChildProcessError: one failed in another way, or was killed.
    """
    if small and any(experiment.needs_images for experiment in experiments):
        data_dir = write_small_cifar10(work / "cifar10", data_dir)

    def train(run: Experiment, seed: int) -> tuple[Experiment, str]:
        name = f"{run.group}/seed{seed}"
        command = [str(ROOT / run.script), *run.flags.split(), "--seed", str(seed)]
        command += ["--data_dir", str(data_dir)] if data_dir and run.needs_images else []
        train_in_process(command, work / name, jobs=jobs, name=f"{run.group}, seed {seed}")
        return run, name

    longest_first = sorted(experiments, key=lambda each: -seconds_a_run(each, earlier))
    runs = {(each.group, seed): each for each in longest_first for seed in each.seeds}
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // jobs))  # of measures, beside which runs are trained
    # tqdm's None: hidden unless standard error is a terminal; it may be closed.
    hidden = None if sys.stderr else True
    calls = [(run, seed) for (_, seed), run in runs.items()]
    with tqdm(total=len(runs), unit="run", disable=hidden) as bar:
        try:
            for experiment, name in side_by_side(train, calls, jobs):
                folder = work / name
                for measure in experiment.measures:  # one at a time: they seed PyTorch's generator
                    if not (folder / measure).exists():
                        text = MEASURES[measure](read_run(folder), data_dir=data_dir)
                        write_atomically(folder / measure, text)
                keep_record(folder, records / name, experiment.measures)
                bar.set_postfix_str(name)
                bar.update()
        finally:
            torch.set_num_threads(threads)
    for group in {group for group, _ in runs}:
        shutil.rmtree(work / group)


def expected_times(
    experiments: Sequence[Experiment], earlier: Records, jobs: int
) -> tuple[str, float, int]:
    """What a retraining will take by earlier records, on a machine like theirs.

    Returns:
        A table of the runs with the seconds of each; the seconds of all; and how many were recorded
        on a GPU. Runs without a record, of which nothing is known, add nothing.
    """
    rows, whole, cores, on_gpu = [], 0.0, n_cores(), 0
    for experiment in dict.fromkeys(experiments):
        seconds, n = seconds_a_run(experiment, earlier), len(experiment.seeds)
        cell = f"{seconds:.0f}" if seconds else "unknown"
        if seconds:
            group = earlier.read(experiment)
            threads = group.config["environment"]["threads"] or cores  # NumPy's are not recorded
            whole += n * seconds * max(1.0, threads * jobs / cores) / jobs
            on_gpu += n * group.on_gpu
            cell += " on a GPU" * group.on_gpu
        rows.append((experiment.group, n, cell, experiment.command(experiment.seeds[0])))
    table = markdown_table(("runs", "seeds", "seconds each", "command of the first"), rows)
    return table, whole, on_gpu


def is_long(experiment: Experiment, records: Records) -> bool:
    """Whether one of its runs takes more than LONG on a processor, or is recorded on a GPU."""
    seconds = seconds_a_run(experiment, records)
    return seconds > LONG or (seconds > 0 and records.read(experiment).on_gpu)


def seconds_a_run(experiment: Experiment, records: Records) -> float:
    """What one of its runs took by its records, in seconds; 0 if there is none, or a broken one."""
    try:
        return records.read(experiment).seconds / len(experiment.seeds)
    except UsageError:
        return 0.0


def keep_record(folder: Path, record: Path, measures: Sequence[str]) -> None:
    """Copy a run without its weights and without the paths of the machine that it ran on."""
    record.mkdir(parents=True, exist_ok=True)
    config = json.loads((folder / CONFIG).read_text())
    config |= dict.fromkeys(name for name in THIS_MACHINE if name in config)
    write_atomically(record / CONFIG, json.dumps(config, indent=2) + "\n")
    for name in (HISTORY, RESULT, *measures):
        write_atomically(record / name, (folder / name).read_bytes())


def write_small_cifar10(folder: Path, data_dir: Path | None = None) -> Path:
    """Write the first images of each class of CIFAR-10 as image folders; returns the folder."""
    from data.cifar10 import load_cifar10  # not above: torchvision takes a second to import

    arrays = load_cifar10(data_dir)
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier call, with more images perhaps
    for (split, n), images, labels in zip(SMALL.items(), arrays[::2], arrays[1::2], strict=True):
        for label, name in enumerate(CLASS_NAMES):
            (folder / split / name).mkdir(parents=True)
            for i, image in enumerate(images[labels == label][: n // len(CLASS_NAMES)]):
                pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
                Image.fromarray(pixels).save(folder / split / name / f"{i:02}.png")
    return folder
