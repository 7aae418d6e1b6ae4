"""What the figures of several topics share."""

from collections.abc import Sequence

from training.plotting import SPLIT_COLOURS, Axes, Figure, draw_run, new_figure
from training.runs import RunRecord

SPLITS = ("train", "test")
DOTTED = {"color": "black", "linewidth": 0.8, "linestyle": ":"}


def two_panels(left: str, right: str, x: str = "epoch") -> tuple[Figure, dict[str, Axes]]:
    """A figure, and its axes of loss and accuracy with their titles."""
    figure, ((loss, accuracy),) = new_figure(1, 2)
    loss.set(xlabel=x, ylabel="loss", title=left)
    accuracy.set(xlabel=x, ylabel="accuracy", title=right)
    return figure, {"loss": loss, "accuracy": accuracy}


def draw_seeds(
    panels: dict[str, Axes], runs: Sequence[RunRecord], width: float | None = None
) -> None:
    """Train and test curves of loss and accuracy, a line a seed, with a dot at its best epoch."""
    for i, run in enumerate(runs):
        labels = {split: split if i == 0 else None for split in SPLITS}
        draw_run(panels, run, colours=SPLIT_COLOURS, labels=labels, width=width)
