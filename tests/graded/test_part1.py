"""Part 1, 30 points: the multi-layer perceptron, by hand in NumPy and in PyTorch."""

import numpy as np
import pytest

TOY = ("--dataset", "moons", "--n_samples", 400, "--max_epochs", 15)
CLOSE = {"rtol": 1e-6, "atol": 1e-9}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.mark.points(2)
def test_linear_forward(rng):
    """Linear maps (N, in_features) to x W + b, W of shape (in_features, out_features)."""
    from part1_mlp.modules import Linear

    layer, x = Linear(5, 3), rng.normal(size=(4, 5))
    assert layer.params["weight"].shape == (5, 3)
    assert layer.params["bias"].shape == (3,)
    layer.params["bias"][...] = [1.0, -2.0, 3.0]
    expected = x @ layer.params["weight"] + np.array([1.0, -2.0, 3.0])
    np.testing.assert_allclose(layer.forward(x), expected, **CLOSE)


@pytest.mark.points(4)
def test_linear_backward(rng, numeric_gradient):
    """Linear.backward sets grads of weight and bias and returns the gradient of the input."""
    from part1_mlp.modules import Linear

    layer, x, dout = Linear(5, 3), rng.normal(size=(4, 5)), rng.normal(size=(4, 3))

    def loss() -> float:
        return float((layer.forward(x) * dout).sum())

    loss()
    dx = np.array(layer.backward(dout))
    grads = {name: np.array(value) for name, value in layer.grads.items()}
    np.testing.assert_allclose(dx, numeric_gradient(loss, x), **CLOSE)
    for name in ("weight", "bias"):
        assert grads[name].shape == layer.params[name].shape
        np.testing.assert_allclose(grads[name], numeric_gradient(loss, layer.params[name]), **CLOSE)


@pytest.mark.points(2)
def test_relu():
    """ReLU is max(0, x), and lets the gradient pass where x > 0 alone: at 0 it is 0."""
    from part1_mlp.modules import ReLU

    layer, x = ReLU(), np.array([[-2.0, 0.0, 3.0]])
    np.testing.assert_array_equal(layer.forward(x), [[0, 0, 3]])
    np.testing.assert_array_equal(layer.backward(np.array([[5.0, 7.0, 11.0]])), [[0, 0, 11]])
    np.testing.assert_array_equal(x, [[-2, 0, 3]], err_msg="the input is left as it was")


@pytest.mark.points(2)
def test_softmax_forward(rng):
    """Rows of SoftMax's output sum to 1, for logits of 1,000 as well."""
    from part1_mlp.modules import SoftMax

    logits = rng.normal(size=(4, 3))
    p = SoftMax().forward(logits.copy())
    np.testing.assert_allclose(p, np.exp(logits) / np.exp(logits).sum(1, keepdims=True), **CLOSE)
    with np.errstate(all="ignore"):
        large = SoftMax().forward(np.array([[1000.0, 999.0], [-1000.0, -1000.0]]))
    odds = np.exp(-1) / (1 + np.exp(-1))
    np.testing.assert_allclose(large, [[1 - odds, odds], [0.5, 0.5]], **CLOSE)


@pytest.mark.points(3)
def test_softmax_backward(rng, numeric_gradient):
    """SoftMax.backward multiplies by the full Jacobian, not by its diagonal alone."""
    from part1_mlp.modules import SoftMax

    layer, x, dout = SoftMax(), rng.normal(size=(4, 3)), rng.normal(size=(4, 3))

    def loss() -> float:
        return float((layer.forward(x) * dout).sum())

    loss()
    dx = np.array(layer.backward(dout))
    np.testing.assert_allclose(dx, numeric_gradient(loss, x), rtol=1e-5, atol=1e-8)


@pytest.mark.points(3)
def test_cross_entropy(rng, numeric_gradient):
    """CrossEntropy is the mean over the batch; backward is the gradient of that mean."""
    from part1_mlp.modules import CrossEntropy

    module, p = CrossEntropy(), rng.uniform(0.1, 0.9, (4, 3))
    one_hot = np.eye(3)[[0, 2, 1, 1]]
    expected = -np.log(p[range(4), [0, 2, 1, 1]]).mean()
    assert module.forward(p, one_hot) == pytest.approx(expected)
    gradient = np.array(module.backward(p, one_hot))
    numeric = numeric_gradient(lambda: module.forward(p, one_hot), p)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-8)
    certain = module.forward(np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]]))
    assert np.isfinite(certain), "a probability of 0 must not give an infinite loss"


@pytest.mark.points(4)
def test_numpy_mlp(rng, linears_of, numeric_gradient):
    """The NumPy MLP: linear and ReLU in turn, logits at the end; backward fills all grads."""
    from part1_mlp.mlp_numpy import MLP

    net, x, dout = MLP(5, [8, 6], 3), rng.normal(size=(4, 5)), rng.normal(size=(4, 3))
    layers = linears_of(net)
    shapes = [layer.params["weight"].shape for layer in layers]
    assert shapes == [(5, 8), (8, 6), (6, 3)]
    for layer in layers:
        for values in layer.params.values():
            values[...] = rng.normal(size=values.shape)
    h = x
    for layer in layers[:-1]:
        h = np.maximum(h @ layer.params["weight"] + layer.params["bias"], 0)
    expected = h @ layers[-1].params["weight"] + layers[-1].params["bias"]
    assert (expected < 0).any()  # else a ReLU after the logits would not show
    np.testing.assert_allclose(net.forward(x), expected, **CLOSE)

    def loss() -> float:
        return float((net.forward(x) * dout).sum())

    loss()
    net.backward(dout)
    grads = [{name: np.array(g) for name, g in layer.grads.items()} for layer in layers]
    for layer, of_layer in zip(layers, grads, strict=True):
        for name, gradient in of_layer.items():
            numeric = numeric_gradient(loss, layer.params[name])
            np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-8)


@pytest.mark.points(2)
def test_pytorch_mlp():
    """The PyTorch MLP is the same net: with equal weights it gives equal logits."""
    import torch
    from torch import nn

    from part1_mlp.mlp_pytorch import MLP

    torch.manual_seed(0)
    net = MLP(5, [8, 6], 3).eval()
    linears = [module for module in net.modules() if isinstance(module, nn.Linear)]
    assert [tuple(m.weight.shape) for m in linears] == [(8, 5), (6, 8), (3, 6)]
    x = torch.randn(4, 5)
    h = x
    for linear in linears[:-1]:
        h = torch.relu(h @ linear.weight.T + linear.bias)
    expected = h @ linears[-1].weight.T + linears[-1].bias
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)
    parameters = sum(p.numel() for p in MLP(3072, [512, 256, 128], 10).parameters())
    assert parameters == 1_738_890


@pytest.mark.points(1)
def test_loader_keeps_the_splits_apart():
    """load_dataset gives train, validation and test sets that share no sample; the seed counts."""
    from data import load_dataset

    sets = [load_dataset("moons", seed=seed, n_samples=300, noise=0.1) for seed in (0, 0, 1)]
    rows = [
        {tuple(row) for row in np.asarray(getattr(sets[0], f"x_{split}")).tolist()}
        for split in ("train", "val", "test")
    ]
    assert all(rows)
    assert len(set.union(*rows)) == sum(map(len, rows))
    np.testing.assert_array_equal(sets[0].x_train, sets[1].x_train)
    assert not np.array_equal(sets[0].x_train, sets[2].x_train)
    assert (sets[0].n_inputs, sets[0].n_classes) == (2, 2)


@pytest.mark.points(1, seconds=60)  # for each of the two
@pytest.mark.parametrize("model", ["numpy", "pytorch"])
def test_training_learns_moons(model, train, keeps_a_record, is_chosen_on_validation):
    """train.py learns moons, keeps the promised files, and lets validation choose the weights."""
    run = train("part1_mlp", "--model", model, *TOY)
    keeps_a_record(run)
    is_chosen_on_validation(run)
    assert run.result["test_accuracy"] > 0.9
    assert run.history["train_loss"][-1] < 0.5 * run.history["train_loss"][0]


@pytest.mark.points(1, seconds=60)
def test_same_seed_same_run(train):
    """A seed decides the run: twice the same gives the same curve, another one another."""
    runs = [train("part1_mlp", "--model", "numpy", *TOY, "--seed", seed) for seed in (0, 0, 1)]
    first, again, other = (run.history["train_loss"] for run in runs)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.points(2, seconds=60)
def test_momentum_helps(train):
    """Momentum adds up steps in one direction: full-batch SGD gets further with it."""
    flags = ("--model", "numpy", "--dataset", "moons", "--n_samples", 400, "--batch_size", "full",
             "--max_steps", 40, "--eval_freq", 20, "--learning_rate", 0.02)  # fmt: skip
    plain, fast = (
        train("part1_mlp", *flags, "--momentum", value).history["train_loss"] for value in (0, 0.9)
    )
    assert fast[-1] < plain[-1]
    assert plain[0] - fast[-1] > 1.2 * (plain[0] - plain[-1])


@pytest.mark.points(2, seconds=90)
def test_evaluation_is_undisturbed(train, tiny_images):
    """Neither dropout nor augmentation touches evaluation: weights that stand still score alike."""
    run = train("part1_mlp", "--model", "pytorch", "--dataset", "cifar10", "--data_dir",
                tiny_images, "--batch_size", 60, "--max_epochs", 2,
                "--learning_rate", 1e-12)  # fmt: skip
    for split in ("train", "val", "test"):
        losses = run.history[f"{split}_loss"]
        assert len(losses) >= 2
        np.testing.assert_allclose(losses, losses[0], rtol=1e-5)
