"""The graded tests as ordinary tests, of this project: `python -m pytest tests/graded`."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import grader
from tests.sandbox import Sandbox, Submission, Supervisor, copy_submission


@pytest.fixture(scope="session")
def supervisor() -> Iterator[Supervisor]:
    with Sandbox() as sandbox:
        supervisor = Supervisor(sandbox)
        yield supervisor
        supervisor.close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    copy_submission(grader.ROOT, folder)
    return folder


@pytest.fixture
def submission(supervisor: Supervisor, folder: Path, request: pytest.FixtureRequest):
    mark = request.node.get_closest_marker("points")
    seconds = mark.kwargs.get("seconds", grader.DEFAULT_SECONDS)
    with contextlib.closing(Submission(supervisor, folder, seconds)) as submission:
        yield submission


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)
