"""Statistics over runs: paired tests of two arms, corrections, effect sizes.

The unit is the run (the seed): all functions take one figure per run. Pairs are runs with the same
number, which share the order of the stream (see :func:`crumb.reports.families.compare`). Intervals
of means are in :mod:`crumb.reports.intervals`.

Few runs say little with any test: n differences have 2^n sign patterns, so no two-sided test of
signs or ranks can give a p-value below 2 / 2^n (:func:`smallest_p`). That is 0.0625 for 5 runs,
which is never significant at 0.05, and 0.002 for 10; Holm's correction multiplies the smallest one
by the number of arms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from crumb.errors import InputError
from crumb.reports.intervals import finite, generator
from crumb.stream.metrics import mean_and_deviation

BATCH_WARNING = (
    "The pairs of this test are batches. Batches of one run share a network, and all runs share "
    "their test images, so there are only as many independent pairs as runs. The test overstates "
    "the evidence, and its p-value is too small."
)
_FLIPS = 2**14
# Values closer than 2^-30 of the largest differ by rounding alone, which is some 2^-52 of it.
_PRECISION_BITS = 30


def smallest_p(runs: int) -> float:
    """The smallest p-value of :func:`paired_permutation` for so many pairs of runs.

    It is 2 / 2^n: the observed signs and their mirror image, of all ways to give signs. Beyond
    14 pairs it is 1 / 2^14, the observed signs among those drawn.
    """
    return max(2.0 ** (1 - runs), 1 / _FLIPS)


def paired_permutation(one: Sequence[float], other: Sequence[float], seed: int) -> float:
    """Two-sided p-value of a paired permutation test of the mean difference (Fisher-Pitman).

    Under the null hypothesis, each paired difference could equally have had the other sign. p is
    the share of all assignments of signs whose sum of differences is at least as far from zero as
    the observed one, which counts itself and all ties. Differences of zero have no sign and change
    nothing. No p is below 2 / 2^n for n pairs (:func:`smallest_p`).

    Exact for up to 14 differences that are not zero. Beyond, 2^14 - 1 assignments are drawn and
    p = (1 + as extreme) / 2^14, which stays valid (Phipson and Smyth, "Permutation P-values
    Should Never Be Zero", 2010).

    Args:
        one: [n], runs of one arm.
        other: [n], runs of the other arm, in the same order.
        seed: seed of the drawn assignments.

    Returns:
        the p-value, 1 if there is no difference at all.

    Raises:
        InputError: unequal numbers of runs, none, or a value that is not finite.
    """
    steps = _step_differences(one, other)
    # Sort sizes, so that the order of runs and arms does not matter.
    sizes = np.sort(np.abs(steps[steps != 0]))
    observed = abs(steps.sum())
    if 2 ** len(sizes) <= _FLIPS:
        numbers = np.arange(2 ** len(sizes))[:, None]
        negative = (numbers >> np.arange(len(sizes))) & 1
        return float(np.mean(_as_extreme(negative, sizes, observed)))
    draws = generator(seed, "permutation").integers(0, 2, (_FLIPS - 1, len(sizes)))
    return (1 + int(_as_extreme(draws, sizes, observed).sum())) / _FLIPS


def _as_extreme(
    negative: NDArray[np.int64], sizes: NDArray[np.float64], observed: float
) -> NDArray[np.bool_]:
    """Mask of sign assignments (rows) whose sum is at least as far from zero as the observed
    one.
    """
    # Sizes are integers after rounding, so equal sums differ at most by this.
    return np.abs((1 - 2 * negative) @ sizes) >= observed - len(sizes)


def wilcoxon(one: Sequence[float], other: Sequence[float]) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test of paired runs.

    Wilcoxon, "Individual Comparisons by Ranking Methods", 1945. Differences of zero are left out,
    as he does; equal sizes share their mean rank. The distribution of the rank sum is exact for
    any number of runs, ties included: scipy's exact one knows no ties, and what it does instead
    (a normal approximation or permutations) depends on its version. No p is below 2 / 2^n for n
    differences that are not zero.

    Args:
        one: [n], runs of one arm.
        other: [n], runs of the other arm, in the same order.

    Returns:
        the p-value, 1 if there is no difference at all.

    Raises:
        InputError: unequal numbers of runs, none, or a value that is not finite.
    """
    from scipy.stats import rankdata

    steps = _step_differences(one, other)
    steps = steps[steps != 0]
    # Mean ranks are multiples of one half.
    doubled = (2 * rankdata(np.abs(steps))).astype(int)
    chances = np.ones(1)
    for rank in doubled:
        chances = (np.pad(chances, (rank, 0)) + np.pad(chances, (0, rank))) / 2
    positive = int(doubled[steps > 0].sum())
    least = min(positive, int(doubled.sum()) - positive)
    return min(1.0, 2 * float(chances[: least + 1].sum()))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values adjusted for their number, by Holm's step-down procedure.

    The i-th smallest of m becomes the largest of (m - j + 1) p_j over j <= i, at most 1. Rejecting
    at level a bounds the probability of any false rejection by a, for any dependence between the
    tests. Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979.

    Args:
        p_values: p values by name.

    Returns:
        adjusted p-values by the same names, in the same order.

    Raises:
        InputError: a value is not a p-value.
    """
    for name, p in p_values.items():
        if not 0 <= p <= 1:
            raise InputError(name, f"{p} is not a p-value", "give one between 0 and 1")
    least = 0.0
    adjusted = {}
    for place, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        least = max(least, min(1.0, (len(p_values) - place) * p_values[name]))
        adjusted[name] = least
    return {name: adjusted[name] for name in p_values}


@dataclass(frozen=True)
class Effect:
    """Effect size of a difference between paired runs.

    Attributes:
        standardised: mean difference in standard deviations of the differences (Cohen's d_z),
            with Hedges' correction; None for fewer than 3 runs and for differences that are all
            equal, whose deviation is zero.
        median: median of the differences, in the unit of the values.
    """

    standardised: float | None
    median: float


def effect_size(one: Sequence[float], other: Sequence[float]) -> Effect:
    """Size of the difference ``one - other`` of paired runs.

    d_z = mean(d) / sd(d), with n - 1 in the deviation (Cohen, "Statistical Power Analysis for the
    Behavioral Sciences", 1988). It is too large for few runs, so it is multiplied with Hedges'
    J = Gamma(m / 2) / (sqrt(m / 2) Gamma((m - 1) / 2)) with m = n - 1 ("Distribution Theory for
    Glass's Estimator of Effect Size", 1981), which is 0.80 for 5 runs and zero for 2.

    Args:
        one: [n], runs of one arm.
        other: [n], runs of the other arm, in the same order.

    Raises:
        InputError: unequal numbers of runs, none, or a value that is not finite.
    """
    ordered = sorted(differences(one, other).tolist())
    if len(ordered) < 3 or not np.ptp(_step_differences(one, other)):
        return Effect(None, median(ordered))
    mean, deviation = mean_and_deviation(ordered)
    assert deviation is not None
    half = (len(ordered) - 1) / 2
    correction = math.exp(math.lgamma(half) - math.lgamma(half - 0.5)) / math.sqrt(half)
    return Effect(correction * mean / deviation, median(ordered))


@dataclass(frozen=True)
class BatchTTest:
    """Result of :func:`batch_t_test`.

    Attributes:
        statistic: t of the differences ``one - other``.
        p: two-sided; too small, see the warning.
        pairs: number of batches over all runs.
        runs: number of runs, the maximum number of independent pairs.
        warning: text to show with the p-value.
    """

    statistic: float
    p: float
    pairs: int
    runs: int
    warning: str = BATCH_WARNING


def batch_t_test(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> BatchTTest:
    """The paired t-test over the batches of all runs that the original reports.

    Kept to compare with published p-values only. It treats the batches of all runs (110 for 5 runs
    on CORe50) as independent pairs, which is wrong: see :data:`BATCH_WARNING`. To compare arms, use
    :func:`crumb.reports.families.compare`.

    Args:
        one: accuracies of one arm, for each run those of its batches.
        other: those of the other arm, on the same batches of the same runs, in the same order.

    Returns:
        t and p. No difference in any batch gives 0 and 1, one that is equal in all of them an
        infinite t and 0.

    Raises:
        InputError: unequal runs or batches, fewer than two pairs, or a value that is not finite.
    """
    batches = [[len(run) for run in arm] for arm in (one, other)]
    if batches[0] != batches[1]:
        counts = f"in the runs are {batches[0]} and {batches[1]}"
        raise InputError("batches", counts, "test both arms on the same batches of the same runs")
    pooled = [[value for run in arm for value in run] for arm in (one, other)]
    steps = _step_differences(*pooled)
    if len(steps) < 2:
        raise InputError("batches", "are a single pair", "give at least two")
    if not np.ptp(steps):
        sign = float(np.sign(steps[0]))
        statistic, p = (sign * math.inf, 0.0) if sign else (0.0, 1.0)
        return BatchTTest(statistic, p, len(steps), len(one))
    from scipy.special import stdtr

    mean, deviation = mean_and_deviation(differences(*pooled).tolist())
    assert deviation is not None
    statistic = mean / deviation * math.sqrt(len(steps))
    p = 2 * float(stdtr(len(steps) - 1, -abs(statistic)))
    return BatchTTest(statistic, p, len(steps), len(one))


def differences(one: Sequence[float], other: Sequence[float]) -> NDArray[np.float64]:
    """``one - other`` of paired runs, float [n].

    Raises:
        InputError: unequal numbers of runs, none, or a value that is not finite.
    """
    if len(one) != len(other):
        counts = f"are {len(one)} and {len(other)}"
        raise InputError("the runs", counts, "give both arms the same runs, in the same order")
    return finite(one) - finite(other)


def _step_differences(one: Sequence[float], other: Sequence[float]) -> NDArray[np.float64]:
    """Differences rounded to tiny steps, as integers in float [n].

    Differences that are equal up to rounding become equal, and sums do not depend on order.
    """
    plain = differences(one, other)
    exponent = np.frexp(np.abs([one, other]).max())[1]
    return np.rint(np.ldexp(plain, _PRECISION_BITS - exponent))
