"""Part 2: the CNN, Winograd's convolution, Muon, training, resumption, torchrun, plots."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from data import Dataset, load_dataset
from data.cifar10 import CLASS_NAMES
from data.images import class_probabilities, view_images
from part2_cnn import model, plot, predict, train
from part2_cnn.model import CNN, layer_table
from part2_cnn.winograd import Conv3x3, Winograd
from tests.tiny_cifar10 import make_tiny_cifar10
from training import cli, distributed, optim, torch_model
from training.optim import ADAMW_SHARE, make_optimizer, orthogonalised
from training.plotting import new_figure, style
from training.runs import FIGURES, load_best, load_checkpoint, read_run
from training.torch_model import TorchModel

EXACT = ("--device", "cpu", "--precision", "float32")
TINY = (*EXACT, "--image_sizes", 8, "--batch_size", 27, "--max_epochs", 2)  # 54 images train
CHANNELS = (16, 16, 32)  # with `small_net`
SMALL = (*TINY, "--channels", "16,16,32")
SMALL_CHECKPOINT = ("--optimizer", "sgd")  # no state of the optimiser: half of Adam's size


def parse(*flags: object):
    return train.parse([str(flag) for flag in flags])


def run(*flags: object) -> int:
    return cli.run_training(parse(*flags, "--quiet"), train.SCRIPT, train.run_name, train.build)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """The folder of the made-up set, for tests that leave it as it is."""
    return make_tiny_cifar10(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory) -> Path:
    """The folder of a short run, for tests that leave it as it is."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert run("--data_dir", images, *TINY, *SMALL_CHECKPOINT, "--views", 2,
               "--run_dir", folder) == 0  # fmt: skip
    return folder


def best_weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "checkpoint.pt")["best"]


@pytest.fixture
def small_net(monkeypatch) -> None:
    """Few units, beside few channels, for what takes many steps or checkpoints."""
    monkeypatch.setattr(model, "UNITS", 32)


def torch_model_of(net: nn.Module, splits=None, optimizer: str = "sgd", rate=0.1, **settings):
    return TorchModel(
        net, make_optimizer(optimizer, net.parameters(), learning_rate=rate), splits or {},
        **settings,
    )  # fmt: skip


# --- Architecture ---------------------------------------------------------------------------------


def test_layers_are_those_of_the_original():
    net = CNN(3, 10)
    kinds = [type(layer) for layer in (*net.features, *net.classifier)]
    block = [Conv3x3, nn.ReLU, Conv3x3, nn.ReLU, nn.MaxPool2d]
    hidden = [nn.Linear, nn.ReLU, nn.Dropout]
    assert kinds == [*block, *block, *block, nn.Flatten, *hidden, *hidden, nn.Linear]
    convolutions = [layer for layer in net.features if isinstance(layer, nn.Conv2d)]
    channels = [(layer.in_channels, layer.out_channels) for layer in convolutions]
    assert channels == [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256)]
    for layer in convolutions:
        assert (layer.kernel_size, layer.padding, layer.stride) == ((3, 3), (1, 1), (1, 1))
    for layer in net.features:
        if isinstance(layer, nn.MaxPool2d):
            assert (layer.kernel_size, layer.stride, layer.padding) == (2, 2, 0)
    linears = [layer for layer in net.classifier if isinstance(layer, nn.Linear)]
    sizes = [(layer.in_features, layer.out_features) for layer in linears]
    assert sizes == [(4096, 1024), (1024, 1024), (1024, 10)]
    assert sum(p.numel() for p in net.parameters()) == 6_400_586


def test_layer_table_counts_parameters_and_multiply_adds(capsys):
    rows = layer_table(CNN(3, 10))
    shapes = {name: shape for name, shape, _, _ in rows}
    assert shapes["conv 3x3, 256 -> 256, padding 1"] == "256 x 8 x 8"
    counted = {name: count for name, _, _, count in rows}
    assert counted["conv 3x3, 64 -> 128, padding 1"] == 16 * 16 * 128 * (64 * 3 * 3)
    assert counted["linear 4096 -> 1024"] == 4096 * 1024
    model.main()
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.split() == ["total", "6,400,586", "158,017,536"]


@pytest.mark.parametrize(("channels", "classes", "size"), [(3, 10, 32), (1, 7, 20), (3, 10, 8)])
def test_forward_gives_logits_for_any_size(channels, classes, size):
    torch.manual_seed(0)
    logits = CNN(channels, classes).eval()(torch.randn(2, channels, size, size))
    assert logits.shape == (2, classes)
    assert (logits < 0).any(), "logits, not probabilities"
    assert (logits.sum(1) - 1).abs().min() > 1e-3


@pytest.mark.parametrize("pooled", [False, True])
def test_net_has_as_many_channels_as_asked_for(pooled):
    net = CNN(1, 7, channels=(4, 6, 9), global_pooling=pooled)
    sizes = [(m.in_channels, m.out_channels) for m in net.features if isinstance(m, nn.Conv2d)]
    assert sizes == [(1, 4), (4, 4), (4, 6), (6, 6), (6, 9), (9, 9)]
    linears = [m.weight.shape for m in net.classifier if isinstance(m, nn.Linear)]
    assert linears == ([(7, 9)] if pooled else [(1024, 9 * 4 * 4), (1024, 1024), (7, 1024)])
    for size in (32, 20, 8):
        assert net(torch.randn(2, 1, size, size)).shape == (2, 7)


@pytest.mark.parametrize("size", [32, 20, 8])
def test_global_pooling_classifies_by_the_mean_of_each_channel(size):
    net, x = CNN(3, 10, channels=CHANNELS, global_pooling=True), torch.randn(2, 3, size, size)
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.5]
    assert not torch.equal(net(x), net(x))
    last, means = net.classifier[-1], net.features(x).mean((2, 3))
    torch.testing.assert_close(net.eval()(x), means @ last.weight.T + last.bias)


def test_layer_table_of_a_net_with_global_pooling():
    """Each pixel of a convolution's output takes 9 x inputs x outputs multiply-adds."""
    net = CNN(3, 10, global_pooling=True)
    rows = layer_table(net)
    products = [9 * i * o for i, o in ((3, 64), (64, 64), (64, 128), (128, 128), (128, 256),
                                       (256, 256))]  # fmt: skip
    biases = 2 * (64 + 128 + 256) + 10
    parameters = sum(products) + 256 * 10 + biases
    assert sum(row[2] for row in rows) == sum(p.numel() for p in net.parameters()) == parameters
    assert parameters == 1_147_978
    pixels = [32 * 32] * 2 + [16 * 16] * 2 + [8 * 8] * 2
    multiply_adds = sum(np.multiply(products, pixels)) + 256 * 10
    assert sum(row[3] for row in rows) == multiply_adds
    assert [row[:2] for row in rows if row[0].startswith("mean")] == [
        ("mean of each channel", "256 x 1 x 1")
    ]


def test_initialisation_is_he_and_all_classes_are_about_equally_likely():
    torch.manual_seed(0)
    net = CNN(3, 10).eval()
    *hidden, last = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for layer in hidden:
        fan_in = layer.weight[0].numel()
        assert layer.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)
        assert not layer.bias.any()
    assert last.weight.std().item() == pytest.approx(0.01, rel=0.05)
    loss = F.cross_entropy(net(torch.randn(64, 3, 32, 32)), torch.arange(64) % 10)
    assert loss.item() == pytest.approx(np.log(10), abs=0.3)


def test_dropout_acts_in_training_alone():
    config = vars(parse("--dropout", 0.3))
    net, x = CNN.from_config(config), torch.randn(4, 3, 8, 8)
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.3, 0.3]
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


def test_winograd_gives_way_to_the_compiler():
    def uses_winograd(*flags: str) -> bool:
        config = vars(parse("--device", "cpu")) | vars(parse(*flags[:2])) | {"compile": flags[2]}
        return any(m.winograd for m in CNN.from_config(config).features if isinstance(m, Conv3x3))

    assert uses_winograd("--winograd", "on", False)
    assert not uses_winograd("--winograd", "off", False)
    assert not uses_winograd("--winograd", "on", True)


# --- Winograd's convolution -----------------------------------------------------------------------


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("shape", [(3, 16, 32, 32, 24), (70, 16, 8, 8, 8), (2, 5, 7, 10, 3),
                                   (1, 1, 1, 3, 1)])  # fmt: skip
def test_winograd_and_its_gradients_equal_the_direct_convolution(shape, threads):
    n, channels, height, width, filters = shape
    torch.manual_seed(0)
    inputs = [
        torch.randn(s)
        for s in ((n, channels, height, width), (filters, channels, 3, 3), (filters,))
    ]
    upstream = torch.randn(n, filters, height, width)
    ours = [value.clone().requires_grad_() for value in inputs]
    theirs = [value.double().requires_grad_() for value in inputs]
    y, again = Winograd.apply(*ours), Winograd.apply(*ours)
    expected = F.conv2d(*theirs, padding=1)
    gradients = torch.autograd.grad(y, ours, upstream)
    expected_gradients = torch.autograd.grad(expected, theirs, upstream.double())
    for got, wanted in zip((y, *gradients), (expected, *expected_gradients), strict=True):
        assert got.shape == wanted.shape
        assert (got - wanted).abs().max() <= 3e-5 * wanted.abs().max()
    for first, second in zip(gradients, torch.autograd.grad(again, ours, upstream), strict=True):
        assert torch.equal(first, second), "repeatable to the bit"


def test_second_gradient_of_winograd_is_refused():
    x = torch.randn(1, 16, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(
        Conv3x3(16, 4)(x).square().sum(), x, create_graph=True
    )  # fmt: skip
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_winograd_is_used_where_it_pays_alone():
    x = torch.randn(1, 16, 8, 8, requires_grad=True)
    assert "Winograd" in Conv3x3(16, 4)(x).grad_fn.name()
    assert "Winograd" not in Conv3x3(16, 4, winograd=False)(x).grad_fn.name()
    assert "Winograd" not in Conv3x3(3, 4)(x[:, :3]).grad_fn.name()
    assert "Winograd" not in Conv3x3(16, 4).double()(x.double()).grad_fn.name()
    with torch.autocast("cpu", torch.bfloat16):
        assert "Winograd" not in Conv3x3(16, 4)(x).grad_fn.name()


# --- Muon -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (16, 32)])
def test_orthogonalised_keeps_the_singular_vectors_and_evens_the_values(
    shape, precision, monkeypatch
):
    monkeypatch.setattr(optim, "LARGE", 8)  # so that all of these are
    torch.manual_seed(0)
    matrix = torch.randn(shape) * torch.logspace(-1.5, 0, shape[1])
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalised(matrix, precision)
    assert result.dtype == matrix.dtype
    assert torch.equal(result, orthogonalised(matrix)) == (precision == torch.float32)
    assert result.shape == matrix.shape
    values = torch.linalg.svdvals(result)
    assert ((values > 0.3) & (values < 1.3)).all()
    inside = u.T @ result @ v.T
    assert (inside - inside.diag().diag()).abs().max() < 0.02


def test_muon_takes_nesterov_steps_on_filters_and_adamw_steps_on_the_rest():
    torch.manual_seed(0)
    rate, momentum, decay = 0.1, 0.9, 0.2
    net = nn.Conv2d(4, 8, 3)
    filters, bias = (p.detach().clone() for p in net.parameters())
    bias = nn.Parameter(bias)
    settings = {"learning_rate": rate, "momentum": momentum, "weight_decay": decay}
    muon = make_optimizer("muon", net.parameters(), hidden_weights=[net.weight], **settings)
    adamw = torch.optim.AdamW([bias], lr=rate * ADAMW_SHARE, weight_decay=decay)
    velocity = torch.zeros_like(filters)
    for _ in range(3):
        gradients = [torch.randn_like(p) for p in net.parameters()]
        for parameter, gradient in zip(net.parameters(), gradients, strict=True):
            parameter.grad = gradient.clone()
        muon.step()
        velocity = momentum * velocity + gradients[0]
        direction = orthogonalised((gradients[0] + momentum * velocity).flatten(1))
        filters = filters * (1 - rate * decay) - rate * direction.view_as(filters)
        bias.grad = gradients[1]
        adamw.step()
        torch.testing.assert_close(net.weight, filters, msg="filters")
        torch.testing.assert_close(net.bias, bias, msg="bias")


def test_schedule_keeps_the_shares_of_the_learning_rate():
    net = nn.Conv2d(4, 8, 3)
    optimizer = make_optimizer(
        "muon", net.parameters(), hidden_weights=[net.weight], learning_rate=0.1
    )
    muon = TorchModel(net, optimizer, {})
    muon.learning_rate = 0.02
    assert muon.learning_rate == 0.02
    rates = [group["lr"] for group in muon.optimizer.param_groups]
    assert rates == pytest.approx([0.02, 0.001])


# --- Regularisation, precision, test-time augmentation --------------------------------------------


def test_average_of_the_weights_decays_exponentially():
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    ours = torch_model_of(net, average_decay=0.8)
    average = None
    for _ in range(4):
        ours.train_step(torch.randn(5, 3), torch.tensor([0, 1, 0, 1, 1]))
        weight = net.weight.detach().clone()
        average = weight if average is None else 0.8 * average + 0.2 * weight
    torch.testing.assert_close(ours.weights()["weight"], average)
    assert not torch.allclose(average, net.weight)


def test_statistics_of_batch_normalisation_are_averaged_with_the_weights():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    ours = torch_model_of(net, average_decay=0.8)
    means = []
    for i in range(2):
        ours.train_step(torch.randn(5, 3) + i, torch.tensor([0, 1, 0, 1, 1]))
        means.append(net[0].running_mean.clone())
    torch.testing.assert_close(ours.weights()["0.running_mean"], 0.8 * means[0] + 0.2 * means[1])


def test_label_smoothing_spreads_its_share_over_all_classes():
    torch.manual_seed(0)
    net, x, y = nn.Linear(3, 4), torch.randn(6, 3), torch.arange(6) % 4
    target = 0.7 * F.one_hot(y, 4) + 0.3 / 4
    expected = -(target * net(x).log_softmax(1)).sum(1).mean()
    got = torch_model_of(net, label_smoothing=0.3).loss(x, y)
    torch.testing.assert_close(got, expected)


def test_mixup_mixes_labels_by_the_share_of_their_images():
    torch.manual_seed(3)
    seen = []

    class Recorder(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return super().forward(x)

    net = Recorder(6, 6)
    loss = torch_model_of(net, mixup=1.0).loss(torch.eye(6), torch.arange(6))
    target = seen[0]  # image i is the unit vector of its class, so mixed images are mixed targets
    shares = sorted(set(np.round(target[target > 0].tolist(), 5)) - {1})
    assert sum(shares) == pytest.approx(1, abs=1e-4)
    assert shares[1] - shares[0] > 0.1, "not by halves, so that swapped shares would show"
    expected = -(target * net(target).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss, expected)


def test_bfloat16_products_leave_weights_and_logits_in_float32():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    x, y = torch.randn(8, 3, 2, 2), torch.arange(8) % 3
    losses = {}
    for precision in (torch.float32, torch.bfloat16):
        ours = torch_model_of(net, {"train": (x, y)}, rate=0.0, precision=precision)
        ours.train_step(x, y)
        losses[precision] = ours.evaluate("train")[0]
        assert ours.loss(x, y).dtype == torch.float32
    assert net[1].weight.dtype == net[1].weight.grad.dtype == torch.float32
    assert losses[torch.bfloat16] != losses[torch.float32]
    assert losses[torch.bfloat16] == pytest.approx(losses[torch.float32], rel=0.02)


def test_final_evaluation_averages_the_probabilities_of_the_views():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5))
    x, y = torch.randn(12, 3, 8, 8), torch.arange(12) % 5
    ours = torch_model_of(
        net, {"test": (x, y)}, views=lambda x: view_images(x, 18), evaluation_chunk=5
    )
    mean = torch.stack([net(view).softmax(1) for view in view_images(x, 18)]).mean(0)
    loss, accuracy = ours.evaluate("test", final=True)
    assert loss == pytest.approx(F.nll_loss(mean.log(), y).item(), rel=1e-5)
    assert accuracy == (mean.argmax(1) == y).double().mean().item()
    assert ours.evaluate("test")[0] == pytest.approx(F.cross_entropy(net(x), y).item(), rel=1e-5)


# --- Training -------------------------------------------------------------------------------------


def test_flags_come_before_recipes_and_recipes_before_nothing():
    original, best = parse(), parse("--recipe", "best", "--views", 50)
    assert (original.image_sizes, original.batch_size, original.augment) == ((32,), 256, True)
    assert (original.optimizer, original.max_epochs, original.eval_freq) == ("adam", 100, None)
    assert (best.image_sizes, best.batch_size, best.eval_freq) == ((24, 24, 32), 128, 1760)
    assert (best.optimizer, best.views) == ("muon", 50)


def test_random_images_are_overfitted(small_net):
    torch.manual_seed(0)
    x, y = torch.randn(20, 3, 8, 8), torch.arange(20) % 10
    ours = torch_model_of(
        CNN(3, 10, channels=CHANNELS, dropout=0.2), {"train": (x, y)}, "adam", rate=3e-3
    )
    for _ in range(80):
        ours.train_step(x, y)
    assert ours.evaluate("train")[1] == 1.0


def test_run_leaves_its_files_and_what_it_was_computed_with(trained):
    record = read_run(trained)
    assert record.result["parameters"] == 6_400_586
    assert record.history["epoch"].tolist() == [0, 1, 2]
    assert np.isfinite(record.history["val_loss"]).all()
    config = record.config
    assert (config["script"], config["recipe"]) == ("part2_cnn/train.py", "original")
    assert (config["device"], config["precision"]) == ("cpu", "float32")
    environment = config["environment"]
    assert (environment["device"], environment["precision"]) == ("cpu", "float32")
    assert environment["torch"] == torch.__version__


def test_image_sizes_share_the_planned_epochs_and_evaluations_follow(images, small_net):
    args = parse("--data_dir", images, *SMALL, "--image_sizes", "8,16,32", "--max_epochs", 6)
    ours, batches = train.build(args)
    assert [next(batches.epoch(e))[0].shape[-1] for e in range(6)] == [8, 8, 16, 16, 32, 32]
    seen = []
    ours.net.register_forward_hook(lambda net, inputs, output: seen.append(inputs[0].shape[-1]))
    ours.train_step(*next(batches.epoch(2)))
    ours.evaluate("val")
    ours.evaluate("val", final=True)
    assert seen == [16, 16, 32]
    # Of two steps each: the epochs of --max_steps, or fewer, are shared, not the recipe's.
    best = ("--data_dir", images, "--recipe", "best", "--max_steps", 5, "--batch_size", 27)
    for more, sizes in (((), [24, 24, 32]), (("--max_epochs", 2), [24, 32])):
        _, batches = train.build(parse(*best, *more))
        assert [next(batches.epoch(e))[0].shape[-1] for e in range(len(sizes))] == sizes


class Rank(distributed.ProcessGroup):
    """One of two processes that never meet."""

    def __init__(self, rank: int):
        super().__init__()
        self.rank, self.size = rank, 2


def test_processes_begin_with_the_same_weights_and_drop_different_activations(
    images, small_net, monkeypatch
):
    monkeypatch.setattr(torch_model, "DistributedDataParallel", lambda net: net)
    args = parse("--data_dir", images, *SMALL, "--seed", 5)
    built, seeds = [], []
    for group in (distributed.SINGLE_PROCESS, Rank(0), Rank(1)):
        built.append(train.build(args, group)[0].weights())
        seeds.append(torch.initial_seed())
    assert all(torch.equal(built[0][name], other[name]) for other in built[1:] for name in other)
    assert len({5, *seeds[1:]}) == 3, "neither the initialisation's nor the other's numbers"
    torch.manual_seed(5)
    CNN(3, 10, channels=CHANNELS)
    following = torch.rand(1)
    train.build(args)
    assert torch.equal(torch.rand(1), following), "one process is not seeded a second time"


@pytest.mark.parametrize("recipe", ["original", "best"])
def test_resuming_changes_no_bit(recipe, images, tmp_path, monkeypatch, small_net):
    flags = ("--data_dir", images, "--recipe", recipe, *SMALL, "--image_sizes", "8,16",
             "--checkpoint_seconds", 0, "--mixup", 0.2)  # fmt: skip
    run(*flags, "--run_dir", tmp_path / "whole")
    steps, step = iter(range(100)), TorchModel.train_step

    def interrupted(self, *batch):
        step(self, *batch)
        if next(steps) == 2:  # the first of the second epoch, at the second image size
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(TorchModel, "train_step", interrupted)
    parts = (*flags, "--run_dir", tmp_path / "parts")
    with pytest.raises(SystemExit) as exit_:
        run(*parts)
    assert exit_.value.code == 143
    monkeypatch.setattr(TorchModel, "train_step", step)
    assert run(*parts, "--resume") == 0
    whole, resumed = (load_checkpoint(tmp_path / n / "checkpoint.pt") for n in ("whole", "parts"))
    for weights in (lambda state: state["best"], lambda state: state["model"]["net"]):
        assert all(torch.equal(weights(whole)[n], weights(resumed)[n]) for n in weights(whole))
    histories = [read_run(tmp_path / name).history for name in ("whole", "parts")]
    for column in ("train_loss", "val_loss", "test_accuracy"):
        np.testing.assert_array_equal(*(history[column] for history in histories))


def test_weights_and_best_epoch_do_not_depend_on_the_test_labels(images, tmp_path, small_net):
    data = shutil.copytree(images, tmp_path / "data")
    (data / "test").rename(data / "true")
    (data / "test").mkdir()
    for name, other in zip(CLASS_NAMES, CLASS_NAMES[1:] + CLASS_NAMES[:1], strict=True):
        (data / "true" / name).rename(data / "test" / other)
    for folder, name in ((images, "true"), (data, "wrong")):
        run("--data_dir", folder, *SMALL, "--max_epochs", 10, "--patience", 3, "--dropout", 0,
            "--augment", "off", "--learning_rate", 0.003, "--run_dir", tmp_path / name)  # fmt: skip
    true, wrong = (read_run(tmp_path / name) for name in ("true", "wrong"))
    best = true.history["step"] == true.result["best_step"]
    assert true.result["best_step"] > 2, "the net has learned something"
    assert true.history["test_loss"][best] < wrong.history["test_loss"][best] - 0.2
    assert true.result["best_step"] == wrong.result["best_step"]
    np.testing.assert_array_equal(true.history["val_loss"], wrong.history["val_loss"])
    weights = best_weights(true.path), best_weights(wrong.path)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_dry_run_trains_one_batch_and_leaves_nothing(images, tmp_path, capsys, small_net):
    folder = tmp_path / "run"
    # A batch is no larger than what 18 views of it may take in memory: 6 of the 54 images.
    assert run("--data_dir", images, *SMALL, "--batch_size", 54, "--views", 18, "--dry_run",
               "--run_dir", folder) == 0  # fmt: skip
    assert "dry run" in capsys.readouterr().out
    args = parse("--data_dir", images, *SMALL, "--batch_size", 30, "--dry_run")
    assert len(next(train.build(args)[1].epoch(0))[0]) == 30
    assert not folder.exists()


# --- Several processes ----------------------------------------------------------------------------


def torchrun(*flags: object, restarts: int = 0, n: int = 2) -> list[str]:
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={n}",
        f"--max-restarts={restarts}", str(cli.ROOT / train.SCRIPT), *map(str, flags), "--quiet",
    ]  # fmt: skip


@pytest.mark.slow
def test_one_and_two_processes_give_the_same_curve(images, tmp_path, monkeypatch):
    # 54 training images in batches of 25, 25 and 4, which no two processes share evenly.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    flags = ("--data_dir", images, *TINY, "--dropout", 0, "--optimizer", "sgd",
             "--momentum", 0.9, "--learning_rate", 0.01, "--schedule", "constant",
             "--batch_size", 25)  # fmt: skip
    run(*flags, "--run_dir", tmp_path / "one")
    command = torchrun(*flags, "--run_dir", tmp_path / "two")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("validation accuracy") == 1, "the main process alone prints"
    one, two = (read_run(tmp_path / name).history for name in ("one", "two"))
    for split in ("train", "val", "test"):
        np.testing.assert_allclose(one[f"{split}_loss"], two[f"{split}_loss"], rtol=2e-4)
    assert abs(one["train_loss"][-1] / one["train_loss"][0] - 1) > 0.01


@pytest.mark.slow
def test_a_dry_run_has_an_image_for_each_process(images, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    flags = ("--data_dir", images, *TINY, "--batch_size", 50, "--views", 50, "--dry_run")
    done = subprocess.run(torchrun(*flags, n=3), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "dry run" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_killed_process_is_restarted_and_goes_on_from_the_checkpoint(images, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    flags = ("--data_dir", images, *TINY, "--max_epochs", 8, "--patience", 0,
             "--checkpoint_seconds", 0)  # fmt: skip
    folder, log = tmp_path / "run", tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            torchrun(*flags, "--run_dir", folder, restarts=3),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 300
        while not (folder / "checkpoint.pt").exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)  # not the main process, which is the first
        assert process.wait(timeout=300) == 0, log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert "validation accuracy" in log.read_text()
    record = read_run(folder)
    assert record.result["steps"] == 16
    assert record.history["epoch"].tolist() == list(range(9))


@pytest.mark.slow
def test_a_run_that_was_refused_is_refused_after_a_restart_too(images, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    flags = ("--data_dir", images, *TINY, "--max_steps", 1, "--run_dir", tmp_path / "run")
    run(*flags)
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    command = torchrun(*flags, restarts=1)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode != 0
    assert done.stderr.count("holds a run; give --resume or --overwrite") == 2
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before


# --- Plots ----------------------------------------------------------------------------------------


def test_plot_draws_curves_confusion_matrix_mistakes_and_filters(
    run_main, trained, images, tmp_path
):
    out = tmp_path / "out"
    code, stdout, err = run_main(plot.main, "plot.py", trained, "--out", out, "--data_dir", images)
    assert (code, err) == (0, "")
    names = {"curves", "confusion", "mistakes", "filters"}
    files = {f"{name}.{ending}" for name in names for ending in ("png", "pdf")}
    assert {file.name for file in out.iterdir()} == files
    assert names <= {*FIGURES}  # which --overwrite removes
    assert {Path(line).name for line in stdout.splitlines()} == files
    curves = tmp_path / "no_weights"
    shutil.copytree(trained, curves, ignore=shutil.ignore_patterns("*.pt"))
    code, stdout, err = run_main(plot.main, "plot.py", curves)
    assert code == 0
    assert "has not kept its weights" in err
    assert [Path(line).name for line in stdout.splitlines()] == ["curves.png", "curves.pdf"]


def test_plot_takes_the_images_of_the_run_unless_others_are_named(
    run_main, trained, images, tmp_path, monkeypatch
):
    named = []

    def load(name: str, n_samples: int, data_dir: object) -> Dataset:
        named.append(str(data_dir))
        assert n_samples == read_run(trained).config["n_samples"]
        return load_dataset(name, n_samples=n_samples, data_dir=images)

    monkeypatch.setattr(plot, "load_dataset", load)
    for flags in ((), ("--data_dir", tmp_path)):
        assert run_main(plot.main, "plot.py", trained, "--out", tmp_path / "out", *flags)[0] == 0
    assert named == [str(images), str(tmp_path)]


def test_filters_that_do_not_fill_a_row_are_drawn():
    figure = plot.draw_filters(CNN(3, 10, channels=(5, 4, 4)))
    assert [bool(axes.images) for axes in figure.axes] == [True] * 5 + [False] * 3
    assert not any(axes.axison for axes in figure.axes)


def test_a_dry_run_refuses_a_batch_that_the_run_would_refuse(refused, images):
    flags = ("--data_dir", images, "--batch_size", 1000, "--dry_run")
    refused(train.main, *flags, words="--batch_size: 1000 is out of range, choose from 1 to 54")


@pytest.fixture
def answers(images):
    """Test images with made-up labels and the probabilities that a net might give."""
    dataset = load_dataset("cifar10", data_dir=images)
    true = np.array([0, 0, 0, 1, 1, 2])
    dataset = replace(dataset, x_test=dataset.x_test[:6], y_test=true)
    probabilities = np.zeros((6, 10))
    for row, (k, p) in enumerate([(0, 0.9), (2, 0.6), (2, 0.8), (1, 0.5), (1, 0.7), (1, 0.95)]):
        probabilities[row, k], probabilities[row, 9] = p, 1 - p
    return dataset, probabilities


def test_confusion_matrix_counts_true_classes_in_rows(answers):
    dataset, probabilities = answers
    with style():  # which has a grid
        figure, ((axes,),) = new_figure(1, 1)
        plot.draw_confusion(axes, dataset.y_test, probabilities.argmax(1))
    cells = {text.get_position()[::-1]: text.get_text() for text in axes.texts}  # row, column
    assert len(cells) == 100
    assert {place: text for place, text in cells.items() if text != "0"} == {
        (0, 0): "1", (0, 2): "2", (1, 1): "2", (2, 1): "1"
    }  # fmt: skip
    shares = axes.images[0].get_array()
    assert (shares[0, 0], shares[0, 2], shares[1, 1]) == pytest.approx((1 / 3, 2 / 3, 1))
    assert axes.images[0].get_clim() == (0, 1)
    assert axes.get_title() == "6 answers, accuracy 0.5000"
    assert [label.get_text() for label in axes.get_yticklabels()] == list(CLASS_NAMES)
    assert figure.axes[1].get_ylabel() == "share of the true class"
    assert not any(line.get_visible() for line in axes.get_xgridlines() + axes.get_ygridlines())
    assert {label.get_rotation() for label in axes.get_xticklabels()} == {45}, "names overlap"


def test_mistakes_are_sorted_by_confidence(answers):
    dataset, probabilities = answers
    figure = plot.draw_mistakes(dataset, probabilities)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:4] == ["automobile 95%\nis bird", "bird 80%\nis airplane",
                          "bird 60%\nis airplane", ""]  # fmt: skip
    shown = figure.axes[0].images[0].get_array()
    np.testing.assert_array_equal(shown, dataset.x_test[5].transpose(1, 2, 0))
    assert figure.axes[0].get_gridspec().get_geometry() == (4, 6)
    assert not any(axes.axison for axes in figure.axes)


def test_filters_are_colours_on_one_scale_and_zero_is_grey():
    net = CNN(3, 10)
    weight = net.features[0].weight.detach().zero_()
    weight[0, 0, 1, 2], weight[-1, 2, 0, 0] = 0.2, -0.4
    figure = plot.draw_filters(net)
    assert max(figure.get_size_inches()) < 6, "filters of 3x3 pixels need little space"
    panels = figure.axes
    assert not any(axes.axison for axes in panels)
    first, *_, last = (axes.images[0].get_array() for axes in panels)
    assert (first[1, 2].tolist(), last[0, 0].tolist()) == ([0.75, 0.5, 0.5], [0.5, 0.5, 0])
    assert [(image == 0.5).sum() for image in (first, last)] == [26, 26]


def test_read_back_net_gives_the_run_s_test_accuracy(trained, images):
    record = read_run(trained)
    net = CNN.from_config(record.config)
    load_best(net, record)
    dataset = load_dataset("cifar10", data_dir=images)
    probabilities = class_probabilities(net, dataset.x_test, record.config["views"])
    losses = -np.log(probabilities[np.arange(len(probabilities)), dataset.y_test])
    assert losses.mean() == pytest.approx(record.result["test_loss"], rel=1e-4)
    accuracy = (probabilities.argmax(1) == dataset.y_test).mean()
    assert accuracy == pytest.approx(record.result["test_accuracy"])


# --- Bad input ------------------------------------------------------------------------------------


@pytest.fixture
def refused(run_main):
    """Assert that a script refuses its flags in one line that holds the words."""

    def check(main, *flags: object, words: str) -> None:
        code, out, err = run_main(main, "script.py", *flags)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1, err
        assert words in err

    return check


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--image_sizes", "7"), "--image_sizes: the net halves an image three times; give 8"),
        (("--image_sizes", "16,x"), "--image_sizes"),
        (("--precision", "float16"), "--precision"),
        (("--winograd", "yes"), "--winograd"),
        *((("--channels", value), "--channels") for value in ("64,128", "1,2,3,4", "8,0,8", "x")),
        (("--global_pooling", "yes"), "--global_pooling"),
        *((("--cutout", value), "--cutout") for value in ("-1", "33")),
        (("--dropout", "1"), "--dropout"),
        (("--dataset", "moons"), "--dataset"),
        (("--recipe", "report"), "--recipe"),
        (("--optimizer", "adam", "--momentum", "0.9"), "--momentum"),
        (("--batch_size", "55"), "--batch_size: 55 is out of range, choose from 1 to 54"),
        (("--dnn_hidden_units", "10"), "--dnn_hidden_units"),
    ],
)
def test_flags_that_are_refused(flags, words, refused, images, tmp_path):
    refused(train.main, "--data_dir", images, "--run_dir", tmp_path / "run", *flags, words=words)
    assert not (tmp_path / "run").exists()


def test_compiling_needs_a_compiler(refused, monkeypatch):
    monkeypatch.setattr(train.shutil, "which", lambda _: None)
    refused(train.main, "--compile", "--device", "cpu", words="--compile")


def test_auto_is_recorded_as_what_is_used_and_not_resumed_otherwise(
    refused, images, tmp_path, small_net, monkeypatch
):
    folder = tmp_path / "run"
    flags = ("--data_dir", images, *SMALL, "--device", "auto", "--precision", "auto",
             "--max_steps", 1, "--run_dir", folder)  # fmt: skip
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(distributed, "has_bfloat16", lambda _: True)
    run(*flags)
    config = json.loads((folder / "config.json").read_text())
    assert (config["device"], config["precision"]) == ("cpu", "bfloat16")
    monkeypatch.setattr(distributed, "has_bfloat16", lambda _: False)
    words = f"--precision: {folder} holds a run with bfloat16, which cannot be resumed with float32"
    refused(train.main, *flags, "--resume", words=words)
    (folder / "config.json").write_text(json.dumps(config | {"device": "cuda"}))
    refused(train.main, *flags, "--resume", words=f"--device: {folder} holds a run with cuda")


class RunsCode:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_broken_and_foreign_checkpoints_are_refused(refused, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run"
    shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("*.pt"))
    checkpoint, whole = folder / "checkpoint.pt", (trained / "checkpoint.pt").read_bytes()

    def check(words: str) -> None:
        refused(predict.main, "--run", folder, tmp_path / "absent.png", words=words)

    check("has not kept its weights")
    checkpoint.write_bytes(whole[:100_000])
    check("checkpoint.pt: broken or foreign checkpoint")
    torch.save({"best": RunsCode()}, checkpoint)
    check("checkpoint.pt: broken or foreign checkpoint")
    checkpoint.write_bytes(pickle.dumps(RunsCode()))
    check("checkpoint.pt: broken or foreign checkpoint")
    assert not (tmp_path / "pwned").exists()
    for state in ({"weights": {}}, {"best": [1, 2]}, {"best": CNN(3, 7).state_dict()}):
        torch.save(state, checkpoint)
        check("not the weights of this run")


def test_foreign_checkpoint_is_not_resumed(refused, trained, images, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(trained / "config.json", folder)
    state = load_checkpoint(trained / "checkpoint.pt")
    state["model"]["net"] = CNN(3, 7).state_dict()
    torch.save(state, folder / "checkpoint.pt")
    flags = ("--data_dir", images, *TINY, *SMALL_CHECKPOINT, "--views", 2, "--run_dir", folder)
    refused(train.main, *flags, "--resume", words="not a checkpoint of this run")


def test_runs_of_another_part_are_refused(refused, trained, tmp_path):
    folder = tmp_path / "moons"
    shutil.copytree(trained, folder)
    config = {"script": "part1_mlp/train.py", "model": "pytorch", "dropout": 0.0, "views": 1}
    (folder / "config.json").write_text(json.dumps(config))
    for main, flags in ((predict.main, ("--run", folder, "x.png")), (plot.main, (folder,))):
        refused(main, *flags, words=f"{folder} holds no run of part2_cnn/train.py")
    assert not list(folder.glob("*.png"))
    refused(predict.main, "--run", tmp_path / "absent", "x.png", words="is not a run folder")


@pytest.mark.parametrize(("epochs", "size"), [(100, 8), (2, 8), (1, 16)])
def test_before_the_first_step_images_have_the_size_of_the_first_batch(epochs, size, tiny_cifar10):
    args = train.parse(
        ["--data_dir", str(tiny_cifar10), "--image_sizes", "8,16", "--batch_size", "20",
         "--max_epochs", str(epochs)]
    )  # fmt: skip
    model, batches = train.build(args)
    seen = []
    model.net.register_forward_pre_hook(lambda net, inputs: seen.append(inputs[0].shape[-1]))
    model.evaluate("val")
    model.train_step(*next(batches.epoch(0)))
    assert set(seen) == {size}
