"""The toy sets: figures 1 to 3, those of claims C1 and C2, and gradient descent by batch size."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from data import load_dataset
from data.toy import DEFAULT_NOISE, bayes_accuracy
from figures.claims import CONVERGED_C1
from figures.effects import CONFIDENCE
from figures.experiments import MODELS, THIRTY, Group, seeds_of
from part1_mlp.plot import make_grid, toy_set
from part1_mlp.replay import replay
from training.plotting import (
    COLOURS,
    DOTTED,
    SPLIT_COLOURS,
    SPLIT_LINES,
    Axes,
    Figure,
    band,
    column,
    new_figure,
    shared_legend,
)
from training.runs import RunRecord

SETS = ("circles", "moons")
NETS = ("mlp_numpy_{}_original", "mlp_pytorch_{}_original", "mlp_pytorch_{}_equal")  # of claim C1
FACTORS = {"0.5": "matched", "0.8": "narrow"}  # of circles in claim C2, with their groups
POINT_COLOURS = (COLOURS[0], COLOURS[4])  # of the two classes; also told apart in grey print
PALE = ("#C6DBEC", "#FBEBC8")
EPOCHS = 10  # after which decision boundaries of gradient descent are compared
LINES, MARKERS = ("-", "--", "-."), ("o", "^", "s")
SMALL = 7  # points, the smallest print

# --- What is measured -----------------------------------------------------------------------------


def bayes_accuracy_of(config: dict) -> float:
    """The Bayes accuracy on the toy set of a run."""
    dataset, noise = config["dataset"], config["noise"]
    noise = DEFAULT_NOISE[dataset] if noise is None else noise
    return bayes_accuracy(dataset, noise, factor=config["factor"])


def steps_to_reach(run: RunRecord, share: float) -> int:
    """The first evaluation with this share of the run's final validation accuracy."""
    accuracy = run.history["val_accuracy"]
    return int(run.history["step"][np.argmax(accuracy >= share * accuracy[-1])])


def steps_of(group: Group, share: float) -> np.ndarray:
    """`steps_to_reach` of each seed."""
    return np.array([steps_to_reach(run, share) for run in group.runs])


def percent(share: float) -> str:
    """A share in words."""
    return f"{100 * share:g} %"


# --- Figures --------------------------------------------------------------------------------------


def toy_sets(groups: Sequence[Group]) -> Figure:
    """Figure 1: the training points of circles and moons that the nets get with the first seed."""
    figure, (panels,) = new_figure(1, 2, panel=(3.25, 2.8), width_ratios=(1.1, 1.5))
    for axes, name in zip(panels, SETS, strict=True):
        dataset = load_dataset(name, seed=THIRTY[0])
        _draw_points(axes, *dataset.split("train"), dataset.class_names)
        axes.set_title(f"{name}, noise {DEFAULT_NOISE[name]}, {len(dataset.x_train):,} points")
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.15 * (high - low))  # room for the legend
        axes.legend(loc="upper center", ncols=2, fontsize=8, markerscale=2)
    return figure


def _draw_points(axes: Axes, x: np.ndarray, y: np.ndarray, names: Sequence[str]) -> None:
    """Points with a colour and a marker for each class; in turns, so that no class is hidden."""
    for i, part in enumerate(np.array_split(np.arange(len(x)), 10)):
        for label, (colour, marker) in enumerate(zip(POINT_COLOURS, MARKERS, strict=False)):
            points = x[part][y[part] == label].T
            name = None if i else names[label]
            axes.scatter(*points, s=4, color=colour, marker=marker, linewidths=0, label=name)
    axes.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")


def toy_sets_discussion(groups: Sequence[Group]) -> str:
    """The discussion of figure 1."""
    sets = [f"{bayes_accuracy(name, DEFAULT_NOISE[name]):.4f} on {name}" for name in SETS]
    both = "No straight line separates either set, so a net needs a hidden layer."
    best = "the accuracy of the best possible classifier, the Bayes accuracy,"
    return f"{both} The classes overlap: {best} is {' and '.join(sets)}."


def toy_curves(groups: Sequence[Group]) -> Figure:
    """Figures 2 and 3: accuracy above, loss below; NumPy left, PyTorch right; same axes."""
    figure, panels = new_figure(2, 2, sharex=True, sharey="row", panel=(3.25, 2.5))
    limit = bayes_accuracy_of(groups[0].config)
    for group, other, both in zip(groups, groups[::-1], panels.T, strict=True):
        steps = column(group.runs, "step")[0, 1:]  # a logarithmic axis has no 0
        for axes, quantity in zip(both, ("accuracy", "loss"), strict=True):
            for split in ("test", "train"):  # the dashed line above the solid one
                curves = column(group.runs, f"{split}_{quantity}")[:, 1:]
                colour, line = SPLIT_COLOURS[split], SPLIT_LINES[split]
                band(axes, steps, curves, colour=colour, line=line, label=f"{group.label}, {split}")
            reference = column(other.runs, f"test_{quantity}").mean(0)[1:]
            label = f"{other.label}, test"
            axes.plot(steps, reference, "-.", color="dimgrey", linewidth=0.8, label=label)
            axes.legend(loc="lower right" if quantity == "accuracy" else "upper right", fontsize=8)
        both[0].set_title(f"{group.label} MLP on {group.config['dataset']}, {seeds_of(group)}")
        _logarithmic(both[1], "step")
        _mark_bayes(both[0], limit)
    panels[0, 0].set_ylabel("accuracy")
    panels[1, 0].set(ylabel="loss", ylim=(0, None))  # when all is drawn, which fixes the other end
    return figure


def _logarithmic(axes: Axes, label: str) -> None:
    """A logarithmic x axis with plain numbers."""
    axes.set(xscale="log", xlabel=label)
    axes.xaxis.set_major_formatter("{x:,g}")


def _mark_bayes(axes: Axes, accuracy: float) -> None:
    """A dotted line at the Bayes accuracy, with its name at the left end."""
    axes.axhline(accuracy, **DOTTED)
    place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    text = f"Bayes accuracy {accuracy:.3f}"
    axes.annotate(text, (0.02, accuracy), xytext=(0, 3), **place, fontsize=SMALL)


def toy_curves_discussion(groups: Sequence[Group]) -> str:
    """The discussion of figures 2 and 3."""
    results = "; ".join(
        f"{group.label}'s MLP has a test accuracy of {group.accuracies.mean():.4f} and reaches "
        f"95 % of its final validation accuracy after {steps_of(group, 0.95).mean():,.0f} steps"
        for group in groups
    )
    limit = bayes_accuracy_of(groups[0].config)
    above = max(group.accuracies.max() for group in groups) > limit
    few = "; a seed can be above it, on so few test points" if above else ""
    return f"{results} (means of {seeds_of(groups[0])}). The Bayes accuracy is {limit:.4f}{few}."


def convergence(groups: Sequence[Group]) -> Figure:
    """Claim C1: the steps to each threshold, of circles' three nets and then moons' three."""
    figure, (panels,) = new_figure(1, 2, sharey=True, sharex=True, panel=(3.25, 3.2))
    for axes, nets in zip(panels, (groups[:3], groups[3:]), strict=True):
        for j, group in enumerate(nets):
            style = {"color": COLOURS[j], "marker": MARKERS[j], "linestyle": ""}
            places = np.arange(len(CONVERGED_C1)) + 0.27 * (j - 1)
            for place, share in zip(places, CONVERGED_C1, strict=True):
                steps = steps_of(group, share)
                spread = place + np.linspace(-0.08, 0.08, len(steps))  # so that equal ones show
                axes.plot(steps, spread, **style, markersize=2.5, alpha=0.4)
                label = group.label if share == CONVERGED_C1[0] else None
                mean = {"markersize": 7, "markeredgecolor": "black", "ecolor": "black"}
                n = len(steps)
                half = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * stats.sem(steps) if n > 1 else 0
                axes.errorbar(steps.mean(), place, xerr=half, **style, **mean, label=label)
        _logarithmic(axes, "steps (large: mean and 95 % interval)")
        axes.set_title(f"{nets[0].config['dataset']}, {seeds_of(nets[0])}")
        axes.grid(axis="y", visible=False)
        for line in np.arange(1, len(CONVERGED_C1)) - 0.5:
            axes.axhline(line, color="grey", linewidth=0.5)
    panels[0].set_yticks(range(len(CONVERGED_C1)), map(percent, CONVERGED_C1))
    panels[0].set_ylabel("of the final validation accuracy")
    panels[0].invert_yaxis()
    shared_legend(figure, panels[:1], columns=3)
    return figure


def difficulty(groups: Sequence[Group]) -> Figure:
    """Claim C2: validation accuracy over steps; moons and both kinds of circles, for each model."""
    figure, (panels,) = new_figure(1, 2, sharey=True, sharex=True, panel=(3.25, 2.9))
    names = "moons", *(f"circles, factor {factor}" for factor in FACTORS)
    for axes, model, nets in zip(panels, MODELS.values(), (groups[:3], groups[3:]), strict=True):
        for group, name, colour, line in zip(nets, names, COLOURS, LINES, strict=False):
            steps, accuracy = (column(group.runs, c)[:, 1:] for c in ("step", "val_accuracy"))
            band(axes, steps[0], accuracy, colour=colour, line=line, label=name)
        _logarithmic(axes, "step")
        axes.set_title(f"{model}, {seeds_of(nets[0])}")
        _mark_bayes(axes, bayes_accuracy_of(nets[0].config))
        axes.legend(loc="lower right", fontsize=8)
    panels[0].set_ylabel("validation accuracy")
    return figure


def gradient_descent(groups: Sequence[Group]) -> Figure:
    """Training loss and validation accuracy by batch size, and the boundaries after some epochs."""
    figure, (curves, planes) = new_figure(2, 3, panel=(2.16, 2.4))
    shown = (("epoch", "train_loss"), ("step", "train_loss"), ("epoch", "val_accuracy"))
    for group, plane, colour, line in zip(groups, planes, COLOURS, LINES, strict=False):
        for axes, (x, y) in zip(curves, shown, strict=True):
            values = column(group.runs, x)[0, 1:], column(group.runs, y)[:, 1:]
            band(axes, *values, colour=colour, line=line, label=group.label)
        _draw_boundary(plane, group)
    for axes, (x, y) in zip(curves, shown, strict=True):
        _logarithmic(axes, "epochs" if x == "epoch" else "steps (weight updates)")
        axes.tick_params(axis="x", labelsize=SMALL)
        axes.locator_params(axis="x", numticks=4)
        if y == "train_loss":
            axes.set(ylabel="training loss", ylim=(0, None))
    accuracy = curves[-1]
    accuracy.set_ylabel("validation accuracy")
    accuracy.axvline(EPOCHS, **DOTTED)
    place = {"textcoords": "offset points", "xytext": (-3, 3), "ha": "right", "fontsize": SMALL}
    note = f"{EPOCHS} epochs:\nbelow"
    accuracy.annotate(note, (EPOCHS, 0), xycoords=("data", "axes fraction"), **place)
    curves[1].set_title(f"{MODELS[groups[0].config['model']]} MLP on moons, {seeds_of(groups[0])}")
    shared_legend(figure, curves[:1], columns=3)
    return figure


def _draw_boundary(axes: Axes, group: Group) -> None:
    """The decision boundary of the first seed after EPOCHS, and its test points."""
    run = _first_epochs(group.runs[0])
    dataset = toy_set(run)
    grid = make_grid(dataset.x_test, 200)
    history, logits = replay(run, (), lambda net: net.forward(grid.reshape(-1, 2)))
    (difference,) = (np.diff(values)[:, 0].reshape(grid.shape[:2]) for values in logits.values())
    plane = *grid.transpose(2, 0, 1), difference
    axes.contourf(*plane, [-np.inf, 0, np.inf], colors=PALE)
    axes.contour(*plane, [0], colors="black", linewidths=1.2)
    _draw_points(axes, *dataset.split("test"), dataset.class_names)
    epochs, steps, accuracy = (history[c][-1] for c in ("epoch", "step", "val_accuracy"))
    title = f"{group.label}, {epochs:g} epochs:\n{steps:,.0f} steps, accuracy {accuracy:.3f}"
    axes.set_title(title, fontsize=8)
    axes.grid(visible=False)


def _first_epochs(run: RunRecord) -> RunRecord:
    """The same run, ended after EPOCHS."""
    config = {**run.config, "max_epochs": min(EPOCHS, run.config["max_epochs"])}
    kept = run.history["epoch"] <= EPOCHS
    return replace(run, config=config, history={k: v[kept] for k, v in run.history.items()})


def gradient_descent_discussion(groups: Sequence[Group]) -> str:
    """The discussion of gradient descent by batch size, from the smallest to the full batch."""
    early, late, results, ends = [], [], [], []
    for group in groups:
        histories = [_first_epochs(run).history for run in group.runs]
        early.append(np.mean([history["val_accuracy"][-1] for history in histories]))
        results.append(f"{group.label} {early[-1]:.3f} ({histories[0]['step'][-1]:,.0f} steps)")
        late.append(column(group.runs, "val_accuracy")[:, -1].mean())
        epochs = group.runs[0].result["epochs"]
        ends.append(f"{group.label} {late[-1]:.3f} after {epochs:,g} epochs")
    ahead = "After the same number of epochs a smaller batch, which makes more steps, is ahead"
    if not (np.diff(early) < 0).all():
        ahead = "After the same number of epochs a smaller batch is not always ahead"
    elif not (np.diff(late) < 0).all():
        ahead += "; at the end no longer"
    apart = max(int(np.diff(group.runs[0].history["step"]).max()) for group in groups)
    noise = [_noise(group, apart) for group in groups]
    noisier = f"steps of the smallest batch are {'not ' * bool(np.argmax(noise))}the noisiest."
    return (
        "All have the same data, initial weights and learning rate "
        f"({groups[0].config['learning_rate']:g}). Validation accuracy after {EPOCHS} epochs, mean "
        f"of {seeds_of(groups[0])}: {', '.join(results)}. {ahead}: {', '.join(ends)}. In the last "
        f"quarter of the steps the training loss changes over {apart} steps, apart from its trend, "
        f"by {', '.join(f'{change:.1g}' for change in noise)} on average: {noisier}"
    )


def _noise(group: Group, apart: int) -> float:
    """Changes of the training loss over so many steps, in the last quarter of the steps.

    Their mean absolute deviation from their mean, which is the trend, of each seed.
    """
    steps, losses = column(group.runs, "step")[0], column(group.runs, "train_loss")
    compared = (steps % apart == 0) & (steps >= 0.75 * steps[-1])
    changes = np.diff(losses[:, compared])
    return float(np.abs(changes - changes.mean(axis=1, keepdims=True)).mean())
