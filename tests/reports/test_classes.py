"""Confusions and forgetting by class, against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crumb.reports.classes import (
    class_forgetting,
    class_forgetting_panel,
    confusion_panel,
    confusion_shares,
)
from crumb.reports.intervals import bootstrap_interval
from crumb.stream.record import RunRecord, Score


def a_record(run: int = 0, first: float = 90.0, classes: tuple[str, ...] = ("bed", "car", "cup")):
    """Of bed 90 -> 70 -> 30, of car 50 -> 60 -> 80; cup comes with the last task."""

    def score(*by_class: float) -> list[Score]:
        return [Score({(1, "all", "direct"): 50.0}, [], [*by_class])]

    return RunRecord(
        run,
        [*classes],
        scores=[score(first, 50), score(70, 60), score(30, 80, 100)],
        reported=[0, 0, 0],
        seconds=1.0,
        confusion=[[0, 0, 3], [0, 1, 1], [1, 1, 4], [2, 0, 1], [2, 1, 1], [2, 2, 2]],
    )


def test_forgetting_of_each_class():
    assert class_forgetting(a_record()) == {"bed": (90, 30), "car": (60, 80)}


def test_shares_of_each_class():
    expected = [[75, 25, 0], [0, 100, 0], [25, 25, 50]]
    np.testing.assert_array_equal(confusion_shares(a_record()), expected)


def test_forgetting_of_three_runs_with_its_interval():
    panel = class_forgetting_panel([a_record(0, 90), a_record(1, 80), a_record(2, 82)])
    assert panel is not None
    bed, car = map(list, panel.rows)
    # 60, 50 and 52 points.
    name, mean, low, high, *others = bed
    assert [name, mean, *others] == ["bed", 54, 84, 30, 3]
    assert (low, high) == bootstrap_interval([60, 50, 52], 0)
    # Three equal runs: an interval without width; better than ever is no forgetting.
    assert car == ["car", -20, -20, -20, 60, 80, 3]
    assert "95 % bootstrap interval" in panel.caption


def test_confusions_of_two_orders_of_classes():
    """In the second run cup has the place of bed, and the other way round."""
    other = a_record(1, classes=("cup", "car", "bed"))
    panel = confusion_panel([a_record(), other])
    assert panel is not None
    cells = {(name, taken): numbers for name, taken, *numbers in panel.rows}
    assert cells["bed", "bed"] == [62.5, 50, 75]
    assert cells["bed", "car"] == [25, 25, 25]
    assert cells["car", "car"] == [100, 100, 100]
    assert cells["cup", "bed"] == [12.5, 0, 25]


def test_of_one_run_there_is_no_interval():
    panel = class_forgetting_panel([a_record()])
    assert panel is not None
    assert panel.rows[0][:4] == ["bed", 60, None, None]
    assert "no interval" in panel.caption


@pytest.mark.parametrize("build", [confusion_panel, class_forgetting_panel])
def test_what_was_not_noted_is_not_drawn(build):
    old = replace(a_record(1), confusion=None, scores=[[Score({}, [])]], reported=[0])
    assert build([a_record(), old]) is None


def test_a_single_task_has_no_forgetting():
    record = a_record()
    assert (
        class_forgetting_panel([replace(record, scores=record.scores[-1:], reported=[0])]) is None
    )


def test_many_classes_are_drawn_without_their_names():
    names = [f"class {n}" for n in range(50)]
    scores = [[Score({}, [], [float(n) for n in range(50)])], [Score({}, [], [0.0] * 50)]]
    record = RunRecord(0, names, scores, [0, 0], confusion=[[n, n, 1] for n in range(50)])
    confusion, forgetting = confusion_panel([record]), class_forgetting_panel([record])
    assert confusion is not None
    assert forgetting is not None
    assert len(confusion.rows) == 2500
    assert "40 most forgotten of 50" in forgetting.caption
    assert forgetting.rows[0][:2] == ["class 49", 49]
