"""The grade: points, hostile submissions, the file for Gradescope, and faults that it must see."""

import dataclasses
import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import grader
from tests.grader import PARTS, ROOT, by_part, copied, grade, graded_tests
from tests.planted import FAULTS, Fault, planted

POINTS = {"test_part1": 30, "test_part2": 30, "test_part3": 40}
TRAINS = re.compile("training|same_seed|undisturbed|overfits|momentum|clipping")
LOADER_POINTS = 1  # of part 1, for the data loader, which all parts share
FILES = {
    "test_part1": ("part1_mlp",),
    "test_part2": ("part2_cnn",),
    "test_part3": ("part3_rnn", "data/palindromes.py"),
}


@pytest.fixture(scope="module")
def graded() -> dict[str, grader.GradedTest]:
    return {f"{test.part}::{test.name}": test for test in graded_tests()}


def test_points_add_up_and_every_test_says_what_was_asked(graded):
    for part, points in POINTS.items():
        assert sum(test.points for test in graded.values() if test.part == part) == points
    for test in graded.values():
        assert len(test.asked) > 20, test.name


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_missing_costs_its_own_points_alone(part):
    # So no fault in a part's own files can cost points in another part.
    with copied(ROOT) as submission:
        for name in FILES[part]:
            path = submission / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        marks = grade(submission)
    failed = {mark.test.name: mark.why for mark in marks if mark.why and mark.test.part != part}
    assert not failed
    left = LOADER_POINTS if part == "test_part1" else 0
    assert by_part(marks) == {
        each: (left if each == part else points, points) for each, points in POINTS.items()
    }
    file = json.loads(grader.gradescope(marks, 1.0))
    assert file["score"] == 100 - POINTS[part] + left
    assert sum(test["max_score"] for test in file["tests"]) == 100
    keys = {"name", "score", "max_score", "output", "visibility"}
    assert all(test.keys() == keys for test in file["tests"])


# Those that are seen without a training, whose tests take seconds; every fourth of them.
QUICKLY_SEEN = [fault for fault in FAULTS if not TRAINS.search(fault.test)][::4]


@pytest.mark.parametrize(
    ("faults", "at_least"), [(QUICKLY_SEEN, 10), pytest.param(FAULTS, 61, marks=pytest.mark.slow)]
)
def test_the_grade_sees_planted_faults(faults, at_least, graded):
    def is_seen(fault: Fault) -> bool:
        with planted(fault) as submission:
            return bool(grade(submission, [graded[f"{fault.part}::{fault.test}"]], jobs=1)[0].why)

    with ThreadPoolExecutor(2) as pool:
        seen = list(pool.map(is_seen, faults))
    unseen = [f"{f.test}: {f.what}" for f, cost in zip(faults, seen, strict=True) if not cost]
    assert unseen == []
    assert len(faults) >= at_least


# --- Hostile submissions --------------------------------------------------------------------------

HOSTILE = {
    "loops": ("while True: pass", "stopped after"),
    "exits": ("raise SystemExit(0)", "SystemExit"),
    "leaves": ("import os; os._exit(0)", "the process ended early"),
    "kills itself": ("import os, signal; os.kill(os.getpid(), 9)", "the process ended early"),
    "kills its group": ("import os, signal; os.killpg(0, 9)", "the process ended early"),
    "eats memory": ("x = bytearray(10**10); x[::4096] = x[::4096]", "MemoryError"),
    "prints": ("while True: print('x' * 10**6)", ""),
    "forks": ("import os, time\n        if os.fork() == 0: time.sleep(60)\n        1 / 0", "Zero"),
}


def with_relu(body: str, submission: Path) -> None:
    """Let the submission do that whenever its ReLU is used."""
    modules = submission / "part1_mlp" / "modules.py"
    old = "        self._out = np.maximum(x, 0)\n"
    assert old in modules.read_text()
    modules.write_text(modules.read_text().replace(old, f"        {body}\n{old}"))


@pytest.mark.parametrize(
    "how",
    ["leaves", *(pytest.param(how, marks=pytest.mark.slow) for how in HOSTILE if how != "leaves")],
)
def test_a_hostile_submission_loses_those_points_alone(how, graded):
    body, why = HOSTILE[how]
    chosen = [
        dataclasses.replace(graded[f"test_part1::{name}"], seconds=15)
        for name in ("test_linear_forward", "test_relu", "test_softmax_forward")
    ]
    with copied(ROOT) as submission:
        with_relu(body, submission)
        marks = grade(submission, chosen)
    assert [bool(mark.why) for mark in marks] == [False, True, False]
    assert why in marks[1].why
    assert len(marks[1].why) < 3 * grader.MAX_OUTPUT


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_process_that_escapes_the_grader_ends_when_its_time_is_used(tmp_path, graded):
    escape = (
        "import os, pathlib\n"
        "        if os.fork() == 0:\n"
        "            os.setsid()\n"
        f"            pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch()\n"
        "            while True: pass\n"
        f"        while not os.listdir({str(tmp_path)!r}): pass"
    )
    with copied(ROOT) as submission:
        with_relu(escape, submission)
        grade(submission, [dataclasses.replace(graded["test_part1::test_relu"], seconds=1)])
    escaped = [int(path.name) for path in tmp_path.iterdir()]
    assert escaped
    until = time.monotonic() + 60
    while any(_is_running(process) for process in escaped) and time.monotonic() < until:
        time.sleep(0.2)
    assert not any(_is_running(process) for process in escaped)


def _is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"  # dead, though nobody may have asked for its exit code


def test_a_submission_that_cannot_be_imported_loses_its_points(graded):
    chosen = [graded["test_part1::test_relu"], graded["test_part2::test_parameters"]]
    with copied(ROOT) as submission:
        (submission / "part1_mlp" / "modules.py").write_text("def (:\n")
        marks = grade(submission, chosen)
    assert "SyntaxError" in marks[0].why
    assert marks[1].why == ""


# --- The command ----------------------------------------------------------------------------------


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_command_grades_a_submission_and_leaves_it_alone(tmp_path, monkeypatch, capsys, graded):
    few = [graded[f"test_part1::{name}"] for name in ("test_relu", "test_softmax_forward")]
    monkeypatch.setattr(grader, "graded_tests", lambda: few)
    fault = next(fault for fault in FAULTS if fault.test == "test_relu")
    with planted(fault) as submission:
        before = _digests(submission)
        assert grader.main(submission, tmp_path / "results.json") == 1
        assert _digests(submission) == before
    said = capsys.readouterr().out
    assert "0 / 2   test_relu" in said
    assert "2 / 2   test_softmax_forward" in said
    assert few[0].asked in said, "what was asked is told where points are lost"
    assert json.loads((tmp_path / "results.json").read_text())["score"] == 2


def test_a_grader_that_is_stopped_leaves_the_points_won_until_then(tmp_path, monkeypatch, graded):
    few = [graded[f"test_part1::{name}"] for name in ("test_relu", "test_softmax_forward")]
    monkeypatch.setattr(grader, "graded_tests", lambda: few)
    file = tmp_path / "results.json"

    def stopped_after_the_first(submission, tests, *, done):
        assert json.loads(file.read_text())["score"] == 0
        done(grader.Mark(tests[0], ""))
        raise KeyboardInterrupt

    monkeypatch.setattr(grader, "grade", stopped_after_the_first)
    with pytest.raises(KeyboardInterrupt):
        grader.main(ROOT, file)
    left = json.loads(file.read_text())
    assert [test["score"] for test in left["tests"]] == [few[0].points, 0]
    assert "stopped before" in left["tests"][1]["output"]


@pytest.mark.parametrize(
    ("option", "value"),
    [("--submission", "/no/such/folder"), ("--gradescope", "/no/such/x"), ("--gradescope", "/")],
)
def test_options_that_are_refused(option, value):
    command = [sys.executable, "-m", "pytest", option, value]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert option in done.stderr
