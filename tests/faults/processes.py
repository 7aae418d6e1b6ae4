"""Processes that are killed, asked to end, started twice, or share a run under torchrun."""

import itertools
import json
import os
import random
import re
import signal
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults.common import (
    ENDLESS,
    TRAINERS,
    Tally,
    checkpoint_of,
    command,
    difference,
    finish,
    one_line,
    run,
    start,
    start_endless,
    wait_until,
)
from training.runs import CONFIG, HISTORY, TEMPORARY, load_checkpoint, read_history, read_json


def kills(scratch: Path, trainer: str, n: int, jobs: int = 1) -> Tally:
    """SIGKILL at a random moment of the training, then --resume: nothing may differ."""
    whole = scratch / "whole"
    process = start(command(trainer, whole, scratch))
    wait_until((whole / CONFIG).exists, process)
    began = time.monotonic()
    process.communicate()
    duration = time.monotonic() - began
    rng = random.Random(0)
    moments = [rng.uniform(0, duration) for _ in range(n)]
    while_writing = []

    def trial(i: int) -> str | None:
        folder = scratch / f"killed_{i}"
        found = _kill_at(moments[i], trainer, folder, scratch)
        while_writing.append(any(name.endswith(TEMPORARY) for name in found))
        read_json(folder / CONFIG)
        if (folder / HISTORY).exists():
            read_history(folder / HISTORY)
        if checkpoint := checkpoint_of(folder):
            load_checkpoint(checkpoint)
        ended = run(command(trainer, folder, scratch, "--resume"))
        if ended.returncode:
            return f"resuming failed: {ended.stderr}"
        return difference(whole, folder)

    tally = Tally(f"kill -9 of the {trainer}, then --resume")
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda i: tally.count(trial, i), range(n)))
    tally.remark = f"{sum(while_writing)} while a file was being written"
    return tally


def _kill_at(moment: float, trainer: str, folder: Path, scratch: Path) -> list[str]:
    """Kill a training so many seconds after its start, sooner if it ends before; returns files."""
    while True:
        process = start(command(trainer, folder, scratch, "--resume"))
        wait_until((folder / CONFIG).exists, process)
        time.sleep(moment)
        process.kill()
        process.communicate()
        if process.returncode == -signal.SIGKILL:
            return [file.name for file in folder.iterdir()]
        moment *= 0.8
        for file in folder.iterdir():
            file.unlink()


def requests_to_end(scratch: Path, trainers: Iterable[str] = TRAINERS) -> Tally:
    """SIGTERM and Ctrl-C: a checkpoint of that step, the command that resumes, the exit code."""
    seconds = []

    def trial(trainer: str, number: signal.Signals) -> str | None:
        folder = scratch / f"{trainer}_{number.name}"
        process = start_endless(trainer, folder, scratch)
        began = time.monotonic()
        process.send_signal(number)
        stderr = finish(process)
        seconds.append(time.monotonic() - began)
        words = (r"interrupted at step \d+;", "resume with: python .*--resume$")
        if wrong := one_line(process.returncode, stderr, 128 + number, words):
            return wrong
        saved = json.loads(str(load_checkpoint(checkpoint_of(folder))["progress"]))["step"]
        said = int(re.search(r"at step (\d+)", stderr)[1])
        return None if saved == said else f"interrupted at step {said}, saved at {saved}"

    tally = Tally("SIGTERM and Ctrl-C: a checkpoint, and exit code 143 and 130")
    tally.count_all(trial, itertools.product(trainers, (signal.SIGTERM, signal.SIGINT)))
    tally.remark = f"the slowest had ended after {max(seconds, default=0):.2f} s"
    return tally


def two_requests_to_end(scratch: Path, trainers: Iterable[str] = TRAINERS) -> Tally:
    """Ctrl-C twice ends the process, whatever it is doing."""

    def trial(trainer: str) -> str | None:
        folder = scratch / trainer
        process = start_endless(trainer, folder, scratch)
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        stderr = finish(process)
        load_checkpoint(checkpoint_of(folder))
        # The second signal may come when Python itself is ending, and has no handlers any more.
        ended = process.returncode in (130, -signal.SIGINT)
        return None if ended else f"exit code {process.returncode}: {stderr[-300:]}"

    tally = Tally("Ctrl-C twice: exit code 130, a whole checkpoint")
    return tally.count_all(trial, ((name,) for name in trainers))


def two_at_once(scratch: Path, trainers: Iterable[str] = TRAINERS) -> Tally:
    """A second process on the folder of a running one is refused; on that of a dead one, not."""
    tally = Tally("a second process on the same run folder")
    for trainer in trainers:
        folder = scratch / trainer
        process = start_endless(trainer, folder, scratch)
        again = command(trainer, folder, scratch, *ENDLESS[trainer].split())

        def refused(trainer: str, flag: str, again=again) -> str | None:
            second = run([*again, flag])
            return one_line(second.returncode, second.stderr, 2, ("another process",))

        def after_a_kill(trainer: str, process=process, again=again, folder=folder) -> str | None:
            process.kill()
            process.communicate()
            before = checkpoint_of(folder).stat().st_mtime_ns
            second = start([*again, "--resume"])
            wait_until(lambda: checkpoint_of(folder).stat().st_mtime_ns > before, second)
            second.kill()
            return second.communicate()[1] or None

        tally.count(refused, trainer, "--resume")
        tally.count(refused, trainer, "--overwrite")
        tally.count(after_a_kill, trainer)
    return tally


def torchrun(scratch: Path, n: int) -> Tally:
    """Kill one of two processes at a random moment; torchrun starts them again."""
    rng = random.Random(0)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone",
                "--nproc_per_node=2", "--max-restarts=3"]  # fmt: skip
    whole = scratch / "whole"
    run([*launcher, *command("CNN", whole, scratch)[1:]])

    def trial(i: int) -> str | None:
        moment, workers, attempt = rng.uniform(0, 1), [], 0
        while not workers:  # sooner, if it ended before it could be killed
            folder = scratch / f"run_{i}_{attempt}"
            agent = start([*launcher, *command("CNN", folder, scratch)[1:]])
            wait_until(lambda folder=folder: checkpoint_of(folder), agent)
            time.sleep(moment)
            workers = _workers(agent.pid)
            moment, attempt = moment / 2, attempt + 1
        os.kill(rng.choice(workers), signal.SIGKILL)
        finish(agent)
        return difference(whole, folder)

    tally = Tally("torchrun, a process killed, --max-restarts")
    return tally.count_all(trial, ((i,) for i in range(n)))


def _workers(agent: int) -> list[int]:
    """The training processes that torchrun has started, if it has not ended."""
    try:
        children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
        names = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
    except OSError:
        return []
    return [child for child, name in names.items() if b"train.py" in name]


def reproducible(scratch: Path, trainers: Iterable[str] = TRAINERS) -> Tally:
    """The same command twice gives the same bits; another seed gives others."""

    def trial(trainer: str) -> str | None:
        first, second, other = (scratch / f"{trainer}_{i}" for i in range(3))
        for folder, seed in ((first, 0), (second, 0), (other, 1)):
            ended = run(command(trainer, folder, scratch, "--seed", seed))
            if ended.returncode:
                return ended.stderr
        if difference(first, other) is None:
            return "another seed changed nothing"
        return difference(first, second)

    tally = Tally("the same command twice, and with another seed")
    return tally.count_all(trial, ((name,) for name in trainers))
