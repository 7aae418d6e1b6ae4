"""The faults of `python -m tests.survival` in short, and what that command last found."""

import argparse
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.cifar10 import _decode_batch
from data.errors import DataError
from tests.survival import disk, divergence, files, inputs, large, processes
from tests.survival.__main__ import FAULTS, OUTPUT
from tests.survival.common import TRAINERS, Tally
from training.errors import UsageError
from training.flags import batch_sizes, counts, number
from training.record import HISTORY_COLUMNS, read_history


def assert_survived(tally: Tally) -> None:
    assert tally.tried > 0
    assert not tally.failures, "\n".join(tally.failures)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_kill_loses_nothing(trainer, tmp_path):
    assert_survived(processes.kills(trainer, 1, tmp_path))


def test_a_second_process_is_kept_out_and_a_dead_one_is_not_missed(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "TRAINERS", {"NumPy MLP": TRAINERS["NumPy MLP"]})
    assert_survived(processes.two_at_once(tmp_path))


def test_sigterm_and_ctrl_c(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "TRAINERS", {"NumPy MLP": TRAINERS["NumPy MLP"]})
    assert_survived(processes.requests_to_end(tmp_path))
    assert_survived(processes.two_requests_to_end(tmp_path))


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "MOST_WRITES", 6)
    assert_survived(disk.full_at_any_write("NumPy MLP", tmp_path))


def test_a_folder_that_cannot_be_written_or_vanishes(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "TRAINERS", {"NumPy MLP": TRAINERS["NumPy MLP"]})
    assert_survived(disk.read_only(tmp_path))
    assert_survived(disk.vanishing(tmp_path))


def test_divergence_stops_every_trainer(tmp_path):
    assert_survived(divergence.divergence(tmp_path))


def test_command_lines(tmp_path):
    assert_survived(inputs.command_lines(150, tmp_path, seed=1))


def test_cifar10_that_is_broken_or_hostile(tmp_path):
    assert_survived(files.sources(56, tmp_path))


def test_checkpoints_and_records_that_are_broken_or_hostile(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    assert_survived(files.checkpoints(18, tmp_path / "checkpoints"))
    (tmp_path / "records").mkdir()
    assert_survived(files.records(24, tmp_path / "records"))


def test_odd_and_broken_pictures(tmp_path):
    assert_survived(files.pictures(tmp_path))


def test_memory_stays_flat(tmp_path, monkeypatch):
    monkeypatch.setattr(large, "SOAKS", {"NumPy MLP": large.SOAKS["NumPy MLP"]})
    assert_survived(large.soaks(0.05, tmp_path))


def test_a_fault_that_is_not_survived_is_counted():
    tally = Tally("a fault")
    tally.count(lambda: None)
    tally.count(lambda: "wrong", "second")
    tally.count(lambda: 1 / 0, "third")
    assert (tally.tried, tally.survived) == (3, 1)
    assert tally.failures[0] == "second: wrong"


def test_the_committed_table_is_whole_and_all_was_survived():
    found = json.loads(OUTPUT.read_text())
    assert found.keys() == FAULTS.keys()
    for rows in found.values():
        assert all(row["survived"] == row["tried"] > 0 for row in rows)


# --- What a parser is given -----------------------------------------------------------------------


@settings(deadline=None)
@given(st.text() | st.floats().map(str) | st.integers().map(str))
def test_a_number_is_in_its_range_or_refused(text):
    for kind, low, high in ((int, 1, 10**9), (float, 0, 0.99)):
        try:
            value = number(kind, low, high)(text)
        except argparse.ArgumentTypeError:
            continue
        assert low <= value <= high
        assert math.isfinite(value)


@settings(deadline=None)
@given(st.text(alphabet="0123456789,-. full") | st.text())
def test_lists_of_numbers_are_positive_or_refused(text):
    for parse in (counts, batch_sizes):
        try:
            value = parse(text)
        except argparse.ArgumentTypeError:
            continue
        assert value == "full" or min(value) >= 1


@settings(deadline=None)
@given(st.binary(max_size=500))
def test_a_batch_of_any_bytes_is_refused(content):
    with pytest.raises(DataError):
        _decode_batch("batch", content)


@settings(deadline=None)
@given(st.binary(max_size=200) | st.lists(st.sampled_from(["1", "nan", "", "x", ",", "\n"])))
def test_a_history_of_any_bytes_is_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("history") / "history.csv"
    header = ",".join(HISTORY_COLUMNS).encode() + b"\n"
    path.write_bytes(header + ("".join(content).encode() if isinstance(content, list) else content))
    message = ""
    try:
        columns = read_history(path).values()
    except UsageError as error:
        message = str(error)
    if message:
        assert "line" in message or "no evaluation" in message
    else:
        assert len({len(column) for column in columns}) == 1
