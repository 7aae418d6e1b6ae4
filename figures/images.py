"""The nets on CIFAR-10: figures 4 and 5, what recipe best gains, and claims C3 to C5."""

from collections.abc import Sequence

import numpy as np

from data.images import PADDING
from figures.drawings import DOTTED, draw_seeds, two_panels
from figures.effects import CONDITIONAL, CONTRADICTED, SUPPORTED, Claim, holm, verdict, welch
from figures.experiments import ORIGINAL_MLP, Group, Records, by_label, seeds_of
from figures.measurements import cnn_costs, mlp_costs, read_shifts, total
from training.cli import format_duration
from training.plotting import COLOURS, Figure, band, new_figure

MARKERS = ("o", "s", "^")
LINES = ("-", "--", "-.")

# --- Figures --------------------------------------------------------------------------------------


def mlp_curves(groups: Sequence[Group]) -> Figure:
    """Figure 4: loss and accuracy over epochs, a line a seed, a dot where the weights were kept."""
    figure, panels = new_figure(2, 2, sharex=True, sharey="col", panel=(3.6, 2.4))
    names = "validation", "test"
    for group, name, (loss, accuracy) in zip(groups, names, panels, strict=True):
        draw_seeds({"loss": loss, "accuracy": accuracy}, group.runs, width=0.9)
        accuracy.axhline(ORIGINAL_MLP, **DOTTED, label=f"the original, {ORIGINAL_MLP}")
        loss.set(ylabel="loss", title=f"stopped by the {name} loss, {seeds_of(group)}")
        accuracy.set(ylabel="accuracy", title=f"dots: lowest {name} loss")
        accuracy.legend(loc="lower right")
    for axes in panels[-1]:
        axes.set_xlabel("epoch")
    return figure


def cnn_curves(groups: Sequence[Group]) -> Figure:
    """Figure 5: loss and accuracy over epochs, a dot where the weights were kept."""
    figure, axes = two_panels(f"CNN on CIFAR-10, {seeds_of(groups[0])}", "dot: kept weights")
    draw_seeds(axes, groups[0].runs)
    axes["loss"].set_ylim(bottom=0)
    axes["accuracy"].legend(loc="lower right")
    return figure


def image_curves(groups: Sequence[Group]) -> str:
    """The discussion of figures 4 and 5."""
    sentences = []
    for group in groups:
        best = [(run.history, np.argmin(run.history["val_loss"])) for run in group.runs]
        train, test = (
            np.mean([h[f"{split}_accuracy"][at] for h, at in best]) for split in ("train", "test")
        )
        epochs = np.mean([run.result["epochs"] for run in group.runs])
        sentences.append(
            f"{group.label[0].upper()}{group.label[1:]} ({seeds_of(group)}): trained for "
            f"{epochs:.0f} epochs; with the weights that are kept the accuracy is {test:.4f} on "
            f"test images and {train:.4f} on training images, a gap of "
            f"{100 * (train - test):.1f} points."
        )
    return " ".join(sentences)


def mlp_best(groups: Sequence[Group]) -> Figure:
    """What recipe best reaches with the same hidden layers, and with wider ones: test curves."""
    figure, axes = two_panels("test loss, MLPs on CIFAR-10", "test accuracy, single view")
    for group, colour, marker, line in zip(groups, COLOURS, MARKERS, LINES, strict=False):
        units = "-".join(map(str, group.config["dnn_hidden_units"]))
        history = group.runs[0].history
        for quantity, panel in axes.items():
            panel.plot(
                history["epoch"], history[f"test_{quantity}"], line, color=colour, marker=marker,
                markevery=0.15, markersize=4, label=f"{group.config['recipe']}, {units}",
            )  # fmt: skip
    axes["accuracy"].legend(loc="lower right", fontsize=7)
    return figure


def mlp_gain(groups: Sequence[Group]) -> str:
    """The discussion of what recipe best gains with an MLP."""
    (original, best, wide), parameters = zip(
        *((group.single_view().mean(), group.runs[0].result["parameters"]) for group in groups),
        strict=True,
    )
    return (
        f"Single view: with the same hidden layers recipe best reaches {best:.4f} and recipe "
        f"original {original:.4f}, a difference of {100 * (best - original):.1f} points; "
        f"{parameters[2] / parameters[1]:.1f} times as many parameters reach {wide:.4f}."
    )


def cnn_best(groups: Sequence[Group]) -> Figure:
    """Validation loss and accuracy of the recipes over minutes of training."""
    figure, axes = two_panels("validation loss, CNN", "validation accuracy", "minutes")
    for group, colour, marker, line in zip(groups, COLOURS, MARKERS, LINES, strict=False):
        history = group.runs[0].history
        style = {"color": colour, "marker": marker, "markersize": 4}
        for quantity, panel in axes.items():
            values = history["seconds"] / 60, history[f"val_{quantity}"]
            panel.plot(*values, line, **style, label=f"recipe {group.config['recipe']}")
    axes["loss"].set_ylim(bottom=0)
    axes["accuracy"].set_ylim(0, 1)
    axes["accuracy"].legend(loc="lower right")
    return figure


def cnn_gain(groups: Sequence[Group]) -> str:
    """The discussion of what recipe best gains with the CNN."""
    original, best = (group.runs[0] for group in groups)
    goal = original.history["val_accuracy"].max()
    passed = best.history["seconds"][best.history["val_accuracy"] >= goal]
    reaches = f"reaches after {format_duration(passed[0])}" if len(passed) else "never reaches"
    views = [f"{group.single_view().mean():.4f}" for group in groups]
    return (
        f"Single view, with the same net: recipe original ends at a test accuracy of {views[0]}, "
        f"recipe best at {views[1]}. The highest validation accuracy of original, which took "
        f"{format_duration(original.result['seconds'])}, best {reaches}."
    )


def mlp_and_cnn(groups: Sequence[Group]) -> Figure:
    """Claim C3: test accuracy over epochs and over time, both on logarithmic axes."""
    figure, (panels,) = new_figure(1, 2, sharey=True)
    for group, colour, line in zip(groups, COLOURS, LINES, strict=False):
        parameters = group.runs[0].result["parameters"] / 1e6
        label = f"{group.net}, {parameters:.2f} M parameters, {seeds_of(group)}"
        for axes, (name, unit) in zip(panels, (("epoch", 1), ("seconds", 60)), strict=True):
            for i, run in enumerate(group.runs):
                x, y = run.history[name][1:] / unit, run.history["test_accuracy"][1:]
                axes.plot(x, y, line, color=colour, linewidth=0.9, label="" if i else label)
    for axes, name in zip(panels, ("epochs", "minutes of training"), strict=True):
        axes.set(xlabel=name, xscale="log", ylim=(0, 1))
    panels[0].set_ylabel("test accuracy")
    panels[0].legend(loc="lower right", fontsize=7)
    return figure


def shifts(groups: Sequence[Group]) -> Figure:
    """Claim C5: accuracy against the shift above, relative to unshifted images below."""
    figure, panels = new_figure(2, 3, sharex=True, sharey="row", panel=(2.8, 2.3))
    for (title, nets), (absolute, relative) in zip(by_label(groups).items(), panels.T, strict=True):
        for group, colour, line in zip(nets, COLOURS, LINES, strict=False):
            pixels, _, _ = read_shifts(group.runs[0].path)
            curves = on_shifted(group)
            style = {"colour": colour, "line": line, "label": f"{group.net}, {seeds_of(group)}"}
            band(absolute, pixels, curves, **style)
            band(relative, pixels, curves / curves[:, :1], **style)
        absolute.set(title=title, ylim=(0, 1))
        relative.set(xlabel="shift in pixels", ylim=(0, None))
        relative.legend(loc="lower left", fontsize=7)
        for axes in (absolute, relative) if nets[0].config["augment"] else ():
            axes.axvspan(0, PADDING, color="grey", alpha=0.12, linewidth=0)
    panels[0, 0].text(PADDING / 2, 0.04, "shifts seen\nin training", ha="center", fontsize=7)
    for axes, label in zip(panels[:, 0], ("test accuracy", "relative accuracy"), strict=True):
        axes.set_ylabel(label)
    return figure


def efficiency(groups: Sequence[Group]) -> Figure:
    """Claim C4: accuracy against the number of parameters and of multiply-adds."""
    figure, (panels,) = new_figure(1, 2, sharey=True)
    for net, colour, marker in (("MLP", COLOURS[0], "o"), ("CNN", COLOURS[1], "s")):
        of_net = [group for group in groups if group.net == net]
        for axes, x in zip(panels, zip(*map(size, of_net), strict=True), strict=True):
            means = [group.accuracies.mean() for group in of_net]
            axes.plot(x, means, f"{marker}-", color=colour, label=net)
            for at, group in zip(x, of_net, strict=True):
                axes.plot([at] * len(group.runs), group.accuracies, "_", color="black")
    names = "millions of parameters", "millions of multiply-adds an image"
    for axes, name, sizes in zip(panels, names, zip(*map(size, groups), strict=True), strict=True):
        axes.set(xlabel=name, xscale="log", ylim=(0, 1))
        axes.minorticks_off()
        ticks = {f"{n / 1e6:.1f}": n for n in sizes}  # nets of about the same size share one
        axes.set_xticks([*ticks.values()], ticks, fontsize=8)
        axes.legend(loc="lower right")
    panels[0].set_ylabel("test accuracy, short runs")
    return figure


def size(group: Group) -> tuple[int, int]:
    """The parameters of a net, and its multiply-adds an image."""
    units = group.config.get("dnn_hidden_units")
    whole = total((mlp_costs(units) if units else cnn_costs()).values())
    return whole.parameters, whole.multiply_adds


# --- Claims ---------------------------------------------------------------------------------------


def cnn_better(records: Records) -> Claim:
    """C3: recipe original where there are several seeds of both nets, and short runs."""
    effects, single = [], ""
    for kind, nets in (
        ("recipe original", ("cnn_original", "mlp_pytorch_cifar10_original")),
        ("short runs", ("cnn_short_augmented", "mlp_pytorch_short_augmented")),
    ):
        cnn, mlp = (records[name].accuracies for name in nets)
        if min(len(cnn), len(mlp)) > 1:
            effects.append(welch(f"test accuracy, {kind}", ("CNN", "MLP"), cnn, mlp))
        else:
            single = (
                f" With {kind} there are {len(cnn)} run of the CNN ({cnn.mean():.4f}) and "
                f"{len(mlp)} of the MLP ({mlp.mean():.4f}): too few to judge, and not judged."
            )
    short = [records[f"{net}_short_augmented"] for net in ("cnn", "mlp_pytorch")]
    epochs = [f"{group.runs[0].result['epochs']:g}" for group in short]
    ends = {
        SUPPORTED: "The CNN is ahead, by more than seeds differ.",
        CONTRADICTED: "The MLP is ahead, by more than seeds differ.",
    }
    judged = verdict(effects)
    return Claim(
        "C3", "The CNN classifies CIFAR-10 better than the MLP.",
        f"Short runs of both nets with random crops: {epochs[0]} epochs of the CNN and "
        f"{epochs[1]} of the MLP, {seeds_of(short[0])} each; and recipe original.",
        tuple(effects), judged,
        ends.get(judged, "The runs do not decide which net is better.") + single,
        "mlp_and_cnn",
    )  # fmt: skip


def cnn_smaller(records: Records) -> Claim:
    """C4: accuracy at equal numbers of parameters."""
    cnn, large = records["cnn_short_augmented"], records["mlp_pytorch_short_large"]
    names = tuple(f"{group.net} ({size(group)[0] / 1e6:.2f} M)" for group in (cnn, large))
    effect = welch("test accuracy, short runs", names, cnn.accuracies, large.accuracies)
    costs = cnn_costs()
    whole = total(costs.values())
    shared = total(cost for (name, _), cost in costs.items() if name.startswith("conv"))
    parameters, multiply_adds = size(records["mlp_pytorch_cifar10_original"])
    judged = verdict([effect])
    ends = {
        SUPPORTED: "With as many parameters the CNN is ahead, after fewer epochs.",
        CONTRADICTED: "With as many parameters the MLP is ahead.",
    }
    return Claim(
        "C4", "The CNN makes better use of its parameters, because convolutions share weights.",
        f"Short runs with random crops, {seeds_of(cnn)} of each net; one MLP has about as many "
        "parameters as the CNN, the others fewer.",
        (effect,), judged,
        ends.get(judged, "At equal numbers of parameters the runs do not decide.")
        + f" The counts alone say something else: the whole CNN has {whole.parameters:,} "
        f"parameters, the original's MLP {parameters:,}. The six convolutions have "
        f"{shared.parameters:,} of them, where fully connected layers of their shapes would have "
        f"{shared.dense_parameters / shared.parameters:,.0f} times as many; the rest is in the "
        f"CNN's three linear layers. And sharing saves parameters, not work: an image takes the "
        f"CNN {whole.multiply_adds:,} multiply-adds, the MLP {multiply_adds:,}.",
        "efficiency",
    )  # fmt: skip


def on_shifted(group: Group) -> np.ndarray:
    """Accuracies (n_seeds, n_shifts) on shifted images, means over the directions."""
    return np.stack([read_shifts(run.path)[1].mean(1) for run in group.runs])


def robust(records: Records) -> Claim:
    """C5: what a shift costs each net, with and without random crops in training."""
    effects = []
    at = PADDING  # the largest shift that random crops show in training
    for kind, training in (("plain", "without crops"), ("augmented", "with crops")):
        lost = []
        for net in ("mlp_pytorch", "cnn"):
            accuracy = on_shifted(records[f"{net}_short_{kind}"])
            lost.append(accuracy[:, 0] - accuracy[:, at])
        what = f"accuracy lost at {at} pixels, trained {training}"
        effects.append(welch(what, ("MLP", "CNN"), *lost))
    plain, augmented = effects = holm(effects)
    judged = verdict(effects)
    if plain.sign == 1 and augmented.sign != 1:
        judged = CONDITIONAL
    images = {net: read_shifts(records[f"{net}_short_plain"].runs[0].path)[2]
              for net in ("cnn", "mlp_pytorch")}  # fmt: skip
    ends = {
        SUPPORTED: "A shift costs the CNN less, whether training showed shifts or not.",
        CONTRADICTED: "A shift does not cost the CNN less than the MLP.",
        CONDITIONAL: "Under one way of training a shift costs the CNN less, under the other it "
        "does not.",
    }
    if judged == CONDITIONAL and plain.sign == 1:
        ends[CONDITIONAL] = (
            "Where training showed no shifts, a shift costs the CNN less. Where random crops "
            "showed them, that is not found: the MLP learns to be robust to them as well. The "
            "claim holds for nets that were not trained to be robust."
        )
    return Claim(
        "C5", "The CNN is more robust to small translations, unless a net is trained to be.",
        f"Short runs with and without random crops, {seeds_of(records['cnn_short_plain'])} of "
        "each net. Test images are shifted left, right, up and down, black filling the gap; "
        f"{images['cnn']:,} images for the CNN, {images['mlp_pytorch']:,} for the MLP.",
        effects, judged, ends.get(judged, "The runs do not decide."), "shifts",
    )  # fmt: skip
