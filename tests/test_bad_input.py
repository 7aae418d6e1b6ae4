"""Wrong input: one line on stderr that names the flag, exit code 2, nothing half-made."""

import importlib
import json
import math
import shutil

import pytest

from part1_mlp import plot, train
from tests.tiny_cifar10 import make_tiny_cifar10
from training import UsageError
from training.cli import run_training

SHORT = ("--n_samples", "100", "--max_epochs", "1")
ONE_IS_LEFT = ("--n_samples", "16", "--batch_size", "3")  # of ten training samples


@pytest.fixture
def refused(run_main, tmp_path):
    """Assert that flags are refused in one line that holds the words, and make no run folder."""

    def check(*flags: object, words: str, main=train.main) -> None:
        folder = tmp_path / "new_run"
        flags = flags if main is plot.main else (*flags, "--run_dir", folder)
        code, out, err = run_main(main, "train.py", *flags)
        assert code == 2
        assert out == ""
        assert err.count("\n") == 1, err
        assert words in err
        assert not folder.exists()

    return check


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--dataset", "spirals"),
        ("--model", "jax"),
        ("--recipe", "worst"),
        ("--optimizer", "lbfgs"),
        ("--schedule", "linear"),
        ("--activation", "tanh"),
        ("--init", "zeros"),
        ("--precision", "float16"),
        ("--device", "tpu"),
        *(("--dnn_hidden_units", value) for value in ("0", "-3", "a,b", "20,", "20,0", "1.5")),
        *(("--learning_rate", value) for value in ("0", "-1", "nan", "inf", "fast", "")),
        *(("--batch_size", value) for value in ("0", "-1", "1.5", "all", "", "8,0")),
        *(("--max_epochs", value) for value in ("0", "-1", "1e3", "many")),
        *(("--max_steps", value) for value in ("0", "-1", "x")),
        *(("--eval_freq", value) for value in ("0", "-1", "x")),
        *(("--patience", value) for value in ("-1", "x")),
        *(("--seed", value) for value in ("-1", "x", "4294967296")),
        *(("--momentum", value) for value in ("-0.1", "1", "nan")),
        *(("--weight_decay", value) for value in ("-0.1", "nan")),
        *(("--dropout", value) for value in ("-0.1", "1", "x")),
        *(("--label_smoothing", value) for value in ("-0.1", "1")),
        *(("--mixup", value) for value in ("-1", "inf", "1e-308")),
        *(("--average_decay", value) for value in ("-1", "1")),
        *(("--views", value) for value in ("0", "3", "x")),
        *(("--noise", value) for value in ("-1", "nan")),
        *(("--factor", value) for value in ("0", "-0.5", "1.5", "nan", "inf", "wide")),
        *(("--n_samples", value) for value in ("9", "-1", "x")),
        *(("--checkpoint_seconds", value) for value in ("-1", "nan")),
        *((flag, "yes") for flag in ("--batch_norm", "--skip", "--augment", "--whiten")),
    ],
)
def test_values_out_of_range_or_type(flag, value, refused):
    refused("--model", "pytorch", f"{flag}={value}", words=flag)


@pytest.mark.parametrize(("allowed", "refused"), [(10, 9), (10**7, 10**7 + 1)])
def test_samples_are_ten_to_ten_million(allowed, refused):
    assert train.parse(["--n_samples", str(allowed)]).n_samples == allowed
    with pytest.raises(UsageError, match="--n_samples"):
        train.parse(["--n_samples", str(refused)])


def test_the_largest_whole_number_is_a_billion():
    assert train.parse(["--dnn_hidden_units=1000000000"]).dnn_hidden_units == (10**9,)
    many = ",".join(["2"] * 1000)
    assert len(train.parse([f"--dnn_hidden_units={many}"]).dnn_hidden_units) == 1000
    with pytest.raises(UsageError):
        train.parse([f"--dnn_hidden_units={many},2"])
    with pytest.raises(UsageError, match="--dnn_hidden_units"):
        train.parse(["--dnn_hidden_units=1000000001"])
    with pytest.raises(UsageError, match=r"such as 512,256,128, or ''$"):
        train.parse(["--dnn_hidden_units=20,"])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--unknown", "1"), "--unknown"),
        (("--learn", "1"), "--learn"),
        (("--batch_size",), "--batch_size"),
        (("--optimizer", "adam"), "--optimizer"),
        (("--dropout", "0.5"), "--dropout"),
        (("--batch_norm", "on"), "--batch_norm"),
        (("--skip", "on"), "--skip"),
        (("--activation", "gelu"), "--activation"),
        (("--neg_slope", "0.3"), "--neg_slope"),
        (("--mixup", "1"), "--mixup"),
        (("--label_smoothing", "0.1"), "--label_smoothing"),
        (("--average_decay", "0.9"), "--average_decay"),
        (("--device", "cuda"), "--device"),
        (("--whiten", "on"), "--whiten"),
        (("--augment", "on"), "--augment"),
        (("--dataset", "cifar10", "--cutout", "33"), "--cutout: '33' is not allowed"),
        (("--cutout", "8"), "--cutout is for --dataset cifar10"),
        (("--data_dir", "x"), "--data_dir is for --dataset cifar10"),
        (("--cifar10_url", "x"), "--cifar10_url is for --dataset cifar10"),
        (("--model", "pytorch", "--dataset", "circles", "--cutout", "1"), "--cutout is for"),
        (("--views", "2"), "--views"),
        (("--batch_size", "5000"), "--batch_size"),
        (("--resume", "--overwrite"), "--resume"),
        (("--model", "pytorch", "--optimizer", "adam", "--momentum", "0.5"), "--momentum"),
        (("--model", "pytorch", "--batch_norm", "on", "--batch_size", "1"), "--batch_size"),
        (("--batch_size", "5000", "--dry_run"), "--batch_size: 5000 is out of range"),
        (
            ("--model", "pytorch", "--batch_norm", "on", *ONE_IS_LEFT, "--dry_run"),
            "--batch_size: batch normalisation",
        ),
        (("--model", "pytorch", "--skip", "on"), "--skip: no hidden layer is as wide"),
        (("--seed", "4294967295", "--n_seeds", "2"), "--n_seeds: a seed would be above 42949"),
        (("--dataset", "cifar10", "--noise", "0.1"), "--noise"),
        (("--dataset", "cifar10", "--factor", "0.5"), "--factor is for circles"),
        (("--dataset", "moons", "--factor", "0.5"), "--factor is for circles"),
        (("--dataset", "circles", "--factor", "1"), "--factor: 1.0 must be above 0 and below 1"),
    ],
)
def test_flags_that_do_not_go_together(flags, words, refused):
    refused(*flags, words=words)


def test_the_momentum_of_a_recipe_is_not_that_of_another_optimiser():
    best = ["--model", "pytorch", "--dataset", "cifar10", "--recipe", "best", "--device", "cpu"]
    assert train.parse(best).momentum == 0.9
    for optimizer in ("adam", "adamw"):
        args = train.parse([*best, "--optimizer", optimizer, "--max_steps", "7"])
        assert (args.momentum, args.max_epochs) == (0, None)
        with pytest.raises(UsageError, match="--momentum"):
            train.parse([*best, "--optimizer", optimizer, "--momentum", "0.9"])


def test_a_dry_run_of_one_image_a_step_can_be_whitened(run_main, tiny_cifar10):
    flags = ("--model", "pytorch", "--dataset", "cifar10", "--data_dir", tiny_cifar10,
             "--whiten", "on", "--batch_size", 1, "--dry_run")  # fmt: skip
    code, out, err = run_main(train.main, "train.py", *flags)
    assert (code, err) == (0, "")
    assert "dry run" in out


def test_a_device_that_is_absent(refused):
    import torch

    absent = next(
        name
        for name, there in (
            ("mps", torch.backends.mps.is_available()),
            ("cuda", torch.cuda.is_available()),
        )
        if not there
    )
    refused("--model", "pytorch", "--device", absent, words="--device")


def test_broken_cifar10_is_named(refused, tiny_cifar10, tmp_path):
    cifar10 = ("--model", "pytorch", "--dataset", "cifar10", "--data_dir")
    broken = next((tiny_cifar10 / "train" / "cat").iterdir())
    broken.write_bytes(b"no image")
    refused(*cifar10, tiny_cifar10, words=str(broken))
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "absent"):
        refused(*cifar10, folder, words="--data_dir")
    (tmp_path / "file").write_text("")
    refused(*cifar10, tmp_path / "file", words="--data_dir")


@pytest.mark.parametrize("flag", ["--data_dir", "--run_dir"])
def test_an_empty_folder_name_is_refused(flag, run_main):
    code, _, err = run_main(train.main, "train.py", "--dataset", "cifar10", f"{flag}=")
    assert (code, err.count("\n")) == (2, 1)
    assert flag in err


def test_a_tilde_is_the_home_folder(run_main, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run_main(train.main, "train.py", *SHORT, "--run_dir=~/run")[0] == 0
    assert (tmp_path / "run" / "result.json").exists()


# --- Run folders --------------------------------------------------------------------------------


def _train(run_main, folder, *flags):
    return run_main(train.main, "train.py", *SHORT, "--run_dir", folder, *flags)


@pytest.mark.parametrize(
    ("flag", "value"), [("--model", "pytorch"), ("--seed", "1"), ("--learning_rate", "0.5")]
)
def test_resuming_another_run_is_refused(flag, value, run_main, tmp_path):
    _train(run_main, tmp_path / "run")
    code, _, err = _train(run_main, tmp_path / "run", flag, value, "--resume")
    assert code == 2
    assert err.count("\n") == 1
    assert flag in err


def test_foreign_folders_and_files_are_left_alone(run_main, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for name in ("mine", "file", "file/below"):
        for flag in ("--overwrite", "--resume"):
            code, _, err = _train(run_main, tmp_path / name, flag)
            assert code == 2
            assert "--run_dir" in err
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


def test_a_folder_that_cannot_be_written(run_main, tmp_path, monkeypatch):
    monkeypatch.setattr("training.runs.os.access", lambda *_: False)  # root may write anywhere
    code, _, err = _train(run_main, tmp_path / "run")
    assert code == 2
    assert "--run_dir" in err
    assert "cannot be written" in err
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_net_is_refused(run_main, tmp_path):
    _train(run_main, tmp_path / "a")
    _train(run_main, tmp_path / "b", "--dnn_hidden_units", "7")
    (tmp_path / "a" / "result.json").unlink()
    checkpoint = (tmp_path / "b" / "checkpoint.npz").read_bytes()
    (tmp_path / "a" / "checkpoint.npz").write_bytes(checkpoint)
    code, _, err = _train(run_main, tmp_path / "a", "--resume")
    assert code == 2
    assert "not a checkpoint of this run" in err


def test_hyphens_stand_for_underscores(run_main, tmp_path):
    code, _, _ = run_main(
        train.main, "train.py", "--max-epochs=1", "--batch-size", "64", "--run-dir", tmp_path / "r"
    )
    assert code == 0


# --- Plotting -----------------------------------------------------------------------------------


def test_a_result_without_the_best_step_is_refused(run_main, tmp_path):
    _train(run_main, tmp_path / "run")
    path = tmp_path / "run" / "result.json"
    result = json.loads(path.read_text())
    del result["best_step"]
    path.write_text(json.dumps(result))
    code, _, err = run_main(plot.main, "plot.py", tmp_path / "run")
    assert (code, err.count("\n")) == (2, 1)
    assert "result.json is broken: best_step is missing" in err


def test_plot_refuses_what_is_no_run(run_main, refused, tmp_path):
    refused(tmp_path / "absent", words="is not a run folder", main=plot.main)
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", words="config.json", main=plot.main)
    _train(run_main, tmp_path / "run")
    (tmp_path / "run" / "history.csv").write_text("step\n1\n")
    refused(tmp_path / "run", words="history.csv", main=plot.main)


@pytest.mark.parametrize(
    ("part", "added", "figures"),
    [("part1_mlp", {"cutout"}, 2), ("part2_cnn", {"cutout"}, 4),
     ("part3_rnn", {"forget_bias"}, 3)],
)  # fmt: skip
def test_runs_of_earlier_versions_with_fewer_flags_are_plotted(
    part, added, figures, runs, run_main, tmp_path, monkeypatch
):
    shutil.copytree(runs / part, tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config.keys() > added
    earlier = {name: value for name, value in config.items() if name not in added}
    (tmp_path / "run" / "config.json").write_text(json.dumps(earlier))
    script, drawn = importlib.import_module(f"{part}.plot"), []
    monkeypatch.setattr(script, "save_figure", lambda figure, path: drawn.append(path.name) or [])
    code, _, err = run_main(script.main, "plot.py", tmp_path / "run")
    assert (code, err, len(drawn)) == (0, "", figures)


GARBLED = ("", "no such", "1", None, True, -1, 0.5, math.nan, math.inf, 10**30, [], [-1], ["x"],
           {"a": [1]})  # fmt: skip
# Of each script and what it reads from config.json, the garbled values that are allowed.
ALLOWED = {
    "part1_mlp.plot": {
        "model": (), "dataset": (), "recipe": (), "seed": (), "n_samples": (None,),
        "noise": (None, 0.5), "factor": (None, 0.5), "dnn_hidden_units": ([],), "init": (),
        "activation": (),
        "neg_slope": (0.5,), "precision": (), "dropout": (0.5,), "batch_norm": (True,),
        "skip": (True,), "script": (),
    },
    "part2_cnn.plot": {
        "channels": (), "global_pooling": (True,), "dropout": (0.5,), "winograd": (True,),
        "compile": (True,), "views": (), "recipe": (), "seed": (),
        "data_dir": (None, "no such", "1"), "script": (),
    },
    "part2_cnn.predict": {
        "channels": (), "global_pooling": (True,), "dropout": (0.5,), "winograd": (True,),
        "compile": (True,), "views": (), "script": (),
    },
    "part3_rnn.plot": {
        "cell": (), "recipe": (), "seed": (), "input_length": (), "input_dim": (),
        "num_hidden": (), "num_classes": (), "init": (), "init_scale": (0.5,),
        "input_scale": (0.5,), "forget_bias": (None, -1, 0.5), "script": (),
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of each part, of one step, by the name of its package."""
    parent = tmp_path_factory.mktemp("runs")
    images = make_tiny_cifar10(parent / "images")
    flags = {
        "part1_mlp": SHORT,
        "part2_cnn": ("--max_steps=1", "--batch_size=8", "--image_sizes=8", f"--data_dir={images}"),
        "part3_rnn": ("--train_steps=1", "--num_hidden=8"),
    }
    for part, given in flags.items():
        script = importlib.import_module(f"{part}.train")
        args = script.parse([*given, "--quiet", f"--run_dir={parent / part}"])
        run_training(args, script.SCRIPT, script.run_name, script.build)
    return parent


@pytest.mark.parametrize(
    ("script", "key"), [(script, key) for script, keys in ALLOWED.items() for key in keys]
)
def test_a_garbled_value_of_a_config_is_named(script, key, runs, run_main, tmp_path):
    part, _, name = script.partition(".")
    folder = tmp_path / "run"
    shutil.copytree(runs / part, folder)
    config = json.loads((folder / "config.json").read_text())
    flags = ("--run", folder, "absent.png") if name == "predict" else (folder,)
    for value in GARBLED:
        if value not in ALLOWED[script][key]:
            (folder / "config.json").write_text(json.dumps(config | {key: value}))
            code, out, err = run_main(importlib.import_module(script).main, name, *flags)
            assert (code, out, err.count("\n")) == (2, "", 1), (value, err)
            assert str(folder) in err
            assert ("/train.py" if key == "script" else f"--{key}") in err, (value, err)


# --- Command lines of courses ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        (("--optimizer", "ADAM"), "optimizer", "adam"),
        (("--optimizer", "SGD"), "optimizer", "sgd"),
        (("--model", "PyTorch"), "model", "pytorch"),
        (("--device", "CPU"), "device", "cpu"),
        (("--dnn_hidden_units", ""), "dnn_hidden_units", ()),
        (("--lr", "0.5"), "learning_rate", 0.5),
        (("--epochs", "7"), "max_epochs", 7),
        (("--max-steps", "9", "--epochs", "7"), "max_epochs", 7),
        (("--max-steps", "9"), "max_epochs", None),
    ],
)
def test_part_1_understands_what_courses_write(given, name, value):
    assert getattr(train.parse(["--model", "pytorch", *given]), name) == value


@pytest.mark.parametrize(
    "given", [("--cell", "LSTM"), ("--model_type", "LSTM"), ("--model_type", "lstm")]
)
def test_part_3_understands_what_courses_write(given):
    from part3_rnn import train as part3

    assert part3.parse(list(given)).cell == "lstm"


def test_no_hidden_layer_is_logistic_regression(run_main, tmp_path):
    from training.runs import read_run

    for model in ("numpy", "pytorch"):
        flags = ("--model", model, "--dnn_hidden_units", "", "--run_dir", tmp_path / model)
        assert run_main(train.main, "train.py", *SHORT, *flags)[0] == 0
        assert read_run(tmp_path / model).result["parameters"] == 2 * 2 + 2


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("--max_epoch", "--max_epochs"),
        ("--optimiser", "--optimizer"),
        ("--batchsize", "--batch_size"),
    ],
)
def test_the_nearest_flag_is_named(wrong, right, refused):
    refused(wrong, "1", words=f"did you mean {right}?")


@pytest.mark.parametrize("name", ["cuda:1", "cuda:999"])
def test_a_gpu_that_is_absent(name, refused):
    import torch

    if int(name[5:]) < torch.cuda.device_count():
        pytest.skip("this machine has it")
    refused("--model", "pytorch", "--device", name, words=f"no {name}")
