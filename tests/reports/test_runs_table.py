"""Key figures of results folders, and how two of them differ, with numbers worked by hand."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crumb.errors import InputError
from crumb.reports.runs import (
    long_table,
    named,
    notes,
    paired,
    paired_table,
    setting_table,
    table,
    unfinished,
)
from crumb.stream.folders import ResultsFolder, Survey
from crumb.stream.positions import RunPosition
from crumb.stream.record import RunRecord, Score

ROOT = Path("/all")
SETTINGS = {
    "command": "stream",
    "crumb": "0.1.0",
    "stream.method": "er",
    "stream.dataset": "/data/cups",
    "stream.protocol": "iid",
    "stream.first_run": 0,
    "stream.runs": 5,
    "stream.layout.classes_per_task": 2,
    "method.lr": 0.1,
    "files.index": "0123456789abcdef" * 4,
}


def record(run: int, first: float, last: float) -> RunRecord:
    """Two tasks: an accuracy after each, which is also that on the first task's classes."""
    scores = [
        [Score({(1, "all", "direct"): first}, [first])],
        [Score({(1, "all", "direct"): last}, [last, 90.0])],
    ]
    return RunRecord(run, ["cup", "ball"], scores, [0, 0], [], 1000 + run, 40, 2.0, 90)


def folder(
    name: str,
    finals: Mapping[int, float],
    places: Mapping[int, RunPosition] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> ResultsFolder:
    records = [record(run, 80.0, final) for run, final in finals.items()]
    return ResultsFolder(ROOT / name, {**SETTINGS, **(changes or {})}, records, places or {})


def test_a_row_holds_means_and_deviations():
    found = Survey(ROOT, [folder("er", {run: 51.0 + run for run in range(5)})], {})
    head, (row,) = table(found).head, table(found).shown()
    assert "unfinished" not in head
    # Finals 51 to 55: the sample standard deviation is 1.581.
    assert row[:6] == ["er", "er", "cups", "iid", "5 of 5", "53.0 ± 1.6"]
    cells = dict(zip(head, row, strict=True))
    assert cells["average accuracy, %"] == "66.5 ± 0.8"
    assert cells["forgetting, points"] == "27.0 ± 1.6"
    assert (cells["replay bytes"], cells["seconds a run"]) == ("1,004", "2")


def test_unfinished_folders_have_no_figures():
    one = folder("a", {}, {3: RunPosition(2, 10)}, {"command": "pretrain", "stream.runs": 1})
    found = table(Survey(ROOT, [one], {}))
    head, (row,) = found.head, found.shown()
    cells = dict(zip(head, row, strict=True))
    assert cells["method"] == "er (pretrain)"
    assert (cells["runs"], cells["unfinished"]) == (
        "0 of 2",
        "run 3: task 3 of 10; run 0 not begun",
    )
    assert set(row[6:]) == {"-"}


@pytest.mark.parametrize(
    ("finals", "places", "text"),
    [
        (dict.fromkeys(range(5), 1.0), {}, ""),
        ({0: 1.0, 2: 1.0}, {1: RunPosition(1, 3)}, "run 1: task 2 of 3; runs 3, 4 not begun"),
        # How many tasks there are is known from the runs that are finished, if any.
        ({0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0}, {4: RunPosition(1, None)}, "run 4: task 2 of 2"),
        ({0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0}, {4: RunPosition(2, None)}, "run 4: after its last task"),
        ({}, {0: RunPosition(3, None)}, "run 0: task 4; runs 1 to 4 not begun"),
    ],
)
def test_what_is_unfinished_is_said(finals, places, text: str):
    assert unfinished(folder("a", finals, places)) == text


@given(st.sets(st.integers(0, 40), min_size=1))
def test_runs_in_words_can_be_read_back(runs: set[int]):
    word, _, spans = named(sorted(runs)).partition(" ")
    assert word == ("run" if len(runs) == 1 else "runs")
    found: list[int] = []
    for span in spans.split(", "):
        low, _, high = span.partition(" to ")
        found += range(int(low), int(high or low) + 1)
    assert found == sorted(runs)


def test_spans_are_of_three_at_least():
    assert named([0, 1, 2, 5, 6, 9]) == "runs 0 to 2, 5, 6, 9"


def test_the_csv_has_every_folder_and_what_is_wrong_with_it():
    problem = InputError(ROOT / "b", "is damaged", "mend it")
    found = Survey(ROOT, [folder("a", {0: 50.0, 1: 52.0}), folder("c", {})], {ROOT / "b": problem})
    rows = [*csv.DictReader(long_table(found).csv().splitlines())]
    assert [row["folder"] for row in rows] == ["a", "b", "c"]
    assert rows[0]["final_accuracy"] == "51.0"
    # The deviation is the root of 2, t of one degree of freedom 12.706.
    assert float(rows[0]["final_accuracy_half"]) == pytest.approx(12.706, rel=1e-4)
    counts = (rows[0]["runs_finished"], rows[0]["runs"], rows[0]["replay_bytes"])
    assert counts == ("2", "5", "1001")
    assert (rows[1]["method"], rows[1]["problem"]) == ("", "/all/b: is damaged; mend it")
    assert (rows[2]["final_accuracy"], rows[2]["unfinished"]) == ("", "runs 0 to 4 not begun")


def test_a_single_run_has_no_interval_and_a_single_task_no_forgetting():
    one = folder("a", {0: 50.0})
    one.records[0].scores.pop()
    found = Survey(ROOT, [one], {})
    (row,) = csv.DictReader(long_table(found).csv().splitlines())
    assert (row["final_accuracy"], row["final_accuracy_half"]) == ("80.0", "")
    assert (row["forgetting"], row["forgetting_half"]) == ("", "")
    shown = dict(zip(table(found).head, table(found).shown()[0], strict=True))
    assert shown["forgetting, points"] == "-"


def test_settings_that_differ_are_shown_apart_from_those_without_effect():
    changes = {"method.lr": 0.2, "crumb": "0.2.0", "method.blocks": 8, "stream.runs": 9}
    changes |= {"files.index": "f" * 64, "stream.machine.workers": 2}
    other = folder("b", {}, changes=changes)
    one = folder("a", {})
    assert setting_table(one, other, effect=True).rows == [
        ["files.index", "0123456789ab", "f" * 12],
        ["method.blocks", "-", "8"],
        ["method.lr", "0.1", "0.2"],
    ]
    assert setting_table(one, other, effect=False).rows == [
        ["crumb", "0.1.0", "0.2.0"],
        ["stream.machine.workers", "-", "2"],
        ["stream.runs", "5", "9"],
    ]
    assert setting_table(one, one, True).rows == setting_table(one, one, False).rows == []


def test_the_number_of_a_pretraining_has_an_effect():
    one, other = (
        folder("a", {}, changes={"command": "pretrain", "stream.first_run": run}) for run in (0, 1)
    )
    assert setting_table(one, other, effect=True).rows == [["stream.first_run", "0", "1"]]
    stream = folder("b", {}, changes={"stream.first_run": 1})
    assert setting_table(one, stream, effect=True).rows == [
        ["command", "pretrain", "stream"],
        ["stream.first_run", "0", "1"],
    ]


def test_five_pairs_worked_by_hand():
    one = folder("a", {**dict.fromkeys(range(5), 50.0), 7: 0.0})
    other = folder("b", {**{run: 51.0 + run for run in range(5)}, 9: 100.0, 10: 100.0})
    result = paired(one, other)
    assert result.runs == [0, 1, 2, 3, 4]
    assert result.only == ([7], [9, 10])
    row = result.differences["final_accuracy"]
    # The differences are 1 to 5: only the signs observed and their mirror image go as far.
    assert (row.gap.mean, row.permutation_p, row.wilcoxon_p) == (3, 2 / 32, 2 / 32)
    # Mean 3, deviation the root of 2.5, Hedges' J of 4 degrees of freedom 0.79788.
    assert row.effect.standardised == pytest.approx(3 / math.sqrt(2.5) * 0.79788, rel=1e-4)
    assert row.gap_interval is not None
    low, high = row.gap_interval
    assert 1 <= low < 3 < high <= 5
    # The average is over two tasks, of which only the last differs.
    assert result.differences["average_accuracy"].gap.mean == 1.5
    rows = {name: cells for name, *cells in paired_table(result).rows}
    assert rows["A, mean"] == ["50.0", "65.0"]
    assert rows["B, mean"] == ["53.0", "66.5"]
    assert rows["B - A, points"] == ["+3.0", "+1.5"]
    assert rows["  95 % interval"][0] == f"{low:+.1f} to {high:+.1f}"
    assert rows["  effect size, d_z"] == ["+1.51", "+1.51"]
    assert rows["permutation test, p"] == rows["Wilcoxon test, p"] == ["0.0625", "0.0625"]
    assert notes(result) == [
        "only in A: run 7",
        "only in B: runs 9, 10",
        "no p can be below 0.062 with 5 runs",
    ]


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1, max_size=6))
def test_the_other_way_round_only_signs_change(values: list[tuple[float, float]]):
    one, other = (
        folder(name, {run: pair[place] for run, pair in enumerate(values)})
        for place, name in enumerate("ab")
    )
    there = paired(one, other).differences["final_accuracy"]
    back = paired(other, one).differences["final_accuracy"]
    assert there.gap.mean == pytest.approx(-back.gap.mean)
    assert (there.permutation_p, there.wilcoxon_p) == (back.permutation_p, back.wilcoxon_p)


def test_two_runs_have_no_interval():
    result = paired(folder("a", {0: 1.0, 1: 2.0}), folder("b", {0: 2.0, 1: 4.0}))
    rows = {name: cells for name, *cells in paired_table(result).rows}
    assert rows["  95 % interval"] == rows["  effect size, d_z"] == ["-", "-"]
    assert notes(result) == [
        "no p can be below 0.5 with 2 runs",
        "an interval and an effect size need 3 runs",
    ]


def test_without_shared_runs_nothing_is_compared():
    result = paired(folder("a", {0: 1.0}), folder("b", {1: 2.0}))
    assert (result.runs, result.differences) == ((), {})
    assert notes(result) == ["only in A: run 0", "only in B: run 1"]


@pytest.mark.parametrize(
    "changes",
    [
        {"files.index": "other"},
        {"stream.classes": ["cup"]},
        {"stream.protocol": "instance"},
        {"stream.layout.classes_per_task": 1},
        {"stream.layout.images_per_task": 7},
        {"command": "pretrain"},
    ],
)
def test_other_streams_are_no_pairs(changes: dict[str, Any]):
    result = paired(folder("a", {0: 1.0}), folder("b", {0: 2.0}, changes=changes))
    (name,) = changes
    assert result.other_streams == [name]
    assert f"are different streams ({name}), so pairs mean little" in notes(result)[-1]


def test_other_settings_leave_the_stream_as_it_is():
    other = folder("b", {0: 2.0}, changes={"method.lr": 1})
    assert paired(folder("a", {0: 1.0}), other).other_streams == []


def test_runs_of_other_classes_or_tasks_are_no_pairs():
    one, other = folder("a", {0: 1.0, 1: 1.0, 2: 1.0}), folder("b", {1: 1.0, 2: 1.0})
    other.records[0].classes.reverse()
    other.records[1].scores.pop()
    assert paired(one, other).other_streams == ["classes of run 1", "number of tasks of run 2"]


def test_an_accuracy_that_is_not_finite_is_refused():
    with pytest.raises(InputError, match="run 0 is not finite"):
        paired(folder("a", {0: 1.0}), folder("b", {0: math.nan}))
