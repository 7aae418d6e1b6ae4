"""The handout has the project's signatures and docstrings, nothing of its code, and no points."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from data import CLASS_NAMES
from tests import handout
from tests.graded.runs import COLUMNS, RESULT
from tests.grader import explanation, grade, graded_tests
from tests.sandbox import FOLDERS, PARTS, ROOT

MODULES = {name: ast.parse(text) for name, text in handout.handout().items() if ".py" in name}
TRAIN = {f"{part}/train.py" for part in PARTS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("handout") / "skeleton"
    assert handout.main([str(folder)]) == 0
    return folder


def definitions(tree: ast.Module) -> dict[str, ast.ClassDef | ast.FunctionDef]:
    """The classes, functions and methods of a module, by qualified name."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found[node.name] = node
            if isinstance(node, ast.ClassDef):
                methods = [each for each in node.body if isinstance(each, ast.FunctionDef)]
                found |= {f"{node.name}.{each.name}": each for each in methods}
    return found


def interface(node: ast.ClassDef | ast.FunctionDef) -> list[str | None]:
    """What another module can see of a class or function."""
    parts = [*node.decorator_list]
    if isinstance(node, ast.ClassDef):
        parts += [*node.bases, *(each for each in node.body if isinstance(each, ast.AnnAssign))]
    else:
        parts += [node.args, *filter(None, [node.returns])]
    return [type(node).__name__, ast.get_docstring(node), *map(ast.dump, parts)]


def test_it_has_the_six_folders_and_compiles(folder):
    assert {path.name for path in folder.iterdir() if path.is_dir()} == set(FOLDERS)
    for path in folder.rglob("*.py"):
        compile(path.read_text(), path, "exec")


@pytest.mark.parametrize("name", sorted(MODULES.keys() - TRAIN))
def test_signatures_and_docstrings_are_the_projects(name):
    given = definitions(MODULES[name])
    project = definitions(ast.parse((ROOT / name).read_text()))
    constants = {"NEG_SLOPE", "CHANNELS"}
    assert {each for each in given if "." not in each} == {*handout.INTERFACE[name]} - constants
    for each, node in given.items():
        assert interface(node) == interface(project[each]), each
    wanted = [each for each in project if each.rpartition(".")[2] in handout.METHODS]
    assert [each for each in wanted if each.partition(".")[0] in given and each not in given] == []


@pytest.mark.parametrize("name", sorted(MODULES))
def test_nothing_of_the_solution_is_in_it(name):
    """Whatever is no import and no signature is one of a few forms, which are empty."""
    bodies = [*MODULES[name].body]
    while bodies:
        node = bodies.pop()
        match node:
            case ast.ClassDef() | ast.FunctionDef():
                bodies += node.body
            case ast.Import() | ast.ImportFrom() | ast.AnnAssign(value=None):
                pass
            case ast.Expr(ast.Constant(str())):
                pass
            case ast.Raise(ast.Call(ast.Name("NotImplementedError"), [ast.Constant(str())], [])):
                pass
            case _:
                allowed = {"NEG_SLOPE = 0.01", "CHANNELS = (64, 128, 256)"}
                if name in TRAIN:
                    allowed = {"if __name__ == '__main__':\n    raise SystemExit(main())"}
                assert ast.unparse(node) in allowed
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.FunctionDef):
            assert isinstance(node.body[-1], ast.Raise), node.name


def test_a_body_without_docstring_and_its_comments_are_left_out():
    source = '"""Doc."""\n\nimport os, re\n\n\ndef f(x: os.PathLike):\n    # secret\n    return x\n'
    expected = '"""Doc."""\n\nimport os\n\n\ndef f(x: os.PathLike):\n    raise NotImplementedError'
    assert handout.skeleton(source, ["f"]) == f'{expected}("f")\n'


def test_it_wins_no_points_and_each_test_says_what_is_missing(folder):
    marks = grade(folder)
    assert len(marks) > 25
    for mark in marks:
        text = "\n".join(explanation(mark))
        assert mark.score == 0, text
        assert "NotImplementedError: " in text
        assert "raise NotImplementedError(" in text, "the line is shown"


@pytest.mark.parametrize("part", PARTS)
def test_a_train_script_states_its_flags_and_is_not_implemented(part, folder):
    script = folder / part / "train.py"
    docstring = ast.get_docstring(ast.parse(script.read_text()))
    flags = {line.split()[0] for line in docstring.splitlines() if line.startswith("--")}
    own = {f"--{name}" for name in vars(importlib.import_module(f"{part}.train").parse([]))}
    assert flags == handout.graded_flags(part) & own
    assert "None" not in docstring
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"NotImplementedError: {part}/train.py" in done.stderr


def test_the_command_refuses_a_folder_that_is_in_use(tmp_path, capsys):
    (tmp_path / "file").touch()
    for name in (tmp_path, tmp_path / "file", ""):
        assert handout.main([str(name)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_readme_tells_what_is_asked_for(folder):
    """Also what no docstring has: where the images lie, how weights begin, the folder's files."""
    text = (folder / "README.md").read_text()
    asked_for = ["`train/<class>/*.png`", "biases 0", ", ".join(CLASS_NAMES), COLUMNS, *RESULT]
    assert [each for each in asked_for if each not in text] == []
    assert "](" not in text, "no links, whose targets are not there"


def test_the_readme_tells_the_packages_and_the_limits(folder):
    text = (folder / "README.md").read_text()
    assert "numpy, torch, torchvision, scipy, " in text
    seconds = sorted({test.seconds for test in graded_tests()})
    for page in (text, (ROOT / "docs" / "grading.md").read_text()):
        limits = r"(\d+) s(?: of processor time|, for trainings).*?(\d+) to (\d+) s"
        found = re.search(limits, page)
        assert [*map(int, found.groups())] == [seconds[0], seconds[1], seconds[-1]]
