"""A tiny data set of real frames and a tiny network, made once for all tests."""

from __future__ import annotations

import os

# Set before torch is imported: tests run in parallel, by default with one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import gc
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import timm
import torch
from safetensors.torch import save_file
from tests.rounding import OtherProcessor, enter

from crumb.cli.stream import settings
from crumb.data.images import load_images
from crumb.data.index import Dataset, write_dataset
from crumb.data.sets.toybox import index_toybox
from crumb.features.features import FeatureStore
from crumb.methods.registry import find_method
from crumb.nets import engines, fronts
from crumb.nets.config import Preprocessing
from crumb.reports import panels
from crumb.stream import run
from crumb.stream.results import Results
from crumb.stream.run import stream

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
# The time of an example depends on the load of the machine.
hypothesis.settings.register_profile("crumb", deadline=None)
hypothesis.settings.load_profile("crumb")

OBJECTS = (
    "animals/person_01_pivothead",
    "households/bed_01_pivothead",
    "households/bottle_01_pivothead",
    "vehicles/car_01_pivothead",
)
BACKBONE, CUT = "test_efficientnet", "blocks.4"
FRAMES = (1, 6, 11)
IS_INSTALLED = engines.is_installed
CACHE = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our own options."""
    parser.addoption("--write-golden-table", action="store_true", help="see test_golden_table.py")


def pytest_configure(config: pytest.Config) -> None:
    """Simulate a processor that rounds differently if CRUMB_TEST_ULPS is set.

    Recorded numbers belong to torch's features, so other engines are hidden. Fronts exported by
    other processes are cached in a folder of this session.
    """
    engines.is_installed = lambda name: False
    config.stash[CACHE] = tempfile.TemporaryDirectory(prefix="crumb-test-cache-")
    os.environ["XDG_CACHE_HOME"] = config.stash[CACHE].name
    if ulps := int(os.environ.get("CRUMB_TEST_ULPS", "0")):
        enter(OtherProcessor(ulps))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Exclude imported objects from garbage collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _no_power_cut() -> Iterator[None]:
    """Do not wait for the disk, because files of tests need not survive a power failure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the folder of exported fronts."""
    config.stash[CACHE].cleanup()


@pytest.fixture
def all_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the installed engines usable in this test."""
    monkeypatch.setattr(engines, "is_installed", IS_INSTALLED)


@pytest.fixture
def fastest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Set the engine that a process without a stored choice finds to be the fastest."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def is_now(name: str) -> None:
        seconds = {"torch": 2.0, "onnxruntime": 2.0, "openvino": 2.0, name: 1.0}
        monkeypatch.setattr(fronts, "_CHOSEN", {})
        monkeypatch.setattr(fronts, "_remembered", lambda key: None)
        monkeypatch.setattr(fronts, "seconds_per_image", lambda *_: seconds)

    return is_now


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of 4 classes with one object each, 10 sample clips an object."""
    root = tmp_path_factory.mktemp("clips") / "tree"
    sample = Path(str(files("crumb") / "sample" / "clips"))
    for folder in OBJECTS:
        shutil.copytree(sample / folder, root / folder)
    return root


@pytest.fixture(scope="session")
def dataset(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Three frames of each clip: 84 training images and 36 test images."""
    folder = tmp_path_factory.mktemp("data")
    whole = index_toybox(clips, folder / "whole", workers=1)
    index = whole.index[whole.index["im_num"].isin(FRAMES)].reset_index(drop=True)
    images = folder / "mini" / "images"
    for path in index["im_path"]:
        (images / path).parent.mkdir(parents=True, exist_ok=True)
        (whole.images / path).rename(images / path)
    small = replace(whole, folder=folder / "mini", images=images, index=index)
    write_dataset(small)
    return small


@pytest.fixture
def dataset_copy(dataset: Dataset, tmp_path: Path) -> Path:
    """Folder of a copy of the data set that a test may damage."""
    return shutil.copytree(dataset.folder, tmp_path / "copy")


@pytest.fixture(scope="session")
def weights(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the tiny network, with batch norm statistics of the data set.

    The front is the same in every run, and the tail can learn from its features.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = timm.create_model(BACKBONE).train()
    pixels = load_images(
        dataset.images, list(dataset.index["im_path"][::4]), 160, "squash", "bicubic"
    )
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model(Preprocessing(160)(pixels))
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(model.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def network_words(weights: Path) -> list[str]:
    """Flags of the tiny network: 48 x 10 x 10 features."""
    return ["--backbone", BACKBONE, "--cut", CUT, "--weights", str(weights), "--engine", "torch"]


@pytest.fixture(scope="session")
def words(dataset: Dataset, network_words: list[str]) -> list[str]:
    """Flags of a short stream whose learning rate and batch size are enough to learn something."""
    return [str(dataset.folder), *network_words, "--lr", "0.02", "--batch-size", "12"]


class Kept(dict[str, FeatureStore]):
    """Feature stores of all networks and data sets, none of which is dropped."""

    def clear(self) -> None:
        """Nothing."""


@pytest.fixture(scope="session")
def stores() -> dict[str, FeatureStore]:
    """Features that all streams of the session share."""
    return {}


@pytest.fixture(scope="session")
def kept() -> Kept:
    """Features computed by commands."""
    return Kept()


@pytest.fixture
def shared_features(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands share their features. Only for tests that change no image."""
    original = run.open_store

    def opened(*given: Any) -> FeatureStore:
        *others, _ = given
        return original(*others, kept)  # pyright: ignore[reportCallIssue]

    monkeypatch.setattr(run, "open_store", opened)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Create figures without drawing them, because drawing takes most of the time."""
    picture = b'<svg width="72pt" height="72pt" viewBox="0 0 72 72"></svg>'
    monkeypatch.setattr(panels, "_drawn", lambda *figure, **how: picture)


@pytest.fixture
def streamed(
    words: list[str], stores: dict[str, FeatureStore], tmp_path: Path
) -> Callable[..., Results]:
    """Run a stream with further flags in its own folder, with shared features."""
    count = 0

    def streamed(
        *more: str, own_stores: dict[str, FeatureStore] | None = None, epochs: int | None = 2
    ) -> Results:
        nonlocal count
        count += 1
        output = [] if "--resume" in more else ["--output", str(tmp_path / f"results{count}")]
        first = [] if epochs is None else ["--epochs-first-task", str(epochs)]
        method = more[more.index("--method") + 1] if "--method" in more else "crumb"
        usual = words
        if not find_method(method).trains:
            at = words.index("--lr")
            usual = [*words[:at], *words[at + 2 :]]
        parts = settings([*usual, *first, *output, *more])
        return stream(*parts, stores if own_stores is None else own_stores)

    return streamed
