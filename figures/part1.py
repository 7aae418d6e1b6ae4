"""Figures 1 to 4: the toy sets, and the MLPs on them and on CIFAR-10."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from data import load_dataset
from data.toy import DEFAULT_NOISE
from figures.experiments import MODELS
from figures.results import PUBLISHED, best_possible, by_name
from training.curves import (
    COLOURS,
    SPLIT_COLOURS,
    SPLIT_LINES,
    band,
    column,
    draw_run,
    mark_best,
    new_figure,
)
from training.record import RunRecord

MODEL_NAMES = {"numpy": "NumPy MLP", "pytorch": "PyTorch MLP"}

FIRST_STEPS = 800  # of the curves in which a beginning shows


def draw_toy_sets(runs: Sequence[RunRecord]) -> Figure:
    """Figure 1: a scatter of the training points of circles and moons."""
    figure, (panels,) = new_figure(1, 2, panel=(3.2, 3.0))
    for axes, name in zip(panels, ("circles", "moons"), strict=True):
        dataset = load_dataset(name, seed=0, n_samples=1000)
        for label, marker in enumerate("o^"):
            axes.scatter(
                *dataset.x_train[dataset.y_train == label].T,
                s=9,
                color=COLOURS[label],
                marker=marker,
                linewidths=0,
                label=dataset.class_names[label],
            )
        axes.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
        axes.set_title(f"{name}, noise {DEFAULT_NOISE[name]}")
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.15 * (high - low))  # room for the legend
        axes.legend(loc="upper center", ncols=2, fontsize=8)
    return figure


def draw_toy_curves(runs: Sequence[RunRecord]) -> Figure:
    """Figures 2 and 3: accuracy above, loss below; NumPy left, PyTorch right; same axes."""
    figure, panels = new_figure(2, 2, sharex=True, sharey="row", panel=(3.4, 2.4))
    limit = best_possible(runs[0])
    for model, (top, bottom) in zip(MODELS, panels.T, strict=True):
        of_model = [run for run in runs if run.config["model"] == model]
        for axes, quantity in ((top, "accuracy"), (bottom, "loss")):
            for split in ("train", "test"):
                band(
                    axes,
                    column(of_model, "epoch")[0],
                    column(of_model, f"{split}_{quantity}"),
                    colour=SPLIT_COLOURS[split],
                    line=SPLIT_LINES[split],
                    label=split,
                )
            for run in of_model:
                mark_best(axes, run, f"test_{quantity}", SPLIT_COLOURS["test"], size=3)
        top.axhline(limit, color="black", linewidth=0.8, linestyle=":")
        top.set_title(f"{MODEL_NAMES[model]} on {runs[0].config['dataset']}, {len(of_model)} seeds")
        top.legend(loc="lower right")
        bottom.set(xlabel="epoch")
        bottom.set_ylim(bottom=0)
    panels[0, 0].annotate(
        "best possible",
        (1, limit),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        fontsize=7,
    )
    panels[0, 0].set_ylabel("accuracy")
    panels[1, 0].set_ylabel("loss")
    return figure


def draw_toy_claims(runs: Sequence[RunRecord]) -> Figure:
    """Claims C1 and C2: how fast validation accuracy rises, by net and beginning, and by set.

    Lines are means over the seeds, bands their range; only the first steps are shown.
    """
    figure, (panels,) = new_figure(1, 3, sharey=True, panel=(3.0, 2.8))
    groups = by_name(runs)
    shown = {
        "circles": ("numpy_circles_report", "pytorch_circles_report", "pytorch_circles_equal"),
        "moons": ("numpy_moons_report", "pytorch_moons_report", "pytorch_moons_equal"),
        "equally noisy, NumPy": ("numpy_circles_matched", "numpy_moons_report"),
    }
    labels = {"numpy": "NumPy", "pytorch": "PyTorch"}
    for axes, (title, names) in zip(panels, shown.items(), strict=True):
        for name, colour in zip(names, COLOURS, strict=False):
            of_group = groups[f"mlp_{name}"]
            model, dataset, kind = name.split("_")
            label = labels[model] + (", NumPy's weights" if kind == "equal" else "")
            line = "--" if kind == "equal" else "-"
            band(
                axes,
                column(of_group, "step")[0],
                column(of_group, "val_accuracy"),
                colour=colour,
                line=line,
                label=label if len(names) == 3 else dataset,
            )
        axes.set(title=title, xlabel="step", xlim=(0, FIRST_STEPS))
        axes.legend(loc="lower right", fontsize=7)
    panels[0].set_ylabel("validation accuracy")
    panels[0].set_ylim(0.4, 1.0)
    return figure


def draw_cifar10_curves(runs: Sequence[RunRecord]) -> Figure:
    """Figure 4: loss and accuracy over epochs, a line a seed, a dot where the weights were kept."""
    figure, ((loss, accuracy),) = new_figure(1, 2)
    for i, run in enumerate(runs):
        labels = {split: split if i == 0 else None for split in ("train", "test")}
        panels = {"loss": loss, "accuracy": accuracy}
        draw_run(panels, run, colours=SPLIT_COLOURS, labels=labels, width=0.9)
    _, published = PUBLISHED["mlp_pytorch_cifar10_report"]
    accuracy.axhline(published, color="black", linewidth=0.8, linestyle=":", label="the report's")
    loss.set(xlabel="epoch", ylabel="loss", title=f"MLP on CIFAR-10, {len(runs)} seeds")
    accuracy.set(xlabel="epoch", ylabel="accuracy", title="dots: lowest validation loss")
    accuracy.legend(loc="lower right")
    return figure


def draw_cifar10_best(runs: Sequence[RunRecord]) -> Figure:
    """How much more the best recipe gets out of the same pixels, and out of a wider net."""
    figure, ((loss, accuracy),) = new_figure(1, 2)
    for run, colour in zip(runs, COLOURS, strict=False):
        units = run.config["dnn_hidden_units"]
        name = f"{run.config['recipe']} {'-'.join(map(str, units))}"
        colours = dict.fromkeys(("train", "test"), colour)
        labels = {split: f"{name} {split}" for split in colours}
        draw_run({"loss": loss, "accuracy": accuracy}, run, colours=colours, labels=labels)
    loss.set(xlabel="epoch", ylabel="loss", title="MLPs on CIFAR-10")
    accuracy.set(xlabel="epoch", ylabel="accuracy", title="test curves: one view of each image")
    accuracy.legend(loc="lower right", fontsize=6)
    return figure
