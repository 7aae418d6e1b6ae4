"""Part 3: the vanilla RNN and its gradients, initialisation, training, analysis, plots."""

import copy
import os
import signal
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from data.palindromes import draw_palindromes
from part3_rnn import plot, train
from part3_rnn.model import GatedRNN, LastState, VanillaRNN, initial_net, net_from_config
from part3_rnn.plot import correlation_ratio, gradient_norms, trajectories
from training.cli import ROOT
from training.flags import OPTIMIZERS
from training.runs import FIGURES, RunRecord, load_best, load_checkpoint, read_run
from training.torch_model import TorchModel

EVALUATED = train.EVALUATED
SHORT = ("--train_steps", 40, "--eval_freq", 20, "--num_hidden", 32, "--quiet")


@pytest.fixture(autouse=True)
def few_evaluated(monkeypatch):
    """Fewer palindromes to evaluate on, so that runs are short."""
    monkeypatch.setattr(train, "EVALUATED", {"train": 200, "val": 500, "test": 500})


def parse(*flags: object):
    return train.parse([str(flag) for flag in flags])


def vanilla(length: int, input_dim: int = 10, hidden: int = 7) -> VanillaRNN:
    """A net in float64 whose biases are not zero."""
    torch.manual_seed(1)
    net = VanillaRNN(length, input_dim, hidden, 10).double()
    for bias in (net.b_h, net.b_y):
        nn.init.normal_(bias)
    return net


def formula(net: VanillaRNN, x: torch.Tensor) -> torch.Tensor:
    """Logits of sequences (N, T, input_dim), each computed alone, step by step, by autograd."""
    logits = []
    for sequence in x:
        h = torch.zeros(len(net.W_hh), dtype=x.dtype)
        for x_t in sequence:
            h = torch.tanh(x_t @ net.W_xh + h @ net.W_hh + net.b_h)
        logits.append(h @ net.W_hy + net.b_y)
    return torch.stack(logits)


def gradients(logits: torch.Tensor, y: torch.Tensor, net: nn.Module) -> list[torch.Tensor]:
    return torch.autograd.grad(
        F.cross_entropy(logits, y), list(net.parameters()), materialize_grads=True
    )


# --- The nets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", ["digits", "one-hot", "numbers", "digits as numbers"])
@pytest.mark.parametrize("length", [1, 2, 9])
def test_logits_and_gradients_are_those_of_the_formula(length, inputs):
    x, y = draw_palindromes(6, length, 0)
    if inputs == "numbers":
        floats = x = torch.randn(6, length, 3, dtype=torch.float64)
    elif inputs == "digits as numbers":
        floats = x.unsqueeze(2).double()
    else:
        floats = F.one_hot(x, 10).double()
        x = floats if inputs == "one-hot" else x
    net = vanilla(length, floats.shape[2])
    expected = formula(net, floats)
    logits = net(x)
    torch.testing.assert_close(logits, expected, rtol=1e-12, atol=1e-12)
    for ours, autograd in zip(gradients(logits, y, net), gradients(expected, y, net), strict=True):
        torch.testing.assert_close(ours, autograd, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("one_hot", [True, False])
def test_gradients_by_hand_are_central_differences(one_hot):
    torch.manual_seed(0)
    x = torch.randint(0, 4, (5, 3))
    x = F.one_hot(x, 4).double() if one_hot else x
    weights = [
        torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((4, 6), (6, 6), 6)
    ]
    assert torch.autograd.gradcheck(partial(LastState.apply, x), weights)


def test_a_second_derivative_is_refused():
    net = vanilla(3)
    loss = F.cross_entropy(net(draw_palindromes(2, 3, 0)[0]), torch.tensor([0, 1]))
    (first,) = torch.autograd.grad(loss, net.W_hh, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.square().sum().backward()


def test_it_equals_pytorchs_rnn_with_the_same_weights():
    net = vanilla(8, hidden=6)
    theirs = nn.RNN(10, 6, batch_first=True).double()
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(net.W_xh.T)
        theirs.weight_hh_l0.copy_(net.W_hh.T)
        theirs.bias_ih_l0.copy_(net.b_h)
        theirs.bias_hh_l0.zero_()
    x, y = draw_palindromes(5, 8, 0)
    states, _ = theirs(F.one_hot(x, 10).double())
    expected = states[:, -1] @ net.W_hy.detach() + net.b_y.detach()
    torch.testing.assert_close(net(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(torch.stack(net.hidden_states(x), 1), states, rtol=1e-12, atol=1e-12)
    F.cross_entropy(expected, y).backward()
    F.cross_entropy(net(x), y).backward()
    for ours, other in (
        (net.W_xh.grad, theirs.weight_ih_l0.grad.T),
        (net.W_hh.grad, theirs.weight_hh_l0.grad.T),
        (net.b_h.grad, theirs.bias_ih_l0.grad),
    ):
        torch.testing.assert_close(ours, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("input_dim", [1, 10])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_gated_nets_classify_by_the_last_state(cell, input_dim):
    net = GatedRNN(cell, input_dim, 8, 10)
    assert type(net.cell) is {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
    x, _ = draw_palindromes(4, 6, 0)
    floats = (F.one_hot(x, 10) if input_dim == 10 else x.unsqueeze(2)).float()
    _, last = net.cell(floats.transpose(0, 1))
    expected = net.linear((last[0] if cell == "lstm" else last)[0])
    torch.testing.assert_close(net(x), expected)
    torch.testing.assert_close(net(floats), expected)


def test_it_holds_no_rnn_of_pytorch_and_has_the_parameters_of_the_original():
    net = net_from_config(vars(parse()))
    shapes = {name: tuple(p.shape) for name, p in net.named_parameters()}
    assert shapes == {"W_xh": (10, 128), "W_hh": (128, 128), "W_hy": (128, 10), "b_h": (128,),
                      "b_y": (10,)}  # fmt: skip
    assert not any(isinstance(module, nn.RNNBase) for module in net.modules())


# --- Initialisation -------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_initial_weights_have_their_scale(scale):
    def initial(init: str, hidden: int) -> VanillaRNN:
        return initial_net(vars(parse("--init", init, "--init_scale", scale, "--input_scale", 0.3,
                                      "--num_hidden", hidden)))  # fmt: skip

    normal = initial("normal", 400)
    assert normal.W_hh.std().item() == pytest.approx(scale / 20, rel=0.02)
    assert normal.W_hh.mean().item() == pytest.approx(0, abs=scale / 20 / 100)
    for net in (normal, initial("orthogonal", 400), initial("identity", 400)):
        assert net.W_xh.std().item() == pytest.approx(0.3, rel=0.05)
        assert net.W_hy.std().item() == pytest.approx(1 / 20, rel=0.05)
        assert not net.b_h.any()
        assert not net.b_y.any()
    rotation = initial("orthogonal", 50).W_hh.detach()
    torch.testing.assert_close(rotation @ rotation.T, scale**2 * torch.eye(50))
    assert (rotation - scale * torch.eye(50)).abs().max() > 0.1 * scale
    assert torch.equal(initial("identity", 50).W_hh, scale * torch.eye(50))
    with pytest.raises(ValueError, match="unknown initialisation"):
        VanillaRNN(5, 10, 8, 10, init="zeros")
    by_default = VanillaRNN(5, 100, 400, 10)  # as the formula is taught: scale 1 of both
    assert by_default.W_hh.std().item() == pytest.approx(1 / 20, rel=0.02)
    assert by_default.W_xh.std().item() == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("bias", [0.0, 2.5])
def test_forget_bias_is_that_of_the_forget_gate_and_changes_no_other_weight(bias):
    flags = ("--cell", "lstm", "--num_hidden", 16, "--seed", 3)
    args = vars(parse(*flags))
    plain, net = initial_net(args), initial_net(vars(parse(*flags, "--forget_bias", bias)))
    expected, ours = plain.state_dict(), net.state_dict()
    earlier = {name: value for name, value in args.items() if name != "forget_bias"}
    assert all(torch.equal(w, expected[n]) for n, w in initial_net(earlier).state_dict().items())
    expected["cell.bias_ih_l0"][16:32] = bias  # PyTorch's order: input, forget, cell, output
    expected["cell.bias_hh_l0"][16:32] = 0
    assert all(torch.equal(weight, expected[name]) for name, weight in ours.items())
    # With inputs of 0, a step keeps sigmoid(bias) of the cell's state.
    x, h = torch.zeros(1, 1, 10), torch.zeros(1, 1, 16)
    kept, none = (net.cell(x, (h, c))[1][1] for c in (torch.ones_like(h), h))
    torch.testing.assert_close(kept - none, torch.tensor(bias).sigmoid().expand_as(h))


@pytest.mark.parametrize("cell", ["rnn", "gru"])
def test_training_starts_from_the_initial_net(cell):
    args = parse("--cell", cell, "--num_hidden", 16, "--seed", 3)
    started, initial = (
        net.state_dict() for net in (train.build(args)[0].net, initial_net(vars(args)))
    )
    other = initial_net(vars(args) | {"seed": 4}).state_dict()
    for name, value in initial.items():
        assert torch.equal(value, started[name])
        assert not value.any() or not torch.equal(value, other[name])


# --- One step -------------------------------------------------------------------------------------


def one_step(*flags: object) -> tuple[nn.Module, nn.Module, torch.Tensor, torch.Tensor]:
    """The net before and after a step, and the batch of that step."""
    model, batches = train.build(parse("--num_hidden", 16, *flags))
    before = copy.deepcopy(model.net)
    x, y = next(batches.epoch(0))
    model.train_step(x, y)
    return before, model.net, x, y


@pytest.mark.parametrize("share", [0.0, 0.25, 4.0])
def test_gradients_are_clipped_by_their_global_norm(share):
    """The step of plain SGD at rate 1 is the gradient; the limit is a share of its norm."""
    flags = ("--optimizer", "sgd", "--learning_rate", 1, "--max_norm")
    before, _, x, y = one_step(*flags, 0)
    gradient = torch.cat([g.flatten() for g in gradients(before(x), y, before)])
    before, after, *_ = one_step(*flags, share * gradient.norm().item())
    step = nn.utils.parameters_to_vector(before.parameters()) - nn.utils.parameters_to_vector(
        after.parameters()
    )
    factor = 0.25 if share == 0.25 else 1
    torch.testing.assert_close(step, factor * gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_three_steps_are_those_of_pytorchs_optimiser(optimizer):
    """Rate, momentum, weight decay and clipping reach it."""
    momentum = {"momentum": 0.5} if optimizer in ("sgd", "rmsprop") else {}
    flags = [item for name, value in momentum.items() for item in (f"--{name}", value)]
    args = parse("--optimizer", optimizer, "--learning_rate", 0.02, "--weight_decay", 0.3,
                 "--max_norm", 0.1, "--num_hidden", 16, *flags)  # fmt: skip
    model, batches = train.build(args)
    net = copy.deepcopy(model.net)
    names = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop"}
    theirs = getattr(torch.optim, names[optimizer])(
        net.parameters(), lr=0.02, weight_decay=0.3, **momentum
    )
    for x, y in islice(batches.epoch(0), 3):
        model.train_step(x, y)
        theirs.zero_grad()
        F.cross_entropy(net(x), y).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        theirs.step()
    for ours, other in zip(model.net.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-3, atol=1e-5)


# --- Runs -----------------------------------------------------------------------------------------


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "checkpoint.pt")["best"]


def assert_equal_runs(a: Path, b: Path) -> None:
    assert weights(a).keys() == weights(b).keys()
    assert all(torch.equal(value, weights(b)[name]) for name, value in weights(a).items())
    first, second = read_run(a), read_run(b)
    for name in first.history.keys() - {"seconds"}:
        np.testing.assert_array_equal(first.history[name], second.history[name], err_msg=name)
    assert first.result | {"seconds": 0} == second.result | {"seconds": 0}


def test_five_digits_are_learnt_in_a_short_run(run_main, tmp_path):
    flags = ("--input_length", 5, "--train_steps", 200, "--run_dir", tmp_path / "run", "--quiet")
    code, out, err = run_main(train.main, "train.py", *flags)
    assert (code, err, out.count("\n")) == (0, "", 1)
    run = read_run(tmp_path / "run")
    assert run.result["test_accuracy"] >= 0.99
    assert (run.result["stopped_by"], run.result["steps"]) == ("train_steps", 200)
    config = {"script": "part3_rnn/train.py", "recipe": "original", "optimizer": "rmsprop",
              "max_norm": 10.0, "batch_size": 128}  # fmt: skip
    assert run.config.items() >= config.items()
    assert run.config["device"] != "auto"


def test_bistable_units_remember_for_fifty_steps(run_main, tmp_path):
    flags = ("--recipe", "best", "--input_length", 50, "--train_steps", 150, "--num_hidden", 32,
             "--quiet")  # fmt: skip
    for init in ("identity", "normal"):
        run_main(train.main, "train.py", *flags, "--init", init, "--run_dir", tmp_path / init)
    assert read_run(tmp_path / "identity").result["test_accuracy"] >= 0.95
    assert read_run(tmp_path / "normal").result["test_accuracy"] <= 0.3


@pytest.mark.parametrize("flags", [("--cell", "lstm"), ("--input_dim", 1), ("--input_length", 1)])
def test_every_kind_of_net_lowers_the_loss(flags, run_main, tmp_path):
    folder = tmp_path / "run"
    code, _, err = run_main(train.main, "train.py", *SHORT, *flags, "--run_dir", folder)
    assert (code, err) == (0, "")
    assert np.diff(read_run(folder).history["val_loss"][[0, -1]]) < 0


def test_folders_are_named_after_the_run():
    assert train.run_name(parse()) == "rnn_T5_original_seed0"
    named = parse("--cell", "lstm", "--input_length", 9, "--recipe", "best", "--seed", 2)
    assert train.run_name(named) == "rnn_lstm_T9_best_seed2"


def test_a_dry_run_leaves_nothing(run_main, tmp_path):
    code, out, err = run_main(
        train.main, "train.py", "--dry_run", "--n_seeds", 2, "--run_dir", tmp_path / "run"
    )
    assert (code, err, out.count("dry run")) == (0, "", 2)
    assert not list(tmp_path.iterdir())


def test_nothing_is_chosen_on_the_test_set(run_main, tmp_path, monkeypatch):
    """Where the test loss rises in place of falling, the same weights are kept."""
    splits = train.build(parse())[0].splits
    assert not torch.equal(splits["val"][0], splits["test"][0])
    assert not torch.equal(splits["train"][0], splits["val"][0][:200])
    run_main(train.main, "train.py", *SHORT, "--run_dir", tmp_path / "falls")
    evaluate = TorchModel.evaluate

    def reversed_on_test(self, split, *, final=False):
        loss, accuracy = evaluate(self, split, final=final)
        return (9 - loss, 1 - accuracy) if split == "test" else (loss, accuracy)

    monkeypatch.setattr(TorchModel, "evaluate", reversed_on_test)
    run_main(train.main, "train.py", *SHORT, "--run_dir", tmp_path / "rises")
    falls, rises = (read_run(tmp_path / name) for name in ("falls", "rises"))
    assert np.diff(falls.history["test_loss"]).max() < 0 < np.diff(rises.history["test_loss"]).min()
    assert falls.result["best_step"] == rises.result["best_step"] == 40
    for name, value in weights(falls.path).items():
        assert torch.equal(value, weights(rises.path)[name])


def test_the_weights_of_the_lowest_validation_loss_are_kept(run_main, tmp_path):
    """A rate that is far too high: the net gets worse."""
    folder = tmp_path / "run"
    run_main(train.main, "train.py", *SHORT, "--learning_rate", 0.5, "--run_dir", folder)
    run = read_run(folder)
    best = run.history["val_loss"].argmin()
    assert run.result["best_step"] == run.history["step"][best] < 40
    net = net_from_config(run.config)
    load_best(net, run)
    x, y = draw_palindromes(500, 5, train.EVALUATION_SEEDS["test"])
    accuracy = (net(x).argmax(1) == y).double().mean().item()
    assert accuracy == run.result["test_accuracy"]
    assert accuracy == pytest.approx(run.history["test_accuracy"][best])
    assert F.cross_entropy(net(x), y).item() == pytest.approx(run.result["test_loss"], rel=1e-5)


# --- Resuming, and several seeds ------------------------------------------------------------------


def stop_after(monkeypatch, n_steps: int) -> None:
    """Send this process a SIGTERM in the train step of that number."""
    train_step, steps = TorchModel.train_step, iter(range(1, 10**6))

    def stopping_step(self, *batch):
        train_step(self, *batch)
        if next(steps) == n_steps:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(TorchModel, "train_step", stopping_step)


@pytest.mark.parametrize(
    "flags",
    [("--recipe", "best", "--momentum", 0.5), ("--cell", "gru", "--optimizer", "adamw")],
)
def test_resuming_changes_no_bit(flags, run_main, tmp_path, monkeypatch):
    """The first seed has ended when the second is stopped, 12 steps into its 40."""
    command = (train.main, "train.py", *SHORT, *flags, "--n_seeds", 2, "--run_dir")
    run_main(*command, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 52)
        code, out, err = run_main(*command, tmp_path / "parts")
    assert (code, out.count("validation accuracy")) == (128 + signal.SIGTERM, 1)
    assert "interrupted at step 12; resume with:" in err
    code, out, _ = run_main(*command, tmp_path / "parts", "--resume")
    assert (code, out.count("validation accuracy")) == (0, 2)
    names = {folder.name for folder in (tmp_path / "whole").iterdir()}
    assert len(names) == 2
    for name in names:
        assert_equal_runs(tmp_path / "whole" / name, tmp_path / "parts" / name)


@pytest.mark.parametrize(
    ("optimizer", "rate", "seed", "target"),
    [("rmsprop", 0.001, 4, 0.66), ("adamw", 0.003, 6, 0.55)],  # seeds 4 and 7 reach it in 20 steps
)
def test_seeds_of_one_command_are_those_trained_alone(
    optimizer, rate, seed, target, run_main, tmp_path
):
    """One of them reaches the target and ends early, which changes nothing for the other."""
    flags = (*SHORT, "--input_length", 3, "--optimizer", optimizer, "--learning_rate", rate,
             "--max_norm", 0.5, "--schedule", "cosine", "--target_accuracy", target)  # fmt: skip
    command = (train.main, "train.py", *flags, "--seed")
    code, out, err = run_main(*command, seed, "--n_seeds", 2, "--run_dir", tmp_path / "both")
    assert (code, err, out.count("validation accuracy")) == (0, "", 2)
    steps = []
    for each in (seed, seed + 1):
        both, alone = tmp_path / "both" / f"rnn_T3_original_seed{each}", tmp_path / str(each)
        run_main(*command, each, "--run_dir", alone)
        assert_equal_runs(both, alone)
        configs = [read_run(folder).config | {"run_dir": None} for folder in (both, alone)]
        assert configs[0] == configs[1]
        steps.append(read_run(both).result["steps"])
    assert sorted(steps) == [20, 40]


# --- Analysis -------------------------------------------------------------------------------------


def test_gradient_norms_are_those_of_central_differences():
    net = vanilla(4)
    x, y = draw_palindromes(3, 4, 0)

    def losses(h: torch.Tensor, t: int) -> torch.Tensor:
        """The loss of each sequence as a function of h_t, t from 0."""
        for digits in x.T[t + 1 :]:
            h = torch.tanh(net.W_xh[digits] + net.b_h + h @ net.W_hh)
        return F.cross_entropy(h @ net.W_hy + net.b_y, y, reduction="none")

    with torch.no_grad():
        expected = []
        for t, state in enumerate(net.hidden_states(x)):
            steps = 1e-6 * torch.eye(7, dtype=torch.float64)
            slopes = [(losses(state + e, t) - losses(state - e, t)) / 2e-6 for e in steps]
            expected.append((torch.stack(slopes).square().sum() / 3).sqrt().item())
    np.testing.assert_allclose(gradient_norms(net, x, y), expected, rtol=1e-5)


def test_correlation_ratio_is_the_explained_share_of_the_variance():
    net = vanilla(4, hidden=16)
    x, y = draw_palindromes(400, 4, 0)
    ratios = correlation_ratio(net, x, y)
    assert ratios[0] == pytest.approx(1.0), "h_1 depends on nothing but the first digit"
    state = net.hidden_states(x)[1].detach().numpy()
    group_means = np.stack([state[(y == digit).numpy()].mean(0) for digit in y])
    eta_squared = group_means.var(0).sum() / state.var(0).sum()
    assert ratios[1] == pytest.approx(1 - (1 - eta_squared) * 399 / 390)
    assert 0.05 < ratios[1] < 0.95
    generator = torch.Generator().manual_seed(0)
    at_random = [
        correlation_ratio(net, x, y[torch.randperm(400, generator=generator)])[-1]
        for _ in range(20)
    ]
    assert np.mean(at_random) < 0.01, "labels at random explain nothing"


def test_trajectories_are_the_states_in_their_principal_plane():
    net = vanilla(6, hidden=2)
    x, _ = draw_palindromes(10, 6, 0)
    points, share = trajectories(net, x)
    assert share == pytest.approx(1.0)  # of two units, two components show all
    states = torch.stack(net.hidden_states(x), 1).detach().numpy()
    distances = [np.linalg.norm(a[:, :1] - a[:, 1:], axis=2) for a in (points, states)]
    np.testing.assert_allclose(*distances)
    variances = points.reshape(-1, 2).var(0)
    assert variances[0] > variances[1]
    assert trajectories(vanilla(6, hidden=16), x)[1] < 0.9
    still = vanilla(6)
    for weights in still.parameters():
        nn.init.zeros_(weights)
    assert trajectories(still, x)[1] == 1


def test_nets_that_differ_have_lines_of_their_own():
    def run(length: int, seed: int, accuracy: float, **flags: object) -> RunRecord:
        config = {"cell": "rnn", "recipe": "best", "input_length": length, "seed": seed,
                  "run_dir": f"{length}_{seed}", "num_hidden": 8}  # fmt: skip
        return RunRecord(Path(), config | flags, {}, {"test_accuracy": accuracy})

    small = [run(3, 0, 0.2), run(3, 1, 0.4), run(6, 0, 0.1)]
    large = [run(3, 0, 0.9, num_hidden=128), run(6, 0, 0.8, num_hidden=128)]
    (axes,) = plot.draw_accuracy_against_length([*small, *large]).axes
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert lines["rnn, best, num_hidden 8"] == pytest.approx([0.3, 0.1])
    assert lines["rnn, best, num_hidden 128"] == pytest.approx([0.9, 0.8])
    (axes,) = plot.draw_accuracy_against_length(small).axes
    assert axes.lines[0].get_label() == "rnn, best"
    newer = run(3, 0, 1.0, forget_bias=1.0)  # a flag that older runs lack
    for both in ([*small, newer], [newer, *small]):
        (axes,) = plot.draw_accuracy_against_length(both).axes
        labels = {line.get_label() for line in axes.lines}
        assert labels >= {"rnn, best, forget_bias None", "rnn, best, forget_bias 1.0"}


def test_the_first_rows_of_a_record_are_reproduced(monkeypatch):
    # Initial weights, batches and evaluated palindromes are those that the records were made with.
    monkeypatch.setattr(train, "EVALUATED", EVALUATED)
    model, batches = train.build(parse("--device", "cpu", "--seed", 100))
    history = read_run(ROOT / "figures/records/rnn_T5_original/seed100").history
    training = batches.epoch(0)
    for row in range(2):
        for split in EVALUATED:
            recorded = history[f"{split}_loss"][row], history[f"{split}_accuracy"][row]
            assert model.evaluate(split) == pytest.approx(recorded, rel=1e-3, abs=1e-3), split
        model.learning_rate = history["learning_rate"][1]
        for _ in range(int(history["step"][1])):
            model.train_step(*next(training))


def test_figures_show_chance_and_what_their_axes_are():
    runs = [
        RunRecord(Path(), {"cell": "rnn", "recipe": "best", "input_length": length}, {},
                  {"test_accuracy": 0.5}) for length in (3, 6)
    ]  # fmt: skip
    nets = [vanilla(6).float()]
    drawn = [plot.draw_accuracy_against_length(runs), plot.draw_gradient_norms(nets, ["net"]),
             plot.draw_trajectories(nets[0])]  # fmt: skip
    labels = [(figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) for figure in drawn]
    assert labels == [
        ("digits read, $T$", "test accuracy"),
        ("step $t$", r"$\|\partial\,$loss$\,/\,\partial h_t\|$"),
        ("first principal component", "second principal component"),
    ]
    assert all(tick == int(tick) for tick in drawn[0].axes[0].get_xticks()), "digits are whole"
    axes = drawn[2].axes[0]  # whose legend is beside it, halfway up
    anchor = axes.get_legend().get_bbox_to_anchor().transformed(axes.transAxes.inverted())
    assert (anchor.x0, anchor.y0) == pytest.approx((1, 0.5))
    dots = [line for line in drawn[2].axes[0].lines if line.get_marker() == "o"]
    assert sum(len(line.get_xdata()) for line in dots) == 150
    paths = [line.get_xydata() for line in drawn[2].axes[0].lines if line.get_marker() == "None"]
    ends = {tuple(point) for line in dots for point in line.get_xydata()}
    assert paths
    assert {tuple(path[-1]) for path in paths} <= ends
    *_, chance = drawn[0].axes[0].lines
    assert (chance.get_label(), set(chance.get_ydata())) == ("chance", {1 / 10})


def test_plot_draws_every_figure(run_main, tmp_path):
    folders = [tmp_path / str(length) for length in (3, 6)]
    for folder in folders:
        flags = (*SHORT, "--input_length", folder.name, "--run_dir", folder)
        run_main(train.main, "train.py", *flags)
    code, out, err = run_main(plot.main, "plot.py", *folders, "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    names = ("curves", "lengths", "gradients", "trajectories")
    written = [tmp_path / "out" / f"{name}.{ending}" for name in names for ending in ("png", "pdf")]
    assert out.split() == [str(path) for path in written]
    assert {*names} <= {*FIGURES}  # which --overwrite removes
    assert all(path.stat().st_size > 5000 for path in written)


def test_the_states_of_a_single_unit_have_no_plane_to_be_drawn_in(run_main, tmp_path):
    run_main(train.main, "train.py", *SHORT, "--num_hidden", 1, "--run_dir", tmp_path / "run")
    code, out, err = run_main(plot.main, "plot.py", tmp_path / "run")
    assert (code, err) == (0, "")
    assert [Path(line).name for line in out.split()] == [
        "curves.png", "curves.pdf", "gradients.png", "gradients.pdf"
    ]  # fmt: skip


def test_plot_draws_curves_alone_without_a_vanilla_net(run_main, tmp_path):
    run_main(train.main, "train.py", *SHORT, "--cell", "gru", "--run_dir", tmp_path / "run")
    code, out, err = run_main(plot.main, "plot.py", tmp_path / "run")
    assert (code, len(out.split())) == (0, 2)
    assert "no vanilla RNN" in err
    (tmp_path / "run" / "config.json").write_text('{"script": "part1_mlp/train.py"}')
    code, _, err = run_main(plot.main, "plot.py", tmp_path / "run")
    assert (code, "holds no run of part3_rnn/train.py" in err) == (2, True)


# --- Bad input ------------------------------------------------------------------------------------


def test_the_help_names_no_optimiser_that_the_script_lacks():
    text = " ".join(train.build_parser(train.recipe_flags()).format_help().split())
    assert "momentum of sgd and rmsprop " in text
    assert "muon" not in text


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
        (("--cell", "gru", "--recipe", "best", "--input_scale", "1"), "--input_scale is for"),
        (("--forget_bias", "1"), "--forget_bias is for --cell lstm; the rnn has no forget gate"),
        (("--cell", "gru", "--forget_bias", "0"), "--forget_bias is for --cell lstm; the gru"),
        *((("--cell", "lstm", "--forget_bias", value), "--forget_bias") for value in ("x", "101")),
        (("--target_accuracy", "0"), "--target_accuracy"),
        (("--batch_size", "full"), "--batch_size"),
        (("--max_epochs", "3"), "--max_epochs"),
        (("--optimizer", "muon"), "--optimizer"),
        (("--optimizer", "adam", "--momentum", "0.9"), "--momentum"),
        (("--recipe", "report"), "--recipe"),
        (("--n_seeds", "0"), "--n_seeds"),
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
