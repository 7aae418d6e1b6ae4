"""The claims of the report, C1 to C9: which records decide on each, and what they say beside."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from data.palindromes import N_DIGITS
from figures.effects import Claim, above, between_accuracies, exactly, normal, over_seeds
from figures.experiments import CIRCLES_NOISE
from figures.layers import cnn_costs, mlp_costs, total
from figures.memory import read_memory
from figures.part3 import LIMITS
from figures.results import best_possible, table
from figures.shifts import LARGEST_SEEN, read_shifts
from training.record import RunRecord, read_run

REACHED = 0.95  # of the best accuracy: where a curve counts as having arrived
TEST_IMAGES = 10_000
TEST_PALINDROMES = 10_000
ALMOST = 0.99  # "almost perfectly", C6
NOTICEABLE = 0.05  # error that a bottleneck would leave


class Records:
    """The record folders, by the begin of their names."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(self, name: str) -> list[RunRecord]:
        """All seeds of a name, in their order."""
        return [read_run(path) for path in sorted(self.folder.glob(f"{name}_seed*"))]

    def accuracies(self, name: str) -> np.ndarray:
        """The test accuracy of each seed."""
        return np.array([run.result["test_accuracy"] for run in self(name)])


def steps_to_arrive(run: RunRecord) -> int:
    """The first evaluation whose validation accuracy is 95 % of the run's best."""
    accuracy = run.history["val_accuracy"]
    return int(run.history["step"][np.argmax(accuracy >= REACHED * accuracy.max())])


def all_claims(folder: Path) -> list[Claim]:
    """Every claim, judged by the records in that folder."""
    judges: list[Callable[[Records], Claim]] = [
        _same_nets, _circles, _cnn_better, _cnn_smaller, _shifts, _five_digits, _longer, _gradients,
        _hidden_state,
    ]  # fmt: skip
    return [judge(Records(folder)) for judge in judges]


def _same_nets(records: Records) -> Claim:
    effects, better, lead, gap = [], [], [], 0.0
    for dataset in ("circles", "moons"):
        ours, theirs, equal = (
            records(name)
            for name in (
                f"mlp_numpy_{dataset}_report",
                f"mlp_pytorch_{dataset}_report",
                f"mlp_pytorch_{dataset}_equal",
            )
        )
        saved = [steps_to_arrive(a) - steps_to_arrive(b) for a, b in zip(ours, theirs, strict=True)]
        effects.append(over_seeds(f"steps that PyTorch saves on {dataset}", saved))
        for a, b, c in zip(ours, theirs, equal, strict=True):
            better.append(b.result["test_accuracy"] - a.result["test_accuracy"])
            lead.append(steps_to_arrive(a) - steps_to_arrive(c))
            gap = max(gap, float(np.abs(a.history["val_loss"] - c.history["val_loss"]).max()))
    difference = over_seeds("PyTorch's accuracy less NumPy's", better)
    story = (
        f"Five seeds on each of circles and moons, paired by seed; a curve has arrived when its "
        f"validation accuracy is {REACHED:.0%} of its best. Final accuracy, {difference}: "
        "the two end alike to a fraction of a percent. With each library's usual beginning (He's "
        "normal weights in NumPy, the uniform ones of nn.Linear in PyTorch) it is NumPy that on "
        "average arrives first. With equal weights and batches the two differ by "
        f"{np.mean(lead):.3g} steps, and no validation loss differs by more than {gap:.2g}: the "
        "effect is the initialisation's, not the library's."
    )
    text = "PyTorch's MLP converges in fewer steps than the NumPy MLP, to the same accuracy"
    return Claim("C1", text, tuple(effects), story)


def _circles(records: Records) -> Claim:
    steps: dict[str, list[int]] = {}
    for model in ("numpy", "pytorch"):
        for name in ("circles_matched", "moons_report"):
            arrived = [steps_to_arrive(run) for run in records(f"mlp_{model}_{name}")]
            steps.setdefault(name, []).extend(arrived)
    circles, moons = (np.array(each) for each in steps.values())
    names = ("mlp_numpy_circles_matched", "mlp_numpy_moons_report")
    possible = [best_possible(records(name)[0]) for name in names]
    accuracy = [records.accuracies(name).mean() for name in names]
    effect = over_seeds("steps that circles need more than moons", circles - moons, "steps")
    story = (
        "Noise is matched by what the best possible classifier reaches: circles with noise "
        f"{CIRCLES_NOISE:g} allow {possible[0]:.4f}, moons with their 0.2 {possible[1]:.4f}. Five "
        f"seeds of each MLP: circles arrive at {REACHED:.0%} of their best after "
        f"{circles.mean():.0f} steps on average, moons after {moons.mean():.0f}; NumPy's MLP ends "
        f"at {accuracy[0]:.4f} and {accuracy[1]:.4f}. Moons begin easily, because a straight line "
        "separates most of them, and circles at guessing; but the last bend of the moons takes "
        "longest of all."
    )
    return Claim("C2", "Circles are harder to learn than moons", (effect,), story)


def _cnn_better(records: Records) -> Claim:
    nets = ("cnn", "mlp_pytorch_cifar10")
    cnn, mlp = (records.accuracies(f"{net}_report") for net in nets)
    best = [records.accuracies(f"{net}_best").mean() for net in nets]
    whole = between_accuracies(
        "the CNN's accuracy less the MLP's", cnn.mean(), TEST_IMAGES, mlp.mean(), TEST_IMAGES
    )
    names = {"CNN": "cnn_short_augmented", "MLP": "mlp_pytorch_short_augmented"}
    shortened = {net: records.accuracies(name) for net, name in names.items()}
    short = over_seeds("the same after a few minutes", shortened["CNN"] - shortened["MLP"])
    told = " and ".join(
        f"{shortened[net].mean():.4f} (the {net}, {records(name)[0].result['epochs']:g} epochs)"
        for net, name in names.items()
    )
    story = (
        f"Recipe report: CNN {cnn.mean():.4f} ({len(cnn)} seed), MLP {mlp.mean():.4f} "
        f"({len(mlp)} seeds); the interval is for {TEST_IMAGES:,} test images. Shortened to a few "
        f"minutes, {len(shortened['CNN'])} seeds of each, paired by seed: {told}. Recipe best: "
        f"{best[0]:.4f} against {best[1]:.4f}."
    )
    return Claim("C3", "The CNN beats the MLP on CIFAR-10", (whole, short), story)


def _cnn_smaller(records: Records) -> Claim:
    mlp_run = records("mlp_pytorch_cifar10_report")[0]
    costs = cnn_costs()
    cnn, mlp = total("CNN", costs), total("MLP", mlp_costs(mlp_run.config["dnn_hidden_units"]))
    shared = total("convolutions", [cost for cost in costs if cost.is_convolution])
    story = (
        f"The whole CNN has {cnn.parameters:,} parameters, the MLP {mlp.parameters:,}. Its six "
        f"convolutions have {shared.parameters:,} of them; fully connected layers of the same "
        f"shapes would have {shared.dense_parameters:,}, "
        f"{shared.dense_parameters / shared.parameters:,.0f} times as many. So weight sharing does "
        "what the report says, a layer at a time, but "
        f"{(cnn.parameters - shared.parameters) / cnn.parameters:.0%} of the CNN's parameters are "
        f"in its three linear layers. It also computes more: {cnn.multiply_adds:,} multiply-adds "
        f"an image, {shared.multiply_adds / cnn.multiply_adds:.0%} of them in the convolutions, "
        f"where the MLP needs {mlp.multiply_adds:,}. A table of all layers is below."
    )
    saved = mlp.parameters - cnn.parameters
    effect = exactly("parameters that the CNN saves", saved, "parameters")
    text = "The CNN is more parameter-efficient (weight sharing)"
    return Claim("C4", text, (effect,), story)


def _shifted(records: Records, name: str) -> tuple[np.ndarray, int]:
    """Accuracies (n_seeds, n_shifts) on shifted test images, over all directions; how many."""
    measured = [read_shifts(run.path) for run in records(name)]
    return np.stack([accuracy.mean(1) for _, accuracy, _ in measured]), measured[0][2]


def _shifts(records: Records) -> Claim:
    at = LARGEST_SEEN
    (cnn, n_cnn), (mlp, n_mlp) = (
        _shifted(records, f"{net}_report") for net in ("cnn", "mlp_pytorch_cifar10")
    )
    cnn, mlp = cnn.mean(0), mlp.mean(0)
    # Both accuracies of a loss are on the same images, which makes its error smaller than this.
    variance = sum(a[s] * (1 - a[s]) / n for a, n in ((cnn, n_cnn), (mlp, n_mlp)) for s in (0, at))
    what = f"accuracy that the CNN loses less at {at} pixels"
    effects = [normal(f"{what}, recipe report", (mlp[0] - mlp[at]) - (cnn[0] - cnn[at]), variance)]
    told = []
    for kind, training in (("augmented", "with crops"), ("plain", "without crops")):
        short = {net: _shifted(records, f"{net}_short_{kind}")[0] for net in ("cnn", "mlp_pytorch")}
        lost = {net: accuracy[:, 0] - accuracy[:, at] for net, accuracy in short.items()}
        effects.append(over_seeds(f"short runs {training}", lost["mlp_pytorch"] - lost["cnn"]))
        told.append(
            f"{training} the CNN goes from {short['cnn'][:, 0].mean():.4f} to "
            f"{short['cnn'][:, at].mean():.4f}, the MLP from "
            f"{short['mlp_pytorch'][:, 0].mean():.4f} to {short['mlp_pytorch'][:, at].mean():.4f}"
        )
    story = (
        "Test images shifted left, right, up and down, black filling the gap; "
        f"{n_cnn:,} images for the CNN, {n_mlp:,} for the MLP. Recipe report: at {at} pixels the "
        f"CNN goes from {cnn[0]:.4f} to {cnn[at]:.4f}, the MLP from {mlp[0]:.4f} to "
        f"{mlp[at]:.4f}; at 8 pixels the CNN has lost {cnn[0] - cnn[-1]:.4f}, the MLP "
        f"{mlp[0] - mlp[-1]:.4f}. Both were trained on random crops that move an image by up to "
        f"{at} pixels. Short runs, {len(lost['cnn'])} seeds of each net: {'; '.join(told)}. So the "
        "convolutions do help where training has shown no shifts, and beyond those that it has "
        "shown; within them the MLP has learnt to bear them too, and no difference is certain."
    )
    text = "The CNN is more robust to small translations of the image"
    return Claim("C5", text, tuple(effects), story)


def _five_digits(records: Records) -> Claim:
    accuracy = records.accuracies("rnn_T5_report")
    effect = above(
        f"lowest test accuracy of {len(accuracy)} seeds less {ALMOST}",
        accuracy.min(),
        TEST_PALINDROMES,
        ALMOST,
    )
    steps = [
        int(run.history["step"][np.argmax(run.history["test_accuracy"] >= 0.999)])
        for run in records("rnn_T5_report")
    ]
    story = (
        f"{len(accuracy)} seeds on {TEST_PALINDROMES:,} palindromes: {accuracy.mean():.4f} on "
        f"average, {accuracy.min():.4f} at least; 0.999 is reached within {max(steps):,} steps."
    )
    return Claim("C6", "T = 5 is learnt almost perfectly", (effect,), story)


def _longer(records: Records) -> Claim:
    short, long = (records.accuracies(f"rnn_length_report_T{T}") for T in (5, 30))
    middle = {T: records.accuracies(f"rnn_length_report_T{T}").mean() for T in (10, 15, 20)}
    latches = records.accuracies("rnn_length_best_T1000")
    effect = over_seeds("accuracy at T = 5 less that at T = 30", short - long)
    story = (
        f"{len(short)} seeds of recipe report, 1,000 steps: "
        + ", ".join(f"{value:.4f} at T = {T}" for T, value in middle.items())
        + f", {long.mean():.4f} at T = 30, where guessing gives {1 / N_DIGITS:g}. But it is not in "
        f"the nature of the net: from other weights the same formula reaches at least "
        f"{latches.min():.4f} at T = 1,000 on each of {len(latches)} seeds."
    )
    return Claim("C7", "Accuracy falls as the palindrome grows", (effect,), story)


def _gradients(records: Records) -> Claim:
    ratio, share, accuracy = {}, {}, {}
    for kind in ("report", "small_inputs", "orthogonal", "both", "both_slow", "latches"):
        runs = records(f"rnn_limits_{kind}_T30")
        memory = [read_memory(run.path) for run in runs]
        norms = np.array([m["initial_gradient"][[0, -1]] for m in memory])
        ratio[kind] = np.log10(norms[:, 0] / norms[:, 1])
        share[kind] = np.array([m["initial_share"][-1] for m in memory])
        accuracy[kind] = records.accuracies(f"rnn_limits_{kind}_T30")
    effect = over_seeds(
        "orders of magnitude by which the gradient shrinks over 30 steps", -ratio["report"]
    )
    gain = over_seeds(
        "accuracy where latches make it shrink more, less that of the report",
        accuracy["report"] - accuracy["latches"],
    )
    rows = [
        (
            LIMITS[f"rnn_limits_{kind}"],
            f"10^{ratio[kind].mean():.1f}",
            f"{share[kind].mean():.2f}",
            f"{accuracy[kind].mean():.4f}",
        )
        for kind in ratio
    ]
    story = (
        "T = 30, five seeds: the gradient's norm at the first step over that at the last, and the "
        "share of the last state that the first digit explains (the memory), both before training; "
        "and the accuracy after at most 1,000 steps.\n\n"
        f"{table(('net', 'gradient', 'memory', 'accuracy'), rows)}\n\n"
        "So the gradient does vanish in the report's net, and large inputs are why: they saturate "
        "tanh, and an orthogonal matrix alone does not help. With small inputs the gradient is "
        "whole, but steps of the report's size shake the memory apart, and only small steps learn "
        "the task on every seed. And the latches, which learn it at once, begin with a gradient "
        "that has vanished more than any: what decides is whether the state still holds the first "
        "digit at the end."
    )
    return Claim("C8", "The cause is vanishing gradients", (effect, gain), story)


def _hidden_state(records: Records) -> Claim:
    def of(kind: str, hidden: int, length: int) -> np.ndarray:
        return records.accuracies(f"rnn_hidden{hidden}_{kind}_T{length}")

    gain = over_seeds(
        "accuracy of the report's net at T = 10 with 128 units less that with 16",
        of("report", 128, 10) - of("report", 16, 10),
    )
    left = over_seeds(
        f"error that 16 latches leave at T = 15 less {NOTICEABLE}",
        1 - of("best", 16, 15) - NOTICEABLE,
    )
    sizes = (16, 32, 64, 128, 256)
    rows = [
        (f"{kind}, T = {length}", *(f"{of(kind, size, length).mean():.4f}" for size in sizes))
        for kind, length in (("report", 10), ("report", 15), ("best", 15))
    ]
    story = (
        "Accuracy by number of hidden units, five seeds, at most 1,000 steps.\n\n"
        f"{table(('recipe', *(f'{size} units' for size in sizes)), rows)}\n\n"
        "To remember one digit takes a little over three bits, and the latches of recipe best hold "
        "it in few units. More units help the report's net, but only to make up for how it begins."
    )
    text = "The fixed-size hidden state is a bottleneck"
    return Claim("C9", text, (gain, left), story)
