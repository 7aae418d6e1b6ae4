"""The test set decides nothing; the validation set decides when to stop and which weights to keep.

Each of the four nets is trained twice, the second time with test or validation samples changed, and
everything that they must not reach is compared bit for bit. The result is recomputed from the
checkpoint by code of its own.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from data import Dataset, load_dataset
from data.palindromes import draw_palindromes
from part1_mlp import train as part1
from part2_cnn import model as cnn_model
from part2_cnn import train as part2
from part3_rnn import train as part3
from tests.tiny_cifar10 import make_tiny_cifar10
from training.cli import run_training
from training.runs import load_checkpoint, read_json

MODULES: dict[str, ModuleType] = {"numpy": part1, "pytorch": part1, "cnn": part2, "rnn": part3}
# What is random in a step is switched on.
FLAGS = {
    "numpy": "--model numpy --n_samples 200 --learning_rate 0.1 --batch_size 20 --max_epochs 40 "
    "--eval_freq 2 --dnn_hidden_units 16,8",
    "pytorch": "--model pytorch --dataset cifar10 --learning_rate 0.01 --batch_size 60 "
    "--max_epochs 40 --eval_freq epoch --dnn_hidden_units 16,8 --dropout 0.1 --batch_norm on "
    "--mixup 0.2 --average_decay 0.8 --augment on --cutout 8",
    "cnn": "--channels 16,16,32 --image_sizes 8 --optimizer muon --momentum 0.9 "
    "--learning_rate 0.05 --batch_size 60 --max_epochs 14 --eval_freq epoch --dropout 0.2 "
    "--views 2 --augment on --cutout 8 --precision float32",
    "rnn": "--input_length 3 --num_hidden 16 --batch_size 64 --learning_rate 0.003 "
    "--train_steps 150 --eval_freq 5",
}
EARLY_STOPPING = ("--patience", 4)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """The folder of the made-up set: 180 images train, 20 validate, 20 test."""
    return make_tiny_cifar10(tmp_path_factory.mktemp("images"), n_train=200)


@dataclass
class Trained:
    """A run: its result, the evaluations at full precision, and the weights."""

    result: dict
    history: dict[str, list]
    last: dict  # everything that the next step would depend on
    best: dict

    @property
    def chosen(self) -> tuple:
        """What early stopping has chosen."""
        return tuple(self.result[name] for name in ("best_step", "best_epoch", "stopped_by"))


Changes = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@pytest.fixture
def train(images, tmp_path, monkeypatch) -> Callable[..., Trained]:
    """Train a net, with the x and y arrays of some splits changed."""
    monkeypatch.setattr(cnn_model, "UNITS", 32)
    monkeypatch.setattr(part3, "EVALUATED", {"train": 100, "val": 200, "test": 200})
    monkeypatch.setenv("CIFAR10_DIR", str(images))

    def train(net: str, name: str, *flags: object, **changes: Changes) -> Trained:
        def load(*args: object, **kwargs: object) -> Dataset:
            dataset = load_dataset(*args, **kwargs)
            for split, change in changes.items():
                x, y = change(*dataset.split(split))
                dataset = replace(dataset, **{f"x_{split}": x, f"y_{split}": y})
            return dataset

        def draw(n: int, length: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
            x, y = draw_palindromes(n, length, seed)
            for split, change in changes.items():
                if seed == part3.EVALUATION_SEEDS[split]:
                    x, y = (torch.from_numpy(a) for a in change(x.numpy(), y.numpy()))
            return x, y

        module, folder = MODULES[net], tmp_path / name
        if net == "rnn":
            monkeypatch.setattr(module, "draw_palindromes", draw)
        else:
            monkeypatch.setattr(module, "load_dataset", load)
        command = f"{FLAGS[net]} --device cpu --quiet --run_dir {folder}".split()
        args = module.parse([*command, *map(str, flags)])
        assert run_training(args, module.SCRIPT, module.run_name, module.build) == 0
        state = load_checkpoint(next(folder.glob("checkpoint.*")))
        rows = json.loads(state["progress"])["history"]
        history = {column: [row[column] for row in rows] for column in rows[0]}
        return Trained(read_json(folder / "result.json"), history, state["model"], state["best"])

    return train


def noise_and_shuffled_labels(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    noise = rng.uniform(int(x.min()), int(x.max()) + 1, x.shape).astype(x.dtype)
    return noise, rng.permutation(y)


def wrong_labels(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x, (y + 1) % (y.max() + 1)


def third_of_labels_wrong(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """So that a confident net has a high loss: it falls at first and rises later."""
    return x, np.where(np.arange(len(y)) % 3, y, (y + 1) % (y.max() + 1))


def bits(state: object) -> object:
    """A nested state with arrays and tensors as bytes, to be compared bit for bit."""
    if isinstance(state, Mapping):
        return {key: bits(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [bits(value) for value in state]
    return np.asarray(state).tobytes() if hasattr(state, "shape") else state


@pytest.mark.parametrize("net", MODULES)
def test_test_samples_decide_nothing(net, train):
    val = third_of_labels_wrong
    true = train(net, "true", *EARLY_STOPPING, val=val)
    noise = train(net, "noise", *EARLY_STOPPING, val=val, test=noise_and_shuffled_labels)
    assert true.result["stopped_by"] == "early_stopping"
    assert 0 < true.result["best_step"] < true.result["steps"]
    assert true.chosen == noise.chosen
    for column in true.history.keys() - {"seconds", "test_loss", "test_accuracy"}:
        assert true.history[column] == noise.history[column], column
    for column in ("test_loss", "test_accuracy"):
        assert true.history[column] != noise.history[column]
    assert bits(true.best) == bits(noise.best)
    assert bits(true.last) == bits(noise.last)


@pytest.mark.parametrize("net", MODULES)
def test_validation_labels_choose_the_weights_and_train_none(net, train):
    true, wrong = (
        train(net, name, "--patience", 0, **changes)
        for name, changes in (("true", {}), ("wrong", {"val": wrong_labels}))
    )
    assert true.result["best_step"] != wrong.result["best_step"]
    assert true.result["steps"] == wrong.result["steps"]
    for column in true.history.keys() - {"seconds", "val_loss", "val_accuracy"}:
        assert true.history[column] == wrong.history[column], column
    assert bits(true.last) == bits(wrong.last)
    assert bits(true.best) != bits(wrong.best)


# --- The result, recomputed -----------------------------------------------------------------------


def numpy_mlp(w: dict, x: np.ndarray) -> np.ndarray:
    """Logits of points."""
    for i in range(len(w) // 2):
        x = np.maximum(x, 0) if i else x
        x = x @ w[f"{i}.weight"] + w[f"{i}.bias"]
    return x


def pytorch_mlp(w: dict, x: np.ndarray) -> np.ndarray:
    """Logits of normalised images, with batch normalisation by the running statistics."""
    x = x.reshape(len(x), -1)
    for i in range(2):
        x = x @ w[f"hidden.{i}.0.weight"].T + w[f"hidden.{i}.0.bias"]
        mean, variance = w[f"hidden.{i}.1.running_mean"], w[f"hidden.{i}.1.running_var"]
        x = (x - mean) / np.sqrt(variance + 1e-5)
        x = np.maximum(0, x * w[f"hidden.{i}.1.weight"] + w[f"hidden.{i}.1.bias"])
    return x @ w["output.weight"].T + w["output.bias"]


def cnn(w: dict, x: np.ndarray) -> np.ndarray:
    """Logits of normalised images."""
    w, x = {name: torch.from_numpy(value) for name, value in w.items()}, torch.from_numpy(x)
    for i in (0, 2, 5, 7, 10, 12):
        x = F.relu(F.conv2d(x, w[f"features.{i}.weight"], w[f"features.{i}.bias"], padding=1))
        x = F.max_pool2d(x, 2) if i in (2, 7, 12) else x
    x = x.flatten(1)
    for i in (1, 4, 7):
        x = F.relu(x) if i > 1 else x
        x = x @ w[f"classifier.{i}.weight"].T + w[f"classifier.{i}.bias"]
    return x.numpy()


def rnn(w: dict, x: np.ndarray) -> np.ndarray:
    """Logits of sequences of digits."""
    h = np.zeros((len(x), len(w["W_hh"])))
    for digits in x.T:
        h = np.tanh(np.eye(10)[digits] @ w["W_xh"] + h @ w["W_hh"] + w["b_h"])
    return h @ w["W_hy"] + w["b_y"]


FORWARD = {"numpy": numpy_mlp, "pytorch": pytorch_mlp, "cnn": cnn, "rnn": rnn}
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)  # of CIFAR-10's channels


def samples(net: str, images: Path, split: str) -> tuple[list[np.ndarray], np.ndarray]:
    """The views of a split's samples over which the probabilities are averaged, and the labels."""
    if net == "rnn":
        x, y = draw_palindromes(200, 3, part3.EVALUATION_SEEDS[split])
        return [x.numpy()], y.numpy()
    if net == "numpy":
        x, y = load_dataset("moons", n_samples=200).split(split)
        return [x], y
    x, y = load_dataset("cifar10", data_dir=images).split(split)
    x = (x / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    return ([x, x[..., ::-1].copy()] if net == "cnn" else [x]), y


@pytest.mark.parametrize("net", MODULES)
def test_result_is_that_of_the_kept_weights(net, train, images):
    run = train(net, "run", *EARLY_STOPPING, val=third_of_labels_wrong)
    weights = {name: np.asarray(value, np.float64) for name, value in run.best.items()}
    losses = run.history["val_loss"]
    best = losses.index(min(losses))
    assert best < len(losses) - 1, "the last weights are others"
    assert run.result["best_step"] == run.history["step"][best]
    assert run.result["best_epoch"] == run.history["epoch"][best]
    for split in ("val", "test"):
        views, y = samples(net, images, split)
        if split == "val":
            _, y = third_of_labels_wrong(views[0], y)
        exponentials = [np.exp(FORWARD[net](weights, x)) for x in views]
        p = np.mean([e / e.sum(1, keepdims=True) for e in exponentials], 0)
        loss = -np.log(p[np.arange(len(y)), y]).mean()
        assert run.result[f"{split}_loss"] == pytest.approx(loss, rel=1e-4)
        assert run.result[f"{split}_accuracy"] == (p.argmax(1) == y).mean()
        if net != "cnn":  # which is evaluated on smaller images, and without views, in training
            assert run.history[f"{split}_loss"][best] == pytest.approx(loss, rel=1e-4)
