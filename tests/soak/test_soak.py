"""The soak test in small, and that it would notice what it is there for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from soak.child import PHASES, Marks
from soak.comparison import differences
from soak.frames import BATCHES_OF_A_LOOK, GeneratedFeatures, LongRun, run_frames, small_network
from soak.kills import Kills, Trial, run_kills
from soak.report import (
    frames_pass,
    frames_text,
    kills_pass,
    kills_text,
    learned,
    step_bands,
    write_report,
)

from crumb.files import write_csv, write_json, write_tensors

RECORD = {"run": 0, "images": 84, "seconds": 1.5, "scores": [[50.0]]}


@pytest.fixture(scope="module")
def kills(words: list[str]) -> Kills:
    """On the data set and network of the other tests, which are those of the soak."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("soak.kills.short_stream", lambda folder: words)
        return run_kills(2, seed=0, cases=("finetune",))


def test_killed_streams_end_in_the_same_bytes(kills: Kills):
    assert kills_pass(kills), kills_text(kills)
    assert [trial.number for trial in kills.trials] == [0, 1]
    assert all(trial.phases for trial in kills.trials)
    assert 2 <= sum(kills.by_phase().values()) <= 3
    assert not any(trial.folder.parent.exists() for trial in kills.trials)
    assert kills_text(kills).endswith("\n2 of 2 killed runs ended in the same bytes")


def test_a_stream_that_ends_otherwise_is_named(tmp_path: Path):
    found = ("all.csv: has other bytes",)
    bad = Trial(17, "merec", ("testing", "between runs"), found, tmp_path / "trial17")
    good = Trial(18, "crumb", ("testing",), (), tmp_path / "trial18")
    kills = Kills(3, (bad, good))
    assert not kills_pass(kills)
    assert kills.by_phase()["testing"] == 2
    text = kills_text(kills)
    where = "trial 17 (merec, seed 3, killed while testing and between runs)"
    assert f"{where}, kept in {tmp_path / 'trial17'}:\n  all.csv: has other bytes\n" in text
    assert text.endswith("\n1 of 2 killed runs ended in the same bytes")


def test_marks_are_seen_from_outside(tmp_path: Path):
    inside, outside = Marks(tmp_path / "marks"), Marks(tmp_path / "marks")
    assert outside.phase == PHASES[0]
    inside.enter("testing")
    inside.show("between batches")
    inside.enter("testing")
    assert outside.phase == "testing"
    assert [outside.count(phase) for phase in ("testing", "between batches")] == [2, 0]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders as two streams leave them."""
    one, other = tmp_path / "one", tmp_path / "other"
    write_csv(one / "all_epochs" / "top1.csv", [[50.0, 25.0]])
    write_csv(one / "hyperparams.csv", [["stream.output", "one"]])
    write_json(one / "runs" / "run0.json", RECORD)
    tensors = {"a": torch.zeros(3), "b": torch.arange(4)}
    write_tensors(one / "learner_run0.safetensors", tensors, {"classes": "bed car"})
    shutil.copytree(one, other)
    write_csv(other / "hyperparams.csv", [["stream.output", "other"]])
    write_json(other / "runs" / "run0.json", RECORD | {"seconds": 2.0})
    return one, other


def test_what_differs_between_all_streams_is_no_difference(pair: tuple[Path, Path]):
    assert differences(*pair) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("all_epochs/top1.csv", "has other bytes"),
        ("runs/run0.json", "has another record"),
        ("learner_run0.safetensors", "a differs"),
    ],
)
def test_a_change_is_noticed(pair: tuple[Path, Path], name: str, expected: str):
    path = pair[1] / name
    if path.suffix == ".safetensors":
        tensors = {"a": torch.tensor([0, 0, 1e-45]), "b": torch.arange(4)}
        write_tensors(path, tensors, {"classes": "bed car"})
    else:
        content = path.read_bytes()
        assert content != content.replace(b"5", b"6")
        path.write_bytes(content.replace(b"5", b"6").replace(b"84", b"85"))
    assert differences(*pair) == [f"{name}: {expected}"]


@pytest.mark.parametrize(
    ("tensors", "about", "expected"),
    [
        ({"a": torch.zeros(3)}, "bed car", "has other tensors: ['b']"),
        ({"a": torch.zeros(3), "b": torch.arange(4.0)}, "bed car", "b differs"),
        ({"a": torch.zeros(3), "b": torch.arange(4)}, "bed", "has other metadata of its tensors"),
    ],
)
def test_a_changed_learner_is_noticed(pair: tuple[Path, Path], tensors, about, expected):
    write_tensors(pair[1] / "learner_run0.safetensors", tensors, {"classes": about})
    assert differences(*pair) == [f"learner_run0.safetensors: {expected}"]


def test_what_is_left_over_or_missing_is_noticed(pair: tuple[Path, Path]):
    one, other = pair
    (other / "checkpoints").mkdir()
    (other / "all_epochs" / ".top1.csv.x3k").touch()
    (other / "runs" / "run0.json").unlink()
    assert differences(one, other) == [
        "runs/run0.json: is missing",
        "all_epochs/.top1.csv.x3k: is left over",
        "checkpoints: is left over",
    ]


@pytest.fixture(scope="module")
def long_run() -> LongRun:
    return run_frames(20_000, seed=1)


def test_a_long_run(long_run: LongRun):
    assert long_run.frames == 20_000
    assert long_run.steps.shape == (200,)
    assert (long_run.steps[1:] > 0).all()
    assert long_run.resident.shape == (200 // BATCHES_OF_A_LOOK,)
    assert (long_run.resident > 1 << 20).all()
    assert learned(long_run)
    assert long_run.seconds > 0


def test_memory_of_a_long_run_is_flat(tmp_path: Path):
    """In a process that has done nothing else."""
    words = ["--kills", "0", "--frames", "20000", "--output", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "soak", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert "20,000 frames" in done.stdout
    found = json.loads((tmp_path / "reliability.json").read_text())["frames"]
    # So short a run has hardly warmed up.
    assert abs(found["resident_bytes"]["growth"]) < 0.05


def test_features_depend_on_the_number_alone():
    labels = np.arange(20_000) % 20
    stores = [GeneratedFeatures(small_network(), labels, seed) for seed in (0, 0, 1)]
    paths = ["7", "4100", "19999"]
    asked, again, other = (store.get(paths) for store in stores)
    assert asked.shape == (3, 16, 2, 2)
    assert torch.equal(asked, again)
    assert not torch.equal(asked, other)
    assert torch.equal(stores[0].get(paths[::-1]), asked.flip(0))
    assert torch.equal(stores[0].get([str(n) for n in range(150)])[7], asked[0])


def flat(**changes) -> LongRun:
    resident, steps = np.full(1000, 500e6), np.full(10_000, 0.003)
    return replace(LongRun(resident, steps, 30.0, 60.0), **changes)


def test_a_peak_is_reported():
    resident = np.full(1000, 500e6)
    resident[950] = 600e6
    run = flat(resident=resident)
    assert (run.growth, run.most_before, run.most_after) == (0, 500e6, 600e6)
    assert "+20.00 %" in frames_text(run)


def test_figures_of_a_flat_run():
    run = flat()
    assert (run.growth, run.slowdown) == (0, 1)
    assert frames_pass(run)
    assert "memory stayed the same" in frames_text(run)
    assert "the time of a step is flat" in frames_text(run)
    bands = step_bands(run)
    assert {len(values) for values in bands.values()} == {100}
    assert bands["frames"][-1] == pytest.approx(run.frames, rel=1e-3)
    assert np.allclose(bands["median"], 3)


def test_a_leak_is_noticed():
    # Seven bytes a frame.
    run = flat(resident=500e6 + np.linspace(0, 7e6, 1000))
    assert run.growth == pytest.approx(0.0122, rel=0.01)
    assert not frames_pass(run)
    assert "memory GREW" in frames_text(run)


def test_steps_that_grow_slower_are_noticed():
    text = frames_text(flat(steps=np.linspace(0.003, 0.006, 10_000)))
    assert "the time of a step is not flat" in text


def test_guessing_is_noticed():
    assert not frames_pass(flat(accuracy=6.0))


def test_report(kills: Kills, long_run: LongRun, tmp_path: Path):
    figures, picture = write_report(tmp_path / "new", kills, long_run)
    found = json.loads(figures.read_text())
    assert found["machine"]["cores"] >= 1
    assert found["kills"]["trials"] == 2
    assert found["kills"]["kills"] == kills.by_phase()
    assert found["frames"]["frames"] == 20_000
    assert found["frames"]["resident_bytes"]["growth"] == long_run.growth
    with Image.open(picture) as image:
        assert image.size == (1200, 450)
    assert picture.stat().st_size < 150_000


def test_report_of_one_part(kills: Kills, tmp_path: Path):
    (figures,) = write_report(tmp_path, kills, None)
    assert json.loads(figures.read_text())["frames"] is None
