"""How each figure is drawn, from the groups of records that it shows."""

from collections.abc import Sequence

import numpy as np

from data import load_dataset
from data.images import PADDING
from data.palindromes import N_DIGITS
from data.toy import DEFAULT_NOISE
from figures.claims import bayes_accuracy_of
from figures.experiments import ORIGINAL_MLP, Group, by_label
from figures.measurements import read_memory, read_shifts
from part3_rnn.plot import draw_accuracy_against, mark_chance
from training.plotting import (
    COLOURS,
    SPLIT_COLOURS,
    SPLIT_LINES,
    Axes,
    Figure,
    band,
    column,
    draw_run,
    mark_best,
    new_figure,
)
from training.runs import RunRecord

SPLITS = ("train", "test")
DOTTED = {"color": "black", "linewidth": 0.8, "linestyle": ":"}
FIRST_TOY_STEPS = 800  # in which initialisations differ
FIRST_RNN_STEPS = 300  # in which T = 5 is learnt


def _two_panels(left: str, right: str, x: str = "epoch", prefix: str = "") -> tuple:
    """A figure, and its axes of loss and accuracy with their titles."""
    figure, ((loss, accuracy),) = new_figure(1, 2)
    loss.set(xlabel=x, ylabel=f"{prefix}loss", title=left)
    accuracy.set(xlabel=x, ylabel=f"{prefix}accuracy", title=right)
    return figure, {"loss": loss, "accuracy": accuracy}


def _bands(axes: Axes, runs: Sequence[RunRecord], x: str, quantity: str) -> None:
    """Train and test curves: the mean and the range of the seeds."""
    for split in SPLITS:
        colour, line = SPLIT_COLOURS[split], SPLIT_LINES[split]
        curves = column(runs, f"{split}_{quantity}")
        band(axes, column(runs, x)[0], curves, colour=colour, line=line, label=split)


def _seeds(axes: dict[str, Axes], runs: Sequence[RunRecord], width: float | None = None) -> None:
    """Train and test curves of loss and accuracy, a line a seed, with a dot at its best epoch."""
    for i, run in enumerate(runs):
        labels = {split: split if i == 0 else None for split in SPLITS}
        draw_run(axes, run, colours=SPLIT_COLOURS, labels=labels, width=width)


def toy_sets(groups: Sequence[Group]) -> Figure:
    """Figure 1: a scatter of the training points of circles and moons."""
    figure, (panels,) = new_figure(1, 2, panel=(3.2, 3.0))
    for axes, name in zip(panels, ("circles", "moons"), strict=True):
        dataset = load_dataset(name, seed=0, n_samples=1000)
        for label, marker in enumerate("o^"):
            points = dataset.x_train[dataset.y_train == label].T
            style = {"s": 9, "color": COLOURS[label], "marker": marker, "linewidths": 0}
            axes.scatter(*points, **style, label=dataset.class_names[label])
        axes.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
        axes.set_title(f"{name}, noise {DEFAULT_NOISE[name]}")
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.15 * (high - low))  # room for the legend
        axes.legend(loc="upper center", ncols=2, fontsize=8)
    return figure


def toy_curves(groups: Sequence[Group]) -> Figure:
    """Figures 2 and 3: accuracy above, loss below; NumPy left, PyTorch right; same axes."""
    figure, panels = new_figure(2, 2, sharex=True, sharey="row", panel=(3.4, 2.4))
    limit = bayes_accuracy_of(groups[0].config)
    for group, (top, bottom) in zip(groups, panels.T, strict=True):
        for axes, quantity in ((top, "accuracy"), (bottom, "loss")):
            _bands(axes, group.runs, "epoch", quantity)
            for run in group.runs:
                mark_best(axes, run, f"test_{quantity}", SPLIT_COLOURS["test"], size=3)
        top.axhline(limit, **DOTTED)
        seeds = len(group.runs)
        top.set_title(f"{group.label} MLP on {group.config['dataset']}, {seeds} seeds")
        top.legend(loc="lower right")
        bottom.set(xlabel="epoch")
        bottom.set_ylim(bottom=0)
    place = {"xycoords": ("axes fraction", "data"), "xytext": (0, 3), "ha": "right", "fontsize": 7}
    panels[0, 0].annotate("Bayes accuracy", (1, limit), textcoords="offset points", **place)
    panels[0, 0].set_ylabel("accuracy")
    panels[1, 0].set_ylabel("loss")
    return figure


def toy_claims(groups: Sequence[Group]) -> Figure:
    """Claims C1 and C2: how fast validation accuracy rises, for the groups of `experiments.TOY`."""
    figure, (panels,) = new_figure(1, 3, sharey=True, panel=(3.0, 2.8))
    shown = {"circles": groups[:3], "moons": groups[3:6]}
    shown = {title: {group.label: group for group in three} for title, three in shown.items()}
    shown["equally noisy, NumPy"] = {"circles": groups[6], "moons": groups[3]}
    for axes, (title, labelled) in zip(panels, shown.items(), strict=True):
        styles = zip(COLOURS, ("-", "-", "--"), strict=False)
        for (label, group), (colour, line) in zip(labelled.items(), styles, strict=False):
            steps, accuracy = (column(group.runs, name) for name in ("step", "val_accuracy"))
            band(axes, steps[0], accuracy, colour=colour, line=line, label=label)
        axes.set(title=title, xlabel="step", xlim=(0, FIRST_TOY_STEPS))
        axes.legend(loc="lower right", fontsize=7)
    panels[0].set(ylabel="validation accuracy", ylim=(0.4, 1.0))
    return figure


def mlp_curves(groups: Sequence[Group]) -> Figure:
    """Figure 4: loss and accuracy over epochs, a line a seed, a dot where the weights were kept."""
    (group,) = groups
    title = f"MLP on CIFAR-10, {len(group.runs)} seeds"
    figure, axes = _two_panels(title, "dots: lowest validation loss")
    _seeds(axes, group.runs, width=0.9)
    axes["accuracy"].axhline(ORIGINAL_MLP, **DOTTED, label="the original")
    axes["accuracy"].legend(loc="lower right")
    return figure


def mlp_best(groups: Sequence[Group]) -> Figure:
    """What recipe best reaches with the same hidden layers, and with wider ones."""
    figure, axes = _two_panels("MLPs on CIFAR-10", "test curves: no test-time augmentation")
    for group, colour in zip(groups, COLOURS, strict=False):
        name = f"{group.config['recipe']} {'-'.join(map(str, group.config['dnn_hidden_units']))}"
        colours = dict.fromkeys(SPLITS, colour)
        labels = {split: f"{name} {split}" for split in SPLITS}
        draw_run(axes, group.runs[0], colours=colours, labels=labels)
    axes["accuracy"].legend(loc="lower right", fontsize=6)
    return figure


def cnn_curves(groups: Sequence[Group]) -> Figure:
    """Figure 5: loss and accuracy over epochs, a dot where the weights were kept."""
    figure, axes = _two_panels("CNN on CIFAR-10", "dot: lowest validation loss")
    _seeds(axes, groups[0].runs)
    axes["loss"].set_ylim(bottom=0)
    axes["accuracy"].legend(loc="lower right")
    return figure


def cnn_best(groups: Sequence[Group]) -> Figure:
    """Validation loss and accuracy of the recipes over minutes of training."""
    titles = "CNN on CIFAR-10", "no test-time augmentation"
    figure, axes = _two_panels(*titles, "minutes", "validation ")
    for group, colour in zip(groups, COLOURS, strict=False):
        history, style = group.runs[0].history, {"color": colour, "label": group.config["recipe"]}
        for quantity in axes:
            axes[quantity].plot(history["seconds"] / 60, history[f"val_{quantity}"], **style)
    axes["loss"].set_ylim(bottom=0)
    axes["accuracy"].set_ylim(0, 1)
    axes["accuracy"].legend(loc="lower right")
    return figure


def mlp_and_cnn(groups: Sequence[Group]) -> Figure:
    """Claim C3: accuracy above, loss below; MLP left, CNN right; same axes for each quantity."""
    figure, panels = new_figure(2, 2, sharex="col", sharey="row", panel=(3.4, 2.4))
    for group, (top, bottom) in zip(groups, panels.T, strict=True):
        _seeds({"accuracy": top, "loss": bottom}, group.runs, width=0.9)
        seeds = f"{len(group.runs)} seed{'s' * (len(group.runs) > 1)}"
        parameters = group.runs[0].result["parameters"] / 1e6
        top.set_title(f"{group.net}, {parameters:.2f} M parameters, {seeds}")
        bottom.set(xlabel="epoch")
    panels[0, 0].legend(loc="upper left")
    panels[0, 0].set(ylabel="accuracy", ylim=(0, 1))
    panels[1, 0].set(ylabel="loss", ylim=(0, None))
    return figure


def shifts(groups: Sequence[Group]) -> Figure:
    """Claim C5: accuracy against the shift above, relative to unshifted images below."""
    figure, panels = new_figure(2, 3, sharex=True, sharey="row", panel=(2.8, 2.3))
    for (title, nets), (absolute, relative) in zip(by_label(groups).items(), panels.T, strict=True):
        for group, colour in zip(nets, COLOURS, strict=False):
            measured = [read_shifts(run.path) for run in group.runs]
            pixels, _, _ = measured[0]
            curves = np.concatenate([accuracy.T for _, accuracy, _ in measured])  # runs, directions
            label = f"{group.net}, {len(group.runs)} seed{'s' * (len(group.runs) > 1)}"
            band(absolute, pixels, curves, colour=colour, label=label)
            band(relative, pixels, curves / curves[:, :1], colour=colour, label=label)
        absolute.set(title=title, ylim=(0, 1))
        relative.set(xlabel="shift in pixels", ylim=(0, None))
        relative.legend(loc="lower left", fontsize=7)
        for axes in (absolute, relative) if nets[0].config["augment"] else ():
            axes.axvspan(0, PADDING, color="grey", alpha=0.12, linewidth=0)
    panels[0, 0].text(PADDING / 2, 0.04, "shifts seen\nin training", ha="center", fontsize=7)
    for axes, label in zip(panels[:, 0], ("test accuracy", "relative accuracy"), strict=True):
        axes.set_ylabel(label)
    return figure


def rnn_curves(groups: Sequence[Group]) -> Figure:
    """Figure 6: loss and accuracy over the steps, mean and range over the seeds."""
    (group,) = groups
    length, seeds = group.config["input_length"], len(group.runs)
    titles = f"vanilla RNN, T = {length}, {seeds} seeds", "its first steps; dotted: chance"
    figure, axes = _two_panels(*titles, "step")
    for quantity in axes:
        _bands(axes[quantity], group.runs, "step", quantity)
    axes["loss"].set(yscale="log")
    axes["accuracy"].set(ylim=(0, 1.03), xlim=(0, FIRST_RNN_STEPS))
    mark_chance(axes["accuracy"])
    axes["accuracy"].legend(loc="lower right")
    return figure


def _runs(groups: Sequence[Group]) -> dict[str, list[RunRecord]]:
    """The runs of each label."""
    labelled = by_label(groups).items()
    return {label: [run for group in same for run in group.runs] for label, same in labelled}


def lengths(groups: Sequence[Group]) -> Figure:
    """Figure 7: test accuracy against T for each kind of net, mean and range over the seeds."""
    figure, ((axes,),) = new_figure(1, 1, panel=(6.4, 3.4))
    draw_accuracy_against(axes, _runs(groups), "input_length")
    axes.set(xlabel="digits read (T)", ylabel="test accuracy", ylim=(0, 1.03), xscale="log")
    ticks = sorted({g.config["input_length"] for g in groups} - {25, 40})  # too close to others
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], fontsize=7, rotation=45)
    axes.minorticks_off()
    axes.legend(fontsize=8)
    return figure


def hidden_sizes(groups: Sequence[Group]) -> Figure:
    """Claim C9: test accuracy against the number of hidden units, a panel for each length."""
    lengths = sorted({group.config["input_length"] for group in groups})
    sizes = sorted({group.config["num_hidden"] for group in groups})
    figure, (panels,) = new_figure(1, len(lengths), sharey=True)
    for axes, T in zip(panels, lengths, strict=True):
        of_length = [group for group in groups if group.config["input_length"] == T]
        draw_accuracy_against(axes, _runs(of_length), "num_hidden")
        axes.set(xlabel="hidden units", xscale="log", title=f"T = {T}", ylim=(0, 1.03))
        axes.set_xticks(sizes, sizes)
        axes.minorticks_off()
    panels[0].set_ylabel("test accuracy")
    panels[-1].legend(fontsize=7)  # there every kind is shown
    return figure


def limits(groups: Sequence[Group]) -> Figure:
    """Claims C8 and C9: gradient (geometric mean), memory and accuracy by initialisation."""
    figure, ((gradient, before), (accuracy, after)) = new_figure(2, 2, panel=(3.9, 2.7))
    for place, (group, colour) in enumerate(zip(groups, COLOURS, strict=False)):
        memory = np.stack([read_memory(run.path) for run in group.runs])
        steps, norms = memory["step"][0], memory["initial_gradient"]
        line = "--" if group.config["init"] == "orthogonal" else "-"  # some lie upon another
        means = np.exp(np.log(norms).mean(0))
        gradient.semilogy(steps, means, line, color=colour, label=group.label)
        shade = {"color": colour, "alpha": 0.2, "linewidth": 0}
        gradient.fill_between(steps, norms.min(0), norms.max(0), **shade)
        for axes, when in ((before, "initial_share"), (after, "trained_share")):
            band(axes, steps, memory[when], colour=colour, line=line, label=group.label)
        reached = group.accuracies
        accuracy.barh(place, reached.mean(), color=colour, alpha=0.6)
        accuracy.plot(reached, np.full(len(reached), place), "|", color="black", markersize=7)
    gradient.set(ylabel=r"$\|\partial\,$loss$\,/\,\partial h_t\|$", title="before training")
    gradient.set_xlabel("step t")
    for axes, title in ((before, "before training"), (after, "after training")):
        label = "correlation ratio of $h_t$, first digit"
        axes.set(xlabel="step t", ylabel=label, title=title, ylim=(0, 1.03))
    accuracy.set_yticks(range(len(groups)), [group.label for group in groups], fontsize=7)
    accuracy.invert_yaxis()
    accuracy.axvline(1 / N_DIGITS, **DOTTED)
    accuracy.set(xlabel="test accuracy", xlim=(0, 1.03), title="after training; marks: seeds")
    return figure
