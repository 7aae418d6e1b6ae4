"""Claims C3 to C5 on the nets on CIFAR-10, and the figures that show them."""

from collections.abc import Sequence
from itertools import product

import numpy as np

from data.images import PADDING
from figures.claims import SIZES
from figures.effects import (
    CONDITIONAL,
    CONTRADICTED,
    SUPPORTED,
    Claim,
    holm,
    mcnemar,
    verdict,
    welch,
)
from figures.experiments import Group, Records, by_label, seeds_of
from figures.images import predictions
from figures.measurements import FILLS, SHIFTS, cnn_costs, mlp_costs, read_shifts, total
from training.plotting import COLOURS, Figure, band, new_figure, shared_legend

LINES = {"black": "--", "edge": "-"}  # by what fills the gap of a shifted image
LABELLED = 0.05  # share of a bar's length from which it has its number written in it
SHIFT_COLUMNS = {"accuracy kept": "test_accuracy", "same prediction": "consistency"}  # columns

# --- C3 -------------------------------------------------------------------------------------------


def mlp_and_cnn(groups: Sequence[Group]) -> Figure:
    """Claim C3: test accuracy over epochs, and the test images that each net gets right."""
    figure, ((curves, bars),) = new_figure(1, 2, panel=(3.25, 2.7))
    for group, colour, line in zip(groups, COLOURS, ("-", "--"), strict=False):
        parameters = group.runs[0].result["parameters"] / 1e6
        for i, run in enumerate(group.runs):
            label = f"{group.net}, {parameters:.2f} M parameters" if not i else ""
            x, y = run.history["epoch"][1:], run.history["test_accuracy"][1:]
            curves.plot(x, y, line, color=colour, linewidth=0.9, label=label)
    title = f"CIFAR-10, {seeds_of(groups[0])}"
    curves.set(xlabel="epochs", xscale="log", ylim=(0, 1), title=title, ylabel="test accuracy")
    curves.xaxis.set_major_formatter("{x:,g}")
    curves.legend(loc="lower right", fontsize=7)
    mlp, cnn = (np.array(correct(group)) for group in groups)
    start = np.zeros(len(mlp))
    for name, which, shade, ink in (
        ("both", mlp & cnn, "#20405c", "white"), ("CNN alone", cnn & ~mlp, "#5b8db8", "black"),
        ("MLP alone", mlp & ~cnn, "#d9a05b", "black"),
        ("neither", ~mlp & ~cnn, "#e8e8e8", "black"),
    ):  # fmt: skip
        shares = which.mean(1)
        found = bars.barh(range(len(mlp)), shares, left=start, color=shade, label=name)
        texts = [f"{100 * share:.0f} %" if share >= LABELLED else "" for share in shares]
        bars.bar_label(found, texts, label_type="center", fontsize=7, color=ink)
        start += shares
    seeds = [f"seed {run.config['seed']}" for run in groups[0].runs]
    bars.set_yticks(range(len(mlp)), seeds)
    bars.invert_yaxis()
    bars.set(xlabel="share of the test images", xlim=(0, 1), title="correct answers")
    bars.grid(visible=False)
    bars.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=4, fontsize=7,
                columnspacing=1)  # fmt: skip
    return figure


def correct(group: Group) -> list[np.ndarray]:
    """For each seed, whether each test image is classified correctly."""
    return [rows["label"] == rows["predicted"] for rows in predictions(group)]


def cnn_better(records: Records) -> Claim:
    """C3: the difference over seeds, and image by image for each seed."""
    cnn, mlp = (records[f"{net}_original"] for net in ("cnn", "mlp_pytorch_cifar10"))
    names, answers = ("CNN", "MLP"), [correct(cnn), correct(mlp)]
    pairs = list(zip(*answers, strict=True))
    effects = [welch("mean test accuracy over seeds", names, cnn.accuracies, mlp.accuracies)]
    effects += [
        mcnemar(f"the same {len(pair[0]):,} test images, seed {run.config['seed']}", names, *pair)
        for run, pair in zip(cnn.runs, pairs, strict=True)
    ]
    effects = holm(effects)
    cnn_alone, mlp_alone = np.mean([((a & ~b).sum(), (b & ~a).sum()) for a, b in pairs], 0)
    judged = verdict(effects)
    again = max(
        np.abs(np.sum(right, 1) - group.accuracies * len(right[0])).max()
        for right, group in zip(answers, (cnn, mlp), strict=True)
    )
    ends = {
        SUPPORTED: "The CNN is ahead, over the seeds and image by image with each of them.",
        CONTRADICTED: "The MLP is ahead.",
        CONDITIONAL: "The comparisons do not agree on which net is better.",
    }
    return Claim(
        "C3", "The CNN classifies CIFAR-10 better than the MLP.",
        f"Recipe original of both nets, {seeds_of(cnn)} each; the seeds' means are compared by "
        "Welch's test, and for each seed the answers to the same test images by McNemar's. These "
        "answers were computed again after training: rounding changes the number of right ones by "
        f"{again:.0f} at most.",
        effects, judged,
        f"{ends.get(judged, 'The runs do not decide which net is better.')} On average "
        f"{cnn_alone:,.0f} test images are classified correctly by the CNN alone, "
        f"{mlp_alone:,.0f} by the MLP alone.",
        "mlp_and_cnn",
    )  # fmt: skip


# --- C4 -------------------------------------------------------------------------------------------


def efficiency(groups: Sequence[Group]) -> Figure:
    """Claim C4: accuracy against the number of parameters and of multiply-adds."""
    figure, (panels,) = new_figure(1, 2, sharey=True, panel=(3.25, 2.9))
    kinds = {kind: [g for g in groups if kind_of(g) == kind] for kind in map(kind_of, groups)}
    styles = ("o-", "s", "^--")
    for (kind, same), colour, style in zip(kinds.items(), COLOURS, styles, strict=False):
        same = sorted(same, key=costs_of)
        for axes, x in zip(panels, zip(*map(costs_of, same), strict=True), strict=True):
            axes.plot(x, [g.accuracies.mean() for g in same], style, color=colour, label=kind)
            for at, group in zip(x, same, strict=True):
                axes.plot([at] * len(group.runs), group.accuracies, "_k", markersize=5)
    for axes, name in zip(panels, ("parameters", "multiply-adds an image"), strict=True):
        axes.set(xlabel=name, xscale="log", ylim=(0, 1))
    panels[0].set_ylabel("test accuracy")
    panels[0].set_title(f"short runs on CIFAR-10, {seeds_of(groups[0])}")
    shared_legend(figure, panels[:1], columns=2)
    return figure


def kind_of(group: Group) -> str:
    """What kind of net it is, for the legend."""
    if group.net == "MLP":
        return "MLPs"
    if group.config["global_pooling"]:
        return "convolutions, global pooling"
    return "CNN (original): three linear layers"


def costs_of(group: Group) -> tuple[int, int]:
    """The parameters of a net, and its multiply-adds an image."""
    config = group.config
    if group.net == "MLP":
        costs = mlp_costs(config["dnn_hidden_units"])
    else:
        costs = cnn_costs(config["channels"], config["global_pooling"])
    whole = total(costs.values())
    return whole.parameters, whole.multiply_adds


def cnn_smaller(records: Records) -> Claim:
    """C4: convolutional nets and MLPs with about as many parameters, or more."""
    effects = []
    for pair in ([records[name] for name in names] for names in SIZES.items()):
        names = tuple(f"{group.net} ({costs_of(group)[0] / 1e6:.2f} M)" for group in pair)
        effects.append(welch("test accuracy", names, *(group.accuracies for group in pair)))
    effects = holm(effects)
    judged = verdict(effects)
    mlp = records["mlp_pytorch_short_augmented"]
    plain = records["mlp_pytorch_short_plain"].accuracies
    ends = {
        SUPPORTED: f"At each of the {len(effects)} sizes compared the convolutional net is ahead "
        "of an MLP with about as many parameters, or more.",
        CONTRADICTED: "At no size is the convolutional net ahead, and at some the MLP is.",
        CONDITIONAL: "At some sizes the convolutional net is ahead, at others the MLP is.",
    }
    return Claim(
        "C4", "The CNN makes better use of its parameters (the original's reason: convolutions "
        "share weights).",
        "Short runs of all nets with one optimiser, learning rate and batch size, set in advance: "
        f"{mlp.config['max_epochs']} epochs of AdamW with crops and flips, {seeds_of(mlp)} each; "
        f"dropout {mlp.config['dropout']:g} in the MLPs, of four sizes; "
        f"{records['cnn_short_augmented'].config['dropout']:g} in the original's CNN; none in its "
        "convolutions alone, of three widths, with global average pooling and one linear layer. "
        f"Precision: MLPs {mlp.config['precision']}, CNNs "
        f"{records['cnn_short_augmented'].config['precision']}.",
        effects, judged,
        f"{ends.get(judged, 'The runs do not decide.')} That sharing is the reason is not tested: "
        f"no net without it was trained. The MLP of {costs_of(mlp)[0] / 1e6:.2f} M reaches "
        f"{mlp.accuracies.mean():.3f} with crops and flips in these few epochs, "
        f"{plain.mean():.3f} without.",
        "efficiency",
    )  # fmt: skip


# --- C5 -------------------------------------------------------------------------------------------


def shifts(groups: Sequence[Group]) -> Figure:
    """Claim C5: accuracy kept above, consistency below, against the shift."""
    by_training = by_label(groups)
    figure, panels = new_figure(2, len(by_training), sharex=True, sharey="row", panel=(2.16, 2.1))
    looks = {"MLP": (COLOURS[0], "o"), "CNN": (COLOURS[1], "s")}
    for (title, nets), column in zip(by_training.items(), panels.T, strict=True):
        for measure, axes in zip(SHIFT_COLUMNS, column, strict=True):
            for group, fill in product(nets, FILLS):
                (colour, marker), label = looks[group.net], f"{group.net}, {fill}"
                values = kept_share(group, measure, fill)
                band(axes, np.array(SHIFTS), values, colour=colour, line=LINES[fill], label=label)
                axes.lines[-1].set(marker=marker, markersize=3.5)
            axes.set_ylim(0, 1.12)
            if nets[0].config["augment"]:
                axes.axvspan(0, PADDING, color="grey", alpha=0.12, linewidth=0)
        column[0].set_title(title, fontsize=9)
        column[-1].set_xlabel("shift in pixels")
    for name, axes in zip(SHIFT_COLUMNS, panels[:, 0], strict=True):
        axes.set_ylabel(name)
    shared_legend(figure, panels[0, :1], columns=4)
    return figure


def kept_share(group: Group, measure: str, fill: str) -> np.ndarray:
    """What each shift leaves, relative to unshifted images: (n_seeds, n_shifts).

    The mean over the directions, by one of SHIFT_COLUMNS.
    """
    column = SHIFT_COLUMNS[measure]
    values = np.stack([read_shifts(run.path, column, fill).mean(1) for run in group.runs])
    return values / values[:, :1]


def robust(records: Records) -> Claim:
    """C5: what a shift leaves to each net, with and without random crops in training."""
    at = PADDING  # the largest shift that random crops show in training
    effects = []
    trained = {"plain": "without augmentation", "augmented": "with crops and flips"}
    for (kind, how), measure, fill in product(trained.items(), SHIFT_COLUMNS, FILLS):
        what = f"{measure}, trained {how}, gap filled with {fill}"
        nets = (records[f"{net}_short_{kind}"] for net in ("cnn", "mlp_pytorch"))
        values = (kept_share(group, measure, fill)[:, at] for group in nets)
        effects.append(welch(what, ("CNN", "MLP"), *values))
    effects, half = holm(effects), len(effects) // 2
    plain, crops = ({effect.sign for effect in part} for part in (effects[:half], effects[half:]))
    judged = verdict(effects)
    if plain == {1} and crops != {1}:
        judged = CONDITIONAL
    ends = {
        SUPPORTED: "A shift leaves the CNN more of its accuracy and of its predictions, whether "
        "training showed shifts or not.",
        CONTRADICTED: "A shift does not leave the CNN more than the MLP.",
        CONDITIONAL: "By some of these measures a shift leaves the CNN more, by others the MLP.",
    }
    short, shown = (records[f"mlp_pytorch_short_{kind}"] for kind in trained)
    if judged == CONDITIONAL and plain == {1}:
        more = {0: "", -1: " (there the MLP keeps more)"}
        other = [effect.what + more[effect.sign] for effect in effects[half:] if effect.sign != 1]
        ends[CONDITIONAL] = (
            "Where training showed no shifts, a shift leaves the CNN more of its accuracy and of "
            f"its predictions; where crops showed them, by {half - len(other)} of {half} measures. "
            f"Not by: {'; '.join(other)}. The MLP's accuracy without a shift is "
            f"{shown.accuracies.mean():.3f} with crops, {short.accuracies.mean():.3f} without "
            "augmentation."
        )
    mlp, border = records["mlp_pytorch_cifar10_original"], ""
    by_one = kept_share(mlp, "accuracy kept", "black").mean(0)[1]
    if by_one > 1:
        border = (
            " A crop shows a black border in training, an unshifted test image has none: recipe "
            f"original's MLP keeps {by_one:.3f} times its accuracy when the test images are "
            f"shifted by {SHIFTS[1]} pixel and black fills the gap."
        )
    return Claim(
        "C5", "The CNN is more robust to small translations (the original: unless a net is trained "
        "to be).",
        f"The short runs of C4, {short.config['max_epochs']} epochs, with and without augmentation "
        f"(crops and flips), {seeds_of(short)} of each net. All test images are shifted by {at} "
        "pixels left, right, up and down; black or the edge's pixels fill the gap. Compared are "
        "the accuracy, relative to unshifted images, and the share of images whose prediction "
        "stays the same. The claim is conditional, too, if it holds without augmentation alone.",
        effects, judged, ends.get(judged, "The runs do not decide.") + border, "shifts",
    )  # fmt: skip
