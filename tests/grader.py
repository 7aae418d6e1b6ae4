"""The grade: every graded test on a submission, points by part, a file for Gradescope.

    python -m tests.grader DIR [--gradescope FILE]

A graded test (tests/graded/) runs here; what it asks of the submission is computed in a process of
its own (tests/sandbox.py). That one may loop for ever, exit, fill the memory or print without end:
then it is stopped, the test's points are lost, and the next test does not notice.
"""

import argparse
import contextlib
import importlib
import inspect
import json
import math
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from tests.graded.checks import Wrong
from tests.sandbox import (
    ROOT,
    Copy,
    NotASubmission,
    Sandbox,
    Submission,
    SubmissionError,
    Supervisor,
    available_cores,
    find_submission,
)

PARTS = {"test_part1": "Part 1, MLP", "test_part2": "Part 2, CNN", "test_part3": "Part 3, RNN"}
GRADER_FILES = ("tests/graded/*.py", "tests/grader.py", "tests/sandbox*.py", "tests/wire.py")
DEFAULT_SECONDS = 5  # of processor time, for each process of a test; by the clock twice as long
MAX_LINES, MAX_LINE = 8, 300  # of what is said about a lost point
MAX_PRINTED = 3  # lines


@dataclass(frozen=True)
class GradedTest:
    """A test that is worth points.

    Attributes:
        part: `test_part1`, `test_part2` or `test_part3`.
        name: of the function.
        asked: what was asked for, from the docstring.
        points: to be had.
        seconds: of processor time that each process of the submission may use.
        function: the test itself.
    """

    part: str
    name: str
    asked: str
    points: float
    seconds: float
    function: Callable[..., None]


@dataclass(frozen=True)
class Mark:
    """How a test went: `why` it failed is empty if it passed."""

    test: GradedTest
    why: str

    @property
    def score(self) -> float:
        """The points that were won."""
        return 0.0 if self.why else self.test.points


def graded_tests(parts: Iterable[str] = tuple(PARTS)) -> list[GradedTest]:
    """All tests that are worth points, in their order."""
    found = []
    for part in parts:
        for name, function in vars(importlib.import_module(f"tests.graded.{part}")).items():
            for mark in getattr(function, "pytestmark", []):
                if mark.name != "points":
                    continue
                asked = " ".join((inspect.getdoc(function) or "").split())
                points, seconds = float(mark.args[0]), mark.kwargs.get("seconds", DEFAULT_SECONDS)
                found.append(GradedTest(part, name, asked, points, seconds, function))
    return found


# --- Running --------------------------------------------------------------------------------------


def grade(
    submission: Path,
    tests: Sequence[GradedTest] | None = None,
    *,
    jobs: int | None = None,
    sandbox: Sandbox | None = None,
    seed: int | None = None,
    done: Callable[[Mark], None] = lambda mark: None,
) -> list[Mark]:
    """Run graded tests on a submission, each on a copy of it as it was.

    Args:
        submission: a folder that holds the parts.
        tests: those to run; None: all.
        jobs: tests at once; None: one a core.
        sandbox: to run it in; None: a new one.
        seed: of the numbers that the submission is asked about; None: drawn anew.
        done: called with each mark as it is made.

    Raises:
        NotASubmission: if it is none.
    """
    submission = find_submission(submission)
    tests = graded_tests() if tests is None else tests
    jobs = min(jobs or available_cores(), max(1, len(tests)))
    seed = secrets.randbits(32) if seed is None else seed
    with contextlib.ExitStack() as stack:
        sandbox = sandbox or stack.enter_context(Sandbox())
        intact = Intact(GRADER_FILES)
        workers: SimpleQueue[tuple[Supervisor, Copy]] = SimpleQueue()
        for _ in range(jobs):
            workers.put((Supervisor(sandbox), Copy(submission)))

        def one(test: GradedTest) -> Mark:
            supervisor, copy = worker = workers.get()
            try:
                mark = _mark(test, Submission(supervisor, copy.intact(), test.seconds), seed)
            except OSError as error:  # of the copy: a full disk, say
                mark = Mark(test, f"the grader could not copy the submission ({error.strerror})")
            finally:
                workers.put(worker)
            if supervisor.user is None and (changed := intact.restore()):
                return Mark(test, f"the submission has changed the grader's files: {changed}")
            return mark

        pool = stack.enter_context(ThreadPoolExecutor(jobs))
        longest_first = sorted(tests, key=lambda test: -test.seconds)
        marks = {pool.submit(one, test): test for test in longest_first}
        try:
            for mark in as_completed(marks):
                done(mark.result())
        except BaseException:  # Ctrl-C: no other test begins
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            for _ in range(jobs):
                for each in workers.get():
                    each.close()
    by_test = {test: future.result() for future, test in marks.items()}
    return [by_test[test] for test in tests]


def _mark(test: GradedTest, submission: Submission, seed: int) -> Mark:
    """Run one test."""
    given = {"submission": submission, "rng": np.random.default_rng([seed, *test.name.encode()])}
    wanted = inspect.signature(test.function).parameters
    why = printed = ""
    try:
        with contextlib.closing(submission), np.errstate(all="ignore"):
            test.function(**{name: given[name] for name in wanted})
    except Wrong as wrong:
        why = str(wrong)
    except SubmissionError as error:
        why, printed = str(error), _last_lines(submission.printed)
    except Exception as error:  # a value of a kind that the test does not expect
        why = (
            f"the answers are not of the kind that was asked for ({type(error).__name__}: {error})"
        )
    return Mark(test, _readable(why + printed))


def _last_lines(printed: str) -> str:
    """The end of what a process has printed, without progress bars."""
    lines = [line.rpartition("\r")[2].strip() for line in printed.replace("\r\n", "\n").split("\n")]
    lines = [line for line in lines if line][-MAX_PRINTED:]
    return "\nprinted last:\n" + "\n".join(lines) if lines else ""


class Intact:
    """Files as they were; whatever has been changed since is put back."""

    def __init__(self, patterns: Iterable[str]) -> None:
        paths = [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]
        self._files = {path: path.read_bytes() for path in paths}

    def restore(self) -> str:
        """The names of files that were not as before, and are now."""
        changed = []
        for path, data in self._files.items():
            if not path.is_symlink() and path.is_file() and path.read_bytes() == data:
                continue
            changed.append(path.name)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            path.write_bytes(data)
        return ", ".join(changed)


# --- Reports --------------------------------------------------------------------------------------


def by_part(marks: Sequence[Mark]) -> dict[str, tuple[float, float]]:
    """Points won and points to be had of each part."""
    return {
        part: (
            math.fsum(mark.score for mark in marks if mark.test.part == part),
            math.fsum(mark.test.points for mark in marks if mark.test.part == part),
        )
        for part in PARTS
    }


def score_table(marks: Sequence[Mark]) -> str:
    """A line for each test and each part, and one for all."""
    lines = []
    for part, (won, most) in by_part(marks).items():
        for mark in (m for m in marks if m.test.part == part):
            lines.append(f"  {_points(mark.score, mark.test.points)}  {mark.test.name}")
            lines += [f"           {line}" for line in explanation(mark)]
        lines.append(f"{_points(won, most)}  {PARTS[part]}")
    won, most = (math.fsum(each) for each in zip(*by_part(marks).values(), strict=True))
    return "\n".join([*lines, f"{_points(won, most)}  in all"])


def explanation(mark: Mark) -> list[str]:
    """What a student is told of a lost point: what was asked, what was expected, what came."""
    if not mark.why:
        return []
    lines = [f"asked: {mark.test.asked}", *mark.why.splitlines()]
    return list(dict.fromkeys(lines))[:MAX_LINES]


def gradescope(marks: Sequence[Mark], seconds: float) -> str:
    """The results.json of a Gradescope autograder (its format: Gradescope, autograder output)."""
    tests = [
        {
            "name": f"{PARTS[mark.test.part]}: {mark.test.name}",
            "score": mark.score,
            "max_score": mark.test.points,
            "output": "\n".join(explanation(mark)) or "passed",
            "visibility": "visible",
        }
        for mark in marks
    ]
    whole = {
        "score": round(math.fsum(mark.score for mark in marks), 2),
        "execution_time": round(seconds, 1),
        "visibility": "visible",
        "tests": tests,
    }
    return json.dumps(whole, indent=2) + "\n"


def _points(won: float, most: float) -> str:
    return f"{won:4g} / {most:g}".ljust(9)


def _readable(text: str) -> str:
    """Without control characters, in a few lines of bounded length."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()][:MAX_LINES]
    return "\n".join(
        "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line[:MAX_LINE])
        for line in lines
    )


# --- The command ----------------------------------------------------------------------------------


def main(submission: Path, file: Path | None = None, jobs: int | None = None) -> int:
    """Grade, print the points, and write the file; returns the exit code.

    It is 1 if points are lost, 2 if the file cannot be written.

    The file is there from the start and written anew with each mark: whoever stops the grader
    finds the points won until then.
    """
    started = time.monotonic()
    tests = graded_tests()
    marks = {test: Mark(test, "not run: the grader was stopped before") for test in tests}
    seed = int(os.environ.get("GRADER_SEED") or secrets.randbits(32))
    stopped = False

    def keep() -> None:
        if file:
            write_whole(file, gradescope(list(marks.values()), time.monotonic() - started))

    def note(mark: Mark) -> None:
        print("F" if mark.why else ".", end="", flush=True)
        marks[mark.test] = mark
        keep()

    try:
        keep()
    except OSError as error:
        print(f"--gradescope: {file} cannot be written ({error.strerror})", file=sys.stderr)
        return 2
    try:
        grade(submission, tests, jobs=jobs, seed=seed, done=note)
    except KeyboardInterrupt:
        stopped = True
    print(f"\n{score_table(list(marks.values()))}")
    print(f"{time.monotonic() - started:.0f} s; the same numbers again: GRADER_SEED={seed}")
    return 130 if stopped else 1 if any(mark.why for mark in marks.values()) else 0


def write_whole(file: Path, text: str) -> None:
    """Write a file in one step: whoever reads it finds the old or the new text."""
    if file.exists() and not file.is_file():  # such as /dev/null, which stays what it is
        file.write_text(text, encoding="utf-8")
        return
    file = file.resolve()  # where a link points to
    number, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    with open(number, "w", encoding="utf-8") as part:
        part.write(text)
    os.chmod(name, 0o644)
    os.replace(name, file)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command's arguments, checked; ends with exit code 2 and one line if they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.grader", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("submission", help="the folder to grade")
    parser.add_argument(
        "--gradescope", metavar="FILE", help="write Gradescope's results.json there"
    )
    parser.add_argument("--jobs", type=int, help="tests at once; otherwise one a core")
    args = parser.parse_args(argv)
    try:
        if not args.submission.strip():
            raise NotASubmission("the name of the folder is empty")
        args.submission = find_submission(Path(os.path.expanduser(args.submission)))
    except (NotASubmission, OSError) as error:
        parser.exit(2, f"--submission: {error}\n")
    if args.gradescope is not None:
        if not args.gradescope.strip():
            parser.exit(2, "--gradescope: the name of the file is empty\n")
        args.gradescope = Path(os.path.expanduser(args.gradescope)).absolute()
        if os.path.isdir(args.gradescope):  # Path's fails for a name that is too long
            parser.exit(2, f"--gradescope: {args.gradescope} is a folder, name a file\n")
        if not os.path.isdir(args.gradescope.parent):
            parser.exit(2, f"--gradescope: there is no folder {args.gradescope.parent}\n")
    if not re.fullmatch(r"\d*", os.environ.get("GRADER_SEED", "")):
        parser.exit(2, "GRADER_SEED: give a whole number, 0 or more\n")
    if args.jobs is not None and args.jobs < 1:
        parser.exit(2, f"--jobs: {args.jobs} is not 1 or more\n")
    return args


if __name__ == "__main__":
    arguments = parse()
    sys.exit(main(arguments.submission, arguments.gradescope, arguments.jobs))
