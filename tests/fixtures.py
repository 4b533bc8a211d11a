"""A tiny data set of real frames and a tiny network, made once for all tests."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from copy import deepcopy
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
from crumb.methods import persistence
from crumb.methods.registry import find_method
from crumb.nets import engines, fronts
from crumb.nets.backbones import build_network
from crumb.nets.config import NetworkConfig, Preprocessing
from crumb.nets.split import SplitNetwork
from crumb.reports import panels
from crumb.stream import learner, run
from crumb.stream.results import Results
from crumb.stream.run import stream

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
# How fast an example is depends on what else the machine does.
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


def pytest_configure(config: pytest.Config) -> None:
    """On a processor that rounds differently, if CRUMB_TEST_ULPS says by how much.

    Numbers that were written down are of torch's features, so no other engine seems installed.
    Fronts that processes export are kept in a folder of this session.
    """
    engines.is_installed = lambda name: False
    config.stash[CACHE] = tempfile.TemporaryDirectory(prefix="crumb-test-cache-")
    os.environ["XDG_CACHE_HOME"] = config.stash[CACHE].name
    if ulps := int(os.environ.get("CRUMB_TEST_ULPS", "0")):
        enter(OtherProcessor(ulps))


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is imported stays, and need not be searched for garbage again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _no_power_cut() -> Iterator[None]:
    """Files need not outlast one, so nobody waits for the disk; tests of waiting patch this too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _small_networks_are_copied() -> Iterator[None]:
    """To copy one takes a quarter of the time that building and splitting it takes."""
    built: dict[tuple[object, ...], SplitNetwork] = {}

    def copied(
        config: NetworkConfig, seed: int = 0, preprocessing: Preprocessing | None = None
    ) -> SplitNetwork:
        file = Path(config.weights)
        if config.weights != "random" and not file.is_file():
            return build_network(config, seed, preprocessing)
        if config.backbone != BACKBONE and not config.backbone.startswith("crumb.testing."):
            return build_network(config, seed, preprocessing)
        content = file.stat() if file.is_file() else None
        state = content and (content.st_ino, content.st_size, content.st_mtime_ns)
        key = (config, seed, preprocessing, state)
        if key not in built:
            built[key] = build_network(config, seed, preprocessing)
        return deepcopy(built[key])

    with pytest.MonkeyPatch.context() as patch:
        for module in (learner, persistence):
            patch.setattr(module, "build_network", copied)
        yield


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove that folder."""
    config.stash[CACHE].cleanup()


@pytest.fixture
def all_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engines that are installed can be used in this test."""
    monkeypatch.setattr(engines, "is_installed", IS_INSTALLED)


@pytest.fixture
def fastest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Sets what is found to be fastest, by a process that remembers nothing."""
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
    """Three frames of each clip: 84 images to train on, 36 to test on."""
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
    """The folder of a copy of the data set, to be damaged."""
    return shutil.copytree(dataset.folder, tmp_path / "copy")


@pytest.fixture(scope="session")
def weights(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the tiny network: random ones, with the batch norm of the data set.

    The same front in every run, and one that lets the tail learn.
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
    """A short stream: data set, network, rate and size of batches that learn something."""
    return [str(dataset.folder), *network_words, "--lr", "0.02", "--batch-size", "12"]


class Kept(dict[str, FeatureStore]):
    """Stores of every network and data set: those of one are not dropped for those of another."""

    def clear(self) -> None:
        """Nothing."""


@pytest.fixture(scope="session")
def stores() -> dict[str, FeatureStore]:
    """Features, computed once for all streams that need no others."""
    return {}


@pytest.fixture(scope="session")
def kept() -> Kept:
    """Features that commands have computed."""
    return Kept()


@pytest.fixture
def shared_features(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find the features that others computed; for tests that change no image."""
    original = run.open_store

    def opened(*given: Any) -> FeatureStore:
        *others, _ = given
        return original(*others, kept)  # pyright: ignore[reportCallIssue]

    monkeypatch.setattr(run, "open_store", opened)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made and not drawn: most of the time of a table with three figures."""
    picture = b'<svg width="72pt" height="72pt" viewBox="0 0 72 72"></svg>'
    monkeypatch.setattr(panels, "_drawn", lambda *figure, **how: picture)


@pytest.fixture
def streamed(
    words: list[str], stores: dict[str, FeatureStore], tmp_path: Path
) -> Callable[..., Results]:
    """Streams with further flags into a folder of its own, with shared features."""
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
