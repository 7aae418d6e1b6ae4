"""The claims of the original, C1 to C9: which records decide on each, and their discussion."""

import numpy as np

from data.images import PADDING
from data.palindromes import N_DIGITS
from data.toy import DEFAULT_NOISE, bayes_accuracy
from figures.effects import Claim, above, between_accuracies, exactly, normal, over_seeds
from figures.experiments import CIRCLES_NOISE, HIDDEN_SIZES, MODELS, RNN_LIMITS, Group, Records
from figures.measurements import cnn_costs, mlp_costs, read_memory, read_shifts, total
from training.cli import markdown_table
from training.runs import RunRecord

REACHED = 0.95  # of the best accuracy: where a curve counts as converged
N_TEST = 10_000  # images, palindromes
ALMOST = 0.99  # "almost perfectly", C6
NOTICEABLE = 0.05  # error that a bottleneck would leave

# What will decide the claims on fresh seeds: set before these runs.
# C1, C2: the steps to reach these shares of the final validation accuracy are compared.
CONVERGED_C1 = (0.90, 0.95, 0.99)
CONVERGED_C2 = (0.85, 0.95, 0.99)
SAME_ACCURACY = 0.005  # C1: final accuracies that differ by less are the same
SOLVED = 0.99  # C6 to C9: accuracy at which a seed has solved a task
SHORT_T, LONG_T = 5, 30  # C7: the lengths that are compared
MOST = 0.5  # C7, C9: a net solves a task if more than this share of its seeds do
RESTORED = 0.1  # C8: first gradient over last at or above which gradients have not vanished


def steps_to_reach(run: RunRecord) -> int:
    """The first evaluation whose validation accuracy is 95 % of the run's best."""
    accuracy = run.history["val_accuracy"]
    return int(run.history["step"][np.argmax(accuracy >= REACHED * accuracy.max())])


def bayes_accuracy_of(config: dict) -> float:
    """The Bayes accuracy on the toy set of a run."""
    dataset, noise = config["dataset"], config["noise"]
    return bayes_accuracy(dataset, DEFAULT_NOISE[dataset] if noise is None else noise)


def all_claims(records: Records) -> list[Claim]:
    """Every claim with the verdict of the records."""
    first = (_same_nets, _circles, _cnn_better, _cnn_smaller, _shifts)
    return [f(records) for f in (*first, _five_digits, _longer, _gradients, _hidden_state)]


def _same_nets(records: Records) -> Claim:
    names = "mlp_numpy_{}_original", "mlp_pytorch_{}_original", "mlp_pytorch_{}_equal"
    effects, better, lead, gap = [], [], [], 0.0
    for dataset in ("circles", "moons"):
        ours, theirs, equal = (records[name.format(dataset)].runs for name in names)
        saved = [steps_to_reach(a) - steps_to_reach(b) for a, b in zip(ours, theirs, strict=True)]
        effects.append(over_seeds(f"steps that PyTorch saves on {dataset}", saved))
        for a, b, c in zip(ours, theirs, equal, strict=True):
            better.append(b.result["test_accuracy"] - a.result["test_accuracy"])
            lead.append(steps_to_reach(a) - steps_to_reach(c))
            gap = max(gap, float(np.abs(a.history["val_loss"] - c.history["val_loss"]).max()))
    difference = over_seeds("PyTorch's accuracy minus NumPy's", better)
    discussion = (
        "Five seeds on each of circles and moons, paired by seed; a curve has converged when its "
        f"validation accuracy is {REACHED:.0%} of its best. Final accuracy, {difference}: the two "
        "differ by a fraction of a percent. With each library's usual initialisation (He's normal "
        "weights in NumPy, uniform ones in PyTorch) it is NumPy that on average converges first. "
        f"With equal weights and batches the two differ by {np.mean(lead):.3g} steps, and no "
        f"validation loss by more than {gap:.2g}: the initialisation makes the difference."
    )
    text = "PyTorch's MLP converges in fewer steps than the NumPy MLP, to the same accuracy"
    return Claim("C1", text, tuple(effects), discussion)


def _circles(records: Records) -> Claim:
    kinds = ("circles_matched", "moons_original")
    groups, others = ([records[f"mlp_{m}_{k}"] for k in kinds] for m in MODELS)
    runs = [[*a.runs, *b.runs] for a, b in zip(groups, others, strict=True)]
    circles, moons = (np.array([steps_to_reach(run) for run in each]) for each in runs)
    bayes = [bayes_accuracy_of(group.config) for group in groups]
    accuracy = [group.accuracies.mean() for group in groups]
    effect = over_seeds("steps that circles need more than moons", circles - moons, "steps")
    discussion = (
        f"Noise is matched by the Bayes accuracy: {bayes[0]:.4f} for circles with noise "
        f"{CIRCLES_NOISE:g}, {bayes[1]:.4f} for moons with their {DEFAULT_NOISE['moons']:g}. Five "
        f"seeds of each MLP: circles reach {REACHED:.0%} of their best accuracy after "
        f"{circles.mean():.0f} steps on average, moons after {moons.mean():.0f}; NumPy's MLP ends "
        f"at {accuracy[0]:.4f} and {accuracy[1]:.4f}. Moons are easy at first, because a straight "
        "line separates most of them; but their last bend takes longest of all."
    )
    return Claim("C2", "Circles are harder to learn than moons", (effect,), discussion)


def _cnn_better(records: Records) -> Claim:
    nets = ("cnn", "mlp_pytorch_cifar10")
    cnn, mlp = (records[f"{net}_original"].accuracies for net in nets)
    best = [records[f"{net}_best"].accuracies.mean() for net in nets]
    means = cnn.mean(), N_TEST, mlp.mean(), N_TEST
    whole = between_accuracies("the CNN's accuracy minus the MLP's", *means)
    groups = [records[f"{net}_short_augmented"] for net in ("cnn", "mlp_pytorch")]
    difference = groups[0].accuracies - groups[1].accuracies
    short = over_seeds("the same with short runs", difference)
    results = " and ".join(
        f"{g.accuracies.mean():.4f} (the {g.net}, {g.runs[0].result['epochs']:g} epochs)"
        for g in groups
    )
    discussion = (
        f"Recipe original: CNN {cnn.mean():.4f} ({len(cnn)} seed), MLP {mlp.mean():.4f} "
        f"({len(mlp)} seeds); the interval is for {N_TEST:,} test images. Short runs, "
        f"{len(difference)} seeds of each, paired by seed: {results}. Recipe best: "
        f"{best[0]:.4f} and {best[1]:.4f}."
    )
    return Claim("C3", "The CNN beats the MLP on CIFAR-10", (whole, short), discussion)


def _cnn_smaller(records: Records) -> Claim:
    hidden_units = records["mlp_pytorch_cifar10_original"].config["dnn_hidden_units"]
    costs = cnn_costs()
    cnn, mlp = total(costs.values()), total(mlp_costs(hidden_units).values())
    shared = total(cost for (name, _), cost in costs.items() if name.startswith("conv"))
    discussion = (
        f"The whole CNN has {cnn.parameters:,} parameters, the MLP {mlp.parameters:,}. Its six "
        f"convolutions have {shared.parameters:,} of them; fully connected layers of their shapes "
        f"would have {shared.dense_parameters / shared.parameters:,.0f} times as many. So weight "
        "sharing does what the original says, a layer at a time, but "
        f"{1 - shared.parameters / cnn.parameters:.0%} of the CNN's parameters are in its three "
        f"linear layers. It also computes more: {cnn.multiply_adds:,} multiply-adds an image, "
        f"{shared.multiply_adds / cnn.multiply_adds:.0%} of them in the convolutions, where the "
        f"MLP needs {mlp.multiply_adds:,}. A table of all layers is below."
    )
    effect = exactly("parameters that the CNN saves", mlp.parameters - cnn.parameters)
    text = "The CNN is more parameter-efficient (weight sharing)"
    return Claim("C4", text, (effect,), discussion)


def _on_shifted(group: Group) -> tuple[np.ndarray, int]:
    """Accuracies (n_seeds, n_shifts) on shifted images, means over directions; images."""
    measured = [read_shifts(run.path) for run in group.runs]
    return np.stack([accuracy.mean(1) for _, accuracy, _ in measured]), measured[0][2]


def _shifts(records: Records) -> Claim:
    at = PADDING  # the largest shift that random crops show in training
    whole = (records[f"{net}_original"] for net in ("cnn", "mlp_pytorch_cifar10"))
    (cnn, n_cnn), (mlp, n_mlp) = map(_on_shifted, whole)
    cnn, mlp = cnn.mean(0), mlp.mean(0)
    # Both accuracies of a loss are on the same images, which makes its error smaller than this.
    variance = sum(a[s] * (1 - a[s]) / n for a, n in ((cnn, n_cnn), (mlp, n_mlp)) for s in (0, at))
    what = f"the MLP's loss of accuracy at {at} pixels minus the CNN's"
    effects = [normal(f"{what}, recipe original", mlp[0] - mlp[at] - cnn[0] + cnn[at], variance)]
    results = []
    for kind, training in (("augmented", "with crops"), ("plain", "without crops")):
        short = [_on_shifted(records[f"{n}_short_{kind}"])[0] for n in ("cnn", "mlp_pytorch")]
        lost = [accuracy[:, 0] - accuracy[:, at] for accuracy in short]
        effects.append(over_seeds(f"short runs {training}", lost[1] - lost[0]))
        means = [f"{each[:, 0].mean():.4f} to {each[:, at].mean():.4f}" for each in short]
        results.append(f"{training} the CNN goes from {means[0]}, the MLP from {means[1]}")
    discussion = (
        "Test images shifted left, right, up and down, black filling the gap; "
        f"{n_cnn:,} images for the CNN, {n_mlp:,} for the MLP. Recipe original: at {at} pixels the "
        f"CNN goes from {cnn[0]:.4f} to {cnn[at]:.4f}, the MLP from {mlp[0]:.4f} to "
        f"{mlp[at]:.4f}; at 8 pixels the CNN has lost {cnn[0] - cnn[-1]:.4f}, the MLP "
        f"{mlp[0] - mlp[-1]:.4f}. Both were trained on random crops that move an image by up to "
        f"{at} pixels. Short runs, {len(lost[0])} seeds of each net: {'; '.join(results)}."
    )
    text = "The CNN is more robust to small translations of the image"
    return Claim("C5", text, tuple(effects), discussion)


def _five_digits(records: Records) -> Claim:
    group, accuracy = records["rnn_T5_original"], records["rnn_T5_original"].accuracies
    what = f"lowest test accuracy of {len(accuracy)} seeds minus {ALMOST}"
    effect = above(what, accuracy.min(), N_TEST, ALMOST)
    histories = [run.history for run in group.runs]
    steps = [int(h["step"][np.argmax(h["test_accuracy"] >= 0.999)]) for h in histories]
    discussion = (
        f"{len(accuracy)} seeds on {N_TEST:,} palindromes: {accuracy.mean():.4f} on "
        f"average, {accuracy.min():.4f} at least; 0.999 is reached within {max(steps):,} steps."
    )
    return Claim("C6", "T = 5 is learnt almost perfectly", (effect,), discussion)


def _longer(records: Records) -> Claim:
    short, long = (records[f"rnn_length_original_T{T}"].accuracies for T in (5, 30))
    middle = {T: records[f"rnn_length_original_T{T}"].accuracies.mean() for T in (10, 15, 20)}
    bistable = records["rnn_length_best_T1000"].accuracies
    effect = over_seeds("accuracy at T = 5 minus accuracy at T = 30", short - long)
    discussion = (
        f"{len(short)} seeds of recipe original, 1,000 steps: "
        + ", ".join(f"{value:.4f} at T = {T}" for T, value in middle.items())
        + f", {long.mean():.4f} at T = 30, where chance is {1 / N_DIGITS:g}. But this is not a "
        "property of the net: from another initialisation the same formula reaches at least "
        f"{bistable.min():.4f} at T = 1,000 on each of {len(bistable)} seeds."
    )
    return Claim("C7", "Accuracy falls as the palindrome grows", (effect,), discussion)


def _gradients(records: Records) -> Claim:
    ratio, rows = {}, []
    for experiment in RNN_LIMITS:
        group = records[experiment.group]
        memory = np.stack([read_memory(run.path) for run in group.runs])
        norms, held = memory["initial_gradient"], memory["initial_share"][:, -1].mean()
        orders = ratio[experiment.group] = np.log10(norms[:, 0] / norms[:, -1])
        accuracy = f"{group.accuracies.mean():.4f}"
        rows.append((group.label, f"10^{orders.mean():.1f}", f"{held:.2f}", accuracy))
    original, bistable = "rnn_limits_original_T30", "rnn_limits_bistable_T30"
    shrinks = "orders of magnitude by which the gradient shrinks over 30 steps"
    gains = "the original's accuracy minus that of bistable units, whose gradient shrinks more"
    gain = records[original].accuracies - records[bistable].accuracies
    effects = over_seeds(shrinks, -ratio[original]), over_seeds(gains, gain)
    table = markdown_table(("net", "gradient", "correlation ratio", "accuracy"), rows)
    discussion = (
        "T = 30, five seeds: the gradient's norm at the first step over that at the last, and the "
        "correlation ratio (eta squared) of the last hidden state and the first digit, which "
        "measures memory, both before training; and the accuracy after at most 1,000 steps.\n\n"
        f"{table}\n\nSo the gradient does vanish in the original's net, and large inputs are why: "
        "they saturate tanh, and an orthogonal matrix alone does not help. With small inputs the "
        "gradient does not vanish, but only small steps keep the memory and learn the task on all "
        "seeds. The bistable initialisation, with which it is learnt at once, has a gradient that "
        "vanishes most: what decides is whether the last state still holds the first digit."
    )
    return Claim("C8", "The cause is vanishing gradients", effects, discussion)


def _hidden_state(records: Records) -> Claim:
    def accuracies(recipe: str, hidden: int, T: int) -> np.ndarray:
        return records[f"rnn_hidden{hidden}_{recipe}_T{T}"].accuracies

    what = "the original's accuracy at T = 10 with 128 units minus that with 16"
    gain = over_seeds(what, accuracies("original", 128, 10) - accuracies("original", 16, 10))
    what = f"error of 16 bistable units at T = 15 minus {NOTICEABLE}"
    left = over_seeds(what, 1 - accuracies("best", 16, 15) - NOTICEABLE)
    rows = []
    for recipe, T in (("original", 10), ("original", 15), ("best", 15)):
        means = (accuracies(recipe, size, T).mean() for size in HIDDEN_SIZES)
        rows.append((f"{recipe}, T = {T}", *(f"{mean:.4f}" for mean in means)))
    table = markdown_table(("recipe", *(f"{size} units" for size in HIDDEN_SIZES)), rows)
    discussion = (
        f"Accuracy by number of hidden units, five seeds, at most 1,000 steps.\n\n{table}\n\n"
        "To remember one digit takes a little over three bits, and few bistable units hold them. "
        "More units help the original's net, but only to make up for its initialisation."
    )
    return Claim("C9", "The fixed-size hidden state is a bottleneck", (gain, left), discussion)
