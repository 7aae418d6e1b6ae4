"""The autograder, unpacked and called as Gradescope does it, in a folder for /autograder."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests import autograder
from tests.sandbox import FOLDERS, ROOT


def unpacked(root: Path) -> Path:
    """The folders of Gradescope's container, an empty submission among them."""
    for name in ("source", "submission", "results"):
        (root / name).mkdir()
    with zipfile.ZipFile(io.BytesIO(autograder.archive())) as file:
        for info in file.infolist():
            path = Path(file.extract(info, root / "source"))
            path.chmod(info.external_attr >> 16)
    shutil.copy(root / "source" / "run_autograder", root)  # where Gradescope calls it
    return root


def call(script: str, root: Path, **environment: str) -> subprocess.CompletedProcess:
    environment = {"AUTOGRADER": str(root), "PYTHON": sys.executable, **environment}
    return subprocess.run(
        [root / script], cwd=root, env=os.environ | environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def results(root: Path) -> dict:
    return json.loads((root / "results" / "results.json").read_text())


def test_archive_holds_the_grader_alone():
    with zipfile.ZipFile(io.BytesIO(autograder.archive())) as file:
        names = file.namelist()
    scripts = {"setup.sh", "run_autograder", "requirements.txt"}
    grader = {name for name in names if re.fullmatch(r"tests/(graded/)?\w+\.py", name)}
    assert set(names) == scripts | grader
    assert {"tests/__init__.py", "tests/grader.py", "tests/graded/test_part3.py"} <= grader
    ours = {path.name for path in ROOT.glob("tests/test_*.py")}
    assert not ours & {Path(name).name for name in grader if name.count("/") == 1}


def test_archive_is_reproducible_and_its_scripts_are_executable():
    first = autograder.archive()
    assert first == autograder.archive()
    with zipfile.ZipFile(io.BytesIO(first)) as file:
        modes = {info.filename: info.external_attr >> 16 & 0o777 for info in file.infolist()}
        assert {info.date_time for info in file.infolist()} == {autograder.LONG_AGO}
    executable = {name for name, mode in modes.items() if mode == 0o755}
    assert executable == {"setup.sh", "run_autograder"}


def test_command_writes_the_file_or_says_why_not(tmp_path, capsys):
    file = tmp_path / "grader.zip"
    file.write_text("an old one")
    assert autograder.main([str(file)]) == 0
    assert file.read_bytes() == autograder.archive()
    for name in (tmp_path, tmp_path / "no" / "grader.zip", ""):
        assert autograder.main([str(name)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [file]


def test_setup_installs_the_requirements_into_an_environment(tmp_path):
    """With commands in place of the real ones, which note how they are called."""
    root = unpacked(tmp_path)
    note = f'#!/bin/sh\necho "$(basename "$0") $*" >>{root}/calls\n'
    make = f"mkdir -p {root}/venv/bin && cp {root}/bin/apt-get {root}/venv/bin/python\n"
    (root / "bin").mkdir()
    for name, text in (("apt-get", note), ("python3", note + make)):
        (root / "bin" / name).write_text(text)
        (root / "bin" / name).chmod(0o755)
    done = call("source/setup.sh", root, PATH=f"{root}/bin:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    calls = (root / "calls").read_text().splitlines()
    assert calls[2] == f"python3 -m venv {root}/venv"
    assert re.fullmatch(rf"python -m pip install .*-r\S* {root}/source/requirements.txt", calls[3])
    assert (root / "source" / "requirements.txt").is_file()


@pytest.mark.parametrize("python", [sys.executable, "/no/python"])
def test_what_cannot_be_graded_gets_0_and_the_reason(tmp_path, python):
    root = unpacked(tmp_path)
    (root / "results" / "results.json").write_text('{"score": 100}')
    done = call("run_autograder", root, PYTHON=python)
    assert done.returncode == 0, done.stderr
    assert results(root)["score"] == 0
    why = "holds none of the folders" if python == sys.executable else python
    assert why in results(root)["output"]


def test_the_reason_may_have_any_characters(tmp_path):
    root, names = unpacked(tmp_path), ("a 'b' %s", 'c "d" \\ e')
    for name in names:
        (root / "submission" / name / "part1_mlp").mkdir(parents=True)
    assert call("run_autograder", root).returncode == 0
    for name in names:
        assert name in results(root)["output"]


@pytest.mark.slow
def test_this_project_gets_all_points(tmp_path):
    root = unpacked(tmp_path)
    for name in FOLDERS:
        ignored = shutil.ignore_patterns("records", "output", "__pycache__", "cifar10")
        shutil.copytree(ROOT / name, root / "submission" / name, ignore=ignored)
    done = call("run_autograder", root)
    lost = {test["name"]: test["output"] for test in results(root)["tests"]
            if test["score"] < test["max_score"]}  # fmt: skip
    assert (done.returncode, lost) == (0, {})
    assert results(root)["score"] == 100
    assert "100 / 100" in done.stdout
