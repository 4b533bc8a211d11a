"""The results folder: what is in it, and when it is left alone."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from crumb.errors import InputError
from crumb.stream.record import PATHS, TESTS, RunRecord, Score
from crumb.stream.results import Results, summarise

SETTINGS = {"stream": {"runs": 2, "lr": 0.1, "machine": {"workers": 2}, "output": None}}


def score(value: float, by_task: list[float | None]) -> Score:
    """``value`` on the whole test, and numbers that tell the other figures apart."""
    accuracy = {
        (k, test, path): value + 10 * TESTS.index(test) + 2 * PATHS.index(path) + k
        for k in (1, 5)
        for test in TESTS
        for path in PATHS
    }
    accuracy[1, "all", "direct"] = value
    return Score(accuracy, by_task)


def record(run: int, first: float = 80.0) -> RunRecord:
    """Two tasks, of three epochs and of one; the second epoch of the first task counts."""
    scores = [
        [score(first - 20, [first - 20]), score(first, [first]), score(first - 10, [first - 10])],
        [score(50, [first - 40, 60])],
    ]
    statistics = [{"run": run, "task": 0, "epoch": 0, "codebook_mean": 0.25}]
    work: dict[str, Any] = {
        "gradient_steps": 12,
        "tail_maps": 200,
        "images_read_again": 10,
        "distinct_images": 40,
    }
    measured = (300, 40, 2.0, 90, 1000)
    return RunRecord(run, ["cup", "ball"], scores, [1, 0], statistics, *measured, **work)


def rows(path) -> list[list[str]]:
    with path.open() as file:
        return list(csv.reader(file))


@pytest.fixture
def folder(tmp_path):
    """Two finished runs, the later one first."""
    results = Results(tmp_path / "out", SETTINGS)
    with results:
        results.add(record(3, 90.0))
        results.add(record(1))
    return tmp_path / "out"


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_rows_are_runs_and_columns_are_tasks(folder):
    assert rows(folder / "top1_test_all_direct_all_runs.csv") == [["80.0", "50"], ["90.0", "50"]]
    assert rows(folder / "top5_test_1st_mem_all_runs.csv") == [["97.0", "67"], ["107.0", "67"]]


def test_epochs_are_padded_with_blanks(folder):
    path = folder / "all_epochs" / "top1_test_all_direct_all_epochs_run1.csv"
    assert path.read_text() == "60.0,80.0,70.0\n50,,\n"


def test_accuracy_matrix(folder):
    assert (folder / "accuracy_matrix_run1.csv").read_text() == "80.0,\n40.0,60\n"


def test_statistics_of_all_runs_are_numbered_through(folder):
    assert (folder / "mem_stats.csv").read_text() == (
        ",run,task,epoch,codebook_mean\n0,1,0,0,0.25\n1,3,0,0,0.25\n"
    )


def test_metrics(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (metrics["format"], metrics["version"]) == ("crumb-results", 1)
    assert metrics["runs"][0] == {
        "run": 1,
        "final_accuracy": 50,
        "average_accuracy": 65,
        "forgetting": 40,
        "backward_transfer": -40,
        "replay_bytes": 300,
        "extra_bytes": 40,
        "seconds": 2,
        "images_per_second": 45,
        "test_seconds": 0,
        "feature_seconds": 0,
        "checkpoint_seconds": 0,
        "peak_memory_bytes": 1000,
        "gradient_steps": 12,
        "tail_maps": 200,
        "image_passes": 2.5,
    }
    average = metrics["summary"]["average_accuracy"]
    assert average == {"mean": 67.5, "std": pytest.approx(12.5**0.5), "runs": 2}


def test_a_single_run_has_no_deviation():
    assert summarise([record(0)])["summary"]["seconds"] == {"mean": 2.0, "std": None, "runs": 1}


def test_runs_are_read_back_as_they_were(folder):
    found = Results(folder, SETTINGS, resume=True).finished()
    assert found == [record(1), record(3, 90.0)]


def test_a_run_that_is_done_again_replaces_itself(folder):
    results = Results(folder, SETTINGS, resume=True)
    with results:
        results.add(record(1, 70.0))
    assert rows(folder / "top1_test_all_direct_all_runs.csv") == [["70.0", "50"], ["90.0", "50"]]
    assert [found.run for found in results.finished()] == [1, 3]


def test_existing_results_are_refused(folder):
    before = contents(folder)
    with pytest.raises(InputError, match="already holds results"):
        Results(folder, SETTINGS)
    assert contents(folder) == before


def test_results_of_another_data_set_are_called_so(tmp_path):
    settings = [
        {"stream": {"dataset": f"/data/{name}"}, "files": {"index": name}} for name in ("a", "b")
    ]
    results = Results(tmp_path / "out", settings[0])
    with results:
        results.add(record(0))
    with pytest.raises(InputError) as caught:
        Results(tmp_path / "out", settings[1])
    assert str(caught.value) == (
        f"{tmp_path / 'out'}: holds results of another data set (/data/a); choose another output"
    )


@pytest.mark.parametrize("change", [{"runs": 7}, {"machine": {"workers": 9}}, {"output": "a/b"}])
def test_resume_takes_settings_that_change_no_result(folder, change):
    Results(folder, {"stream": SETTINGS["stream"] | change}, resume=True)


@pytest.mark.parametrize("change", [{"lr": 0.2}, {"lr": None}, {"epochs": 3}])
def test_resume_names_the_setting_that_differs(folder, change):
    before = contents(folder)
    with pytest.raises(InputError, match=f"made with stream.{next(iter(change))} = "):
        Results(folder, {"stream": SETTINGS["stream"] | change}, resume=True)
    assert contents(folder) == before


def test_an_error_before_the_first_run_leaves_nothing(tmp_path):
    def fails():
        with Results(tmp_path / "out", SETTINGS):
            assert (tmp_path / "out" / "config.toml").exists()
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert not (tmp_path / "out").exists()


def test_an_error_leaves_other_files_in_the_folder_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(KeyError), Results(tmp_path, SETTINGS):
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_error_after_a_run_keeps_it(tmp_path):
    results = Results(tmp_path, SETTINGS)

    def fails():
        with results:
            results.add(record(0))
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert results.finished() == [record(0)]
    assert (tmp_path / "config.toml").exists()


def test_a_run_counts_once_all_its_tables_are_there(folder, monkeypatch):
    """Killed while the tables are written: the run is not finished, and done again."""
    import crumb.stream.results as module

    def full(*arguments):
        raise InputError("disk", "is full", "free space")

    monkeypatch.setattr(module, "write_csv", full)
    results = Results(folder, SETTINGS, resume=True)
    with pytest.raises(InputError):
        results.add(record(5))
    assert [found.run for found in results.finished()] == [1, 3]


def no_scores(value):
    value["scores"] = []


def other_run(value):
    value["run"] = 2


def fewer_reported(value):
    value["reported"] = [1]


def text_for_accuracy(value):
    value["scores"][0][1]["accuracy"]["top1_all_direct"] = "good"


def lacks_accuracy(value):
    del value["scores"][1][0]["accuracy"]["top5_1st_mem"]


def no_time(value):
    value["seconds"] = 0


def unknown_field(value):
    value["mood"] = "fine"


def bad_statistics(value):
    value["statistics"] = [3]


def uneven_statistics(value):
    value["statistics"] += [{"run": 1}]


def other_version(value):
    value["version"] = 2


DAMAGES = [
    no_scores,
    other_run,
    fewer_reported,
    text_for_accuracy,
    lacks_accuracy,
    no_time,
    unknown_field,
    bad_statistics,
    uneven_statistics,
    other_version,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_is_named(folder, damage):
    path = folder / "runs" / "run1.json"
    value = json.loads(path.read_text())
    damage(value)
    path.write_text(json.dumps(value))
    with pytest.raises(InputError, match=r"run1\.json.*remove it to repeat the run"):
        Results(folder, SETTINGS, resume=True).finished()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "\0\0"])
def test_a_broken_file_of_a_run_is_named(folder, text):
    (folder / "runs" / "run3.json").write_text(text)
    with pytest.raises(InputError, match=r"run3\.json"):
        Results(folder, SETTINGS, resume=True).finished()


def test_a_stray_file_among_the_runs_is_named(folder):
    (folder / "runs" / "run1 (copy).json").write_bytes((folder / "runs/run1.json").read_bytes())
    with pytest.raises(InputError, match=r"run1 \(copy\)\.json"):
        Results(folder, SETTINGS, resume=True).finished()


def test_what_a_killed_writer_left_is_removed(folder):
    before = contents(folder)
    for place in ("", "runs", "all_epochs", "checkpoints"):
        (folder / place).mkdir(exist_ok=True)
        (folder / place / ".run0.json.k3x9_abc.part").write_bytes(b"half")
    (folder / ".mine").write_text("stays")
    with Results(folder, SETTINGS, resume=True):
        pass
    after = contents(folder)
    assert after.pop(Path(".mine")) == b"stays"
    assert after == before


def test_a_folder_with_half_a_checkpoint_has_not_begun(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".run0_000000.safetensors.k3x9_abc.part").touch()
    assert not Results(tmp_path, SETTINGS).begun


def test_two_processes_do_not_write_one_folder(folder):
    before = contents(folder)
    with Results(folder, SETTINGS, resume=True):
        other = Results(folder, SETTINGS, resume=True)
        with pytest.raises(InputError, match="is being written by another process; wait"), other:
            raise AssertionError
        assert contents(folder) == before
    with Results(folder, SETTINGS, resume=True):
        pass


def test_nothing_of_another_process_is_withdrawn(tmp_path):
    late = Results(tmp_path / "out", SETTINGS)
    with Results(tmp_path / "out", SETTINGS):
        with pytest.raises(InputError, match="another process"), late:
            raise AssertionError
        assert (tmp_path / "out" / "config.toml").exists()


def test_a_pretrained_file_may_lie_elsewhere_later(tmp_path):
    """Of where it lies nothing depends; of what is in it all."""

    def settings(path: str | None, digest: str) -> dict[str, Any]:
        given = {} if path is None else {"pretrained": digest}
        stream = {**SETTINGS["stream"], "pretrained": path}
        return {**SETTINGS, "stream": stream, "files": given}

    folder = tmp_path / "out"
    results = Results(folder, settings("/here/file", "aa"))
    with results:
        results.add(record(0))
    Results(folder, settings("/there/file", "aa"), resume=True)
    with pytest.raises(InputError, match="other contents of the file of the pretrained"):
        Results(folder, settings("/there/file", "bb"), resume=True)
    with pytest.raises(InputError, match=r"was made with stream.pretrained = /here/file, not None"):
        Results(folder, settings(None, ""), resume=True)
