"""Statistics over runs, against scipy, hand-worked cases and simulations without an effect."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from crumb.errors import InputError
from crumb.reports.intervals import bootstrap_interval, estimate
from crumb.reports.statistics import (
    BATCH_WARNING,
    batch_t_test,
    differences,
    effect_size,
    holm,
    paired_permutation,
    smallest_p,
    wilcoxon,
)

# What accuracies on 2,250 images can be; their differences are rich in ties.
counts = st.integers(0, 2250).map(float)
accuracies = counts.map(lambda right: 100 * right / 2250)


def arms(most: int = 9, least: int = 1, values=accuracies):
    pairs = st.tuples(values, values)
    return st.lists(pairs, min_size=least, max_size=most).map(
        lambda rows: ([one for one, _ in rows], [other for _, other in rows])
    )


def zeros(values) -> list[float]:
    return [0.0] * len(values)


# Estimate


def test_estimate_is_students_interval():
    values = [71.2, 69.9, 73.4, 70.0, 72.8]
    mean, error = float(np.mean(values)), float(stats.sem(values))
    low, high = stats.t.interval(0.95, 4, mean, error)
    found = estimate(values)
    assert found.mean == pytest.approx(mean)
    assert found.half == pytest.approx((high - low) / 2)
    assert (found.low, found.high) == (69.9, 73.4)


# Bootstrap


def test_interval_is_that_of_scipy():
    values = [71.2, 69.9, 73.4, 70.0, 79.8, 70.4, 70.7]
    found = bootstrap_interval(values, seed=1, resamples=50_000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=50_000, rng=np.random.default_rng(5)
    ).confidence_interval
    assert found == pytest.approx((theirs.low, theirs.high), abs=0.1)
    # Skewed runs: the corrected interval reaches further up than down.
    assert found is not None
    assert found[1] - np.mean(values) > 1.3 * (np.mean(values) - found[0])


def test_interval_of_three_runs_is_their_range():
    # One resample in 27 is the lowest run thrice, which is more than 2.5 %.
    assert bootstrap_interval([1.0, 2.0, 3.0], seed=0) == (1.0, 3.0)


def test_interval_of_few_or_equal_runs():
    assert bootstrap_interval([70.0], seed=0) is None
    assert bootstrap_interval([70.0, 71.0], seed=0) is None
    assert bootstrap_interval([70.0, 70.0], seed=0) is None
    assert bootstrap_interval([70.1] * 5, seed=0) == (70.1, 70.1)
    # Equal but for rounding.
    low, high = bootstrap_interval([0.3, 0.1 + 0.2, 0.3], seed=0) or (0, 1)
    assert (low, high) == pytest.approx((0.3, 0.3))


def test_interval_counts_ties_with_the_mean():
    """Rounding must not tell resamples of all runs, in another order, from the runs."""
    values = [100 * right / 2250 for right in (0, 1, 20, 190)]
    small = bootstrap_interval([value / 1000 for value in values], 7, 1000)
    assert small is not None
    assert bootstrap_interval(values, 7, 1000) == pytest.approx([1000 * end for end in small])


def test_interval_follows_its_seed_and_level():
    values = [71.2, 69.9, 73.4, 70.0, 72.8, 70.3, 75.7, 66.7]
    assert bootstrap_interval(values, 3) == bootstrap_interval(values, 3)
    assert bootstrap_interval(values, 3, 1000) != bootstrap_interval(values, 4, 1000)
    narrow, wide = (bootstrap_interval(values, 3, level=level) for level in (0.5, 0.99))
    assert narrow is not None
    assert wide is not None
    assert wide[0] < narrow[0] < np.mean(values) < narrow[1] < wide[1]


@pytest.mark.parametrize(("resamples", "level"), [(999, 0.95), (1000, 0.0), (1000, 1.0)])
def test_settings_out_of_range_are_refused(resamples: int, level: float):
    with pytest.raises(InputError, match="out of range"):
        bootstrap_interval([1.0, 2.0, 3.0], 0, resamples, level)


@settings(max_examples=50)
@given(st.lists(accuracies, min_size=3, max_size=12), st.randoms(), st.sampled_from([-3, 0, 5]))
def test_interval_depends_on_neither_order_nor_unit(values, random, power):
    found = bootstrap_interval(values, 7, 1000)
    assert found is not None
    slack = 1e-9
    assert min(values) - slack <= found[0] <= found[1] <= max(values) + slack
    shuffled = random.sample(values, len(values))
    assert bootstrap_interval(shuffled, 7, 1000) == found
    scaled = bootstrap_interval([10.0**power * value for value in values], 7, 1000)
    assert scaled == pytest.approx([10.0**power * end for end in found], rel=1e-6)


@pytest.mark.parametrize(("runs", "share"), [(3, 0.72), (5, 0.84), (10, 0.90)])
def test_interval_covers_what_the_docstring_says(runs: int, share: float):
    draws = np.random.default_rng(0).normal(size=(400, runs)).tolist()
    found = [bootstrap_interval(values, 1, 1000) or (1, -1) for values in draws]
    assert np.mean([low <= 0 <= high for low, high in found]) == pytest.approx(share, abs=0.04)


# Permutation test


def test_permutation_by_hand():
    # Of the sums +-1 +-2 +-3, 6 and -6 are as far from zero as 6.
    assert paired_permutation([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], 0) == 2 / 8
    # As far as 4: +-6 and +-4.
    assert paired_permutation([-1.0, 2.0, 3.0], [0.0, 0.0, 0.0], 0) == 4 / 8
    # All sums are as far from zero as 0, those of 0.1 + 0.2 - 0.3 too, which rounding moves.
    assert paired_permutation([0.1, 0.2, -0.3], [0.0, 0.0, 0.0], 0) == 1
    assert paired_permutation([5.0, 5.0], [5.0, 5.0], 0) == 1
    assert paired_permutation([5.0], [4.0], 0) == 1


@settings(max_examples=60)
@given(arms(least=2, values=counts))
def test_permutation_is_that_of_scipy(both):
    one, other = both
    theirs = stats.permutation_test(
        (one, other),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**20,
    )
    assert paired_permutation(one, other, 0) == pytest.approx(theirs.pvalue)


@pytest.mark.parametrize("runs", [1, 2, 5, 10, 14])
def test_smallest_p_is_reached_and_never_undercut(runs: int):
    values = [float(2**place) for place in range(runs)]
    assert paired_permutation(values, zeros(values), 0) == smallest_p(runs) == 2 / 2**runs
    assert wilcoxon(values, zeros(values)) == smallest_p(runs)


def test_five_runs_are_never_significant_and_ten_can_be():
    assert smallest_p(5) == 0.0625
    assert smallest_p(10) < 0.002
    assert smallest_p(14) == smallest_p(2**20) * 2


def test_beyond_14_runs_assignments_are_drawn():
    values = np.random.default_rng(2).normal(0.4, 1, 15).tolist()
    signs = np.array(list(itertools.product((-1, 1), repeat=15)))
    exact = np.mean(np.abs(signs @ np.abs(values)) >= abs(sum(values)) - 1e-9)
    found = paired_permutation(values, zeros(values), 3)
    assert found == paired_permutation(values, zeros(values), 3)
    assert found != paired_permutation(values, zeros(values), 4)
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact / 2**14))
    clear = [float(value) for value in range(10, 40)]
    assert paired_permutation(clear, zeros(clear), 0) == smallest_p(30) == 1 / 2**14


def test_drawn_p_depends_on_no_order():
    values = np.random.default_rng(2).normal(0.4, 1, 18).tolist()
    found = {
        paired_permutation(*both, 3)
        for row in (values, values[::-1], sorted(values))
        for both in ((row, zeros(row)), (zeros(row), row))
    }
    assert len(found) == 1


@pytest.mark.parametrize("unit", [1 / 7, 100 / 2250, 0.1])
def test_sums_that_rounding_tells_apart_are_equal(unit: float):
    # Of the 32 sums of +-1 +-2 +-3 +-4 +-5, 14 are as far from zero as -7.
    values = [unit * size for size in (1, -2, 3, -4, -5)]
    assert paired_permutation(values, zeros(values), 0) == 14 / 32


def test_differences_of_zero_change_nothing():
    values = [1.0, 2.0, 4.0, 8.0]
    more = [*values, *zeros(range(30))]
    assert paired_permutation(more, zeros(more), 0) == paired_permutation(values, zeros(values), 0)
    assert wilcoxon(more, zeros(more)) == wilcoxon(values, zeros(values)) == 1 / 8


# Both paired tests


TESTS = {"permutation": lambda one, other: paired_permutation(one, other, 0), "rank": wilcoxon}
both_tests = pytest.mark.parametrize("test", TESTS.values(), ids=TESTS.keys())


@both_tests
@settings(max_examples=60)
@given(arms(most=20), st.randoms())
def test_p_depends_on_neither_side_nor_order(test, both, random):
    one, other = both
    found = test(one, other)
    assert 0 < found <= 1
    assert test(other, one) == found
    order = random.sample(range(len(one)), len(one))
    assert test([one[place] for place in order], [other[place] for place in order]) == found


@both_tests
@settings(max_examples=60)
@given(arms(values=counts))
def test_p_depends_on_no_unit(test, both):
    """Percentages, rounded as they are, have the ties of the counts they come from."""
    one, other = ([100 * right / 2250 for right in arm] for arm in both)
    assert test(one, other) == test(*both)


@both_tests
@given(st.lists(st.integers(-40, 40), min_size=1, max_size=6))
def test_p_is_exact_over_all_signs(test, sizes):
    """Without an effect every assignment of signs is equally likely: P(p <= a) <= a for all a."""
    signs = itertools.product((-1, 1), repeat=len(sizes))
    values = [[sign * size / 7 for sign, size in zip(row, sizes, strict=True)] for row in signs]
    found = np.array([test(row, zeros(row)) for row in values])
    for level in np.unique(found):
        assert np.mean(found <= level) <= level + 1e-12


@both_tests
def test_p_is_uniform_without_an_effect(test):
    rng = np.random.default_rng(11)
    one, other = rng.normal(70, 3, (2, 600, 10)) + rng.normal(0, 5, (600, 10))
    found = np.array([test(*both) for both in zip(one.tolist(), other.tolist(), strict=True)])
    # Ranks take fewer values than sums: up to 8 % of all assignments of signs share a p-value.
    slack = 0.08 if test is wilcoxon else 1 / 512
    distance = stats.kstest(found, "uniform").statistic
    assert distance < slack + stats.kstwo.ppf(0.99, len(found))
    for level in (0.01, 0.05, 0.1, 0.3):
        allowed = stats.binom.ppf(0.999, len(found), level) / len(found)
        assert np.mean(found <= level) <= allowed


def test_drawn_p_is_uniform_without_an_effect():
    rows = np.random.default_rng(12).standard_t(3, (150, 16)).tolist()
    found = [paired_permutation(row, zeros(row), seed) for seed, row in enumerate(rows)]
    assert stats.kstest(found, "uniform").pvalue > 0.01


@both_tests
def test_an_effect_is_found(test):
    rng = np.random.default_rng(13)
    one, other = rng.normal(70, 1, (2, 10))
    assert test((one + 3).tolist(), other.tolist()) < 0.01


@both_tests
@pytest.mark.parametrize(
    ("one", "other", "problem"),
    [
        ([1.0, 2.0], [1.0], "are 2 and 1"),
        ([], [], "are missing"),
        ([1.0, math.nan], [1.0, 2.0], "not finite"),
        ([1.0, 2.0], [1.0, math.inf], "not finite"),
    ],
)
def test_bad_runs_are_refused(test, one, other, problem):
    for call in (test, effect_size, differences):
        with pytest.raises(InputError, match=problem):
            call(one, other)


# Wilcoxon


@settings(max_examples=60)
@given(st.lists(st.integers(1, 10**6), unique=True, min_size=1, max_size=30), st.randoms())
def test_ranks_without_ties_are_those_of_scipy(sizes, random):
    values = [float(size * random.choice((-1, 1))) for size in sizes]
    _, theirs = stats.wilcoxon(values, method="exact")
    assert wilcoxon(values, zeros(values)) == pytest.approx(theirs)


@settings(max_examples=60)
@given(st.lists(st.integers(-3, 3).filter(bool), min_size=1, max_size=8))
def test_tied_ranks_are_exact(values):
    ranks = stats.rankdata(np.abs(values))
    sums = np.abs([np.dot(row, ranks) for row in itertools.product((-1, 1), repeat=len(values))])
    exact = np.mean(sums >= abs(np.dot(np.sign(values), ranks)))
    assert wilcoxon(list(map(float, values)), zeros(values)) == pytest.approx(exact)


def test_ties_that_rounding_hides_are_ties():
    # Differences of 0.1, 0.1 and -0.1 all: each has rank 2, and every sum is as far as 2.
    assert 70.3 - 70.2 != 0.3 - 0.2
    assert wilcoxon([70.3, 0.3, 5.0], [70.2, 0.2, 5.1]) == 1


def test_ranks_do_not_care_how_far_an_outlier_is():
    other = zeros(range(6))
    near, far = [1.0, 2.0, 3.0, 4.0, 5.0, -6.0], [1.0, 2.0, 3.0, 4.0, 5.0, -60.0]
    assert wilcoxon(near, other) == wilcoxon(far, other)
    assert paired_permutation(near, other, 0) < paired_permutation(far, other, 0)


# Holm


def test_holm_by_hand():
    raw = {"no replay": 0.01, "half": 0.04, "frozen": 0.03, "uniform": 0.005}
    # 4 x 0.005, 3 x 0.01, 2 x 0.03, then 0.04 raised to the one before.
    assert holm(raw) == pytest.approx(
        {"no replay": 0.03, "half": 0.06, "frozen": 0.06, "uniform": 0.02}
    )
    assert list(holm(raw)) == list(raw)
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1, "b": 1}
    assert holm({}) == {}


@given(st.dictionaries(st.text(), st.floats(0, 1), max_size=8))
def test_holm_keeps_order_and_lowers_nothing(raw):
    adjusted = holm(raw)
    assert all(raw[name] <= adjusted[name] <= 1 for name in raw)
    for one, other in itertools.permutations(raw, 2):
        assert raw[one] > raw[other] or adjusted[one] <= adjusted[other]
    assert holm(dict(reversed(raw.items()))) == adjusted
    bonferroni = {name: min(1, p * len(raw)) for name, p in raw.items()}
    assert all(adjusted[name] <= bonferroni[name] for name in raw)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.999))
def test_holm_rejects_what_the_procedure_rejects(values, level):
    adjusted = holm({str(place): p for place, p in enumerate(values)})
    rejected = 0
    for place, p in enumerate(sorted(values)):
        if (len(values) - place) * p > level:
            break
        rejected += 1
    assert sum(p <= level for p in adjusted.values()) == rejected


def test_holm_holds_the_chance_of_any_false_rejection():
    tables = np.random.default_rng(4).uniform(size=(2000, 5))
    least = [min(holm(dict(zip("abcde", row, strict=True))).values()) for row in tables.tolist()]
    assert np.mean(np.array(least) <= 0.05) <= stats.binom.ppf(0.999, 2000, 0.05) / 2000


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_holm_refuses_what_is_no_p_value(p: float):
    with pytest.raises(InputError, match="half capacity"):
        holm({"half capacity": p})


# Effect size


def test_effect_by_hand():
    # Differences 1, 2, 3, 4, 10: mean 4, deviation sqrt(50 / 4), J = 0.7979 for 4 degrees.
    found = effect_size([11.0, 12.0, 13.0, 14.0, 20.0], [10.0] * 5)
    assert found.standardised == pytest.approx(0.797885 * 4 / math.sqrt(12.5), rel=1e-5)
    assert found.median == 3


def test_effect_of_few_or_equal_differences():
    assert effect_size([3.0], [1.0]).standardised is None
    assert effect_size([3.0, 5.0], [1.0, 2.0]).standardised is None
    assert effect_size([3.0, 5.0], [1.0, 2.0]).median == 2.5
    equal = effect_size([0.3, 70.3, 5.1], [0.2, 70.2, 5.0])
    assert equal.standardised is None
    assert equal.median == pytest.approx(0.1)


def test_corrected_effect_is_right_on_average():
    """The plain one is a quarter too large for 5 runs."""
    rows = np.random.default_rng(6).normal(1, 1, (4000, 5)).tolist()
    found = [effect_size(row, zeros(row)).standardised for row in rows]
    assert np.mean([size for size in found if size is not None]) == pytest.approx(1, abs=0.04)
    plain = [np.mean(row) / np.std(row, ddof=1) for row in rows]
    assert np.mean(plain) > 1.2


@given(arms(), st.randoms())
def test_effect_turns_with_its_arms(both, random):
    one, other = both
    found, turned = effect_size(one, other), effect_size(other, one)
    assert turned.median == -found.median
    assert (found.standardised is None) == (turned.standardised is None)
    assert turned.standardised == pytest.approx(found.standardised and -found.standardised)
    order = random.sample(range(len(one)), len(one))
    shuffled = effect_size([one[place] for place in order], [other[place] for place in order])
    assert shuffled == found


# The original's test


def test_batch_t_test_is_that_of_scipy_over_all_batches():
    one, other = np.random.default_rng(8).normal(70, 5, (2, 5, 22))
    theirs = stats.ttest_rel(one.ravel(), other.ravel())
    found = batch_t_test(one.tolist(), other.tolist())
    assert (found.statistic, found.p) == pytest.approx((theirs.statistic, theirs.pvalue))
    assert (found.pairs, found.runs) == (110, 5)
    assert "overstates" in found.warning == BATCH_WARNING


def test_batch_t_test_overstates_where_runs_are_what_varies():
    """Runs differ by chance, batches hardly: far more than 5 % are called significant."""
    rng = np.random.default_rng(9)
    false = {"batches": 0, "runs": 0}
    for _ in range(200):
        one, other = (70 + rng.normal(0, 2, (7, 1)) + rng.normal(0, 1, (7, 22)) for _ in range(2))
        false["batches"] += batch_t_test(one.tolist(), other.tolist()).p < 0.05
        means = [arm.mean(axis=1).tolist() for arm in (one, other)]
        false["runs"] += paired_permutation(means[0], means[1], 0) < 0.05
    assert false["batches"] > 100
    assert false["runs"] <= stats.binom.ppf(0.999, 200, 0.05)


def test_batch_t_test_of_equal_differences():
    same = batch_t_test([[70.0, 80.0]], [[70.0, 80.0]])
    assert (same.statistic, same.p) == (0, 1)
    less = batch_t_test([[70.0], [80.0]], [[71.0], [81.0]])
    assert (less.statistic, less.p) == (-math.inf, 0)


@pytest.mark.parametrize(
    ("one", "other"), [([[1.0, 2.0]], [[1.0], [2.0]]), ([[1.0]], [[2.0]]), ([], [])]
)
def test_batch_t_test_refuses_what_is_no_pairs(one, other):
    with pytest.raises(InputError):
        batch_t_test(one, other)
