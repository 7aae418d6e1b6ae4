"""Disks that are full, read-only, or gone."""

import errno
import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import training.record
from tests.survival.common import (
    ENVIRONMENT,
    TRAINERS,
    Tally,
    checkpoint_of,
    command,
    difference,
    endless,
    new_folder,
    one_line,
    run,
    scraps,
)
from tests.survival.inputs import call
from training.checkpoint import load_checkpoint
from training.record import CONFIG

MOST_WRITES = 40  # of a run, at which the disk is full
SIZES = (500, 1_000, 5_000, 20_000)  # bytes at which a file is full


def full_at_any_write(trainer: str, scratch: Path) -> Tally:
    """The disk is full at the first write, at the second, ...: nothing is lost but that write."""
    tally = Tally(f"disk full at each write of the {trainer}")
    whole = scratch / "whole"
    script, *flags = command(trainer, whole, scratch)[1:]
    fsync, writes = os.fsync, []
    with mock.patch.object(training.record.os, "fsync", writes.append):
        call(script, flags)

    def trial(fatal: int) -> str | None:
        folder = scratch / f"full_{fatal}"
        script, *flags = command(trainer, folder, scratch)[1:]
        count = iter(range(10**6))

        def full(handle: int) -> None:
            if next(count) == fatal:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
            fsync(handle)

        with mock.patch.object(training.record.os, "fsync", full):
            code, _, stderr = call(script, flags)
        wrong = one_line(code, stderr, 2 if fatal == 0 else 1, ("No space left",))
        if wrong or scraps(folder):
            return wrong or f"left behind: {scraps(folder)}"
        if checkpoint := checkpoint_of(folder):
            load_checkpoint(checkpoint)
        code, _, stderr = call(script, [*flags, "--resume"])
        return stderr or difference(whole, folder)

    for fatal in _some(len(writes), MOST_WRITES):
        tally.count(lambda fatal=fatal: trial(fatal), f"write {fatal}")
    return tally


def _some(n: int, most: int) -> list[int]:
    """All numbers below n, or most of them spread evenly."""
    return (
        sorted({round(i * (n - 1) / (most - 1)) for i in range(most)}) if n > most else [*range(n)]
    )


def too_small(trainer: str, scratch: Path) -> Tally:
    """Files may have so many bytes and no more (RLIMIT_FSIZE), as on a tiny file system."""
    tally = Tally(f"files of the {trainer} limited to {', '.join(map(str, SIZES))} bytes")
    whole = scratch / "whole"
    run(command(trainer, whole, scratch))

    def trial(size: int) -> str | None:
        folder = scratch / f"small_{size}"
        ended = run(
            command(trainer, folder, scratch),
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
            env=ENVIRONMENT | {"CIFAR10_CACHE": str(scratch / "cache")},
        )
        if ended.returncode:
            wrong = one_line(
                ended.returncode,
                ended.stderr,
                1 if (folder / CONFIG).exists() else 2,
                ("File too large",),
            )
            if wrong or scraps(folder):
                return wrong or f"left behind: {scraps(folder)}"
        elif checkpoint_of(folder).stat().st_size > size:
            return "the limit was not felt"
        ended = run(command(trainer, folder, scratch, "--resume"))
        return (ended.stderr if ended.returncode else None) or difference(whole, folder)

    for size in SIZES:
        tally.count(lambda size=size: trial(size), size)
    return tally


def read_only(scratch: Path) -> Tally:
    """A folder where nobody may write, not even root."""
    tally = Tally("a read-only run folder")
    for trainer in TRAINERS:

        def trial(trainer=trainer) -> str | None:
            ended = run(command(trainer, Path("/proc/run"), scratch))
            return one_line(ended.returncode, ended.stderr, 2, ("--run_dir",))

        tally.count(trial, trainer)
    return tally


def vanishing(scratch: Path) -> Tally:
    """Somebody removes the run's folder while it is trained."""
    tally = Tally("a run folder that vanishes")
    for trainer in TRAINERS:

        def trial(trainer=trainer) -> str | None:
            folder = scratch / trainer
            process = endless(trainer, folder, scratch)
            while folder.exists():  # it may be written to at this moment
                shutil.rmtree(folder, ignore_errors=True)
            process.terminate()  # asks it to save
            _, stderr = process.communicate(timeout=60)
            return one_line(process.returncode, stderr, 1, ("could not be kept", "--resume"))

        tally.count(trial, trainer)
    return tally


def all_tallies(scratch: Path) -> Iterator[Tally]:
    """Every fault of this file."""
    for i, trainer in enumerate(TRAINERS):
        if trainer != "CNN":  # which writes through the same code, and takes an hour
            yield full_at_any_write(trainer, new_folder(scratch / f"full_{i}"))
        yield too_small(trainer, new_folder(scratch / f"small_{i}"))
    yield read_only(new_folder(scratch / "read_only"))
    yield vanishing(new_folder(scratch / "vanishing"))
