"""What tests read off a figure: the texts of its legends."""

from training.plotting import Axes, Figure


def legend_of(holder: Axes | Figure) -> list[str]:
    """The labels of a panel's legend, or of the first of a whole figure."""
    legend = holder.legends[0] if isinstance(holder, Figure) else holder.get_legend()
    return [text.get_text() for text in legend.get_texts()]
