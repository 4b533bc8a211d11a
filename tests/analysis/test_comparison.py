"""Tables and pictures of comparisons, from records made by hand."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from crumb.analysis.comparison import (
    better_than,
    cells_of,
    estimate,
    long_table,
    markdown,
    notes,
    table,
)
from crumb.analysis.comparison_figures import draw, spread
from crumb.stream.compare import Cell, Comparison
from crumb.stream.evaluate import Score
from crumb.stream.record import RunRecord


def record(run: int, *curve: float, replay: int = 0, extra: int = 0) -> RunRecord:
    scores = [
        [Score({(1, "all", "direct"): value}, [value] * (task + 1))]
        for task, value in enumerate(curve)
    ]
    classes = [str(number) for number in range(2 * len(curve))]
    reported = [0] * len(curve)
    return RunRecord(
        run,
        classes,
        scores,
        reported,
        replay_bytes=replay,
        extra_bytes=extra,
        seconds=10.0,
        images=100,
    )


@pytest.fixture
def comparison() -> Comparison:
    records = {
        Cell("finetune", None): [record(0, 90, 20), record(1, 90, 30)],
        Cell("offline", None): [record(0, 95, 93), record(1, 95, 95)],
        Cell("lwf", None): [record(0, 90, 40, extra=5_000_000), record(1, 90, 44, extra=9)],
        Cell("crumb", 1000): [record(0, 90, 40, replay=900, extra=90), record(1, 90, 44)],
        Cell("er", 1000): [record(0, 90, 60, replay=990), record(1, 90, 66)],
        Cell("crumb", 9000): [record(0, 90, 80, replay=8_900), record(1, 90, 84)],
        Cell("er", 9000): [record(0, 90, 70, replay=8_000), record(1, 90, 72)],
    }
    impossible = {Cell("gem", 1000): "holds not even one exemplar"}
    diverged = {Cell("agem", 9000): "the direct loss is not finite"}
    busy = (Cell("icarl", 9000),)
    tuned = {"er": {"lr": 0.01}}
    return Comparison((1000, 9000), records, impossible, diverged, busy, tuned)


def test_rows_are_ranked_by_mean_final_accuracy_within_a_budget(comparison: Comparison):
    small, large = (table(comparison, budget) for budget in (1000, 9000))
    assert [(row.method, row.rank) for row in small] == [
        ("offline", None),
        ("er", 1),
        ("crumb", 2),
        ("lwf", 2),
        ("finetune", 4),
    ]
    assert [row.method for row in large] == ["offline", "crumb", "er", "lwf", "finetune"]
    assert better_than(small) == ["er"]
    assert better_than(large) == []


def test_a_row_holds_means_and_the_most_bytes(comparison: Comparison):
    rows = {row.method: row for row in table(comparison, 1000)}
    assert rows["lwf"].total_bytes == 5_000_000
    assert (rows["crumb"].replay_bytes, rows["crumb"].total_bytes) == (900, 990)
    assert rows["er"].final.mean == 63
    # Two runs: t is 12.706, the deviation 4.243.
    assert rows["er"].final.half == pytest.approx(12.706 * math.sqrt(18) / math.sqrt(2), rel=1e-3)
    assert cells_of(rows["er"])[-1] == "lr 0.01"
    assert cells_of(rows["crumb"])[-1] == "no"


def test_notes_name_who_beats_crumb_and_what_is_missing(comparison: Comparison):
    assert notes(comparison, 1000) == [
        "better than crumb by mean final accuracy: er",
        "gem cannot be run: holds not even one exemplar",
    ]
    assert notes(comparison, 9000) == [
        "better than crumb by mean final accuracy: none",
        "agem diverged: the direct loss is not finite",
        "icarl is being run by another call",
    ]


def test_unequal_numbers_of_runs_are_said(comparison: Comparison):
    comparison.records[Cell("er", 1000)].pop()
    assert "not all methods have equally many runs" in notes(comparison, 1000)
    (row,) = (row for row in table(comparison, 1000) if row.method == "er")
    assert (str(row.final), row.runs) == ("60.0", 1)


def test_markdown_and_long_table_hold_every_run(comparison: Comparison):
    text = markdown(comparison)
    assert text.count("\n## ") == 2
    assert "| er | 1 | 63.0 ± 38.1 |" in text
    header, rows = long_table(comparison)
    assert len(rows) == 14
    assert all(len(row) == len(header) for row in rows)
    assert header[:3] == ["method", "budget_bytes", "run"]
    assert header[-2:] == ["accuracy_after_task_1", "accuracy_after_task_2"]


def test_pictures(comparison: Comparison, tmp_path):
    for path in draw(comparison, tmp_path):
        with Image.open(path) as picture:
            assert min(picture.size) > 500
            assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 50


def test_estimate_of_five_runs():
    # t of 4 degrees of freedom is 2.776; the deviation of 1..5 is 1.581.
    found = estimate([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.mean == 3
    assert found.half == pytest.approx(2.776 * 1.5811 / math.sqrt(5), rel=1e-3)
    assert estimate([4.0]).half is None


@given(st.lists(st.floats(0, 100), min_size=1, max_size=25))
def test_labels_are_spread_in_the_order_of_their_values(values: list[float]):
    heights = spread(values, 3.0)
    order = sorted(range(len(values)), key=lambda place: (values[place], place))
    for lower, upper in itertools.pairwise(order):
        assert heights[upper] - heights[lower] >= 3.0 - 0.2
