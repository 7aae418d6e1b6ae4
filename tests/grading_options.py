"""The options of the grade: `python -m pytest --submission=DIR`.

pytest has to know an option before it reads its paths, or it takes DIR for one, and with it the
settings and the conftest.py that lie there. So they are declared by this plugin, not by
conftest.py: `addopts` in pyproject.toml names it, and so does `grader.dist-info`, in which pytest
finds it when it is called from the project's root, whatever DIR is. The grade itself is another
process (tests/grader.py), before pytest reads anything else.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("grade", "the grade (parts 1 to 3: 30, 30 and 40 points)")
    group.addoption("--score", action="store_true", help="grade this project")
    group.addoption("--submission", metavar="DIR", help="grade this folder of the same layout")
    group.addoption(
        "--gradescope", metavar="FILE", help="grade, and write Gradescope's results.json"
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config):
    option = early_config.known_args_namespace
    if option.score or option.submission is not None or option.gradescope is not None:
        called_in = early_config.invocation_params.dir
        raise SystemExit(_grade(option.submission, option.gradescope, called_in))
    return (yield)


def _grade(submission: str | None, file: str | None, called_in: Path) -> int:
    """Grade with the grader of the project that pytest was called in, never the submission's."""
    here = called_in / "tests" / "grader.py"
    root = called_in if here.is_file() else ROOT
    submission = str(root) if submission is None else submission
    if submission:
        submission = str(called_in / os.path.expanduser(submission))
    command = [sys.executable, "-m", "tests.grader", submission]
    if file is not None:
        command += ["--gradescope", str(called_in / os.path.expanduser(file)) if file else ""]
    try:
        return subprocess.run(command, cwd=root, check=False).returncode
    except KeyboardInterrupt:  # the grader has received it, too
        return 130
