"""Choosing flags by validation: the grid, the table, what is not read."""

import json
import re
from pathlib import Path

import pytest

from training import UsageError, tune
from training.cli import ROOT
from training.runs import read_run

GRID = ("--grid", "learning_rate=1e-6,0.1", "dnn_hidden_units=5,5+4", "--seeds", 0, 1)
FIXED = ("--", "--dataset", "moons", "--n_samples", 60, "--max_epochs", 3)


def call(run_main, folder: Path, *flags: object) -> str:
    script = ROOT / "part1_mlp" / "train.py"
    given = (script, *GRID, "--run_dir", folder, "--jobs", 2, *flags, *FIXED)
    code, out, err = run_main(tune.main, "tune.py", *given)
    assert (code, err) == (0, "")
    return out


def test_every_combination_is_trained_and_the_best_on_validation_comes_first(run_main, tmp_path):
    out = call(run_main, tmp_path / "runs", "--out", tmp_path / "new" / "table.md")
    head, _, *rows = [line.strip("| ").split(" | ") for line in out.splitlines()]
    assert head[:4] == ["learning_rate", "dnn_hidden_units", "validation loss",
                        "validation accuracy"]  # fmt: skip
    assert {tuple(row[:2]) for row in rows} == {
        (rate, units) for rate in ("1e-6", "0.1") for units in ("5", "5,4")
    }
    losses = [float(row[2]) for row in rows]
    assert losses == sorted(losses)
    assert rows[0][0] == "0.1"
    runs = [read_run(path) for path in (tmp_path / "runs").iterdir()]
    assert len(runs) == 8
    units = [int(n) for n in rows[0][1].split(",")]
    best = [run for run in runs if run.config["learning_rate"] == 0.1
            and run.config["dnn_hidden_units"] == units]  # fmt: skip
    assert {run.config["seed"] for run in best} == {0, 1}
    mean = sum(run.result["val_loss"] for run in best) / 2
    assert losses[0] == pytest.approx(mean, abs=1e-4)
    text = (tmp_path / "new" / "table.md").read_text()
    assert text.endswith(out)
    assert re.match(
        r"```sh\npython training/tune.py \S+train.py --grid learning_rate=1e-6,0.1", text
    )


def test_runs_are_continued_and_test_numbers_are_not_read(run_main, tmp_path):
    first = call(run_main, tmp_path)
    for path in tmp_path.glob("*/result.json"):
        result = json.loads(path.read_text())
        path.write_text(json.dumps(result | {"test_accuracy": 0.123, "test_loss": 9.0}))
    assert call(run_main, tmp_path) == first


def test_parts_of_an_epoch_are_told(run_main, tmp_path):
    call(run_main, tmp_path)
    for path in tmp_path.glob("*/result.json"):
        changed = {"epochs": 0.4567, "seconds": 12345.6}
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    assert call(run_main, tmp_path).count(" 0.457 | 12346 |") == 4


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_run_that_diverges_comes_last_and_stops_no_other(run_main, tmp_path):
    script = ROOT / "part1_mlp" / "train.py"
    grid = ("--grid", "learning_rate=1e6,0.1", "--seeds", 0, "--run_dir", tmp_path)
    tables = []
    for _ in range(2):  # the second call finds the runs ended
        code, out, err = run_main(tune.main, "tune.py", script, *grid, *FIXED)
        assert (code, err) == (0, "")
        tables.append(out)
    assert tables[0] == tables[1]
    _, _, first, last = [line.strip("| ").split(" | ") for line in out.splitlines()]
    assert (first[0], last[:2]) == ("0.1", ["1e6", "inf"])


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (("part1_mlp/no.py", "--grid", "lr=1"), "part1_mlp/no.py is no train script"),
        (("part1_mlp/train.py", "--grid", "lr"), "is not of the form"),
        (("part1_mlp/train.py", "--grid", "lr=1,,2"), "is not of the form"),
        (("part1_mlp/train.py", "--grid", "no_such=1"), "unrecognized arguments"),
        (("part1_mlp/train.py", "--grid", "lr=1", "--seeds", "100"), "--seeds"),
        (
            ("part1_mlp/train.py", "--grid", "lr=1", "--model", "pytorch"),
            "--model pytorch; flags of the runs come last, after two hyphens",
        ),
        (("part1_mlp/train.py", "--grid", "a=1", "a=2"), "--grid: a is named twice"),
        (("part1_mlp/train.py", "--grid", "seed=3,4"), "--grid: seed is named twice, or is set by"),
        (
            ("part1_mlp/train.py", "--grid", "lr=1", "learning-rate=2"),
            "learning_rate is named twice",
        ),
        (("part3_rnn/train.py", "--grid", "cell=rnn", "model_type=gru"), "cell is named twice"),
        (("part1_mlp/train.py", "--grid", "lr=1", "--out", "~"), "is a folder, name a file"),
        (("part1_mlp/train.py", "--grid", "run-dir=x"), "is set by tune.py itself"),
        (
            ("part1_mlp/train.py", "--grid", "lr=1", "--", "--dry-run"),
            "--dry-run is set by tune",
        ),
        (("part1_mlp/train.py", "--grid", "lr=1", "--", "--seed=7"), "--seed=7 is set by tune.py"),
        (("part1_mlp/train.py", "--grid", "lr=1", "--", "--learning_rate", "5"), "or by --grid"),
        (("part1_mlp/train.py", "--grid", "lr=1", "--out", "."), "is a folder, name a file"),
    ],
)
def test_what_is_refused(flags, why, run_main, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    code, _, err = run_main(tune.main, "tune.py", "--run_dir", tmp_path, *flags)
    assert code == 2
    assert why in err
    assert err.count("\n") == 1


def test_help_shows_how_flags_are_given_to_every_run(run_main):
    _, out, _ = run_main(tune.main, "tune.py", "--help")
    assert "--seeds 0 1 -- --model pytorch" in " ".join(out.split())


def test_an_interruption_says_how_it_goes_on(run_main, tmp_path, monkeypatch):
    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tune, "train_in_process", interrupt)
    script = ROOT / "part1_mlp" / "train.py"
    code, _, err = run_main(tune.main, "tune.py", script, *GRID, "--run_dir", tmp_path)
    assert (code, err) == (130, "interrupted; the same command goes on where it was\n")


def test_a_plus_is_a_comma_except_in_a_number():
    flags, values = tune.combinations(["dnn_hidden_units=5+4,6", "weight_decay=1e+1,2E+0"])
    assert flags == ["dnn_hidden_units", "weight_decay"]
    assert values == [("5,4", "1e+1"), ("5,4", "2E+0"), ("6", "1e+1"), ("6", "2E+0")]


def test_folders_have_names_that_every_system_allows(run_main, tmp_path):
    script = ROOT / "part1_mlp" / "train.py"
    given = (script, "--grid", "lr=0.1", "--seeds", 0, "--run_dir", tmp_path, "--",
             "--dataset", "cifar10", "--data_dir", r'a:b*c?d<e>f|g\h')  # fmt: skip
    _, _, err = run_main(tune.main, "tune.py", *given)
    name = err.removeprefix("tune.py: error: ").partition(": exit code")[0]
    assert "a-b-c-d-e-f-g-h_learning_rate=0.1_0" in name
    assert not set(name) & set(r'/\:*?"<>|')


def test_many_flags_give_a_short_name(run_main, tmp_path):
    flags = ("--noise", 0.123456789, "--neg_slope", "0.1", "--activation", "leaky_relu")
    flags *= 5  # the last of each counts
    script = ROOT / "part1_mlp" / "train.py"
    for slope in (0.2, 0.3):
        given = (script, "--grid", "lr=0.1", "--seeds", 0, "--run_dir", tmp_path, *FIXED, *flags)
        assert run_main(tune.main, "tune.py", *given, "--neg_slope", slope)[0] == 0
    assert {read_run(path).config["neg_slope"] for path in tmp_path.iterdir()} == {0.2, 0.3}


def test_a_name_is_short_in_bytes(run_main, tmp_path, monkeypatch):
    folders = []
    monkeypatch.setattr(tune, "train_in_process", lambda _, path, **__: folders.append(path))
    given = ("part1_mlp/train.py", "--grid", "lr=1", "--run_dir", tmp_path, "--seeds", 0, "--")
    run_main(tune.main, "tune.py", *given, "--data_dir", "\N{HIRAGANA LETTER A}" * 80)
    (folder,) = folders
    assert len(folder.name.encode()) < 255


def test_folders_name_the_part_wherever_tune_is_called_from(run_main, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT / "part1_mlp")
    given = ("train.py", "--grid", "lr=0.1", "--seeds", 0, "--run_dir", tmp_path, *FIXED)
    assert run_main(tune.main, "tune.py", *given)[0] == 0
    assert [path.name.startswith("part1_mlp_") for path in tmp_path.iterdir()] == [True]


def test_values_with_a_comma_are_written_with_a_plus():
    flags, values = tune.combinations(["batch_size=128,128+512", "n_samples=1"])
    assert flags == ["batch_size", "n_samples"]
    assert values == [("128", "1"), ("128,512", "1")]
    with pytest.raises(UsageError):
        tune.combinations(["=1"])
