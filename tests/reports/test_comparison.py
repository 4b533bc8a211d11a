"""Tables and pictures of comparisons, from records made by hand."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from crumb.cli.compare import write
from crumb.experiments.compare import Cell, Comparison
from crumb.reports import comparison as tables
from crumb.reports.comparison import families, long_table, markdown
from crumb.reports.drawing import apart, name_points
from crumb.stream.record import RunRecord, Score


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
    return Comparison(records, remarks, {Cell("er", 1000): {"lr": 0.01, "storage": "image"}})


def table(comparison: Comparison, budget: int | None) -> dict[str, dict[str, str]]:
    """Cells by method, then column."""
    found = tables.table(comparison, families(comparison)[budget])
    return {row[0]: dict(zip(found.head, row, strict=True)) for row in found.shown()}


def notes(comparison: Comparison, budget: int) -> list[str]:
    return tables.notes(comparison, families(comparison)[budget], budget)


def test_rows_are_ranked_by_mean_final_accuracy_within_a_budget(comparison: Comparison):
    small, large = (table(comparison, budget) for budget in (1000, 9000))
    assert [(name, cells["rank"]) for name, cells in small.items()] == [
        ("offline", "-"),
        ("er", "1"),
        ("crumb", "2"),
        ("finetune", "3"),
        # A copy of the tail is counted as well.
        ("lwf", "over budget"),
    ]
    assert [*large] == ["offline", "crumb", "er", "finetune", "lwf"]


def test_a_row_holds_means_and_the_most_bytes(comparison: Comparison):
    rows = table(comparison, 1000)
    assert rows["lwf"]["all extra bytes"] == "5,000,000"
    assert (rows["crumb"]["replay bytes"], rows["crumb"]["all extra bytes"]) == ("900", "990")
    # Two runs: 60 and 66.
    assert rows["er"]["final accuracy, %"] == "63.0 ± 4.2"
    assert rows["er"]["settings"] == "lr 0.01, storage image"
    assert rows["crumb"]["settings"] == table(comparison, 9000)["er"]["settings"] == "defaults"


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
    assert "not all methods have the same number of runs" in notes(comparison, 1000)
    row = table(comparison, 1000)["er"]
    assert (row["final accuracy, %"], row["runs"]) == ("60.0", "1")


def test_markdown_and_long_table_hold_every_run(comparison: Comparison):
    text = markdown(comparison)
    assert text.count("\n## ") == 2
    assert "| er | 1 | 63.0 ± 4.2 |" in text
    long = long_table(comparison)
    header = long.head
    assert len(long.rows) == 14
    assert "peak_memory_bytes" not in header
    assert all(len(row) == len(header) for row in long.rows)
    assert header[:3] == ["method", "budget_bytes", "run"]
    assert header[-2:] == ["accuracy_after_task_1", "accuracy_after_task_2"]


def test_equal_runs_in_another_order_share_a_rank():
    accuracies = [0.1, 0.2, 0.3]
    records = {
        Cell("crumb", 1000): [record(run, 50, a) for run, a in enumerate(accuracies)],
        Cell("er", 1000): [record(run, 50, a) for run, a in enumerate(reversed(accuracies))],
    }
    assert [row["rank"] for row in table(Comparison(records, {}, {}), 1000).values()] == ["1", "1"]


def test_a_budget_without_a_finished_run_has_no_panel(comparison: Comparison, tmp_path):
    records = {Cell("crumb", 9000): comparison.records[Cell("crumb", 9000)]}
    some = Comparison(records, {Cell("crumb", 10): "cannot be run: too little"}, {})
    assert some.budgets == (10, 9000)
    assert len(write(some, tmp_path)) == 5
    assert "cannot be run: too little" in markdown(some)


def test_without_exemplars_there_is_one_table(tmp_path):
    alone = Comparison({Cell("finetune", None): [record(0, 90, 20)]}, {}, {})
    assert alone.budgets == (None,)
    assert "## no exemplars kept" in markdown(alone)
    assert len(write(alone, tmp_path)) == 5


def test_pictures(comparison: Comparison, tmp_path):
    for path in write(comparison, tmp_path)[2:]:
        with Image.open(path) as picture:
            assert min(picture.size) > 500
            assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 50


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20))
def test_labels_are_spread_in_the_order_of_their_values(values: list[float]):
    heights = apart(values, 3.0)
    order = sorted(range(len(values)), key=lambda place: (values[place], place))
    for lower, upper in itertools.pairwise(order):
        assert heights[upper] - heights[lower] >= 3.0 - 1e-9
    assert min(heights) >= 0
    assert max(heights) <= 100 + 1e-9


def test_labels_of_equal_values_stand_evenly_around_them():
    assert apart([50.0, 50.0, 50.0], 4.0) == [46, 50, 54]
    assert apart([0.0, 0.0], 4.0) == [0, 4]
    assert apart([20.0, 10.0], 4.0) == [20, 10]


def test_names_are_in_the_order_of_their_points():
    """Also where the higher point is a little to the left."""
    axes = Figure().subplots()
    axes.set(xlim=(0, 100), ylim=(0, 100))
    name_points(axes, [(50.0, 88.0, "higher", "k"), (50.1, 87.0, "lower", "k")])
    heights = {text.get_text(): text.get_position()[1] for text in axes.texts}
    assert heights["lower"] + 0.02 < heights["higher"]
