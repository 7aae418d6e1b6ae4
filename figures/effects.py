"""What an experiment says of a claim: effects with their intervals, and the word they give.

An effect is written so that it is positive if the claim is right. It comes with a 95 % confidence
interval: Student's t over seeds, or, where there are too few seeds or all are alike, the binomial
distribution of the accuracy on so many test samples. The word follows from the interval alone:
`holds` if it lies above 0, `does not hold` if it does not reach above 0, else `undecided`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from figures.results import table

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Effect:
    """A measured difference, positive if the claim is right.

    Attributes:
        what: was measured.
        value, low, high: with the ends of the 95 % confidence interval; equal if nothing is random.
        unit: of all three.
    """

    what: str
    value: float
    low: float
    high: float
    unit: str = ""

    @property
    def word(self) -> str:
        """What the interval says of the claim."""
        if self.low > 0:
            return "holds"
        return "does not hold" if self.high <= 0 else "undecided"

    def __str__(self) -> str:
        number = f"{self.value:+,.0f}" if abs(self.value) >= 1000 else f"{self.value:+.3g}"
        if self.low < self.high:
            number += f" [{self.low:+.3g}, {self.high:+.3g}]"
        return f"{self.what}: {number} {self.unit}".strip()


@dataclass(frozen=True)
class Claim:
    """A claim, the effects that decide on it, and what the data say beside.

    Attributes:
        effects: all must hold for the claim to hold.
        story: what was done and found, with all numbers filled in.
    """

    number: str
    text: str
    effects: tuple[Effect, ...]
    story: str

    @property
    def verdict(self) -> str:
        """One word (or three): the worst of the effects'."""
        words = {effect.word for effect in self.effects}
        return next(w for w in ("does not hold", "undecided", "holds") if w in words)


def over_seeds(what: str, values: Sequence[float], unit: str = "") -> Effect:
    """The mean over seeds with Student's interval."""
    values = np.asarray(values, float)
    mean, n = float(values.mean()), len(values)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * values.std(ddof=1) / math.sqrt(n)
    return Effect(what, mean, mean - half, mean + half, unit)


def above(what: str, accuracy: float, n: int, threshold: float) -> Effect:
    """An accuracy on n samples less a threshold, with the exact interval of Clopper and Pearson.

    Unlike the others it has a width even where no sample is wrong.
    """
    interval = stats.binomtest(round(accuracy * n), n).proportion_ci(CONFIDENCE, method="exact")
    return Effect(
        what, accuracy - threshold, interval.low - threshold, float(interval.high) - threshold
    )


def between_accuracies(what: str, a: float, n_a: int, b: float, n_b: int) -> Effect:
    """a - b, for accuracies on n_a and n_b independent samples."""
    return normal(what, a - b, a * (1 - a) / n_a + b * (1 - b) / n_b)


def normal(what: str, value: float, variance: float) -> Effect:
    """A difference whose error has the given variance."""
    half = float(stats.norm.ppf((1 + CONFIDENCE) / 2)) * math.sqrt(variance)
    return Effect(what, value, value - half, value + half)


def exactly(what: str, value: float, unit: str = "") -> Effect:
    """A difference that no chance enters."""
    return Effect(what, value, value, value, unit)


def claims_table(claims: Sequence[Claim]) -> str:
    """A Markdown table: each claim, its effects, its verdict."""
    return table(
        ("", "claim", f"measured, with {CONFIDENCE:.0%} interval", "verdict"),
        [
            (claim.number, claim.text, "; ".join(map(str, claim.effects)), f"**{claim.verdict}**")
            for claim in claims
        ],
    )
