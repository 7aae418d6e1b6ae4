"""Wiring: every flag, and every value of every recipe, reaches the object that it is meant for.

A check reads what a train script has built, never the parsed flags. `test_flag_reaches_its_object`
asserts that the check holds with the flag, and that it fails without it. A flag without a row in
ROWS, or a test below that covers it, fails `test_every_flag_is_covered`.
"""

import ast
import copy
import json
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from data import DataError, Dataset, cifar10, load_dataset
from data.batches import epoch_order
from data.images import MEAN, STD, Normaliser, Whitener
from data.palindromes import PalindromeBatches
from part1_mlp import mlp_numpy
from part1_mlp import train as part1
from part1_mlp.mlp_numpy import NumpyModel
from part1_mlp.modules import INITIALISERS
from part1_mlp.recipes import recipe as part1_recipe
from part2_cnn import model as cnn_model
from part2_cnn import train as part2
from part2_cnn.recipes import RECIPES as PART2_RECIPES
from part3_rnn import train as part3
from part3_rnn.model import VanillaRNN
from part3_rnn.recipes import RECIPES as PART3_RECIPES
from tests.tiny_cifar10 import make_tiny_cifar10
from training import UsageError, cli, distributed, optim
from training.flags import plain, read_own_run
from training.optim import ADAMW_SHARE, orthogonalised
from training.runs import (
    HISTORY_COLUMNS,
    RESULT_KEYS,
    RunFolder,
    load_checkpoint,
    read_history,
    read_run,
)
from training.torch_model import TorchModel
from training.trainer import Trainer

CPU = torch.device("cpu")


class Net(NamedTuple):
    """A train script with the flags that select the net, and those that make it small."""

    train: ModuleType
    selected_by: str
    small: dict[str, str]


SMALL_MLP = {"dnn_hidden_units": "16,16", "device": "cpu", "precision": "float32"}
SMALL_CNN = {"image_sizes": "8", "channels": "16,16,32", "device": "cpu", "precision": "float32"}
NETS = {
    "numpy": Net(part1, "--model numpy", SMALL_MLP),
    "pytorch": Net(part1, "--model pytorch", SMALL_MLP),
    "cnn": Net(part2, "", SMALL_CNN),
    "rnn": Net(part3, "", {"num_hidden": "32", "batch_size": "8", "device": "cpu"}),
}
MLPS = ("numpy", "pytorch")


# --- What a script builds, and a training loop without training -----------------------------------


@dataclass
class Built:
    """What a train script builds from its flags."""

    args: Any
    model: Any
    batches: Any
    folder: Path

    def batch(self, epoch: int = 0) -> tuple:
        """The first training batch of that epoch."""
        return next(self.batches.epoch(epoch))

    def rehearse(
        self,
        val_loss: Callable[[int], float] = lambda i: 1 / (i + 1),
        val_accuracy: Callable[[int], float] = lambda i: 0.0,
        at_step: Callable[[int], None] = lambda step: None,
    ) -> SimpleNamespace:
        """Run the trainer with steps that do nothing and evaluations that are given by number.

        Returns:
            rates (of each step), evaluated (the step of each evaluation) and result.
        """
        model, batches = copy.copy(self.model), copy.copy(self.batches)
        rates, evaluations = [], count()
        row = {}

        def train_step() -> None:
            rates.append(model.learning_rate)
            at_step(len(rates))

        def epoch(epoch: int, first: int = 0) -> Iterable[tuple]:
            return iter([()] * (batches.steps_in(epoch + 1) - batches.steps_in(epoch) - first))

        def evaluate(split: str, *, final: bool = False) -> tuple[float, float]:
            if split == "train" and not final:
                i = next(evaluations)
                row.update(val=(val_loss(i), val_accuracy(i)))
            return row["val"] if split == "val" else (1.0, 0.0)

        model.train_step, batches.epoch = train_step, epoch
        self.folder.mkdir(exist_ok=True)
        trainer = Trainer(model, batches, self.args, RunFolder(self.folder), evaluate=evaluate)
        trainer.restore()
        result = trainer.fit()
        evaluated = [row["step"] for row in trainer.history]
        return SimpleNamespace(rates=rates, evaluated=evaluated, result=result)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """The folder of the made-up set: 54 images train, 6 validate, 20 test."""
    return make_tiny_cifar10(tmp_path_factory.mktemp("images"))


@pytest.fixture(autouse=True)
def small_nets(monkeypatch) -> None:
    """The CNN has few units, the RNN few palindromes to be evaluated on."""
    monkeypatch.setattr(cnn_model, "UNITS", 32)
    monkeypatch.setattr(part3, "EVALUATED", {"train": 50, "val": 60, "test": 70})


@pytest.fixture
def build(tmp_path) -> Callable[..., Built]:
    """Build from flags, with a run folder of its own."""
    folders = (tmp_path / f"rehearsal{i}" for i in count())

    def build(net: str, *flags: object) -> Built:
        args = NETS[net].train.parse([str(flag) for flag in flags])
        return Built(args, *NETS[net].train.build(args), next(folders))

    return build


def command(net: str, read: str, images: Path, *, on_images: bool, selected_by: str = "") -> list:
    """The flags of a small net, but for the flag to be read."""
    train, always, small = NETS[net]
    if train is part1 and not on_images:
        small = small | {"n_samples": "100"}
    if on_images:
        small = small | {"data_dir": str(images), "batch_size": "20"}
        small = small | ({"dataset": "cifar10"} if train is part1 else {})
    flags = (always + " " + selected_by).split()
    return flags + [f"--{name}={value}" for name, value in small.items() if name != read]


def meant(text: object) -> Any:
    """What a value means that is typed on a command line."""
    if text in ("on", "off"):
        return text == "on"
    try:
        return ast.literal_eval(str(text))
    except (ValueError, SyntaxError):
        return text


def listed(value: Any) -> tuple:
    return value if isinstance(value, tuple) else (value,)


# --- Checks: (what was built, the value) -> asserts that the value is there -----------------------


def equals(read: Callable[[Built], Any], rel: float = 1e-6) -> Callable[[Built, Any], None]:
    """A check that `read` gives the value."""

    def check(built: Built, value: Any) -> None:
        exact = not isinstance(value, float)
        assert read(built) == (value if exact else pytest.approx(value, rel=rel, abs=1e-12))

    return check


def shows(read: Callable[[Built], Any], expected: Any) -> Callable[[Built, Any], None]:
    """A check that `read` gives what is expected of the value, which is another thing."""
    return lambda built, value: equals(read)(built, expected)


def only(values: Iterable) -> Any:
    """The value that all have."""
    (value,) = set(values)
    return value


def array(x: Any) -> np.ndarray:
    return x.detach().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)


def modules(built: Built, kind: type) -> list:
    return [module for module in built.model.net.modules() if isinstance(module, kind)]


def linears(built: Built) -> list[np.ndarray]:
    """Weights (inputs, outputs) of the MLP's linear layers."""
    if isinstance(built.model, NumpyModel):
        return [linear.params["weight"] for linear in built.model.net.linears]
    return [array(linear.weight).T for linear in modules(built, nn.Linear)]


def check_hidden_units(built: Built, value: Any) -> None:
    assert tuple(weight.shape[1] for weight in linears(built)[:-1]) == listed(value)


def weight_decay(built: Built) -> float:
    optimizer = built.model.optimizer
    if isinstance(optimizer, mlp_numpy.SGD):
        return optimizer.weight_decay
    return only(group["weight_decay"] for group in optimizer.param_groups)


def momentum(built: Built) -> float:
    """0 of an optimiser that has none."""
    optimizer = built.model.optimizer
    if isinstance(optimizer, mlp_numpy.SGD):
        return optimizer.momentum
    return optimizer.param_groups[0].get("momentum", 0.0)


def optimizer(built: Built) -> str:
    names = {mlp_numpy.SGD: "sgd", optim.SGD: "sgd", optim.RMSprop: "rmsprop", optim.Muon: "muon",
             torch.optim.Adam: "adam", torch.optim.AdamW: "adamw"}  # fmt: skip
    return names[type(built.model.optimizer)]


def check_dropout(built: Built, value: float) -> None:
    """Each of the two hidden linear layers drops as much."""
    p = [module.p for module in modules(built, nn.Dropout)]
    assert p == [value, value] or (p, value) == ([], 0)


def batch_norm(built: Built) -> bool:
    return bool(modules(built, nn.BatchNorm1d))


def skips(built: Built) -> bool:
    """Whether the input still matters when the second hidden layer gives a constant."""
    net = copy.deepcopy(built.model.net).eval()
    for parameter in net.hidden[1].parameters():
        parameter.data.zero_()
    x, _ = built.batch()
    return bool(net(x).std(0).max() > 1e-6)


def activation(built: Built) -> Callable[[torch.Tensor], np.ndarray]:
    """The activation of the first hidden layer."""
    if isinstance(built.model, NumpyModel):
        return lambda x: built.model.net.layers[1].forward(x.numpy())
    others = nn.Linear | nn.BatchNorm1d | nn.Dropout
    (module,) = (part for part in built.model.net.hidden[0] if not isinstance(part, others))
    return lambda x: array(module(x))


def check_activation(built: Built, value: str) -> None:
    x = torch.linspace(-3, 3, 50)
    np.testing.assert_allclose(activation(built)(x), getattr(F, value)(x), atol=1e-6)


def slope_below_zero(built: Built) -> float:
    return -float(activation(built)(-torch.ones(1, 1)).item())


def channels(built: Built) -> tuple[int, ...]:
    """Of each block's two convolutions, which must agree."""
    n = [convolution.out_channels for convolution in modules(built, nn.Conv2d)]
    assert n[::2] == n[1::2]
    return tuple(n[::2])


def pools_globally(built: Built) -> bool:
    return len(modules(built, nn.Linear)) == 1


def forget_bias(built: Built) -> float:
    """PyTorch's order of the gates is input, forget, cell, output."""
    return built.model.net.cell.bias_ih_l0.chunk(4)[1].mean().item()


def uses_winograd(built: Built) -> bool:
    convolved = built.model.net.features[2](torch.ones(1, 16, 8, 8))
    return "Winograd" in convolved.grad_fn.name()


def check_init(built: Built, value: str, seed: int = 0) -> None:
    """The first layer has the weights that this initialisation draws with this seed."""
    weight = linears(built)[0]
    if value == "pytorch" and isinstance(built.model, TorchModel):
        torch.manual_seed(seed)
        expected = array(nn.Linear(*weight.shape).weight).T
    else:
        expected, _ = INITIALISERS[value](np.random.default_rng(seed), *weight.shape)
    np.testing.assert_allclose(weight, expected, rtol=1e-6)


def check_precision_of_mlp(built: Built, value: str) -> None:
    """Of the products, and of all else, which stays in float32 beside products in bfloat16."""
    pytorch, products = isinstance(built.model, TorchModel), []
    if value == "auto":
        value = "bfloat16" if pytorch else "float32"
    rest = value.replace("bfloat16", "float32")
    assert {str(weight.dtype) for weight in linears(built)} == {rest}
    assert str(array(built.batch()[0]).dtype) == rest
    if pytorch:
        first = modules(built, nn.Linear)[0]
        first.register_forward_hook(lambda *call: products.append(call[2].dtype))
        built.model.evaluate("val")
        assert products == [getattr(torch, value)]


def check_precision_of_cnn(built: Built, value: str) -> None:
    """Of the products of a convolution in a training step and in an evaluation."""
    seen = []
    built.model.net.features[0].register_forward_hook(lambda *call: seen.append(call[2].dtype))
    built.model.loss(*built.batch())
    built.model.evaluate("val")
    assert seen == [getattr(torch, value)] * 2


def make_confident(built: Built) -> None:
    """Take PyTorch's net away from equal probabilities, where smoothing or views would not show."""
    if isinstance(built.model, TorchModel):
        for net in {built.model.net, built.model.evaluated_net}:
            [*_, last] = (m for m in net.modules() if isinstance(m, nn.Linear))
            last.weight.data *= 30


def check_label_smoothing(built: Built, value: float) -> None:
    make_confident(built)
    x, y = built.batch()
    expected = F.cross_entropy(built.model.net(x), y, label_smoothing=value)
    torch.testing.assert_close(built.model.loss(x, y), expected)


def check_mixup(built: Built, value: float) -> None:
    """The loss is the formula's, with share and partners drawn again from the same seed."""
    x, y = built.batch()
    torch.manual_seed(3)
    loss = built.model.loss(x, y)
    torch.manual_seed(3)
    if value:
        share = torch.distributions.Beta(value, value).sample()
        partner = torch.randperm(len(x))
        assert abs(share - 0.5) > 0.1, "swapped shares would show"
    else:
        share, partner = 1, torch.arange(len(x))
    logits = built.model.net(share * x + (1 - share) * x[partner])
    expected = share * F.cross_entropy(logits, y) + (1 - share) * F.cross_entropy(
        logits, y[partner]
    )
    torch.testing.assert_close(loss, expected)


def check_average_decay(built: Built, value: float) -> None:
    """After four steps the evaluated weights are the average computed by hand."""
    model, average = built.model, {}
    model.learning_rate = 0.1
    for _ in range(4):
        model.train_step(*built.batch())
        for name, weight in model.net.named_parameters():
            new = weight.detach().clone()
            average[name] = value * average.get(name, new) + (1 - value) * new
    for name, expected in average.items():
        torch.testing.assert_close(model.weights()[name], expected, rtol=1e-5, atol=1e-6)


def check_max_norm(built: Built, value: float) -> None:
    """Of the gradient that a step applies, of a loss so large that any limit holds it."""
    built.model.train_step(*built.batch(), 1e6)
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in built.model.net.parameters()))
    assert norm == pytest.approx(value, rel=1e-4)


def check_schedule(built: Built, value: str) -> None:
    rates = np.array(built.rehearse().rates)
    n = len(rates)
    done = np.arange(n) / n
    rising, falling = (np.arange(n) + 1) / np.ceil(0.1 * n), (done - 0.1) / 0.9
    shape = {
        "constant": np.ones(n),
        "cosine": 0.5 + 0.5 * np.cos(np.pi * done),
        "one_cycle": np.where(done < 0.1, rising, 0.5 + 0.5 * np.cos(np.pi * falling)),
    }[value]
    assert rates[0] > 0
    np.testing.assert_allclose(rates / rates.max(), shape, atol=1e-9)


def largest_rate(built: Built) -> float:
    return max(built.rehearse().rates)


def check_batch_size(built: Built, value: Any) -> None:
    n = built.batches.n_samples
    size = n if value == "full" else value
    assert len(built.batch()[1]) == size
    assert built.batches.steps_in(3) == 3 * math.ceil(n / size)


def check_image_sizes(built: Built, value: Any) -> None:
    """Each size holds for an equal share of the epochs."""
    sizes, epochs = listed(value), int(built.rehearse().result["epochs"])
    bounds = [epochs * i // len(sizes) for i in range(len(sizes) + 1)]
    found = [built.batch(epoch)[0].shape[-1] for epoch in range(epochs)]
    assert found == np.repeat(sizes, np.diff(bounds)).tolist()


def stops_after(limit: str, per_value: int = 1) -> Callable[[Built, int], None]:
    """A check that the flag ends the training, after `per_value` steps times its value."""

    def check(built: Built, value: int) -> None:
        result = built.rehearse().result
        assert (result["steps"], result["stopped_by"]) == (per_value * value, limit)

    return check


def check_eval_freq(built: Built, value: Any) -> None:
    """Three steps are an epoch."""
    rehearsal = built.rehearse()
    total, every = rehearsal.result["steps"], 3 if value == "epoch" else value
    assert rehearsal.evaluated == sorted({*range(0, total, every), total})


def check_patience(built: Built, value: int) -> None:
    """The validation loss never falls, so the first evaluation is the best."""
    rehearsal = built.rehearse(val_loss=lambda i: 1.0)
    if value:
        assert len(rehearsal.evaluated) == 1 + value
    assert (rehearsal.result["stopped_by"] == "early_stopping") == (value > 0)


def check_target_accuracy(built: Built, value: float) -> None:
    rehearsal = built.rehearse(val_accuracy=lambda i: 0.1 * i)
    assert rehearsal.result["stopped_by"] == "target_accuracy"
    assert len(rehearsal.evaluated) == 1 + math.ceil(10 * value)


def augmented(built: Built) -> bool:
    """Whether an epoch has other samples than the training set."""
    epoch = torch.cat([torch.as_tensor(x) for x, _ in built.batches.epoch(0)])
    stored = torch.as_tensor(built.model.prepare(built.model.splits["train"][0]))
    if epoch.shape != stored.shape:
        stored = built.model.resize(stored, epoch.shape[-1])
    distances = torch.cdist(*(x.flatten(1).double() for x in (epoch, stored)))
    return bool(distances.min(0)[0].max() > 1e-3)


def hole(built: Built) -> int:
    """The sides of the largest rectangle that is painted in an image of an epoch; 0: none."""
    epoch = torch.cat([torch.as_tensor(x) for x, _ in built.batches.epoch(0)])
    stored = torch.as_tensor(built.model.prepare(built.model.splits["train"][0]))
    painted = (epoch - stored[epoch_order(len(stored), 0, 0)]).abs() > 1e-3
    if not painted.any():
        return 0
    painted = painted.any(1)
    heights, widths = painted.any(2).sum(1), painted.any(1).sum(1)
    assert torch.equal(painted.sum((1, 2)), heights * widths)
    return only((heights.max().item(), widths.max().item()))


def normalised(x: Any) -> np.ndarray:
    """uint8 images, normalised by channel; points as they are."""
    x = array(x)
    if x.ndim == 2:
        return x
    mean, std = (np.array(each).reshape(1, 3, 1, 1) for each in (MEAN, STD))
    return (x / 255 - mean) / std


def whitened(built: Built) -> bool:
    x, _ = built.model.splits["train"]
    return not np.allclose(array(built.model.prepare(x)), normalised(x), atol=1e-4)


def check_views(built: Built, value: int) -> None:
    """So many views, over which the final evaluation averages the probabilities."""
    make_confident(built)
    model = built.model
    model.image_size = None  # evaluate at the size of the stored images
    x, y = model.splits["test"]
    views = list(model.views(x)) if model.views else [x]
    assert len(views) == value
    numpy = isinstance(model, NumpyModel)

    def forward(x: Any) -> torch.Tensor:
        if numpy:
            return torch.from_numpy(model.net.forward(array(x)))
        return model.evaluated_net.eval()(x)

    def loss(views: list) -> float:
        p = [forward(model.prepare(view)).softmax(1) for view in views]
        return F.nll_loss(torch.stack(p).mean(0).log(), torch.as_tensor(y)).item()

    plain, averaged = loss([x]), loss(views)
    assert value == 1 or averaged != pytest.approx(plain, rel=1e-3)
    assert model.evaluate("test")[0] == pytest.approx(plain, rel=1e-4)
    assert model.evaluate("test", final=True)[0] == pytest.approx(averaged, rel=1e-4)


def check_validation_on_test(built: Built, value: str) -> None:
    """All samples but those of test train, the test samples validate."""
    args = built.args
    whole = load_dataset(
        args.dataset, seed=args.seed, n_samples=args.n_samples, data_dir=args.data_dir
    )
    assert built.batches.n_samples == len(whole.x_train) + len(whole.x_val)
    of_test, of_val = (built.model.splits[split] for split in ("test", "val"))
    for a, b, c in zip(of_test, of_val, whole.split("test"), strict=True):
        assert np.array_equal(array(a), array(b))
        assert np.allclose(array(a), c)


def check_number_of_points(built: Built, value: int) -> None:
    """Three fifths train, a fifth validates, a fifth tests."""
    splits = {name: len(x) for name, (x, _) in built.model.splits.items()}
    assert splits == {"train": 3 * value // 5, "val": value // 5, "test": value // 5}
    assert built.batches.n_samples == 3 * value // 5


def check_number_of_images(built: Built, value: int) -> None:
    """A tenth validates; the test images are not counted."""
    splits = {name: len(x) for name, (x, _) in built.model.splits.items()}
    assert splits == {"train": value - value // 10, "val": value // 10, "test": 20}
    assert built.batches.n_samples == value - value // 10


def noise(built: Built) -> float:
    """The deviation of 600 training points from the same ones without noise."""
    clean = load_dataset("moons", n_samples=1000, noise=0).x_train
    return float(np.std(array(built.model.splits["train"][0]) - clean))


def radii(built: Built) -> set:
    """The distances of points without noise from the origin."""
    return set(np.linalg.norm(array(built.model.splits["test"][0]), axis=1).round(3).tolist())


def check_seed(built: Built, value: int, dataset: Dataset, weights: Callable) -> None:
    """It draws the data, the initial weights and the order of the batches."""
    for name, (x, y) in built.model.splits.items():
        np.testing.assert_allclose(array(x), dataset.split(name)[0], rtol=1e-6)
        np.testing.assert_array_equal(array(y), dataset.split(name)[1])
    weights(built, value)
    _, labels = built.batch()
    order = epoch_order(len(dataset.y_train), value, 0)
    np.testing.assert_array_equal(array(labels), dataset.y_train[order][: len(labels)])


def check_seed_of_mlp(built: Built, value: int) -> None:
    dataset = load_dataset("moons", n_samples=100, seed=value)
    init = "he" if isinstance(built.model, NumpyModel) else "pytorch"
    check_seed(built, value, dataset, lambda b, v: check_init(b, init, seed=v))


def check_seed_of_cnn(built: Built, value: int) -> None:
    def weights(built: Built, value: int) -> None:
        torch.manual_seed(value)
        expected = cnn_model.CNN(3, 10, channels=(16, 16, 32)).state_dict()
        assert all(torch.equal(w, expected[n]) for n, w in built.model.net.state_dict().items())

    dataset = load_dataset("cifar10", data_dir=built.args.data_dir, seed=value)
    check_seed(built, value, dataset, weights)


def check_seed_of_rnn(built: Built, value: int) -> None:
    """The palindromes of the splits are the same for every seed."""
    torch.manual_seed(value)
    assert torch.equal(built.model.net.W_xh, nn.init.normal_(torch.empty(10, 32)))
    expected = next(PalindromeBatches(5, 8, value).epoch(0))
    assert all(torch.equal(a, b) for a, b in zip(built.batch(), expected, strict=True))


def check_init_of_rnn(built: Built, value: str) -> None:
    w = built.model.net.W_hh.detach()
    square, size = w @ w.T, len(w)
    scale = square.diagonal().mean()
    if value == "normal":
        assert (square - scale * torch.eye(size)).abs().max() > 0.1 * scale
        return
    torch.testing.assert_close(square / scale, torch.eye(size), atol=1e-4, rtol=0)
    assert torch.equal(w, w.diagonal().diag()) == (value == "identity")


def init_scale(built: Built) -> float:
    """The scale of W_hh, by its norm, which is near to it for random weights."""
    w = built.model.net.W_hh.detach()
    return float(w.norm()) / math.sqrt(len(w))


def check_cell(built: Built, value: str) -> None:
    kinds = {VanillaRNN: "rnn", nn.LSTM: "lstm", nn.GRU: "gru"}
    assert [kinds[type(m)] for m in built.model.net.modules() if type(m) in kinds] == [value]


def check_input_length(built: Built, value: int) -> None:
    lengths = [x.shape[1] for x, _ in built.model.splits.values()]
    assert {*lengths, built.batch()[0].shape[1]} == {value}


def test_recipes_are_frozen():
    """Whoever changes a recipe trains its runs anew, and then writes tests/recipes.json."""
    frozen = json.loads((cli.ROOT / "tests" / "recipes.json").read_text())
    mlps = {
        f"{model} {dataset} {name}": part1_recipe(model, dataset, name)
        for model in MLPS for dataset in ("moons", "cifar10") for name in ("original", "best")
    }  # fmt: skip
    assert frozen == {"part1": mlps, "part2": PART2_RECIPES, "part3": PART3_RECIPES}


# --- The rows -------------------------------------------------------------------------------------


class Row(NamedTuple):
    """How a flag is checked.

    Attributes:
        value: given to the flag, as one would type it.
        check: asserts that the value is in what was built; None: the net refuses the flag.
        base: more flags, with which the value shows.
        other: given instead, the check fails; None: the flag has one value only.
        images: the MLP trains on images.
    """

    value: object
    check: Callable[[Built, Any], None] | None
    base: str = ""
    other: str | None = ""
    images: bool = False


Rows = list[tuple[str, Row]]
REFUSED = [
    ("dropout", Row(0.3, None)), ("batch_norm", Row("on", None)), ("skip", Row("on", None)),
    ("label_smoothing", Row(0.1, None)), ("mixup", Row(0.4, None)),
    ("average_decay", Row(0.9, None)),
]  # fmt: skip
OPTIMISATION = [
    ("weight_decay", Row(0.25, equals(weight_decay))),
    ("learning_rate", Row(0.003, equals(largest_rate))),
    ("schedule", Row("cosine", check_schedule)),
    ("schedule", Row("one_cycle", check_schedule, other="--schedule constant")),
    ("schedule", Row("constant", check_schedule, other="--schedule cosine")),
]
EPOCHS = [
    ("max_epochs", Row(7, stops_after("max_epochs", 3), base="--batch_size 20")),
    ("max_steps", Row(11, stops_after("max_steps"))),
    ("eval_freq", Row(4, check_eval_freq, base="--batch_size 20")),
    ("eval_freq", Row("epoch", check_eval_freq, base="--batch_size 20", other="--eval_freq 4")),
]
REGULARISATION = [
    ("dropout", Row(0.3, check_dropout)),
    ("label_smoothing", Row(0.2, check_label_smoothing, base="--dropout 0 --mixup 0")),
    ("mixup", Row(0.4, check_mixup, base="--dropout 0 --label_smoothing 0")),
    ("average_decay", Row(0.8, check_average_decay)),
]
IMAGES = [
    ("augment", Row("off", equals(augmented), images=True, other="--augment on")),
    ("augment", Row("on", equals(augmented), images=True, other="--augment off")),
    *(("views", Row(n, check_views, images=True)) for n in (2, 18, 50)),
    ("n_samples", Row(30, check_number_of_images, images=True)),
]
MLP_ROWS: Rows = [
    ("dataset", Row("circles", shows(radii, {0.5, 1.0}), base="--noise 0")),
    ("n_samples", Row(50, check_number_of_points, base="--batch_size 10")),
    ("noise", Row(0.4, equals(noise, rel=0.1), base="--n_samples 1000")),
    ("factor", Row(0.75, shows(radii, {0.75, 1.0}), base="--dataset circles --noise 0")),
    ("cutout", Row(9, equals(hole), base="--augment off", images=True)),
    ("whiten", Row("on", equals(whitened), images=True)),
    *(("validation", Row("test", check_validation_on_test, images=on)) for on in (False, True)),
    ("dnn_hidden_units", Row("7,5", check_hidden_units)),
    ("dnn_hidden_units", Row("", shows(lambda b: len(linears(b)), 1))),
    ("init", Row("normal", check_init)),
    ("precision", Row("float64", check_precision_of_mlp)),
    ("precision", Row("float64", check_precision_of_mlp, images=True)),
    ("activation", Row("elu", check_activation)),
    ("activation", Row("leaky_relu", check_activation)),
    ("neg_slope", Row(0.3, equals(slope_below_zero), base="--activation leaky_relu")),
    ("momentum", Row(0.7, equals(momentum), base="--optimizer sgd")),
    ("batch_size", Row(13, check_batch_size)),
    ("batch_size", Row("full", check_batch_size)),
    ("batch_size", Row(7, check_batch_size, images=True, other="--batch_size 20")),
    ("patience", Row(3, check_patience, base="--batch_size 20 --eval_freq 1")),
    ("seed", Row(7, check_seed_of_mlp)),
    *OPTIMISATION, *EPOCHS, *IMAGES,
]  # fmt: skip
ROWS: dict[str, Rows] = {
    "numpy": [
        ("model", Row("numpy", shows(lambda b: type(b.model), NumpyModel),
            other="--model pytorch")),
        ("recipe", Row("best", shows(momentum, 0.9))),
        ("optimizer", Row("sgd", equals(optimizer), other=None)),
        ("init", Row("pytorch", check_init)),
        ("precision", Row("auto", check_precision_of_mlp, other="--precision float64")),
        *REFUSED, *MLP_ROWS,
    ],
    "pytorch": [
        ("model", Row("pytorch", shows(lambda b: type(b.model), TorchModel),
            other="--model numpy")),
        ("recipe", Row("best", shows(momentum, 0.9))),
        *(("optimizer", Row(name, equals(optimizer), other=f"--optimizer {other}"))
          for name, other in (("adam", "sgd"), ("adamw", "adam"), ("rmsprop", "sgd"),
                              ("muon", "adamw"))),
        ("momentum", Row(0.7, equals(momentum), base="--optimizer muon")),
        ("init", Row("he", check_init)),
        ("batch_norm", Row("on", equals(batch_norm))),
        ("skip", Row("on", equals(skips))),
        *(("precision", Row(name, check_precision_of_mlp)) for name in ("auto", "bfloat16")),
        ("activation", Row("gelu", check_activation)),
        ("activation", Row("silu", check_activation)),
        *REGULARISATION, *MLP_ROWS,
    ],
    "cnn": [
        ("recipe", Row("best", shows(optimizer, "muon"))),
        ("dataset", Row("cifar10", shows(lambda b: b.batch()[0].shape[1], 3), other=None)),
        ("image_sizes", Row("8,16,12", check_image_sizes, base="--max_epochs 7")),
        ("precision", Row("bfloat16", check_precision_of_cnn, other="--precision float32")),
        ("cutout", Row(9, equals(hole), base="--augment off --image_sizes 32")),
        ("channels", Row("8,24,12", equals(channels))),
        ("global_pooling", Row("on", equals(pools_globally))),
        ("winograd", Row("off", equals(uses_winograd))),
        *(("optimizer", Row(name, equals(optimizer)))
          for name in ("sgd", "adamw", "rmsprop", "muon")),
        *(("momentum", Row(0.7, equals(momentum), base=f"--optimizer {name}"))
          for name in ("sgd", "rmsprop", "muon")),
        ("weight_decay", Row(0.25, equals(weight_decay), base="--optimizer muon")),
        *(("batch_size", Row(value, check_batch_size, other="--batch_size 20"))
          for value in (13, "full")),
        ("patience", Row(3, check_patience, base="--eval_freq 1 --image_sizes 8")),
        ("seed", Row(7, check_seed_of_cnn)),
        *REGULARISATION, *OPTIMISATION, *EPOCHS, *IMAGES,
    ],
    "rnn": [
        ("recipe", Row("best", shows(init_scale, 3.0))),
        ("cell", Row("lstm", check_cell)),
        ("cell", Row("gru", check_cell)),
        ("input_length", Row(9, check_input_length)),
        ("input_dim", Row(1, equals(lambda b: len(b.model.net.W_xh)))),
        ("num_classes", Row(10, equals(lambda b: len(b.model.net.b_y)), other=None)),
        ("num_hidden", Row(11, equals(lambda b: len(b.model.net.W_hh)))),
        ("num_hidden", Row(11, equals(lambda b: b.model.net.cell.hidden_size),
            base="--cell lstm")),
        ("init", Row("orthogonal", check_init_of_rnn)),
        ("init", Row("identity", check_init_of_rnn)),
        ("init", Row("normal", check_init_of_rnn, other="--init orthogonal")),
        *(("init_scale", Row(2.0, equals(init_scale, rel=0.1), base=f"--init {init}"))
          for init in ("normal", "orthogonal", "identity")),
        ("forget_bias", Row(2.0, equals(forget_bias), base="--cell lstm")),
        ("input_scale", Row(0.25, equals(lambda b: b.model.net.W_xh.std().item(), rel=0.15))),
        *(("optimizer", Row(name, equals(optimizer))) for name in ("sgd", "adam", "adamw")),
        *(("momentum", Row(0.7, equals(momentum), base=f"--optimizer {name}"))
          for name in ("sgd", "rmsprop")),
        ("max_norm", Row(0.01, check_max_norm)),
        ("batch_size", Row(13, equals(lambda b: len(b.batch()[1])))),
        ("train_steps", Row(11, stops_after("train_steps"))),
        ("eval_freq", Row(7, check_eval_freq)),
        ("patience", Row(3, check_patience, base="--eval_freq 1")),
        ("target_accuracy", Row(0.35, check_target_accuracy, base="--eval_freq 1")),
        ("seed", Row(7, check_seed_of_rnn)),
        *OPTIMISATION,
    ],
}  # fmt: skip
COVERED_BELOW: set[tuple[str, str]] = set()


def covers(*flags: str, nets: Iterable[str] = tuple(NETS)) -> Callable:
    """Parametrise a test over nets, and note that it covers the flags."""
    COVERED_BELOW.update((net, flag) for net in nets for flag in flags)
    return pytest.mark.parametrize("net", nets)


@pytest.mark.parametrize("net", NETS)
def test_every_flag_is_covered(net):
    flags = set(vars(NETS[net].train.parse(NETS[net].selected_by.split())))
    covered = {flag for flag, _ in ROWS[net]}
    below = {flag for name, flag in COVERED_BELOW if name == net}
    assert flags == covered | below
    assert not covered & below


CASES = [(net, flag, row) for net, rows in ROWS.items() for flag, row in rows]


@pytest.mark.parametrize(
    ("net", "flag", "row"), CASES,
    ids=[f"{net}-{flag}={row.value}{'-images' * row.images}" for net, flag, row in CASES],
)  # fmt: skip
def test_flag_reaches_its_object(net, flag, row, build, images, monkeypatch):
    monkeypatch.setattr(distributed, "has_bfloat16", lambda device: True)
    flags = command(net, flag, images, on_images=row.images or net == "cnn") + row.base.split()
    given = [*flags, f"--{flag}={row.value}"]
    if row.check is None:
        with pytest.raises(UsageError, match=f"--{flag}"):
            build(net, *given)
        return
    row.check(build(net, *given), meant(row.value))
    if row.other is not None:
        other = build(net, *flags, *row.other.split())
        with pytest.raises(AssertionError):
            row.check(other, meant(row.value))


@pytest.mark.parametrize("net", NETS)
def test_recorded_flags_are_read_back(net, images, tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "has_bfloat16", lambda device: True)
    train, folder = NETS[net].train, RunFolder(tmp_path)
    folder.write_history([dict.fromkeys(HISTORY_COLUMNS, 0)])
    folder.write_result(dict.fromkeys(RESULT_KEYS, 0) | {"stopped_by": "max_epochs"})
    for flag, row in ROWS[net]:
        if row.check is not None:
            flags = command(net, flag, images, on_images=row.images or net == "cnn")
            args = train.parse([*flags, *row.base.split(), f"--{flag}={row.value}"])
            config = {name: plain(value) for name, value in vars(args).items()}
            folder.write_config(config)
            assert read_own_run(tmp_path, train).config == config


def recipes() -> Iterable[tuple[str, str, str, object]]:
    """(net, flags that select the recipe, flag, value) for every value of every recipe."""
    for name in ("original", "best"):
        selected = f"--recipe {name}"
        for net in MLPS:
            for dataset in ("moons", "circles", "cifar10"):
                for flag, value in part1_recipe(net, dataset, name).items():
                    yield net, f"{selected} --dataset {dataset}", flag, value
        for net, values in (("cnn", PART2_RECIPES), ("rnn", PART3_RECIPES)):
            for flag, value in values[name].items():
                yield net, selected, flag, value


def many_images(*args: object, **kwargs: object) -> Dataset:
    """As many as the largest batch of a recipe needs."""
    x, y = np.zeros((9000, 3, 32, 32), np.uint8), np.zeros(9000, np.int64)
    return Dataset("cifar10", x, y, x[:9], y[:9], x[:9], y[:9], cifar10.CLASS_NAMES)


CASES_OF_RECIPES = list(recipes())


@pytest.mark.parametrize(
    ("net", "selected_by", "flag", "value"), CASES_OF_RECIPES,
    ids=["-".join((net, *by.split()[1::2], flag)) for net, by, flag, _ in CASES_OF_RECIPES],
)  # fmt: skip
def test_value_of_a_recipe_reaches_its_object(
    net, selected_by, flag, value, build, images, monkeypatch
):
    monkeypatch.setattr(distributed, "has_bfloat16", lambda device: True)
    row = next(row for name, row in ROWS[net] if name == flag)
    if row.check is None:
        assert not meant(value), "the net does without"
        return
    on_images = net == "cnn" or "cifar10" in selected_by
    flags = command(net, flag, images, on_images=on_images, selected_by=selected_by)
    if on_images and flag == "batch_size":
        monkeypatch.setattr(NETS[net].train, "load_dataset", many_images)
        flags += ["--augment=off", *["--whiten=off"] * (net != "cnn")]
    row.check(build(net, *flags, *row.base.split()), meant(value))


# --- Flags of data --------------------------------------------------------------------------------


@covers("data_dir", nets=("numpy", "pytorch", "cnn"))
def test_images_are_those_of_data_dir(net, build, images, tmp_path, monkeypatch):
    def pixels(folder: Path) -> np.ndarray:
        paths = sorted(folder.glob("test/*/*.png"))
        return np.stack([np.asarray(Image.open(path)) for path in paths]).transpose(0, 3, 1, 2)

    flags = [f for f in command(net, "data_dir", images, on_images=True) if "data_dir" not in f]
    another = make_tiny_cifar10(tmp_path / "another", n_train=30, n_test=10, seed=1)
    monkeypatch.setenv("CIFAR10_DIR", str(images))
    for folder, given in ((images, []), (another, ["--data_dir", another])):
        x, _ = build(net, *flags, *given).model.splits["test"]
        np.testing.assert_array_equal(array(x), pixels(folder))


@covers("cifar10_url", nets=("numpy", "pytorch", "cnn"))
def test_archive_is_asked_for_from_the_url(net, build, images, tmp_path, monkeypatch):
    asked = []

    def download_url(url: str, *args: object) -> None:
        asked.append(url)
        raise OSError("no network")

    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    monkeypatch.setattr(cifar10, "DEFAULT_DIR", tmp_path / "empty")
    monkeypatch.setattr(cifar10, "download_url", download_url)
    flags = command(net, "data_dir", images, on_images=True)
    for given in ([], ["--cifar10_url", "https://mirror.example/a.tar.gz"]):
        with pytest.raises(DataError, match="could not be downloaded"):
            build(net, *flags, *given)
    assert asked == [cifar10.CIFAR10.url, "https://mirror.example/a.tar.gz"]


@pytest.mark.parametrize("net", ["numpy", "pytorch", "cnn"])
def test_images_are_flipped_from_left_to_right_alone(net, build, images, monkeypatch):
    """Channel 0 holds the row of each pixel, channel 1 the column."""
    ramp = np.stack([*np.mgrid[100:132, 100:132], np.zeros((32, 32))]).astype(np.uint8)
    x, y = np.repeat(ramp[None], 40, 0), np.arange(40) % 10
    ramps = Dataset("cifar10", x, y, x, y, x, y, cifar10.CLASS_NAMES)
    monkeypatch.setattr(NETS[net].train, "load_dataset", lambda *args, **kwargs: ramps)
    flags = command(net, "", images, on_images=True)
    image_sizes = ["--image_sizes", 32] * (net == "cnn")
    built = build(net, *flags, *image_sizes, "--augment", "on", "--views", 2)
    for batch in (array(built.batch()[0]), *(array(v) for v in built.model.views(x_of(built)))):
        centre = batch[:, :2, 8:24, 8:24].astype(float)  # no crop brings the border there
        assert (np.diff(centre[:, 0], axis=1) > 0).all(), "never upside down"
    mirrored = np.diff(array(built.batch()[0])[:, 1, 8:24, 8:24], axis=2) < 0
    assert {*mirrored.all((1, 2))} == {True, False}
    first, second = (array(view) for view in built.model.views(x_of(built)))
    np.testing.assert_array_equal(first, x)
    np.testing.assert_array_equal(second, x[..., ::-1])


def x_of(built: Built) -> Any:
    """The stored test samples."""
    return built.model.splits["test"][0]


@pytest.mark.parametrize("net", MLPS)
def test_whitening_is_by_statistics_of_all_training_images(net, build, images):
    flags = command(net, "", images, on_images=True)
    model = build(net, *flags, "--whiten", "on").model
    x = torch.as_tensor(model.splits["train"][0])
    assert len(x) == 54
    expected = Whitener(Normaliser(CPU), x)(x)
    torch.testing.assert_close(torch.as_tensor(model.prepare(x)), expected)


def test_small_images_are_smoothed_against_aliasing(build, images):
    """In the batches and in the evaluations during training."""
    flags = command("cnn", "", images, on_images=True)
    (large, _), (small, _) = (
        build("cnn", *flags, "--image_sizes", size).batch() for size in (32, 8)
    )
    model = build("cnn", *flags).model
    for resized in (small, model.resize(large, 8)):
        torch.testing.assert_close(resized, v2.functional.resize(large, [8, 8], antialias=True))
        aliased = v2.functional.resize(large, [8, 8], antialias=False)
        assert (resized - aliased).abs().max() > 0.1


def test_palindromes_of_the_splits_are_others(build):
    splits = build("rnn", "--input_length", 19).model.splits
    sequences = {name: {tuple(row) for row in x.tolist()} for name, (x, _) in splits.items()}
    assert {name: len(rows) for name, rows in sequences.items()} == part3.EVALUATED
    assert len(set.union(*sequences.values())) == sum(part3.EVALUATED.values())


# --- Flags of net and optimiser -------------------------------------------------------------------


@covers("compile", nets=("cnn",))
def test_compiling_is_asked_for_in_place_of_winograd(net, build, images, monkeypatch):
    compiled = []
    monkeypatch.setattr(cnn_model.CNN, "compile", lambda self: compiled.append(self))
    monkeypatch.setattr(part2.shutil, "which", lambda name: name)
    flags = command(net, "", images, on_images=True)
    build(net, *flags)
    assert not compiled
    model = build(net, *flags, "--compile").model
    assert compiled == [model.net]
    assert not any(getattr(module, "winograd", False) for module in model.net.modules())


@covers("device")
def test_net_splits_and_batches_are_on_the_device(net, build, images, monkeypatch):
    """PyTorch's device `meta`, which every machine has, stands for a GPU."""
    flags = command(net, "device", images, on_images=net != "rnn")
    if net == "numpy":
        with pytest.raises(UsageError, match="--device"):
            build(net, *flags, "--device", "cuda")
        return
    if net == "rnn":
        monkeypatch.setattr(part3, "choose_device", lambda name: {"cuda": "meta"}[name])
    else:
        monkeypatch.setattr(distributed, "choose_device", lambda name: name)
        meta = {"cuda": torch.device("meta")}
        monkeypatch.setattr(distributed, "own_device", lambda name: meta[name])
    built = build(net, *flags, "--device", "cuda")
    tensors = [*built.model.net.parameters(), *built.batch()]
    tensors += [tensor for split in built.model.splits.values() for tensor in split]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


@pytest.mark.parametrize(("device", "n"), [("cpu", 125), ("meta", 2500)])
def test_more_images_are_evaluated_at_once_on_a_gpu(device, n, build, images, monkeypatch):
    monkeypatch.setattr(distributed, "own_device", lambda name: torch.device(device))
    model = build("cnn", *command("cnn", "", images, on_images=True)).model
    assert (model.device.type, model.evaluation_chunk) == (device, n)


HIDDEN_WEIGHTS = {
    "pytorch": lambda net: [layer[0].weight for layer in net.hidden],
    "cnn": lambda net: [layer.weight for layer in net.features if isinstance(layer, nn.Conv2d)],
}


@pytest.mark.parametrize("net", HIDDEN_WEIGHTS)
def test_steps_of_muon_are_orthogonal_on_hidden_weights_and_adamws_on_the_rest(net, build, images):
    flags = ("--optimizer", "muon", "--momentum", 0.8, "--weight_decay", 0.3, "--dropout", 0)
    model = build(net, *command(net, "", images, on_images=True), *flags).model
    model.learning_rate = rate = 0.1
    parameters = list(model.net.parameters())
    expected = [p.detach().clone().requires_grad_() for p in parameters]
    of = dict(zip(parameters, expected, strict=True))
    hidden = [of.pop(weight) for weight in HIDDEN_WEIGHTS[net](model.net)]
    assert hidden
    assert of
    adamw = torch.optim.AdamW(list(of.values()), lr=rate * ADAMW_SHARE, weight_decay=0.3)
    velocity = [0] * len(hidden)
    for _ in range(3):
        for ours, theirs in zip(parameters, expected, strict=True):
            ours.grad = torch.randn_like(ours)
            theirs.grad = ours.grad.clone()
        model.optimizer.step()
        adamw.step()
        for i, weight in enumerate(hidden):
            velocity[i] = 0.8 * velocity[i] + weight.grad
            direction = orthogonalised((weight.grad + 0.8 * velocity[i]).flatten(1))
            weight.data = (1 - rate * 0.3) * weight - rate * direction.view_as(weight)
    for ours, theirs in zip(parameters, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("net", HIDDEN_WEIGHTS)
def test_large_products_of_muon_have_the_precision_of_the_net(net, build, images, monkeypatch):
    monkeypatch.setattr(distributed, "has_bfloat16", lambda device: True)
    flags = [*command(net, "", images, on_images=True), "--optimizer", "muon", "--precision"]
    for name in ("float32", "bfloat16"):
        assert build(net, *flags, name).model.optimizer.precision == getattr(torch, name)


@pytest.mark.parametrize("net", ["pytorch", "cnn", "rnn"])
def test_weight_of_a_shared_batch_scales_its_loss(net, build, images):
    """Plain SGD steps by the gradient, so by half as much for half the weight."""
    flags = command(net, "", images, on_images=net == "cnn")
    flags += ["--optimizer", "sgd", "--learning_rate", 0.01, "--weight_decay", 0]
    flags += ["--max_norm", 0] if net == "rnn" else ["--dropout", 0]
    steps = []
    for weight in (1.0, 0.5):
        built = build(net, *flags)
        before = [p.detach().clone() for p in built.model.net.parameters()]
        built.model.train_step(*built.batch(), weight)
        pairs = zip(built.model.net.parameters(), before, strict=True)
        steps.append(torch.cat([(after - p).detach().flatten() for after, p in pairs]))
    assert steps[0].abs().max() > 1e-4
    torch.testing.assert_close(steps[1], 0.5 * steps[0], rtol=1e-3, atol=1e-6)


# --- Flags of a run -------------------------------------------------------------------------------


def short(net: str, images: Path, steps: int = 3) -> list:
    """A run of so many steps at a constant rate, evaluated at its end."""
    limit = "--train_steps" if net == "rnn" else "--max_steps"
    flags = command(net, "", images, on_images=net == "cnn")
    return [*flags, limit, steps, "--eval_freq", 10, "--schedule", "constant"]


@pytest.fixture
def steps_taken(monkeypatch) -> list:
    """Grows by the model at each training step of any model."""
    taken: list = []
    for kind in (NumpyModel, TorchModel):

        def train_step(self, *batch, original=kind.train_step):
            taken.append(self)
            original(self, *batch)

        monkeypatch.setattr(kind, "train_step", train_step)
    return taken


@pytest.fixture
def run(run_main, images) -> Callable[..., tuple[int, str]]:
    """Run a train script for a few steps; returns the exit code and stderr."""

    def run(net: str, *flags: object, steps: int = 3) -> tuple[int, str]:
        train = NETS[net].train
        code, _, err = run_main(train.main, "train.py", *short(net, images, steps), *flags)
        return code, err

    return run


@covers("run_dir")
def test_run_is_written_to_its_folder(net, run, tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    assert run(net)[0] == 0
    name = {"cnn": "cnn_cifar10", "rnn": "rnn_T5"}.get(net, f"mlp_{net}_moons")
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name == f"{name}_original_seed0"
    assert run(net, "--run_dir", tmp_path / "named")[0] == 0
    names = [{file.name for file in f.iterdir()} for f in (folder, tmp_path / "named")]
    assert names[0] == names[1] >= {"config.json", "history.csv", "result.json"}


@covers("n_seeds")
def test_each_seed_has_a_folder_of_its_own(net, run, tmp_path):
    assert run(net, "--run_dir", tmp_path / "runs", "--seed", 3, "--n_seeds", 2)[0] == 0
    results = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/result.json")]
    assert sorted(result["seed"] for result in results) == [3, 4]


@covers("resume", "overwrite")
def test_run_is_continued_or_replaced_on_demand_alone(net, run, tmp_path, steps_taken):
    folder = ("--run_dir", tmp_path / "run")
    assert run(net, *folder)[0] == 0
    result = (tmp_path / "run" / "result.json").read_bytes()
    code, err = run(net, *folder)
    assert (code, "--resume or --overwrite" in err) == (2, True)
    assert len(steps_taken) == 3
    assert (tmp_path / "run" / "result.json").read_bytes() == result
    assert run(net, *folder, "--resume", steps=5) == (0, "")
    assert len(steps_taken) == 3 + 2
    assert run(net, *folder, "--overwrite", "--seed", 4) == (0, "")
    assert len(steps_taken) == 3 + 2 + 3
    assert json.loads((tmp_path / "run" / "result.json").read_text())["seed"] == 4


@covers("dry_run")
def test_dry_run_is_one_batch_of_everything(net, run, build, images, tmp_path, steps_taken):
    assert run(net, "--dry_run", "--run_dir", tmp_path / "run")[0] == 0
    assert len(steps_taken) == 1
    assert not (tmp_path / "run").exists()
    built = build(net, *short(net, images), "--batch_size", 4, "--dry_run")
    assert {len(y) for _, y in built.model.splits.values()} == {4}
    assert len(built.batch()[1]) == 4


@covers("quiet")
def test_progress_bar_is_shown_unless_quiet(net, build, images, monkeypatch):
    hidden, shown, steps = [], [], []
    bar = SimpleNamespace(
        set_postfix=lambda progress, refresh: shown.append(progress), update=steps.append, n=0
    )

    class Bar:
        def __init__(self, disable: bool, **options: object):
            hidden.append(disable)

        def __enter__(self) -> SimpleNamespace:
            return bar

        def __exit__(self, *exception: object) -> None:
            """Leave."""

    monkeypatch.setattr("training.trainer.tqdm", Bar)
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: True))
    for flags in ((), ("--quiet",)):
        build(net, *short(net, images), *flags).rehearse()
    assert hidden == [False, True]
    assert all(progress.keys() == {"val_loss", "val_accuracy"} for progress in shown)
    assert len(shown) == len(steps) > 2


@covers("test")
def test_test_accuracy_is_printed_on_demand_alone(net, images, run_main, tmp_path):
    module = NETS[net].train
    for flags, n in (((), 0), (("--test",), 1)):
        given = (*short(net, images, 1), *flags, "--overwrite", "--run_dir", tmp_path / "run")
        _, out, _ = run_main(module.main, "train.py", *given)
        assert out.count("validation accuracy") == 1
        assert out.count("test accuracy") == n
        if n:
            result = read_run(tmp_path / "run").result
            assert f"test accuracy {result['test_accuracy']:.4f} (loss" in out


def test_palindromes_of_evaluation_are_kept_out_of_training(build, monkeypatch):
    monkeypatch.setattr(part3, "EVALUATED", {"train": 10, "val": 40_000, "test": 40_000})
    built = build("rnn", "--input_length", 10, "--batch_size", 20_000)
    trained = {*map(tuple, built.batch()[0].tolist())}
    for split in ("val", "test"):
        assert not trained & {*map(tuple, built.model.splits[split][0].tolist())}, split


@pytest.mark.parametrize("net", NETS)
def test_evaluation_in_chunks_is_that_of_all_samples(net, build, images, monkeypatch):
    flags = command(net, "", images, on_images=net != "rnn")
    model = build(net, *flags).model
    whole = model.evaluate("test")
    monkeypatch.setattr(mlp_numpy, "EVALUATION_CHUNK", 7)
    model.evaluation_chunk = 7
    assert model.evaluate("test") == pytest.approx(whole)


@covers("checkpoint_seconds")
@pytest.mark.parametrize(("seconds", "saved"), [(0, [1, 2, 3, 4, 5, 6, 7]), (25, [3, 6, 7])])
def test_checkpoints_are_so_many_seconds_apart(net, seconds, saved, build, images, monkeypatch):
    """Each of seven steps takes ten seconds; the last save is that of the end."""
    clock, steps = [0.0], []

    def at_step(step: int) -> None:
        clock[0] += 10

    def save_checkpoint(path: Path, state: dict) -> None:
        steps.append(json.loads(state["progress"])["step"])

    monkeypatch.setattr("training.trainer.time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr("training.trainer.save_checkpoint", save_checkpoint)
    flags = (*short(net, images, 7), "--checkpoint_seconds", seconds)
    build(net, *flags).rehearse(at_step=at_step)
    assert steps == saved


# --- What a resumed run keeps ---------------------------------------------------------------------


class Killed(BaseException):
    """Ends a run as kill -9 would."""


def test_a_resumed_run_counts_the_seconds_before(build, images, monkeypatch):
    """Each step takes ten seconds; the run is killed in the fourth of six."""
    clock = [0.0]
    monkeypatch.setattr("training.trainer.time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def at_step(step: int) -> None:
        if step == 4 and not killed:
            killed.append(step)
            raise Killed
        clock[0] += 10

    killed = []
    built = build("numpy", *short("numpy", images, 6), "--eval_freq", 1, "--checkpoint_seconds", 0)
    with pytest.raises(Killed):
        built.rehearse(at_step=at_step)
    clock[0] += 1000  # which do not count
    resumed = Built(built.args, *part1.build(built.args), built.folder)
    assert resumed.rehearse(at_step=at_step).result["seconds"] == 60
    history = read_history(built.folder / "history.csv")
    assert history["seconds"].tolist() == [0, 10, 20, 30, 40, 50, 60]


def test_the_history_has_the_rate_of_each_step(build, images):
    flags = (*short("numpy", images, 6), "--schedule", "cosine", "--eval_freq", 1)
    built = build("numpy", *flags)
    rates = built.rehearse().rates
    history = read_history(built.folder / "history.csv")
    assert history["learning_rate"][1:].tolist() == pytest.approx(rates)


def test_resumed_early_stopping_has_waited_as_long(build, images):
    """Patience 5 ends the run after the fifth evaluation without a new best, killed or not."""
    flags = (*short("numpy", images, 50), "--eval_freq", 1, "--patience", 5,
             "--checkpoint_seconds", 0)  # fmt: skip

    def die(step: int) -> None:
        if step == 4:
            raise Killed

    def val_loss(i: int) -> float:
        return 1.0

    built = build("numpy", *flags)
    with pytest.raises(Killed):
        built.rehearse(val_loss, at_step=die)
    resumed = Built(built.args, *part1.build(built.args), built.folder)
    rehearsal = resumed.rehearse(val_loss)
    assert rehearsal.evaluated == [0, 1, 2, 3, 4, 5]
    assert len(rehearsal.rates) == 2, "only the steps after the last checkpoint"
    assert rehearsal.result["stopped_by"] == "early_stopping"


@pytest.mark.parametrize("net", NETS)
def test_resumed_run_keeps_its_momentum(net, build, images, tmp_path):
    optimizer = {"numpy": "sgd", "pytorch": "sgd", "cnn": "muon", "rnn": "rmsprop"}[net]
    flags = ("--optimizer", optimizer, "--momentum", 0.9, "--learning_rate", 0.01)

    def last_weights(folder: str, *lengths: int) -> np.ndarray:
        path = tmp_path / folder
        path.mkdir()
        for length in lengths:
            built = build(net, *short(net, images, length), *flags)
            trainer = Trainer(built.model, built.batches, built.args, RunFolder(path))
            trainer.restore()
            trainer.fit()
        net_weights = load_checkpoint(path / built.model.checkpoint_name)["model"]["net"]
        return np.concatenate([np.asarray(value).ravel() for value in net_weights.values()])

    whole = last_weights("whole", 6)
    np.testing.assert_array_equal(last_weights("parts", 3, 6), whole)
    assert not np.array_equal(last_weights("shorter", 5), whole)
