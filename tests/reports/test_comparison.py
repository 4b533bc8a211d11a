"""Tables and pictures of comparisons, from records made by hand."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from crumb.experiments.compare import Cell, Comparison
from crumb.reports.comparison import (
    better_than,
    cells_of,
    estimate,
    long_table,
    markdown,
    notes,
    table,
)
from crumb.reports.comparison_figures import _points, annotate, draw, spread
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
    remarks = {
        Cell("gem", 1000): "cannot be run: holds not even one exemplar",
        Cell("agem", 9000): "diverged in run 0: the direct loss is not finite",
        Cell("icarl", 9000): "is being run by another call",
    }
    return Comparison(records, remarks, {"er": {"lr": 0.01}})


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
        "agem diverged in run 0: the direct loss is not finite",
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
    assert "peak_memory_bytes" not in header
    assert all(len(row) == len(header) for row in rows)
    assert header[:3] == ["method", "budget_bytes", "run"]
    assert header[-2:] == ["accuracy_after_task_1", "accuracy_after_task_2"]


def test_a_method_without_exemplars_is_one_point_in_the_pictures(comparison: Comparison):
    points = _points(comparison)
    assert {name: len(rows) for name, rows in points.items()} == {
        "offline": 1,
        "finetune": 1,
        "lwf": 1,
        "er": 2,
        "crumb": 2,
    }


def test_equal_runs_in_another_order_share_a_rank(comparison: Comparison):
    accuracies = [0.1, 0.2, 0.3]
    records = {
        Cell("crumb", 1000): [record(run, 50, a) for run, a in enumerate(accuracies)],
        Cell("er", 1000): [record(run, 50, a) for run, a in enumerate(reversed(accuracies))],
    }
    assert [row.rank for row in table(Comparison(records, {}, {}), 1000)] == [1, 1]


def test_a_budget_without_a_finished_run_has_no_panel(comparison: Comparison, tmp_path):
    records = {Cell("crumb", 9000): comparison.records[Cell("crumb", 9000)]}
    some = Comparison(records, {Cell("crumb", 10): "cannot be run: too little"}, {})
    assert some.budgets == (10, 9000)
    assert len(draw(some, tmp_path)) == 3
    assert "cannot be run: too little" in markdown(some)


def test_without_exemplars_there_is_one_table(tmp_path):
    alone = Comparison({Cell("finetune", None): [record(0, 90, 20)]}, {}, {})
    assert alone.budgets == (None,)
    assert "## no exemplars kept" in markdown(alone)
    assert len(draw(alone, tmp_path)) == 3


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


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20))
def test_labels_are_spread_in_the_order_of_their_values(values: list[float]):
    heights = spread(values, 3.0)
    order = sorted(range(len(values)), key=lambda place: (values[place], place))
    for lower, upper in itertools.pairwise(order):
        assert heights[upper] - heights[lower] >= 3.0 - 1e-9
    assert min(heights) >= 0
    assert max(heights) <= 100 + 1e-9


def test_labels_of_equal_values_stand_evenly_around_them():
    assert spread([50.0, 50.0, 50.0], 4.0) == [46, 50, 54]
    assert spread([0.0, 0.0], 4.0) == [0, 4]
    assert spread([20.0, 10.0], 4.0) == [20, 10]


def test_names_are_in_the_order_of_their_points():
    """Also where the higher point is a little to the left."""
    axes = Figure().subplots()
    axes.set(xlim=(0, 100), ylim=(0, 100))
    annotate(axes, [(50.0, 88.0, "higher", "k"), (50.1, 87.0, "lower", "k")])
    heights = {text.get_text(): text.get_position()[1] for text in axes.texts}
    assert heights["lower"] + 0.02 < heights["higher"]
