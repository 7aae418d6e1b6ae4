"""What the figures of several topics share."""

from collections.abc import Sequence

from training.plotting import Axes, Figure

DOTTED = {"color": "black", "linewidth": 0.8, "linestyle": ":"}


def shared_legend(figure: Figure, panels: Sequence[Axes], columns: int) -> None:
    """One legend below all panels for the lines of all of them."""
    handles: dict[str, object] = {}
    for axes in panels:
        handles |= dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=columns, fontsize=8)
