"""What experiments say about a claim: differences with intervals, and the verdict.

Intervals are of 95 % and not corrected. A difference counts if its p-value, corrected where several
differences are judged at once, is below 5 %.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
SUPPORTED, CONTRADICTED = "supported", "contradicted"
INCONCLUSIVE, CONDITIONAL = "inconclusive", "conditional"
VERDICTS = (SUPPORTED, CONDITIONAL, INCONCLUSIVE, CONTRADICTED)
SMALLEST_P = 0.0001  # that is written out
Names, Values = tuple[str, str], Sequence[float]


@dataclass(frozen=True)
class Effect:
    """Two values, and the first minus the second.

    Attributes:
        what: was measured.
        names, values: of the two.
        low, high: the difference's confidence interval.
        p: two-sided, of no difference; corrected where several effects are judged at once.
        decimals: shown of each number.
    """

    what: str
    names: Names
    values: tuple[float, float]
    low: float
    high: float
    p: float
    decimals: int = 4

    @property
    def difference(self) -> float:
        """The first value minus the second."""
        return self.values[0] - self.values[1]

    @property
    def sign(self) -> int:
        """1 or -1, as the difference counts as positive or negative; 0 if it does not count."""
        return int(np.sign(self.difference)) if self.p < 1 - CONFIDENCE else 0

    def __str__(self) -> str:
        first, second = self.values
        d = self.decimals
        text = (
            f"{self.what}: {self.names[0]} {first:,.{d}f}, {self.names[1]} {second:,.{d}f}: "
            f"difference {first - second:,.{d}f} [{self.low:,.{d}f}, {self.high:,.{d}f}], "
            f"{p_value(self.p)}"
        )
        return text.replace(" -", " \N{MINUS SIGN}").replace("[-", "[\N{MINUS SIGN}")


@dataclass(frozen=True)
class Claim:
    """A claim of the original and what the experiments say about it.

    Attributes:
        number, text: C1 to C9, and the claim in our words.
        design: what was done.
        effects: what was found, the judged differences.
        verdict: one of VERDICTS.
        meaning: sentences that follow from the verdict.
        figure: the name of the figure that shows it.
    """

    number: str
    text: str
    design: str
    effects: tuple[Effect, ...]
    verdict: str
    meaning: str
    figure: str


def verdict(effects: Sequence[Effect]) -> str:
    """The verdict on a claim that says that every difference is positive."""
    signs = {effect.sign for effect in effects}
    if signs == {1}:
        return SUPPORTED
    if signs >= {1, -1}:
        return CONDITIONAL
    return CONTRADICTED if -1 in signs else INCONCLUSIVE


def paired(what: str, names: Names, first: Values, second: Values, decimals: int = 4) -> Effect:
    """Means over the same seeds: Student's paired interval and test."""
    return _effect(what, names, first, second, stats.ttest_rel(first, second), decimals)


def welch(what: str, names: Names, first: Values, second: Values, decimals: int = 4) -> Effect:
    """Means over seeds, taken as independent (Welch, 1947)."""
    test = stats.ttest_ind(first, second, equal_var=False)
    return _effect(what, names, first, second, test, decimals)


def _effect(
    what: str, names: Names, first: Values, second: Values, test: Any, decimals: int
) -> Effect:
    values = float(np.mean(first)), float(np.mean(second))
    low, high = map(float, test.confidence_interval(CONFIDENCE))
    p = 1.0 if math.isnan(test.pvalue) else float(test.pvalue)  # NaN: all seeds agree
    return Effect(what, names, values, low, high, p, decimals)


def equivalence(first: Values, second: Values, margin: float) -> float:
    """The p-value of means over the same seeds that differ by `margin` or more.

    The larger of two one-sided paired tests (Schuirmann, 1987).
    """
    differences = np.subtract(first, second)
    above = stats.ttest_1samp(differences, -margin, alternative="greater")
    below = stats.ttest_1samp(differences, margin, alternative="less")
    p = float(np.maximum(above.pvalue, below.pvalue))
    return 1.0 if math.isnan(p) else p  # NaN: all seeds differ by just the margin


def holm(effects: Sequence[Effect]) -> tuple[Effect, ...]:
    """The effects with p-values corrected for judging all of them (Holm, 1979)."""
    corrected, largest = list(effects), 0.0
    for rank, at in enumerate(sorted(range(len(effects)), key=lambda i: effects[i].p)):
        largest = max(largest, min(1.0, (len(effects) - rank) * effects[at].p))
        corrected[at] = replace(effects[at], p=largest)
    return tuple(corrected)


def p_value(p: float) -> str:
    """A p-value in print."""
    return f"p = {p:.2g}" if p >= SMALLEST_P else f"p < {SMALLEST_P:g}"


def scientific(value: float) -> str:
    """A positive number, as 0.12 or 3.4 x 10^-7 with the digits of print."""
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    if -3 <= int(exponent) <= 3:
        return f"{float(f'{value:.2g}'):,g}"
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa} \N{MULTIPLICATION SIGN} 10{raised}"


def listed(items: Iterable[str]) -> str:
    """The items in words: `a, b and c`."""
    *most, last = [*items] or [""]
    return f"{', '.join(most)} and {last}" if most else last


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The confidence interval of a share (Wilson, 1927)."""
    interval = stats.binomtest(successes, n).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def shares(what: str, names: Names, first: tuple[int, int], second: tuple[int, int]) -> Effect:
    """Shares, each given as (successes, n): Newcombe's interval (1998), Fisher's exact test."""
    (a, n), (b, m) = first, second
    (a_low, a_high), (b_low, b_high) = wilson(a, n), wilson(b, m)
    p, q = a / n, b / m
    low = p - q - math.hypot(p - a_low, b_high - q)
    high = p - q + math.hypot(a_high - p, q - b_low)
    test = float(stats.fisher_exact([[a, n - a], [b, m - b]]).pvalue)
    return Effect(what, names, (p, q), low, high, test, 2)


def mcnemar(what: str, names: Names, first: Sequence[bool], second: Sequence[bool]) -> Effect:
    """Accuracies on the same samples, by those that only one gets right (McNemar, 1947, exact)."""
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    n, only_first = len(first), int((first & ~second).sum())
    either = int((first ^ second).sum())
    difference = (2 * only_first - either) / n
    variance = (either / n - difference**2) / n
    half = float(stats.norm.ppf((1 + CONFIDENCE) / 2)) * math.sqrt(variance)
    p = float(stats.binomtest(only_first, either).pvalue) if either else 1.0
    values = float(first.mean()), float(second.mean())
    return Effect(what, names, values, difference - half, difference + half, p)
