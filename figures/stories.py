"""What each figure shows, in words, with the numbers of the runs that it shows."""

from collections.abc import Callable, Sequence

import numpy as np

from data.toy import DEFAULT_NOISE, bayes_accuracy
from figures.claims import REACHED, steps_to_arrive
from figures.part3 import by_kind
from figures.results import LEARNT, best_possible, in_words, longest_learnt
from training.record import RunRecord


def toy_sets(runs: Sequence[RunRecord]) -> str:
    """Figure 1."""
    limits = " and ".join(
        f"{bayes_accuracy(name, noise):.4f} on {name} (noise {noise:g})"
        for name, noise in DEFAULT_NOISE.items()
    )
    return (
        "No straight line parts either set, so both need a hidden layer. Where the classes overlap "
        f"nobody can tell them apart: the best possible classifier reaches {limits}."
    )


def toy_curves(runs: Sequence[RunRecord]) -> str:
    """Figures 2 and 3."""
    told = []
    for model, name in (("numpy", "NumPy"), ("pytorch", "PyTorch")):
        of_model = [run for run in runs if run.config["model"] == model]
        arrived = np.mean([steps_to_arrive(run) for run in of_model])
        told.append(
            f"{name}'s MLP ends at {_accuracy(of_model):.4f} and is at {REACHED:.0%} of its best "
            f"after {arrived:,.0f} steps"
        )
    return (
        f"{'; '.join(told)} (means of {len(of_model)} seeds). The best possible classifier "
        f"reaches {best_possible(runs[0]):.4f}; a seed can be above it, on so few test points."
    )


def cifar10_curves(runs: Sequence[RunRecord]) -> str:
    """Figures 4 and 5."""
    train, test = (np.mean([_kept(run, f"{split}_accuracy") for run in runs])
                   for split in ("train", "test"))  # fmt: skip
    first = np.mean([run.history["test_accuracy"][1] for run in runs])
    return (
        f"From {first:.4f} at the first evaluation after the start the test accuracy rises to "
        f"{test:.4f}. The weights that are kept know {train:.4f} of the training images; the "
        f"{100 * (train - test):.1f} points between the two are what dropout, flips and crops "
        "could not keep the net from learning by heart."
    )


def rnn_curves(runs: Sequence[RunRecord]) -> str:
    """Figure 6."""
    step, lowest = runs[0].history["step"], np.min([r.history["test_accuracy"] for r in runs], 0)
    return (
        f"At the first evaluation, after {step[1]:.0f} steps, the worst of {len(runs)} seeds knows "
        f"{lowest[1]:.4f} of the test palindromes, at the last one, after {step[-1]:,.0f}, "
        f"{lowest[-1]:.4f}. Claim C6 rests on these runs."
    )


def lengths(runs: Sequence[RunRecord]) -> str:
    """Figure 7."""
    told = []
    for kind, of_kind in by_kind(runs).items():
        at = {run.config["input_length"] for run in of_kind}
        longest = longest_learnt(
            {T: [run for run in of_kind if run.config["input_length"] == T] for T in at}
        )
        reached = "none" if longest is None else f"{longest:,}"
        told.append(f"{kind}: {reached} (of up to {max(at):,} that were tried)")
    return (
        f"The longest T at which every seed reaches {LEARNT}: {'; '.join(told)}. All vanilla RNNs "
        "here are the same formula with the same number of weights; they differ in where these "
        "begin. Claim C7 rests on it."
    )


def cifar10_best(runs: Sequence[RunRecord]) -> str:
    """The MLPs with the best recipe."""
    report, best, wide = (run.result for run in runs)
    return (
        f"With the same hidden layers recipe best gains "
        f"{100 * (best['test_accuracy'] - report['test_accuracy']):.1f} points, to "
        f"{best['test_accuracy']:.4f}. {wide['parameters'] / best['parameters']:.1f} times as many "
        f"parameters, for {wide['epochs']:.0f} epochs instead of {best['epochs']:.0f}, reach "
        f"{wide['test_accuracy']:.4f}. At its end recipe best takes the mean over several views of "
        "each test image; the curves are of one view."
    )


def cnn_best(runs: Sequence[RunRecord]) -> str:
    """The CNN with both recipes."""
    report, best = runs
    accuracies = [run.result["test_accuracy"] for run in runs]
    goal = report.history["val_accuracy"].max()
    passed = best.history["seconds"][best.history["val_accuracy"] >= goal]
    reaches = f"reaches after {in_words(passed[0])}" if len(passed) else "never reaches"
    return (
        f"With the same net recipe report ends at a test accuracy of {accuracies[0]:.4f}, recipe "
        f"best at {accuracies[1]:.4f}. The highest validation accuracy of report, which took "
        f"{in_words(report.result['seconds'])}, best {reaches}."
    )


def judged(*claims: str) -> Callable[[Sequence[RunRecord]], str]:
    """A figure that is told with the claims it bears on."""
    return lambda runs: f"What it says is told above, at {' and '.join(claims)}."


def _accuracy(runs: Sequence[RunRecord]) -> float:
    return float(np.mean([run.result["test_accuracy"] for run in runs]))


def _kept(run: RunRecord, column: str) -> float:
    """A column at the evaluation whose weights were kept."""
    return float(run.history[column][np.argmin(run.history["val_loss"])])
