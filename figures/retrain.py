"""Train the runs behind the figures anew, and keep their records."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tqdm import tqdm

from figures.experiments import Experiment
from figures.memory import MEMORY_FILE, measure_memory
from figures.results import training_seconds
from figures.shifts import SHIFTS_FILE, measure_shifts
from figures.small_cifar10 import write_small_cifar10
from training.errors import UsageError
from training.record import CONFIG, HISTORY, RESULT, read_run, write_whole
from training.script import ROOT

THIS_MACHINE = ("run_dir", "data_dir")  # flags that a record does not keep
MEASURES = {SHIFTS_FILE: measure_shifts, MEMORY_FILE: measure_memory}


def retrain(
    runs: Sequence[Experiment],
    work: Path,
    records: Path,
    *,
    jobs: int,
    quick: bool,
    data_dir: str | None,
) -> None:
    """Train every run, or group of runs, in a process of its own and replace its record.

    Quick ones have few steps and a small part of CIFAR-10.

    The longest come first, as far as old records tell. All that is trained stays in `work` until
    the last run is whole, so that a call that was interrupted goes on where it was.

    Raises:
        UsageError: a train script failed; what it said is in the message.
    """
    groups: dict[str, list[Experiment]] = {}
    for run in runs:
        groups.setdefault(run.group or run.record, []).append(run)
    images = ["--data_dir", data_dir] if data_dir else []
    if quick and any(run.needs_images for run in runs):
        data_dir = str(write_small_cifar10(work / "cifar10", data_dir))
        images = ["--data_dir", data_dir, "--cifar10_md5", "skip"]

    def renew(name: str) -> str:
        folders = _train(groups[name], work / name, jobs, quick, images)
        for run, folder in zip(groups[name], folders, strict=True):
            for measure in run.measures:
                if not (folder / measure).exists():
                    text = MEASURES[measure](read_run(folder), data_dir=data_dir)
                    write_whole(folder / measure, text)
            keep_record(folder, records / run.record, run.measures)
        return name

    with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(runs), unit="run", disable=None) as bar:
        waiting = [
            pool.submit(renew, name)
            for name in sorted(groups, key=lambda name: -_took(groups[name], records))
        ]
        try:
            for done in as_completed(waiting):
                name = done.result()
                bar.set_postfix_str(name)
                bar.update(len(groups[name]))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    for name in groups:
        shutil.rmtree(work / name)


def _took(group: Sequence[Experiment], records: Path) -> float:
    """Seconds that a group took when it was last trained; 0 if there is no telling."""
    try:
        return training_seconds(read_run(records / run.record) for run in group)
    except UsageError:  # there is none, or it is broken and about to be replaced
        return 0.0


def _train(
    group: Sequence[Experiment], folder: Path, jobs: int, quick: bool, images: Sequence[str]
) -> list[Path]:
    """Train one run, or several seeds at once; returns their folders.

    Args:
        images: flags that say where CIFAR-10 lies.
    """
    first = group[0]
    flags = [*first.flags, *(first.quick if quick else ())]
    if first.group:
        flags += ["--n_seeds", str(len(group))]
    elif first.needs_images:
        flags += images
    command = [sys.executable, str(ROOT / first.script), *flags, "--quiet", "--resume"]
    environment = dict(os.environ)
    if jobs > 1:  # runs side by side must not fight for the same cores
        environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))
    outcome = subprocess.run(
        [*command, "--run_dir", str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if outcome.returncode:
        said = outcome.stderr.strip().rpartition("\n")[2]
        raise UsageError(f"{first.record} failed with exit code {outcome.returncode}: {said}")
    if first.group:
        return [next(folder.glob(f"*_seed{run.seed}")) for run in group]
    return [folder]


def keep_record(folder: Path, record: Path, measures: Sequence[str] = ()) -> None:
    """Copy a run without its weights and without the paths of the machine it ran on."""
    record.mkdir(parents=True, exist_ok=True)
    config = json.loads((folder / CONFIG).read_text()) | dict.fromkeys(THIS_MACHINE)
    write_whole(record / CONFIG, json.dumps(config, indent=2) + "\n")
    for name in (HISTORY, RESULT, *measures):
        write_whole(record / name, (folder / name).read_bytes())
