"""Figure 5 and what belongs to it: the CNN's curves, beside the MLP's, and shifted images."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from figures.shifts import LARGEST_SEEN, is_mlp, read_shifts
from training.curves import COLOURS, SPLIT_COLOURS, band, draw_run, new_figure
from training.record import RunRecord

SPLITS = ("train", "test")
SHIFTED = {  # runs whose nets were asked about shifted images, by a part of their name
    "_report": "recipe report",
    "_short_augmented": "short runs, random crops",
    "_short_plain": "short runs, no crops",
}


def _nets(runs: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """The runs of each net, the MLP's first."""
    nets = {"MLP": [], "CNN": []}
    for run in runs:
        nets["MLP" if is_mlp(run) else "CNN"].append(run)
    return nets


def draw_report_curves(runs: Sequence[RunRecord]) -> Figure:
    """Figure 5: loss and accuracy over epochs, a dot where the weights were kept."""
    figure, ((loss, accuracy),) = new_figure(1, 2)
    labels = {split: split for split in SPLITS}
    for run in runs:
        draw_run({"loss": loss, "accuracy": accuracy}, run, colours=SPLIT_COLOURS, labels=labels)
    loss.set(xlabel="epoch", ylabel="loss", title="CNN on CIFAR-10")
    loss.set_ylim(bottom=0)
    accuracy.set(xlabel="epoch", ylabel="accuracy", title="dot: lowest validation loss")
    accuracy.legend(loc="lower right")
    return figure


def draw_best_curves(runs: Sequence[RunRecord]) -> Figure:
    """Validation loss and accuracy of the recipes over minutes of training."""
    figure, ((loss, accuracy),) = new_figure(1, 2)
    for run, colour in zip(runs, COLOURS, strict=False):
        minutes = run.history["seconds"] / 60
        recipe = run.config["recipe"]
        loss.plot(minutes, run.history["val_loss"], color=colour, label=recipe)
        accuracy.plot(minutes, run.history["val_accuracy"], color=colour, label=recipe)
    loss.set(xlabel="minutes", ylabel="validation loss", title="CNN on CIFAR-10")
    loss.set_ylim(bottom=0)
    accuracy.set(xlabel="minutes", ylabel="validation accuracy", title="one view of each image")
    accuracy.set_ylim(0, 1)
    accuracy.legend(loc="lower right")
    return figure


def draw_mlp_and_cnn(runs: Sequence[RunRecord]) -> Figure:
    """Claim C3: accuracy above, loss below; MLP left, CNN right; same axes for each quantity."""
    figure, panels = new_figure(2, 2, sharex="col", sharey="row", panel=(3.4, 2.4))
    for (net, of_net), (top, bottom) in zip(_nets(runs).items(), panels.T, strict=True):
        for i, run in enumerate(of_net):
            labels = {split: split if i == 0 else None for split in SPLITS}
            axes = {"accuracy": top, "loss": bottom}
            draw_run(axes, run, colours=SPLIT_COLOURS, labels=labels, width=0.9)
        parameters = of_net[0].result["parameters"]
        seeds = "1 seed" if len(of_net) == 1 else f"{len(of_net)} seeds"
        top.set_title(f"{net}, {parameters / 1e6:.2f} M parameters, {seeds}")
        bottom.set(xlabel="epoch")
    panels[0, 0].legend(loc="upper left")
    panels[0, 0].set_ylabel("accuracy")
    panels[0, 0].set_ylim(0, 1)
    panels[1, 0].set_ylabel("loss")
    panels[1, 0].set_ylim(bottom=0)
    return figure


def draw_shifts(runs: Sequence[RunRecord]) -> Figure:
    """Claim C5: accuracy against the shift above, the share that is kept of it below.

    A column for the whole runs, one for short runs with random crops, one for short runs without.
    """
    figure, panels = new_figure(2, 3, sharex=True, sharey="row", panel=(2.8, 2.3))
    for (kind, title), (absolute, relative) in zip(SHIFTED.items(), panels.T, strict=True):
        of_kind = [run for run in runs if kind in run.path.name]
        for (net, of_net), colour in zip(_nets(of_kind).items(), COLOURS, strict=False):
            measured = [read_shifts(run.path) for run in of_net]
            pixels, _, _ = measured[0]
            curves = np.concatenate([accuracy.T for _, accuracy, _ in measured])  # runs, directions
            label = f"{net}, {len(of_net)} seed{'s' * (len(of_net) > 1)}"
            band(absolute, pixels, curves, colour=colour, label=label)
            band(relative, pixels, curves / curves[:, :1], colour=colour, label=label)
        absolute.set(title=title, ylim=(0, 1))
        relative.set(xlabel="shift in pixels", ylim=(0, None))
        relative.legend(loc="lower left", fontsize=7)
        if of_kind[0].config["augment"]:
            absolute.axvspan(0, LARGEST_SEEN, color="grey", alpha=0.12, linewidth=0)
            relative.axvspan(0, LARGEST_SEEN, color="grey", alpha=0.12, linewidth=0)
    panels[0, 0].text(LARGEST_SEEN / 2, 0.04, "shifts seen\nin training", ha="center", fontsize=7)
    panels[0, 0].set_ylabel("test accuracy")
    panels[1, 0].set_ylabel("share kept")
    return figure
