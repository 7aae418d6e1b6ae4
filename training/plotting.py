"""The style of every figure, and saving it so that redrawing changes no byte.

Other modules take Matplotlib's classes from here, so that it is imported in one place.
"""

import importlib.util
import io
import os
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

# A notebook's shell command inherits a backend, module://NAME, which only the notebook may have.
backend = os.environ.get("MPLBACKEND", "").partition("module://")[2].partition(".")[0]
if backend and importlib.util.find_spec(backend) is None:
    del os.environ["MPLBACKEND"]

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap as LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D as Line2D
from matplotlib.ticker import MaxNLocator as MaxNLocator

from training import UsageError
from training.runs import IDENTIFYING_FLAGS, RunRecord, write_atomically

# Okabe and Ito's palette, which people with any colour vision can tell apart (Wong, 2011).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SPLIT_COLOURS = {"train": COLOURS[0], "test": COLOURS[1], "val": COLOURS[2]}
SPLIT_LINES = {"train": "--", "test": "-", "val": ":"}
STYLE = {
    "figure.dpi": 150,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "pdf.fonttype": 42,  # text stays text in the PDF
    "svg.hashsalt": "figures",
}
DOTTED = {"color": "black", "linewidth": 0.8, "linestyle": ":"}
FORMATS = ("png", "pdf")
CANVASES = {  # by file type, and what leaves times and versions out of the file
    "png": (FigureCanvasAgg, {"Software": None}),
    "pdf": (FigureCanvasPdf, {"CreationDate": None, "Producer": None}),
    "svg": (FigureCanvasSVG, {"Date": None}),
}


def style() -> AbstractContextManager[None]:
    """Draw and save within this style, whatever a matplotlibrc or a notebook has set."""
    return matplotlib.style.context(STYLE, after_reset=True)


def new_figure(
    rows: int, columns: int, *, panel: tuple[float, float] = (3.25, 2.6), **kwargs
) -> tuple[Figure, np.ndarray]:
    """A figure and its axes (rows, columns), each panel of the given width and height in inches.

    It draws to files alone and needs no screen: pyplot and its backend are not involved.
    """
    figure = Figure(figsize=(panel[0] * columns, panel[1] * rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **kwargs)


def save_figure(figure: Figure, stem: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write the figure as `stem`.png, `stem`.pdf, ..., without times or versions inside.

    It is laid out once, so that all of them look the same. Canvases write themselves, because
    `savefig` would draw everything twice.
    """
    paths = [stem.with_name(f"{stem.name}.{ending}") for ending in formats]
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine("none")
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        for path, ending in zip(paths, formats, strict=True):
            image, (canvas, blank) = io.BytesIO(), CANVASES[ending]
            getattr(canvas(figure), f"print_{ending}")(image, metadata=blank)
            write_atomically(path, image.getvalue())
    except OSError as error:
        raise UsageError(f"--out: {stem.parent} cannot be written ({error.strerror})") from error
    return paths


def band(
    axes: Axes, x: np.ndarray, runs: np.ndarray, *, colour: str, line: str = "-", label: str
) -> None:
    """Draw the mean of `runs` (n_runs, n_points) and, behind it, the range they span."""
    axes.plot(x, runs.mean(0), line, color=colour, label=label)
    if len(runs) > 1:
        axes.fill_between(x, runs.min(0), runs.max(0), color=colour, alpha=0.2, linewidth=0)


def shared_legend(figure: Figure, panels: Sequence[Axes], columns: int) -> None:
    """One legend below all panels for the lines of all of them."""
    handles: dict[str, object] = {}
    for axes in panels:
        handles |= dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=columns, fontsize=8)


def column(runs: Sequence[RunRecord], name: str) -> np.ndarray:
    """A history column of several runs as (n_runs, n_points), cut to the shortest of them."""
    length = min(len(run.history[name]) for run in runs)
    return np.stack([run.history[name][:length] for run in runs])


def draw_run(
    panels: dict[str, Axes],
    run: RunRecord,
    *,
    colours: dict[str, str],
    labels: dict[str, str | None],
    width: float | None = None,
) -> None:
    """Draw a run's train and test curves, with a dot at the epoch whose weights were kept.

    Args:
        panels: the axes for `loss` and for `accuracy`.
        colours, labels: of the curves of `train` and `test`.
    """
    epochs, best = run.history["epoch"], run.history["step"] == run.result["best_step"]
    for quantity, axes in panels.items():
        for split in ("train", "test"):
            axes.plot(
                epochs, run.history[f"{split}_{quantity}"], SPLIT_LINES[split],
                color=colours[split], linewidth=width, label=labels[split],
            )  # fmt: skip
        axes.plot(
            epochs[best], run.history[f"test_{quantity}"][best], "o", color=colours["test"],
            markersize=5, markeredgecolor="white", markeredgewidth=0.5, zorder=5,
        )  # fmt: skip


def draw_curves(runs: Sequence[RunRecord]) -> Figure:
    """Loss and accuracy against epochs, train dashed and test solid, a colour a run."""
    figure, ((loss, accuracy),) = new_figure(1, 2)
    for i, (run, label) in enumerate(zip(runs, _labels(runs), strict=True)):
        colours = dict.fromkeys(("train", "test"), COLOURS[i % len(COLOURS)])
        labels = {split: f"{label} {split}" if label else split for split in colours}
        draw_run({"loss": loss, "accuracy": accuracy}, run, colours=colours, labels=labels)
    for axes, quantity in ((loss, "loss"), (accuracy, "accuracy")):
        axes.set(xlabel="epoch", ylabel=quantity)
    loss.set_ylim(bottom=0)
    accuracy.legend(loc="lower right", fontsize=7)
    figure.suptitle("Train and test curves; a dot marks the epoch with the lowest validation loss")
    return figure


def _labels(runs: Sequence[RunRecord]) -> list[str]:
    """What tells the runs apart: their configurations if these do, else their folders."""
    if len(runs) == 1:
        return [""]
    differing = [n for n in IDENTIFYING_FLAGS if len({str(r.config.get(n)) for r in runs}) > 1]
    labels = [
        " ".join(f"seed {r.config[n]}" if n == "seed" else str(r.config.get(n)) for n in differing)
        for r in runs
    ]
    return [legible(label) for label in labels] if len(set(labels)) == len(runs) else names(runs)


def names(runs: Sequence[RunRecord]) -> list[str]:
    """The names of the runs' folders, with those around them where some have the same."""
    paths = [run.path.resolve() for run in runs]
    short = [path.name for path in paths]
    return [legible(str(p) if short.count(p.name) > 1 else p.name) for p in paths]


def legible(name: str) -> str:
    """A name for a legend: `$` begins no formula, and `_` in front does not hide it."""
    return re.sub("^_", " _", name.replace("$", r"\$"))
