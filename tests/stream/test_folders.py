"""Results folders on the disk: which are found, where runs stand, and what is said of damage."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from tests.versions.make import record

from crumb.errors import InputError
from crumb.files import write_tensors
from crumb.stream.checkpoint import Checkpoints
from crumb.stream.folders import read_folder, survey
from crumb.stream.positions import RunPosition, positions_in
from crumb.stream.results import Results
from crumb.stream.settings import has_effect, read_settings

STREAM = {"method": "er", "dataset": Path("/data/cups"), "protocol": "iid", "first_run": 0}
SETTINGS = {"command": "stream", "stream": {**STREAM, "runs": 3}}
OLD = Path(__file__).parents[1] / "versions/1/run0_000000.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Run 0 of three is finished."""
    results = Results(tmp_path / "all/er", SETTINGS)
    with results:
        results.add(record())
    return tmp_path / "all/er"


def checkpoint(folder: Path, run: int, number: int, about: object) -> Path:
    path = folder / "checkpoints" / f"run{run}_{number:06}.safetensors"
    write_tensors(path, {}, {"crumb-checkpoint": json.dumps(["seal", about])})
    return path


def test_a_folder_is_what_its_files_say(folder: Path):
    checkpoint(folder, 1, 9, {"task": 3, "tasks": 5})
    checkpoint(folder, 1, 10, {"task": 4, "tasks": 5})
    # Left by a process that was killed between the run and its checkpoints.
    checkpoint(folder, 0, 2, {"task": 5, "tasks": 5})
    found = read_folder(folder)
    assert found.records == [record()]
    assert found.places == {1: RunPosition(4, 5)}
    assert (found.waiting, found.runs, found.asked) == ([2], 3, range(3))
    about = (found.command, found.method, found.dataset, found.protocol)
    assert about == ("stream", "er", "cups", "iid")


def test_runs_of_earlier_calls_count(folder: Path):
    with Results(folder, {**SETTINGS, "stream": {**STREAM, "first_run": 5, "runs": 2}}, True):
        pass
    found = read_folder(folder)
    assert (found.waiting, found.runs) == ([5, 6], 3)


def test_a_run_that_was_killed_stands_where_its_newest_checkpoint_does(
    streamed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    save = Checkpoints.save

    def killed(self, learner, state):
        save(self, learner, state)
        if state.task == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        streamed("--method", "finetune", "--classes-per-task", "1", "--runs", "2")
    (found,) = survey(tmp_path).found
    assert (found.places, found.waiting) == ({0: RunPosition(2, 4)}, [1])


def test_a_checkpoint_of_an_earlier_version_does_not_say_how_many_tasks(tmp_path: Path):
    shutil.copy(OLD, tmp_path)
    assert positions_in(tmp_path) == {0: RunPosition(1, None)}


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(folder: Path):
    checkpoint(folder, 1, 1, {"task": 1, "tasks": 5})
    path = checkpoint(folder, 1, 2, {"task": 2, "tasks": 5})
    path.write_bytes(path.read_bytes()[:-3])
    assert read_folder(folder).places == {1: RunPosition(1, 5)}


@pytest.mark.parametrize("about", [[], {}, {"task": "2"}, {"task": 2, "tasks": "5"}, 7])
def test_a_run_without_a_whole_checkpoint_is_said(folder: Path, about: object):
    path = checkpoint(folder, 1, 2, about)
    with pytest.raises(InputError, match=f"^{path}: is damaged .*; remove it"):
        read_folder(folder)


def test_files_that_are_no_checkpoints_are_left_alone(folder: Path):
    for name in ("run_1", "run1_x", "run1", "runx_000001", "other"):
        (folder / "checkpoints").mkdir(exist_ok=True)
        (folder / "checkpoints" / f"{name}.safetensors").touch()
    assert read_folder(folder).places == {}


def test_results_are_found_at_any_depth_and_by_path(folder: Path):
    for place in ("a/b/c", "b", "a"):
        shutil.copytree(folder, folder.parents[1] / place, dirs_exist_ok=True)
    found = survey(folder.parents[1])
    assert [found.name(one.path) for one in found.found] == ["a", "a/b/c", "all/er", "b"]
    assert not found.problems
    assert found.found[0].records == [record()]


def test_a_folder_may_be_one_of_results_itself(folder: Path):
    found = survey(folder)
    assert [found.name(one.path) for one in found.found] == ["."]


def test_settings_of_other_programs_are_no_results(tmp_path: Path):
    (tmp_path / "config.toml").write_text('format = "other"\n')
    assert survey(tmp_path).found == []
    assert not survey(tmp_path).problems


def test_settings_that_cannot_be_read_may_be_of_results(tmp_path: Path):
    (tmp_path / "config.toml").write_text("format = [")
    assert [*survey(tmp_path).problems] == [tmp_path]


DAMAGE = {
    "config.toml": "is not valid TOML",
    "runs/run0.json": "is not valid JSON",
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_folders_are_named_and_the_others_are_read(folder: Path, name: str):
    bad = shutil.copytree(folder, folder.with_name("bad"))
    (bad / name).write_text("{ [")
    found = survey(folder.parent)
    assert [one.path for one in found.found] == [folder]
    assert [*found.problems] == [bad]
    assert found.problems[bad].parts[0] == str(bad / name)
    assert DAMAGE[name] in found.problems[bad].parts[1]


@pytest.mark.parametrize("part", ["runs", "checkpoints"])
def test_runs_without_settings_are_damage(folder: Path, part: str):
    checkpoint(folder, 1, 1, {"task": 1, "tasks": 5})
    (folder / "config.toml").unlink()
    shutil.rmtree(folder / ({"runs", "checkpoints"} - {part}).pop())
    with pytest.raises(InputError, match=r"config\.toml: cannot be read \(No such file"):
        read_folder(folder)
    assert [*survey(folder.parent).problems] == [folder]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("version = 1", "version = 2", "is not a settings file of format version 1"),
        ("runs = 3", 'runs = "3"', "has no stream.runs, or one in another format"),
        ("runs = 3", "runs = true", "has no stream.runs, or one in another format"),
        ('method = "er"', "", "has no stream.method, or one in another format"),
    ],
)
def test_settings_that_say_too_little_are_damage(folder: Path, old: str, new: str, problem: str):
    path = folder / "config.toml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=problem):
        read_folder(folder)
    assert [*survey(folder.parent).problems] == [folder]


def test_folders_that_cannot_be_looked_into_are_named(folder: Path, monkeypatch):
    closed = folder.with_name("closed")
    closed.mkdir()
    scandir = os.scandir

    def refused(path):
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    found = survey(folder.parent)
    assert {path: str(error) for path, error in found.problems.items()} == {
        closed: f"{closed}: cannot be opened (Permission denied); make it readable"
    }
    assert len(found.found) == 1


def test_what_is_no_folder_of_results_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"none: is not a folder; give the folder"):
        survey(tmp_path / "none")
    with pytest.raises(InputError, match="none: is not a folder; give a results folder"):
        read_folder(tmp_path / "none")
    with pytest.raises(InputError, match="is not a results folder"):
        read_folder(tmp_path)


def test_settings_have_the_values_that_stand_for_what_older_versions_did(folder: Path):
    settings = read_settings(folder)
    assert settings["stream.mode"] == "paper"
    assert settings["stream.dataset"] == "/data/cups"


@pytest.mark.parametrize(
    ("name", "command", "expected"),
    [
        ("stream.machine.workers", "stream", False),
        ("stream.machine.precision", "stream", True),
        ("stream.tensorboard", "stream", False),
        ("stream.first_run", "stream", False),
        # Pretraining has one file, whatever the number of its run.
        ("stream.first_run", "pretrain", True),
        ("method.lr", "stream", True),
        ("crumb", "stream", False),
        ("files.index", "stream", True),
    ],
)
def test_which_settings_have_an_effect(name: str, command: str, expected: bool):
    assert has_effect(name, command) is expected
