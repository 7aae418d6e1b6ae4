"""Part 3: palindromes, the vanilla RNN and its gradients, initialisation, training, plots."""

import os
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

from data.palindromes import PalindromeBatches, draw_palindromes, half_length
from part3_rnn import plot, train
from part3_rnn.analysis import first_digit_shares, gradient_norms, trajectories
from part3_rnn.model import GatedRNN, VanillaRNN
from part3_rnn.recurrence import LastState
from part3_rnn.trained import load_net
from training.checkpoint import load_checkpoint
from training.record import read_run
from training.torch_learner import TorchLearner, make_optimizer

SHORT = ("--train_steps", 40, "--eval_freq", 20, "--num_hidden", 32, "--quiet")


@pytest.fixture(autouse=True)
def few_evaluated(monkeypatch):
    """Fewer palindromes to evaluate on, so that runs are short."""
    monkeypatch.setattr(train, "EVALUATED", {"train": 200, "val": 500, "test": 500})


def naive_logits(net: VanillaRNN, x: torch.Tensor) -> torch.Tensor:
    """The formula, digit by digit and sequence by sequence, without any function of ours."""
    logits = []
    for sequence in x.tolist():
        h = torch.zeros(net.W_hh.shape[0], dtype=net.W_hh.dtype)
        for digit in sequence:
            one_hot = torch.zeros(net.input_dim, dtype=h.dtype)
            if net.input_dim == 1:
                one_hot[0] = digit
            else:
                one_hot[digit] = 1
            h = torch.tanh(one_hot @ net.W_xh + h @ net.W_hh + net.b_h)
        logits.append(h @ net.W_hy + net.b_y)
    return torch.stack(logits)


def gradients(loss: torch.Tensor, net: nn.Module) -> list[torch.Tensor]:
    return torch.autograd.grad(
        loss, list(net.parameters()), allow_unused=True, materialize_grads=True
    )


def vanilla(length: int, input_dim: int = 10, hidden: int = 7, **kwargs) -> VanillaRNN:
    torch.manual_seed(1)
    net = VanillaRNN(length, input_dim, hidden, 10, **kwargs).double()
    for bias in (net.b_h, net.b_y):
        nn.init.normal_(bias)
    return net


# --- Palindromes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 10, 11, 50])
def test_they_are_palindromes_without_their_last_digit(length):
    x, y = draw_palindromes(200, length, 0)
    assert (x.shape, y.shape) == ((200, length), (200,))
    whole = torch.cat([x, y[:, None]], 1)
    assert torch.equal(whole, whole.flip(1))
    assert ((whole >= 0) & (whole <= 9)).all()
    assert len(whole.unique()) == 10


@pytest.mark.parametrize("length", [2, 3, 4])
def test_every_palindrome_is_as_likely(length):
    batches = PalindromeBatches(length, 500, 3)
    x = torch.cat([x for x, _ in batches.epoch(0)][:200])
    half = half_length(length)
    assert half == -(-(length + 1) // 2)
    numbers = (x[:, :half] * 10 ** torch.arange(half)).sum(1).numpy()
    counts = np.bincount(numbers, minlength=10**half)
    assert len(counts) == 10**half
    assert stats.chisquare(counts).pvalue > 1e-3


def test_held_out_palindromes_are_kept_out_where_there_are_many():
    def seen(length, n):
        held_out, _ = draw_palindromes(n, length, 1)
        batches = PalindromeBatches(length, 1000, 0, held_out=held_out)
        trained = torch.cat([x for x, _ in batches.epoch(0)][:300])
        known = {tuple(row) for row in held_out.tolist()}
        return sum(tuple(row) in known for row in trained.tolist())

    assert seen(10, 5000) == 0  # of a million, 1,500 would come by chance
    assert seen(11, 5000) == 0
    assert seen(5, 500) > 0  # of a thousand: all are seen


def test_batches_are_a_function_of_the_step():
    batches = PalindromeBatches(7, 300, 5)
    whole = list(batches.epoch(1))
    rest = list(batches.epoch(1, 990))
    assert len(whole) == batches.steps_in(1)
    assert len(rest) == 10
    for (x, y), (same_x, same_y) in zip(whole[990:], rest, strict=True):
        assert torch.equal(x, same_x)
        assert torch.equal(y, same_y)
    assert batches.position(1990) == (1, 990)
    assert not torch.equal(whole[0][0], next(PalindromeBatches(7, 300, 6).epoch(1))[0])
    assert not torch.equal(whole[0][0], next(batches.epoch(0))[0])


# --- The net --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "input_dim"), [(1, 10), (2, 10), (9, 10), (5, 1)])
def test_forward_and_gradients_equal_the_naive_loop(length, input_dim):
    net = vanilla(length, input_dim)
    x, y = draw_palindromes(6, length, 0)
    expected = naive_logits(net, x)
    wanted = gradients(F.cross_entropy(expected, y), net)
    as_floats = F.one_hot(x, 10).double() if input_dim == 10 else x.unsqueeze(2).double()
    for given in (x, as_floats):
        logits = net(given)
        torch.testing.assert_close(logits, expected, rtol=1e-12, atol=1e-12)
        for got, want in zip(gradients(F.cross_entropy(logits, y), net), wanted, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("stacked", [(), (2,)])
def test_gradients_by_hand_pass_the_numerical_check(stacked):
    torch.manual_seed(0)
    digits = torch.randint(0, 4, (*stacked, 5, 3))
    shapes = ((*stacked, 4, 6), (*stacked, 6, 6), (*stacked, 6))
    weights = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]
    assert torch.autograd.gradcheck(partial(LastState.apply, digits), weights)
    one_hot = F.one_hot(digits, 4).double()
    assert torch.autograd.gradcheck(partial(LastState.apply, one_hot), weights)
    torch.testing.assert_close(
        LastState.apply(digits, *weights), LastState.apply(one_hot, *weights)
    )


def test_it_equals_pytorchs_own_rnn():
    net = vanilla(8, hidden=6)
    theirs = nn.RNN(10, 6, batch_first=True).double()
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(net.W_xh.T)
        theirs.weight_hh_l0.copy_(net.W_hh.T)
        theirs.bias_ih_l0.copy_(net.b_h)
        theirs.bias_hh_l0.zero_()
    x, y = draw_palindromes(5, 8, 0)
    one_hot = F.one_hot(x, 10).double()
    states, _ = theirs(one_hot)
    expected = states[:, -1] @ net.W_hy.detach() + net.b_y.detach()
    torch.testing.assert_close(net(one_hot), expected, rtol=1e-12, atol=1e-12)
    F.cross_entropy(expected, y).backward()
    F.cross_entropy(net(one_hot), y).backward()
    for ours, other in (
        (net.W_xh.grad, theirs.weight_ih_l0.grad.T),
        (net.W_hh.grad, theirs.weight_hh_l0.grad.T),
        (net.b_h.grad, theirs.bias_ih_l0.grad),
    ):
        torch.testing.assert_close(ours, other, rtol=1e-9, atol=1e-12)


def test_it_holds_no_rnn_of_pytorch_and_has_the_parameters_of_the_report():
    net = VanillaRNN(5, 10, 128, 10)
    shapes = {name: tuple(p.shape) for name, p in net.named_parameters()}
    assert shapes == {"W_xh": (10, 128), "W_hh": (128, 128), "W_hy": (128, 10), "b_h": (128,),
                      "b_y": (10,)}  # fmt: skip
    assert not any(isinstance(module, nn.RNNBase) for module in net.modules())
    assert not net.b_h.any()
    assert not net.b_y.any()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_gated_nets_take_digits_as_they_take_one_hot_rows(cell):
    net = GatedRNN(cell, 10, 8, 10)
    x, _ = draw_palindromes(4, 6, 0)
    assert torch.equal(net(x), net(F.one_hot(x, 10).float()))
    assert net(x).shape == (4, 10)


# --- Initialisation -------------------------------------------------------------------------------


def test_initial_weights_have_their_scale():
    torch.manual_seed(0)
    for scale in (0.5, 2.0):
        kwargs = {"init_scale": scale, "input_scale": 0.3}
        normal = VanillaRNN(5, 10, 400, 10, init="normal", **kwargs)
        assert normal.W_hh.std().item() == pytest.approx(scale / 20, rel=0.02)
        assert normal.W_hh.mean().item() == pytest.approx(0, abs=scale / 20 / 100)
        assert normal.W_xh.std().item() == pytest.approx(0.3, rel=0.05)
        assert normal.W_hy.std().item() == pytest.approx(1 / 20, rel=0.05)
        rotation = VanillaRNN(5, 10, 50, 10, init="orthogonal", **kwargs).W_hh.detach()
        torch.testing.assert_close(rotation @ rotation.T, scale**2 * torch.eye(50))
        identity = VanillaRNN(5, 10, 50, 10, init="identity", **kwargs).W_hh.detach()
        assert torch.equal(identity, scale * torch.eye(50))
    with pytest.raises(ValueError, match="unknown initialisation"):
        VanillaRNN(5, 10, 8, 10, init="zeros")


# --- Training -------------------------------------------------------------------------------------


def test_clipping_limits_the_step_and_keeps_its_direction():
    x, y = draw_palindromes(32, 5, 0)
    steps = {}
    for max_norm in (0.0, 0.01, 1e6):
        torch.manual_seed(0)
        net = VanillaRNN(5, 10, 16, 10)
        before = nn.utils.parameters_to_vector(net.parameters()).detach().clone()
        optimizer = make_optimizer("sgd", net.parameters(), learning_rate=1.0)
        TorchLearner(net, optimizer, {}, max_norm=max_norm).train_step(x, y)
        steps[max_norm] = nn.utils.parameters_to_vector(net.parameters()).detach() - before
    assert steps[0.01].norm().item() == pytest.approx(0.01, rel=1e-3)
    assert steps[0.0].norm() > 0.02
    torch.testing.assert_close(steps[0.0], steps[1e6])
    cosine = F.cosine_similarity(steps[0.0], steps[0.01], dim=0)
    assert cosine.item() == pytest.approx(1, abs=1e-5)


def test_five_digits_are_learnt_in_a_short_run(run_main, tmp_path):
    flags = ("--input_length", 5, "--train_steps", 200, "--run_dir", tmp_path / "run", "--quiet")
    code, _, err = run_main(train.main, "train.py", *flags)
    assert (code, err) == (0, "")
    run = read_run(tmp_path / "run")
    assert run.result["test_accuracy"] >= 0.99
    assert run.result["stopped_by"] == "train_steps"
    assert run.result["steps"] == 200
    config = {"recipe": "report", "optimizer": "rmsprop", "max_norm": 10.0, "batch_size": 128}
    assert run.config.items() >= config.items()
    assert np.isfinite(run.history["train_accuracy"]).all()


def test_a_net_of_latches_remembers_for_fifty_steps(run_main, tmp_path):
    flags = ("--recipe", "best", "--input_length", 50, "--train_steps", 150, "--quiet")
    run_main(train.main, "train.py", *flags, "--run_dir", tmp_path / "run")
    assert read_run(tmp_path / "run").result["test_accuracy"] >= 0.99


@pytest.mark.parametrize("flags", [("--cell", "lstm"), ("--cell", "gru"), ("--input_dim", 1),
                                   ("--init", "orthogonal"), ("--max_norm", 0)])  # fmt: skip
def test_every_kind_of_net_runs(flags, run_main, tmp_path):
    code, _, err = run_main(train.main, "train.py", *SHORT, *flags, "--run_dir", tmp_path / "run")
    assert (code, err) == (0, "")


def interrupted_at(monkeypatch, cls, step_at: int) -> None:
    """Send this process a SIGTERM in the train step of that number."""
    original, steps = cls.train_step, iter(range(10**6))

    def train_step(self, *batch):
        original(self, *batch)
        if next(steps) == step_at:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(cls, "train_step", train_step)


def weights(folder: Path) -> dict:
    return load_checkpoint(folder / "checkpoint.pt")["best"]


def assert_equal_runs(a: Path, b: Path) -> None:
    assert all(torch.equal(value, weights(b)[name]) for name, value in weights(a).items())
    np.testing.assert_array_equal(read_run(a).history["val_loss"], read_run(b).history["val_loss"])


def test_resuming_changes_no_bit(run_main, tmp_path, monkeypatch):
    run_main(train.main, "train.py", *SHORT, "--run_dir", tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupted_at(patch, TorchLearner, 25)
        code, _, _ = run_main(train.main, "train.py", *SHORT, "--run_dir", tmp_path / "parts")
    assert code == 128 + signal.SIGTERM
    run_main(train.main, "train.py", *SHORT, "--run_dir", tmp_path / "parts", "--resume")
    assert_equal_runs(tmp_path / "whole", tmp_path / "parts")


# --- Several seeds at once ------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_seeds_trained_together_are_those_trained_alone(optimizer, run_main, tmp_path):
    flags = (*SHORT, "--input_length", 12, "--optimizer", optimizer, "--max_norm", 0.5)
    code, out, err = run_main(train.main, "train.py", *flags, "--n_seeds", 3, "--seed", 4,
                              "--run_dir", tmp_path)  # fmt: skip
    assert (code, err) == (0, "")
    assert out.count("test accuracy") == 3
    for seed in (4, 5, 6):
        run_main(train.main, "train.py", *flags, "--seed", seed, "--run_dir", tmp_path / "alone",
                 "--overwrite")  # fmt: skip
        together, alone = (
            read_run(tmp_path / f"rnn_T12_report_seed{seed}"),
            read_run(tmp_path / "alone"),
        )
        assert together.config | {"run_dir": None} == alone.config | {
            "run_dir": None,
            "overwrite": False,
        }
        np.testing.assert_allclose(
            together.history["val_loss"], alone.history["val_loss"], rtol=1e-4
        )


def test_seeds_trained_together_resume_to_the_same_bit(run_main, tmp_path, monkeypatch):
    from training.together import Stack

    flags = (*SHORT, "--n_seeds", 3)
    run_main(train.main, "train.py", *flags, "--run_dir", tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupted_at(patch, Stack, 25)
        code, _, err = run_main(train.main, "train.py", *flags, "--run_dir", tmp_path / "parts")
    assert code == 128 + signal.SIGTERM
    assert "interrupted at step 26" in err
    code, _, _ = run_main(
        train.main, "train.py", *flags, "--run_dir", tmp_path / "parts", "--resume"
    )
    assert code == 0
    for folder in (tmp_path / "whole").iterdir():
        assert_equal_runs(folder, tmp_path / "parts" / folder.name)


def test_a_seed_that_reaches_the_target_stops_alone(run_main, tmp_path, monkeypatch):
    evaluate = TorchLearner.evaluate
    calls = iter(range(10**6))

    def lucky(self, split, *, final=False):
        loss, accuracy = evaluate(self, split, final=final)
        return loss, 0.9 if split == "val" and next(calls) == 2 else min(accuracy, 0.8)

    monkeypatch.setattr(TorchLearner, "evaluate", lucky)
    flags = (*SHORT, "--n_seeds", 2, "--target_accuracy", 0.9, "--run_dir", tmp_path)
    assert run_main(train.main, "train.py", *flags)[0] == 0
    first, second = (read_run(tmp_path / f"rnn_T5_report_seed{seed}").result for seed in (0, 1))
    assert (first["stopped_by"], first["steps"]) == ("target_accuracy", 20)
    assert (second["stopped_by"], second["steps"]) == ("train_steps", 40)


def test_gated_nets_are_trained_one_after_another(run_main, tmp_path):
    flags = (*SHORT, "--cell", "gru", "--n_seeds", 2, "--run_dir", tmp_path)
    assert run_main(train.main, "train.py", *flags)[0] == 0
    results = [read_run(tmp_path / f"rnn_gru_T5_report_seed{seed}").result for seed in (0, 1)]
    assert results[0]["test_loss"] != results[1]["test_loss"]


def test_a_seed_that_diverges_stops_alone(run_main, tmp_path, monkeypatch):
    flags = (*SHORT, "--n_seeds", 2, "--run_dir", tmp_path)
    evaluate = TorchLearner.evaluate
    calls = iter(range(10**6))

    def broken(self, split, *, final=False):
        loss, accuracy = evaluate(self, split, final=final)
        return (float("nan") if not final and next(calls) >= 9 else loss), accuracy

    monkeypatch.setattr(TorchLearner, "evaluate", broken)
    code, out, err = run_main(train.main, "train.py", *flags)
    assert code == 1
    assert "diverged" in err
    assert "stopped by diverged" in out


# --- Inside ---------------------------------------------------------------------------------------


def test_gradient_norms_are_those_of_finite_differences():
    net = vanilla(4)
    x, y = draw_palindromes(1, 4, 0)
    (norm, *_) = gradient_norms(net, x, y)

    def loss_from(h: torch.Tensor) -> torch.Tensor:
        for inputs in net.inputs(x)[1:]:
            h = torch.tanh(inputs + h @ net.W_hh)
        return F.cross_entropy(h @ net.W_hy + net.b_y, y)

    with torch.no_grad():
        first = torch.tanh(net.inputs(x)[0])
        eps = 1e-6 * torch.eye(first.shape[1], dtype=first.dtype)
        slopes = [(loss_from(first + e) - loss_from(first - e)) / 2e-6 for e in eps]
    assert norm == pytest.approx(torch.stack(slopes).norm().item(), rel=1e-5)


def test_first_digit_shares_tell_memory_from_none():
    net = vanilla(4, hidden=16)
    x, y = draw_palindromes(400, 4, 0)
    shares = first_digit_shares(net, x, y)
    assert shares.shape == (4,)
    assert shares[0] == pytest.approx(1.0), "h_1 depends on nothing but the first digit"
    assert shares[0] > shares[1] > shares[-1]
    foreign = first_digit_shares(net, x, y[torch.randperm(400)])
    assert foreign.max() < 0.05, "labels at random explain nothing"


def test_trajectories_are_the_states_seen_from_their_widest_side():
    net = vanilla(6, hidden=2)
    x, _ = draw_palindromes(10, 6, 0)
    points, shown = trajectories(net, x)
    assert points.shape == (10, 6, 2)
    assert shown == pytest.approx(1.0)  # of two units, two components show all


def test_plot_draws_every_picture(run_main, tmp_path):
    folders = []
    for length in (3, 6):
        folders.append(tmp_path / str(length))
        flags = (*SHORT, "--input_length", length, "--run_dir", folders[-1])
        run_main(train.main, "train.py", *flags)
    code, _, err = run_main(plot.main, "plot.py", *folders, "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    names = {"curves", "lengths", "gradients", "trajectories"}
    assert {file.stem for file in (tmp_path / "out").iterdir()} == names
    run = read_run(folders[0])
    x, y = draw_palindromes(500, 3, train.EVALUATION_SEEDS["test"])
    accuracy = (load_net(run)(x).argmax(1) == y).double().mean().item()
    assert accuracy == pytest.approx(run.result["test_accuracy"])


# --- Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        *((("--input_length", value), "--input_length") for value in ("0", "-1", "x", "1.5")),
        *((("--train_steps", value), "--train_steps") for value in ("0", "x")),
        *((("--max_norm", value), "--max_norm") for value in ("-1", "nan")),
        *((("--init_scale", value), "--init_scale") for value in ("-1", "inf")),
        (("--input_dim", "3"), "--input_dim"),
        (("--num_classes", "9"), "--num_classes"),
        (("--num_hidden", "0"), "--num_hidden"),
        (("--init", "zeros"), "--init"),
        (("--cell", "transformer"), "--cell"),
        (("--cell", "lstm", "--init", "normal"), "--init is for --cell rnn"),
        (("--dry_run", "--n_seeds", "2"), "--n_seeds"),
        (("--target_accuracy", "0"), "--target_accuracy"),
        (("--batch_size", "full"), "--batch_size"),
        (("--max_epochs", "3"), "--max_epochs"),
        (("--optimizer", "muon"), "--optimizer"),
        (("--resume", "--overwrite"), "--resume"),
        (("--resume", "--overwrite", "--n_seeds", "2"), "--resume"),
    ],
)
def test_flags_that_are_refused(flags, words, run_main, tmp_path):
    code, out, err = run_main(train.main, "train.py", *flags, "--run_dir", tmp_path / "run")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1, err
    assert words in err
    assert not (tmp_path / "run").exists()
