"""Accuracy by class and confusions: in the record, in its JSON, and as tables."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from tests.versions.make import record as old_record

from crumb.errors import InputError
from crumb.methods.persistence import load_learner as load
from crumb.stream.record import RunRecord, Score, record_from_json, record_to_json
from crumb.stream.results import Results


def of_two_tasks() -> RunRecord:
    """Three classes; the second task brings the third, and its first epoch counts."""

    def score(*by_class: float) -> Score:
        return Score({(1, "all", "direct"): 50.0}, [50.0], [*by_class])

    return RunRecord(
        run=4,
        classes=["bed", "car", "cup"],
        scores=[[score(1, 2)], [score(10, 20, 30), score(4, 5, 6)]],
        reported=[0, 0],
        seconds=1.0,
        confusion=[[0, 0, 3], [1, 0, 2], [1, 1, 1], [2, 2, 4]],
    )


def rows(path: Path) -> list[list[str]]:
    return [*csv.reader(path.read_text().splitlines())]


def test_by_class_after_each_task():
    assert of_two_tasks().class_accuracy() == [[1, 10], [2, 20], [None, 30]]
    matrix = of_two_tasks().confusion_matrix()
    assert matrix is not None
    np.testing.assert_array_equal(matrix, [[3, 0, 0], [2, 1, 0], [0, 0, 4]])


def test_json_and_back():
    text = json.dumps(record_to_json(of_two_tasks()))
    assert record_from_json(json.loads(text)) == of_two_tasks()


def test_a_record_without():
    assert old_record().class_accuracy() is None
    assert old_record().confusion_matrix() is None


def test_tables(tmp_path: Path):
    results = Results(tmp_path, {"stream": {"runs": 1}})
    with results:
        results.add(of_two_tasks())
    assert rows(tmp_path / "class_accuracy_run4.csv") == [
        ["class", "first_task", "after_task_1", "after_task_2"],
        ["bed", "1", "1", "10"],
        ["car", "1", "2", "20"],
        ["cup", "2", "", "30"],
    ]
    assert rows(tmp_path / "confusion_run4.csv") == [
        ["bed", "car", "cup"],
        ["3", "0", "0"],
        ["2", "1", "0"],
        ["0", "0", "4"],
    ]


@pytest.mark.parametrize("damaged", [[[0, 7, 1]], [[0, 1]], [[0.5, 0, 1]], [["a", 0, 1]], 3])
def test_damaged_confusions_are_named(tmp_path: Path, damaged: object):
    results = Results(tmp_path, {"stream": {"runs": 1}})
    with results:
        results.add(of_two_tasks())
    path = tmp_path / "runs/run4.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"confusion": damaged}))
    with pytest.raises(InputError, match="is damaged"):
        results.finished()


def test_of_a_stream(streamed):
    results = streamed("--runs", "1")
    (record,) = results.finished()
    matrix, by_class = record.confusion_matrix(), record.class_accuracy()
    assert matrix is not None
    # Nine test images of each class; the matrix is that of the last test.
    assert matrix.sum(1).tolist() == [9] * 4
    at_end = [row[-1] for row in by_class]
    np.testing.assert_allclose(100 * matrix.diagonal() / matrix.sum(1), at_end)
    assert 100 * matrix.trace() / matrix.sum() == record.curve()[-1]
    assert [row.count(None) for row in by_class] == [0, 0, 1, 1]


def test_learners_after_each_task(streamed, stores):
    results = streamed("--runs", "1", "--save-tasks", "--save-model")
    folder = results.folder
    names = ["learner_run0.safetensors", *(f"learner_run0_task0{n}.safetensors" for n in (1, 2))]
    assert sorted(path.name for path in folder.glob("*.safetensors")) == names
    assert [len(load(folder / name).classes) for name in names] == [4, 2, 4]
    # After the last task nothing comes.
    assert (folder / names[0]).read_bytes() == (folder / names[2]).read_bytes()
    whole = {name: (folder / name).read_bytes() for name in names}
    # A finished run without one of them is done again, to the same bytes.
    (folder / names[1]).unlink()
    streamed("--resume", str(folder), epochs=None)
    assert {name: (folder / name).read_bytes() for name in names} == whole
