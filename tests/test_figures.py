"""The figures: drawn from whole records, the same every time, captions and numbers to match."""

import dataclasses
import importlib
import json
import re

import numpy as np
import pytest

from data import load_dataset
from data.toy import DEFAULT_NOISE, bayes_accuracy
from figures import regenerate
from figures.experiments import Experiment
from figures.pictures import pictures
from figures.results import lengths_table, marks, update_readme
from figures.retrain import MEASURES, retrain
from figures.shifts import SHIFTS, SHIFTS_FILE, measure_shifts, read_shifts, shifted
from part1_mlp import plot, train
from training.errors import UsageError
from training.record import FREE_TO_CHANGE, RunRecord, read_run
from training.script import ROOT

RECORDS = ROOT / "figures" / "records"
TOY_GOALS = {"circles": 0.97, "moons": 0.96}


def records(prefix: str) -> list:
    return [read_run(folder) for folder in sorted(RECORDS.glob(f"{prefix}*"))]


# --- The committed records ------------------------------------------------------------------------


def test_every_figure_has_its_records_and_they_hold_no_weights():
    wanted = {run.record for picture in pictures().values() for run in picture.runs}
    assert {folder.name for folder in RECORDS.iterdir()} == wanted
    for name in wanted:
        files = {file.name for file in (RECORDS / name).iterdir()} - set(MEASURES)
        assert files == {"config.json", "history.csv", "result.json"}
        config = read_run(RECORDS / name).config
        assert config["run_dir"] is None
        assert config["data_dir"] is None


def test_records_were_made_with_the_flags_that_the_captions_tell():
    for picture in pictures().values():
        for run in picture.runs:
            script = importlib.import_module(run.script.removesuffix(".py").replace("/", "."))
            args = vars(script.parse(list(run.flags)))
            args.pop("n_seeds", None)  # a run is recorded as if it were alone
            config = read_run(RECORDS / run.record).config
            for name, value in args.items():
                if name not in FREE_TO_CHANGE:
                    value = list(value) if isinstance(value, tuple) else value
                    assert config[name] == value, f"{run.record}: {name}"


def test_results_agree_with_the_histories():
    for run in records(""):
        best = int(np.argmin(run.history["val_loss"]))
        assert run.history["step"][best] == run.result["best_step"], run.path
        if run.config.get("views", 1) == 1:
            recorded = run.history["test_accuracy"][best]
            assert run.result["test_accuracy"] == pytest.approx(recorded, abs=1e-6)


@pytest.mark.parametrize("model", ["numpy", "pytorch"])
@pytest.mark.parametrize("dataset", ["moons", "circles"])
def test_toy_records_reach_the_goal_or_the_best_possible(model, dataset):
    runs = records(f"mlp_{model}_{dataset}_report")
    assert len(runs) == 5
    goal = min(TOY_GOALS[dataset], bayes_accuracy(dataset, DEFAULT_NOISE[dataset]))
    assert np.mean([run.result["test_accuracy"] for run in runs]) >= goal


def test_cifar10_report_records_keep_every_fixed_fact():
    runs = records("mlp_pytorch_cifar10_report")
    assert [run.config["seed"] for run in runs] == [0, 1, 2]
    fixed = {"dnn_hidden_units": [512, 256, 128], "dropout": 0.1, "optimizer": "adamw",
             "learning_rate": 1e-3, "weight_decay": 1e-4, "schedule": "constant", "patience": 10,
             "augment": True, "batch_norm": False, "whiten": False, "activation": "relu",
             "label_smoothing": 0.0, "mixup": 0.0, "average_decay": 0.0, "views": 1}  # fmt: skip
    for run in runs:
        assert run.config.items() >= fixed.items()


def test_cnn_report_record_keeps_every_fixed_fact_and_reaches_its_goal():
    (run,) = records("cnn_report")
    fixed = {"optimizer": "adam", "augment": True, "dropout": 0.5, "image_sizes": [32],
             "label_smoothing": 0.0, "mixup": 0.0, "average_decay": 0.0, "views": 1}  # fmt: skip
    assert run.config.items() >= fixed.items()
    assert run.config["patience"] > 0
    assert run.result["parameters"] == 6_400_586
    assert run.result["test_accuracy"] >= 0.85


def test_rnn_report_records_know_five_digits_almost_perfectly():
    runs = records("rnn_T5_report")
    assert [run.config["seed"] for run in runs] == list(range(5))
    fixed = {"cell": "rnn", "init": "normal", "optimizer": "rmsprop", "max_norm": 10.0,
             "batch_size": 128, "input_length": 5}  # fmt: skip
    for run in runs:
        assert run.config.items() >= fixed.items()
        assert run.result["steps"] <= 2000
        assert run.result["test_accuracy"] >= 0.999


def test_a_vanilla_rnn_remembers_for_a_thousand_steps():
    runs = records("rnn_length_best_T1000_")
    assert len(runs) == 5
    for run in runs:
        assert (run.config["cell"], run.config["num_hidden"]) == ("rnn", 128)
        assert run.result["test_accuracy"] >= 0.99
        assert run.result["seconds"] / len(runs) <= 600, "they were trained together on one core"


@pytest.mark.parametrize(("cell", "seconds"), [("rnn", "0.8"), ("gru", "1.5")])
def test_lengths_table_tells_the_longest_length_that_all_seeds_have_learnt(cell, seconds, tmp_path):
    def run(length: int, seed: int, accuracy: float) -> RunRecord:
        result = {"test_accuracy": accuracy, "steps": 7, "seconds": 1.5}
        path = tmp_path / f"rnn_length_x_T{length}_seed{seed}"
        return RunRecord(path, {"input_length": length, "cell": cell}, {}, result)

    table = lengths_table([run(3, 0, 1.0), run(3, 1, 0.995), run(9, 0, 1.0), run(9, 1, 0.5)])
    assert f"| `rnn_length_x` | 2 | 3 | 0.9950 | 7 | {seconds} | 9 | 0.7500 |" in table
    assert "| none |" in lengths_table([run(3, 0, 0.5)])


def test_cnn_best_record_is_the_same_net_and_reaches_its_goal():
    (run,) = records("cnn_best")
    assert run.result["parameters"] == 6_400_586
    assert run.config["dropout"] == 0.5
    assert run.result["test_accuracy"] >= 0.91


def test_recorded_shifts_begin_at_the_recorded_accuracy():
    wanted = {run for picture in pictures().values() for run in picture.runs}
    with_shifts = [run.record for run in wanted if SHIFTS_FILE in run.measures]
    assert with_shifts
    for name in with_shifts:
        pixels, accuracy, images = read_shifts(RECORDS / name)
        assert pixels.tolist() == list(SHIFTS)
        assert accuracy.shape == (9, 4)
        run = read_run(RECORDS / name)
        expected = run.result["test_accuracy"]
        # Of a part of the test images, within three standard deviations.
        by_chance = 0 if images == 10_000 else 3 * (expected * (1 - expected) / images) ** 0.5
        assert accuracy[0] == pytest.approx(expected, abs=by_chance + 2e-4)


# --- Drawing --------------------------------------------------------------------------------------


def test_redrawing_changes_no_byte(run_main, tmp_path):
    for out in ("a", "b"):
        code, _, err = run_main(
            regenerate.main,
            "regenerate.py",
            "--out",
            tmp_path / out,
            "--format",
            "png",
            "pdf",
            "svg",
        )
        assert (code, err) == (0, "")
    first = sorted((tmp_path / "a").iterdir())
    assert len(first) == 4 * len(pictures())  # three formats and a caption
    for path in first:
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_captions_name_every_run_with_its_accuracy(run_main, tmp_path):
    run_main(regenerate.main, "regenerate.py", "--only", "2", "--out", tmp_path, "--format", "png")
    caption = (tmp_path / "figure2.txt").read_text()
    for run in records("mlp_numpy_circles_report") + records("mlp_pytorch_circles_report"):
        accuracy = f"{run.result['test_accuracy']:.4f}"
        assert re.search(f"^{run.path.name}: test accuracy {accuracy} .*--seed", caption, re.M)
    assert not (tmp_path / "figure3.png").exists()


def test_committed_captions_are_those_of_the_records():
    for name, picture in pictures().items():
        stem = f"figure{name}" if name.isdigit() else name
        caption = (ROOT / "figures" / f"{stem}.txt").read_text()
        for run in picture.runs:
            accuracy = read_run(RECORDS / run.record).result["test_accuracy"]
            assert f"{run.record}: test accuracy {accuracy:.4f}" in caption


def test_readme_holds_the_numbers_of_the_records():
    readme = (ROOT / "README.md").read_text()
    for section, table in regenerate.texts(RECORDS)[0].items():
        begin, end = marks(section)
        assert f"{begin}\n\n{table}\n\n{end}" in readme


def test_update_readme_touches_nothing_else(tmp_path):
    readme = tmp_path / "README.md"
    begin, end = marks("results")
    readme.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    update_readme(readme, "results", "| new |")
    assert readme.read_text() == f"before\n{begin}\n\n| new |\n\n{end}\nafter\n"


def test_retraining_keeps_a_record_without_weights_and_paths(tmp_path):
    flags = ("--dataset", "moons", "--n_samples", "100", "--max_epochs", "2")
    run = Experiment("mlp_numpy_moons_report_seed0", "part1_mlp/train.py", flags, ())
    work, kept = tmp_path / "retrain", tmp_path / "records"
    retrain([run], work, kept, jobs=1, quick=False, data_dir=None)
    record = kept / run.record
    assert {f.name for f in record.iterdir()} == {"config.json", "history.csv", "result.json"}
    assert json.loads((record / "config.json").read_text())["run_dir"] is None
    assert list(work.iterdir()) == []


def test_retraining_that_was_interrupted_does_not_begin_anew(tmp_path):
    flags = ("--model", "numpy", "--dataset", "moons", "--n_samples", "100", "--max_epochs", "2")
    first = Experiment("mlp_numpy_moons_report_seed0", "part1_mlp/train.py", flags, ())
    second = Experiment(
        "mlp_numpy_moons_report_seed1", "part1_mlp/train.py", (*flags, "--seed", "1"), ()
    )
    failing = dataclasses.replace(second, record="failing", flags=(*flags, "--seed", "-1"))
    work, kept = tmp_path / "retrain", tmp_path / "records"
    settings = {"jobs": 1, "quick": False, "data_dir": None}
    with pytest.raises(UsageError, match="--seed"):
        retrain([first, failing], work, kept, **settings)
    result = work / first.record / "result.json"
    result.write_text(json.dumps(json.loads(result.read_text()) | {"seconds": 12345}))
    retrain([first, second], work, kept, **settings)
    assert read_run(kept / first.record).result["seconds"] == 12345  # so it was not trained again
    assert read_run(kept / second.record).result["seed"] == 1
    assert list(work.iterdir()) == []
    retrain([first], work, kept, **settings)
    assert read_run(kept / first.record).result["seconds"] < 12345


def test_quick_figures_are_marked_and_leave_the_records_alone(
    run_main, tmp_path, monkeypatch, real_cifar10
):
    monkeypatch.setattr(regenerate, "QUICK_DIR", tmp_path)
    code, out, err = run_main(
        regenerate.main, "regenerate.py", "--quick", "--only", "2", "cnn_best", "--format", "png",
        "--data_dir", real_cifar10,
    )  # fmt: skip
    assert (code, err) == (0, "")
    names = ("figure2.png", "figure2.txt", "cnn_best.png", "cnn_best.txt")
    assert out.splitlines() == [str(tmp_path / name) for name in names]
    assert "Shortened runs." in (tmp_path / "cnn_best.txt").read_text()
    run = read_run(tmp_path / "records" / "cnn_best_seed0")
    assert run.result["epochs"] == 2
    assert run.config["data_dir"] is None
    small = load_dataset(
        "cifar10", data_dir=str(tmp_path / "retrain" / "cifar10"), check_md5=False, seed=0
    )
    whole = load_dataset("cifar10", data_dir=str(real_cifar10), seed=0)
    assert len(small.x_train) + len(small.x_val) == 5 * len(small.x_test)
    assert (small.x_test == whole.x_test[: len(small.x_test)]).all()


@pytest.mark.parametrize("flags", [("--only", "9"), ("--jobs", "0"), ("--format", "bmp")])
def test_bad_flags(flags, run_main):
    code, _, err = run_main(regenerate.main, "regenerate.py", *flags)
    assert code == 2
    assert flags[0] in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("model", ["numpy", "pytorch"])
def test_plot_draws_curves_and_the_boundary_of_the_best_net(model, run_main, tmp_path):
    folder = tmp_path / "run"
    flags = ("--model", model, "--max_epochs", 5, "--run_dir", folder)
    run_main(train.main, "train.py", *flags)
    code, out, _ = run_main(plot.main, "plot.py", folder)
    names = {"curves.png", "curves.pdf", "boundary.png", "boundary.pdf"}
    assert code == 0
    assert names <= {file.name for file in folder.iterdir()}
    assert out.count("\n") == 4
    run = read_run(folder)
    dataset = train.load_dataset("moons", seed=0)
    predicted = plot.predict_probability(run, dataset.x_test) > 0.5
    accuracy = (predicted == dataset.y_test).mean()
    assert accuracy == pytest.approx(run.result["test_accuracy"], abs=2e-3)  # float32 against 64


def test_shifting_moves_pixels_and_fills_with_black():
    images = np.arange(1, 17, dtype=np.uint8).reshape(1, 1, 4, 4)
    moved = shifted(images, 1, -2)[0, 0]
    assert moved.tolist() == [[0, 0, 0, 0], [3, 4, 0, 0], [7, 8, 0, 0], [11, 12, 0, 0]]
    assert (shifted(images, 0, 0) == images).all()
    assert not shifted(images, 4, 0).any()


@pytest.mark.parametrize("part", ["part1_mlp", "part2_cnn"])
def test_shifts_of_a_trained_net(part, run_main, tmp_path, tiny_cifar10):
    flags = {
        "part1_mlp": ("--model", "pytorch", "--dnn_hidden_units", "32"),
        "part2_cnn": ("--image_sizes", "8"),
    }[part]
    flags = (*flags, "--dataset", "cifar10", "--cifar10_md5", "skip", "--data_dir", tiny_cifar10)
    script = importlib.import_module(f"{part}.train")
    run_main(script.main, "train.py", *flags, "--batch_size", 60, "--max_epochs", 3,
             "--run_dir", tmp_path / "run")  # fmt: skip
    run = read_run(tmp_path / "run")
    (tmp_path / SHIFTS_FILE).write_text(measure_shifts(run, data_dir=tiny_cifar10))
    _, accuracy, images = read_shifts(tmp_path)
    assert images == len(load_dataset("cifar10", data_dir=tiny_cifar10, check_md5=False).y_test)
    assert accuracy[0] == pytest.approx(run.result["test_accuracy"], abs=1e-4)
    assert ((accuracy >= 0) & (accuracy <= 1)).all()
