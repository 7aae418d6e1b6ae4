"""Statistics of the claims, against tables, SciPy's own tests, and how often intervals cover."""

import numpy as np
import pytest
from scipy import stats

from figures.effects import (
    CONDITIONAL,
    CONFIDENCE,
    CONTRADICTED,
    INCONCLUSIVE,
    SUPPORTED,
    Effect,
    equivalence,
    holm,
    mcnemar,
    paired,
    shares,
    verdict,
    welch,
    wilson,
)

AB = ("a", "b")


def effect(value: float, p: float) -> Effect:
    return Effect("x", AB, (value, 0.0), value - 1, value + 1, p)


def test_paired_interval_is_students():
    found = paired("x", AB, [2.0, 4.0, 6.0, 8.0, 10.0], [1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.difference == 3
    # Student's t at 0.975 with 4 degrees of freedom is 2.776 (any table); the standard error is
    # sqrt(2.5 / 5).
    assert found.high - 3 == pytest.approx(2.776 * 0.5**0.5, abs=1e-3)
    assert found.high - 3 == pytest.approx(3 - found.low)


@pytest.mark.parametrize("pair", [True, False])
def test_p_values_are_scipys_and_intervals_agree_with_them(pair):
    rng = np.random.default_rng(0)
    for shift in (0.0, 0.5, 2.0):
        a, b = rng.normal(shift, 1, 8), rng.normal(0, 2, 8 if pair else 5)
        found = (paired if pair else welch)("x", AB, a, b)
        test = stats.ttest_rel(a, b) if pair else stats.ttest_ind(a, b, equal_var=False)
        assert found.p == pytest.approx(test.pvalue)
        interval = test.confidence_interval(CONFIDENCE)
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
        assert found.values == pytest.approx((a.mean(), b.mean()))
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


@pytest.mark.filterwarnings("ignore:Precision loss")  # SciPy's, where all seeds agree
def test_seeds_that_all_agree_have_no_error():
    same, other = paired("x", AB, [1, 1], [1, 1]), paired("x", AB, [2, 2], [1, 1])
    assert (same.p, same.sign, other.p, other.sign) == (1, 0, 0, 1)
    assert (other.low, other.high) == (1, 1)
    assert welch("x", AB, [1, 1], [2, 2, 2]).sign == -1


def test_intervals_cover_the_difference_as_often_as_they_say():
    rng = np.random.default_rng(0)
    for function, n in ((paired, 4), (welch, 6)):
        found = [function("x", AB, rng.normal(1, 2, 4), rng.normal(0, 1, n)) for _ in range(2000)]
        covered = np.mean([each.low <= 1 <= each.high for each in found])
        assert covered == pytest.approx(CONFIDENCE, abs=4 * (0.95 * 0.05 / 2000) ** 0.5)


@pytest.mark.filterwarnings("ignore:Precision loss")  # SciPy's, where all seeds agree
def test_means_are_equivalent_only_if_they_are_surely_within_the_margin():
    rng = np.random.default_rng(0)
    near, far = rng.normal(0, 0.001, 30), rng.normal(0.004, 0.01, 30)
    zeros = np.zeros(30)
    assert equivalence(near, zeros, 0.005) < 0.001
    assert equivalence(far, zeros, 0.005) > 0.05
    lower = stats.ttest_1samp(far, -0.005, alternative="greater").pvalue
    upper = stats.ttest_1samp(far, 0.005, alternative="less").pvalue
    assert equivalence(far, zeros, 0.005) == pytest.approx(max(lower, upper))
    assert equivalence(-far, zeros, 0.005) == pytest.approx(max(lower, upper))
    assert (equivalence([1, 1], [1, 1], 0.1), equivalence([1, 1], [2, 2], 0.1)) == (0, 1)
    at_the_margin = np.ones(4), np.full(4, 0.75)
    assert equivalence(*at_the_margin, 0.25) == equivalence(*at_the_margin[::-1], 0.25) == 1


def test_holm_multiplies_the_smallest_p_by_the_number_of_effects():
    corrected = holm([effect(1, 0.03), effect(1, 0.001), effect(1, 0.02), effect(1, 0.9)])
    assert [each.p for each in corrected] == pytest.approx([0.06, 0.004, 0.06, 0.9])
    assert [each.sign for each in corrected] == [0, 1, 0, 0]


def test_wilsons_interval_is_that_of_the_formula():
    # (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n) with z = 1.96, p = 0.9, n = 10
    assert wilson(9, 10) == pytest.approx((0.5958, 0.9821), abs=2e-4)
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=2e-4)


def test_shares_have_newcombes_interval_and_fishers_p():
    found = shares("x", AB, (56, 70), (48, 80))
    # Newcombe (1998), method 10, first example.
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    whole = shares("x", AB, (10, 10), (0, 10))
    assert whole.p == pytest.approx(2 / 184756)
    assert whole.sign == 1
    assert shares("x", AB, (5, 10), (4, 10)).sign == 0


def test_mcnemar_counts_what_only_one_gets_right():
    first = [True] * 50 + [True] * 30 + [False] * 10 + [False] * 10
    second = [True] * 50 + [False] * 30 + [True] * 10 + [False] * 10
    found = mcnemar("x", AB, first, second)
    assert found.values == (0.8, 0.6)
    assert found.p == pytest.approx(stats.binomtest(30, 40).pvalue)
    half = 1.96 * ((0.4 - 0.2**2) / 100) ** 0.5
    assert (found.low, found.high) == pytest.approx((0.2 - half, 0.2 + half), abs=1e-4)
    assert mcnemar("x", AB, first, first).sign == 0


@pytest.mark.parametrize(
    ("signs", "expected"),
    [((1, 1), SUPPORTED), ((-1, -1), CONTRADICTED), ((-1, 0), CONTRADICTED), ((0,), INCONCLUSIVE),
     ((1, 0), INCONCLUSIVE), ((1, -1), CONDITIONAL), ((1, 0, -1), CONDITIONAL)],
)  # fmt: skip
def test_the_verdict_follows_from_the_signs(signs, expected):
    effects = [effect(sign, 0.01) if sign else effect(1, 0.5) for sign in signs]
    assert verdict(effects) == expected


def test_an_effect_is_written_as_two_values_and_their_difference():
    found = Effect("accuracy", ("CNN", "MLP"), (0.851, 0.583), 0.261, 0.275, 0.0, 3)
    assert str(found) == (
        "accuracy: CNN 0.851, MLP 0.583: difference 0.268 [0.261, 0.275], p < 0.0001"
    )
    steps = Effect("steps", ("a", "b"), (1000, 2500), -2000, -1000, 0.0321, 0)
    minus = "\N{MINUS SIGN}"
    ends = f"difference {minus}1,500 [{minus}2,000, {minus}1,000], p = 0.032"
    assert str(steps) == f"steps: a 1,000, b 2,500: {ends}"
