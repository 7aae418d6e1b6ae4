"""Every figure: what it shows, how it is drawn, and from which runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from matplotlib.figure import Figure

from figures import experiments, part1, part2, part3, stories
from figures.experiments import Experiment
from figures.shifts import CNN_IMAGES
from training.record import RunRecord


@dataclass(frozen=True)
class Picture:
    """One figure.

    Attributes:
        title: what it shows.
        draw: draws it, from its runs.
        story: what is to be seen, in words, from its runs.
        runs: that it shows.
    """

    title: str
    draw: Callable[[Sequence[RunRecord]], Figure]
    story: Callable[[Sequence[RunRecord]], str]
    runs: tuple[Experiment, ...]

    def in_quick(self) -> "Picture":
        """The same figure from fewer runs."""
        return replace(self, runs=tuple(run for run in self.runs if run.quick is not None))


def pictures() -> dict[str, Picture]:
    """Every figure by its name in the report, and the extra ones."""
    mlp_report = tuple(experiments.cifar10_report_experiments())
    cnn_report, cnn_best = map(experiments.cnn_experiment, ("report", "best"))
    return {
        "1": Picture(
            "The toy data sets, 600 training points each.",
            part1.draw_toy_sets,
            stories.toy_sets,
            (),
        ),
        "2": Picture(
            "Circles: accuracy and loss of the NumPy and the PyTorch MLP. Lines are means over "
            "the seeds, bands their range; a dot is the best epoch of a seed.",
            part1.draw_toy_curves,
            stories.toy_curves,
            tuple(experiments.toy_experiments("circles")),
        ),
        "3": Picture(
            "Moons: accuracy and loss of the NumPy and the PyTorch MLP. Lines are means over the "
            "seeds, bands their range; a dot is the best epoch of a seed.",
            part1.draw_toy_curves,
            stories.toy_curves,
            tuple(experiments.toy_experiments("moons")),
        ),
        "4": Picture(
            "MLP 512-256-128 on CIFAR-10 with the report's recipe: loss and accuracy on 5,000 "
            "training images (not augmented) and on the test set.",
            part1.draw_cifar10_curves,
            stories.cifar10_curves,
            mlp_report,
        ),
        "5": Picture(
            "CNN on CIFAR-10 with the report's recipe: loss and accuracy on 5,000 training images "
            "(not augmented) and on the test set.",
            part2.draw_report_curves,
            stories.cifar10_curves,
            (cnn_report,),
        ),
        "6": Picture(
            "The vanilla RNN on palindromes, T = 5, with the report's recipe: loss and accuracy on "
            "2,000 training palindromes and on 10,000 others. Lines are means over the seeds, "
            "bands their range.",
            part3.draw_curves,
            stories.rnn_curves,
            tuple(experiments.rnn_curve_experiments()),
        ),
        "7": Picture(
            "Test accuracy against the number of digits read, after at most 1,000 steps (LSTM "
            "500, GRU with Adam at 0.01 3,000; 60 where T is 200 or more). Lines are means, bands "
            "the range over five seeds; dotted: guessing.",
            part3.draw_lengths,
            stories.lengths,
            tuple(experiments.rnn_length_experiments()),
        ),
        "toy_claims": Picture(
            "Validation accuracy over the first steps on circles and on moons: NumPy with He's "
            "weights, PyTorch with its own, PyTorch with NumPy's weights and batches; and circles "
            "against moons where noise allows the same accuracy. Lines are means over five seeds, "
            "bands their range.",
            part1.draw_toy_claims,
            stories.judged("C1", "C2"),
            tuple(
                run
                for runs in (
                    *map(experiments.toy_experiments, ("circles", "moons")),
                    *map(experiments.equal_start_experiments, ("circles", "moons")),
                    experiments.matched_circles_experiments(),
                )
                for run in runs
            ),
        ),
        "mlp_best": Picture(
            "MLPs on CIFAR-10: the report's recipe, the best recipe, and the best recipe with "
            "free hidden sizes.",
            part1.draw_cifar10_best,
            stories.cifar10_best,
            (mlp_report[0], *experiments.cifar10_best_experiments()),
        ),
        "cnn_best": Picture(
            "CNN on CIFAR-10: the report's recipe and the best recipe, over training time. While "
            "the best recipe trains on small images it is also evaluated on small images.",
            part2.draw_best_curves,
            stories.cnn_best,
            (cnn_report, cnn_best),
        ),
        "mlp_and_cnn": Picture(
            "The MLP and the CNN side by side on CIFAR-10, both with the report's recipe: accuracy "
            "and loss on 5,000 training images (not augmented) and on the test set.",
            part2.draw_mlp_and_cnn,
            stories.judged("C3"),
            (*mlp_report, cnn_report),
        ),
        "limits": Picture(
            "What limits a vanilla RNN's memory, T = 30: how much the loss depends on each hidden "
            "state (root mean square over 500 palindromes), how much of each hidden state is "
            "memory of the first digit, and the accuracy after at most 1,000 steps. Lines are "
            "means over the seeds, bands their range.",
            part3.draw_limits,
            stories.judged("C8"),
            tuple(experiments.rnn_limit_experiments()),
        ),
        "hidden_sizes": Picture(
            "Test accuracy against the number of hidden units, after at most 1,000 steps. Lines "
            "are means over the seeds, bands their range; dotted: guessing.",
            part3.draw_hidden_sizes,
            stories.judged("C9"),
            tuple(experiments.rnn_hidden_experiments()),
        ),
        "shifts": Picture(
            "Test accuracy when every test image is shifted, black filling the gap: the mean over "
            "shifts to the left, right, up and down, and over seeds; bands are the range. The MLP "
            f"was asked about all test images, the CNN about {CNN_IMAGES:,}; short runs take a few "
            "minutes.",
            part2.draw_shifts,
            stories.judged("C5"),
            (*mlp_report, cnn_report, *experiments.short_experiments()),
        ),
    }


def stem(name: str) -> str:
    """The file name, without its ending, of a picture."""
    return f"figure{name}" if name.isdigit() else name
