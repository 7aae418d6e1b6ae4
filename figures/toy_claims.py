"""Claims C1 and C2, on the toy sets: which records decide, the verdict, and what it means."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from data.toy import DEFAULT_NOISE
from figures.claims import CONVERGED_C1, CONVERGED_C2, SAME_ACCURACY
from figures.effects import (
    CONDITIONAL,
    CONFIDENCE,
    CONTRADICTED,
    INCONCLUSIVE,
    SUPPORTED,
    Claim,
    Effect,
    equivalence,
    holm,
    listed,
    p_value,
    paired,
    scientific,
    verdict,
    welch,
)
from figures.experiments import MODELS, Group, Records, seeds_of
from figures.toy import FACTORS, NETS, SETS, bayes_accuracy_of, percent, steps_of
from training.plotting import column


def same_nets(records: Records) -> Claim:
    """Claim C1: steps and final accuracies of NumPy's and PyTorch's MLP, paired by seed."""
    steps, final, names = [], [], ("NumPy", "PyTorch")
    same, steps_apart, loss_apart = {}, 0, 0.0
    for dataset in SETS:
        ours, theirs, equal = (records[name.format(dataset)] for name in NETS)
        for share in CONVERGED_C1:
            first, second, third = (steps_of(group, share) for group in (ours, theirs, equal))
            what = f"steps to {percent(share)} ({dataset})"
            steps.append(paired(what, names, first, second, 1))
            steps_apart = max(steps_apart, int(np.abs(first - third).max()))
        accuracies = ours.accuracies, theirs.accuracies
        final.append(paired(f"test accuracy ({dataset})", names, *accuracies))
        p = equivalence(*accuracies, SAME_ACCURACY)
        if p < 1 - CONFIDENCE:
            same[dataset] = p
        losses = (column(group.runs, "val_loss") for group in (ours, equal))
        loss_apart = max(loss_apart, float(np.abs(np.subtract(*losses)).max()))
    steps = holm(steps)
    found = verdict(steps)
    if found == SUPPORTED and len(same) < len(SETS):
        found = INCONCLUSIVE
    apart = (
        "With NumPy's initial weights and the same batches, PyTorch's MLP differs from the NumPy "
        f"MLP by {steps_apart:,} steps and {scientific(loss_apart)} in validation loss at most"
    )
    if steps_apart > ours.runs[0].history["step"][1]:  # the steps between two evaluations
        cause = "the initialisation is not all that makes a difference."
    elif any(effect.sign for effect in steps):
        cause = "the library makes no difference, the initialisation does."
    else:
        cause = "the library makes no difference."
    return Claim(
        "C1", "PyTorch's MLP converges in fewer steps than the NumPy MLP; both end at the same "
        "accuracy.",
        f"Recipe original, {seeds_of(ours)} on circles and on moons. Each net has its "
        "default initialisation: He's normal weights in NumPy, uniform weights in PyTorch. Nets of "
        "the same seed have the same data and batches and are paired. Compared are the steps to "
        f"{listed(map(percent, CONVERGED_C1))} of a run's final validation accuracy, evaluated "
        f"every {ours.runs[0].history['step'][1]:.0f} steps, and the test accuracies, whose "
        "equivalence is tested by two one-sided tests. Holm's correction is over the "
        f"{len(steps)} differences in steps; those in accuracy are not corrected, since "
        "equivalence decides: without it on both sets the claim is not supported.",
        (*steps, *final), found,
        f"{_meaning_of_steps(steps)}; {_meaning_of_accuracies(same)}. {apart}: {cause}",
        "toy_claims",
    )  # fmt: skip


def _meaning_of_steps(steps: Sequence[Effect]) -> str:
    fewer, more = (_named(steps, sign).replace("steps to ", "") for sign in (1, -1))
    ours, theirs = f"the NumPy MLP needs fewer steps to {more}", "PyTorch's MLP needs fewer steps"
    return {
        SUPPORTED: f"{theirs} to every threshold",
        CONTRADICTED: f"To no threshold does PyTorch's MLP need significantly fewer steps; {ours}",
        CONDITIONAL: f"{theirs} to {fewer}; {ours}",
        INCONCLUSIVE: f"{theirs} to {fewer}; no other difference in steps is significant"
        if fewer
        else "No difference in steps is significant",
    }[verdict(steps)]


def _meaning_of_accuracies(same: Mapping[str, float]) -> str:
    """Of the sets on which accuracies are equivalent, with the p-values of the tests."""
    within, unsure = f"within {SAME_ACCURACY:g}", [name for name in SETS if name not in same]
    sets = listed(f"{name} ({p_value(p)})" for name, p in same.items())
    shown = f"the test accuracies are equivalent {within} on {sets}"
    if same and unsure:
        return f"{shown}, on {listed(unsure)} this is not shown"
    return shown if same else f"equal test accuracies, {within}, are not shown"


def circles_harder(records: Records) -> Claim:
    """Claim C2: circles of both factors against moons, at the same Bayes accuracy."""
    moons = [records[f"mlp_{model}_moons_original"] for model in MODELS]
    circles = {
        factor: [records[f"mlp_{model}_circles_{kind}"] for model in MODELS]
        for factor, kind in FACTORS.items()
    }
    effects = _difficulties(circles, moons)
    alone = [
        _difficulties({factor: [nets[i]] for factor, nets in circles.items()}, [group])
        for i, group in enumerate(moons)
    ]
    sets = [
        f"circles of factor {factor} with noise {nets[0].config['noise']:g} "
        f"({bayes_accuracy_of(nets[0].config):.4f})"
        for factor, nets in circles.items()
    ]
    return Claim(
        "C2", "Circles are harder to learn than moons.",
        f"Sets of the same Bayes accuracy: {', '.join(sets)} and moons with noise "
        f"{DEFAULT_NOISE['moons']:g} ({bayes_accuracy_of(moons[0].config):.4f}). Recipe original, "
        f"{seeds_of(moons[0])}; a seed counts with the mean of its NumPy and its PyTorch MLP. "
        f"Compared are the steps to {listed(map(percent, CONVERGED_C2))} of a run's final "
        "validation accuracy, and the Bayes accuracy minus the test accuracy. Welch's test "
        f"with Holm's correction over {len(effects)} differences.",
        effects, verdict(effects), _meaning_of_difficulties(effects, alone), "toy_difficulty",
    )  # fmt: skip


def _difficulties(circles: dict[str, list[Group]], moons: list[Group]) -> tuple[Effect, ...]:
    """Circles against moons by each measure; a seed counts with the mean of its nets."""
    effects, names = [], ("circles", "moons")

    def steps(nets: list[Group], share: float) -> np.ndarray:
        return np.mean([steps_of(group, share) for group in nets], 0)

    def gaps(nets: list[Group]) -> np.ndarray:
        return bayes_accuracy_of(nets[0].config) - np.mean([g.accuracies for g in nets], 0)

    for factor, nets in circles.items():
        for share in CONVERGED_C2:
            what = f"steps to {percent(share)} (factor {factor})"
            effects.append(welch(what, names, steps(nets, share), steps(moons, share), 1))
        what = f"gap to the Bayes accuracy (factor {factor})"
        effects.append(welch(what, names, gaps(nets), gaps(moons)))
    return holm(effects)


def _meaning_of_difficulties(effects: Sequence[Effect], alone: Sequence[Sequence[Effect]]) -> str:
    """What effects mean over both nets, and whether those of each net alone agree."""
    circles, moons = _named(effects, 1), _named(effects, -1)
    # (factors, measures); the first measures are the thresholds, the last is the gap
    signs = np.reshape([effect.sign for effect in effects], (len(FACTORS), -1))
    sentences = [
        {
            SUPPORTED: "Circles are harder by every measure and with both factors.",
            CONTRADICTED: f"Circles are significantly harder by no measure; moons are by {moons}.",
            CONDITIONAL: f"Circles are harder by {circles}; moons are harder by {moons}.",
            INCONCLUSIVE: f"Circles are harder by {circles}; no other difference is significant."
            if circles
            else "No difference is significant.",
        }[verdict(effects)]
    ]
    depends = [
        name
        for name, axis in (("measure", 1), ("factor", 0))
        if (signs.max(axis) - signs.min(axis) == 2).any()
    ]
    if depends:
        on = " and the ".join(depends)
        sentences.append(f"Which set is harder depends on the {on}.")
    if ((signs[:, 0] == 1) & (signs[:, len(CONVERGED_C2) - 1] == -1)).any():
        sentences.append(
            "A likely reason: a straight line, which is learnt first, already classifies most "
            "points of moons correctly, but far fewer of circles; the bends of moons come last."
        )
    opposite = [e.what for e, *nets in zip(effects, *alone, strict=True)
                if {net.sign for net in nets} >= {1, -1}]  # fmt: skip
    sentences.append(
        f"The NumPy and the PyTorch MLP have significant differences of opposite sign in "
        f"{listed(opposite)}."
        if opposite
        else "In no measure do the two nets differ significantly in opposite directions."
    )
    return " ".join(sentences)


def _named(effects: Iterable[Effect], sign: int) -> str:
    """What was measured where the difference has this sign, and on what; empty if nowhere."""
    places: dict[str, list[str]] = {}
    for effect in effects:
        if effect.sign == sign:
            what, _, place = effect.what.rstrip(")").partition(" (")
            places.setdefault(what, []).append(place)
    return listed(f"{what} ({listed(where)})" for what, where in places.items())
