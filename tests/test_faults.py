"""The faults of `python -m tests.faults` in short, and what that command last found."""

import argparse
import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults import disk, divergence, files, inputs, large, processes
from tests.faults.__main__ import FAULTS, OUTPUT
from tests.faults.common import TRAINERS, Tally
from training import UsageError
from training.flags import counts, number, or_word
from training.runs import HISTORY_COLUMNS, read_history

NUMPY = ["NumPy MLP"]
OTHERS = [trainer for trainer in TRAINERS if trainer not in NUMPY]


@pytest.fixture(autouse=True)
def one_thread():
    """As in `python -m tests.faults`; a run records its threads, and a resumption compares them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def assert_survived(tally: Tally) -> None:
    assert tally.tried > 0
    assert not tally.failures, "\n".join(tally.failures)


def with_slow(fast: list, slow: list) -> list:
    return [*fast, *(pytest.param(value, marks=pytest.mark.slow) for value in slow)]


@pytest.mark.parametrize("trainer", with_slow(NUMPY, OTHERS))
def test_a_kill_loses_nothing(trainer, tmp_path):
    assert_survived(processes.kills(tmp_path, trainer, n=1))


@pytest.mark.parametrize("trainers", with_slow([NUMPY], [OTHERS]))
def test_sigterm_and_ctrl_c(trainers, tmp_path):
    assert_survived(processes.requests_to_end(tmp_path, trainers))


@pytest.mark.slow
def test_ctrl_c_twice(tmp_path):
    assert_survived(processes.two_requests_to_end(tmp_path))


def test_a_second_process_is_refused_unless_the_first_is_dead(tmp_path):
    assert_survived(processes.two_at_once(tmp_path, NUMPY))


@pytest.mark.parametrize("trainer", with_slow(NUMPY, ["RNN"]))
def test_a_full_disk_loses_nothing(trainer, tmp_path):
    assert_survived(disk.full_at_any_write(tmp_path, trainer, most_writes=3))


@pytest.mark.parametrize("trainers", with_slow([NUMPY], [OTHERS]))
def test_a_folder_that_cannot_be_written_or_vanishes(trainers, tmp_path):
    assert_survived(disk.read_only(tmp_path, trainers))
    assert_survived(disk.vanishing(tmp_path, trainers))


@pytest.mark.parametrize("trainers", with_slow([["NumPy MLP", "PyTorch MLP"]], [["CNN", "RNN"]]))
def test_divergence_stops_every_trainer(trainers, tmp_path):
    assert_survived(divergence.divergence(tmp_path, trainers))


@pytest.mark.parametrize("n", with_slow([40], [200]))
def test_command_lines(n, tmp_path):
    assert_survived(inputs.command_lines(tmp_path, n, seed=1))


def test_cifar10_that_is_broken_or_hostile(tmp_path):
    assert_survived(files.sources(tmp_path, n=28))


def test_checkpoints_that_are_broken_or_hostile(tmp_path):
    assert_survived(files.checkpoints(tmp_path, n=18))


def test_records_that_are_broken(tmp_path):
    assert_survived(files.records(tmp_path, n=16))


@pytest.mark.slow
def test_odd_and_broken_pictures(tmp_path):
    assert_survived(files.pictures(tmp_path))


@pytest.mark.slow
def test_memory_does_not_grow(tmp_path):
    assert_survived(large.soaks(tmp_path, share=0.05, trainers=NUMPY))


def test_a_fault_that_is_not_survived_is_counted():
    tally = Tally("a fault")
    tally.count_all(lambda wrong: wrong, [(None,), ("second",)])
    tally.count(lambda: 1 / 0)
    assert (tally.tried, tally.survived) == (3, 1)
    assert tally.failures[0] == "second: second"


def test_the_committed_table_is_whole_and_all_was_survived():
    table = json.loads(OUTPUT.read_text())
    assert table.keys() == FAULTS.keys()
    for rows in table.values():
        assert all(row["survived"] == row["tried"] > 0 for row in rows)


# --- What a parser is given -----------------------------------------------------------------------


@settings(deadline=None, derandomize=True)
@given(st.text() | st.floats().map(str) | st.integers().map(str))
def test_a_number_is_in_its_range_or_refused(text):
    for kind, low, high in ((int, 1, 10**9), (float, 0, 0.99)):
        try:
            value = number(kind, low, high)(text)
        except argparse.ArgumentTypeError:
            continue
        assert low <= value <= high
        assert math.isfinite(value)


@settings(deadline=None, derandomize=True)
@given(st.text(alphabet="0123456789,-. full") | st.text())
def test_lists_of_numbers_are_positive_or_refused(text):
    for parse in (counts, or_word("full", "full", counts)):
        try:
            value = parse(text)
        except argparse.ArgumentTypeError:
            continue
        assert value == "full" or min(value) >= 1


@settings(deadline=None, derandomize=True)
@given(st.binary(max_size=200) | st.lists(st.sampled_from(["1", "nan", "", "x", ",", "\n"])))
def test_a_history_of_any_bytes_is_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("history") / "history.csv"
    header = ",".join(HISTORY_COLUMNS).encode() + b"\n"
    path.write_bytes(header + ("".join(content).encode() if isinstance(content, list) else content))
    try:
        columns = read_history(path).values()
    except UsageError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        assert len({len(column) for column in columns}) == 1
