"""Every figure of REPORT.md: its caption, how it is drawn, its discussion, and its experiments."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from data.toy import DEFAULT_NOISE, bayes_accuracy
from figures import drawings as draw
from figures import experiments
from figures.claims import REACHED, bayes_accuracy_of, steps_to_reach
from figures.experiments import EXPERIMENTS, Experiment, Group
from figures.measurements import CNN_IMAGES
from training.cli import format_duration
from training.plotting import Figure

LINES = "Lines are means over the seeds, bands their range"
CURVES = "loss and accuracy on 5,000 training images (not augmented) and on the test set."
BOTH = f"accuracy and loss of both MLPs. {LINES}; a dot is the best epoch of a seed."


@dataclass(frozen=True)
class ReportFigure:
    """A figure's caption, and functions that draw and discuss it from its experiments' groups."""

    title: str
    draw: Callable[[Sequence[Group]], Figure]
    discussion: Callable[[Sequence[Group]], str]
    experiments: Sequence[Experiment] = ()

    def shortened(self) -> "ReportFigure":
        """The same figure from few and short runs."""
        return replace(self, experiments=[e.shortened() for e in self.experiments if e.quick])


def stem(name: str) -> str:
    """The file name, without its ending, of a figure."""
    return f"figure{name}" if name.isdigit() else name


def toy_sets(groups: Sequence[Group]) -> str:
    """Figure 1."""
    sets = [f"{bayes_accuracy(*each):.4f} on {each[0]}" for each in DEFAULT_NOISE.items()]
    both = "No straight line separates either set, so both need a hidden layer."
    return f"{both} The classes overlap: the Bayes accuracy is {' and '.join(sets)}."


def toy_curves(groups: Sequence[Group]) -> str:
    """Figures 2 and 3."""
    results = "; ".join(
        f"{group.label}'s MLP ends at {group.accuracies.mean():.4f} and reaches {REACHED:.0%} of "
        f"its best accuracy after {np.mean([steps_to_reach(run) for run in group.runs]):,.0f} steps"
        for group in groups
    )
    limit = f"The Bayes accuracy is {bayes_accuracy_of(groups[0].config):.4f}"
    few = "a seed can be above it, on so few test points"
    return f"{results} (means of {len(groups[0].runs)} seeds). {limit}; {few}."


def image_curves(groups: Sequence[Group]) -> str:
    """Figures 4 and 5."""
    runs = groups[0].runs
    best = [(run.history, np.argmin(run.history["val_loss"])) for run in runs]
    train, test = (np.mean([h[f"{s}_accuracy"][at] for h, at in best]) for s in ("train", "test"))
    first = np.mean([run.history["test_accuracy"][1] for run in runs])
    return (
        f"The test accuracy rises from {first:.4f} at the first evaluation after the start to "
        f"{test:.4f}. With the weights that are kept, the accuracy on training images is "
        f"{train:.4f}; the {100 * (train - test):.1f} points between the two are the overfitting "
        "that dropout, flips and crops leave."
    )


def rnn_curves(groups: Sequence[Group]) -> str:
    """Figure 6."""
    histories = [run.history for run in groups[0].runs]
    step, lowest = histories[0]["step"], np.min([h["test_accuracy"] for h in histories], 0)
    return (
        f"The lowest test accuracy of {len(histories)} seeds is {lowest[1]:.4f} after "
        f"{step[1]:.0f} steps and {lowest[-1]:.4f} after {step[-1]:,.0f}; see also claim C6."
    )


def lengths(groups: Sequence[Group]) -> str:
    """Figure 7."""
    formula = "All vanilla RNNs here are the same formula with the same number of weights"
    table = "The longest T of each net is in the table above; see also claim C7."
    return f"{formula}; they differ in their initialisation. {table}"


def mlp_best(groups: Sequence[Group]) -> str:
    """The MLPs with recipe best."""
    original, best, wide = (group.runs[0].result for group in groups)
    return (
        f"With the same hidden layers recipe best gains "
        f"{100 * (best['test_accuracy'] - original['test_accuracy']):.1f} points, to "
        f"{best['test_accuracy']:.4f}. {wide['parameters'] / best['parameters']:.1f} times as many "
        f"parameters reach {wide['test_accuracy']:.4f} after {wide['epochs']:.0f} epochs instead "
        f"of {best['epochs']:.0f}. Both final accuracies are with test-time augmentation."
    )


def cnn_best(groups: Sequence[Group]) -> str:
    """The CNN with both recipes."""
    original, best = (group.runs[0] for group in groups)
    goal = original.history["val_accuracy"].max()
    passed = best.history["seconds"][best.history["val_accuracy"] >= goal]
    reaches = f"reaches after {format_duration(passed[0])}" if len(passed) else "never reaches"
    return (
        f"With the same net recipe original ends at a test accuracy of "
        f"{original.result['test_accuracy']:.4f}, recipe best at "
        f"{best.result['test_accuracy']:.4f}. The highest validation accuracy of original, which "
        f"took {format_duration(original.result['seconds'])}, best {reaches}."
    )


def with_claims(*claims: str) -> Callable[[Sequence[Group]], str]:
    """A figure that is discussed with the claims that it bears on."""
    return lambda groups: f"Discussed above, at {' and '.join(claims)}."


# fmt: off
def figures() -> dict[str, ReportFigure]:
    """Every figure by its name in `--only` and `--retrain`."""
    mlp, mlp_best_, mlp_wide, cnn, cnn_best_, *short = experiments.IMAGES
    circles, moons = (
        [EXPERIMENTS[f"mlp_{model}_{dataset}_original"] for model in experiments.MODELS]
        for dataset in ("circles", "moons")
    )
    return {
        "1": ReportFigure(
            "The toy data sets, 600 training points each.", draw.toy_sets, toy_sets),
        "2": ReportFigure(f"Circles: {BOTH}", draw.toy_curves, toy_curves, circles),
        "3": ReportFigure(f"Moons: {BOTH}", draw.toy_curves, toy_curves, moons),
        "4": ReportFigure(
            f"MLP 512-256-128 on CIFAR-10 with recipe original: {CURVES}",
            draw.mlp_curves, image_curves, [mlp]),
        "5": ReportFigure(
            f"CNN on CIFAR-10 with recipe original: {CURVES}",
            draw.cnn_curves, image_curves, [cnn]),
        "6": ReportFigure(
            "The vanilla RNN on palindromes, T = 5, with recipe original: loss and accuracy on "
            f"2,000 training palindromes and on 10,000 others. {LINES}.",
            draw.rnn_curves, rnn_curves, [EXPERIMENTS["rnn_T5_original"]]),
        "7": ReportFigure(
            "Test accuracy against the number of digits read, after at most 1,000 steps (LSTM "
            f"500, GRU with Adam 3,000; 60 where T is 200 or more). {LINES}; dotted: chance.",
            draw.lengths, lengths, experiments.RNN_LENGTHS),
        "toy_claims": ReportFigure(
            "Validation accuracy over the first steps on circles and on moons: NumPy with He's "
            "weights, PyTorch with its own, PyTorch with NumPy's weights and batches; and circles "
            f"against moons with the same Bayes accuracy. {LINES}.",
            draw.toy_claims, with_claims("C1", "C2"), experiments.TOY),
        "mlp_best": ReportFigure(
            "MLPs on CIFAR-10: recipe original, recipe best, and recipe best with free hidden "
            "sizes; one seed each.",
            draw.mlp_best, mlp_best, [replace(mlp, seeds=experiments.ONE), mlp_best_, mlp_wide]),
        "cnn_best": ReportFigure(
            "CNN on CIFAR-10: recipe original and recipe best, over training time. While recipe "
            "best trains on small images it is also evaluated on small images.",
            draw.cnn_best, cnn_best, [cnn, cnn_best_]),
        "mlp_and_cnn": ReportFigure(
            f"The MLP and the CNN side by side on CIFAR-10, with recipe original: {CURVES}",
            draw.mlp_and_cnn, with_claims("C3"), [mlp, cnn]),
        "limits": ReportFigure(
            "What limits a vanilla RNN's memory, T = 30: how much the loss depends on each hidden "
            "state (root mean square over 500 palindromes), the correlation ratio (eta squared) "
            "of each hidden state and the first digit, and the accuracy after at most 1,000 "
            f"steps. {LINES}.",
            draw.limits, with_claims("C8"), experiments.RNN_LIMITS),
        "hidden_sizes": ReportFigure(
            f"Test accuracy against the number of hidden units. {LINES}; dotted: chance.",
            draw.hidden_sizes, with_claims("C9"), experiments.RNN_HIDDEN),
        "shifts": ReportFigure(
            "Test accuracy when every test image is shifted, black filling the gap: the mean over "
            "shifts to the left, right, up and down, and over seeds; bands are the range. The MLP "
            f"is evaluated on all test images, the CNN on {CNN_IMAGES:,}.",
            draw.shifts, with_claims("C5"), [mlp, cnn, *short]),
    }
# fmt: on
