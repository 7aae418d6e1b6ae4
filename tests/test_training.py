"""The training loop: evaluation, early stopping, checkpoints, resumption, interruption, records."""

import argparse
import copy
import csv
import dataclasses
import itertools
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pytest
import torch

from data.batches import ArrayBatches
from part1_mlp import plot, train
from part1_mlp.mlp_numpy import NumpyModel
from part1_mlp.mlp_pytorch import MLP
from part1_mlp.modules import NEG_SLOPE
from part3_rnn import train as rnn_train
from tests.figure_text import legend_of
from tests.grader import write_whole
from training import Interrupted, UsageError, optim
from training.cli import (
    ROOT,
    STOPPED_BY,
    TRAINING,
    check_same_run,
    environment,
    interruptible,
    resume_command,
    run_cli,
    run_training,
    side_by_side,
    train_in_process,
)
from training.distributed import (
    CORES_ARE_SHARED,
    SIGNALS_ARE_FORWARDED,
    SINGLE_PROCESS,
    ProcessGroup,
    n_cores,
)
from training.flags import folder as parse_folder
from training.plotting import draw_curves, new_figure, save_figure, style
from training.runs import (
    HISTORY_COLUMNS,
    RunFolder,
    load_checkpoint,
    read_history,
    read_json,
    read_run,
    save_checkpoint,
    write_atomically,
)
from training.trainer import Trainer, learning_rate_at

SCRIPT = ROOT / "part1_mlp" / "train.py"
SHORT = ("--n_samples", 300, "--max_epochs", 4)
# Everything random at once: dropout, mixup, batch normalisation, averaging, augmentation.
IMAGES = ("--model", "pytorch", "--dataset", "cifar10",
          "--dnn_hidden_units", "16,16", "--dropout", 0.2, "--batch_norm", "on", "--skip", "on",
          "--mixup", 0.4, "--label_smoothing", 0.1, "--average_decay", 0.9, "--batch_size", 50,
          "--max_epochs", 6, "--whiten", "on", "--views", 2)  # fmt: skip


def final_weights(folder: Path) -> dict[str, np.ndarray]:
    best = load_checkpoint(next(folder.glob("checkpoint.*")))["best"]
    return {name: np.asarray(value) for name, value in best.items()}


def assert_same_weights(a: Path, b: Path) -> None:
    first, second = final_weights(a), final_weights(b)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


# --- A whole run --------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["numpy", "pytorch"])
def test_a_run_leaves_its_four_files(model, run_main, tmp_path):
    folder = tmp_path / "run"
    code, out, err = run_main(
        train.main, "train.py", "--model", model, *SHORT, "--run_dir", folder, "--seed", 5
    )
    assert (code, err) == (0, "")
    assert str(folder) in out
    config = json.loads((folder / "config.json").read_text())
    assert (
        config.items()
        >= {"model": model, "dataset": "moons", "recipe": "original", "seed": 5}.items()
    )
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == HISTORY_COLUMNS
    result = json.loads((folder / "result.json").read_text())
    best = min(rows, key=lambda row: float(row["val_loss"]))
    assert result["best_step"] == int(best["step"])
    assert result["test_accuracy"] == pytest.approx(float(best["test_accuracy"]))
    assert result["test_loss"] == pytest.approx(float(best["test_loss"]), rel=1e-6)
    assert (result["stopped_by"], result["epochs"], result["seed"]) == ("max_epochs", 4, 5)
    assert result["parameters"] == 2 * 20 + 20 + 20 * 2 + 2


@pytest.mark.parametrize("model", ["numpy", "pytorch"])
@pytest.mark.parametrize(("dataset", "goal"), [("moons", 0.95), ("circles", 0.97)])
def test_both_nets_learn_both_toy_sets(model, dataset, goal, run_main, tmp_path):
    flags = ("--model", model, "--dataset", dataset, "--run_dir", tmp_path / "run")
    assert run_main(train.main, "train.py", *flags)[0] == 0
    assert read_run(tmp_path / "run").result["test_accuracy"] >= goal


def test_equal_weights_and_batches_give_equal_curves(run_main, tmp_path):
    for model in ("numpy", "pytorch"):
        flags = ("--model", model, "--init", "he", "--precision", "float64")
        run_main(train.main, "train.py", *flags, *SHORT, "--run_dir", tmp_path / model)
    ours, theirs = (read_run(tmp_path / model).history for model in ("numpy", "pytorch"))
    for name in ("train_loss", "val_loss", "test_loss", "test_accuracy"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6)


@pytest.mark.parametrize("batch_size", ["full", "1", "64"])
def test_every_batch_size_takes_its_number_of_steps(batch_size, run_main, tmp_path):
    folder = tmp_path / "run"
    run_main(train.main, "train.py", *SHORT, "--batch_size", batch_size, "--run_dir", folder)
    per_epoch = {"full": 1, "1": 180, "64": 3}[batch_size]
    assert read_run(folder).result["steps"] == 4 * per_epoch


def test_max_steps_are_not_cut_short_by_the_recipe(run_main, tmp_path):
    flags = ("--n_samples", 100, "--batch_size", "full", "--max_steps", 200)
    run_main(train.main, "train.py", *flags, "--run_dir", tmp_path / "run")
    assert read_run(tmp_path / "run").result["steps"] == 200  # the recipe has 40 epochs
    run_main(train.main, "train.py", *flags, "--max_epochs", 3, "--run_dir", tmp_path / "both")
    assert read_run(tmp_path / "both").result["steps"] == 3


def test_max_steps_and_eval_freq_count_steps(run_main, tmp_path):
    flags = ("--max_steps", 25, "--eval_freq", 10, "--run_dir", tmp_path / "run")
    run_main(train.main, "train.py", *flags)
    run = read_run(tmp_path / "run")
    assert run.history["step"].tolist() == [0, 10, 20, 25]
    assert run.history["epoch"].tolist() == [0, 0.1064, 0.2128, 0.266]  # of 94 steps each
    assert run.result["epochs"] == 0.266
    assert run.result["stopped_by"] == "max_steps"


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_cifar10_is_learnt_by_both_nets(precision, run_main, tmp_path, tiny_cifar10):
    for model in ("numpy", "pytorch"):
        folder = tmp_path / model
        flags = ("--model", model, "--dataset", "cifar10", "--data_dir", tiny_cifar10,
                 "--max_epochs", 15, "--batch_size", 30,
                 "--dnn_hidden_units", "32", "--learning_rate", 0.001, "--precision", precision,
                 "--run_dir", folder)  # fmt: skip
        assert run_main(train.main, "train.py", *flags)[0] == 0
        history = read_run(folder).history
        assert history["train_loss"][-1] < 0.8 * history["train_loss"][0]


def test_dry_run_keeps_nothing(run_main, tmp_path, tiny_cifar10):
    code, out, _ = run_main(
        train.main, "train.py", *IMAGES, "--data_dir", tiny_cifar10, "--dry_run",
        "--run_dir", tmp_path / "run",
    )  # fmt: skip
    assert code == 0
    assert "dry run" in out
    assert not (tmp_path / "run").exists()


def test_a_dry_run_that_diverges_says_that_alone(run_main):
    code, out, err = run_main(train.main, "train.py", "--dry_run", "--learning_rate", 1e6,
                              "--weight_decay", 1e6, "--dnn_hidden_units", "9,9,9,9")  # fmt: skip
    assert (code, out) == (1, "")
    assert err.startswith("diverged")


@pytest.mark.parametrize(
    "settings", [{}, {"momentum": 0.9}, {"momentum": 0.9, "weight_decay": 0.1}]
)
@pytest.mark.parametrize("name", ["SGD", "RMSprop"])
def test_our_optimisers_take_the_steps_of_pytorchs(name, settings):
    nets = [MLP(2, (8,), 2).double() for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    ours = getattr(optim, name)(nets[0].parameters(), lr=0.01, **settings)
    theirs = getattr(torch.optim, name)(nets[1].parameters(), lr=0.01, **settings)
    rng = torch.Generator().manual_seed(0)
    for step in range(6):
        if step == 3:  # as after a resumption
            state = ours.state_dict()
            ours = getattr(optim, name)(nets[0].parameters(), lr=0.01, **settings)
            ours.load_state_dict(state)
        x = torch.randn(5, 2, generator=rng, dtype=torch.float64)
        for net, optimizer in zip(nets, (ours, theirs), strict=True):
            optimizer.zero_grad()
            net(x).square().sum().backward()
            optimizer.step()
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("hidden", ["6", ""])
def test_the_history_of_muon_holds_the_learning_rate_that_was_given(hidden, run_main, tmp_path):
    flags = ("--model", "pytorch", "--optimizer", "muon", "--dnn_hidden_units", hidden,
             "--learning_rate", 0.02, *SHORT, "--run_dir", tmp_path / "run")  # fmt: skip
    run_main(train.main, "train.py", *flags)
    assert set(read_run(tmp_path / "run").history["learning_rate"]) == {0.02}


def test_our_optimisers_refuse_the_state_of_other_parameters():
    def trained(*hidden: int) -> optim.SGD:
        net = MLP(2, hidden, 2)
        optimizer = optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
        net(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        return optimizer

    one, two, other = trained(8), trained(8, 2), trained(9)
    for optimizer, state in ((one, two), (two, one), (one, other)):
        with pytest.raises((RuntimeError, ValueError)):
            optimizer.load_state_dict(state.state_dict())
    one.load_state_dict(optim.SGD([], lr=0.01).state_dict())  # as before the first step
    assert one.buffers == {}


# --- Early stopping -----------------------------------------------------------------------------


def trained_with(losses: Sequence[float], folder: Path, *flags: object) -> Trainer:
    """A trainer after its run, with these validation losses, one a step from step 0 on."""
    flags = ("--eval_freq", 1, "--max_steps", len(losses) - 1, "--quiet", *flags)
    args = train.parse(list(map(str, flags)))
    remaining, row = iter(losses), {}

    def evaluate(split: str, *, final: bool = False) -> tuple[float, float]:
        if final:
            return 0.5, 0.5
        if split == "train":
            row["loss"] = next(remaining)
        return (row["loss"] if split == "val" else 1.0), 0.5

    trainer = Trainer(*train.build(args), args, RunFolder(folder), evaluate=evaluate)
    trainer.fit()
    return trainer


@pytest.mark.parametrize(
    ("losses", "patience", "best_step", "steps"),
    [([3.0, 2.0, 2.5, 1.0], 1, 1, 2),
     ([3.0, 2.0, 2.5, 2.0, 1.0], 2, 1, 3),  # an equal loss is none that is lower
     ([3.0, 2.0, 2.5, 1.0, 1.5], 2, 3, 4),
     ([9.0, 5.0, 6.0, 7.0, 4.0, 8.0, 8.0, 8.0, 0.0], 3, 4, 7),  # patience bridges the hill
     ([1.0] * 50, 0, 0, 49)],
)  # fmt: skip
def test_patience_counts_evaluations_without_a_new_best(
    losses, patience, best_step, steps, tmp_path
):
    trainer = trained_with(losses, tmp_path, "--patience", patience)
    result = trainer.result
    assert (result["best_step"], result["steps"]) == (best_step, steps)
    stops_early = steps < len(losses) - 1
    assert result["stopped_by"] == ("early_stopping" if stops_early else "max_steps")
    assert trainer.history[trainer.best]["val_loss"] == min(losses[: steps + 1])


def test_early_stopping_keeps_the_best_weights_not_the_last(run_main, tmp_path):
    flags = ("--learning_rate", 3, "--n_samples", 60, "--max_epochs", 500, "--patience", 5)
    run_main(train.main, "train.py", *flags, "--run_dir", tmp_path / "run")
    run = read_run(tmp_path / "run")
    assert run.result["stopped_by"] == "early_stopping"
    losses = run.history["val_loss"]
    assert len(losses) - 1 - np.argmin(losses) == 5
    assert run.result["val_loss"] == pytest.approx(losses.min(), rel=1e-6)


# --- Resumption ---------------------------------------------------------------------------------


KINDS = {
    "numpy": ("--momentum", 0.9, *SHORT),
    "pytorch": ("--model", "pytorch", "--momentum", 0.9, "--weight_decay", 0.01, *SHORT),
    "images": IMAGES,
}


class Killed(BaseException):
    """Ends a run as kill -9 would: nothing more is written."""


def dies_at(step: int):
    """A `build` whose model is killed after it has changed its weights in that step."""

    def build(args):
        model, batches = train.build(args)
        train_step, steps = model.train_step, itertools.count(1)

        def train_step_or_die(*batch):
            train_step(*batch)
            if next(steps) == step:
                raise Killed

        model.train_step = train_step_or_die
        return model, batches

    return build


@pytest.mark.parametrize("kind", KINDS)
def test_killed_and_resumed_is_bit_for_bit_undisturbed(kind, run_main, tmp_path, tiny_cifar10):
    images = ("--data_dir", tiny_cifar10) if "cifar10" in KINDS[kind] else ()
    flags = (*KINDS[kind], *images, "--checkpoint_seconds", 0)
    run_main(train.main, "train.py", *flags, "--run_dir", tmp_path / "whole")
    broken = (*flags, "--run_dir", tmp_path / "broken", "--resume")
    for step in (1, 3, 4):  # of each attempt; the first dies before there is a checkpoint
        args = train.parse(list(map(str, broken)))
        with pytest.raises(Killed):
            run_training(args, train.SCRIPT, train.run_name, dies_at(step))
    assert run_main(train.main, "train.py", *broken)[0] == 0
    assert_same_weights(tmp_path / "whole", tmp_path / "broken")
    a, b = read_run(tmp_path / "whole"), read_run(tmp_path / "broken")
    for name in HISTORY_COLUMNS[:-1]:  # all but the seconds
        np.testing.assert_array_equal(a.history[name], b.history[name])
    assert a.result | {"seconds": 0} == b.result | {"seconds": 0}


@pytest.mark.slow
def test_a_process_that_is_killed_and_resumed_is_bit_for_bit_undisturbed(tmp_path):
    flags = ("--momentum", 0.9, "--max_epochs", 240)  # long enough to be killed twice
    command = [sys.executable, SCRIPT, *map(str, flags), "--quiet", "--checkpoint_seconds", "0.01"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run([*command, "--run_dir", whole], check=True, capture_output=True)
    kills = 0
    while not (broken / "result.json").exists():
        process = subprocess.Popen(
            [*command, "--run_dir", broken, "--resume"], stdout=subprocess.DEVNULL
        )
        if kills < 2:
            kills += _kill_after_a_checkpoint(process, broken)
        else:
            assert process.wait() == 0
    assert kills == 2
    assert_same_weights(whole, broken)


def _kill_after_a_checkpoint(process: subprocess.Popen, folder: Path) -> bool:
    """SIGKILL the process once it has written a new checkpoint; False if it ended before."""

    def written() -> float:
        return max((f.stat().st_mtime for f in folder.glob("checkpoint.*")), default=0.0)

    before = written()
    while process.poll() is None and written() == before:
        time.sleep(0.002)
    killed = process.poll() is None
    process.kill()
    process.wait()
    return killed and not (folder / "result.json").exists()


def test_ctrl_c_saves_says_how_to_go_on_and_exits_130(tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, str(SCRIPT), "--max_epochs", "100000", "--eval_freq", "1000",
               "--run_dir", str(folder), "--checkpoint_seconds", "0.2"]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    while not (folder / "checkpoint.npz").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.startswith("interrupted at step ")
    assert err.rstrip().endswith("--resume")
    assert "Traceback" not in err


def test_ctrl_c_outside_of_the_training_loop_exits_130():
    with pytest.raises(SystemExit) as ended:
        run_cli(lambda: (_ for _ in ()).throw(KeyboardInterrupt()))
    assert ended.value.code == 130


def test_resuming_an_ended_run_repeats_its_summary(run_main, tmp_path):
    flags = (*SHORT, "--run_dir", tmp_path / "run")
    _, first, _ = run_main(train.main, "train.py", *flags)
    code, second, err = run_main(train.main, "train.py", *flags, "--resume")
    assert (code, second) == (0, first)
    assert "ended already" in err


def interrupted_at(name: str, number: int, monkeypatch) -> None:
    """Send the signal at the beginning of the first call of that method of Trainer."""
    method, sent = getattr(Trainer, name), []

    def interrupt(self, *args):
        if not sent:
            sent.append(os.kill(os.getpid(), number))
        return method(self, *args)

    monkeypatch.setattr(Trainer, name, interrupt)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("rate", [0.1, 1e6])
def test_a_signal_in_the_final_evaluation_ends_all_seeds(
    number, code, rate, run_main, tmp_path, monkeypatch
):
    flags = (*SHORT, "--lr", rate, "--n_seeds", 2, "--run_dir", tmp_path)
    with monkeypatch.context() as patched:
        interrupted_at("_finish", number, patched)
        ended, out, err = run_main(train.main, "train.py", *flags)
    assert ended == code
    assert out.startswith("validation accuracy")
    assert ("diverged" in err) == (rate != 0.1)
    assert "interrupted before the next seed; resume with: python" in err
    (first,) = tmp_path.iterdir()
    assert read_run(first).result["stopped_by"] == ("max_epochs" if rate == 0.1 else "diverged")
    _, _, err = run_main(train.main, "train.py", *flags, "--resume")
    assert "ended already" in err
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("more", [(), ("--dry_run",)])
def test_an_interruption_while_the_next_seed_is_built_says_how_it_goes_on(
    more, run_main, tmp_path, monkeypatch
):
    build, calls = train.build, iter([None, KeyboardInterrupt])

    def interrupted(args):
        if error := next(calls):
            raise error
        return build(args)

    monkeypatch.setattr(train, "build", interrupted)
    flags = (*SHORT, "--n_seeds", 2, "--run_dir", tmp_path, *more)
    code, _, err = run_main(train.main, "train.py", *flags)
    assert code == 130
    if more:
        assert err == ""  # nothing was kept that could go on
    else:
        assert err.startswith("interrupted before the next seed; resume with: python")
        assert err.endswith("--resume\n")


def test_what_is_overwritten_is_not_taken_for_new_after_an_interruption(
    run_main, tmp_path, monkeypatch
):
    flags = (*SHORT, "--n_seeds", 3, "--run_dir", tmp_path)
    run_main(train.main, "train.py", *flags)
    for run in tmp_path.iterdir():
        (run / "notes.txt").touch()  # that are not the run's
        (run / "notes.pdf").touch()
    with monkeypatch.context() as patched:
        interrupted_at("_record_evaluation", signal.SIGINT, patched)
        code = run_main(train.main, "train.py", *flags, "--lr", 0.05, "--overwrite")[0]
    assert code == 130
    assert run_main(train.main, "train.py", *flags, "--lr", 0.05, "--resume")[0] == 0
    assert {read_run(run).config["learning_rate"] for run in tmp_path.iterdir()} == {0.05}
    assert len(list(tmp_path.glob("*/notes.*"))) == 6


def test_an_interruption_after_the_last_evaluation_changes_nothing_of_a_single_run(
    run_main, tmp_path, monkeypatch
):
    interrupted_at("_finish", signal.SIGINT, monkeypatch)
    code, out, err = run_main(train.main, "train.py", *SHORT, "--run_dir", tmp_path)
    assert (code, err) == (130, "")
    assert out.startswith("validation accuracy")


def test_a_run_that_diverged_is_no_success_when_it_is_resumed(run_main, tmp_path):
    flags = ("--lr", 1e6, "--max_steps", 20, "--eval_freq", 20, "--n_samples", 300)
    flags = (*flags, "--run_dir", tmp_path)
    code, _, undisturbed = run_main(train.main, "train.py", *flags)
    (tmp_path / "result.json").unlink()  # as if it was killed in the final evaluation
    assert run_main(train.main, "train.py", *flags, "--resume") == (code, ANY, undisturbed)
    assert (code, read_run(tmp_path).result["stopped_by"]) == (1, "diverged")


@pytest.mark.parametrize("broken", [False, True])
def test_a_resumption_that_is_refused_changes_nothing(broken, run_main, tmp_path):
    flags = ("--n_samples", 300, "--run_dir", tmp_path, "--max_epochs")
    run_main(train.main, "train.py", *flags, 3)
    if broken:  # and a longer run is asked for
        (tmp_path / "checkpoint.npz").write_bytes(b"no checkpoint")
    else:  # and a shorter one, of a run that was interrupted
        (tmp_path / "result.json").unlink()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    code, _, err = run_main(train.main, "train.py", *flags, 4 if broken else 2, "--resume")
    assert (code, err.count("\n")) == (2, 1)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_all_folders_are_free_before_the_first_seed_is_trained(run_main, tmp_path):
    def train_seeds(n: int, first: int, *more: object) -> tuple[int, str, str]:
        flags = ("--n_seeds", n, "--seed", first, "--run_dir", tmp_path, *more)
        return run_main(train.main, "train.py", *SHORT, *flags)

    name = "mlp_numpy_moons_original_seed{}"
    run_main(train.main, "train.py", *SHORT, "--seed", 4, "--run_dir", tmp_path / name.format(4))
    code, _, err = train_seeds(3, 2)
    assert (code, err.count("\n")) == (2, 1)
    assert f"{name.format(4)} holds a run; give --resume or --overwrite" in err
    code, _, err = train_seeds(3, 2, "--resume", "--momentum", 0.5)
    assert (code, err.count("\n")) == (2, 1)
    assert f"--momentum: {tmp_path / name.format(4)} holds a run with 0.0" in err
    assert [path.name for path in tmp_path.iterdir()] == [name.format(4)]
    assert train_seeds(2, 2)[0] == 0


def test_a_finished_run_with_a_constant_rate_can_be_made_longer(run_main, tmp_path):
    flags = ("--n_samples", 300, "--momentum", 0.9, "--eval_freq", "epoch")
    for folder, epochs in (("whole", 7), ("parts", 3)):
        run_main(train.main, "train.py", *flags, "--max_epochs", epochs,
                 "--run_dir", tmp_path / folder)  # fmt: skip
    code, _, err = run_main(train.main, "train.py", *flags, "--max_epochs", 7, "--resume",
                            "--run_dir", tmp_path / "parts")  # fmt: skip
    assert (code, err) == (0, "")
    assert_same_weights(tmp_path / "whole", tmp_path / "parts")
    assert read_run(tmp_path / "parts").result["epochs"] == 7
    flags = ("--max_epochs", 9, "--resume", "--run_dir", tmp_path / "parts")
    code, _, err = run_main(train.main, "train.py", "--schedule", "cosine", *flags)
    assert code == 2  # its rate depends on the length


def test_a_run_that_is_made_longer_has_no_result_until_it_ends(run_main, tmp_path, monkeypatch):
    flags = ("--n_samples", 300, "--run_dir", tmp_path, "--max_epochs")
    run_main(train.main, "train.py", *flags, 3)
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "fit", lambda self: (_ for _ in ()).throw(Interrupted()))
        assert run_main(train.main, "train.py", *flags, 5, "--resume")[0] == 130
    assert not (tmp_path / "result.json").exists()
    code, _, err = run_main(plot.main, "plot.py", tmp_path)
    assert (code, "result.json is missing" in err) == (2, True)
    run_main(train.main, "train.py", *flags, 5, "--resume")
    assert read_run(tmp_path).result["epochs"] == 5


def test_a_run_that_has_ended_stays_as_it_is_when_fewer_steps_are_asked_for(run_main, tmp_path):
    flags = ("--n_samples", 300, "--run_dir", tmp_path, "--max_epochs")
    run_main(train.main, "train.py", *flags, 3)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for epochs in (2, 3):
        code, _, err = run_main(train.main, "train.py", *flags, epochs, "--resume")
        assert (code, "ended already" in err) == (0, True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_run_that_is_cut_off_where_it_was_interrupted_is_evaluated_there(
    run_main, tmp_path, monkeypatch
):
    flags = ("--n_samples", 300, "--eval_freq", 1000, "--run_dir", tmp_path, "--max_steps")
    step, done = NumpyModel.train_step, []

    def interrupted_step(self, *batch):
        step(self, *batch)
        done.append(batch)
        if len(done) == 10:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(NumpyModel, "train_step", interrupted_step)
        assert run_main(train.main, "train.py", *flags, 1000)[0] == 130
    assert run_main(train.main, "train.py", *flags, 10, "--resume")[0] == 0
    run = read_run(tmp_path)
    assert run.history["step"].tolist() == [0, 10]
    assert (run.result["steps"], run.result["best_step"]) == (10, 10)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ({"velocity": None}, "velocity missing"),
        ({"velocity": np.zeros(3)}, "velocity of another size"),
        ({"velocity": np.float64(0)}, "velocity that is one number"),
        ({"velocity": np.array("text")}, "velocity in words"),
        ({"weights": np.zeros(3)}, "best weights of another size"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_refused(broken, why, run_main, tmp_path):
    flags = ("--n_samples", 300, "--momentum", 0.9, "--run_dir", tmp_path, "--max_epochs")
    run_main(train.main, "train.py", *flags, 2)
    path = tmp_path / "checkpoint.npz"
    state = load_checkpoint(path)
    if "velocity" in broken:
        state["model"] |= broken
        state["model"] = {k: v for k, v in state["model"].items() if v is not None}
    else:
        state["best"] = dict.fromkeys(state["best"], broken["weights"])
    save_checkpoint(path, state)
    code, _, err = run_main(train.main, "train.py", *flags, 3, "--resume")
    assert (code, err.count("\n")) == (2, 1), why
    assert "not a checkpoint of this run" in err


def test_a_run_cannot_end_before_the_steps_that_it_has_done(run_main, tmp_path):
    flags = ("--n_samples", 300, "--run_dir", tmp_path, "--max_steps")
    run_main(train.main, "train.py", *flags, 10)
    (tmp_path / "result.json").unlink()  # as of a run that was interrupted
    code, _, err = run_main(train.main, "train.py", *flags, 9, "--resume")
    assert (code, "--max_steps: the run has done 10 steps already" in err) == (2, True)
    assert run_main(train.main, "train.py", *flags, 10, "--resume")[0] == 0
    assert read_run(tmp_path).result["steps"] == 10


@pytest.mark.parametrize("model", ["numpy", "pytorch"])
def test_several_seeds_are_runs_of_their_own(model, run_main, tmp_path):
    flags = ("--model", model, *SHORT)
    code, out, _ = run_main(train.main, "train.py", *flags, "--seed", 3, "--n_seeds", 2,
                            "--run_dir", tmp_path)  # fmt: skip
    assert (code, out.count("\n")) == (0, 2)
    for seed in (3, 4):
        alone, together = (
            tmp_path / f"alone{seed}",
            tmp_path / f"mlp_{model}_moons_original_seed{seed}",
        )
        run_main(train.main, "train.py", *flags, "--seed", seed, "--run_dir", alone)
        assert_same_weights(alone, together)
        assert json.loads((together / "config.json").read_text())["seed"] == seed


def test_batches_go_on_from_any_step():
    x = np.arange(50).reshape(50, 1)
    batches = ArrayBatches(x, x[:, 0], 16, seed=3)
    for step in (0, 2, 5):
        epoch, first = batches.position(step)
        assert step == batches.steps_in(epoch) + first
        expected = list(batches.epoch(epoch))[first:]
        for (a, _), (b, _) in zip(batches.epoch(epoch, first), expected, strict=True):
            np.testing.assert_array_equal(a, b)


# --- Divergence, files, schedules ---------------------------------------------------------------


@pytest.mark.parametrize("model", ["numpy", "pytorch"])
def test_divergence_is_said_and_keeps_finite_weights(model, run_main, tmp_path):
    flags = ("--model", model, "--learning_rate", 1e6, "--run_dir", tmp_path / "run")
    code, out, err = run_main(train.main, "train.py", *flags)
    assert code == 1
    assert re.fullmatch(r"diverged: .* at step \d+; a lower --learning_rate may help\n", err)
    assert "stopped by diverged" in out
    assert all(np.isfinite(value).all() for value in final_weights(tmp_path / "run").values())
    rarely = ("--eval_freq", 10**6, "--max_steps", 1000, "--overwrite")
    _, _, err = run_main(train.main, "train.py", *flags, *rarely)
    assert "no longer a finite number at step 100;" in err


@pytest.mark.parametrize("model", ["numpy", "pytorch"])
def test_a_single_weight_that_is_not_finite_is_noticed(model):
    trained, _ = train.build(train.parse(["--model", model, "--n_samples", "100"]))
    whole = trained.weights()
    assert trained.is_finite()
    for name in whole:
        for bad in (np.nan, np.inf):
            changed = copy.deepcopy(whole)
            changed[name][..., 0] = bad
            trained.load_weights(changed)
            assert not trained.is_finite(), name


def test_a_failed_write_leaves_the_old_file_and_no_scraps(tmp_path, monkeypatch):
    write_atomically(tmp_path / "file", "old")
    monkeypatch.setattr("training.runs.os.fsync", lambda _: (_ for _ in ()).throw(OSError(28)))
    with pytest.raises(OSError, match="28"):
        write_atomically(tmp_path / "file", "new")
    assert [f.name for f in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


class _Harmful:
    def __reduce__(self):
        return os.system, ("exit 1",)


@pytest.mark.parametrize("ending", ["npz", "pt"])
def test_checkpoints_come_back_and_foreign_ones_are_refused(ending, tmp_path):
    path = tmp_path / f"checkpoint.{ending}"
    leaf = np.arange(3.0) if ending == "npz" else torch.arange(3.0)
    save_checkpoint(path, {"net": {"w": leaf}, "progress": "{}"})
    state = load_checkpoint(path)
    np.testing.assert_array_equal(np.asarray(state["net"]["w"]), [0, 1, 2])
    assert state["progress"] == "{}"
    for content in (pickle.dumps(_Harmful()), b"", path.read_bytes()[:100]):
        path.write_bytes(content)
        with pytest.raises(UsageError, match="broken or foreign checkpoint"):
            load_checkpoint(path)
    if ending == "pt":
        torch.save({"harmful": _Harmful()}, path)
        with pytest.raises(UsageError, match="more than tensors and plain values"):
            load_checkpoint(path)
        torch.save([leaf], path)
        with pytest.raises(UsageError, match="not a state"):
            load_checkpoint(path)


def test_schedules_start_end_and_peak_where_they_should():
    rates = {s: [learning_rate_at(i, 100, 0.5, s) for i in range(100)]
             for s in ("constant", "cosine", "one_cycle")}  # fmt: skip
    assert set(rates["constant"]) == {0.5}
    assert rates["cosine"][0] == 0.5
    assert rates["cosine"][50] == pytest.approx(0.25)
    assert np.argmax(rates["one_cycle"]) in (9, 10)
    assert max(rates["one_cycle"]) == pytest.approx(0.5)
    assert rates["one_cycle"][0] < 0.1
    assert max(rates["cosine"][-1], rates["one_cycle"][-1]) < 0.001
    assert (np.diff(rates["cosine"]) < 0).all()


# --- What a run records of itself -----------------------------------------------------------------


@pytest.mark.parametrize("model", ["numpy", "pytorch"])
def test_config_names_script_and_environment(model, run_main, tmp_path):
    run_main(train.main, "train.py", "--model", model, *SHORT, "--run_dir", tmp_path / "run")
    config = read_run(tmp_path / "run").config
    assert config["script"] == "part1_mlp/train.py"
    assert config["device"] == "cpu"  # what `auto` was resolved to
    environment = config["environment"]
    assert environment["numpy"] == np.__version__
    assert (environment["device"], environment["precision"]) == ("cpu", "float32")
    if model == "pytorch":
        assert environment["torch"] == torch.__version__
        assert environment["threads"] == 1  # the net is tiny


def test_the_environment_names_the_gpu_of_the_process(monkeypatch):
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: f"a GPU, {device.index}")
    monkeypatch.setenv("LOCAL_RANK", "3")
    for device, gpu in (("cuda", "a GPU, 3"), ("cuda:1", "a GPU, 1"), ("cpu", None)):
        assert environment(argparse.Namespace(device=device))["gpu"] == gpu


def test_a_toy_run_in_numpy_does_not_load_pytorch_or_matplotlib(tmp_path):
    code = (
        "import sys; sys.argv = ['train.py', '--max_epochs', '1', '--run_dir', sys.argv[1]]\n"
        "from part1_mlp import train\n"
        "assert train.main() == 0\n"
        "assert not {'torch', 'matplotlib', 'PIL', 'torchvision'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)


def test_a_missing_key_of_a_config_is_named(run_main, tmp_path):
    run_main(train.main, "train.py", *SHORT, "--run_dir", tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    del config["n_samples"]
    path.write_text(json.dumps(config))
    code, _, err = run_main(plot.main, "plot.py", tmp_path / "run")
    assert (code, err.count("\n")) == (2, 1)
    assert str(path) in err
    assert "'n_samples'" in err


def test_records_of_earlier_versions_are_read(run_main, tmp_path):
    flags = (*SHORT, "--run_dir", tmp_path / "run")
    run_main(train.main, "train.py", *flags)
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    for key in ("script", "environment"):
        del config[key]
    path.write_text(json.dumps(config))
    assert read_run(tmp_path / "run").config["recipe"] == "original"
    assert run_main(train.main, "train.py", *flags, "--resume")[0] == 0


def test_another_device_than_the_one_used_is_refused(run_main, tmp_path):
    flags = ("--model", "pytorch", *SHORT, "--run_dir", tmp_path / "run")
    run_main(train.main, "train.py", *flags)
    path = tmp_path / "run" / "config.json"
    path.write_text(path.read_text().replace('"device": "cpu"', '"device": "cuda"'))
    code, _, err = run_main(train.main, "train.py", *flags, "--resume")
    assert (code, err.count("\n")) == (2, 1)
    assert "--device" in err


def test_overwriting_removes_the_figures_of_the_earlier_run(run_main, tmp_path):
    flags = (*SHORT, "--run_dir", tmp_path / "run")
    run_main(train.main, "train.py", *flags)
    run_main(plot.main, "plot.py", tmp_path / "run")
    for name in ("boundary.gif", "boundary_2.gif"):
        (tmp_path / "run" / name).touch()
    assert (tmp_path / "run" / "curves.png").exists()
    run_main(train.main, "train.py", *flags, "--overwrite")
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == [
        "checkpoint.npz", "config.json", "history.csv", "result.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "rows",
    ["", "0,0,1,1,1,1,1,1,0.1,1", "0,0\n", "0,0,1,1,1,1,1,1,0.1,x\n", "0,0,1,1,1,1,1,1,,1,1\n",
     "1,0,1,1,1,1,1,1,0.1,1\n1,0,1,1,1,1,1,1,0.1,1\n", ",0,1,1,1,1,1,1,0.1,1\n",
     "1,0,1,1,1,1,1,1,0.1,1\n\n2,0,1,1,1,1,1,1,0.1,1\n", "\n1,0,1,1,1,1,1,1,0.1,1\n"],
)  # fmt: skip
def test_broken_histories_are_refused_by_name(rows, tmp_path):
    path = tmp_path / "history.csv"
    path.write_text(",".join(HISTORY_COLUMNS) + "\n" + rows)
    with pytest.raises(UsageError, match=r"history\.csv is broken"):
        read_history(path)


def test_what_is_no_file_is_written_to_and_stays_what_it_is(tmp_path):
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(tmp_path / "target")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    for i, write in enumerate((write_atomically, write_whole)):
        write(pipe, "a text")
        assert os.read(reader, 99) == b"a text"
        assert pipe.is_fifo()
        write(link, f"text {i}")
        assert link.is_symlink()
        assert (tmp_path / "target").read_text() == f"text {i}"
    os.close(reader)
    write_atomically(tmp_path / "file", "\udcff")  # a byte of a name that is no UTF-8
    assert (tmp_path / "file").read_bytes() == rb"\udcff"


@pytest.mark.parametrize(
    ("name", "value"),
    [("test_accuracy", None), ("best_step", None), ("seconds", "1"), ("stopped_by", 1),
     ("val_loss", "x"), ("val_accuracy", None)],
)  # fmt: skip
def test_broken_results_are_refused_by_name(name, value, run_main, tmp_path):
    run_main(train.main, "train.py", *SHORT, "--run_dir", tmp_path / "run")
    path = tmp_path / "run" / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"test_loss": None}))
    assert read_run(tmp_path / "run").result["test_loss"] is None  # of a run that diverged
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(UsageError, match=rf"result\.json is broken: {name} is missing or of the"):
        read_run(tmp_path / "run")


def test_a_broken_environment_is_refused(run_main, tmp_path):
    flags = (*SHORT, "--run_dir", tmp_path / "run")
    run_main(train.main, "train.py", *flags)
    path = tmp_path / "run" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"environment": "abc"}))
    code, _, err = run_main(train.main, "train.py", *flags, "--resume")
    assert (code, err.count("\n")) == (2, 1)
    assert "config.json is broken: environment" in err


def test_a_home_folder_is_that_of_a_user_alone():
    assert parse_folder("~") == Path.home()
    assert parse_folder("./~") == Path("~")
    assert parse_folder("~nosuchuser/x") == Path("~nosuchuser/x")


def test_memory_that_cannot_be_had_is_one_line(run_main, tmp_path):
    code, _, err = run_main(
        train.main, "train.py", "--model", "pytorch", "--dnn_hidden_units", "9000000,9000000",
        "--run_dir", tmp_path / "run",
    )  # fmt: skip
    assert (code, err.count("\n")) == (1, 1)
    assert "out of memory" in err
    assert not (tmp_path / "run").exists()

    def fail() -> int:
        raise MemoryError  # Python's own says nothing

    assert run_main(fail, "train.py")[::2] == (1, "train.py: error: out of memory (MemoryError)\n")

    def fail_otherwise() -> int:
        raise RuntimeError("some elements refer to a single memory location")

    with pytest.raises(RuntimeError):  # a mistake in the code, whose traceback helps
        run_main(fail_otherwise, "train.py")


# --- Shells and notebooks -------------------------------------------------------------------------


def run_python(*arguments: str, **settings) -> subprocess.CompletedProcess:
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, **settings
    )


@pytest.mark.parametrize(
    ("flag", "before", "now"),
    [("cutout", 0, 8), ("forget_bias", None, 1.0), ("neg_slope", NEG_SLOPE, 0.3),
     ("validation", "held_out", "test")],
)  # fmt: skip
def test_a_run_from_before_a_flag_is_not_resumed_with_it(flag, before, now, tmp_path):
    earlier = {"schedule": "one_cycle", "seed": 0, "script": train.SCRIPT}
    check_same_run(earlier, earlier | {flag: before}, tmp_path)
    with pytest.raises(UsageError, match=f"--{flag}: .* holds a run with"):
        check_same_run(earlier, earlier | {flag: now}, tmp_path)


def test_a_resumption_with_other_threads_is_told(run_main, tmp_path):
    flags = ("--model", "pytorch", *SHORT, "--run_dir", tmp_path / "run")
    run_main(train.main, "train.py", *flags)
    path = tmp_path / "run" / "config.json"
    path.write_text(path.read_text().replace('"threads": 1', '"threads": 64'))
    (tmp_path / "run" / "result.json").unlink()
    code, _, err = run_main(train.main, "train.py", *flags, "--resume")
    assert (code, err.count("\n")) == (0, 1)
    assert "threads 64, now 1" in err


@pytest.mark.parametrize("script", ["part1_mlp/train.py", "part1_mlp/plot.py"])
def test_help_without_docstrings(script):
    assert run_python("-OO", script, "--help").returncode == 0


def test_a_thread_may_train(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "sys.argv", ["train.py", *map(str, SHORT), "--run_dir", str(tmp_path / "r")]
    )
    thread = threading.Thread(target=train.main)
    thread.start()
    thread.join()
    assert read_run(tmp_path / "r").result["stopped_by"] == "max_epochs"


def test_a_name_that_the_terminal_cannot_show_is_escaped(tmp_path):
    folder = tmp_path / "\N{GREEK SMALL LETTER ALPHA}"
    flags = ("--n_samples", "100", "--max_epochs", "1", "--run_dir", str(folder))
    done = run_python("part1_mlp/train.py", *flags, env=os.environ | {"PYTHONIOENCODING": "cp1252"})
    assert done.returncode == 0
    assert r"\u03b1" in done.stdout
    assert (folder / "result.json").exists()


@pytest.mark.parametrize(
    ("jobs", "given", "threads"),
    [(1, {}, None), (2, {}, "4"), (3, {}, "2"), (20, {}, "1"), (3, {"OMP_NUM_THREADS": "7"}, "7")],
)
def test_runs_side_by_side_share_the_cores(jobs, given, threads, monkeypatch, tmp_path):
    script, seen = tmp_path / "train.py", tmp_path / "seen.json"
    script.write_text(
        "import json, os, sys\n"
        f"json.dump([sys.argv[1:], dict(os.environ)], open({str(seen)!r}, 'w'))"
    )
    monkeypatch.setattr("training.cli.n_cores", lambda: 8)
    monkeypatch.setattr(os, "environ", given)
    train_in_process([str(script), "--seed", "3"], tmp_path, jobs=jobs, name="a run")
    flags, variables = json.loads(seen.read_text())
    assert variables.get("OMP_NUM_THREADS") == threads
    assert (CORES_ARE_SHARED in variables) == (jobs > 1 and not given)
    assert SIGNALS_ARE_FORWARDED in variables
    assert flags == ["--seed", "3", "--quiet", "--resume", "--run_dir", str(tmp_path)]


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [("sys.exit('wrong\\nflag')", ChildProcessError, "exit code 1: flag"),
     ("print('no'); sys.exit(2)", UsageError, "exit code 2: "),
     ("os.kill(os.getpid(), 9)", ChildProcessError, "ended by signal 9; if memory ran out: ")],
)  # fmt: skip
def test_a_run_in_a_process_that_fails_is_told_of(code, error, message, tmp_path):
    command = ["-c", f"import os, sys; {code}"]
    with pytest.raises(error, match=f"^a run: {message}"):
        train_in_process(command, tmp_path, jobs=1, name="a run")


def test_a_run_that_is_started_while_a_signal_comes_gets_it(tmp_path, monkeypatch):
    monkeypatch.setattr("training.cli.STOPPED_BY", [signal.SIGTERM])
    command = ["-c", "import time; time.sleep(60)"]
    with pytest.raises(ChildProcessError, match="ended by signal 15"):
        train_in_process(command, tmp_path, jobs=1, name="a run")


def test_sigterm_is_passed_on_to_runs_in_processes(tmp_path, capsys):
    ended, before = tmp_path / "ended", signal.getsignal(signal.SIGTERM)
    command = ["-c", f"import time; print(time.sleep(60), file=open({str(ended)!r}, 'w'))"]

    def interrupt() -> None:
        for _ in range(3000):
            time.sleep(0.01)
            if TRAINING:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    train = partial(train_in_process, command, tmp_path, jobs=1, name="a run")
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(Interrupted) as caught, interruptible():
        list(side_by_side(train, [(), ()], 1))
    assert caught.value.exit_code == 128 + signal.SIGTERM
    assert not STOPPED_BY
    assert not ended.exists()
    assert not TRAINING
    assert signal.getsignal(signal.SIGTERM) is before
    assert capsys.readouterr().err == "interrupted; the same command goes on where it was\n"


@pytest.mark.parametrize("jobs", [1, 2])
def test_after_a_failure_no_other_run_is_begun(jobs):
    begun, both = [], threading.Barrier(jobs)

    def run(number: int) -> int:
        begun.append(number)
        both.wait(10)  # so many run side by side
        if number == 2:
            raise UsageError("the second fails")
        time.sleep(0.2)  # until the other one has failed
        return number

    with pytest.raises(UsageError, match="the second fails"):
        list(side_by_side(run, [(number,) for number in range(1, 99)], jobs))
    assert sorted(begun) == [1, 2]
    assert sorted(side_by_side(lambda x: x, [(5,), (6,)], jobs)) == [5, 6]


def test_memory_that_runs_out_is_no_broken_checkpoint(run_main, tmp_path, monkeypatch):
    flags = ("--n_samples", 100, "--run_dir", tmp_path, "--max_epochs")
    run_main(train.main, "train.py", *flags, 1)

    def load(*args: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr("part1_mlp.mlp_numpy.NumpyModel.load_state_dict", load)
    code, _, err = run_main(train.main, "train.py", *flags, 2, "--resume")
    assert (code, err.count("\n"), "out of memory (CUDA" in err) == (1, 1, True)


def test_a_file_that_cannot_be_read_is_not_called_missing(tmp_path):
    (tmp_path / "result.json").mkdir()
    with pytest.raises(UsageError, match=r"cannot be read \(Is a directory\)"):
        read_json(tmp_path / "result.json")
    with pytest.raises(UsageError, match="is missing"):
        read_json(tmp_path / "other.json")


def test_a_run_from_before_a_flag_is_resumed_with_its_old_meaning_alone(run_main, tmp_path):
    flags = ("--n_samples", 100, "--run_dir", tmp_path, "--max_epochs")
    run_main(train.main, "train.py", *flags, 1)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    del config["validation"]
    path.write_text(json.dumps(config))
    more = (*flags, 2, "--resume")
    code, _, err = run_main(train.main, "train.py", *more, "--validation", "test")
    assert (code, "--validation: " in err) == (2, True)
    assert run_main(train.main, "train.py", *more)[0] == 0


def test_a_scheduler_that_sets_world_size_is_no_torchrun(tmp_path):
    flags = ("--n_samples", "100", "--max_epochs", "1", "--run_dir", str(tmp_path / "run"))
    variables = os.environ | {"WORLD_SIZE": "2", "RANK": "1"}
    done = run_python("part1_mlp/train.py", *flags, env=variables)
    assert done.returncode == 0
    assert "validation accuracy" in done.stdout


@pytest.mark.parametrize("script", ["part1_mlp/train.py", "part3_rnn/train.py"])
@pytest.mark.parametrize("rank", ["0", "1"])
def test_torchrun_is_refused_where_processes_cannot_share_the_training(script, rank, tmp_path):
    variables = {"WORLD_SIZE": "2", "LOCAL_RANK": rank, "TORCHELASTIC_RUN_ID": "x"}
    flags = (script, "--run_dir", str(tmp_path / "run"))
    done = run_python(*flags, env=os.environ | variables)
    assert done.returncode == 2
    assert ("torchrun: several processes" in done.stderr) == (rank == "0")
    assert not (tmp_path / "run").exists()


def test_cores_are_those_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 5, 7}, raising=False)
    assert n_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert n_cores() == 6


def test_a_notebooks_backend_and_matplotlibrc_change_no_byte(run_main, tmp_path):
    run_main(train.main, "train.py", *SHORT, "--run_dir", tmp_path / "run")
    pictures = []
    (tmp_path / "matplotlibrc").write_text("font.size: 20\naxes.facecolor: red\n")
    for variables in (
        {},
        {"MPLBACKEND": "module://no_such_notebook.backend"},
        {"MATPLOTLIBRC": str(tmp_path)},
    ):
        done = run_python("part1_mlp/plot.py", str(tmp_path / "run"), env=os.environ | variables)
        assert (done.returncode, done.stderr) == (0, "")
        pictures.append((tmp_path / "run" / "curves.png").read_bytes())
    assert pictures[0] == pictures[1] == pictures[2]


def test_curves_of_runs_show_their_histories_and_mark_the_kept_weights(run_main, tmp_path):
    folders = [tmp_path / "slow", tmp_path / "fast"]
    for folder, rate in zip(folders, (0.01, 0.1), strict=True):
        flags = ("--seed", 3, "--learning_rate", rate, "--run_dir", folder)
        run_main(train.main, "train.py", *SHORT, *flags)
    runs = [read_run(folder) for folder in folders]
    with style():
        loss, accuracy = draw_curves(runs).axes
    for axes, quantity in ((loss, "loss"), (accuracy, "accuracy")):
        lines = iter(axes.lines)
        for run in runs:
            for split in ("train", "test"):
                x, y = next(lines).get_data()
                assert x.tolist() == run.history["epoch"].tolist()
                assert y.tolist() == run.history[f"{split}_{quantity}"].tolist()
            at = np.argmin(run.history["val_loss"])
            expected = [run.history[name][at] for name in ("epoch", f"test_{quantity}")]
            assert np.ravel(next(lines).get_data()).tolist() == expected
        assert next(lines, None) is None
        assert len({line.get_color() for line in axes.lines}) == 2
        assert axes.get_ylabel() == quantity
    assert loss.get_ylim()[0] == 0
    names = legend_of(accuracy)
    assert names == ["slow train", "slow test", "fast train", "fast test"]
    run_main(train.main, "train.py", *SHORT, "--seed", 4, "--run_dir", tmp_path / "other")
    with style():
        _, accuracy = draw_curves([runs[0], read_run(tmp_path / "other")]).axes
    names = legend_of(accuracy)
    assert names == ["seed 3 train", "seed 3 test", "seed 4 train", "seed 4 test"]
    same = [dataclasses.replace(runs[0], path=tmp_path / where / "run") for where in "ab"]
    with style():
        _, accuracy = draw_curves(same).axes
    labels = legend_of(accuracy)
    assert labels[::2] == [f"{run.path} train" for run in same]
    odd = [dataclasses.replace(run, path=Path(name)) for name in ("_a", "b_{$") for run in runs[:1]]
    with style():
        figure = draw_curves(odd)
        save_figure(figure, tmp_path / "odd")
    names = legend_of(figure.axes[1])
    assert names == [" _a train", " _a test", r"b_{\$ train", r"b_{\$ test"]


def test_lines_have_the_width_of_the_committed_figures():
    with style():
        (line,) = new_figure(1, 1)[1][0, 0].plot([0, 1])
    assert line.get_linewidth() == 1.4


def test_importing_a_plot_module_leaves_the_backend_alone():
    code = (
        "import matplotlib; matplotlib.use('svg'); from part1_mlp import plot; "
        "assert matplotlib.get_backend().lower() == 'svg'; "
        "assert 'matplotlib.pyplot' not in __import__('sys').modules"
    )
    assert run_python("-c", code).returncode == 0


def test_a_folder_that_was_refused_is_free_for_the_next_run(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    refused, next_one = RunFolder(tmp_path), RunFolder(tmp_path)
    with pytest.raises(UsageError):
        refused.open(resume=False, overwrite=False)
    next_one.open(resume=True, overwrite=False)
    next_one.close()


@pytest.mark.parametrize(
    ("flags", "steps", "stopped_by"),
    [(("--max_epochs", 5, "--max_steps", 3), 3, "max_steps"),
     (("--max_epochs", 1, "--max_steps", 99), 2, "max_epochs")],
)  # fmt: skip
def test_whichever_length_is_reached_first_ends_the_run(
    flags, steps, stopped_by, run_main, tmp_path
):
    flags = (*flags, "--n_samples", 100, "--batch_size", 30)
    run_main(train.main, "train.py", *flags, "--run_dir", tmp_path / "run")
    result = read_run(tmp_path / "run").result
    assert (result["steps"], result["stopped_by"]) == (steps, stopped_by)


def test_a_download_that_goes_on_is_no_file_of_a_run(run_main, tmp_path):
    download = tmp_path / "film.mkv.part"
    download.touch()
    code, _, err = run_main(train.main, "train.py", *SHORT, "--run_dir", tmp_path)
    assert (code, "holds other files" in err, download.exists()) == (2, True, True)


def test_a_folder_that_a_file_manager_has_opened_is_empty(run_main, tmp_path):
    left = tmp_path / ".DS_Store"
    left.touch()
    assert run_main(train.main, "train.py", *SHORT, "--run_dir", tmp_path)[0] == 0
    assert left.exists()


def test_a_drive_that_does_not_exist_is_told(monkeypatch):
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    with pytest.raises(UsageError, match="--run_dir: nowhere/x cannot be written"):
        RunFolder(Path("nowhere/x")).check(resume=False, overwrite=False)


def test_the_run_of_another_script_is_named(run_main, tmp_path):
    flags = ("--train_steps", 1, "--eval_freq", 1, "--run_dir", tmp_path)
    assert run_main(rnn_train.main, "train.py", *flags)[0] == 0
    code, _, err = run_main(train.main, "train.py", *SHORT, "--run_dir", tmp_path, "--resume")
    assert (code, err) == (
        2, f"train.py: error: --run_dir: {tmp_path} holds a run of part3_rnn/train.py\n"
    )  # fmt: skip


def test_the_command_that_resumes_is_one_of_the_shell(monkeypatch):
    monkeypatch.setattr(sys, "argv", [r"part1_mlp\train.py", "--run_dir", "my run", "--overwrite"])
    assert resume_command(SINGLE_PROCESS) == (
        r"python 'part1_mlp\train.py' --run_dir 'my run' --resume"
    )
    monkeypatch.setattr(sys, "platform", "win32")
    assert resume_command(SINGLE_PROCESS) == (
        r'python part1_mlp\train.py --run_dir "my run" --resume'
    )


def test_the_command_that_resumes_names_the_processes_of_one_machine(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--resume"])
    group = ProcessGroup()
    group.size = 4
    monkeypatch.setenv("WORLD_SIZE", "4")
    for on_this, launcher in (("4", "--standalone --nproc_per_node=4"), ("2", "...")):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", on_this)
        assert resume_command(group) == f"torchrun {launcher} train.py --resume"


def test_a_process_resumes_if_torchrun_has_counted_a_restart_elsewhere(
    run_main, tmp_path, monkeypatch
):
    class Group(ProcessGroup):
        def any(self, condition: object) -> bool:
            return True

    def build(args: argparse.Namespace) -> None:
        raise UsageError(f"resume is {args.resume}")

    folder = tmp_path / "run"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "an earlier one")
    assert run_main(train.main, "train.py", *SHORT, "--run_dir", folder)[0] == 0
    args = train.parse([*map(str, SHORT), "--overwrite", "--run_dir", str(folder), "--quiet"])
    for group, name, resumes in (
        (Group(), "an earlier one", True),
        (ProcessGroup(), "an earlier one", False),
        (Group(), "another", False),  # which was refused there, or is to overwrite it
    ):
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", name)
        with pytest.raises(UsageError, match=f"resume is {resumes}"):
            run_training(args, train.SCRIPT, train.run_name, build, group)


@pytest.mark.parametrize(("error", "told"), [(MemoryError(), True), (UsageError("x"), False)])
def test_a_failure_of_any_process_is_told_wrong_input_once(error, told, run_main, monkeypatch):
    def fail() -> int:
        raise error

    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert bool(run_main(fail, "train.py")[2]) == told


def test_a_folder_is_refused_before_any_data_are_loaded(run_main, tmp_path, monkeypatch):
    run_main(train.main, "train.py", *SHORT, "--run_dir", tmp_path)
    monkeypatch.setattr(train, "load_dataset", lambda *args, **options: 1 / 0)
    code, _, err = run_main(train.main, "train.py", *SHORT, "--run_dir", tmp_path)
    assert code == 2
    assert "--overwrite" in err
