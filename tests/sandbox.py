"""The grader's side of the sandbox: a submission is asked for values, in a process of its own.

    submission("part1_mlp.modules").Linear(5, 3).forward(x)

looks like a call, and is a message to that process and its answer. Nothing of the submission is
imported here, and what comes back are numbers, texts and arrays (tests/wire.py).
"""

import contextlib
import csv
import errno
import json
import math
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from tests.wire import Ref, WireError, decode, encode

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("part1_mlp", "part2_cnn", "part3_rnn")
FOLDERS = ("data", *PARTS, "training", "figures")
SKIPPED = {".git", ".venv", "venv", "__pycache__", "__MACOSX", ".ipynb_checkpoints", ".mypy_cache",
           ".pytest_cache", ".ruff_cache", "node_modules"}  # fmt: skip
LARGEST_FILE = 2**24  # bytes; the code of a submission is smaller, its data sets are not needed
LARGEST_COPY, MOST_FILES = 2**27, 20_000  # bytes of all files, and their number
ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "VIRTUAL_ENV")
CGROUP = Path("/sys/fs/cgroup")
MAX_OUTPUT = 1000  # characters that a process has printed and that are shown
START_SECONDS = 60  # for the libraries to be imported
CONTROL_SECONDS = 30  # for a supervisor to answer


class SubmissionError(Exception):
    """The submission raised an exception, or its process ended."""


class NotASubmission(Exception):
    """A folder without any of the parts."""


# --- The submission's folder ----------------------------------------------------------------------


def find_submission(folder: Path) -> Path:
    """The folder that holds the parts: this one, or the only one below it that does.

    Raises:
        NotASubmission: if it is none, or if several could be meant.
    """
    if not os.path.isdir(folder):  # Path's fails for a name that is too long
        raise NotASubmission(f"{folder} is no folder")
    level = [folder.resolve()]
    for _ in range(3):
        found = [each for each in level if any((each / part).is_dir() for part in PARTS)]
        if len(found) > 1:
            names = ", ".join(sorted(str(each.relative_to(folder.resolve())) for each in found))
            raise NotASubmission(f"{folder} holds several submissions ({names}): name one of them")
        if found:
            return found[0]
        level = [Path(each) for parent in level for each in _folders_in(parent)][:1000]
    raise NotASubmission(f"{folder} holds none of the folders {', '.join(PARTS)}")


def _folders_in(folder: Path) -> Iterator[os.DirEntry]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and entry.name not in SKIPPED:
                yield entry


def copy_submission(source: Path, target: Path) -> None:
    """Copy the code of a submission: all that lies in its folder, but for what is no code.

    Left out are FIFOs, devices and sockets, links that lead outside, versions and environments
    (`.git`, `.venv`), files above 16 MiB, or beyond 128 MiB or 20,000 files in all, and names that
    are too long. Python files come first. The processes of the submission may write to the copy,
    whoever their user is.

    Raises:
        OSError: the disk is full.
    """
    source, found = source.resolve(), []
    for folder, folders, files in os.walk(source):
        here = target / Path(folder).relative_to(source)
        try:
            here.mkdir(parents=True, exist_ok=True)
            here.chmod(0o777)
        except OSError:
            folders.clear()
            continue
        folders[:] = sorted(
            name for name in folders
            if name not in SKIPPED and not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
        )  # fmt: skip
        for name in [*folders, *sorted(files)]:
            path = Path(folder, name)
            with contextlib.suppress(OSError, RuntimeError):  # a link to itself, in Python < 3.13
                if path.is_symlink():
                    if path.resolve().is_relative_to(source):
                        (here / name).symlink_to(os.path.relpath(path.resolve(), folder))
                    continue
                about = path.stat()
                if stat.S_ISREG(about.st_mode) and about.st_size <= LARGEST_FILE:
                    found.append((path.suffix != ".py", path, here / name, about.st_size))
    left = LARGEST_COPY
    for _, path, copy, size in sorted(found)[:MOST_FILES]:
        if size <= left:
            left -= size
            try:
                shutil.copyfile(path, copy)
                copy.chmod(0o666)
            except OSError as error:  # not readable, or its name too long
                if error.errno == errno.ENOSPC:
                    raise


class Folder(tempfile.TemporaryDirectory):
    """A temporary folder that is removed with all that a submission has left in it."""

    def __init__(self) -> None:
        super().__init__(ignore_cleanup_errors=True)

    def cleanup(self) -> None:
        try:
            super().cleanup()
        except RecursionError:  # thousands of folders, one in another
            subprocess.run(["rm", "-rf", "--", self.name], check=False, stderr=subprocess.DEVNULL)


class Copy:
    """A copy of a submission for one test after the other, made anew once a test has changed it."""

    def __init__(self, source: Path) -> None:
        self._source, self._folder, self._state = source, Folder(), []

    def intact(self) -> Path:
        """The folder of the copy.

        Raises:
            OSError: the disk is full.
        """
        if any(a != b for a, b in zip_longest(self._state, _state(self._folder.name))):
            self.close()
            self._folder, self._state = Folder(), []
            copy_submission(self._source, Path(self._folder.name))
            self._state = [*_state(self._folder.name)]
        return Path(self._folder.name)

    def close(self) -> None:
        """Remove it."""
        self._folder.cleanup()


def _state(root: str) -> Iterator[tuple[str, int, int]]:
    """Each folder and file with what a change of it would change: its inode and its ctime."""
    for folder, _, files in os.walk(root):
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            about = os.lstat(path)
            yield path, about.st_ino, about.st_ctime_ns


# --- Processes ------------------------------------------------------------------------------------


class Sandbox:
    """A process with the libraries imported, from which those of the submissions are forked.

    Each of them computes in one thread: several tests run at once, and on a busy machine a second
    thread makes a first one wait. Use it as a context manager; it ends with the grader in any case.
    """

    COMMAND = (sys.executable, "-m", "tests.sandbox_process")

    def __init__(self) -> None:
        self._folder = Folder()
        self.address = str(Path(self._folder.name, "socket"))
        environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        environment["OMP_NUM_THREADS"] = "1"
        environment["CUDA_VISIBLE_DEVICES"] = ""  # the same numbers with and without a GPU
        self._process = subprocess.Popen(
            [*self.COMMAND, self.address],
            cwd=ROOT, env=environment, stdin=subprocess.PIPE,
        )  # fmt: skip

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(CONTROL_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def connect(self) -> socket.socket:
        """A new supervisor: a process that begins and ends sessions.

        Raises:
            RuntimeError: if the libraries could not be imported in time.
        """
        end = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < end:
            control = socket.socket(socket.AF_UNIX)
            try:
                control.connect(self.address)
                return control
            except OSError:
                control.close()
                time.sleep(0.05)
        raise RuntimeError("the process that runs submissions has not started")


class Supervisor:
    """One job's connection to the sandbox; connects anew when it was lost.

    The first time it waits until the libraries are imported, so that no test's time runs meanwhile.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._control: socket.socket | None = None
        self.user: int | None = None
        self._connect()

    def begin(self, channel: int, output: int, **request: object) -> None:
        """Start a process that serves the channel and prints to the output, file descriptors."""
        self._connect()
        socket.send_fds(self._control, [json.dumps(request).encode()], [channel, output])

    def end(self) -> int | None:
        """Kill the session's processes; returns its exit status, None if that is lost."""
        if self._control is None:
            return None
        try:
            self._control.sendall(b".")
            return json.loads(self._control.recv(2**16))["status"]
        except (OSError, ValueError):
            self.close()
            return None

    def close(self) -> None:
        """End the supervisor and whatever it has started."""
        if self._control:
            self._control.close()
        self._control = None

    def _connect(self) -> None:
        if self._control is None:
            self._control = self._sandbox.connect()
            self._control.settimeout(CONTROL_SECONDS)
            self.user = json.loads(self._control.recv(2**16))["user"]

    def give(self, folder: Path) -> None:
        """Let an empty folder belong to the user of the sessions."""
        self._connect()
        if self.user is not None:
            os.chown(folder, self.user, self.user)


class Session:
    """A process of a submission, which does what it is asked.

    Args:
        supervisor: that starts and ends it.
        folder: of the submission, in which the process begins.
        seconds: of processor time that it may use.
        deadline: when it is ended, a time of `time.monotonic`.
    """

    def __init__(
        self, supervisor: Supervisor, folder: Path, seconds: float, deadline: float
    ) -> None:
        self._supervisor, self._seconds, self._deadline = supervisor, seconds, deadline
        self._scratch = Folder()
        # Without a name: nothing can take its place.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        self._channel, theirs = socket.socketpair()
        try:
            with theirs:
                supervisor.give(self.scratch)
                supervisor.begin(
                    theirs.fileno(), self._output.fileno(), root=str(folder.resolve()),
                    scratch=str(self.scratch), seconds=seconds,
                )  # fmt: skip
        except (OSError, ValueError) as error:
            supervisor.close()  # the next session gets another one
            raise SubmissionError(f"the submission could not be started ({error})") from None
        self._open = True

    @property
    def scratch(self) -> Path:
        """A folder that the process may write to."""
        return Path(self._scratch.name).resolve()

    def do(self, action: str, *args: object, **kwargs: object) -> object:
        """Let the process carry out one of `sandbox_process.ACTIONS`; returns the result.

        Raises:
            SubmissionError: the submission raised an exception, or its process has ended.
        """
        if not self._open:
            raise SubmissionError("the process of the submission has ended before")
        try:
            message = encode([action, list(args), kwargs], _refer)
            self._channel.settimeout(self._time_left())
            self._channel.sendall(message)
            answer = decode(self._read)
        except TimeoutError:
            self.close()
            waited = f"{2 * self._seconds:g} s by the clock"
            raise SubmissionError(f"stopped after {waited}") from None
        except (OSError, EOFError):
            raise SubmissionError(self._ended(self.close())) from None
        except WireError as error:
            self.close()
            raise SubmissionError(f"the process answered with {error}") from None
        if isinstance(answer, dict) and isinstance(answer.get("error"), str):
            raise SubmissionError(answer["error"])
        if not isinstance(answer, dict) or "result" not in answer:
            self.close()
            raise SubmissionError("the process answered with something else than a result")
        return self._remote(answer["result"])

    def _remote(self, value: object) -> object:
        match value:
            case Ref():
                return Remote(self, value)
            case list():
                return [self._remote(each) for each in value]
            case dict():
                return {key: self._remote(each) for key, each in value.items()}
        return value

    def close(self) -> int | None:
        """End the process and all that it started; returns its exit status."""
        if not self._open:
            return None
        self._open = False
        self._channel.close()
        status = self._supervisor.end()
        self.printed = _end_of(self._output.fileno())
        self._output.close()
        self._scratch.cleanup()
        return status

    def _read(self, n: int) -> bytes:
        data = bytearray()
        while len(data) < n:
            self._channel.settimeout(self._time_left())
            piece = self._channel.recv(min(n - len(data), 2**20))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)

    def _time_left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _ended(self, status: int | None) -> str:
        if status in (-signal.SIGXCPU, -signal.SIGKILL):
            limit = f"{self._seconds:g} s of processor time"
            return f"the process was killed; it may have used its {limit}, or too much memory"
        how = "" if status is None else f" ({_status(status)})"
        return f"the process ended early{how}"


def _status(status: int) -> str:
    return f"exit code {status}" if status >= 0 else signal.strsignal(-status) or f"{-status}"


def _refer(value: object) -> Ref:
    if isinstance(value, Remote):
        return value.ref_
    raise TypeError(f"a {type(value).__name__} cannot be sent")


def _end_of(file: int) -> str:
    begin = max(0, os.fstat(file).st_size - MAX_OUTPUT)
    return os.pread(file, MAX_OUTPUT, begin).decode(errors="replace")


class Remote:
    """An object in the process of the submission: its attributes can be read, it can be called.

    A number, text, array, tensor, list or dict comes back as its value, anything else as another
    `Remote`.
    """

    def __init__(self, session: Session, ref: Ref) -> None:
        self.session_, self.ref_ = session, ref

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # Python's own protocols: this is no array and no sequence
            raise AttributeError(name)
        return self.session_.do("attribute", self, name)

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self.session_.do("call", self, *args, **kwargs)


# --- What a graded test is given ------------------------------------------------------------------


@dataclass(frozen=True)
class TrainedRun:
    """What a train script has left in its run folder, as it says itself."""

    header: str
    history: dict[str, np.ndarray]  # one array a column, NaN where a cell is empty
    config: dict
    result: dict


class Submission:
    """A submission as a graded test sees it.

    Args:
        supervisor: that runs its processes.
        folder: a copy of the submission.
        seconds: of processor time that each of its processes may use; all of them together may
            take twice as long by the clock.
    """

    def __init__(self, supervisor: Supervisor, folder: Path, seconds: float) -> None:
        self._supervisor, self._folder, self._seconds = supervisor, folder, seconds
        self._deadline = time.monotonic() + 2 * seconds
        self._session: Session | None = None
        self._folders = Folder()
        Path(self._folders.name).chmod(0o755)
        self.printed = ""  # the end of what the last process printed

    def __call__(self, module: str) -> Remote:
        """A module of the submission."""
        return self.do("import_module", module)

    def do(self, action: str, *args: object, **kwargs: object) -> object:
        """One of `sandbox_process.ACTIONS`, in a process that lasts as long as the test."""
        if self._session is None:
            self._session = self._begin()
        return self._session.do(action, *args, **kwargs)

    def train(self, part: str, *flags: object) -> TrainedRun:
        """Call a part's train.py with flags, in a process of its own; returns the run.

        Raises:
            SubmissionError: if it leaves no run folder of the promised form.
        """
        self.close()
        session = self._session = self._begin()
        folder = str(session.scratch / "run")
        texts = session.do("run_script", part, [str(flag) for flag in flags], folder)
        self.close()
        for name in ("config.json", "history.csv", "result.json"):
            if not isinstance(texts, dict) or not isinstance(texts.get(name), str):
                raise SubmissionError(f"{part}/train.py has left no {name}")
        try:
            config, result = json.loads(texts["config.json"]), json.loads(texts["result.json"])
            rows = list(csv.DictReader(texts["history.csv"].splitlines()))
            history = {
                name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]
            }
            if not (isinstance(config, dict) and isinstance(result, dict)):
                raise TypeError("expected an object")
        except (ValueError, TypeError, LookupError, RecursionError, csv.Error) as error:
            raise SubmissionError(f"a file of the run folder cannot be read ({error})") from None
        header = texts["history.csv"].partition("\n")[0].strip()
        return TrainedRun(header, history, config, result)

    def folder(self) -> Path:
        """A new folder that its processes can read; it is removed with the test."""
        folder = Path(tempfile.mkdtemp(dir=self._folders.name))
        folder.chmod(0o755)
        return folder

    def close(self) -> None:
        """End the process, if there is one."""
        if self._session is not None:
            self._session.close()
            self.printed = self._session.printed
        self._session = None

    def _begin(self) -> Session:
        return Session(self._supervisor, self._folder, self._seconds, self._deadline)


def available_cores() -> int:
    """Cores that this process may use: by its affinity and by the quota of its cgroup."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    for quota, period in _cgroup_quotas():
        cores = min(cores, math.ceil(quota / period))
    return max(1, cores or 1)


def _cgroup_quotas() -> Iterator[tuple[float, float]]:
    """Microseconds of processor time in each period, from cgroup version 2 and version 1."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (CGROUP / "cpu.max").read_text().split()
        yield float(quota), float(period)
    with contextlib.suppress(OSError, ValueError):
        quota, period = (
            float((CGROUP / "cpu" / f"cpu.cfs_{name}_us").read_text())
            for name in ("quota", "period")
        )
        if quota > 0:
            yield quota, period
