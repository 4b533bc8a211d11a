"""Results beside each other, run by run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from crumb.errors import InputError
from crumb.reports.families import Difference, Result, compare, family_of, over_budget, runs_of
from crumb.reports.intervals import bootstrap_interval
from crumb.reports.statistics import paired_permutation, wilcoxon
from crumb.stream.record import RunRecord, Score


def record(run: int, *curve: float) -> RunRecord:
    scores = [
        [Score({(1, "all", "direct"): value}, [value] * (task + 1))]
        for task, value in enumerate(curve)
    ]
    return RunRecord(run, ["a"], scores, [0] * len(curve), seconds=1.0, images=1)


REFERENCE = {run: 70.0 + run for run in range(6)}
WORSE = {run: value - 5 - 0.1 * run for run, value in REFERENCE.items()}


def test_figures_of_runs_by_number():
    records = [record(1, 90, 20), record(0, 80, 40)]
    assert runs_of(records) == {0: 40, 1: 20}
    assert runs_of(records, "average_accuracy") == {0: 60, 1: 55}
    assert runs_of(records, "forgetting") == {0: 40, 1: 70}


@pytest.mark.parametrize(
    ("records", "figure", "problem"),
    [
        ([record(3, 90)], "forgetting", "run 3: has no forgetting"),
        ([record(3, 90), record(3, 90)], "final_accuracy", "run 3: is given twice"),
        ([record(3, 90)], "beauty", "beauty: is not a key figure"),
    ],
)
def test_figures_that_are_not_there_are_refused(records, figure: str, problem: str):
    with pytest.raises(InputError, match=problem):
        runs_of(records, figure)


def result(name: str, finals: Mapping[int, float]) -> Result:
    return Result(name, "crumb", [record(run, value) for run, value in finals.items()])


def beside(finals: Mapping[int, float], others: Mapping[int, float] = REFERENCE) -> Difference:
    (found,) = compare([(result("arm", finals), result("reference", others))])
    return found


def test_a_difference_holds_what_the_statistics_say():
    found = beside(WORSE)
    values, others = [*WORSE.values()], [*REFERENCE.values()]
    gaps = [-5 - 0.1 * run for run in range(6)]
    assert (found.result.name, found.reference.name) == ("arm", "reference")
    assert (found.runs, found.values, found.others) == ([*range(6)], values, others)
    assert found.gaps == pytest.approx(gaps)
    assert found.gap.mean == pytest.approx(-5.25)
    assert found.gap_interval == pytest.approx(bootstrap_interval(gaps))
    assert found.permutation_p == paired_permutation(values, others, 5) == 2 / 64
    assert found.wilcoxon_p == wilcoxon(values, others) == 2 / 64
    assert found.holm_p == found.permutation_p
    assert found.effect.median == pytest.approx(-5.25)
    assert found.effect.standardised is not None
    assert found.effect.standardised < 0


def numbers(one: Difference) -> tuple[object, ...]:
    """What is known without the correction."""
    return one.runs, one.gap, one.gap_interval, one.permutation_p, one.wilcoxon_p, one.effect


def test_other_comparisons_change_only_the_correction():
    rng = np.random.default_rng(0)
    arms = {name: {run: value + rng.normal() for run, value in REFERENCE.items()} for name in "abc"}
    whole = result("reference", REFERENCE)
    found = compare((result(n, arm), whole) for n, arm in {**arms, "worse": WORSE}.items())
    assert [one.result.name for one in found] == ["a", "b", "c", "worse"]
    alone = beside(WORSE)
    assert numbers(alone) == numbers(found[-1])
    assert found[-1].holm_p == 4 * alone.holm_p


def test_order_of_runs_does_not_matter():
    turned = [dict(reversed(runs.items())) for runs in (WORSE, REFERENCE)]
    assert numbers(beside(*turned)) == numbers(beside(WORSE))


def test_what_equals_the_reference_makes_no_difference():
    found = beside(REFERENCE)
    assert (found.gap.mean, found.gap_interval) == (0, (0, 0))
    assert (found.permutation_p, found.wilcoxon_p, found.holm_p) == (1, 1, 1)
    assert (found.effect.standardised, found.effect.median) == (None, 0)


def test_a_single_run_has_a_mean_but_no_interval():
    found = beside({0: 50.0}, {0: 70.0})
    assert (found.gap.mean, found.gap.half, found.gap_interval) == (-20, None, None)
    assert (found.permutation_p, found.wilcoxon_p, found.effect.standardised) == (1, 1, None)


def test_runs_without_a_partner_are_left_out():
    found = beside({1: 60.0, 0: 50.0, 9: 1.0}, {7: 2.0, 1: 61.0, 0: 52.0})
    assert (found.runs, found.gaps) == ([0, 1], [-2, -1])
    assert compare([(result("a", {0: 1.0}), result("b", {1: 1.0}))]) == []


@pytest.mark.parametrize("lost", [math.nan, math.inf])
def test_a_run_that_is_not_finite_is_named(lost: float):
    with pytest.raises(InputError, match="reference: run 4 is not finite"):
        beside(WORSE, {**REFERENCE, 4: lost})
    with pytest.raises(InputError, match="arm: run 2 is not finite"):
        beside({**WORSE, 2: lost})


def test_bounds_stand_last_and_are_compared_with_nothing():
    bound = Result("joint", "offline", [record(run, 99) for run in range(6)])
    alone = Result("other", "er", [record(9, 10)])
    whole = result("whole", REFERENCE)
    family = family_of("all", [bound, alone, result("worse", WORSE), whole], named="whole")
    assert [one.name for one in family.results] == ["whole", "worse", "other", "joint"]
    assert family.baseline is whole
    assert [one.result.name for one in family.differences] == ["worse"]
    assert family.unpaired == [alone]


def test_who_kept_more_than_the_budget():
    """Methods without exemplars are held against the largest budget; a hundredth is allowed."""

    def kept(method: str, replay: int, extra: int, budget: int | None) -> Result:
        run = replace(record(0, 50), replay_bytes=replay, extra_bytes=extra)
        return Result(method, method, [run], budget)

    within = [kept("er", 1000, 10, 1000), kept("agem", 5000, 0, 5000), kept("si", 0, 5050, None)]
    uncounted = kept("gem", 9000, 0, None)
    over = [kept("crumb", 1000, 11, 1000), kept("ewc", 0, 5051, None)]
    bound = kept("offline", 0, 9000, None)
    assert over_budget([*within, uncounted, *over, bound]) == {"crumb", "ewc"}
    assert over_budget([over[1]]) == set()
