"""Part 3, 40 points: the recurrent network on palindromes."""

import numpy as np
import pytest

from tests.graded.checks import Wrong, close, demand, equal, numbers
from tests.graded.references import cross_entropy, numeric_gradients, rnn, rnn_readings
from tests.graded.runs import (
    a_seed_decides,
    accuracy_on_test,
    column,
    is_chosen_on_validation,
    keeps_a_record,
)
from tests.sandbox import Remote, Submission
from tests.wire import Tensor

T = 6
SIZES = (7, 5, 4)  # inputs, hidden units, outputs: all different, so that shapes tell them apart
WIDE = 128


def new_net(submission: Submission, input_length: int, *sizes: int) -> Remote:
    """A VanillaRNN, with initial weights of a known seed.

    Fails unless it is recurrent: the same weights serve every length, and the order counts.
    """
    submission.do("seed", 0)
    build = submission("part3_rnn.model").VanillaRNN
    net, longer = (build(length, *sizes) for length in (input_length, input_length + 3))
    shapes, others = (
        sorted(array.shape for _, array in submission.do("parameters", each))
        for each in (net, longer)
    )
    equal(others, shapes, f"the parameters of a VanillaRNN for {input_length + 3} digits, sorted")
    rng = np.random.default_rng(0)
    with_known_weights(submission, longer, rng)
    x = rng.normal(size=(8, input_length + 3, 1)).astype(np.float32)
    if sizes[0] > 1:
        x = one_hot(rng.integers(0, sizes[0], x.shape[:2]), sizes[0])
    logits, other = (
        numbers(submission.do("predict", longer, Tensor(np.ascontiguousarray(each))), "the logits")
        for each in (x, x[:, ::-1])
    )
    demand(
        abs(other - logits).max() > 1e-5 * abs(logits).max(),
        "digits in the reverse order: expected other logits, got the same",
    )
    return net


def with_known_weights(submission: Submission, net: Remote, rng: np.random.Generator) -> list[list]:
    """Give the net weights and biases at random; returns them with their names."""
    named = [
        [name, rng.normal(0, 0.5 if array.ndim > 1 else 0.3, array.shape)]
        for name, array in submission.do("parameters", net)
    ]
    submission.do("set_parameters", net, [array for _, array in named])
    return named


def fits(logits: object, x: np.ndarray, named: list[list], sizes: tuple[int, int, int]) -> None:
    """Fails unless the formula gives these logits with some reading of the parameters."""
    for reading in rnn_readings(named, *sizes):
        try:
            close(logits, rnn(x, reading(named)), "the logits", rtol=1e-3, atol=1e-4)
            return
        except (Wrong, KeyError, ValueError) as error:
            why = error
    if isinstance(why, Wrong):
        raise why
    shapes = ", ".join(f"{name} {array.shape}" for name, array in named)
    raise Wrong(
        f"VanillaRNN({T}, 7, 5, 4): expected parameters W_xh (7, 5), W_hh (5, 5), W_hy (5, 4), "
        f"b_h (5,), b_y (4,), or those of nn.Linear; got {shapes}"
    )


def one_hot(digits: np.ndarray, n: int) -> np.ndarray:
    """(batch, input_length, n), float32."""
    return np.eye(n, dtype=np.float32)[digits]


@pytest.mark.points(8)
def test_forward(submission, rng):
    """The logits are those of the formula, for (batch, input_length, input_dim) inputs."""
    net = new_net(submission, T, *SIZES)
    named = with_known_weights(submission, net, rng)
    x = one_hot(rng.integers(0, SIZES[0], (8, T)), SIZES[0])
    logits = numbers(submission.do("predict", net, Tensor(x)), "the logits", (8, SIZES[2]))
    fits(logits, x, named, SIZES)


@pytest.mark.points(6)
def test_gradients(submission, rng):
    """Back-propagation through time gives every parameter its gradient."""
    net = new_net(submission, T, *SIZES)
    named = with_known_weights(submission, net, rng)
    x = one_hot(rng.integers(0, SIZES[0], (8, T)), SIZES[0])
    y = rng.integers(0, SIZES[2], 8)
    got = submission.do("gradients", net, Tensor(x), Tensor(y))

    def loss(arrays: list[np.ndarray]) -> float:
        """Of the net's own logits, which another test judges."""
        submission.do("set_parameters", net, arrays)
        return cross_entropy(numbers(submission.do("predict", net, Tensor(x)), "the logits"), y)

    expected = numeric_gradients(loss, [array for _, array in named], step=2e-3)
    for (name, _), a, b in zip(named, got, expected, strict=True):
        demand(abs(b).max() > 1e-3, f"{name}: expected logits that depend on it, they do not")
        close(a, b, f"the gradient of {name}", rtol=5e-3, atol=3e-4)


@pytest.mark.points(4)
def test_initialisation(submission):
    """Weights are drawn from a normal distribution, biases are zero."""
    named = submission.do("parameters", new_net(submission, T, 10, WIDE, 10))
    shapes = {"W_xh": (10, WIDE), "W_hh": (WIDE, WIDE), "W_hy": (WIDE, 10)}
    weights = [(name, array) for name, array in named if array.squeeze().ndim > 1]
    demand(len(weights) >= 2, f"expected weights and biases, got {[name for name, _ in named]}")
    for name, weight in weights:
        if name in shapes:
            equal(sorted(weight.shape), sorted(shapes[name]), f"the shape of {name}, sorted")
        std = float(weight.std())
        demand(std > 0, f"{name}: expected numbers drawn at random, all are equal")
        close(float(weight.mean()), 0, f"the mean of {name}", atol=4 * std / weight.size**0.5)
        kurtosis = float((((weight - weight.mean()) / std) ** 4).mean())
        demand(
            abs(kurtosis - 3) < 4 * (24 / weight.size) ** 0.5 + 0.05,
            f"{name}: expected a normal distribution, whose kurtosis is 3 (a uniform one has 1.8), "
            f"got {kurtosis:.2f}",
        )
    for name, array in named:
        if array.squeeze().ndim == 1:
            close(array, np.zeros_like(array), f"the initial {name}")


@pytest.mark.points(2)
def test_digits_as_numbers(submission, rng):
    """With input_dim 1 the net reads digits as numbers, and every one of them counts."""
    net = new_net(submission, T, 1, 5, 4)
    with_known_weights(submission, net, rng)
    x = rng.integers(0, 10, (8, T, 1)).astype(np.float32) / 10
    logits = numbers(submission.do("predict", net, Tensor(x)), "the logits", (8, 4))
    for t in range(T):
        changed = x.copy()
        changed[:, t] += 0.1
        other = numbers(submission.do("predict", net, Tensor(changed)), "the logits", (8, 4))
        demand(
            abs(other - logits).max() > 1e-6,
            f"digit {t + 1} of {T} was changed: expected other logits, got the same",
        )


def judge_palindromes(submission: Submission, length: int) -> None:
    """Shape, symmetry, distribution and seed of draw_palindromes."""
    draw = submission("data.palindromes").draw_palindromes
    drawn = draw(3000, length, 5)
    demand(isinstance(drawn, list) and len(drawn) == 2, "expected a pair: digits and last digits")
    x = numbers(drawn[0], "the digits", (3000, length))
    y = numbers(drawn[1], "the last digits", (3000,))
    whole = np.column_stack([x, y])
    wrong = (whole != whole[:, ::-1]).any(axis=1)
    demand(
        not wrong.any(),
        f"{wrong.sum()} of 3000 are no palindromes; the first is {whole[wrong][:1].tolist()}",
    )
    half = whole[:, : (length + 2) // 2]
    demand(((half >= 0) & (half <= 9) & (half % 1 == 0)).all(), "expected digits from 0 to 9")
    for place, digits in enumerate(half.T):
        counts = np.bincount(digits.astype(int), minlength=10)
        demand(
            (abs(counts - 300) < 5 * (3000 * 0.1 * 0.9) ** 0.5).all(),
            f"digits at place {place}: expected each about 300 times, got {counts.tolist()}",
        )
    n = 10 ** half.shape[1]
    expected, found = n * (1 - (1 - 1 / n) ** len(half)), len(np.unique(half, axis=0))
    demand(
        found > 0.8 * expected,
        f"expected digits that do not depend on one another: about {expected:.0f} different "
        f"palindromes, got {found}",
    )
    again, other = (numbers(draw(3000, length, seed)[0], "the digits") for seed in (5, 6))
    close(again, x, "the digits with the same seed", rtol=0, atol=0)
    demand(not np.array_equal(x, other), "another seed: expected other digits, got the same")


@pytest.mark.points(3)
def test_palindromes_of_odd_length(submission):
    """draw_palindromes(n, T, seed) gives T digits of palindromes of T + 1, and the last digit."""
    for length in (2, 6):
        judge_palindromes(submission, length)


@pytest.mark.points(3)
def test_palindromes_of_even_length(submission):
    """The same for palindromes of an even number of digits, T = 1 and T = 5."""
    for length in (1, 5):
        judge_palindromes(submission, length)


@pytest.mark.points(2, seconds=10)
def test_learns(submission, rng):
    """The net learns palindromes: it predicts the last digit of some that it has not seen."""
    half = rng.permutation(1000)[:800]
    digits = np.stack([half // 100, half // 10 % 10, half % 10], axis=1)
    x = one_hot(np.column_stack([digits, digits[:, :0:-1]]), 10)
    y = digits[:, 0]
    net = new_net(submission, 5, 10, WIDE, 10)
    submission.do("fit", net, Tensor(x[:600]), Tensor(y[:600]), steps=150, learning_rate=3e-3)
    logits = numbers(submission.do("predict", net, Tensor(x[600:])), "the logits", (200, 10))
    right = float((logits.argmax(axis=1) == y[600:]).mean())
    demand(right >= 0.5, f"accuracy on 200 new palindromes: expected 0.5 or more, got {right:.3g}")


@pytest.mark.points(4, seconds=10)
def test_training(submission):
    """train.py learns palindromes with T = 5, and nothing with a learning rate of 1e-12."""
    flags = ("--input_length", 5, "--seed", 0)
    rmsprop = ("--optimizer", "rmsprop", "--learning_rate", 1e-3)
    run = submission.train("part3_rnn", *flags, *rmsprop, "--train_steps", 500, "--eval_freq", 50)
    keeps_a_record(run)
    is_chosen_on_validation(run)
    accuracy = accuracy_on_test(run)
    demand(accuracy > 0.8, f"test accuracy: expected more than 0.8, got {accuracy:.3g}")
    steps = column(run, "step")
    demand(
        run.result["steps"] <= 500 and np.diff(steps).max() == 50,
        "--train_steps 500 --eval_freq 50: expected 500 steps with an evaluation every 50, got "
        f"{run.result['steps']:g} steps and evaluations at {steps[:5]}...",
    )
    still, longer = (
        submission.train("part3_rnn", "--input_length", length, "--seed", 0, "--train_steps", 60,
                         "--eval_freq", 30, "--learning_rate", 1e-12)
        for length in (5, 9)
    )  # fmt: skip
    accuracy = float(column(still, "test_accuracy").max())
    demand(
        accuracy < 0.4,
        f"test accuracy with a learning rate of 1e-12: expected about 0.1, got {accuracy:.3g}",
    )
    what = "parameters of the net in result.json with --input_length 9, as with 5"
    close(longer.result["parameters"], still.result["parameters"], what, rtol=0, atol=0)
    demand(
        not np.array_equal(column(still, "val_loss"), column(longer, "val_loss")),
        "val_loss with --input_length 9: expected other numbers than with 5, got the same",
    )
    wild = submission.train("part3_rnn", *flags, "--optimizer", "rmsprop", "--learning_rate", 0.1,
                            "--train_steps", 40, "--eval_freq", 4)  # fmt: skip
    is_chosen_on_validation(wild)  # the last evaluation is not the best
    sgd = ("--optimizer", "sgd", "--learning_rate", 0.1, "--max_norm", 1e3)
    plain = submission.train("part3_rnn", *flags, *sgd, "--train_steps", 300, "--eval_freq", 25)
    losses = column(plain, "val_loss")
    demand(
        losses[-4:].max() < losses.min() + 3,
        f"300 steps of SGD: the validation loss falls to {losses.min():.3g} and rises again to "
        f"{losses[-4:].max():.3g} (are the gradients of earlier steps cleared?)",
    )


STEP = 0.05  # the length of a step over all parameters
RATE = 0.1  # of steps that are not clipped
CLEAR = 4e-3  # a change of the loss by a step, from which the norm of the gradient can be told


@pytest.mark.points(4, seconds=8)
def test_clipping(submission):
    """--max_norm M shortens the gradient of all parameters to a norm of M if it is longer."""

    def loss_after_a_step(learning_rate: float, max_norm: float) -> float:
        run = submission.train(
            "part3_rnn", "--input_length", 5, "--train_steps", 1, "--eval_freq", 1, "--optimizer",
            "sgd", "--seed", 0, "--learning_rate", learning_rate, "--max_norm", max_norm,
        )  # fmt: skip
        column(run, "val_loss")
        loss = float(run.history["val_loss"][-1])
        flags = f"--learning_rate {learning_rate:.3g} --max_norm {max_norm:.3g}"
        demand(
            np.isfinite(loss),
            f"val_loss after a step of --optimizer sgd with {flags}: expected a number, got {loss} "
            "(is the gradient clipped?)",
        )
        return loss

    clip = 1e-4
    start, clipped = loss_after_a_step(1e-12, 1e3), loss_after_a_step(STEP / clip, clip)
    flags = f"--learning_rate {STEP / clip:g} --max_norm {clip:g}"
    demand(
        abs(clipped - start) > 1e-6,
        f"val_loss after a step of --optimizer sgd with {flags} has to change, it stays "
        f"{start:.6g} (are losses written to six digits?)",
    )
    free, freer = (loss_after_a_step(RATE, max_norm) for max_norm in (1e5, 1e6))
    what = (
        f"val_loss after a step with --learning_rate {RATE} --max_norm 1e6, which clips no more "
        "than 1e5 (is a short gradient lengthened, or does the seed not decide the run?),"
    )
    close(freer, free, what, rtol=5e-3, atol=5e-4)
    # Short steps along the gradient lower the loss in proportion to their length, longer ones by
    # less; one that is not clipped is as long as its rate times the norm.
    norm = (start - free) / (start - clipped) * STEP / RATE
    least = (start - clipped) / STEP
    larger = 0.7 * max(norm, least) if start - clipped > CLEAR else 1e-2
    near = loss_after_a_step(STEP / larger, larger)
    what = (
        f"val_loss after a step with --learning_rate {STEP / larger:.3g} --max_norm {larger:.3g}, "
        f"which has the length of one with {flags} (clip the norm of all parameters' gradients, "
        "after backward(), before step()),"
    )
    close(near, clipped, what, rtol=0, atol=0.02 * abs(start - clipped) + 2e-4)


@pytest.mark.points(4, seconds=10)
def test_same_seed_same_run(submission):
    """A seed decides the run: twice the same gives the same curve, another one another."""
    flags = ("--input_length", 5, "--train_steps", 20, "--eval_freq", 10, "--seed")
    a_seed_decides(lambda seed: submission.train("part3_rnn", *flags, seed))
