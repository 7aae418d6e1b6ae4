"""Processes that are killed, asked to end, started twice, or run as a team under torchrun."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.survival.common import (
    ENDLESS,
    TRAINERS,
    Tally,
    checkpoint_of,
    command,
    difference,
    endless,
    new_folder,
    one_line,
    run,
    start,
    wait_until,
)
from training.checkpoint import load_checkpoint
from training.record import CONFIG, HISTORY, SCRAP, read_history, read_json

SECONDS_TO_SAVE = 2.0  # within which a toy run has saved and ended, after a signal


def kills(trainer: str, n: int, scratch: Path, jobs: int = 1) -> Tally:
    """SIGKILL at a random moment of the training, then --resume: nothing may differ."""
    tally = Tally(f"kill -9 of the {trainer}, then --resume")
    whole = scratch / "whole"
    process = start(command(trainer, whole, scratch))
    wait_until((whole / CONFIG).exists)
    began = time.monotonic()
    process.communicate()
    duration = time.monotonic() - began
    rng = random.Random(0)
    moments = [rng.uniform(0, duration) for _ in range(n)]
    while_writing = []

    def trial(i: int) -> str | None:
        folder = scratch / f"killed_{i}"
        written = _kill_at(moments[i], trainer, folder, scratch)
        while_writing.append(any(SCRAP in name for name in written))
        wrong = _half_written(folder)
        ended = run(command(trainer, folder, scratch, "--resume"))
        if ended.returncode:
            return f"resuming failed: {ended.stderr}"
        return wrong or difference(whole, folder)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda i: tally.count(lambda: trial(i), f"killed {i}"), range(n)))
    tally.remark = f"{sum(while_writing)} while a file was being written"
    return tally


def _kill_at(moment: float, trainer: str, folder: Path, scratch: Path) -> list[str]:
    """Kill a training so many seconds after it began; sooner, if it ends before."""
    while True:
        process = start(command(trainer, folder, scratch, "--resume"))
        wait_until((folder / CONFIG).exists)
        time.sleep(moment)
        process.kill()
        process.communicate()
        if process.returncode == -signal.SIGKILL:
            return [file.name for file in folder.iterdir()]
        moment *= 0.8
        for file in folder.iterdir():
            file.unlink()


def _half_written(folder: Path) -> str | None:
    read_json(folder / CONFIG)
    if (folder / HISTORY).exists():
        read_history(folder / HISTORY)
    if checkpoint := checkpoint_of(folder):
        load_checkpoint(checkpoint)
    return None


def requests_to_end(scratch: Path) -> Tally:
    """SIGTERM and Ctrl-C: a checkpoint in time, the command that resumes, the right exit code."""
    tally = Tally("SIGTERM and Ctrl-C: saved within 2 s, exit code 143 and 130")
    slowest = []
    for trainer in TRAINERS:
        for number in (signal.SIGTERM, signal.SIGINT):

            def trial(trainer=trainer, number=number) -> str | None:
                folder = scratch / f"{trainer}_{number}"
                process = endless(trainer, folder, scratch)
                asked = time.time()
                process.send_signal(number)
                _, stderr = process.communicate(timeout=30)
                saved = checkpoint_of(folder).stat().st_mtime - asked
                slowest.append(saved)
                if not 0 <= saved <= SECONDS_TO_SAVE:
                    return f"saved after {saved:.2f} s"
                words = ("interrupted at step", "go on with: python .*--resume$")
                return one_line(process.returncode, stderr, 128 + number, words)

            tally.count(trial, f"{trainer}, {number.name}")
    tally.remark = f"the slowest saved after {max(slowest, default=0):.2f} s"
    return tally


def two_requests_to_end(scratch: Path) -> Tally:
    """Ctrl-C twice leaves at once, whatever the process is at."""
    tally = Tally(f"Ctrl-C twice: leaves within {SECONDS_TO_SAVE:g} s")
    for trainer in TRAINERS:

        def trial(trainer=trainer) -> str | None:
            process = endless(trainer, scratch / trainer, scratch)
            process.send_signal(signal.SIGINT)
            time.sleep(0.02)
            asked = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=30)
            if time.monotonic() - asked > SECONDS_TO_SAVE:
                return f"left after {time.monotonic() - asked:.2f} s"
            if process.returncode == -signal.SIGINT:  # it was leaving already
                return None
            return one_line(process.returncode, stderr, 130)

        tally.count(trial, trainer)
    return tally


def two_at_once(scratch: Path) -> Tally:
    """A second process on the folder of a living one is refused; on that of a dead one, not."""
    tally = Tally("a second process on the same run folder")
    for trainer in TRAINERS:
        folder = scratch / trainer
        process = endless(trainer, folder, scratch)
        again = [*command(trainer, folder, scratch), *ENDLESS[trainer].split()]
        for flag in ("--resume", "--overwrite"):

            def refused(flag=flag, again=again) -> str | None:
                second = run([*again, flag])
                return one_line(second.returncode, second.stderr, 2, ("another process",))

            tally.count(refused, f"{trainer} {flag}")

        def after_a_kill(process=process, again=again, folder=folder) -> str | None:
            process.kill()
            process.communicate()
            before = checkpoint_of(folder).stat().st_mtime_ns
            second = start([*again, "--resume"])
            wait_until(
                lambda: (
                    checkpoint_of(folder).stat().st_mtime_ns > before or second.poll() is not None
                )
            )
            second.kill()
            return second.communicate()[1] or None

        tally.count(after_a_kill, f"{trainer} after a kill")
    return tally


def torchrun(n: int, scratch: Path) -> Tally:
    """Kill one of two processes at a random moment; torchrun starts them again."""
    tally = Tally("torchrun, a process killed, --max-restarts")
    rng = random.Random(0)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone",
                "--nproc_per_node=2", "--max-restarts=3"]  # fmt: skip
    whole = scratch / "whole"
    run([*launcher, *command("CNN", whole, scratch)[1:]], 300)

    def trial(i: int) -> str | None:
        folder = scratch / f"run_{i}"
        agent = start([*launcher, *command("CNN", folder, scratch)[1:]])
        wait_until(lambda: checkpoint_of(folder) or agent.poll() is not None, 120)
        time.sleep(rng.uniform(0, 1))
        if not (workers := _workers(agent.pid)):
            return "it ended before it could be killed"
        os.kill(rng.choice(workers), signal.SIGKILL)
        try:
            agent.communicate(timeout=180)
        except subprocess.TimeoutExpired:
            agent.terminate()
            agent.communicate()
            return "it hangs"
        return difference(whole, folder)

    for i in range(n):
        tally.count(lambda i=i: trial(i), i)
    return tally


def _workers(agent: int) -> list[int]:
    """The training processes that torchrun has started."""
    children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    return [
        int(child)
        for child in children
        if b"train.py" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def reproducible(scratch: Path) -> Tally:
    """The same command twice gives the same bits; another seed gives others."""
    tally = Tally("the same command twice, and with another seed")
    for trainer in TRAINERS:

        def trial(trainer=trainer) -> str | None:
            first, second, other = (scratch / f"{trainer}_{i}" for i in range(3))
            for folder, seed in ((first, 0), (second, 0), (other, 1)):
                ended = run(command(trainer, folder, scratch, "--seed", seed))
                if ended.returncode:
                    return ended.stderr
            if difference(first, other) is None:
                return "another seed changed nothing"
            return difference(first, second)

        tally.count(trial, trainer)
    return tally


def all_tallies(scratch: Path, n_kills: int, n_torchrun: int) -> Iterator[Tally]:
    """Every fault of this file, each in a folder of its own."""
    for i, trainer in enumerate(TRAINERS):
        yield kills(trainer, n_kills, new_folder(scratch / f"kills_{i}"), jobs=os.cpu_count() or 1)
    yield requests_to_end(new_folder(scratch / "requests"))
    yield two_requests_to_end(new_folder(scratch / "twice"))
    yield two_at_once(new_folder(scratch / "two"))
    yield torchrun(n_torchrun, new_folder(scratch / "torchrun"))
    yield reproducible(new_folder(scratch / "again"))
