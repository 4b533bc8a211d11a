"""Nothing is computed twice, and what is kept changes no result."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from crumb.data.index import Dataset
from crumb.errors import InputError
from crumb.files import read_tensors
from crumb.nets.split import SplitNetwork
from crumb.stream.results import Results

Streamed = Callable[..., Results]
CRUMB = ("--method", "crumb", "--memory-size", "10")


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """Images in each pass of the front, and of the tail in training and in testing."""
    counted: dict[str, list[int]] = {"front": [], "train": [], "test": []}
    features, tail = SplitNetwork.features, SplitNetwork.forward

    def front_pass(self: SplitNetwork, images: Tensor) -> Tensor:
        counted["front"].append(len(images))
        return features(self, images)

    def tail_pass(self: SplitNetwork, maps: Tensor) -> Tensor:
        counted["train" if self.training else "test"].append(len(maps))
        return tail(self, maps)

    monkeypatch.setattr(SplitNetwork, "features", front_pass)
    monkeypatch.setattr(SplitNetwork, "forward", tail_pass)
    return counted


# 84 images to train on, 36 to test on. Two tasks: two readings of 42 images and one of 42, in
# batches of 12; tests on 18, 18 and 36 images.
BATCHES, REPLAYED, TESTED = 2 * 4 + 4, 4, 18 + 18 + 36


@pytest.mark.parametrize("mem", [True, False])
@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_passes_of_a_run(streamed: Streamed, passes, tmp_path: Path, cache: str, mem: bool):
    words = ["--feature-cache", cache, "--feature-cache-folder", str(tmp_path / "cache")]
    flag = "--mem-accuracy" if mem else "--no-mem-accuracy"
    results = streamed(*CRUMB, *words, flag, own_stores={})
    assert sum(passes["front"]) == 120
    assert len(passes["train"]) == BATCHES + REPLAYED
    assert sum(passes["test"]) == TESTED * (2 if mem else 1)
    named = [path.name for path in results.folder.glob("top*_mem_all_runs.csv")]
    assert bool(named) == mem


def test_passes_of_several_runs_and_methods(streamed: Streamed, passes):
    stores, memory = {}, ["--feature-cache", "memory"]
    streamed(*CRUMB, *memory, "--runs", "2", own_stores=stores)
    streamed("--method", "finetune", *memory, own_stores=stores)
    streamed("--method", "offline", *memory, own_stores=stores)
    assert sum(passes["front"]) == 120


def test_later_processes_find_the_features_on_disk(streamed: Streamed, passes, tmp_path: Path):
    words = ["--feature-cache", "disk", "--feature-cache-folder", str(tmp_path / "cache")]
    streamed(*CRUMB, *words, own_stores={})
    streamed("--method", "finetune", *words, own_stores={})
    assert sum(passes["front"]) == 120


def test_the_best_epoch_costs_one_more_pass_of_each_image_held_out(streamed: Streamed, passes):
    words = ["--select-best-epoch", "--validation-share", "0.5", "--epochs", "2"]
    streamed("--method", "crumb", *words, "--storage", "none", own_stores={})
    # Held out: half of 42 images of each task, tested after two epochs of each; tests as above,
    # but for one more of all 36.
    assert sum(passes["test"]) == 2 * (TESTED + 36) + 4 * 21


def test_each_run_with_another_front_keeps_within_the_budget(streamed: Streamed, tmp_path: Path):
    words = ["--feature-cache", "disk", "--feature-cache-folder", str(tmp_path / "cache")]
    # Random weights are others in each run; two fronts' features do not fit.
    budget = ["--feature-cache-bytes", "3000000", "--weights", "random", "--runs", "3"]
    streamed("--method", "finetune", *words, *budget, own_stores={})
    left = [folder for folder in (tmp_path / "cache").iterdir() if list(folder.glob("*.safe*"))]
    assert len(left) == 1
    assert len(list((tmp_path / "cache").iterdir())) == 3
    assert sum(file.stat().st_size for file in left[0].iterdir()) <= 3_000_000


def outcome(results: Results) -> tuple[list, dict[str, Tensor]]:
    """Every accuracy and every tensor of the learner, its stored indices among them."""
    (record,) = results.finished()
    scores = [[(s.accuracy, s.by_task) for s in epochs] for epochs in record.scores]
    tensors, _ = read_tensors(results.folder / "learner_run0.safetensors", "")
    return scores, tensors


@pytest.mark.parametrize("storage", ["feature", "image"])
def test_results_do_not_depend_on_the_cache(streamed: Streamed, tmp_path: Path, storage: str):
    words = [*CRUMB, "--save-model", "--storage", storage, "--write-policy", "on-arrival"]
    folder = ["--feature-cache-folder", str(tmp_path / "cache")]
    half = ["memory", "--feature-cache-bytes", "1200000"]
    # The last reads what the third has written.
    caches = (["off"], ["memory"], ["disk"], half, ["disk"])
    flags = [*words, *folder, "--feature-cache"]
    results = [streamed(*flags, *cache, own_stores={}) for cache in caches]
    scores, tensors = outcome(results[0])
    assert "memory.rows" in tensors
    for other in results[1:]:
        others, found = outcome(other)
        assert others == scores
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[name], tensors[name]) for name in tensors)


# Processes. Each is a `crumb stream` whose front takes its time and says what it computes.

PROGRAM = """
import sys, time
from pathlib import Path
from crumb.cli.main import main
from crumb.features import disk
from crumb.features.features import FeatureStore

disk._FILE_BYTES = 10 * 4 * 48 * 10 * 10
compute = FeatureStore.compute

def slow(self, paths):
    time.sleep(float(sys.argv[2]))
    with Path(sys.argv[1]).open("a") as log:
        log.write("".join(f"{path}\\n" for path in paths))
    return compute(self, paths)

FeatureStore.compute = slow
sys.exit(main(["stream", *sys.argv[3:]]))
"""


@pytest.fixture
def start(words: list[str], tmp_path: Path) -> Callable[[str, float], subprocess.Popen]:
    """Start a stream on the shared folder ``cache``; its name is its results folder's."""

    def begin(name: str, seconds: float) -> subprocess.Popen:
        flags = [*words, *CRUMB, "--epochs-first-task", "1", "--save-model"]
        flags += ["--feature-cache", "disk", "--feature-cache-folder", str(tmp_path / "cache")]
        command = [str(tmp_path / f"{name}.log"), str(seconds), *flags]
        command += ["--output", str(tmp_path / name), "--workers", "1"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen([sys.executable, "-c", PROGRAM, *command], env=environment)

    return begin


def computed(tmp_path: Path, name: str) -> list[str]:
    log = tmp_path / f"{name}.log"
    return log.read_text().split() if log.exists() else []


def same_results(tmp_path: Path, streamed: Streamed, *names: str) -> None:
    alone = streamed(*CRUMB, "--epochs-first-task", "1", "--save-model", "--feature-cache", "off")
    _, tensors = outcome(alone)
    for name in names:
        found, _ = read_tensors(tmp_path / name / "learner_run0.safetensors", "")
        assert all(torch.equal(found[key], tensors[key]) for key in tensors)


def test_two_processes_that_start_together_share_the_work(
    start, streamed: Streamed, dataset: Dataset, tmp_path: Path
):
    both = [start(name, 0.05) for name in ("one", "two")]
    assert [process.wait(120) for process in both] == [0, 0]
    done = computed(tmp_path, "one") + computed(tmp_path, "two")
    assert sorted(done) == sorted(dataset.index["im_path"])
    same_results(tmp_path, streamed, "one", "two")


@pytest.mark.parametrize("ended", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_process_finished_before_it_ended_is_used(
    start, streamed: Streamed, dataset: Dataset, tmp_path: Path, ended: signal.Signals
):
    first = start("one", 0.2)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("cache/*/*.safetensors"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    first.send_signal(ended)
    assert first.wait(60) != 0
    assert start("two", 0).wait(120) == 0
    before, after = computed(tmp_path, "one"), computed(tmp_path, "two")
    everything = set(dataset.index["im_path"])
    assert set(before) < everything
    assert set(before) | set(after) == everything
    # At least two files, of eight images each, were finished.
    assert len(after) <= 120 - 2 * 8
    same_results(tmp_path, streamed, "two")


# How the machine computes.


def test_bf16_is_near_full_precision(streamed: Streamed):
    full = outcome(streamed(*CRUMB, "--save-model", own_stores={}))[1]
    half = outcome(streamed(*CRUMB, "--save-model", "--precision", "bf16", own_stores={}))[1]
    name = next(key for key in full if key.startswith("network.tail.") and full[key].ndim == 4)
    assert half[name].dtype == torch.float32
    assert not torch.equal(full[name], half[name])
    torch.testing.assert_close(full[name], half[name], rtol=0.05, atol=0.02)


def test_a_compiled_tail_learns_the_same(streamed: Streamed):
    from torch._dynamo.utils import counters

    if shutil.which("g++") is None:
        pytest.skip("compiling needs a C++ compiler")
    words = ["--method", "finetune", "--save-model"]
    plain = outcome(streamed(*words))[1]
    counters.clear()
    compiled = outcome(streamed(*words, "--compile"))[1]
    assert counters["stats"]["unique_graphs"] > 0
    for name, value in plain.items():
        if name.startswith("generator."):
            assert torch.equal(compiled[name], value)
        else:
            torch.testing.assert_close(compiled[name], value, rtol=1e-3, atol=1e-3)


def test_what_cannot_be_compiled_is_one_line(streamed: Streamed, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no compiler\nand a long tale")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(InputError, match=r"compile: does not work here \(.*no compiler\); leave"):
        streamed("--method", "finetune", "--compile")
