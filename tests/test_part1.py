"""Part 1: the layers, the two MLPs, and that both are the same net."""

import numpy as np
import pytest
import torch

from part1_mlp import train
from part1_mlp.mlp_numpy import MLP, SGD
from part1_mlp.mlp_pytorch import MLP as TorchMLP
from part1_mlp.modules import (
    ELU,
    CrossEntropy,
    LeakyReLU,
    Linear,
    ReLU,
    SoftMax,
    log_softmax,
    softmax_cross_entropy_gradient,
)
from tests.exactness import (
    cross_entropy_error,
    largest_difference_after_training,
    layer_error,
    net_error,
)
from training import distributed
from training.runs import load_checkpoint, read_run

TOLERANCE = 1e-7
N, D, M = 6, 5, 4


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


# --- Modules ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda rng: Linear(D, M, rng=rng),
        lambda _: ReLU(),
        lambda _: LeakyReLU(0.2),
        lambda _: ELU(),
        lambda _: SoftMax(),
    ],
)
def test_layer_gradients(make, rng):
    assert layer_error(make(rng), rng.normal(size=(N, D)), rng) < TOLERANCE


def test_linear_shapes_and_formula(rng):
    layer, x = Linear(D, M, rng=rng), rng.normal(size=(N, D))
    assert layer.params["weight"].shape == (D, M)
    assert layer.params["bias"].shape == (M,)
    np.testing.assert_array_equal(layer.params["bias"], 0)
    layer.params["bias"][:] = 1.5
    np.testing.assert_allclose(layer.forward(x), x @ layer.params["weight"] + 1.5)


def test_linear_uses_parameters_that_were_replaced(rng):
    layer = Linear(D, M, rng=rng)
    layer.params["weight"] = np.ones((D, M))
    np.testing.assert_allclose(layer.forward(np.ones((1, D))), D)


def test_relu_at_zero_is_zero_and_passes_no_gradient():
    layer, x = ReLU(), np.array([[-1.0, 0.0, 2.0]])
    np.testing.assert_array_equal(layer.forward(x), [[0, 0, 2]])
    np.testing.assert_array_equal(layer.backward(np.ones((1, 3))), [[0, 0, 1]])
    np.testing.assert_array_equal(x, [[-1, 0, 2]])  # the input is left alone


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(LeakyReLU(0.2), torch.nn.LeakyReLU(0.2)), (ELU(), torch.nn.ELU()), (ReLU(), torch.nn.ReLU())],
)
def test_activations_are_pytorchs(ours, theirs):
    x = np.array([[-800.0, -3.0, -1e-9, 0.0, 1e-9, 2.0, 800.0]])
    x_torch = torch.from_numpy(x).requires_grad_()
    out = theirs(x_torch)
    out.sum().backward()
    np.testing.assert_allclose(ours.forward(x), out.detach().numpy(), rtol=1e-12, atol=1e-16)
    where = x != 0  # the derivative at 0 is a convention
    np.testing.assert_allclose(
        ours.backward(np.ones_like(x))[where], x_torch.grad.numpy()[where], rtol=1e-7
    )


@pytest.mark.parametrize(("activation", "slope"), [("leaky_relu", 0.3), ("elu", 0.01)])
def test_both_nets_have_the_same_activation(activation, slope, rng):
    config = {"dnn_hidden_units": (8, 6), "dropout": 0.0, "batch_norm": False, "skip": False,
              "activation": activation, "neg_slope": slope, "init": "he",
              "precision": "float64"}  # fmt: skip
    ours, theirs = MLP.from_config(config, D, 3, rng=rng), TorchMLP.from_config(config, D, 3)
    theirs.double().load_numpy_weights(ours.state_dict())
    x = rng.normal(size=(N, D))
    expected = theirs(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(ours.forward(x), expected, rtol=1e-12)
    relu = MLP.from_config(config | {"activation": "relu"}, D, 3)
    relu.load_state_dict(ours.state_dict())
    assert not np.allclose(relu.forward(x), expected)


def test_leaky_relu_of_whole_numbers_keeps_its_slope():
    layer = LeakyReLU(0.5)
    assert layer.forward(np.array([[-2, 0, 2]])).tolist() == [[-1, 0, 2]]
    assert layer.backward(np.array([[4.0, 4.0, 4.0]])).tolist() == [[2, 2, 4]]


def test_softmax_survives_huge_logits():
    p = SoftMax().forward(np.array([[1e4, 0.0], [-1e4, -1e4]]))
    np.testing.assert_allclose(p, [[1, 0], [0.5, 0.5]])


def test_cross_entropy_gradient(rng):
    one_hot = np.eye(3)[rng.integers(0, 3, N)]
    assert cross_entropy_error(rng.uniform(0.1, 0.9, (N, 3)), one_hot) < TOLERANCE


def test_cross_entropy_is_the_mean_and_finite_at_zero():
    one_hot = np.eye(2)
    loss = CrossEntropy().forward(np.array([[0.5, 0.5], [0.75, 0.25]]), one_hot)
    assert loss == pytest.approx(-(np.log(0.5) + np.log(0.25)) / 2)
    impossible = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert np.isfinite(CrossEntropy().forward(impossible, one_hot))
    assert np.isfinite(CrossEntropy().backward(impossible, one_hot)).all()


@pytest.mark.parametrize("kind", [np.uint8, bool, np.float32])
def test_targets_may_be_of_any_type(kind):
    one_hot, p = np.eye(3)[[0, 2]], np.full((2, 3), 1 / 3)
    gradient = CrossEntropy().backward(p, one_hot.astype(kind))
    np.testing.assert_allclose(gradient, CrossEntropy().backward(p, one_hot))
    assert gradient[0, 0] == pytest.approx(-1.5)


@pytest.mark.parametrize("kinds", [(np.float32, np.float64), (np.float64, np.float32), (int, int)])
def test_a_layer_takes_arrays_of_another_type_than_its_own(kinds, rng):
    layer, twin = Linear(5, 3, rng=rng), Linear(5, 3)
    twin.params = layer.params
    x, dout = (rng.integers(-3, 4, shape) for shape in ((4, 5), (4, 3)))
    layer.forward(x.astype(float))
    layer.backward(dout.astype(float))
    twin.forward(x.astype(kinds[0]))
    twin.backward(dout.astype(kinds[1]))
    for name, expected in layer.grads.items():
        assert twin.grads[name].dtype == np.float64
        np.testing.assert_allclose(twin.grads[name], expected)


def test_integer_labels_are_refused():
    p = np.full((3, 3), 1 / 3)  # where N = C, labels (N,) would broadcast
    for use in (CrossEntropy().forward, CrossEntropy().backward):
        with pytest.raises(ValueError, match=r"one-hot \(N, C\)"):
            use(p, np.array([0, 1, 2]))


def test_fused_loss_equals_the_two_modules(rng):
    logits, labels = rng.normal(size=(N, 3)), rng.integers(0, 3, N)
    one_hot, softmax, entropy = np.eye(3)[labels], SoftMax(), CrossEntropy()
    p = softmax.forward(logits)
    fused = -(one_hot * log_softmax(logits)).sum() / N
    assert fused == pytest.approx(entropy.forward(p, one_hot))
    two_steps = softmax.backward(entropy.backward(p, one_hot))
    fused = softmax_cross_entropy_gradient(logits, one_hot)
    np.testing.assert_allclose(fused, two_steps, atol=1e-15)


def test_fused_loss_is_finite_for_huge_logits():
    logits = np.array([[1e4, -1e4]])
    np.testing.assert_allclose(log_softmax(logits), [[0, -2e4]])
    assert np.isfinite(softmax_cross_entropy_gradient(logits, np.array([[0.0, 1.0]]))).all()


# --- Whole nets ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n_hidden", [(), (8,), (8, 6), (8, 6, 5, 4)])
def test_net_gradients(n_hidden, rng):
    net = MLP(D, n_hidden, 3, rng=rng)
    assert net_error(net, rng.normal(size=(N, D)), rng.integers(0, 3, N)) < TOLERANCE


@pytest.mark.parametrize("weight_decay", [0.0, 1e-2])
@pytest.mark.parametrize("n_hidden", [(20,), (32, 16), (16, 16, 16, 16)])
def test_numpy_and_pytorch_take_the_same_300_steps(n_hidden, weight_decay):
    assert largest_difference_after_training(n_hidden, weight_decay, n_steps=300) < 1e-9


def test_sgd_updates_arrays_that_were_put_in_place_of_others(rng):
    net = MLP(D, (), 3, rng=rng)
    sgd, (linear,) = SGD(net.linears, 0.5), net.linears
    linear.params["weight"], linear.grads["weight"] = np.ones((D, 3)), np.full((D, 3), 0.2)
    linear.grads["bias"] = np.ones(3)
    sgd.step()
    np.testing.assert_allclose(linear.params["weight"], 0.9)
    np.testing.assert_allclose(linear.params["bias"], -0.5)
    linear.grads["bias"] = np.zeros(3)  # the only one that is replaced
    sgd.step()
    np.testing.assert_allclose(linear.params["weight"], 0.8)
    np.testing.assert_allclose(linear.params["bias"], -0.5)


def test_single_precision_stays_single(rng):
    net = MLP(D, (8,), 3, rng=rng, dtype=np.float32)
    logits = net.forward(rng.normal(size=(N, D)))
    net.backward(logits)
    SGD(net.linears, 0.1, momentum=0.9, weight_decay=0.1).step()
    assert logits.dtype == np.float32
    assert {v.dtype for m in net.linears for v in m.params.values()} == {np.dtype(np.float32)}


def test_both_nets_flatten_images_and_have_the_sizes_of_the_report():
    images = np.zeros((2, 3, 32, 32))
    ours, theirs = MLP(3072, (512, 256, 128), 10), TorchMLP(3072, (512, 256, 128), 10)
    expected = 3072 * 512 + 512 + 512 * 256 + 256 + 256 * 128 + 128 + 128 * 10 + 10
    assert sum(value.size for value in ours.state_dict().values()) == expected
    assert sum(p.numel() for p in theirs.parameters()) == expected
    assert ours.forward(images).shape == (2, 10)
    assert theirs(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_dropout_acts_in_training_alone():
    torch.manual_seed(0)
    net, x = TorchMLP(D, (64,), 3, dropout=0.5), torch.randn(N, D)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


def test_weights_of_another_shape_are_refused(rng):
    state = MLP(D, (8,), 3, rng=rng).state_dict()
    with pytest.raises(ValueError, match=r"0\.weight"):
        MLP(D, (9,), 3, rng=rng).load_state_dict(state)


@pytest.mark.parametrize("init", ["he", "pytorch", "normal"])
def test_initial_weights_have_the_deviation_they_claim(init):
    weight = Linear(400, 500, rng=np.random.default_rng(0), init=init).params["weight"]
    expected = {"he": np.sqrt(2 / 400), "pytorch": 1 / np.sqrt(3 * 400), "normal": 0.01}[init]
    assert weight.std() == pytest.approx(expected, rel=0.01)
    assert abs(weight.mean()) < 4 * expected / np.sqrt(weight.size)


@pytest.mark.parametrize("flags", ["--activation gelu", "--activation silu", "--precision bfloat16",
                                   "--precision float64 --activation gelu"])  # fmt: skip
@pytest.mark.parametrize("init", ["he", "normal"])
def test_both_nets_begin_with_the_same_weights(init, flags, monkeypatch):
    """Also where the NumPy MLP lacks the activation or the precision."""
    monkeypatch.setattr(distributed, "has_bfloat16", lambda _: True)
    common = ["--init", init, "--seed", "3", "--n_samples", "100", "--dnn_hidden_units", "6,5"]
    theirs, _ = train.build(train.parse([*common, "--model", "pytorch", *flags.split()]))
    ours, _ = train.build(train.parse(common))
    for name, value in ours.weights().items():
        layer, kind = name.split(".")
        linear = (*(hidden[0] for hidden in theirs.net.hidden), theirs.net.output)[int(layer)]
        found = getattr(linear, kind).detach().numpy().T
        np.testing.assert_allclose(found, value, rtol=1e-6)


# --- Precision ----------------------------------------------------------------------------------


def test_bfloat16_is_of_the_products_alone_and_resumes(run_main, tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "has_bfloat16", lambda _: True)
    command = (train.main, "train.py", "--model", "pytorch", "--n_samples", 200, "--quiet",
               "--momentum", 0.9, "--max_steps")  # fmt: skip
    losses, best = {}, {}
    for precision in ("float32", "bfloat16", "auto"):
        folder = tmp_path / precision
        flags = (20, "--precision", precision, "--run_dir", folder)
        assert run_main(*command, *flags)[0] == 0
        run = read_run(folder)
        losses[precision] = run.history["val_loss"]
        best[precision] = load_checkpoint(folder / "checkpoint.pt")["best"]
    assert run.config["precision"] == run.config["environment"]["precision"] == "bfloat16"
    assert (losses["bfloat16"] != losses["float32"]).all()
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=0.02)
    assert {value.dtype for value in best["bfloat16"].values()} == {torch.float32}
    for flags in ((10,), (20, "--resume")):
        run_main(*command, *flags, "--precision", "bfloat16", "--run_dir", tmp_path / "parts")
    parts = load_checkpoint(tmp_path / "parts" / "checkpoint.pt")["best"]
    for name, value in best["bfloat16"].items():
        assert torch.equal(value, best["auto"][name])
        assert torch.equal(value, parts[name])


def test_bfloat16_is_refused_where_nothing_computes_in_it(run_main, tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "has_bfloat16", lambda _: False)
    for model, words in (("numpy", "needs --model pytorch"), ("pytorch", "no bfloat16 units")):
        flags = ("--model", model, "--precision", "bfloat16", "--run_dir", tmp_path / "run")
        code, out, err = run_main(train.main, "train.py", *flags)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "--precision" in err
        assert words in err
    for model in ("numpy", "pytorch"):
        args = train.parse(["--model", model, "--precision", "auto", "--device", "cpu"])
        assert args.precision == "float32"
