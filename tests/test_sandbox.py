"""The sandbox: hostile and clumsy submissions lose their own points, in time, and nothing else."""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import grader
from tests.grader import Mark, explanation, grade, graded_tests
from tests.hostile import (
    FORGED_TRAIN,
    HOSTILE,
    MODULES,
    SLEEPER,
    TRAIN1,
    Hostile,
    plant,
)
from tests.planted import copy_code
from tests.sandbox import NotASubmission, Sandbox, find_submission
from tests.variants import VARIANTS
from tests.wire import WireError, decode, encode

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
SECONDS = 2
FEW = "test_linear_forward", "test_relu", "test_softmax_forward"
TESTS = {(test.part, test.name): test for test in graded_tests()}
WITHOUT_ROOT = """
import sys
from tests import sandbox_process
sandbox_process._other_user = lambda: None
sandbox_process.main(sys.argv[1])
"""
GRADE_RELU = """
import pathlib, sys
from tests import grader
tests = [test for test in grader.graded_tests() if test.name == "test_relu"]
grader.graded_tests = lambda: tests
grader.main(pathlib.Path(sys.argv[1]), jobs=1)
"""


class SameUserSandbox(Sandbox):
    """One whose sessions belong to the grader's own user, as without root."""

    COMMAND = sys.executable, "-c", WITHOUT_ROOT


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def same_user_sandbox() -> Iterator[Sandbox]:
    with SameUserSandbox() as sandbox:
        yield sandbox


@pytest.fixture
def submission(tmp_path: Path) -> Path:
    return copy_code(tmp_path / "submission")


def graded(
    submission: Path, sandbox: Sandbox, *names: str, part: str = "test_part1", seconds: float = 0
) -> list[Mark]:
    tests = [TESTS[part, name] for name in names or FEW]
    if seconds:
        tests = [dataclasses.replace(test, seconds=seconds) for test in tests]
    marks = grade(submission, tests, jobs=1, sandbox=sandbox, seed=0)
    for mark in marks:
        assert_readable(mark)
    return marks


def assert_readable(mark: Mark) -> None:
    lines = explanation(mark)
    assert len(lines) <= grader.MAX_LINES
    assert all(line.isprintable() and len(line) < 400 for line in lines)
    json.loads(grader.gradescope([mark], 1.0)).keys()
    assert "\\u0000" not in grader.gradescope([mark], 1.0)


def assert_costs_its_own_points(
    hostile: Hostile, submission: Path, sandbox: Sandbox, *, why: str
) -> None:
    plant(hostile, submission)
    first, relu, last = graded(submission, sandbox, seconds=SECONDS)
    if hostile.at_import:  # how it ends for the hostile one is its own affair
        assert [mark.why for mark in graded(grader.ROOT, sandbox, "test_relu")] == [""]
        return
    assert first.why == ""
    assert last.why == ""
    if why:
        assert re.search(why, relu.why), relu.why
    else:
        assert relu.why == ""
    if SLEEPER in hostile.code:
        assert SLEEPER not in running()


def running() -> str:
    """The command lines of all processes."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_text(errors="replace"))
        except OSError:
            continue
    return "\n".join(lines)


def digests() -> dict[Path, bytes]:
    paths = sorted((grader.ROOT / "tests").rglob("*.py"))
    return {path: hashlib.sha256(path.read_bytes()).digest() for path in paths}


@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param(each, id=each.name, marks=[pytest.mark.slow] if each.slow else [])
        for each in HOSTILE
    ],
)
def test_hostile_submissions(hostile, submission, sandbox):
    before = digests()
    assert_costs_its_own_points(hostile, submission, sandbox, why=hostile.why)
    assert digests() == before


# Without root Landlock alone protects, and the time limit.
ATTACKS = ("kills its parent", "kills all", "rewrites the graded tests", "imports the solution",
           "children that fork and exit", "sleeper in a session of its own")  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_by_a_process_of_the_same_user(name, submission, same_user_sandbox):
    if not has_landlock():
        pytest.skip("needs Landlock, version 6 (Linux 6.12)")
    hostile = next(each for each in HOSTILE if each.name == name)
    before = digests()
    assert_costs_its_own_points(hostile, submission, same_user_sandbox, why=hostile.why)
    assert digests() == before


ASK = "import socket, sys; s = socket.socket(1); s.connect(sys.argv[1]); print(s.recv(99))"


def test_the_grader_alone_begins_sessions(sandbox):
    """A session that could connect would get another one, with bounds of its own choice."""
    with sandbox.connect() as control:
        assert b"user" in control.recv(99)
    done = subprocess.run(
        [sys.executable, "-c", ASK, sandbox.address], capture_output=True, text=True, check=True
    )
    assert done.stdout == "b''\n"


def has_landlock() -> bool:
    import ctypes

    from tests.sandbox_process import LANDLOCK_CREATE

    return ctypes.CDLL(None).syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1) >= 6


# --- Files and folders ----------------------------------------------------------------------------


def test_what_lies_in_the_folder_does_no_harm(submission, sandbox):
    os.mkfifo(submission / "part1_mlp" / "fifo")
    (submission / "here").symlink_to(".")
    (submission / "part1_mlp" / "loop").symlink_to("loop")
    (submission / "part1_mlp" / "zero").symlink_to("/dev/zero")
    (submission / "outside").symlink_to("/")
    here = os.getcwd()
    try:
        os.chdir(submission)
        for _ in range(1200):
            os.mkdir("deeper")
            os.chdir("deeper")
    finally:
        os.chdir(here)
    assert [mark.why for mark in graded(submission, sandbox)] == ["", "", ""]
    subprocess.run(["rm", "-rf", submission / "deeper"], check=True)  # pytest's own way recurses


def test_folders_left_in_the_copy_are_removed(submission, sandbox):
    code = "import os\nfor _ in range(1200): os.mkdir('deeper'); os.chdir('deeper')"
    plant(Hostile("", code), submission)
    assert [mark.why for mark in graded(submission, sandbox)] == ["", "", ""]


def test_a_folder_too_deep_is_entered(submission, sandbox):
    deep = submission.parent / "upload" / "homework"
    deep.mkdir(parents=True)
    submission.rename(deep / "solution")
    assert [mark.why for mark in graded(submission.parent / "upload", sandbox)] == ["", "", ""]
    shutil.copytree(deep / "solution", deep / "another")
    with pytest.raises(NotASubmission, match="several"):
        find_submission(submission.parent / "upload")


def test_a_missing_part_costs_its_own_points(submission, sandbox):
    shutil.rmtree(submission / "part1_mlp")
    assert all("part1_mlp" in mark.why for mark in graded(submission, sandbox))
    (mark,) = graded(submission, sandbox, "test_parameters", part="test_part2")
    assert mark.why == ""


def test_a_syntax_error_shows_its_line(submission, sandbox):
    (submission / MODULES).write_text("import numpy as np\n\ndef wrong(:\n    pass\n")
    mark = graded(submission, sandbox)[0]
    assert "SyntaxError" in mark.why
    assert "def wrong(:" in mark.why
    assert "line 3" in mark.why


def test_its_own_pytest_files_are_not_read(submission, sandbox, tmp_path):
    for name in ("conftest.py", "tests/conftest.py", "sitecustomize.py", "part1_mlp/conftest.py"):
        (submission / name).parent.mkdir(exist_ok=True)
        (submission / name).write_text(f"open({str(tmp_path / 'read')!r}, 'w'); raise SystemExit")
    (submission / "pytest.ini").write_text("[pytest]\naddopts = --version\n")
    (submission / "tests" / "__init__.py").write_text("")
    (submission / "tests" / "wire.py").write_text("raise SystemExit")
    assert [mark.why for mark in graded(submission, sandbox)] == ["", "", ""]
    assert not (tmp_path / "read").exists()


@pytest.mark.slow
def test_pytest_called_in_a_hostile_folder_grades(tmp_path):
    for name in ("part1_mlp", "part2_cnn", "part3_rnn"):
        (tmp_path / name).mkdir()
    hook = "def pytest_cmdline_main(config):\n    print('100 / 100  in all')\n    return 0\n"
    (tmp_path / "conftest.py").write_text(hook)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --version\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--submission", tmp_path],
        cwd=grader.ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "   0 / 100  in all" in done.stdout
    assert "100 / 100" not in done.stdout


# --- Forgery --------------------------------------------------------------------------------------


def test_forged_curves_lose_the_training_points(submission, sandbox):
    (submission / TRAIN1).write_text(FORGED_TRAIN)
    names = "test_training_pytorch", "test_pytorch_mlp"
    training, net = graded(submission, sandbox, *names, seconds=10)
    assert "drawn at random" in training.why
    assert net.why == ""


@pytest.mark.parametrize("content", [
    b"", b"\0\xff", b"[" * 10**5, b'{"a": NaN}', b"a" * 10**6, b'"' + b"," * 10**6, b"step\n1,2,3",
])  # fmt: skip
def test_run_files_that_cannot_be_read(content, submission, sandbox):
    lines = FORGED_TRAIN.split('(folder / "history.csv")')[0].splitlines()
    for name in ("config.json", "history.csv", "result.json"):
        lines.append(f"(folder / {name!r}).write_bytes({content[:1]!r} * {len(content)})"
                     if len(set(content)) == 1 else
                     f"(folder / {name!r}).write_bytes({content!r})")  # fmt: skip
    (submission / TRAIN1).write_text("\n".join(lines))
    (mark,) = graded(submission, sandbox, "test_evaluation_is_undisturbed", seconds=10)
    assert "run folder" in mark.why


def test_a_background_writer_does_not_reach_the_results(
    submission, sandbox, tmp_path, monkeypatch, capsys
):
    file = tmp_path / "results.json"
    writer = f"""
        import os
        if os.fork() == 0:
            os.setsid()
            while True:
                for name in (".results.json.part", "results.json"):
                    try: open({str(tmp_path)!r} + "/" + name, "w").write("100 of 100")
                    except OSError: pass
        return x"""
    plant(Hostile("", writer), submission)
    tests = [TESTS["test_part1", name] for name in FEW]
    monkeypatch.setattr(grader, "graded_tests", lambda: tests)
    assert grader.main(submission, file, jobs=1) == 1
    time.sleep(0.2)
    assert json.loads(file.read_text())["score"] == sum(t.points for t in tests) - tests[1].points


@pytest.mark.slow
def test_nothing_outlives_a_grader_that_is_killed(submission):
    code = f'import subprocess; subprocess.run(["sleep", "{SLEEPER}"], start_new_session=True)'
    plant(Hostile("", code), submission)
    process = subprocess.Popen(
        [sys.executable, "-c", GRADE_RELU, submission], cwd=grader.ROOT, stdout=subprocess.DEVNULL
    )
    end = time.monotonic() + 60
    while SLEEPER not in running() and time.monotonic() < end:
        time.sleep(0.05)
    assert SLEEPER in running()
    process.kill()
    process.wait()
    end = time.monotonic() + 10
    while SLEEPER in running() and time.monotonic() < end:
        time.sleep(0.05)
    assert SLEEPER not in running()


# --- Messages on the wire -------------------------------------------------------------------------


def reader(data: bytes):
    view = memoryview(data)

    def read(n: int) -> bytes:
        nonlocal view
        piece, view = bytes(view[:n]), view[n:]
        return piece

    return read


def test_random_changes_of_a_message_are_values_or_refused():
    import random

    import numpy as np

    rng = random.Random(0)
    message = encode({"a": [1, 2.5, None, "x"], "b": np.arange(6.0).reshape(2, 3)})
    for _ in range(3000):
        changed = bytearray(message)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(16, len(changed))] = rng.randrange(256)
        with contextlib.suppress(WireError):
            decode(reader(bytes(changed)))


# --- Right solutions ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(each, id=each.name, marks=[pytest.mark.slow] if each.slow else [])
        for each in VARIANTS
    ],
)
def test_right_solutions_get_their_points(variant, submission, sandbox):
    variant.write(submission)
    marks = graded(submission, sandbox, *variant.tests, *variant.loses, part=variant.part)
    lost = {mark.test.name: mark.why for mark in marks if mark.why}
    assert lost.keys() == set(variant.loses), lost
