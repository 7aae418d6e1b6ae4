"""The grade: points, planted mistakes that it must see, reports, and the command of the docs."""

import errno
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import grader
from tests.grader import PARTS, ROOT, Mark, by_part, explanation, grade, graded_tests
from tests.planted import FAULTS, UNSEEN, copied, mark_of, planted
from tests.sandbox import FOLDERS, Sandbox, available_cores

POINTS = {"test_part1": 30, "test_part2": 30, "test_part3": 40}
TRAINS = re.compile("training|augmentation|same_seed|undisturbed|overfits|momentum|clipping|learns")
LOADER_POINTS = 1  # of part 1, for the data loader, which all parts share
FILES = {
    "test_part1": ("part1_mlp",),
    "test_part2": ("part2_cnn",),
    "test_part3": ("part3_rnn", "data/palindromes.py"),
}


@pytest.fixture(scope="module")
def graded() -> dict[str, grader.GradedTest]:
    return {f"{test.part}::{test.name}": test for test in graded_tests()}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


# --- The points -----------------------------------------------------------------------------------


def test_points_add_up_and_every_test_says_what_was_asked(graded):
    for part, points in POINTS.items():
        assert sum(test.points for test in graded.values() if test.part == part) == points
    for test in graded.values():
        assert len(test.asked) > 20, test.name


def test_the_docs_tell_the_points_of_every_test():
    rows = (ROOT / "docs" / "grading.md").read_text().split("## The points")[1].splitlines()
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows if "test_" in row]
    told = [pair for row in cells for pair in zip(row[::2], row[1::2], strict=True) if pair[0]]
    expected = {(test.name, f"{test.points:g}") for test in graded_tests()}
    assert set(told) >= expected
    assert len([pair for pair in told if pair[0].startswith("test_")]) == len(graded_tests())


def test_all_time_limits_together_are_below_nine_minutes(graded):
    assert sum(2 * test.seconds for test in graded.values()) < 9 * 60


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_missing_costs_its_own_points_alone(part, sandbox):
    # So no mistake in a part's own files can cost points in another part.
    with copied() as submission:
        for name in FILES[part]:
            path = submission / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        marks = grade(submission, sandbox=sandbox, seed=0)
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
    ("faults", "at_least"), [(QUICKLY_SEEN, 10), pytest.param(FAULTS, 80, marks=pytest.mark.slow)]
)
def test_the_grade_sees_planted_faults(faults, at_least, sandbox):
    with ThreadPoolExecutor(2) as pool:
        marks = list(pool.map(lambda fault: mark_of(fault, sandbox), faults))
    unseen = [f"{f.test}: {f.what}" for f, m in zip(faults, marks, strict=True) if not m.why]
    assert unseen == []
    crashed = [
        m.why for m in marks if re.search("NameError|SyntaxError|UnboundLocal|killed", m.why)
    ]
    assert crashed == []  # a fault is to be seen by what it computes
    assert len(faults) >= at_least


@pytest.mark.parametrize("fault", [*FAULTS, *UNSEEN], ids=lambda fault: fault.what)
def test_every_mistake_can_be_planted_in_one_place(fault):
    assert (ROOT / fault.file).read_text().count(fault.old) == 1


def test_the_same_seed_asks_for_the_same_numbers(graded, sandbox):
    fault = next(fault for fault in FAULTS if fault.test == "test_linear_forward")
    with planted(fault) as submission:
        first, again, other = (
            grade(submission, [graded[f"test_part1::{fault.test}"]], sandbox=sandbox, seed=seed)
            for seed in (1, 1, 2)
        )
    assert first[0].why == again[0].why != other[0].why


# --- Reports --------------------------------------------------------------------------------------


def test_an_explanation_is_short_and_each_line_stands_once():
    test = grader.GradedTest("test_part1", "net", "what was asked for", 4, 5, print)
    why = grader._readable(
        "\n".join(["the same"] * 3 + [f"line {i} \x00\x1b[31m" for i in range(20)])
    )
    lines = explanation(Mark(test, why))
    assert lines[:2] == ["asked: what was asked for", "the same"]
    assert len(lines) <= 8
    assert len(set(lines)) == len(lines)
    assert all(line.isprintable() for line in lines)


def test_a_grader_that_is_stopped_leaves_the_points_won_until_then(
    tmp_path, monkeypatch, graded, capsys
):
    few = [graded[f"test_part1::{name}"] for name in ("test_relu", "test_softmax_forward")]
    monkeypatch.setattr(grader, "graded_tests", lambda: few)
    file = tmp_path / "results.json"

    def stopped_after_the_first(submission, tests, *, done, **options):
        assert json.loads(file.read_text())["score"] == 0
        done(Mark(tests[0], ""))
        raise KeyboardInterrupt

    monkeypatch.setattr(grader, "grade", stopped_after_the_first)
    assert grader.main(ROOT, file) == 130
    assert "   2 / 4   in all" in capsys.readouterr().out
    left = json.loads(file.read_text())
    assert [test["score"] for test in left["tests"]] == [few[0].points, 0]
    assert "stopped before" in left["tests"][1]["output"]


def test_files_that_were_changed_are_put_back(tmp_path, monkeypatch):
    monkeypatch.setattr(grader, "ROOT", tmp_path)
    for name in ("a.py", "b.py", "c.py"):
        (tmp_path / name).write_text("right\n")
    intact = grader.Intact(["*.py"])
    (tmp_path / "a.py").write_text("wrong\n")
    (tmp_path / "b.py").unlink()
    (tmp_path / "b.py").mkdir()
    assert intact.restore() == "a.py, b.py"
    assert {path.read_text() for path in tmp_path.iterdir()} == {"right\n"}
    assert intact.restore() == ""


# --- The command ----------------------------------------------------------------------------------


def run_pytest(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pytest", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture
def empty_parts(tmp_path) -> Path:
    """A submission of six empty folders: it is graded in seconds."""
    for name in FOLDERS:
        (tmp_path / "work" / name).mkdir(parents=True)
    return tmp_path / "work"


HOSTILE_SETTINGS = {
    "conftest.py": "print('the grade is 100 / 100'); import os; os._exit(0)\n",
    "pytest.ini": "[pytest]\naddopts = --no-such-option --collect-only\n",
    "tests/grading_options.py": "raise SystemExit('the grade is 100 / 100')\n",
}


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(("--submission", "DIR", "--gradescope", "FILE"), id="space"),
        pytest.param(("--submission=DIR", "--gradescope=FILE"), id="equals sign",
                     marks=pytest.mark.slow),
        pytest.param(("tests", "--submission", "DIR", "--gradescope", "FILE"), id="with a path",
                     marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_the_command_of_the_docs_grades(form, empty_parts, tmp_path):
    for name, text in HOSTILE_SETTINGS.items():
        (empty_parts / name).parent.mkdir(exist_ok=True)
        (empty_parts / name).write_text(text)
    file = tmp_path / "results.json"
    file.write_text("an older one")
    done = run_pytest(
        *(each.replace("DIR", str(empty_parts)).replace("FILE", str(file)) for each in form)
    )
    assert "0 / 100  in all" in done.stdout, done.stdout + done.stderr
    assert "100 / 100" not in done.stdout
    assert done.returncode == 1
    assert json.loads(file.read_text())["score"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("where", ["config", "path"])
def test_the_command_grades_from_elsewhere_and_a_folder_too_deep(where, empty_parts, tmp_path):
    given = ("-c", ROOT / "pyproject.toml") if where == "config" else (ROOT,)
    deep = tmp_path / "deep" / "hand-in"
    shutil.move(empty_parts, deep)
    done = run_pytest(*given, "--submission=deep", "--gradescope=results.json", cwd=tmp_path)
    assert "0 / 100  in all" in done.stdout, done.stdout + done.stderr
    assert json.loads((tmp_path / "results.json").read_text())["score"] == 0


@pytest.mark.slow
def test_a_clone_of_the_project_is_graded_by_this_project(tmp_path):
    clone = tmp_path / "clone"
    with copied() as project:
        shutil.copytree(project, clone)
    shutil.copytree(ROOT / "tests", clone / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "grader.dist-info"):
        path = ROOT / name
        shutil.copytree(path, clone / name) if path.is_dir() else shutil.copy(path, clone)
    for part in ("part1_mlp/modules.py", "part2_cnn/model.py", "part3_rnn/model.py"):
        (clone / part).write_text("def (:\n")
    cheat = "\ndef main(*given):\n    print('100 / 100  in all')\n    return 0\n"
    with (clone / "tests" / "grader.py").open("a") as file:
        file.write(cheat)
    done = run_pytest("--submission", clone)
    assert done.returncode == 1
    assert "100 / 100" not in done.stdout
    assert "SyntaxError: invalid syntax" in done.stdout
    assert "def (:" in done.stdout


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("--submission", "/no/such/folder", "is no folder"),
        ("--submission", "EMPTY", "holds none of the folders part1_mlp, part2"),
        ("--submission=", None, "is empty"),
        ("--submission=~nosuchuser", None, "is no folder"),
        ("--gradescope", "/no/such/x", "there is no folder /no/such"),
        ("--gradescope", "/", "is a folder"),
        ("--gradescope=", None, "is empty"),
        ("--submission", 300 * "x", "is no folder"),
    ],
)
def test_options_that_are_refused(option, value, why, tmp_path):
    given = [option] if value is None else [option, value.replace("EMPTY", str(tmp_path))]
    done = run_pytest(*given)
    assert done.returncode == 2
    assert done.stderr.startswith(option.partition("=")[0])
    assert why in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_file_that_cannot_be_written_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(grader, "grade", pytest.fail)
    assert grader.main(ROOT, Path("/proc/results.json")) == 2
    err = capsys.readouterr().err
    assert err.startswith("--gradescope: /proc/results.json cannot be written")
    assert err.count("\n") == 1


@pytest.mark.parametrize("seed", ["abc", "-1", "1.5"])
def test_seeds_that_are_refused(seed, monkeypatch, capsys):
    monkeypatch.setenv("GRADER_SEED", seed)
    with pytest.raises(SystemExit, match="2"):
        grader.parse([str(ROOT)])
    assert capsys.readouterr().err == "GRADER_SEED: give a whole number, 0 or more\n"


def test_the_submission_is_left_alone(sandbox, graded):
    with copied() as submission:
        before = {path: path.read_bytes() for path in submission.rglob("*.py")}
        init = submission / "part1_mlp" / "__init__.py"
        before[init] = b"open('part1_mlp/modules.py', 'w').write('')\n"
        init.write_bytes(before[init])
        grade(submission, [graded["test_part1::test_relu"]], sandbox=sandbox)
        assert {path: path.read_bytes() for path in submission.rglob("*.py")} == before


def test_what_a_test_leaves_behind_disturbs_no_other(sandbox, graded):
    with copied() as submission:
        with open(submission / "part1_mlp" / "modules.py", "a") as module:
            module.write("\nopen('trace.txt', 'x').close()\n")  # fails if it is there already
        chosen = [graded[f"test_part1::{name}"] for name in ("test_relu", "test_linear_forward")]
        marks = grade(submission, chosen, jobs=1, sandbox=sandbox)
    assert [mark.why for mark in marks] == ["", ""]


def test_a_full_disk_costs_a_test_and_is_told(sandbox, graded, monkeypatch):
    def copyfile(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tests.sandbox.shutil.copyfile", copyfile)
    (mark,) = grade(ROOT, [graded["test_part1::test_relu"]], sandbox=sandbox)
    assert mark.why == "the grader could not copy the submission (No space left on device)"


def test_jobs_follow_the_cores_that_may_be_used(monkeypatch, tmp_path):
    import os

    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2}, raising=False)
    monkeypatch.setattr("tests.sandbox.CGROUP", tmp_path)
    assert available_cores() == 3
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert available_cores() == 2
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert available_cores() == 3
    (tmp_path / "cpu").mkdir()
    for name, value in (("quota", 100_000), ("period", 100_000)):
        (tmp_path / "cpu" / f"cpu.cfs_{name}_us").write_text(f"{value}\n")
    assert available_cores() == 1
