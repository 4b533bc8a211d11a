"""Arms matched with a reference, run by run."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from crumb.errors import InputError
from crumb.reports.arms import ArmRow, compare_arms, pair, runs_of
from crumb.reports.statistics import bootstrap_interval, paired_permutation, wilcoxon
from crumb.stream.evaluate import Score
from crumb.stream.record import RunRecord


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
        ([record(3, 90)], "beauty", "beauty: is no figure"),
    ],
)
def test_figures_that_are_not_there_are_refused(records, figure: str, problem: str):
    with pytest.raises(InputError, match=problem):
        runs_of(records, figure)


def test_runs_are_paired_by_number():
    assert pair({2: "c", 0: "a"}, {0: "A", 2: "C"}) == (["a", "c"], ["A", "C"])


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        ({0: 1, 1: 1}, {0: 1, 2: 1, 7: 1}, r"half: lacks runs 2, 7 of ours"),
        ({0: 1, 1: 1}, {0: 1}, r"ours: lacks run 1 of half"),
        ({}, {0: 1}, r"half: has no runs"),
        ({0: 1}, {}, r"ours: has no runs"),
    ],
)
def test_runs_without_a_partner_are_named(one, other, message: str):
    with pytest.raises(InputError, match=message):
        pair(one, other, ("half", "ours"))


def test_a_row_holds_what_the_statistics_say():
    (row,) = compare_arms(REFERENCE, {"half": WORSE}, seed=5)
    values, others = list(WORSE.values()), list(REFERENCE.values())
    gaps = [-5 - 0.1 * run for run in range(6)]
    assert (row.arm, row.runs) == ("half", 6)
    assert row.mean == pytest.approx(67.25)
    assert row.interval == bootstrap_interval(values, 5)
    assert row.difference == pytest.approx(-5.25)
    assert row.difference_interval == pytest.approx(bootstrap_interval(gaps, 5))
    assert row.permutation_p == paired_permutation(values, others, 5) == 2 / 64
    assert row.wilcoxon_p == wilcoxon(values, others) == 2 / 64
    assert row.holm_p == row.permutation_p
    assert row.effect.median == pytest.approx(-5.25)
    assert row.effect.standardised is not None
    assert row.effect.standardised < 0


def without_correction(row: ArmRow) -> dict[str, object]:
    return {**dataclasses.asdict(row), "holm_p": None}


def test_other_arms_change_only_the_correction():
    rng = np.random.default_rng(0)
    arms = {name: {run: value + rng.normal() for run, value in REFERENCE.items()} for name in "abc"}
    rows = compare_arms(REFERENCE, {**arms, "worse": WORSE}, seed=1)
    assert [row.arm for row in rows] == ["a", "b", "c", "worse"]
    (alone,) = compare_arms(REFERENCE, {"worse": WORSE}, seed=1)
    assert without_correction(alone) == without_correction(rows[-1])
    assert rows[-1].holm_p == 4 * alone.holm_p


def test_order_of_runs_does_not_matter():
    turned = [dict(reversed(runs.items())) for runs in (REFERENCE, WORSE)]
    assert compare_arms(turned[0], {"worse": turned[1]}, 3) == compare_arms(
        REFERENCE, {"worse": WORSE}, 3
    )


def test_an_arm_that_is_the_reference_makes_no_difference():
    (row,) = compare_arms(REFERENCE, {"weights only": REFERENCE}, 0)
    assert (row.difference, row.difference_interval) == (0, (0, 0))
    assert (row.permutation_p, row.wilcoxon_p, row.holm_p) == (1, 1, 1)
    assert (row.effect.standardised, row.effect.median) == (None, 0)


def test_a_single_run_has_means_but_no_intervals():
    (row,) = compare_arms({0: 70.0}, {"one block": {0: 50.0}}, 0)
    assert (row.mean, row.difference) == (50, -20)
    assert (row.interval, row.difference_interval, row.effect.standardised) == (None, None, None)
    assert (row.permutation_p, row.wilcoxon_p) == (1, 1)


@pytest.mark.parametrize(
    ("reference", "arms", "message"),
    [
        (REFERENCE, {}, "arms: are missing"),
        ({}, {"half": WORSE}, "the reference: has no runs"),
        (REFERENCE, {"half": WORSE, "none": {}}, "none: has no runs"),
        (REFERENCE, {"half": {0: 1.0}}, "half: lacks runs 1, 2, 3, 4, 5 of the reference"),
        (REFERENCE, {"half": {**WORSE, 9: 1.0}}, "the reference: lacks run 9 of half"),
        (REFERENCE, {"half": {**WORSE, 2: math.nan}}, "half: run 2 is not finite"),
        ({**REFERENCE, 4: math.inf}, {"half": WORSE}, "the reference: run 4 is not finite"),
    ],
)
def test_what_cannot_be_compared_is_named(reference, arms, message: str):
    with pytest.raises(InputError, match=message):
        compare_arms(reference, arms, 0)
