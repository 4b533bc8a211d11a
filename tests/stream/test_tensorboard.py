"""Finished runs for TensorBoard, read back with its own reader."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.versions.make import record

from crumb.cli.main import main
from crumb.stream import tensorboard
from crumb.stream.record import FIGURES
from crumb.stream.tensorboard import events_file, scalars, write_events

EVENTS = "tensorboard/run{}/events.out.tfevents.0.crumb"


def read(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by tag."""
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="needs the package tensorboard",
    )
    events = reader.EventAccumulator(str(path.parent)).Reload()
    tags = events.Tags()["scalars"]
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in tags}


def test_a_run_is_read_back(tmp_path: Path):
    pytest.importorskip("tensorboard", reason="needs the package tensorboard")
    path = write_events(record(), tmp_path)
    assert path == tmp_path / EVENTS.format(0) == events_file(tmp_path, 0)
    found = read(path)
    # Two epochs of the first task and one of the second; the second epoch of the first counts.
    assert [step for step, _ in found["after_epoch/top1_all_direct"]] == [1, 2, 3]
    assert found["after_task/top1_all_direct"] == [(1, 90.0), (2, 90.0)]
    assert found["after_task/top1_current_task_mem"] == [(1, 150.0), (2, 150.0)]
    assert found["classes_of_task/01"] == [(1, 60.0), (2, 40.0)]
    # The second task brought no class.
    assert "classes_of_task/02" not in found
    assert found["run/replay_bytes"] == [(2, 100.0)]
    assert found["run/seconds"] == [(2, 2.5)]
    # Records of older versions do not say how much work a run was.
    names = {*FIGURES} - {"gradient_steps", "tail_maps", "image_passes"}
    assert {tag for tag in found if tag.startswith("run/")} == {f"run/{name}" for name in names}


def test_nothing_is_shown_where_nothing_was_measured():
    single = record()
    single.scores, single.reported = single.scores[:1], [1]
    assert "run/forgetting" not in {tag for tag, _, _ in scalars(single)}


def test_a_run_that_is_done_again_replaces_its_events(tmp_path: Path):
    pytest.importorskip("tensorboard", reason="needs the package tensorboard")
    write_events(record(), tmp_path)
    again = record()
    again.replay_bytes = 7
    path = write_events(again, tmp_path)
    assert [*path.parent.iterdir()] == [path]
    assert read(path)["run/replay_bytes"] == [(2, 7.0)]


def test_a_stream_writes_each_run_and_finished_ones_afterwards(words: list[str], tmp_path: Path):
    pytest.importorskip("tensorboard", reason="needs the package tensorboard")
    short = [*words, "--method", "finetune", "--epochs-first-task", "1"]
    assert main(["stream", *short, "--output", str(tmp_path / "out")]) == 0
    assert not (tmp_path / "out/tensorboard").exists()
    before = (tmp_path / "out/runs/run0.json").read_bytes()
    resume = ["stream", "--resume", str(tmp_path / "out"), "--runs", "2", "--tensorboard"]
    assert main(resume) == 0
    assert (tmp_path / "out/runs/run0.json").read_bytes() == before
    first, second = (tmp_path / "out" / EVENTS.format(run) for run in (0, 1))
    assert len(read(first)["after_task/top1_all_direct"]) == 2
    written = first.read_bytes()
    second.unlink()
    assert main(resume) == 0
    assert first.read_bytes() == written
    assert second.exists()


def test_pretraining_is_written_too(words: list[str], tmp_path: Path):
    pytest.importorskip("tensorboard", reason="needs the package tensorboard")
    out = tmp_path / "out"
    more = ["--epochs", "2", "--run", "3", "--tensorboard", "--output", str(out)]
    assert main(["pretrain", *words, *more]) == 0
    steps = read(out / EVENTS.format(3))["after_epoch/top1_all_direct"]
    assert [step for step, _ in steps] == [1, 2]


def test_without_the_package_nothing_is_begun(words, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    out = tmp_path / "out"
    assert main(["stream", *words, "--tensorboard", "--output", str(out)]) == 2
    assert capsys.readouterr().err == (
        "crumb: --tensorboard: needs the tensorboard package; "
        "pip install 'crumb-learn[tensorboard]', or leave it out\n"
    )
    assert not out.exists()
    # It is not needed by those who do not ask for it.
    short = ["--method", "finetune", "--epochs-first-task", "1", "--output", str(out)]
    assert main(["stream", *words, *short]) == 0
