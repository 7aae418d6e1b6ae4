"""The recurrent nets: figures 6 and 7, and the figures of claims C7 to C9."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy import stats

from figures.claims import MOST, RESTORED, SOLVED
from figures.effects import Effect, wilson
from figures.experiments import FEW, Group, by_label, seeds_of
from figures.measurements import read_measure
from part3_rnn.plot import mark_chance
from training.plotting import (
    COLOURS,
    DOTTED,
    SPLIT_COLOURS,
    Axes,
    Figure,
    LinearSegmentedColormap,
    band,
    column,
    new_figure,
    shared_legend,
)

OPTIMISERS = {"adam": "Adam", "rmsprop": "RMSprop"}
INITS = {"normal": "normal initialisation", "identity": "bistable initialisation"}
KINDS = ("original", "small inputs", "small steps", "small inputs and steps", "bistable")  # C8
ADAM_KINDS = ("Adam", "Adam, small inputs", "Adam, clipped", "Adam, both")  # as in RNN_ADAM
STYLES = (  # colour, line, marker: of different brightness, so that grey print tells them apart
    ("#000000", "-", "o"), (COLOURS[1], "--", "s"), (COLOURS[0], "-.", "^"),
    (COLOURS[3], ":", "D"), (COLOURS[2], (0, (5, 1, 1, 1, 1, 1)), "v"), (COLOURS[5], "-", "P"),
)  # fmt: skip
SIDEWAYS = 1.03  # factor between the same x of two lines, so that no point hides another
SHIFT = 0.11  # the same in columns of figure 7
# A list: older versions take the second of a tuple of two as alpha.
GREYS = LinearSegmentedColormap.from_list("shares", ["#e8e8e8", "#20405c"])
CLOSE = 1.4  # ratio of tick marks below which the smaller is left out
Lines = Mapping[str, Sequence[tuple[Group, int]]]  # each line's points: a group, after which steps

# --- What records say -----------------------------------------------------------------------------


def n_solved(group: Group, steps: float = np.inf) -> tuple[int, int]:
    """How many seeds have solved their task after so many steps, and of how many."""
    reached = group.single_view(steps)
    return int((reached >= SOLVED).sum()), len(reached)


def most_solve(group: Group, steps: float = np.inf) -> bool:
    """Whether most seeds do."""
    solved, n = n_solved(group, steps)
    return solved > MOST * n


def no_gain(effect: Effect) -> bool:
    """Whether the interval of a difference of shares excludes that MOST seeds make it."""
    return effect.sign != 1 and effect.high < MOST


def budgets(group: Group) -> list[int]:
    """The numbers of steps after which runs are judged: FEW, and all that they were allowed."""
    return sorted({min(FEW, group.config["train_steps"]), group.config["train_steps"]})


def solving(groups: Iterable[Group], steps: int, flag: str) -> list[int]:
    """The values of a flag with which most seeds solve the task after so many steps."""
    return sorted(group.config[flag] for group in groups if most_solve(group, steps))


def outcome(group: Group) -> str:
    """How many of its seeds solve the task in the end, and the mean accuracy, in words."""
    solved, n = n_solved(group)
    return f"{solved} of {n} seeds (mean accuracy {group.accuracies.mean():.2f})"


def _memory(group: Group, name: str) -> np.ndarray:
    """A column of what was measured on each seed: (n_seeds, T)."""
    return np.stack([read_measure(run.path, "memory.csv")[name] for run in group.runs])


def gradient_ratio(group: Group, when: str) -> np.ndarray:
    """For each seed: the norm of the loss's gradient at each state, relative to the last state's.

    Args:
        when: `initial` or `trained`.
    """
    norms = np.maximum(_memory(group, f"{when}_gradient"), np.finfo(float).tiny)
    return norms / norms[:, -1:]


def last_share(group: Group, when: str) -> np.ndarray:
    """For each seed: how much the last state depends on the first digit, a correlation ratio."""
    return _memory(group, f"{when}_share")[:, -1]


# --- Figures --------------------------------------------------------------------------------------


def draw_line(
    axes: Axes, x: np.ndarray, y: np.ndarray, low: np.ndarray, high: np.ndarray, i: int, label: str,
    width: float | None = None,
) -> None:  # fmt: skip
    """A line in the i-th of STYLES with bars from `low` to `high`."""
    colour, line, marker = STYLES[i % len(STYLES)]
    axes.errorbar(
        x, y, np.maximum(0, (y - low, high - y)), linestyle=line, marker=marker, color=colour,
        markerfacecolor="white", markersize=4, linewidth=width, elinewidth=0.7, label=label,
    )  # fmt: skip


def draw_shares(panels: Mapping[str, Lines], flag: str, name: str) -> Figure:
    """The share of seeds that solve it, with Wilson's interval, against a flag's logarithm.

    Args:
        panels: the lines of each, by its title.
        name: of the flag, below the axes.
    """
    figure, (row,) = new_figure(1, len(panels), sharey=True, panel=(3.25, 2.8))
    labels = list(dict.fromkeys(label for lines in panels.values() for label in lines))
    for axes, (title, lines) in zip(row, panels.items(), strict=True):
        ticks: list[int] = []
        for tick in sorted({g.config[flag] for points in lines.values() for g, _ in points})[::-1]:
            if not ticks or ticks[-1] / tick >= CLOSE:
                ticks.append(tick)
        for label, points in lines.items():
            points = sorted(points, key=lambda point: point[0].config[flag])
            solved = [n_solved(*point) for point in points]
            low, high = np.array([wilson(k, n) for k, n in solved]).T
            i = labels.index(label)
            x = np.array([group.config[flag] for group, _ in points])
            x = x * SIDEWAYS ** (i - (len(labels) - 1) / 2)
            draw_line(axes, x, np.array([k / n for k, n in solved]), low, high, i, label)
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], fontsize=8)
        axes.minorticks_off()
        axes.set(xlabel=name, title=title, ylim=(-0.03, 1.04))
    shared_legend(figure, row, columns=2)
    row[0].set_ylabel("share of seeds that solve it")
    return figure


def first_steps(groups: Sequence[Group]) -> Figure:
    """Figure 6: accuracy above, loss below; the first steps left, all steps right."""
    figure, panels = new_figure(2, 2, sharex="col", panel=(3.25, 2.3))
    for group, (top, bottom) in zip(groups, panels.T, strict=True):
        for axes, quantity in ((top, "accuracy"), (bottom, "loss")):
            steps = column(group.runs, "step")[0]
            # They hardly differ: a thin line on a wide, pale one.
            for split, line, width, alpha in (("test", "-", 4, 0.5), ("train", "--", 1.3, 1)):
                curves = column(group.runs, f"{split}_{quantity}")
                label = f"{split} palindromes"
                band(axes, steps, curves, colour=SPLIT_COLOURS[split], line=line, label=label)
                axes.lines[-1].set(linewidth=width, alpha=alpha)
                for shade in axes.collections:  # none of a single seed
                    shade.set_alpha(0.15)
        length, last = group.config["input_length"], group.config["train_steps"]
        which = "first" if group is groups[0] else "all"
        top.set(title=f"T = {length}: {which} {last:,} steps, {seeds_of(group)}", ylim=(0, 1.03))
        mark_chance(top, label="chance")
        top.legend(loc="center right", fontsize=8)
        bottom.set(xlabel="step")
        bottom.legend(loc="upper right", fontsize=8)
    step = solved_by_all(groups[0])
    if step is not None:
        place = {"xytext": (0, -14), "textcoords": "offset points", "ha": "center", "va": "top"}
        text = f"from step {step:.0f} on\nevery seed is at\n{SOLVED:g} or above"
        arrow = {"arrowstyle": "->"}
        panels[0, 0].annotate(text, (step, SOLVED), **place, fontsize=8, arrowprops=arrow)
    panels[0, 0].set_ylabel("accuracy")
    panels[1, 0].set(ylabel="loss", ylim=(0, None))
    panels[1, 1].set(ylabel="loss, logarithmic", yscale="log")
    return figure


def solved_by_all(group: Group) -> float | None:
    """The step of the first evaluation from which on all seeds have solved the task, if any."""
    failed = column(group.runs, "test_accuracy").min(0) < SOLVED
    after = failed.size - failed[::-1].argmax() if failed.any() else 0  # after the last failure
    return None if failed[-1] else column(group.runs, "step")[0, after]


def first_steps_text(groups: Sequence[Group]) -> str:
    """The discussion of figure 6."""
    config, lowest = groups[0].config, column(groups[0].runs, "test_accuracy").min(0)
    apart = max(
        np.abs(np.subtract(*(column(group.runs, f"{split}_accuracy").mean(0)
                             for split in ("train", "test")))).max() for group in groups
    )  # fmt: skip
    step = solved_by_all(groups[0])
    reached = f"not all of them reach {SOLVED:g} in these steps"
    if step is not None:
        reached = f"from step {step:.0f} on all of them are at {SOLVED:g} or above"
    return (
        f"After {config['train_steps']} steps of {config['batch_size']} palindromes the lowest "
        f"test accuracy of {seeds_of(groups[0])} is {lowest[-1]:.4f}; {reached}. Training and test "
        f"palindromes come from the same small set; their mean accuracies differ by {apart:.3f} at "
        "most."
    )


def settings_of(group: Group) -> str:
    """The optimiser and the learning rate of a group."""
    return f"{OPTIMISERS[group.config['optimizer']]}, {group.config['learning_rate']:g}"


def lengths(groups: Sequence[Group]) -> Figure:
    """Figure 7: for each net and T how many seeds solve it, above; mean accuracy below."""
    figure, ((top,), (bottom,)) = new_figure(2, 1, sharex=True, panel=(6.5, 2.9))
    nets, tried = by_label(groups), sorted({group.config["input_length"] for group in groups})
    shares = np.full((len(nets), len(tried)), np.nan)
    for row, (label, same) in enumerate(nets.items()):
        at = np.array([tried.index(group.config["input_length"]) for group in same])
        for column_, group in zip(at, same, strict=True):
            solved, n = n_solved(group)
            shares[row, column_] = solved / n
            style = {"fontsize": 7.5, "ha": "center", "va": "center"}
            colour = "white" if solved > MOST * n else "black"
            top.text(column_, row, f"{solved}/{n}", color=colour, **style)
        reached = [group.accuracies for group in same]
        values = (np.array([f(each) for each in reached]) for f in (np.mean, min, max))
        moved = at + SHIFT * (row - (len(nets) - 1) / 2)
        # Where lines coincide, the lower ones are the wider.
        draw_line(bottom, moved, *values, row, label, width=2.6 - 0.4 * row)
    white = {"edgecolors": "white", "linewidth": 1.5}
    edges = np.arange(len(tried) + 1) - 0.5, np.arange(len(nets) + 1) - 0.5
    top.pcolormesh(*edges, shares, cmap=GREYS, vmin=0, vmax=1, **white)
    top.invert_yaxis()
    tuned = [f"{label}\n{settings_of(same[0])}" for label, same in nets.items()]
    top.set_yticks(range(len(nets)), tuned)
    top.set_title("seeds that solve it, of how many; columns: digits read")
    top.tick_params(labelbottom=True, labelsize=8, length=0)
    top.grid(visible=False)
    mark_chance(bottom)
    bottom.set_xticks(range(len(tried)), [f"{length:,}" for length in tried], fontsize=8)
    bottom.set(xlabel="digits read (not to scale)", ylabel="test accuracy", ylim=(0, 1.04))
    bottom.set_title("mean test accuracy and its range; dotted: chance")
    shared_legend(figure, [bottom], columns=2)
    return figure


def lengths_text(groups: Sequence[Group]) -> str:
    """The discussion of figure 7."""
    rows = []
    for label, same in by_label(groups).items():
        solve = filter(most_solve, same)
        longest = max(solve, key=lambda group: group.config["input_length"], default=None)
        solved = "none"
        if longest:
            k, n = n_solved(longest)
            low, high = wilson(k, n)
            solved = f"T = {longest.config['input_length']:,} ({k} of {n}, {low:.2f} to {high:.2f})"
        parameters = f"{same[0].runs[0].result['parameters']:,} parameters"
        rows.append(f"{label} ({settings_of(same[0])}, {parameters}): {solved}")
    return (
        f"Of the lengths tried, the longest T that most of {seeds_of(groups[0])} solve (accuracy "
        f"{SOLVED:g}), how many do, and their share's interval: {'; '.join(rows)}. The bistable "
        "initialisation was designed by hand for this task (see figure limits)."
    )


def longer_lengths(groups: Sequence[Group]) -> Figure:
    """Claim C7: the share of seeds that solve it against T; few steps left, all steps right."""
    panels = {
        f"at most {steps:,} steps, {seeds_of(groups[0])}": {
            f"input scale {same[0].config['input_scale']:.3g}": [(group, steps) for group in same]
            for same in by_label(groups).values()
        }
        for steps in budgets(groups[0])
    }
    return draw_shares(panels, "input_length", "digits read")


def limits(groups: Sequence[Group]) -> Figure:
    """Claim C8: gradients over time above; who solves the task, and with which gradient, below."""
    figure, (above, (solved, scatter)) = new_figure(2, 2, panel=(3.25, 2.8), height_ratios=(1, 1.2))
    above[1].sharey(above[0])
    kinds, nets = zip((*KINDS, *ADAM_KINDS), groups, strict=False), groups[: len(KINDS)]
    names = [f"{kind} ({len(group.runs)})" for kind, group in kinds]
    length = groups[0].config["input_length"]
    for axes, when, title in zip(above, ("initial", "trained"), ("before", "after"), strict=True):
        for i, (group, kind, (colour, line, marker)) in enumerate(
            zip(nets, KINDS, STYLES, strict=False)
        ):
            # Before training some are equal: thin lines on wide, pale ones.
            style = {"linewidth": 4, "alpha": 0.4} if i < 2 else {"linestyle": line}
            ratios, t = gradient_ratio(group, when), range(1, length + 1)
            axes.plot(t, ratios.T, color=colour, alpha=0.3, linewidth=0.4)
            axes.plot(
                t, stats.gmean(ratios), color=colour, marker=marker, markersize=5,
                markevery=(i, 6), markerfacecolor="white", label=kind, **style,
            )  # fmt: skip
        axes.axhline(RESTORED, **DOTTED, label=f"{RESTORED:g} of the last step's")
        axes.set(yscale="log", xlabel="step", title=f"gradient {title} training")
    above[0].set_ylabel("norm, relative to the last step's")
    for i, group in enumerate(groups):
        colour = STYLES[i][0] if i < len(nets) else "#808080"
        k, n = n_solved(group)
        bar = solved.barh(i, k / n, color=colour, alpha=0.35)
        solved.plot(wilson(k, n), (i + 0.3, i + 0.3), color=colour, linewidth=1)
        (mark,) = solved.plot(group.accuracies, np.full(n, i), "|k", markersize=7)
    for group, (colour, _, marker) in zip(nets, STYLES, strict=False):
        reached = group.accuracies
        style = {"color": colour, "markerfacecolor": "white", "markersize": 5}
        scatter.plot(gradient_ratio(group, "trained")[:, 0], reached, marker, **style)
    solved.set_yticks(range(len(groups)), names, fontsize=8)
    solved.set(
        xlim=(0, 1.03), ylim=(len(groups) + 2, -0.6), title=f"T = {length}: seeds that solve it"
    )
    legend = "share of seeds that solve it", "test accuracy of a seed"
    solved.legend((bar, mark), legend, fontsize=8, loc="lower right")
    solved.set_xlabel("share (bars), accuracy (marks)")
    mark_chance(scatter)
    scatter.set(xscale="log", xlabel="relative gradient at step 1, trained")
    scatter.set(ylabel="test accuracy", ylim=(0, 1.04), title="each seed; dotted: chance")
    shared_legend(figure, above, columns=3)
    return figure


def hidden_sizes(groups: Sequence[Group]) -> Figure:
    """Claim C9: the share of seeds that solve it against the hidden units, a panel for each T."""
    panels: dict[str, dict[str, list[tuple[Group, int]]]] = {}
    for group in sorted(groups, key=lambda group: group.config["input_length"]):
        lines = panels.setdefault(f"T = {group.config['input_length']}, {seeds_of(group)}", {})
        for steps in budgets(group):
            label = f"{INITS[group.config['init']]}, {steps:,} steps"
            lines.setdefault(label, []).append((group, steps))
    return draw_shares(panels, "num_hidden", "hidden units")
