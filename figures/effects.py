"""What an experiment says about a claim: effects with intervals, and the verdict.

An effect is positive if the claim is right. Its 95 % confidence interval is Student's t over seeds,
or, where there are too few seeds or all are alike, that of the accuracy on so many test samples.
The verdict follows from the interval alone: `holds` if it lies above 0, `does not hold` if it does
not reach above 0, else `undecided`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
VERDICTS = ("does not hold", "undecided", "holds")  # from the worst to the best


@dataclass(frozen=True)
class Effect:
    """A measured difference, positive if the claim is right.

    Attributes:
        value, low, high: with the ends of the 95 % confidence interval; equal if nothing is random.
    """

    what: str
    value: float
    low: float
    high: float
    unit: str = ""

    @property
    def verdict(self) -> str:
        """What the interval says about the claim."""
        return "holds" if self.low > 0 else "undecided" if self.high > 0 else "does not hold"

    def __str__(self) -> str:
        number = f"{self.value:+,.0f}" if abs(self.value) >= 1000 else f"{self.value:+.3g}"
        if self.low < self.high:
            number += f" [{self.low:+.3g}, {self.high:+.3g}]"
        return f"{self.what}: {number} {self.unit}".strip()


@dataclass(frozen=True)
class Claim:
    """A claim, its effects, which must all hold, and their discussion with all numbers."""

    number: str
    text: str
    effects: tuple[Effect, ...]
    discussion: str

    @property
    def measured(self) -> str:
        """All effects in one line."""
        return "; ".join(map(str, self.effects))

    @property
    def verdict(self) -> str:
        """The worst of the effects' verdicts."""
        return min((effect.verdict for effect in self.effects), key=VERDICTS.index)


def over_seeds(what: str, values: Sequence[float], unit: str = "") -> Effect:
    """The mean over seeds with Student's interval."""
    values = np.asarray(values, float)
    mean, n = float(values.mean()), len(values)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * values.std(ddof=1) / math.sqrt(n)
    return Effect(what, mean, mean - half, mean + half, unit)


def above(what: str, accuracy: float, n: int, threshold: float) -> Effect:
    """An accuracy on n samples minus a threshold, with the exact interval of Clopper and Pearson.

    Unlike the others it has a width even where no sample is wrong.
    """
    interval = stats.binomtest(round(accuracy * n), n).proportion_ci(CONFIDENCE, method="exact")
    low, high = float(interval.low), float(interval.high)
    return Effect(what, accuracy - threshold, low - threshold, high - threshold)


def between_accuracies(what: str, a: float, n_a: int, b: float, n_b: int) -> Effect:
    """a - b, for accuracies on n_a and n_b independent samples."""
    return normal(what, a - b, a * (1 - a) / n_a + b * (1 - b) / n_b)


def normal(what: str, value: float, variance: float) -> Effect:
    """A difference whose error is normal with the given variance."""
    half = float(stats.norm.ppf((1 + CONFIDENCE) / 2)) * math.sqrt(variance)
    return Effect(what, value, value - half, value + half)


def exactly(what: str, value: float) -> Effect:
    """A difference without randomness."""
    return Effect(what, value, value, value)
