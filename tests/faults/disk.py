"""Disks that are full, read-only, or gone."""

import errno
import itertools
import os
import resource
import shutil
from collections.abc import Iterable
from pathlib import Path
from unittest import mock

from tests.faults.common import (
    TRAINERS,
    Tally,
    call,
    checkpoint_of,
    command,
    difference,
    finish,
    flags_of,
    foreign_files,
    one_line,
    run,
    start_endless,
)
from training.runs import load_checkpoint

SIZES = (500, 1_000, 5_000, 20_000)  # bytes at which a file is full


def full_at_any_write(scratch: Path, trainer: str, most_writes: int = 40) -> Tally:
    """The disk is full at the first write, at the second, ...: nothing is lost but that write.

    Args:
        most_writes: of the run's writes, spread evenly, at which this is tried.
    """
    whole = scratch / "whole"
    fsync, writes = os.fsync, []
    with mock.patch.object(os, "fsync", writes.append):
        call(*flags_of(trainer, whole, scratch))

    def trial(fatal: int) -> str | None:
        folder = scratch / f"full_{fatal}"
        script, flags = flags_of(trainer, folder, scratch)
        count = itertools.count()

        def full(handle: int) -> None:
            if next(count) == fatal:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as fsync does
            fsync(handle)

        with mock.patch.object(os, "fsync", full):
            code, _, stderr = call(script, flags)
        wrong = one_line(code, stderr, 1, (f"No space left on device: {folder}",))
        if wrong or foreign_files(folder):
            return wrong or f"left behind: {foreign_files(folder)}"
        if checkpoint := checkpoint_of(folder):
            load_checkpoint(checkpoint)
        code, _, stderr = call(script, [*flags, "--resume"])
        return stderr or difference(whole, folder)

    last = len(writes) - 1
    chosen = {round(i * last / (most_writes - 1)) for i in range(most_writes)}
    tally = Tally(f"disk full at each write of the {trainer}")
    return tally.count_all(trial, ((fatal,) for fatal in sorted(chosen)))


def too_small(scratch: Path, trainer: str) -> Tally:
    """Files may have so many bytes and no more (RLIMIT_FSIZE), as on a tiny file system."""
    whole = scratch / "whole"
    run(command(trainer, whole, scratch))

    def trial(size: int) -> str | None:
        folder = scratch / f"small_{size}"
        ended = run(
            command(trainer, folder, scratch),
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
        )
        if ended.returncode:
            wrong = one_line(ended.returncode, ended.stderr, 1, ("File too large",))
            if wrong or foreign_files(folder):
                return wrong or f"left behind: {foreign_files(folder)}"
        elif checkpoint_of(folder).stat().st_size > size:
            return "the limit had no effect"
        ended = run(command(trainer, folder, scratch, "--resume"))
        return (ended.stderr if ended.returncode else None) or difference(whole, folder)

    tally = Tally(f"files of the {trainer} limited to {', '.join(map(str, SIZES))} bytes")
    return tally.count_all(trial, ((size,) for size in SIZES))


def read_only(scratch: Path, trainers: Iterable[str] = TRAINERS) -> Tally:
    """A folder where nobody may write, not even root."""

    def trial(trainer: str) -> str | None:
        ended = run(command(trainer, Path("/proc/run"), scratch))
        return one_line(ended.returncode, ended.stderr, 2, ("--run_dir",))

    return Tally("a read-only run folder").count_all(trial, ((name,) for name in trainers))


def vanishing(scratch: Path, trainers: Iterable[str] = TRAINERS) -> Tally:
    """Somebody removes the run's folder while it is trained."""

    def trial(trainer: str) -> str | None:
        folder = scratch / trainer
        process = start_endless(trainer, folder, scratch)
        while folder.exists():  # it may be written to at this moment
            shutil.rmtree(folder, ignore_errors=True)
        process.terminate()  # asks it to save
        stderr = finish(process)
        return one_line(process.returncode, stderr, 1, ("could not be saved", "--resume"))

    return Tally("a run folder that vanishes").count_all(trial, ((name,) for name in trainers))
