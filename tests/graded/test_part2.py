"""Part 2, 30 points: the convolutional network on CIFAR-10."""

import numpy as np
import pytest

from tests.graded.checks import close, demand, equal, numbers
from tests.graded.references import cnn, cross_entropy, weights_and_biases
from tests.graded.runs import (
    keeps_a_record,
    learns_what_can_be_learnt,
    make_images,
    stands_still,
)
from tests.sandbox import Remote, Submission
from tests.wire import Tensor

N_PARAMETERS = 6_400_586
SHAPES = [(64, 3, 3, 3), (64, 64, 3, 3), (128, 64, 3, 3), (128, 128, 3, 3), (256, 128, 3, 3),
          (256, 256, 3, 3), (1024, 4096), (1024, 1024), (10, 1024)]  # fmt: skip
N_UNITS = 10  # whose dropout can be seen in ten logits


def new_net(submission: Submission, *sizes: int) -> Remote:
    """A CNN(3, 10), with initial weights of a known seed; fails unless it has convolutions."""
    submission.do("seed", 0)
    sizes = sizes or (3, 10)
    net = submission("part2_cnn.model").CNN(*sizes)
    # Some nets make their layers when they are first called.
    submission.do("predict", net, Tensor(np.zeros((2, sizes[0], 32, 32), np.float32)))
    shapes = [array.shape for _, array in submission.do("parameters", net)]
    demand(
        any(len(shape) == 4 and max(shape[2:]) > 1 for shape in shapes),
        f"expected weights of convolutions, got parameters of shape {shapes}",
    )
    return net


def images_of(rng: np.random.Generator, n: int, n_channels: int = 3) -> np.ndarray:
    """Noise."""
    return rng.normal(size=(n, n_channels, 32, 32)).astype(np.float32)


@pytest.mark.points(4)
def test_parameters(submission):
    """Six convolutions 3x3 and three linear layers, with 6,400,586 parameters."""
    arrays = [array for _, array in submission.do("parameters", new_net(submission))]
    shapes = [array.shape for array in arrays if array.ndim > 1]
    equal(sorted(shapes), sorted(SHAPES), "the weights of CNN(3, 10)")
    equal(sum(array.size for array in arrays), N_PARAMETERS, "the parameters of CNN(3, 10)")


@pytest.mark.points(8)
def test_forward(submission, rng):
    """Blocks of conv, ReLU, conv, ReLU, max-pool; then linear, ReLU, linear, ReLU, linear."""
    net = new_net(submission)
    named = [
        [name, rng.standard_normal(value.shape, np.float32)]
        for name, value in submission.do("parameters", net)
    ]
    for _, value in named:  # He's weights: with small ones little would reach the logits
        value *= (2 / value[0].size) ** 0.5 if value.ndim > 1 else 0.1
    submission.do("set_parameters", net, [value for _, value in named])
    x = images_of(rng, 2)
    logits = submission.do("predict", net, Tensor(x))
    close(logits, cnn(x, named), "the logits of 2 images", rtol=2e-3, atol=2e-3)


@pytest.mark.points(3)
def test_other_channels_and_classes(submission, rng):
    """CNN(n_channels, n_classes) builds the net for other images as well."""
    net = new_net(submission, 1, 7)
    shapes = [array.shape for _, array in submission.do("parameters", net)]
    channels, classes = (
        [shape[i] for shape in shapes if len(shape) == n] for n, i in ((4, 1), (2, 0))
    )
    demand(
        1 in channels and 7 in classes,
        f"CNN(1, 7): expected a convolution of 1 channel and a layer of 7 units, got {shapes}",
    )
    logits = submission.do("predict", net, Tensor(images_of(rng, 2, n_channels=1)))
    numbers(logits, "CNN(1, 7) of 2 images with 1 channel", (2, 7))


@pytest.mark.points(3, seconds=8)
def test_dropout(submission, rng):
    """Half of the hidden linear units are dropped in training, and nothing else; then none."""
    net = new_net(submission)
    named = submission.do("parameters", net)
    pairs = weights_and_biases(named)
    linear = [pair for pair in pairs if pair[0].ndim == 2]
    demand(len(linear) == 3, f"expected 3 linear layers, got {len(linear)}")
    first, second, last = sorted(linear, key=lambda pair: [-n for n in pair[0].shape[::-1]])
    demand(last[0].shape[0] == N_UNITS, f"expected 10 logits, got {last[0].shape[0]}")

    convolutions = sorted((pair for pair in pairs if pair[0].ndim == 4), key=lambda p: p[0].shape)

    def logits(layer: tuple[np.ndarray, np.ndarray], *, training: bool) -> np.ndarray:
        """Ten units of a layer that are 1 for every image, as the last layer sees them."""
        for _, array in named:
            array[...] = 0
        layer[1][:N_UNITS] = 1
        if layer is not second:
            second[0][:N_UNITS, :N_UNITS] = np.eye(N_UNITS)
        if layer is not second and layer is not first:  # the first convolution
            for weight, _ in convolutions[1:]:
                weight[0, 0, 1, 1] = 1
            first[0][:N_UNITS] = 1 / 16  # the mean over the first filter's places, in any order
        last[0][:, :N_UNITS] = np.eye(N_UNITS)
        submission.do("set_parameters", net, [array for _, array in named])
        x = Tensor(images_of(rng, 128))
        return numbers(submission.do("predict", net, x, training=training), "the logits", (128, 10))

    for layer, place, share, value in (
        (second, "second hidden linear layer", 0.5, 2),
        (first, "first hidden linear layer", 0.25, 4),
        (convolutions[0], "first convolution", 0.25, 4),
    ):  # fmt: skip
        close(
            logits(layer, training=False), np.ones((128, 10)),
            f"units of the {place} that are 1, in evaluation mode", rtol=1e-4,
        )  # fmt: skip
        got = logits(layer, training=True)
        kept = float((got != 0).mean())
        demand(
            abs(kept - share) < 5 * (share * (1 - share) / got.size) ** 0.5,
            f"units of the {place} that reach the logits in training mode: expected {share:g} of "
            f"them, got {kept:.3g}",
        )
        close(got[got != 0], np.full((got != 0).sum(), value), "units that are kept", rtol=1e-4)


@pytest.mark.points(2)
def test_initialisation(submission, rng):
    """At first no class is much likelier: the loss is low, and every layer has a gradient."""
    net = new_net(submission)
    x, y = images_of(rng, 20), np.arange(20) % 10
    loss = cross_entropy(numbers(submission.do("predict", net, Tensor(x)), "logits", (20, 10)), y)
    # With He's initialisation in all layers it is about 5.
    demand(loss < 15, f"the initial loss: expected about 2.3, at most 15, got {loss:.3g}")
    gradients = submission.do("gradients", net, Tensor(x), Tensor(y))
    for (name, _), gradient in zip(submission.do("parameters", net), gradients, strict=True):
        largest = abs(numbers(gradient, f"the gradient of {name}")).max()
        demand(largest > 1e-8, f"the gradient of {name}: expected numbers, got zeros")


@pytest.mark.points(4, seconds=15)
def test_overfits_a_few_images(submission, rng):
    """Adam brings the loss on 20 images of noise close to 0."""
    net = new_net(submission)
    x, y = images_of(rng, 20), rng.permutation(np.arange(20) % 10)
    submission.do("fit", net, Tensor(x), Tensor(y), steps=60, learning_rate=5e-4)
    logits = numbers(submission.do("predict", net, Tensor(x)), "the logits", (20, 10))
    right = int((logits.argmax(axis=1) == y).sum())
    demand(
        right >= 15,
        f"images of the 20 that are classified correctly after 60 steps: expected 15, got {right}",
    )
    zeros = [np.zeros_like(array) for _, array in submission.do("parameters", net)]
    submission.do("set_parameters", net, zeros)
    logits = numbers(submission.do("predict", net, Tensor(x)), "the logits", (20, 10))
    demand(
        abs(logits).max() < 1e-6,
        "the logits of a net whose parameters are all 0: expected zeros, got something else",
    )


@pytest.mark.points(4, seconds=35)
def test_training(submission, rng):
    """train.py learns what can be learnt, keeps the promised files, and trusts validation."""
    run = learns_what_can_be_learnt(
        submission, rng, "part2_cnn", "--max_epochs", 6, "--batch_size", 4, "--eval_freq", 20,
        "--learning_rate", 5e-4, n_train=8, n_test=8, at_least=0.5,
    )  # fmt: skip
    keeps_a_record(run)
    what = "parameters of the net in result.json"
    close(run.result["parameters"], N_PARAMETERS, what, rtol=0, atol=0)


@pytest.mark.points(2, seconds=12)
def test_evaluation_is_undisturbed(submission, rng):
    """Neither dropout nor augmentation touches evaluation: weights that stand still score alike."""
    images = make_images(submission.folder(), rng, 3, 2)
    run = submission.train(
        "part2_cnn", "--data_dir", images, "--max_epochs", 3, "--batch_size", 20, "--eval_freq", 2,
        "--learning_rate", 1e-12,
    )  # fmt: skip
    stands_still(run)
