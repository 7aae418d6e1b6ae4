"""Part 1, 30 points: the multi-layer perceptron, by hand in NumPy and in PyTorch."""

import numpy as np
import pytest

from tests.graded.checks import close, demand, equal, numbers
from tests.graded.references import mlp, softmax
from tests.graded.runs import (
    a_seed_decides,
    accuracy_on_test,
    column,
    is_chosen_on_validation,
    keeps_a_record,
    learns_what_can_be_learnt,
    make_images,
    stands_still,
)
from tests.sandbox import Remote, Submission, TrainedRun
from tests.wire import Tensor

DATASET = ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test", "n_inputs", "n_classes")
SMALL = ("--dataset", "cifar10", "--dnn_hidden_units", "100", "--batch_size", 20,
         "--eval_freq", 10)  # fmt: skip
TOY = ("--model", "numpy", "--dataset", "moons", "--n_samples", 400)


def linear(submission: Submission, rng: np.random.Generator) -> tuple[Remote, np.ndarray, dict]:
    """A Linear(5, 3) with parameters that are known, and an input."""
    layer = submission("part1_mlp.modules").Linear(5, 3)
    params = layer.params
    demand(
        isinstance(params, dict) and {"weight", "bias"} <= params.keys(),
        "Linear.params: expected a dict with weight and bias",
    )
    numbers(params["weight"], "Linear(5, 3).params['weight']", (5, 3))
    numbers(params["bias"], "Linear(5, 3).params['bias']", (3,))
    known = {"weight": rng.normal(size=(5, 3)), "bias": rng.normal(size=3)}
    known["weight"][0] = -1, 2, -3  # of both signs, whatever is drawn
    submission.do("fill", layer, known)
    return layer, rng.normal(size=(4, 5)), known


@pytest.mark.points(2)
def test_linear_forward(submission, rng):
    """Linear maps (N, in_features) to x W + b, W of shape (in_features, out_features)."""
    layer, x, known = linear(submission, rng)
    close(layer.forward(x), x @ known["weight"] + known["bias"], "Linear.forward(x)")


@pytest.mark.points(4)
def test_linear_backward(submission, rng):
    """Linear.backward sets grads, summed over the batch, and returns the gradient of the input."""
    layer, x, known = linear(submission, rng)
    dout = rng.normal(size=(4, 3))
    layer.forward(rng.normal(size=(4, 5)))
    layer.backward(dout)  # whose gradients those of the next call replace
    layer.forward(x)
    dx = layer.backward(dout)
    grads = layer.grads
    demand(isinstance(grads, dict), "Linear.grads: expected a dict with weight and bias")
    close(grads.get("weight"), x.T @ dout, "Linear.grads['weight'] after backward(dout)")
    close(grads.get("bias"), dout.sum(axis=0), "Linear.grads['bias'] after backward(dout)")
    close(dx, dout @ known["weight"].T, "what Linear.backward(dout) returns")


@pytest.mark.points(2)
def test_relu(submission, rng):
    """ReLU is max(0, x), and lets the gradient pass where x > 0 alone: at 0 it is 0."""
    layer = submission("part1_mlp.modules").ReLU()
    x, dout = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    x[0], dout[0] = (-2, 0, 3), (1, 1, -1)
    kept = submission.do("keep_input", layer, x)
    close(kept["output"], np.maximum(x, 0), "ReLU.forward(x)")
    close(kept["input"], x, "the input after ReLU.forward(x), which is to leave it as it was")
    close(layer.backward(dout), dout * (x > 0), "ReLU.backward(dout)")


@pytest.mark.points(2)
def test_softmax_forward(submission, rng):
    """Rows of SoftMax's output sum to 1, for logits of 1,000 as well."""
    forward = submission("part1_mlp.modules").SoftMax().forward
    logits = rng.normal(size=(4, 3))
    close(forward(logits), softmax(logits), "SoftMax.forward(x)")
    large = np.array([[1000.0, 999.0], [-1000.0, -1000.0]])
    close(forward(large), softmax(large), "SoftMax.forward of [[1000, 999], [-1000, -1000]]")


@pytest.mark.points(2)
def test_softmax_and_cross_entropy(submission, rng):
    """SoftMax and CrossEntropy in turn give the gradient of the mean loss by the logits."""
    modules = submission("part1_mlp.modules")
    activation, loss = modules.SoftMax(), modules.CrossEntropy()
    logits, labels = rng.normal(size=(4, 3)), rng.integers(0, 3, 4)
    one_hot = np.eye(3)[labels]
    p = numbers(activation.forward(logits), "SoftMax.forward(x)", (4, 3))
    loss.forward(p, one_hot)
    dx = activation.backward(loss.backward(p, one_hot))
    close(dx, (p - one_hot) / 4, "the gradient of the loss by the logits")


@pytest.mark.points(1)
def test_softmax_backward(submission, rng):
    """SoftMax.backward multiplies by the full Jacobian, not by its diagonal alone."""
    layer = submission("part1_mlp.modules").SoftMax()
    x, dout = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    p = numbers(layer.forward(x), "SoftMax.forward(x)", (4, 3))
    expected = p * (dout - (dout * p).sum(axis=1, keepdims=True))
    demand(abs(expected).max() > 0, "SoftMax.forward(x): expected probabilities, got zeros")
    close(layer.backward(dout), expected, "SoftMax.backward(dout)")


@pytest.mark.points(1)
def test_cross_entropy_forward(submission, rng):
    """CrossEntropy is the mean over the batch, and finite where a probability is 0."""
    loss = submission("part1_mlp.modules").CrossEntropy()
    p, labels = rng.uniform(0.1, 0.9, (4, 3)), rng.integers(0, 3, 4)
    expected = -np.log(p[range(4), labels]).mean()
    close(loss.forward(p, np.eye(3)[labels]), expected, "CrossEntropy.forward(p, one_hot)")
    certain = loss.forward(np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]]))
    demand(
        5 < numbers(certain, "the loss", ()) < np.inf,
        f"the loss of a probability of 0: expected a finite number, above 5, got {certain}",
    )


@pytest.mark.points(1)
def test_cross_entropy_backward(submission, rng):
    """CrossEntropy.backward is the gradient of the mean loss by the probabilities."""
    loss = submission("part1_mlp.modules").CrossEntropy()
    p, one_hot = rng.uniform(0.1, 0.9, (4, 3)), np.eye(3)[rng.integers(0, 3, 4)]
    loss.forward(p, one_hot)
    close(loss.backward(p, one_hot), -one_hot / p / 4, "CrossEntropy.backward(p, one_hot)")


@pytest.mark.points(4)
def test_numpy_mlp(submission, rng):
    """The NumPy MLP: linear and ReLU in turn, logits at the end; backward fills all grads."""
    net = submission("part1_mlp.mlp_numpy").MLP(5, [8, 6], 3)
    layers = submission.do("linear_layers", net)
    shapes = [numbers(layer.params["weight"], "a layer's weight").shape for layer in layers]
    wanted = [(5, 8), (8, 6), (6, 3)]
    equal(sorted(shapes), sorted(wanted), "the weights of the Linear modules in MLP(5, [8, 6], 3)")
    layers = [layers[shapes.index(shape)] for shape in wanted]  # however the net keeps them
    # The same chain of the submission's own modules, which other tests judge.
    modules = submission("part1_mlp.modules")
    chain = [modules.Linear(*wanted[0])]
    for shape in wanted[1:]:
        chain += [modules.ReLU(), modules.Linear(*shape)]
    for layer, twin in zip(layers, chain[::2], strict=True):
        weight, bias = layer.params["weight"], layer.params["bias"]
        known = {"weight": rng.normal(size=weight.shape), "bias": rng.normal(size=bias.shape)}
        if layer is layers[-1]:  # so that all logits are negative
            known = {name: -abs(value) for name, value in known.items()}
        for each in (layer, twin):
            submission.do("fill", each, known)
    x, dout = rng.normal(size=(40, 5)), rng.normal(size=(40, 3))
    h, gradient = x, dout
    for module in chain:
        h = module.forward(h)
    h = numbers(h, "Linear.forward(x)", (40, 3))
    demand(np.ptp(h) > 0, "the modules in turn: expected different logits, all are equal")
    close(net.forward(x), h, "MLP.forward(x)")
    for module in reversed(chain):
        gradient = module.backward(gradient)
    net.backward(dout)
    for i, (layer, twin) in enumerate(zip(layers, chain[::2], strict=True)):
        for name in ("weight", "bias"):
            got, expected = (each.grads.get(name) for each in (layer, twin))
            place = f"grads['{name}'] of linear layer {i + 1}"
            close(got, numbers(expected, place), f"after MLP.backward(dout), {place}")
    weights = [abs(numbers(twin.grads["weight"], "a gradient")).max() for twin in chain[::2]]
    demand(max(weights) > 0, "the modules in turn: expected gradients of the weights, got zeros")


@pytest.mark.points(2)
def test_pytorch_mlp(submission, rng):
    """The PyTorch MLP is the same net: with equal weights it gives equal logits."""
    module = submission("part1_mlp.mlp_pytorch")
    net = module.MLP(5, [8, 6], 3)
    named = submission.do("parameters", net)
    shapes = [array.shape for _, array in named]
    weights = [(8, 5), (6, 8), (3, 6)]
    wanted = [*weights, *(shape[:1] for shape in weights)]
    equal(sorted(shapes), sorted(wanted), "the parameters of MLP(5, [8, 6], 3)")
    known = {shape: rng.normal(size=shape) for shape in shapes}
    submission.do("set_parameters", net, list(known.values()))
    x = rng.normal(size=(40, 5)).astype(np.float32)
    expected = mlp(x, [(known[shape].T, known[shape[:1]]) for shape in weights])
    logits = submission.do("predict", net, Tensor(x))
    close(logits, expected, "the logits in evaluation mode", rtol=1e-3, atol=1e-4)
    large = submission.do("parameters", module.MLP(3072, [512, 256, 128], 10))
    equal(sum(array.size for _, array in large), 1_738_890, "parameters of 3072-512-256-128-10")


@pytest.mark.points(1)
def test_loader_keeps_the_splits_apart(submission):
    """load_dataset gives train, validation and test sets that share no sample; the seed counts."""
    names = ("x_train", "x_val", "x_test")
    first, again, other = (
        loaded(submission, "moons", seed=seed, n_samples=300, noise=0.1) for seed in (0, 0, 1)
    )
    rows = [{tuple(row) for row in numbers(first[name], name).tolist()} for name in names]
    demand(all(rows), "load_dataset('moons', n_samples=300): a split is empty")
    shared = sum(map(len, rows)) - len(set.union(*rows))
    equal(shared, 0, "samples that are in two splits")
    close(again["x_train"], first["x_train"], "x_train with the same seed")
    demand(
        not np.array_equal(first["x_train"], numbers(other["x_train"], "x_train")),
        "x_train with another seed: expected other points, got the same",
    )
    for name in ("n_inputs", "n_classes"):
        close(first[name], 2, f"{name} of moons")
    n = sum(map(len, rows))
    demand(297 <= n <= 300, f"load_dataset('moons', n_samples=300): expected 300 points, got {n}")
    for name in ("moons", "circles"):
        (near, agree), (far, _) = (
            nearest_neighbours(loaded(submission, name, seed=0, n_samples=300, noise=noise))
            for noise in (0.02, 0.3)
        )
        demand(
            agree >= 0.9,
            f"{name} with noise 0.02: {agree:.0%} of the points of x_val or x_test have the label "
            "of the nearest point of x_train: expected 90% or more (does each label belong to its "
            "point?)",
        )
        demand(
            far > 1.5 * near,
            f"{name}: points with noise 0.3 lie {far:.2g} from the nearest point of x_train, those "
            f"with noise 0.02 {near:.2g}: expected more than 1.5 times as far",
        )


def loaded(submission: Submission, name: str, **settings: object) -> dict[str, np.ndarray]:
    """What load_dataset returns, as arrays by their names."""
    load = submission("data").load_dataset
    return submission.do("load_arrays", load, DATASET, name, **settings)


def nearest_neighbours(dataset: dict[str, np.ndarray]) -> tuple[float, float]:
    """Of held-out points: the mean distance to the nearest training point, how often labels agree.

    Of validation and test points, the smaller share of both.
    """
    arrays = [numbers(dataset[name], name) for name in DATASET[:6]]
    (x, y), *held_out = zip(arrays[::2], arrays[1::2], strict=True)
    distances, agree = [], []
    for points, labels in held_out:
        equal((y.shape, labels.shape), (x.shape[:1], points.shape[:1]), "shapes of the labels")
        apart = np.sqrt(((points[:, None] - x) ** 2).sum(axis=2))
        distances.append(apart.min(axis=1).mean())
        agree.append(float((y[apart.argmin(axis=1)] == labels).mean()))
    return float(np.mean(distances)), min(agree)


@pytest.mark.points(2, seconds=12)
def test_training_numpy(submission, rng):
    """train.py --model numpy learns what can be learnt, keeps its files, and trusts validation."""
    run = learns_what_can_be_learnt(
        submission, rng, "part1_mlp", "--model", "numpy", *SMALL, "--max_epochs", 30,
        "--learning_rate", 0.005, "--momentum", 0.9, n_train=20, n_test=10, at_least=0.6,
    )  # fmt: skip
    keeps_a_record(run)
    follows_its_flags(run, max_epochs=30)
    every = np.diff(column(run, "step")).max(initial=0)
    demand(every == 10, f"--eval_freq 10: expected an evaluation every 10 steps, got {every:g}")
    circles = submission.train(
        "part1_mlp", "--model", "numpy", "--dataset", "circles", "--n_samples", 400, "--seed", 0,
        "--dnn_hidden_units", 20, "--batch_size", 20, "--max_epochs", 60, "--learning_rate", 0.1,
    )  # fmt: skip
    accuracy = accuracy_on_test(circles)
    demand(
        accuracy > 0.8,
        f"--dataset circles: expected a test accuracy above 0.8, got {accuracy:.3g} (without "
        "biases no net of ReLUs separates them)",
    )


def follows_its_flags(run: TrainedRun, max_epochs: int) -> None:
    """Fails unless SMALL and --max_epochs made the net and the steps that they name."""
    what = "parameters of the net 3072-100-10 in result.json"
    close(run.result["parameters"], 308_310, what, rtol=0, atol=0)
    epochs, steps = (
        float(numbers(run.result[k], f"result.json: {k}", ())) for k in ("epochs", "steps")
    )
    demand(epochs <= max_epochs, f"--max_epochs {max_epochs}: expected no more, got {epochs:g}")
    demand(
        5 <= steps / epochs <= 10,
        f"--batch_size 20: expected 5 to 10 steps an epoch of 200 images, those held out for "
        f"validation left out, got {steps / epochs:.3g}",
    )


@pytest.mark.points(2, seconds=12)
def test_training_pytorch(submission, rng):
    """train.py --model pytorch learns what can be learnt, and validation chooses the weights."""
    run = learns_what_can_be_learnt(
        submission, rng, "part1_mlp", "--model", "pytorch", *SMALL, "--max_epochs", 25,
        "--learning_rate", 1e-3, n_train=20, n_test=10, at_least=0.6,
    )  # fmt: skip
    keeps_a_record(run)
    follows_its_flags(run, max_epochs=25)
    images = make_images(submission.folder(), rng, 20, 10, turned=True)
    turned = submission.train(
        "part1_mlp", "--data_dir", images, "--seed", 0, "--model", "pytorch", *SMALL,
        "--max_epochs", 10, "--learning_rate", 1e-3,
    )  # fmt: skip
    is_chosen_on_validation(turned)  # where the lowest test loss is one of the first


@pytest.mark.points(1, seconds=8)
def test_augmentation(submission, rng):
    """Training images are flipped at random, so that mirror images are recognised as well."""
    images = make_images(submission.folder(), rng, 20, 10, halves=True)
    run = submission.train(
        "part1_mlp", "--data_dir", images, "--seed", 0, "--model", "pytorch", *SMALL,
        "--max_epochs", 25, "--learning_rate", 1e-3,
    )  # fmt: skip
    on_test = float(numbers(run.result.get("test_accuracy"), "result.json: test_accuracy", ()))
    held_out = column(run, "val_accuracy").max()
    demand(
        min(on_test, held_out) >= 0.5,
        "images that are bright on the left are trained on: expected accuracies of 0.5 or more on "
        f"others of them and on mirror images, got {held_out:.3g} and {on_test:.3g} (are training "
        "images flipped left to right, each with a probability of 0.5?)",
    )


@pytest.mark.points(1, seconds=8)
def test_same_seed_same_run(submission):
    """A seed decides the run: twice the same gives the same curve, another one another."""
    for model in ("numpy", "pytorch"):
        flags = ("--model", model, *TOY[2:], "--max_epochs", 3, "--seed")
        a_seed_decides(
            lambda seed, flags=flags: submission.train("part1_mlp", *flags, seed),
            f"--model {model}: train_loss",
        )


@pytest.mark.points(1, seconds=8)
def test_momentum_helps(submission):
    """Momentum adds up steps in one direction: full-batch SGD gets further with it."""
    flags = ("--batch_size", 240, "--max_steps", 40, "--eval_freq", 20, "--learning_rate", 0.002,
             "--seed", 0)  # fmt: skip
    plain, fast = (
        column(submission.train("part1_mlp", *TOY, *flags, "--momentum", value), "train_loss")
        for value in (0, 0.9)
    )
    gained, most = plain[0] - plain[-1], plain[0] - fast[-1]
    demand(
        most > 1.2 * max(gained, 0),
        "40 steps with momentum 0.9: expected the training loss to fall by more than 1.2 times "
        f"{gained:.3g}, as it does without, got {most:.3g}",
    )


@pytest.mark.points(1, seconds=8)
def test_evaluation_is_undisturbed(submission, rng):
    """Neither dropout nor augmentation touches evaluation: weights that stand still score alike."""
    images = make_images(submission.folder(), rng, 20, 5)
    for model in ("pytorch", "numpy"):
        run = submission.train(
            "part1_mlp", "--model", model, "--dataset", "cifar10", "--data_dir", images,
            "--batch_size", 60, "--max_epochs", 3, "--eval_freq", 3, "--learning_rate", 1e-12,
        )  # fmt: skip
        stands_still(run)
