"""Nothing is computed twice, and what is kept changes no result."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from crumb.cli.main import main
from crumb.data.index import Dataset
from crumb.errors import InputError
from crumb.features import disk
from crumb.features.features import FeatureStore
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
    # 60 images, whose features have 1,152,000 bytes.
    words += ["--classes", "bed", "bottle", "--classes-per-task", "1"]
    folder = ["--feature-cache-folder", str(tmp_path / "cache")]
    half = ["memory", "--feature-cache-bytes", "600000"]
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


# Processes. One is a `crumb stream` whose front takes its time; the other one is this process. Each
# says what it computes.

FILE_BYTES = 10 * 4 * 48 * 10 * 10

PROGRAM = f"""
import sys, time
from pathlib import Path
from crumb.cli.main import main
import torch
from crumb.features import disk
from crumb.features.features import FeatureStore

# As many threads as the process of the tests: the number changes how sums are rounded.
torch.set_num_threads({torch.get_num_threads()})
disk._FILE_BYTES = {FILE_BYTES}
compute = FeatureStore.compute

def slow(self, paths):
    time.sleep(0.1)
    with Path(sys.argv[1]).open("a") as log:
        log.write("".join(f"{{path}}\\n" for path in paths))
    return compute(self, paths)

FeatureStore.compute = slow
sys.exit(main(["stream", *sys.argv[2:]]))
"""


@pytest.fixture
def shared(tmp_path: Path) -> list[str]:
    """Flags of a stream on the shared folder ``cache``."""
    cache = ["--feature-cache", "disk", "--feature-cache-folder", str(tmp_path / "cache")]
    return [*CRUMB, "--epochs-first-task", "1", "--save-model", "--workers", "1", *cache]


@pytest.fixture
def other(words: list[str], shared: list[str], tmp_path: Path) -> Iterator[subprocess.Popen]:
    """A process that has begun to fill the folder."""
    log = tmp_path / "other.log"
    flags = [*words, *shared, "--output", str(tmp_path / "other")]
    command = [sys.executable, "-c", PROGRAM, str(log), *flags]
    with subprocess.Popen(command) as process:
        wait_for(log.exists)
        yield process
        process.kill()


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What this process computes."""
    monkeypatch.setattr(disk, "_FILE_BYTES", FILE_BYTES)
    computed: list[str] = []
    compute = FeatureStore.compute

    def noted(self: FeatureStore, paths: Sequence[str]) -> Tensor:
        computed.extend(paths)
        return compute(self, paths)

    monkeypatch.setattr(FeatureStore, "compute", noted)
    return computed


@pytest.fixture(scope="module")
def alone() -> dict[str, Tensor]:
    """The learner of a stream that has kept no features, once there is one."""
    return {}


@pytest.fixture
def check_learner(streamed: Streamed, alone: dict[str, Tensor]) -> Callable[[Path], None]:
    """Compare the learner in a results folder with that of a stream without a cache."""

    def check(folder: Path) -> None:
        if not alone:
            words = [*CRUMB, "--epochs-first-task", "1", "--save-model", "--feature-cache", "off"]
            alone.update(outcome(streamed(*words))[1])
        found, _ = read_tensors(folder / "learner_run0.safetensors", "")
        assert all(torch.equal(found[key], alone[key]) for key in alone)

    return check


def finished_files(tmp_path: Path) -> int:
    return len(list(tmp_path.glob("cache/*/*.safetensors")))


def test_two_processes_at_once_share_the_work(
    other, mine: list[str], shared, streamed: Streamed, check_learner, dataset: Dataset, tmp_path
):
    results = streamed(*shared, own_stores={})
    assert other.wait(120) == 0
    done = [*mine, *(tmp_path / "other.log").read_text().split()]
    assert sorted(done) == sorted(dataset.index["im_path"])
    check_learner(results.folder)
    check_learner(tmp_path / "other")


def test_what_a_killed_process_has_finished_is_used(
    other, mine: list[str], shared, streamed: Streamed, check_learner, dataset: Dataset, tmp_path
):
    wait_for(lambda: finished_files(tmp_path) >= 2)
    other.send_signal(signal.SIGKILL)
    assert other.wait(60) == -signal.SIGKILL
    results = streamed(*shared, own_stores={})
    before = set((tmp_path / "other.log").read_text().split())
    everything = set(dataset.index["im_path"])
    assert before < everything
    assert before | set(mine) == everything
    # At least two files, of eight images each, were finished.
    assert len(mine) <= 120 - 2 * 8
    check_learner(results.folder)


def test_what_was_computed_before_a_signal_is_used(
    mine: list[str],
    words: list[str],
    shared: list[str],
    streamed: Streamed,
    check_learner: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    add = disk.DiskRows.add
    added: list[bytes] = []

    def signalled(self: disk.DiskRows, keys: Sequence[bytes], rows: Tensor) -> None:
        add(self, keys, rows)
        added.extend(keys)
        if len(added) == 3 * 8:
            signal.raise_signal(signal.SIGTERM)

    # Room for two parts of eight images in a file: the third one waits for the fourth.
    monkeypatch.setattr(disk, "_FILE_BYTES", 2 * FILE_BYTES)
    monkeypatch.setattr(disk.DiskRows, "add", signalled)
    assert main(["stream", *words, *shared, "--output", str(tmp_path / "ended")]) == 143
    monkeypatch.setattr(disk.DiskRows, "add", add)
    mine.clear()
    results = streamed(*shared, own_stores={})
    assert len(mine) == 120 - 3 * 8
    check_learner(results.folder)


# How the machine computes.


def test_bf16_is_near_full_precision(streamed: Streamed):
    full = outcome(streamed(*CRUMB, "--save-model", own_stores={}))[1]
    half = outcome(streamed(*CRUMB, "--save-model", "--precision", "bf16", own_stores={}))[1]
    name = next(key for key in full if key.startswith("network.tail.") and full[key].ndim == 4)
    assert half[name].dtype == torch.float32
    assert not torch.equal(full[name], half[name])
    torch.testing.assert_close(full[name], half[name], rtol=0.05, atol=0.02)


def test_a_compiled_tail_learns_the_same(streamed: Streamed, monkeypatch: pytest.MonkeyPatch):
    """But for the code that the compiler writes, which tests/nets/test_split.py looks at."""
    from torch._dynamo.utils import counters

    words = ["--method", "finetune", "--save-model"]
    plain = outcome(streamed(*words))[1]
    counters.clear()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    monkeypatch.setattr("crumb.stream.learner.keep_if_faster", lambda *_: 1.0)
    compiled = outcome(streamed(*words, "--compile"))[1]
    assert counters["stats"]["unique_graphs"] > 0
    for name, value in plain.items():
        if name.startswith("generator."):
            assert torch.equal(compiled[name], value)
        else:
            torch.testing.assert_close(compiled[name], value, rtol=1e-3, atol=1e-3)


def test_statistics_without_room_for_the_last_classes_are_refused_at_the_start(
    streamed: Streamed, tmp_path: Path
):
    few = ["--budget-bytes", "20", "--classes-expected", "1", "--classes-per-task", "4"]
    with pytest.raises(InputError, match="not hold one direction for 4 classes; give at least"):
        streamed("--method", "ncm", *few, epochs=None)
    assert not [*tmp_path.glob("results*")]


def test_a_method_that_trains_nothing_is_not_compiled(
    streamed: Streamed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(torch, "compile", lambda *_, **__: pytest.fail("compiled"))
    streamed("--method", "ncm", "--compile", epochs=None)
    assert "compile: ncm trains nothing, so the tail is not compiled" in capsys.readouterr().err


def test_what_cannot_be_compiled_is_one_line(streamed: Streamed, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no compiler\nand a long tale")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(InputError, match=r"compile: does not work here \(.*no compiler\); leave"):
        streamed("--method", "finetune", "--compile")
