"""The nets on CIFAR-10: figures 4 and 5, what recipe best and each optimisation gain, mistakes."""

from collections.abc import Sequence

import numpy as np

from data import CLASS_NAMES
from figures.effects import Effect, holm, listed, paired
from figures.experiments import ORIGINAL_ACCURACY, REMOVED, Group, seeds_of
from figures.measurements import read_measure
from part2_cnn.plot import confident_mistakes, draw_confusion
from training.plotting import (
    COLOURS,
    DOTTED,
    SPLIT_COLOURS,
    Figure,
    band,
    column,
    draw_run,
    new_figure,
    shared_legend,
)

MARKERS = ("o", "s", "^")
LINES = ("-", "--", "-.")


def net_curves(groups: Sequence[Group]) -> Figure:
    """Figures 4 and 5: loss and accuracy, a line a seed, a dot where the weights were kept."""
    figure, panels = new_figure(len(groups), 2, sharex=True, sharey="col", panel=(3.25, 2.4))
    for group, (loss, accuracy) in zip(groups, panels, strict=True):
        for run in group.runs:
            labels = {split: split if run is group.runs[0] else None for split in ("train", "test")}
            both = {"loss": loss, "accuracy": accuracy}
            draw_run(both, run, colours=SPLIT_COLOURS, labels=labels, width=0.9)
        if group.net == "MLP":
            label = f"the original, {ORIGINAL_ACCURACY}"
            accuracy.axhline(ORIGINAL_ACCURACY, **DOTTED, label=label)
        name = "test" if group.config.get("validation") == "test" else "validation"
        title = f"{group.net} on CIFAR-10, {seeds_of(group)},\nstopped by the {name} loss"
        loss.set(ylabel="loss", title=title)
        accuracy.set(ylabel="accuracy", title=f"dots: lowest {name} loss")
        loss.legend(loc="upper right")
        accuracy.legend(loc="lower right")
    for axes in panels[-1]:
        axes.set_xlabel("epoch")
    panels[0, 0].set_ylim(0, None)  # once all is drawn
    return figure


def image_curves(groups: Sequence[Group]) -> str:
    """The discussion of figures 4 and 5."""
    sentences = []
    for group in groups:
        best = [(run.history, np.argmin(run.history["val_loss"])) for run in group.runs]
        train, test = (
            np.mean([h[f"{split}_accuracy"][at] for h, at in best]) for split in ("train", "test")
        )
        sentences.append(
            f"{group.label[0].upper()}{group.label[1:]}, mean of {seeds_of(group)}: trained for "
            f"{group.epochs:.0f} epochs; with the weights that are kept the accuracy is {test:.4f} "
            f"on test images and {train:.4f} on training images, a gap of "
            f"{100 * (train - test):.1f} points."
        )
    return " ".join(sentences)


def best_curves(groups: Sequence[Group]) -> Figure:
    """What recipe best reaches: test loss and accuracy over epochs, a line a net."""
    figure, ((loss, accuracy),) = new_figure(1, 2)
    for group, colour, marker, line in zip(groups, COLOURS, MARKERS, LINES, strict=False):
        label = f"{group.label}, {seeds_of(group)}"
        epochs = column(group.runs, "epoch")[0]
        for axes, quantity in ((loss, "loss"), (accuracy, "accuracy")):
            curves = column(group.runs, f"test_{quantity}")
            band(axes, epochs, curves, colour=colour, line=line, label=label)
            axes.lines[-1].set(marker=marker, markevery=0.15, markersize=4)
            axes.set(xlabel="epoch", ylabel=quantity)
    loss.set(title=f"test loss, {groups[0].net} on CIFAR-10", ylim=(0, None))
    accuracy.set(title="test accuracy, single view", ylim=(0, 1))
    shared_legend(figure, [accuracy], columns=3)
    return figure


def best_gain(groups: Sequence[Group]) -> str:
    """The discussion of what recipe best gains, against the first group."""
    original, *others = groups
    sentences = [f"Single view: recipe original {original.single_view().mean():.4f}"]
    for group in others:
        gain = 100 * (group.single_view().mean() - original.single_view().mean())
        parameters = group.runs[0].result["parameters"] / original.runs[0].result["parameters"]
        sentences.append(
            f"{group.label} ({seeds_of(group)}, {parameters:.1f} times the parameters) "
            f"{group.single_view().mean():.4f}, a difference of {gain:.1f} points"
        )
        if (averaged := group.averaged()) is not None:
            sentences[-1] += f", and {averaged.mean():.4f} with test-time augmentation"
    return "; ".join(sentences) + "."


def optimisations(groups: Sequence[Group]) -> Figure:
    """What each optimisation of the MLP is worth: accuracy and epochs with one of them removed."""
    figure, ((accuracy, epochs),) = new_figure(1, 2, sharey=True, panel=(3.25, 2.7))
    rows = np.arange(len(groups))
    values = worth(groups)
    for row, group, reached in zip(rows, groups, values, strict=True):
        style = {"color": COLOURS[0], "markersize": 5}
        for axes, x in ((accuracy, reached), (epochs, [r.result["epochs"] for r in group.runs])):
            axes.plot(x, np.full(len(x), row), "o", markerfacecolor="white", **style)
            axes.plot(np.mean(x), row, "|k", markersize=14)
    accuracy.axvline(values[0].mean(), **DOTTED)
    accuracy.set_yticks(rows, ["all of them", *(group.label for group in groups[1:])])
    accuracy.invert_yaxis()
    accuracy.set(xlabel="test accuracy", title=f"MLP on CIFAR-10, {seeds_of(groups[0])} each")
    epochs.set(xlabel="epochs trained", xlim=(0, None), title="until it stops; bars: means")
    return figure


def worth(groups: Sequence[Group]) -> list[np.ndarray]:
    """The test accuracies of each group; without early stopping, those of the last weights."""
    last = np.array([run.history["test_accuracy"][-1] for run in groups[-1].runs])
    return [*(group.accuracies for group in groups[:-1]), last]


def optimisation_effects(groups: Sequence[Group]) -> tuple[Effect, ...]:
    """What removing each optimisation changes of the test accuracy."""
    whole, *others = worth(groups)
    names = "with all of them", "without it"
    pairs = zip(REMOVED, others, strict=True)
    return holm([paired(name, names, whole, each) for name, each in pairs])


def optimisations_text(groups: Sequence[Group]) -> str:
    """The discussion of what each optimisation is worth."""
    effects = optimisation_effects(groups)
    kinds = {1: "worth something: {}", -1: "harmful: {}", 0: "not significant: {}"}
    ends = "; ".join(
        text.format(", ".join(of_sign)) for sign, text in kinds.items()
        if (of_sign := [effect.what for effect in effects if effect.sign == sign])
    )  # fmt: skip
    widest = max(effect.high - effect.low for effect in effects) / 2
    epochs = [group.epochs for group in groups]
    machines = ""
    if len({group.on_gpu for group in groups}) > 1:
        gpu, cpu = (
            listed("with all of them" if group is groups[0] else group.label
                   for group in groups if group.on_gpu == on_gpu)
            for on_gpu in (True, False)
        )  # fmt: skip
        machines = (
            f" The nets {gpu} were trained on a GPU, those {cpu} on a processor, where the same "
            "seed gives other numbers."
        )
    return (
        f"Test accuracy, paired by seed: {'; '.join(map(str, effects))}. With Holm's correction "
        f"over {len(effects)} comparisons, {ends}; with {seeds_of(groups[0])} the intervals reach "
        f"up to {100 * widest:.1f} points to either side. Each net trains until it stops, from "
        f"{min(epochs):.0f} to {max(epochs):.0f} epochs on average. Without early stopping, the "
        "weights after the last epoch count. Plain SGD in place of AdamW has a learning rate of "
        f"its own, chosen on validation ([table](figures/tuning/mlp_sgd.md)).{machines}"
    )


def mistakes(groups: Sequence[Group]) -> Figure:
    """The CNN's confusion matrix, and the accuracy of each class."""
    figure, ((matrix, classes),) = new_figure(1, 2, panel=(3.25, 4.0), width_ratios=(3.2, 1))
    found = predictions(groups[0])
    rows = np.concatenate(found)
    draw_confusion(matrix, rows["label"], rows["predicted"])
    matrix.set_title(f"CNN: {matrix.get_title()}")
    accuracy = _by_class(found)
    order = np.argsort(accuracy.mean(0))
    places = np.arange(len(order))
    classes.barh(places, accuracy.mean(0)[order], color=COLOURS[5], alpha=0.6)
    for each in accuracy:
        classes.plot(each[order], places, "|k", markersize=8)
    classes.set_yticks(places, [CLASS_NAMES[i] for i in order])
    classes.set(xlabel="accuracy", xlim=(0, 1), title=f"marks: {seeds_of(groups[0])}")
    return figure


def predictions(group: Group) -> list[np.ndarray]:
    """What each seed's net predicts for the test images, as `measure_predictions` wrote it."""
    return [read_measure(run.path, "predictions.csv") for run in group.runs]


def _by_class(found: Sequence[np.ndarray]) -> np.ndarray:
    """The accuracy of each class, (n_seeds, n_classes)."""
    of_class = [[rows[rows["label"] == c] for c in range(len(CLASS_NAMES))] for rows in found]
    return np.array([[np.mean(r["predicted"] == r["label"]) for r in each] for each in of_class])


N_MISTAKES = 8  # the most confident ones, in the discussion


def mistakes_text(groups: Sequence[Group]) -> str:
    """The discussion of the CNN's mistakes."""
    runs = groups[0].runs
    found = predictions(groups[0])
    accuracy = _by_class(found).mean(0)
    rows = np.concatenate(found)
    wrong = rows[rows["label"] != rows["predicted"]]
    confused = np.sort(np.stack([wrong["label"], wrong["predicted"]], 1))
    pairs, counts = np.unique(confused, axis=0, return_counts=True)
    a, b = (CLASS_NAMES[i] for i in pairs[counts.argmax()])
    first = found[0]
    missed = confident_mistakes(first["label"], first["predicted"], first["confidence"])
    lowest = first["confidence"][missed[:N_MISTAKES]].min()
    as_confident = int((first["confidence"][missed] >= lowest).sum())
    missed = missed[:N_MISTAKES]
    examples = "; ".join(
        f"{CLASS_NAMES[label]} taken for {CLASS_NAMES[predicted]} ({i:,})"
        for i, (label, predicted, _) in zip(missed, first[missed], strict=True)
    )
    easy, hard = accuracy.argmax(), accuracy.argmin()
    share = 100 * counts.max() / len(wrong)
    return (
        f"The class with the highest accuracy is {CLASS_NAMES[easy]} ({accuracy[easy]:.3f}), with "
        f"the lowest {CLASS_NAMES[hard]} ({accuracy[hard]:.3f}). {share:.0f} % of all "
        f"mistakes confuse {a} and {b}. Of seed {runs[0].config['seed']}, {as_confident} mistakes "
        f"have a confidence of at least {lowest:.4f}, rounded; the first {len(missed)} of them, "
        f"with the images' numbers in the test set: {examples}. `part2_cnn/plot.py` draws those of "
        "a run of one's own."
    )
