"""Claims C6, C7 and C9 about recurrent nets: what decides each, and what follows from it."""

import numpy as np

from figures.claims import HIDDEN_UNITS, LONG_T, MOST, SHORT_T, SOLVED
from figures.effects import (
    CONDITIONAL,
    CONTRADICTED,
    INCONCLUSIVE,
    SUPPORTED,
    Claim,
    holm,
    listed,
    paired,
    shares,
    wilson,
)
from figures.experiments import RNN_HIDDEN, RNN_LIMITS, RNN_LONGER, Group, Records, seeds_of
from figures.measurements import read_measure
from figures.rnn import INITS, KINDS, budgets, most_solve, n_solved, no_gain, outcome, solving


def five_digits(records: Records) -> Claim:
    """C6: supported if Wilson's interval of the share of seeds that solve it is above MOST.

    Contradicted if it is below MOST, inconclusive otherwise.
    """
    group = records["rnn_T5_original"]
    initial, kept = np.stack([read_measure(run.path, "palindromes.csv") for run in group.runs]).T
    n, wrong, seen = int(kept["palindromes"][0]), kept["wrong"], kept["seen"]
    solved = int((1 - wrong / n >= SOLVED).sum())
    low, high = wilson(solved, len(wrong))
    verdict = SUPPORTED if low > MOST else CONTRADICTED if high < MOST else INCONCLUSIVE
    what, names = f"palindromes wrong, of {n:,}", ("before training", "after")
    found = {
        SUPPORTED: "The net learns five digits",
        CONTRADICTED: "The net does not learn five digits",
        INCONCLUSIVE: "The seeds do not decide whether the net learns five digits",
    }
    shown = f"{seen.min():,} to {seen.max():,}"
    if seen.min() == seen.max():
        shown = "every one" if seen.min() == n else f"{seen.min():,}"
    stored = ", so this measures how well it stores what it has seen, not how well it generalises"
    stored = stored if seen.min() > MOST * n else ""
    return Claim(
        "C6", "With T = 5 the accuracy is close to perfect.",
        f"Recipe original, {seeds_of(group)}; every palindrome of six digits. A seed has solved "
        f"it if at least {100 * SOLVED:.0f} % are right. The claim is supported if the interval of "
        f"the share of seeds that solve it is above {MOST:g}.",
        (paired(what, names, initial["wrong"], wrong, 1),), verdict,
        f"{found[verdict]}: {solved} of {len(wrong)} seeds solve it (their share is "
        f"{solved / len(wrong):.2f} [{low:.2f}, {high:.2f}]), and "
        f"{wrong.sum():,} of all {n * len(wrong):,} answers are wrong. There are only {n:,} "
        f"palindromes of this length, and training had shown each net {shown} of them{stored}.",
        "6",
    )  # fmt: skip


def longer(records: Records) -> Claim:
    """C7: in each setting fewer seeds solve LONG_T than SHORT_T, corrected for all settings.

    Supported if so in all settings, conditional if in some. Otherwise contradicted if in some more
    seeds solve LONG_T, or if SHORT_T is solved and the intervals exclude a fall of MOST seeds.
    """
    scales: dict[float, dict[int, Group]] = {}
    for group in (records[each.group] for each in RNN_LONGER):
        scales.setdefault(group.config["input_scale"], {})[group.config["input_length"]] = group
    names = f"short (T = {SHORT_T})", f"long (T = {LONG_T})"
    effects, settings, short, longest = [], [], [], {}
    for scale, by_length in scales.items():
        for steps in budgets(by_length[SHORT_T]):
            settings.append(f"input scale {scale:.3g}, {steps:,} steps")
            both = (n_solved(by_length[T], steps) for T in (SHORT_T, LONG_T))
            effects.append(shares(f"share of seeds that solve it, {settings[-1]}", names, *both))
            short.append(most_solve(by_length[SHORT_T], steps))
            solved = max(solving(by_length.values(), steps, "input_length"), default=None)
            key = f"T = {solved}" if solved else "none", f"input scale {scale:.3g}"
            longest.setdefault(key, []).append(f"{steps:,}")
    effects = holm(effects)
    signs = [effect.sign for effect in effects]
    falls = [setting for setting, sign in zip(settings, signs, strict=True) if sign == 1]
    if falls:
        verdict = SUPPORTED if len(falls) == len(effects) else CONDITIONAL
    elif -1 in signs or (all(short) and all(map(no_gain, effects))):
        verdict = CONTRADICTED
    else:
        verdict = INCONCLUSIVE
    found = {
        SUPPORTED: "With each of these input scales and numbers of steps fewer seeds solve the "
        "long palindromes.",
        CONDITIONAL: f"Fewer seeds solve the long palindromes with {'; '.join(falls)}; in the "
        "other settings that is not found.",
        CONTRADICTED: "In no setting is a fall found.",
        INCONCLUSIVE: "The seeds do not decide in any setting.",
    }
    limit = "; ".join(f"{T} ({scale}, {listed(n)} steps)" for (T, scale), n in longest.items())
    others = [(kind, records[each.group]) for kind, each in zip(KINDS, RNN_LIMITS, strict=True)]
    learnt = [f"{kind} {outcome(other)}" for kind, other in others if most_solve(other)]
    same = f" Not every net fails at T = {LONG_T} (claim C8): {'; '.join(learnt)}." * bool(learnt)
    return Claim(
        "C7", "Accuracy falls as the palindromes get longer.",
        f"Vanilla RNN, {seeds_of(group)}, {len(scales)} input scales (standard deviations of "
        "the input weights), which the original leaves open. What is told of fewer steps is read "
        "off the same runs at that point. A seed has solved a length if its accuracy is at least "
        f"{SOLVED:g}. Each scale and number of steps is a condition: the claim is supported if it "
        "holds in all of them.",
        effects, verdict,
        f"{found[verdict]} Of the lengths tried, the longest that most seeds solve: {limit}.{same}",
        "longer",
    )  # fmt: skip


def hidden_state(records: Records) -> Claim:
    """C9: do HIDDEN_UNITS solve what the smallest net does not, under each initialisation?

    An initialisation shows a bottleneck if for some T and number of steps more seeds of the larger
    net solve the task (corrected for all comparisons) and for none fewer. It shows that there is
    none if most seeds of the smallest net solve some task, and all intervals exclude a gain of MOST
    seeds. Supported if all show one, conditional if some, contradicted if all show that there is
    none, inconclusive otherwise.
    """
    nets: dict[tuple[str, int], dict[int, Group]] = {}
    for group in (records[each.group] for each in RNN_HIDDEN):
        key = group.config["init"], group.config["input_length"]
        nets.setdefault(key, {})[group.config["num_hidden"]] = group
    effects, few_solve, enough, solvers = [], [], {}, {}
    for (init, T), sizes in nets.items():
        few = min(sizes)
        for steps in budgets(sizes[few]):
            task = f"T = {T}, {INITS[init]}, {steps:,} steps"
            names = f"{HIDDEN_UNITS} units", f"{few} units"
            both = (n_solved(sizes[n], steps) for n in (HIDDEN_UNITS, few))
            effects.append(shares(f"share of seeds that solve {task}", names, *both))
            few_solve.append((INITS[init], most_solve(sizes[few], steps)))
            solve = solving(sizes.values(), steps, "num_hidden")
            solvers.setdefault((T, steps), []).append(solve)
            smallest = min(solve, default=0)
            key = f"{smallest} units" if smallest else "none", f"T = {T}, {INITS[init]}"
            enough.setdefault(key, []).append(f"{steps:,}")
    effects = holm(effects)
    inits, shown, absent = [*dict(few_solve)], [], []
    for init in inits:
        own = [e for e, (name, _) in zip(effects, few_solve, strict=True) if name == init]
        signs = {effect.sign for effect in own}
        if 1 in signs and -1 not in signs:
            shown.append(init)
        elif all(map(no_gain, own)) and (init, True) in few_solve:
            absent.append(init)
    if shown:
        verdict = SUPPORTED if len(shown) == len(inits) else CONDITIONAL
    else:
        verdict = CONTRADICTED if len(absent) == len(inits) else INCONCLUSIVE
    undecided = "With the other the seeds do not decide."
    enough_with = f"With the {' and the '.join(absent)} the fewest units are enough."
    found = {
        SUPPORTED: "Under every initialisation more units solve what the fewest do not, so the "
        "size of the hidden state limits what is learnt.",
        CONDITIONAL: f"Only with the {' and the '.join(shown)} do more units solve what the fewest "
        f"do not. {enough_with if absent else undecided}",
        CONTRADICTED: "Under no initialisation do more units solve what the fewest do not.",
        INCONCLUSIVE: f"{enough_with} {undecided}"
        if absent
        else "The seeds do not decide under any initialisation.",
    }
    unsure = "; ".join(e.what.split("solve ")[1] for e in effects if not e.sign)
    not_shown = f" Not significant: {unsure}." * bool(unsure)
    room, none = "", 2 * max(map(max, nets.values()))  # more units than any net has
    fewer = {np.sign(min(a, default=none) - min(b, default=none)) for a, b in solvers.values()}
    if fewer in ({-1}, {1}):
        order = -min(fewer)  # 1 if the first initialisation needs fewer units, else -1
        better, worse = inits[::order]
        alone: dict[str, list[str]] = {}  # the sizes that solve a task with the better alone
        common = set.intersection(*map(set, nets.values()))
        for (T, steps), pair in solvers.items():
            solve, other = pair[::order]
            sizes = [f"{n}" for n in solve if n in common and n not in other]
            if sizes:
                alone.setdefault(f"T = {T} with {listed(sizes)} units", []).append(f"{steps:,}")
        shown_by = "; ".join(f"{task} ({listed(k)} steps)" for task, k in alone.items())
        room = (
            f" With the {better} fewer units are enough for every task than with the {worse}. "
            "Where at most half of the latter's seeds solve it with as many "
            f"({shown_by}), the state has room, and what is missing is training that uses it, at "
            "the one learning rate and input scale of these runs (C7 tries another scale)."
        ) * bool(alone)
    about = (
        f"{INITS[init]} ({min(sizes)} to {max(sizes)} hidden units, input scale "
        f"{sizes[min(sizes)].config['input_scale']:g})"
        for (init, _), sizes in nets.items()
    )
    fewest = "; ".join(f"{n} ({task}, {listed(k)} steps)" for (n, task), k in enough.items())
    return Claim(
        "C9", "The hidden state, whose size is fixed, is a bottleneck.",
        f"Vanilla RNN, {seeds_of(group)}, "
        f"{listed(dict.fromkeys(about))}. A seed has solved a task if its accuracy is at least "
        f"{SOLVED:g}. An initialisation shows a bottleneck if in some of its tasks significantly "
        f"more seeds solve it with {HIDDEN_UNITS} units than with the fewest, and in none fewer. "
        "The claim is supported if every initialisation shows one, conditional if only some do.",
        effects, verdict,
        f"{found[verdict]}{not_shown} The smallest net that most seeds solve it with: "
        f"{fewest}.{room}",
        "hidden_sizes",
    )  # fmt: skip
