import pytest

from crumb.benchmarks import runs
from crumb.benchmarks.runs import (
    Timed,
    WholeRuns,
    measure_checkpoint,
    measure_experiment,
    measure_store,
    profile,
)
from crumb.stream.record import RunRecord


def record(run, seconds, test_seconds):
    found = RunRecord(run, ["a"])
    found.seconds, found.test_seconds, found.feature_seconds = seconds, test_seconds, 6.0
    return found


def test_profile_is_per_run_and_fills_the_store_once():
    parts = [Timed(20.0, [record(0, 8, 2)]), Timed(25.0, [record(1, 9, 3), record(2, 7, 1)])]
    assert profile(parts) == {"features": 2.0, "training": 8.0, "testing": 2.0, "rest": 3.0}
    assert profile(parts[:1]) == {"features": 6.0, "training": 8.0, "testing": 2.0, "rest": 4.0}


@pytest.fixture(scope="module")
def whole(place):
    return WholeRuns(place)


def test_rows_share_what_they_measure(whole):
    store, one = measure_store(whole)
    experiment, three = measure_experiment(whole)
    assert store.figures[0] == experiment.figures[0]
    assert one.figures[0] == three.figures[0]
    assert store.figures[1] == one.figures[1]
    assert one.details["work"]["front"] > 11 * 84
    mean = (whole.first.seconds + whole.later.seconds) / 3
    assert experiment.figures[1].value == three.figures[1].value == mean
    assert (one.at_least, three.at_least) == (10, None)
    assert all("ESTIMATE" in comparison.what for comparison in (one, three))


def test_runs_are_of_one_experiment(whole):
    records = [*whole.first.records, *whole.later.records]
    assert [record.run for record in records] == [0, 1, 2]
    # Ten readings of the first task and one of the second.
    assert {record.images for record in records} == {11 * 42}
    # One store, filled by the first run; without it nothing is computed beforehand.
    assert len({record.feature_seconds for record in records}) == 1
    spent = profile([whole.without])
    assert spent["features"] < 0.1 * profile([whole.first])["features"]
    assert spent["training"] > profile([whole.first])["training"]


def test_checkpoints_are_a_share_of_the_run(whole):
    (found,) = measure_checkpoint(whole)
    (record,) = whole.first.records
    learning = record.seconds + record.test_seconds
    assert found.figures[0].value == record.checkpoint_seconds > 0
    assert found.figures[1].value == learning + record.checkpoint_seconds < whole.first.seconds
    assert found.at_most == 0.02


def test_the_store_changes_no_accuracy(whole):
    assert whole.without.records[0].scores == whole.first.records[0].scores


def test_goal_of_ten_runs(whole, monkeypatch):
    monkeypatch.setattr(runs, "_TEN_RUNS", 12.0)
    ten = WholeRuns(whole._place)
    ten.first, ten.without, ten.estimate = whole.first, whole.without, whole.estimate
    ten.later = Timed(9.0, list(whole.later.records) * 5)
    assert measure_experiment(ten)[1].at_least == 12.0
    assert measure_experiment(ten)[0].details["runs"] == 11
