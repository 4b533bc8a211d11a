"""Files that earlier versions wrote are read by this one, and mean the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tests.rounding import assert_rounded, sums_of
from tests.versions.make import CLASSES, SETTINGS, picture, record, scores, tasks

from crumb.cli.main import main
from crumb.data.index import _VERSION as DATASET_VERSION
from crumb.methods.persistence import VERSION as LEARNER_VERSION
from crumb.methods.persistence import load_learner
from crumb.stream.checkpoint import VERSION as CHECKPOINT_VERSION
from crumb.stream.checkpoint import Checkpoints
from crumb.stream.results import VERSION as RESULTS_VERSION
from crumb.stream.results import Results

FOLDERS = sorted(path for path in Path(__file__).parent.iterdir() if path.name.isdecimal())


def test_there_is_a_folder_for_every_version():
    versions = (DATASET_VERSION, LEARNER_VERSION, CHECKPOINT_VERSION, RESULTS_VERSION)
    assert [int(folder.name) for folder in FOLDERS] == [*range(1, max(versions) + 1)]


@pytest.fixture(params=FOLDERS, ids=lambda path: path.name)
def folder(request: pytest.FixtureRequest) -> Path:
    return request.param


def expected_scores(folder: Path) -> torch.Tensor:
    return torch.tensor(json.loads((folder / "expected.json").read_text())["scores"])


def test_learner(folder: Path):
    learner = load_learner(folder / "learner.safetensors")
    assert learner.classes == [*CLASSES]
    # Written down on another machine.
    found = torch.tensor(scores(learner))
    assert_rounded(found, expected_scores(folder), *sums_of(learner.network.tail))
    assert learner.bytes_held().replay > 0
    # It goes on learning, replays what it holds, and can be written again.
    assert learner.observe(picture(2), "cup").keys() >= {"codebook"}
    assert learner.classes == [*CLASSES, "cup"]


def test_checkpoint(folder: Path, tmp_path: Path):
    learner = load_learner(folder / "learner.safetensors")
    for value in learner.parameters().values():
        torch.nn.init.zeros_(value)
    shutil.copy(folder / "run0_000000.safetensors", tmp_path)
    state = Checkpoints(tmp_path, tasks()).restore(learner)
    assert state is not None
    assert state.record == record()
    place = (state.task, state.epoch, state.batch, state.best_accuracy, state.best_epoch)
    assert place == (1, 0, 1, 50.0, 1)
    # Written down on another machine.
    found = torch.tensor(scores(learner))
    assert_rounded(found, expected_scores(folder), *sums_of(learner.network.tail))


def test_results(folder: Path):
    assert Results(folder / "results", SETTINGS, resume=True).finished() == [record()]


def test_data_set(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["data", "stats", str(folder / "set")]) == 0
    assert "bed" in capsys.readouterr().out
