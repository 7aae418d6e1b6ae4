"""The figures: their records, drawing, captions, retraining, and what is written where."""

import dataclasses
import errno
import importlib
import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.text import Text

from data import CLASS_NAMES, load_dataset
from data.images import class_probabilities
from data.toy import DEFAULT_NOISE, bayes_accuracy
from figures import regenerate
from figures.catalogue import figures, stem
from figures.experiments import EXPERIMENTS, MLP, Experiment, Group, Records
from figures.measurements import (
    FILLS,
    MEASURES,
    SHIFTS,
    measure_memory,
    read_measure,
    read_shifts,
    shifted,
)
from figures.pages import find_pages, marks, update_section
from figures.retrain import expected_times, is_long, retrain, write_small_cifar10
from figures.toy import toy_sets
from part1_mlp import plot, train
from part1_mlp.mlp_pytorch import MLP as TorchMLP
from part3_rnn.train import VANILLA_ONLY
from tests.figure_text import legend_of
from training import UsageError
from training.cli import RESUMABLE_FLAGS, ROOT
from training.flags import read_own_run
from training.plotting import style
from training.runs import RunRecord, load_best, read_run

FOLDER = ROOT / "figures" / "records"
OUTPUT = ROOT / "figures" / "output"
TOY_GOALS = {"circles": 0.97, "moons": 0.96}
RECORD_FILES = {"config.json", "history.csv", "result.json"}


# --- The committed records ------------------------------------------------------------------------


def test_records_are_those_of_the_table_and_hold_no_weights(records):
    wanted = {f"{e.group}/seed{seed}" for e in EXPERIMENTS.values() for seed in e.seeds}
    assert {f"{p.parent.name}/{p.name}" for p in FOLDER.glob("*/*")} == wanted
    for name, experiment in EXPERIMENTS.items():
        for run in records[name].runs:
            files = {file.name for file in run.path.iterdir()}
            assert files == RECORD_FILES | set(experiment.measures)
            assert run.config["script"] == experiment.script
            assert run.config["environment"].keys() >= {"python", "torch", "device", "precision"}
            assert run.config.get("run_dir") is run.config.get("data_dir") is None


def test_every_experiment_is_in_a_figure():
    shown = {e.group for figure in figures().values() for e in figure.experiments}
    assert shown == set(EXPERIMENTS)


def test_records_were_made_with_the_flags_of_the_table(records):
    free = RESUMABLE_FLAGS | {"device", "precision", "n_seeds"}
    for experiment in EXPERIMENTS.values():
        script = importlib.import_module(experiment.script.removesuffix(".py").replace("/", "."))
        defaults = vars(script.parse([]))  # of flags that are newer than a record
        for seed, run in zip(experiment.seeds, records[experiment.group].runs, strict=True):
            read_own_run(run.path, script)  # raises no error
            args = vars(script.parse([*experiment.flags.split(), "--seed", str(seed)]))
            if run.config.get("cell", "rnn") != "rnn":  # PyTorch initialises it
                args = {name: value for name, value in args.items() if name not in VANILLA_ONLY}
            for name in args.keys() - free:
                recorded = run.config.get(name, defaults[name])
                recorded = tuple(recorded) if isinstance(recorded, list) else recorded
                assert recorded == args[name], f"{run.path}: {name}"


def test_results_agree_with_the_histories(records):
    for name in EXPERIMENTS:
        for run in records[name].runs:
            best = int(np.argmin(run.history["val_loss"]))
            assert run.history["step"][best] == run.result["best_step"], run.path
            if run.config.get("views", 1) == 1:
                recorded = run.history["test_accuracy"][best]
                assert run.result["test_accuracy"] == pytest.approx(recorded, abs=1e-6)


@pytest.mark.parametrize("model", ["numpy", "pytorch"])
@pytest.mark.parametrize("dataset", ["moons", "circles"])
def test_toy_records_reach_the_goal_or_the_bayes_accuracy(model, dataset, records):
    accuracy = records[f"mlp_{model}_{dataset}_original"].accuracies
    assert len(accuracy) == 30
    assert accuracy.mean() >= min(
        TOY_GOALS[dataset], bayes_accuracy(dataset, DEFAULT_NOISE[dataset])
    )


def test_mlp_records_keep_every_fixed_fact(records):
    fixed = {"dnn_hidden_units": [512, 256, 128], "dropout": 0.1, "optimizer": "adamw",
             "learning_rate": 1e-3, "weight_decay": 1e-4, "schedule": "constant", "patience": 10,
             "augment": True, "batch_norm": False, "whiten": False, "activation": "relu",
             "label_smoothing": 0.0, "mixup": 0.0, "average_decay": 0.0, "views": 1}  # fmt: skip
    for run in records["mlp_pytorch_cifar10_original"].runs:
        assert run.config.items() >= fixed.items()


def test_cnn_records_keep_every_fixed_fact(records):
    fixed = {"optimizer": "adam", "augment": True, "dropout": 0.5, "image_sizes": [32],
             "label_smoothing": 0.0, "mixup": 0.0, "average_decay": 0.0, "views": 1}  # fmt: skip
    for run in records["cnn_original"].runs:
        assert run.config.items() >= fixed.items()
        assert run.config["patience"] > 0
        assert run.result["parameters"] == 6_400_586
    for run in records["cnn_best"].runs:
        assert run.config["dropout"] == 0.5
        assert run.result["parameters"] == 6_400_586
        assert run.result["test_accuracy"] >= 0.91


def test_rnn_records_keep_every_fixed_fact_and_learn_five_digits(records):
    fixed = {"cell": "rnn", "init": "normal", "optimizer": "rmsprop", "max_norm": 10.0,
             "batch_size": 128, "input_length": 5}  # fmt: skip
    for run in records["rnn_T5_original"].runs:
        assert run.config.items() >= fixed.items()
        assert run.result["steps"] <= 2000
        assert run.result["test_accuracy"] >= 0.999


def test_recorded_shifts_begin_at_the_recorded_accuracy(records):
    with_shifts = [name for name, each in EXPERIMENTS.items() if "shifts.csv" in each.measures]
    assert with_shifts
    for run in (run for name in with_shifts for run in records[name].runs):
        rows = (run.path / "shifts.csv").read_text().splitlines()[1:]
        assert {row.split(",")[3] for row in rows} == {"10000"}  # all test images
        for fill in FILLS:
            accuracy = read_shifts(run.path, "test_accuracy", fill)
            assert accuracy.shape == (len(SHIFTS), 4)
            # Training may have computed the net's products in bfloat16.
            assert accuracy[0] == pytest.approx(run.result["test_accuracy"], abs=3e-3)
            assert (read_shifts(run.path, "consistency", fill)[0] == 1).all()


def test_recorded_predictions_have_the_recorded_accuracy(records):
    measured = [name for name, each in EXPERIMENTS.items() if "predictions.csv" in each.measures]
    assert len(measured) == 2
    labels = []
    for run in (run for name in measured for run in records[name].runs):
        rows = read_measure(run.path, "predictions.csv")
        labels.append(rows["label"].tolist())
        accuracy = (rows["label"] == rows["predicted"]).mean()
        assert accuracy == pytest.approx(run.result["test_accuracy"], abs=3e-3)
        assert ((rows["confidence"] >= 0.1) & (rows["confidence"] <= 1)).all()
    assert len(labels[0]) == 10_000
    assert all(each == labels[0] for each in labels)


@pytest.mark.parametrize("text", ["", "shift\n1\n", "step,x\n1,2\n", "\xff"])
def test_broken_measurements_are_named(text, tmp_path):
    for name, read in (
        ("shifts.csv", lambda record: read_shifts(record, "test_accuracy", "black")),
        ("memory.csv", lambda record: read_measure(record, "memory.csv")),
        ("predictions.csv", lambda record: read_measure(record, "predictions.csv")),
    ):
        with pytest.raises(UsageError, match=name):
            read(tmp_path)
        (tmp_path / name).write_text(text)
        with pytest.raises(UsageError, match=name):
            read(tmp_path)


# --- Drawing --------------------------------------------------------------------------------------


def redraw_twice(run_main, out: Path, formats: tuple[str, ...], *flags: str) -> list[Path]:
    for name in ("a", "b"):
        where = ("--out", out / name, "--format", *formats)
        code, _, err = run_main(regenerate.main, "regenerate.py", *flags, *where)
        assert (code, err) == (0, "")
    first = sorted((out / "a").iterdir())
    for path in first:
        assert path.read_bytes() == (out / "b" / path.name).read_bytes(), path.name
    return first


def test_redrawing_changes_no_byte(run_main, tmp_path):
    names = ("2", "limits")
    drawn = redraw_twice(run_main, tmp_path, ("png", "pdf"), "--only", *names)
    assert {path.stem for path in drawn} == set(map(stem, names))
    assert len(drawn) == 3 * len(names)  # two formats and a caption


@pytest.mark.slow
def test_redrawing_all_figures_changes_no_byte(run_main, tmp_path):
    formats = ("png", "pdf", "svg")
    assert len(redraw_twice(run_main, tmp_path, formats)) == 4 * len(figures())


def test_a_matplotlibrc_changes_no_byte(run_main, tmp_path):
    import matplotlib

    drawn = []
    for out in (tmp_path / "a", tmp_path / "b"):
        run_main(regenerate.main, "regenerate.py", "--only", "2", "--out", out, "--format", "png")
        drawn.append((out / "figure2.png").read_bytes())
        matplotlib.rcParams.update({"font.size": 20, "axes.grid": False, "lines.linewidth": 9})
    matplotlib.rcdefaults()
    assert drawn[0] == drawn[1]


def test_committed_captions_name_every_run_with_its_accuracy_and_command(records):
    for name, figure in figures().items():
        caption = (OUTPUT / f"{stem(name)}.txt").read_text()
        assert caption.startswith(f"{figure.title}\n")
        for experiment in figure.experiments:
            for seed, run in zip(experiment.seeds, records.read(experiment).runs, strict=True):
                line = f"{experiment.group}, seed {seed}: test accuracy "
                views = " with test-time augmentation" if run.config.get("views", 1) > 1 else ""
                assert f"{line}{run.result['test_accuracy']:.4f}{views} at epoch" in caption
                assert f"; {experiment.command(seed)}\n" in caption


# --- Retraining -----------------------------------------------------------------------------------

FLAGS = "--model numpy --dataset moons --n_samples 100 --max_epochs 2"
SHORT = Experiment("short", MLP, FLAGS, "short", (0,), "")
OPTIONS = {"jobs": 1, "small": False, "data_dir": None}


def test_retraining_keeps_records_without_weights_and_paths(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stderr", None)  # as when it is closed
    work, kept = tmp_path / "retrain", tmp_path / "records"
    two = dataclasses.replace(SHORT, seeds=(0, 1))
    retrain([two, SHORT], work, kept, Records(kept), **OPTIONS)
    for run in Records(kept).read(two).runs:
        assert {file.name for file in run.path.iterdir()} == RECORD_FILES
        assert run.config["run_dir"] is None
        assert run.config["script"] == MLP
        assert run.config["environment"]["python"]
    assert list(work.iterdir()) == []


def test_interrupted_retraining_continues(tmp_path):
    failing = dataclasses.replace(SHORT, group="failing", flags=f"{FLAGS} --momentum -1")
    other = dataclasses.replace(SHORT, group="other", seeds=(1,))
    work, kept = tmp_path / "retrain", tmp_path / "records"
    with pytest.raises(UsageError, match=r"failing, seed 0: exit code 2: .*--momentum"):
        retrain([SHORT, failing], work, kept, Records(kept), **OPTIONS)
    result = work / "short" / "seed0" / "result.json"
    result.write_text(json.dumps(json.loads(result.read_text()) | {"seconds": 12345}))
    retrain([SHORT, other], work, kept, Records(kept), **OPTIONS)
    assert read_run(kept / "short" / "seed0").result["seconds"] == 12345  # not trained again
    assert read_run(kept / "other" / "seed1").result["seed"] == 1
    assert list(work.iterdir()) == []  # so that the next call trains them anew


def test_an_interrupted_retraining_says_how_it_goes_on(run_main, tmp_path, monkeypatch):
    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(regenerate, "retrain", interrupt)
    flags = ("--retrain", 2, "--out", tmp_path / "new" / "figures")
    code, _, err = run_main(regenerate.main, "regenerate.py", *flags)
    assert (code, err) == (130, "interrupted; the same command goes on where it was\n")


@pytest.mark.parametrize("small", [True, False])
def test_short_runs_alone_train_on_few_images(small, tmp_path, monkeypatch):
    used = {}

    def train_in_process(command: list[str], folder: Path, **options: object) -> None:
        used[folder.parent.name] = command[command.index("0") + 1 :]  # after the seed
        shutil.copytree(FOLDER / "mlp_numpy_moons_original" / "seed100", folder)

    monkeypatch.setattr("figures.retrain.train_in_process", train_in_process)
    monkeypatch.setattr("figures.retrain.write_small_cifar10", lambda folder, data_dir: folder)
    images = dataclasses.replace(SHORT, group="images", flags="--dataset cifar10")
    work, kept, given = (tmp_path / name for name in ("retrain", "records", "given"))
    options = {"jobs": 1, "small": small, "data_dir": given}
    retrain([SHORT, images], work, kept, Records(kept), **options)
    folder = work / "cifar10" if small else given
    assert used == {"short": [], "images": ["--data_dir", str(folder)]}


def test_short_runs_have_images_of_every_class(tmp_path, monkeypatch):
    """Also where the images come class by class, as those of image folders do."""
    images, labels = np.zeros((400, 3, 32, 32), np.uint8), np.arange(10).repeat(40)
    monkeypatch.setattr("data.cifar10.load_cifar10", lambda _: (images, labels) * 2)
    folder = write_small_cifar10(tmp_path / "small")
    for split, n in (("train", 30), ("test", 5)):
        assert [len([*(folder / split / name).iterdir()]) for name in CLASS_NAMES] == [n] * 10


def test_runs_of_ones_own_are_drawn_in_place_of_the_committed_ones(run_main, tmp_path):
    own = tmp_path / "records" / "mlp_numpy_moons_original" / "seed104"
    shutil.copytree(FOLDER / own.parent.name / own.name, own)
    result = json.loads((own / "result.json").read_text()) | {"test_accuracy": 0.1234}
    (own / "result.json").write_text(json.dumps(result))
    flags = ("--only", "3", "--format", "png", "--records", own.parents[1], "--out", tmp_path)
    assert run_main(regenerate.main, "regenerate.py", *flags)[0] == 0
    (line,) = re.findall(".*0.1234.*", (tmp_path / "figure3.txt").read_text())
    assert line.startswith("mlp_numpy_moons_original, seed 104: ")


@pytest.mark.parametrize("name", ["", "file/figures"])
def test_a_folder_that_cannot_be_written_is_told_before_anything_is_trained(
    name, run_main, tmp_path, monkeypatch
):
    def refuse(*, dir: Path) -> None:  # as for a user who is not root
        raise PermissionError(errno.EACCES, "Permission denied", str(dir))

    out = tmp_path / name
    (tmp_path / "file").touch()
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    monkeypatch.setattr(regenerate, "retrain", lambda *_, **__: pytest.fail("trained"))
    code, _, err = run_main(regenerate.main, "regenerate.py", "--retrain", "2", "--out", out)
    assert code == 1
    assert str(out) in err


def made_up(
    seconds: float, threads: int | None, n: int = 3, device: str = "cpu"
) -> tuple[Experiment, Group]:
    """An experiment and its made-up records, each run having taken so many seconds."""
    experiment = dataclasses.replace(SHORT, group=f"g{seconds}", seeds=tuple(range(n)))
    environment = {"threads": threads, "python": "3.12.1", "device": device}
    run = RunRecord(Path(), {"environment": environment}, {}, {"seconds": seconds})
    return experiment, Group(experiment, [run] * n)


class MadeUpRecords(dict):
    """Records that are not read from files."""

    def read(self, experiment: Experiment) -> Group:
        for known, group in self.items():
            if known.group == experiment.group:
                return dataclasses.replace(group, runs=group.runs[: len(experiment.seeds)])
        raise UsageError("no record")


@pytest.mark.parametrize(
    ("jobs", "threads", "expected"),
    [(1, 1, 300), (2, 1, 150), (4, 1, 150), (1, 2, 300), (2, 2, 300), (2, None, 300)],
)
def test_expected_time_of_three_runs_of_100_seconds_on_two_cores(
    jobs, threads, expected, monkeypatch
):
    monkeypatch.setattr("figures.retrain.n_cores", lambda: 2)
    experiment, group = made_up(100, threads)
    unknown = dataclasses.replace(SHORT, group="unknown")
    records = MadeUpRecords({experiment: group})
    table, seconds, on_gpu = expected_times([experiment, unknown, experiment], records, jobs)
    assert seconds == pytest.approx(expected)
    assert not on_gpu
    assert f"| g100 | 3 | 100 | {experiment.command(0)} |" in table
    assert f"| unknown | 1 | unknown | {unknown.command(0)} |" in table
    assert table.count("g100") == 1


def test_a_run_on_a_gpu_is_told_as_one_and_is_long():
    fast, short = made_up(10, 1, device="cuda"), made_up(599, 1)
    records = MadeUpRecords([fast, short])
    table, seconds, on_gpu = expected_times([fast[0], short[0]], records, 1)
    assert (seconds, on_gpu) == (3 * 609, 3)
    assert "| g10 | 3 | 10 on a GPU |" in table
    assert "| g599 | 3 | 599 |" in table
    assert [is_long(each, records) for each in (fast[0], short[0])] == [True, False]
    assert not is_long(dataclasses.replace(SHORT, group="unknown"), records)


def test_what_the_choices_of_retrain_train():
    long, short = made_up(601, 1), made_up(599, 1)
    records = MadeUpRecords([long, short])
    blank = dataclasses.replace(figures()["1"], experiments=[])
    best = dataclasses.replace(SHORT, group="x", flags=f"{FLAGS} --recipe best")
    lstm = dataclasses.replace(SHORT, group="y", flags="--cell lstm")
    shown = {
        "1": dataclasses.replace(blank, experiments=[short[0]]),
        "7": dataclasses.replace(blank, experiments=[long[0], short[0], best, lstm]),
        "best": dataclasses.replace(blank, experiments=[SHORT]),
    }
    groups = {
        choice: [(e.group, len(e.seeds)) for e in regenerate.to_train([choice], shown, records)]
        for choice in ("original", "all", "best", "7")
    }
    assert groups["original"] == [("g599", 3), ("g601", 1), ("g599", 3)]
    rest = [("g601", 3), ("g599", 3), ("x", 1), ("y", 1)]
    assert groups["all"] == [("g599", 3), *rest, ("short", 1)]
    assert groups["best"] == [("short", 1)]
    assert groups["7"] == rest
    both = regenerate.to_train(["7", "original"], shown, records)  # no run twice
    assert [(e.group, len(e.seeds)) for e in both] == rest


def test_a_dry_run_lists_runs_and_times_and_does_nothing(project, run_main):
    code, out, err = run_main(regenerate.main, "regenerate.py", "--retrain", "2", "--dry_run")
    assert (code, err) == (0, "")
    head, _, *rows, blank, last = out.splitlines()
    assert head == "| runs | seeds | seconds each | command of the first |"
    assert [row.split(" | ")[0] for row in rows] == [
        f"| {experiment.group}" for experiment in figures()["2"].experiments
    ]
    assert blank == ""
    assert re.fullmatch(r"by the records of earlier runs this takes \d+ (seconds|minutes)", last)
    _, out, _ = run_main(regenerate.main, "regenerate.py", "--retrain", "shifts", "4", "--dry_run")
    last = out.splitlines()[-1]
    assert last.endswith("; nets to be tried on shifted images, which is not counted: 18"), last
    assert git(project, "status", "--porcelain", "--ignored") == ""


def test_measures_share_the_cores_with_the_runs_beside_them(tmp_path, monkeypatch):
    used = []

    def measure(run: RunRecord, *, data_dir: Path | None) -> str:
        used.append(torch.get_num_threads())
        return ""

    monkeypatch.setitem(MEASURES, "shifts.csv", measure)
    measured = dataclasses.replace(SHORT, measures=("shifts.csv",))
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    try:
        for jobs in (1, 2, 8):
            work, kept = tmp_path / f"retrain{jobs}", tmp_path / f"records{jobs}"
            retrain([measured], work, kept, Records(kept), **OPTIONS | {"jobs": jobs})
            assert torch.get_num_threads() == 6
    finally:
        torch.set_num_threads(before)
    assert used == [6, 3, 1]


def test_small_cifar10_is_read_back(tmp_path, tiny_cifar10):
    stale = tmp_path / "small" / "test" / CLASS_NAMES[0] / "999.png"
    stale.parent.mkdir(parents=True)
    stale.touch()
    small = write_small_cifar10(tmp_path / "small", tiny_cifar10)
    ours, theirs = (load_dataset("cifar10", data_dir=folder) for folder in (small, tiny_cifar10))
    for split in ("test", "val", "train"):
        sizes = {len(dataset.split(split)[1]) for dataset in (ours, theirs)}
        assert len(sizes) == 1
    pairs = (zip(*dataset.split("test"), strict=True) for dataset in (ours, theirs))
    first, second = ({(x.tobytes(), int(y)) for x, y in each} for each in pairs)
    assert first == second


@pytest.mark.slow
def test_quick_figures_are_marked_and_leave_the_records_alone(
    run_main, tmp_path, monkeypatch, real_cifar10
):
    monkeypatch.setattr(regenerate, "ROOT", tmp_path)
    code, out, err = run_main(
        regenerate.main, "regenerate.py", "--quick", "--only", "2", "cnn_best", "--format", "png",
        "--data_dir", real_cifar10,
    )  # fmt: skip
    assert (code, err) == (0, "")
    quick = tmp_path / "runs" / "quick"
    names = ("figure2.png", "figure2.txt", "cnn_best.png", "cnn_best.txt")
    assert out.splitlines() == [str(quick / name) for name in names]
    assert "Shortened runs." in (quick / "cnn_best.txt").read_text()
    run = read_run(quick / "records" / "cnn_best" / "seed300")
    assert run.result["epochs"] == 2
    assert run.config["data_dir"] is None
    assert list(tmp_path.iterdir()) == [tmp_path / "runs"]


# --- What is written where ------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A git repository with the records and pages with marks, where regenerate.py writes."""
    root = tmp_path / "project"
    shutil.copytree(FOLDER, root / "figures" / "records")
    shutil.copy(ROOT / ".gitignore", root)
    (root / "figures" / "output").mkdir()
    (root / "docs").mkdir()
    for page, sections in (("README.md", ["results"]), ("docs/x.md", regenerate.SECTIONS[1:])):
        lines = ("\n".join((marks(section)[0], "old", marks(section)[1])) for section in sections)
        (root / page).write_text("before\n" + "\n".join(lines) + "\nafter\n")
    monkeypatch.setattr(regenerate, "ROOT", root)
    git(root, "init", "-q")
    commit(root)
    return root


def git(root: Path, *command: str) -> str:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    return subprocess.run(
        ["git", *identity, *command], cwd=root, check=True, capture_output=True, text=True
    ).stdout


def commit(root: Path) -> None:
    git(root, "add", ".")
    git(root, "commit", "-qm", "x")


def test_without_update_the_repository_stays_clean(project, run_main, monkeypatch):
    name = "mlp_numpy_circles_matched"
    tiny = dataclasses.replace(EXPERIMENTS[name], seeds=(100,))
    tiny = dataclasses.replace(tiny, flags=f"{tiny.flags} --n_samples 100 --max_epochs 2")
    figure = dataclasses.replace(figures()["1"], draw=toy_sets, experiments=[tiny])
    monkeypatch.setattr(regenerate, "figures", lambda: {"2": figure})
    flags = ("--retrain", "2", "--format", "png")

    code, out, err = run_main(regenerate.main, "regenerate.py", *flags)
    assert (code, err) == (0, "")
    drawn = project / "runs" / "figures"
    time, where, *_ = out.splitlines()
    assert time.startswith("by the records of earlier runs this takes ")
    assert where.startswith(f"the runs in {drawn / 'records'} are drawn in place of those in ")
    assert git(project, "status", "--porcelain") == ""
    new = read_run(drawn / "records" / name / "seed100").result["test_accuracy"]
    assert f"test accuracy {new:.4f} " in (drawn / "figure2.txt").read_text()

    code, out, err = run_main(regenerate.main, "regenerate.py", *flags, "--update")
    assert (code, err) == (0, "")
    changed = {line[3:] for line in git(project, "status", "--porcelain").splitlines()}
    record = f"figures/records/{name}/seed100"
    assert {"README.md", "REPORT.md", "docs/x.md", f"{record}/result.json"} <= changed
    for ending in ("png", "pdf"):  # also the file that was not asked for: it shows the old runs
        assert (project / "figures" / "output" / f"figure2.{ending}").is_file()
    assert read_run(project / record).result["test_accuracy"] == new
    assert not any("seed101" in path for path in changed)


def test_updating_twice_changes_no_byte_and_touches_nothing_else(project, run_main):
    flags = ("--only", "1", "--format", "png", "--update")
    assert run_main(regenerate.main, "regenerate.py", *flags)[0] == 0
    changed = {line[3:] for line in git(project, "status", "--porcelain").splitlines()}
    assert changed == {"README.md", "REPORT.md", "docs/x.md", "figures/output/"}
    readme = (project / "README.md").read_text()
    assert readme.startswith("before\n")
    assert readme.endswith("\nafter\n")
    assert "old" not in readme
    commit(project)
    assert run_main(regenerate.main, "regenerate.py", *flags)[0] == 0
    assert git(project, "status", "--porcelain") == ""


def test_a_missing_record_is_named_before_anything_is_trained(project, run_main):
    missing = project / "figures" / "records" / "mlp_numpy_moons_original" / "seed100"
    shutil.rmtree(missing)
    code, _, err = run_main(regenerate.main, "regenerate.py", "--retrain", "2")
    assert code == 2
    assert err.strip() == f"regenerate.py: error: {missing} is not a run folder"
    assert not (project / "runs").exists()


def test_update_refuses_a_missing_page_before_anything_is_trained(project, run_main):
    (project / "README.md").unlink()
    code, _, err = run_main(regenerate.main, "regenerate.py", "--update", "--retrain", "2")
    assert code == 2
    assert "'results'" in err
    assert err.count("\n") == 1
    assert not (project / "runs").exists()


def test_committed_pages_are_those_of_the_records(records):
    sections, files = regenerate.texts(records)
    pages = find_pages(ROOT, regenerate.SECTIONS)
    assert set(sections) == set(regenerate.SECTIONS)
    for section, content in sections.items():
        begin, end = marks(section)
        assert f"{begin}\n\n{content}\n\n{end}" in pages[section].read_text(), section
    for name, text in files.items():
        assert (ROOT / name).read_text() == text, name


def test_updating_a_section_touches_nothing_else(tmp_path):
    page = tmp_path / "README.md"
    begin, end = marks("results")
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    update_section(page, "results", "| new |")
    assert page.read_text() == f"before\n{begin}\n\n| new |\n\n{end}\nafter\n"


@pytest.mark.parametrize(
    "flags",
    [("--only", "9"), ("--jobs", "0"), ("--format", "bmp"), ("--update", "--quick"),
     ("--update", "--out", "x"), ("--dry_run", "--quick"), ("--out", ROOT / "README.md"),
     ("--quick", "--retrain", "2"), ("--update", "--only", "3", "--retrain", "2"),
     ("--update", "--records", "x"), ("--quick", "--records", "."),
     ("--records", ROOT / "README.md"), ("--records", ROOT / "figures"),
     ("--records", FOLDER, "--retrain", "2")],
)  # fmt: skip
def test_bad_flags(flags, run_main):
    code, _, err = run_main(regenerate.main, "regenerate.py", *flags)
    assert code == 2
    assert flags[0] in err
    assert err.count("\n") == 1


# --- Measurements on trained nets -----------------------------------------------------------------


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
    dataset = load_dataset("moons", seed=0)
    *four, off, off_too, _colourbar = plot.draw_boundaries([run] * 4).axes
    assert len(four) == 4
    assert [axes.axison for axes in (*four, off, off_too)] == [True] * 4 + [False] * 2
    widths = {round(each.get_position().width, 6) for each in four}
    assert len(widths) == 1, "the colour bar takes its space from all panels"
    axes = four[0]
    for name, points in zip(legend_of(axes), axes.collections[-2:], strict=True):
        of_class = dataset.y_test == dataset.class_names.index(name)
        np.testing.assert_array_equal(points.get_offsets(), dataset.x_test[of_class])
    for limits, values in zip((axes.get_xlim(), axes.get_ylim()), dataset.x_test.T, strict=True):
        assert limits == pytest.approx((values.min() - 0.3, values.max() + 0.3))
    predicted = plot.predict_probability(run, dataset.x_test) > 0.5
    accuracy = (predicted == dataset.y_test).mean()
    assert accuracy == pytest.approx(run.result["test_accuracy"], abs=2e-3)  # float32 against 64


WHOLE = (
    "mlp_best",
    "cnn_best",
    "mlp_and_cnn",
    "efficiency",
    "shifts",
    "6",
    "7",
    "longer",
    "limits",
    "hidden_sizes",
)  # figures whose axes of shares go from 0 to 1
SHARE = re.compile("accuracy|share|same prediction")


@pytest.mark.parametrize("name", figures())
def test_axes_are_honest(name, records):
    """All is inside the axes; a loss is seen from 0 on, and in most figures a share from 0 to 1."""
    figure = figures()[name]
    with style():
        drawn = figure.draw(figure.groups(records))
    shares = 0
    for axes in drawn.axes:
        low, high = np.sort(axes.get_ylim())
        for line in axes.lines:
            if line.get_transform() == axes.transData:
                for values, limits in zip(line.get_data(), (axes.get_xlim(), (low, high)),
                                          strict=True):  # fmt: skip
                    assert np.min(limits) <= np.nanmin(values) <= np.nanmax(values)
                    assert np.nanmax(values) <= np.max(limits)
        if axes.get_ylabel() == "loss" and name != "4":
            assert low == 0
        if name in WHOLE and SHARE.search(axes.get_ylabel() or axes.get_title()):
            shares += 1
            assert -0.05 < low <= 0 < 1 <= high < 1.15
    assert bool(shares) == (name in WHOLE)


def test_counts_fit_in_the_cells_of_the_confusion_matrix(records):
    figure = figures()["cnn_mistakes"]
    with style():
        drawn = figure.draw(figure.groups(records))
        drawn.draw_without_rendering()
    matrix = drawn.axes[0]
    cell = matrix.get_window_extent().width / len(CLASS_NAMES)
    assert max(text.get_window_extent().width for text in matrix.texts) < cell


@pytest.mark.parametrize("name", figures())
def test_print_is_legible(name, records):
    """On a page's 6.5 inches no text is below 7 points, none hides another, all is inside."""
    figure = figures()[name]
    with style():
        drawn = figure.draw(figure.groups(records))
        drawn.draw_without_rendering()
    assert drawn.get_figwidth() <= 6.5
    boxes, beyond = {}, set()  # labels of ticks beyond an axis' ends are not drawn
    for axis in (axis for axes in drawn.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = np.sort(axis.get_view_interval())
        ticks = (*axis.get_major_ticks(), *axis.get_minor_ticks())
        beyond |= {tick.label1 for tick in ticks if not low <= tick.get_loc() <= high}
    shown = (t for t in drawn.findobj(Text) if t.get_text() and t.get_visible())
    for text in (t for t in shown if t not in beyond):
        assert text.get_fontsize() >= 7, text
        assert "_" not in re.sub(r"\$.*?\$", "", text.get_text()), text
        boxes[text] = text.get_window_extent().padded(-1)
    upright = {text: box for text, box in boxes.items() if text.get_rotation() % 90 == 0}
    for (text, box), (other, beside) in itertools.combinations(upright.items(), 2):
        assert not box.overlaps(beside), (text, other)
    for text, box in boxes.items():
        assert (box.min >= drawn.bbox.min).all(), text
        assert (box.max <= drawn.bbox.max).all(), text


def test_shifting_moves_pixels_and_fills_the_gap():
    images = np.arange(1, 17, dtype=np.uint8).reshape(1, 1, 4, 4)
    moved = shifted(images, 1, -2, "black")[0, 0]
    assert moved.tolist() == [[0, 0, 0, 0], [3, 4, 0, 0], [7, 8, 0, 0], [11, 12, 0, 0]]
    moved = shifted(images, 1, -2, "edge")[0, 0]
    assert moved.tolist() == [[3, 4, 4, 4], [3, 4, 4, 4], [7, 8, 8, 8], [11, 12, 12, 12]]
    for fill in FILLS:
        assert (shifted(images, 0, 0, fill) == images).all()
    assert not shifted(images, 4, 0, "black").any()


@pytest.mark.parametrize("part", ["part1_mlp", "part2_cnn"])
def test_predictions_and_shifts_of_a_trained_net(part, run_main, tmp_path, tiny_cifar10):
    flags = {
        "part1_mlp": ("--model", "pytorch", "--dataset", "cifar10", "--dnn_hidden_units", "32"),
        "part2_cnn": ("--image_sizes", "8", "--channels", "4,8,16", "--global_pooling", "on"),
    }[part]
    script = importlib.import_module(f"{part}.train")
    flags = (*flags, "--data_dir", tiny_cifar10, "--batch_size", 54, "--max_epochs", 3)
    run_main(script.main, "train.py", *flags, "--run_dir", tmp_path / "run")
    run = read_run(tmp_path / "run")
    for name in ("shifts.csv", "predictions.csv"):
        (tmp_path / name).write_text(MEASURES[name](run, data_dir=tiny_cifar10))
    rows = read_measure(tmp_path, "predictions.csv")
    correct = (rows["label"] == rows["predicted"]).mean()
    assert len(rows) == 20
    if part == "part1_mlp":  # the CNN is evaluated on images of 8 pixels, measured on whole ones
        assert correct == pytest.approx(run.result["test_accuracy"], abs=1e-4)
    for fill in FILLS:
        accuracy = read_shifts(tmp_path, "test_accuracy", fill)
        assert accuracy[0] == pytest.approx(correct, abs=1e-4)
        # At 20 images a share is a multiple of a twentieth.
        for values in (accuracy, read_shifts(tmp_path, "consistency", fill)):
            assert values * 20 == pytest.approx((values * 20).round(), abs=1e-6)
    assert (read_shifts(tmp_path, "consistency", "black")[0] == 1).all()
    if part == "part1_mlp":
        assert (read_shifts(tmp_path, "consistency", "black")[1:] < 1).any()
        net = TorchMLP.from_config(run.config, 3 * 32 * 32, 10)
        load_best(net, run)
        x, y = load_dataset("cifar10", data_dir=tiny_cifar10).split("test")
        by_direction = {
            name: (class_probabilities(net, shifted(x, *pixels, "edge")).argmax(1) == y).mean()
            for name, pixels in (("left", (0, -5)), ("right", (0, 5)), ("up", (-5, 0)),
                                 ("down", (5, 0)))
        }  # fmt: skip
        assert len(set(by_direction.values())) > 1
        for row in read_measure(tmp_path, "shifts.csv"):
            if (row["shift"], row["fill"]) == (5, "edge"):
                accuracy = by_direction.pop(row["direction"])
                assert row["test_accuracy"] == pytest.approx(accuracy, abs=1e-4)
        assert not by_direction


def test_memory_of_a_trained_net(run_main, tmp_path):
    from part3_rnn import train

    flags = "--input_length 6 --num_hidden 32 --recipe best --train_steps 30 --eval_freq 10"
    run_main(train.main, "train.py", *flags.split(), "--run_dir", tmp_path / "run")
    run = read_run(tmp_path / "run")
    (tmp_path / "memory.csv").write_text(MEASURES["memory.csv"](run, data_dir=None))
    memory = read_measure(tmp_path, "memory.csv")
    assert MEASURES["memory.csv"] is measure_memory
    assert memory["step"].tolist() == [1, 2, 3, 4, 5, 6]
    # Before any other digit is read, the state is a function of the first one.
    assert memory["initial_share"][0] == memory["trained_share"][0] == 1
    assert (memory["initial_gradient"] > 0).all()
    assert (memory["initial_gradient"] != memory["trained_gradient"]).all()
