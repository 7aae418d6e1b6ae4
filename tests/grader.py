"""The grade: every graded test in a process of its own, points by part, a file for Gradescope.

A test of a submission may loop for ever, leave the interpreter, fill the memory or print without
end. Its process is then stopped, its points are lost, and the next test does not notice. What
counts is what the process reports at its end; a process that ends without a report has failed.
"""

import contextlib
import json
import math
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest

ROOT = Path(__file__).resolve().parents[1]
GRADED = ROOT / "tests" / "graded"
PARTS = {"test_part1": "Part 1, MLP", "test_part2": "Part 2, CNN", "test_part3": "Part 3, RNN"}
PACKAGES = ("data", "figures", "part1_mlp", "part2_cnn", "part3_rnn", "training")
IGNORED = ("runs", "__pycache__", "cifar10", "cache", "records", "*.png", "*.pdf")
PRELOADED = ["numpy", "torch", "pytest", "sklearn.datasets", "matplotlib.figure", "tqdm"]
MAX_MEMORY = 4 * 2**30  # bytes that a test may allocate
MAX_FILE = 2**28  # bytes of a file that a test may write, its own output included
MAX_OUTPUT = 3000  # characters of a test's messages that are kept
DEFAULT_SECONDS = 30


@dataclass(frozen=True)
class GradedTest:
    """A test that is worth points.

    Attributes:
        part: `test_part1`, `test_part2` or `test_part3`.
        name: of the function, with its parameters.
        asked: what was asked for, from the docstring.
        points: to be had.
        seconds: that it may take.
    """

    part: str
    name: str
    asked: str
    points: float
    seconds: float

    @property
    def path(self) -> str:
        """What pytest is called with."""
        return f"{GRADED / self.part}.py::{self.name}"


@dataclass(frozen=True)
class Mark:
    """How a test went: `why` it failed is empty if it passed."""

    test: GradedTest
    why: str

    @property
    def points(self) -> float:
        """That were won."""
        return 0.0 if self.why else self.test.points


def graded_tests(parts: Sequence[str] = tuple(PARTS)) -> list[GradedTest]:
    """All tests that are worth points, in their order."""
    collector = _Collector()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        pytest.main(
            [*_options(), "--collect-only", *(str(GRADED / f"{part}.py") for part in parts)],
            plugins=[collector],
        )
    return collector.found


def grade(
    submission: Path,
    tests: Sequence[GradedTest] | None = None,
    *,
    jobs: int | None = None,
    done: Callable[[Mark], None] = lambda mark: None,
) -> list[Mark]:
    """Run graded tests on a submission, a copy of which is worked on.

    Args:
        submission: a folder of this project's layout.
        tests: those to run; None: all.
        jobs: tests at once; None: one a core.
        done: called with each mark as it is made.
    """
    tests = graded_tests() if tests is None else tests
    jobs = jobs or os.cpu_count() or 1
    context = _context(jobs)

    def one(test: GradedTest) -> Mark:
        return Mark(test, _isolated(context, test, copy))

    with copied(submission) as copy, ThreadPoolExecutor(jobs) as pool:
        marks = [pool.submit(one, test) for test in tests]
        try:
            for mark in as_completed(marks):
                done(mark.result())
        except BaseException:  # Ctrl-C: no other test begins
            pool.shutdown(cancel_futures=True)
            raise
    return [mark.result() for mark in marks]


def by_part(marks: Sequence[Mark]) -> dict[str, tuple[float, float]]:
    """Points won and points to be had of each part."""
    return {
        part: (
            sum(mark.points for mark in marks if mark.test.part == part),
            sum(mark.test.points for mark in marks if mark.test.part == part),
        )
        for part in PARTS
    }


def score_table(marks: Sequence[Mark]) -> str:
    """A line for each test and each part, and one for all."""
    lines = []
    for part, (won, most) in by_part(marks).items():
        for mark in (m for m in marks if m.test.part == part):
            lines.append(f"  {_points(mark.points, mark.test.points)}  {mark.test.name}")
            if mark.why:
                lines += [f"           asked: {mark.test.asked}", f"           {_last(mark.why)}"]
        lines.append(f"{_points(won, most)}  {PARTS[part]}")
    won, most = (sum(each) for each in zip(*by_part(marks).values(), strict=True))
    return "\n".join([*lines, f"{_points(won, most)}  in all"])


def gradescope(marks: Sequence[Mark], seconds: float) -> str:
    """The results.json of a Gradescope autograder (its format: Gradescope, autograder output)."""
    tests = [
        {
            "name": f"{PARTS[mark.test.part]}: {mark.test.name}",
            "score": mark.points,
            "max_score": mark.test.points,
            "output": f"{mark.test.asked}\n\n{mark.why or 'passed'}",
            "visibility": "visible",
        }
        for mark in marks
    ]
    whole = {
        "score": sum(mark.points for mark in marks),
        "execution_time": round(seconds, 1),
        "visibility": "visible",
        "tests": tests,
    }
    return json.dumps(whole, indent=2) + "\n"


def main(submission: Path, file: Path | None) -> int:
    """Grade, print the points, and write the file; returns the exit code: 1 if points are lost.

    The file is there from the start and written anew with each mark: whoever stops the grader
    finds the points won until then.
    """
    started = time.monotonic()
    tests = graded_tests()
    marks = {test: Mark(test, "not run: the grader was stopped before") for test in tests}

    def keep() -> None:
        if file:
            part = file.with_name(f".{file.name}.part")
            part.write_text(gradescope(list(marks.values()), time.monotonic() - started))
            part.replace(file)

    def note(mark: Mark) -> None:
        print("F" if mark.why else ".", end="", flush=True)
        marks[mark.test] = mark
        keep()

    keep()
    grade(submission, tests, done=note)
    print(f"\n{score_table(list(marks.values()))}\n{time.monotonic() - started:.0f} s")
    return 1 if any(mark.why for mark in marks.values()) else 0


# --- One test, in its own process -----------------------------------------------------------------


def _context(jobs: int) -> multiprocessing.context.BaseContext:
    """Where processes come from: forked from one that has the libraries ready, where there is fork.

    With its settings it also leaves them the share of the cores that so many jobs have.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver  # is not there on Windows

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    settings = {
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs)),
        "JOBLIB_MULTIPROCESSING": "0",  # its locks would outlive the processes
    }
    with patch.dict(os.environ, settings):
        forkserver.ensure_running()
    return context


def _isolated(context: multiprocessing.context.BaseContext, test: GradedTest, root: Path) -> str:
    """Run one test; returns why it failed, or nothing."""
    reader, writer = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        process = context.Process(target=_run, args=(test, root, Path(scratch), writer))
        process.start()
        writer.close()
        try:
            if not reader.poll(test.seconds):
                return f"stopped after {test.seconds:g} s"
            why = reader.recv()
            return f"{why}{_said(Path(scratch))}" if why else ""
        except (EOFError, OSError):
            process.join(1)
            return f"the process ended early (exit code {process.exitcode}){_said(Path(scratch))}"
        finally:
            _kill(process)
            reader.close()


def _kill(process: multiprocessing.process.BaseProcess) -> None:
    """Stop a process and whatever it has started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # its group bears its number, see _run
    process.kill()
    process.join()


def _run(test: GradedTest, root: Path, scratch: Path, writer: object) -> None:
    """What the process does: run one test on the modules under `root` and send why it failed."""
    with contextlib.suppress(AttributeError, OSError):
        os.setsid()
    _limit_resources(test.seconds)
    output = os.open(scratch / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ |= {"GRADED_ROOT": str(root), "PYTHONPATH": str(root)}
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True
    os.chdir(scratch)
    ours = [p for p in sys.path if Path(p or ".").resolve() in (ROOT, ROOT / "tests")]
    sys.path[:] = [str(root), *(p for p in sys.path if p and p not in ours)]
    for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
        del sys.modules[name]
    reports = _Reports()
    pytest.main([*_options(), "--basetemp", str(scratch / "tmp"), test.path], plugins=[reports])
    writer.send(reports.why())
    writer.close()


def _limit_resources(seconds: float) -> None:
    """Of a test and of all it starts; what escapes the grader still ends when its time is used."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    limits = {
        resource.RLIMIT_DATA: MAX_MEMORY,
        resource.RLIMIT_FSIZE: MAX_FILE,
        resource.RLIMIT_CPU: math.ceil(seconds) * (os.cpu_count() or 1),
    }
    for kind, most in limits.items():
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (most, most))


def _options() -> list[str]:
    """Of a pytest that knows the graded tests alone, and neither our settings nor our plugins."""
    return ["-c", os.devnull, "--rootdir", str(GRADED), "--confcutdir", str(GRADED), "-q",
            "-p", "no:cacheprovider", "--capture=no", "--tb=short"]  # fmt: skip


class _Reports:
    """A plugin that remembers how the tests went."""

    def __init__(self) -> None:
        self._passed, self._failures = 0, []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failures.append(report.longreprtext)
        elif report.passed and report.when == "call":
            self._passed += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._failures.append(report.longreprtext)

    def why(self) -> str:
        """Why it failed; nothing if one test passed and nothing failed."""
        if self._failures:
            return self._failures[0][-MAX_OUTPUT:] or "failed"
        return "" if self._passed == 1 else "the test did not run"


class _Collector:
    """A plugin that lists what is worth points."""

    def __init__(self) -> None:
        self.found: list[GradedTest] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            mark = item.get_closest_marker("points")
            asked = " ".join((item.function.__doc__ or "").split())
            seconds = mark.kwargs.get("seconds", DEFAULT_SECONDS)
            self.found.append(
                GradedTest(item.path.stem, item.name, asked, float(mark.args[0]), seconds)
            )


@contextlib.contextmanager
def copied(project: Path) -> Iterator[Path]:
    """A copy of the code of a project or submission, to work on."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        for package in PACKAGES:
            if (project / package).is_dir():
                shutil.copytree(
                    project / package,
                    Path(scratch, package),
                    ignore=shutil.ignore_patterns(*IGNORED),
                    ignore_dangling_symlinks=True,
                )
        yield Path(scratch)


# --- Words ----------------------------------------------------------------------------------------


def _points(won: float, most: float) -> str:
    return f"{won:4g} / {most:g}".ljust(9)


def _last(why: str) -> str:
    """The line of a failure that says the most: the error itself."""
    lines = [line.strip() for line in why.splitlines() if line.strip()]
    errors = [line.removeprefix("E").strip() for line in lines if line.startswith("E ")]
    return (errors or lines or ["failed"])[0]


def _said(scratch: Path) -> str:
    """The end of what a process has printed."""
    with contextlib.suppress(OSError), (scratch / "output").open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - MAX_OUTPUT))
        if text := file.read().decode(errors="replace").strip():
            return f"; it said:\n{text}"
    return ""
