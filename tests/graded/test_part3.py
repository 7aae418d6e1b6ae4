"""Part 3, 40 points: the recurrent network on palindromes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

T, HIDDEN = 6, 128


@pytest.fixture
def net() -> torch.nn.Module:
    from part3_rnn.model import VanillaRNN

    torch.manual_seed(0)
    return VanillaRNN(T, 10, HIDDEN, 10)


@pytest.fixture
def x() -> torch.Tensor:
    digits = torch.from_numpy(np.random.default_rng(0).integers(0, 10, (8, T)))
    return F.one_hot(digits, 10).float()


def by_the_formula(net: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """h_t = tanh(x_t W_xh + h_{t-1} W_hh + b_h), output = h_T W_hy + b_y."""
    h = torch.zeros(len(x), net.W_hh.shape[0])
    for t in range(x.shape[1]):
        h = torch.tanh(x[:, t] @ net.W_xh + h @ net.W_hh + net.b_h)
    return h @ net.W_hy + net.b_y


def with_random_biases(net: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for bias in (net.b_h, net.b_y):
            bias.normal_(std=0.3)
    return net


@pytest.mark.points(8)
def test_forward(net, x):
    """The logits are those of the formula, for (batch, input_length, input_dim) inputs."""
    logits = with_random_biases(net)(x)
    assert logits.shape == (8, 10)
    torch.testing.assert_close(logits, by_the_formula(net, x), rtol=1e-4, atol=1e-4)


@pytest.mark.points(6)
def test_gradients(net, x):
    """Back-propagation through time gives every parameter its gradient."""
    with_random_biases(net)
    with torch.no_grad():
        net.W_hh.mul_(0.5)
    names = ("W_xh", "W_hh", "W_hy", "b_h", "b_y")
    parameters = [getattr(net, name) for name in names]
    y = torch.arange(8)
    got = torch.autograd.grad(F.cross_entropy(net(x), y), parameters)
    wanted = torch.autograd.grad(F.cross_entropy(by_the_formula(net, x), y), parameters)
    for name, a, b in zip(names, got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.points(4)
def test_initialisation(net):
    """Weights are drawn from a normal distribution, biases are zero."""
    shapes = {"W_xh": (10, HIDDEN), "W_hh": (HIDDEN, HIDDEN), "W_hy": (HIDDEN, 10)}
    for name, shape in shapes.items():
        weight = getattr(net, name).detach()
        assert tuple(weight.shape) == shape, name
        z = (weight - weight.mean()) / weight.std()
        assert abs(weight.mean()) < 4 * weight.std() / weight.numel() ** 0.5, name
        kurtosis = z.pow(4).mean().item()  # 3 for a normal distribution, 1.8 for a uniform one
        assert abs(kurtosis - 3) < 4 * (24 / weight.numel()) ** 0.5 + 0.05, name
    for name in ("b_h", "b_y"):
        assert not getattr(net, name).detach().any(), name


@pytest.mark.points(2)
def test_digits_as_numbers():
    """With input_dim 1 the net reads digits as numbers."""
    from part3_rnn.model import VanillaRNN

    net = VanillaRNN(T, 1, 16, 10)
    x = torch.from_numpy(np.random.default_rng(1).integers(0, 10, (4, T, 1))).float()
    torch.testing.assert_close(net(x), by_the_formula(net, x), rtol=1e-4, atol=1e-4)


@pytest.mark.points(1.5)  # for each of the four
@pytest.mark.parametrize("length", [1, 2, 5, 6])
def test_palindromes(length):
    """draw_palindromes(n, T, seed) gives T digits of palindromes of T + 1, and the last digit."""
    from data.palindromes import draw_palindromes

    x, y = (np.asarray(a) for a in draw_palindromes(3000, length, 5))
    assert x.shape == (3000, length)
    whole = np.column_stack([x, y])
    np.testing.assert_array_equal(whole, whole[:, ::-1])
    half = whole[:, : (length + 2) // 2]
    assert ((half >= 0) & (half <= 9)).all()
    for digits in half.T:  # each of ten digits 300 times, give or take five standard deviations
        counts = np.bincount(digits, minlength=10)
        assert (abs(counts - 300) < 5 * (3000 * 0.1 * 0.9) ** 0.5).all()
    again, other = (np.asarray(draw_palindromes(3000, length, seed)[0]) for seed in (5, 6))
    np.testing.assert_array_equal(x, again)
    assert not np.array_equal(x, other)


@pytest.mark.points(6, seconds=120)
def test_training(train, keeps_a_record, is_chosen_on_validation):
    """train.py learns palindromes with T = 5 and keeps the promised files."""
    run = train("part3_rnn", "--input_length", 5, "--train_steps", 300, "--eval_freq", 50)
    keeps_a_record(run)
    is_chosen_on_validation(run)
    assert run.result["test_accuracy"] > 0.98


@pytest.mark.points(4, seconds=60)
def test_clipping(train):
    """--max_norm bounds the gradient before the step: with a tiny one, SGD stands still."""
    flags = ("--input_length", 5, "--train_steps", 20, "--eval_freq", 10, "--optimizer", "sgd",
             "--learning_rate", 0.5)  # fmt: skip
    clipped, free = (
        train("part3_rnn", *flags, "--max_norm", value).history["train_loss"]
        for value in (1e-6, 10)
    )
    np.testing.assert_allclose(clipped, clipped[0], rtol=1e-4)
    assert free[-1] < free[0] - 0.1


@pytest.mark.points(4, seconds=60)
def test_same_seed_same_run(train):
    """A seed decides the run: twice the same gives the same curve, another one another."""
    flags = ("--input_length", 5, "--train_steps", 20, "--eval_freq", 10, "--seed")
    first, again, other = (
        train("part3_rnn", *flags, seed).history["train_loss"] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
