"""Figure 5 and what belongs to it: the CNN's curves, beside the MLP's, and shifted images."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from figures.shifts import read_shifts
from training.curves import COLOURS, SPLIT_COLOURS, band, draw_run, new_figure
from training.record import RunRecord

SPLITS = ("train", "test")


def _nets(runs: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """The runs of each net, the MLP's first."""
    nets = {"MLP": [], "CNN": []}
    for run in runs:
        nets["MLP" if "dnn_hidden_units" in run.config else "CNN"].append(run)
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
    """Claim C5: accuracy against the shift, and what share of the accuracy at 0 is kept."""
    figure, ((absolute, relative),) = new_figure(1, 2)
    for (net, of_net), colour in zip(_nets(runs).items(), COLOURS, strict=False):
        measured = [read_shifts(run.path) for run in of_net]
        pixels, _, images = measured[0]
        curves = np.concatenate([accuracy.T for _, accuracy, _ in measured])  # runs * directions
        label = f"{net}, {images:,} test images"
        band(absolute, pixels, curves, colour=colour, label=label)
        band(relative, pixels, curves / curves[:, :1], colour=colour, label=label)
    absolute.set(xlabel="shift in pixels", ylabel="test accuracy", title="accuracy")
    relative.set(xlabel="shift in pixels", ylabel="share kept", title="against no shift")
    absolute.set_ylim(0, 1)
    relative.set_ylim(bottom=0)
    for axes in (absolute, relative):
        axes.axvspan(0, 4, color="grey", alpha=0.12, linewidth=0)
    absolute.text(2, 0.04, "trained with\nshifts up to 4", ha="center", fontsize=7)
    relative.legend(loc="lower left", fontsize=8)
    return figure
