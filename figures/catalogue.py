"""Every figure of REPORT.md, with its caption and its runs, and every claim."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from figures import (
    experiments,
    gradient_claims,
    image_claims,
    images,
    rnn,
    rnn_claims,
    toy,
    toy_claims,
)
from figures.claims import SOLVED
from figures.effects import Claim
from figures.experiments import EXPERIMENTS, Experiment, Group, Records
from figures.measurements import SEQUENCES
from training.plotting import Figure

MEANS = "Lines are means over the seeds, bands their range"
CUT = "and end where the first of the seeds stopped"
SOLVE = f"solve the task (a test accuracy of at least {SOLVED:g})"
CURVES = "loss and accuracy on 5,000 training images (not augmented) and on the test set."


@dataclass(frozen=True)
class ReportFigure:
    """A figure of a part of the report.

    Attributes:
        part: 1 to 3.
        title: its caption.
        draw: from its experiments' groups.
        discussion: of the groups, after the claims that it shows.
    """

    part: int
    title: str
    draw: Callable[[Sequence[Group]], Figure]
    experiments: Sequence[Experiment]
    discussion: Callable[[Sequence[Group]], str] | None = None

    def groups(self, records: Records) -> list[Group]:
        """The records of its experiments."""
        return [records.read(experiment) for experiment in self.experiments]

    def shortened(self) -> "ReportFigure":
        """The same figure from few and short runs."""
        return replace(self, experiments=[e.shortened() for e in self.experiments if e.quick])


def stem(name: str) -> str:
    """The file name, without its ending, of a figure."""
    return f"figure{name}" if name.isdigit() else name


def all_claims(records: Records) -> list[Claim]:
    """Every claim, C1 to C9, with the verdict of the records."""
    judges = (
        toy_claims.same_nets, toy_claims.circles_harder,
        image_claims.cnn_better, image_claims.cnn_smaller, image_claims.robust,
        rnn_claims.five_digits, rnn_claims.longer, gradient_claims.gradients,
        rnn_claims.hidden_state,
    )  # fmt: skip
    return [judge(records) for judge in judges]


# fmt: off
def figures() -> dict[str, ReportFigure]:
    """Every figure by its name in `--only` and `--retrain`."""
    curves = (
        "accuracy and loss of both MLPs over the steps, on a logarithmic axis. "
        f"{MEANS}; the thin line is the other net."
    )
    circles, moons = (
        [EXPERIMENTS[f"mlp_{model}_{dataset}_original"] for model in experiments.MODELS]
        for dataset in ("circles", "moons")
    )
    mlp, mlp_stopped, mlp_best, mlp_wide, cnn, cnn_best = experiments.IMAGES[:6]
    crops, no_crops = ([each for each in experiments.IMAGES if each.label == label]
                       for label in (experiments.CROPS, experiments.NO_CROPS))
    crops_shifted = [each for each in crops if each.measures]
    return {
        "1": ReportFigure(
            1, "The toy data sets: the training points of one seed.", toy.toy_sets, [],
            toy.toy_sets_discussion),
        "2": ReportFigure(
            1, f"Circles: {curves}", toy.toy_curves, circles, toy.toy_curves_discussion),
        "3": ReportFigure(
            1, f"Moons: {curves}", toy.toy_curves, moons, toy.toy_curves_discussion),
        "toy_claims": ReportFigure(
            1, "Steps until the validation accuracy reaches a share of its final value: a mark a "
            "seed, and the mean with its interval.", toy.convergence, experiments.TOY[:6]),
        "toy_difficulty": ReportFigure(
            1, "Validation accuracy over the steps, on a logarithmic axis: moons, and circles of "
            f"two factors with the noise that gives them the Bayes accuracy of moons. {MEANS}.",
            toy.difficulty, [EXPERIMENTS[f"mlp_{model}_{kind}"] for model in experiments.MODELS
                             for kind in ("moons_original", "circles_matched", "circles_narrow")]),
        "gradient_descent": ReportFigure(
            1, "Gradient descent on moons with one sample a step, with 32, and with all: curves, "
            f"and decision boundaries. {MEANS}; below, the first seed, its test points, and its "
            "validation accuracy.", toy.gradient_descent, experiments.DESCENT,
            toy.gradient_descent_discussion),
        "4": ReportFigure(
            1, "The MLP 512-256-128 on CIFAR-10 with recipe original, and below, as coursework "
            f"often does it, with the test set in the place of the validation set: {CURVES}",
            images.net_curves, [mlp, mlp_stopped], images.image_curves),
        "optimisations": ReportFigure(
            1, "What each optimisation of the MLP on CIFAR-10 is worth: recipe original, and with "
            "one of them removed. Circles are seeds; dotted: the mean with all of them.",
            images.optimisations, [mlp, *experiments.ABLATION], images.optimisations_text),
        "mlp_best": ReportFigure(
            1, "MLPs on CIFAR-10: recipe original, recipe best, and a wider net with settings of "
            f"its own. {MEANS}, {CUT}.", images.best_curves, [mlp, mlp_best, mlp_wide],
            images.best_gain),
        "5": ReportFigure(
            2, f"The CNN on CIFAR-10 with recipe original: {CURVES}",
            images.net_curves, [cnn], images.image_curves),
        "cnn_mistakes": ReportFigure(
            2, "What the CNN with recipe original confuses: the answers of all seeds to the test "
            "images, computed again after training, and the accuracy of each class.",
            images.mistakes, [cnn],
            images.mistakes_text),
        "cnn_best": ReportFigure(
            2, f"The CNN on CIFAR-10: recipe original and recipe best. {MEANS}, {CUT}. While "
            "recipe best trains on small images it is also evaluated on small images.",
            images.best_curves, [cnn, cnn_best], images.best_gain),
        "mlp_and_cnn": ReportFigure(
            2, "The MLP and the CNN with recipe original: test accuracy over epochs on a "
            "logarithmic axis, a line a seed; and the test images that both, one or none of them "
            "gets right.", image_claims.mlp_and_cnn, [mlp, cnn]),
        "efficiency": ReportFigure(
            2, "Test accuracy of short runs, all with one optimiser, against the size of the net. "
            "Short strokes are seeds.", image_claims.efficiency, crops),
        "shifts": ReportFigure(
            2, "What is left when all test images are shifted: accuracy, relative to unshifted "
            "images, and the share of images whose prediction stays the same; means over four "
            "directions, with black or the edge's pixels in the gap. Grey: shifts that random "
            f"crops show in training. {MEANS}.", image_claims.shifts,
            [*no_crops, *crops_shifted, mlp, cnn]),
        "6": ReportFigure(
            3, "The vanilla RNN on palindromes with recipe original, T = 5: the first steps and "
            f"all steps. {MEANS}; dotted: chance.", rnn.first_steps, experiments.FIVE_DIGITS,
            rnn.first_steps_text),
        "7": ReportFigure(
            3, f"Storing the first of T digits: how many seeds {SOLVE} and of how many, above; the "
            "mean test accuracy below, bars from the lowest to the highest seed. All nets had "
            f"{experiments.MANY:,} steps at most. Optimiser and learning rate of each but the "
            "bistable net, which keeps its recipe's, held constant, were chosen on validation, at "
            "one length, from one grid.",
            rnn.lengths, experiments.RNN_LENGTHS, rnn.lengths_text),
        "longer": ReportFigure(
            3, f"The share of seeds that {SOLVE} against the number of digits read, for two "
            "input scales. Bars are confidence intervals.",
            rnn.longer_lengths, experiments.RNN_LONGER),
        "limits": ReportFigure(
            3, "What limits a vanilla RNN's memory: how much the loss depends on each hidden state "
            f"(root mean square over {SEQUENCES} palindromes), relative to the last step's, "
            "the geometric mean over the seeds and each seed as a thin line; how many seeds "
            f"{SOLVE}, with figure 7's optimiser, too; and with which gradient. "
            "Below, upright marks are seeds, thin horizontal lines confidence intervals.",
            rnn.limits, [*experiments.RNN_LIMITS, *experiments.RNN_ADAM],
            gradient_claims.limits_text),
        "hidden_sizes": ReportFigure(
            3, f"The share of seeds that {SOLVE} against the number of hidden units. Bars "
            "are confidence intervals.", rnn.hidden_sizes, experiments.RNN_HIDDEN),
    }
# fmt: on
