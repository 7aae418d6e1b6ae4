"""Claim C8, on vanishing gradients: what decides it, what follows, and what stands beside it."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from figures.claims import MOST, RESTORED
from figures.effects import (
    CONDITIONAL,
    CONTRADICTED,
    INCONCLUSIVE,
    SUPPORTED,
    Claim,
    Effect,
    holm,
    p_value,
    scientific,
    shares,
)
from figures.experiments import RNN_LIMITS, Group, Records, seeds_of
from figures.rnn import (
    KINDS,
    OPTIMISERS,
    gradient_ratio,
    last_share,
    most_solve,
    n_solved,
    no_gain,
    outcome,
    settings_of,
)

HALF = 0.5  # correlation ratio above which a state is said to depend on a digit


def gradients(records: Records) -> Claim:
    """C8: do small inputs, which restore the gradient, raise the share of seeds that solve it?

    The gradient has vanished if its norm at the first step is below RESTORED of that at the last
    before training (geometric mean over seeds). The claim is

    - inconclusive if the original's gradient has not vanished, or most of its seeds solve the task,
      or small inputs do not restore the gradient; otherwise
    - supported if small inputs alone raise the share,
    - conditional if they do with small steps, and small steps alone do not,
    - contradicted if neither small inputs alone nor both gain, and the intervals exclude a gain of
      MOST seeds,
    - inconclusive in all other cases.
    """
    groups = [records[each.group] for each in RNN_LIMITS]
    original, inputs, steps, *_ = groups
    T, n_steps = original.config["input_length"], original.config["train_steps"]
    before = [_first_gradient(group, "initial") for group in groups[:2]]
    what, score = f"share of seeds that solve T = {T}", n_solved(original)
    changed = list(zip(KINDS, groups, strict=True))[1:4]
    effects = holm([shares(what, (kind, "original"), n_solved(g), score) for kind, g in changed])
    verdict, found = _restored(groups[:4], before, effects)
    return Claim(
        "C8", "Long palindromes are not learnt because gradients vanish.",
        f"Vanilla RNN, T = {T}, {seeds_of(original)}, at most {n_steps:,} steps: input scale "
        f"{original.config['input_scale']:g} (called the original here, which leaves it open) or "
        f"{inputs.config['input_scale']:g} (small inputs), each with {settings_of(original)} and "
        f"clipping at {original.config['max_norm']:g}, or with small steps (learning rate "
        f"{steps.config['learning_rate']:g} and clipping at {steps.config['max_norm']:g}, changed "
        "together). The claim is supported if small inputs alone raise the share, conditional if "
        "they do only with small steps. Nets with another optimiser are discussed below.",
        effects, verdict,
        f"{found} Before training the norm of the loss's gradient with respect to the first hidden "
        f"state, relative to that of the last, is {scientific(before[0])} in the original and "
        f"{scientific(before[1])} with small inputs. {_stored(groups[:2])} "
        f"{_correlation(groups[:4])}.",
        "limits",
    )  # fmt: skip


def _first_gradient(group: Group, when: str) -> float:
    """The norm of the gradient at the first step, relative to the last: geometric mean of seeds."""
    return stats.gmean(gradient_ratio(group, when)[:, 0])


def adam_effects(groups: Sequence[Group]) -> tuple[Effect, ...]:
    """What C8's changes do to the share of seeds that solve the task with figure 7's optimiser.

    Args:
        groups: those of RNN_ADAM.
    """
    plain, *changed = groups
    what, score = f"share with {settings_of(plain)}", n_solved(plain)
    kinds = KINDS[1], "clipped", "both"
    return holm([shares(what, (kind, KINDS[0]), n_solved(g), score)
                 for kind, g in zip(kinds, changed, strict=True)])  # fmt: skip


def limits_text(groups: Sequence[Group]) -> str:
    """The discussion of C8's figure: the nets in it that do not enter its verdict."""
    bistable, *adam = groups[len(KINDS) - 1 :]
    plain, by_inputs, by_clipping, by_both = map(outcome, adam)
    found = (
        "Some nets of this figure do not enter C8's verdict. With "
        f"{settings_of(adam[0])}, as in figure 7, {plain} of the original solve the task, "
        f"{by_inputs} with small inputs alone, {by_clipping} with clipping at "
        f"{adam[2].config['max_norm']:g} alone, {by_both} with both."
    )
    effects = adam_effects(adam)  # these begin with the weights of C8's nets
    judged, _ = _restored(adam, [_first_gradient(g, "initial") for g in groups[:2]], effects)
    found += (
        " Judged like C8, with clipping in the place of small steps, the claim would be "
        f"{judged} with this optimiser (small inputs alone: {p_value(effects[0].p)})."
    )
    before, after = (_first_gradient(bistable, when) for when in ("initial", "trained"))
    found += (
        f" With the bistable initialisation {outcome(bistable)} solve it; its gradient is "
        f"{scientific(before)} before training and {scientific(after)} after it."
    )
    built_in = np.mean(last_share(bistable, "initial"))
    if most_solve(bistable) and before < RESTORED and built_in > HALF:
        found += (
            " That is no counter-example: before training the last state depends on the first "
            f"digit already (correlation ratio {built_in:.2f}), so the output layer can be learnt "
            "without the gradient of the first step. And a state that stores a digit robustly "
            "hardly changes with it (Bengio, Simard and Frasconi, 1994)."
        )
    return found


def _restored(
    groups: Sequence[Group], before: Sequence[float], effects: Sequence[Effect]
) -> tuple[str, str]:
    """C8's verdict, and what was found in the order of KINDS."""
    by_inputs, by_steps, by_both = effects
    original, inputs, steps, both = map(outcome, groups)
    if before[0] >= RESTORED:
        return INCONCLUSIVE, "The original's gradient does not vanish, so vanishing is not tested."
    if most_solve(groups[0]):
        return INCONCLUSIVE, f"The original is solved by {original}: nothing is to be explained."
    if before[1] < RESTORED:
        return INCONCLUSIVE, "Small inputs do not restore the gradient, so nothing is tested."
    if by_inputs.sign == 1:
        return SUPPORTED, (
            f"Small inputs alone raise the share: {inputs} solve the task, {original} of the "
            "original. Where the gradient reaches the first digit, training learns to keep it."
        )
    if by_both.sign == 1 and by_steps.sign != 1:
        optimizer = OPTIMISERS[groups[0].config["optimizer"]]
        more = shares("", ("", ""), n_solved(groups[3]), n_solved(groups[1]))
        return CONDITIONAL, (
            f"With {optimizer}, significantly more seeds than of the original solve the task only "
            f"where small steps come with the restored gradient: with both {both}, with small "
            f"inputs alone {inputs}, with small steps alone {steps}, of the original {original}. "
            f"Both against small inputs alone: {p_value(more.p)}, not corrected."
        )
    if by_both.sign == 1:
        return INCONCLUSIVE, (
            f"Small steps alone raise the share too ({steps}, with small inputs {both}, of the "
            f"original {original}), so the gain is not due to the gradient alone."
        )
    if no_gain(by_inputs) and no_gain(by_both):
        return CONTRADICTED, (
            f"Small inputs restore the gradient and do not raise the share by {MOST:g}: {inputs} "
            f"solve the task with the original's steps, {both} with small steps, {original} of the "
            "original."
        )
    return INCONCLUSIVE, (
        f"The seeds do not decide whether that raises the share: {inputs} solve the task with the "
        f"original's steps, {both} with small steps, {original} of the original."
    )


def _stored(groups: Sequence[Group]) -> str:
    """After training: whether small inputs store something of the first digit, and the gradient."""
    before = [np.mean(last_share(group, "initial")) for group in groups]
    original, inputs = (last_share(group, "trained") > HALF for group in groups)
    ratios = gradient_ratio(groups[1], "trained")[:, 0]
    small, because = ratios < RESTORED, ""
    if inputs[small].sum() > MOST * small.sum():
        because = (
            f". Of the {small.sum()} nets where it is below {RESTORED:g}, {inputs[small].sum()} "
            "depend on the digit all the same, so a small gradient does not mean that nothing is "
            "stored"
        )
    return (
        f"After training the last state depends on the first digit (correlation ratio above "
        f"{HALF:g}) in {inputs.sum()} of {len(inputs)} nets with small inputs alone and in "
        f"{original.sum()} of {len(original)} of the original; the gradient of the former is "
        f"between {scientific(ratios.min())} and {scientific(ratios.max())}{because}. Small inputs "
        f"change what is computed, too: before training the correlation ratio is {before[1]:.2f} "
        f"with them, {before[0]:.2f} in the original (means)."
    )


def _correlation(groups: Sequence[Group]) -> str:
    """The rank correlation of the gradient at the first step after training and accuracy.

    Over the runs of one group, for between groups both change by design: of that whose accuracies
    differ most. A group that its outcome chose has no p-value.
    """
    *others, group = sorted(groups, key=lambda each: np.ptp(each.accuracies))
    reached, ratios = group.accuracies, gradient_ratio(group, "trained")[:, 0]
    if not np.ptp(reached) or not np.ptp(ratios):
        return "Within each group accuracy or gradient is the same: there is no rank correlation"
    correlation = stats.spearmanr(ratios, reached).statistic
    sign = "\N{MINUS SIGN}" * bool(correlation < 0)
    return (
        f"Within one group, {KINDS[groups.index(group)]}, whose accuracies differ most (by "
        f"{np.ptp(reached):.2f}; in the other {len(others)} groups by "
        f"{np.ptp(others[-1].accuracies):.2f} at most), the rank correlation of gradient after "
        f"training and accuracy is {sign}{abs(correlation):.2f}"
    )
