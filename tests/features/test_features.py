"""Feature maps computed once, or whenever asked for: the same ones to the bit."""

import shutil
from pathlib import Path

import pytest
import torch
from tests.rounding import assert_rounded, sums_of

from crumb.data.images import load_images
from crumb.device import lone_workers
from crumb.errors import InputError
from crumb.features.features import FeatureStore, fingerprint
from crumb.features.store import Cache
from crumb.nets.backbones import build_network
from crumb.nets.config import NetworkConfig

BYTES = 4 * 48 * 10 * 10


@pytest.fixture(scope="module")
def network(weights):
    return build_network(NetworkConfig("test_efficientnet", "blocks.4", str(weights)))


@pytest.fixture(scope="module")
def paths(dataset):
    return list(dataset.index["im_path"][:12])


@pytest.fixture(scope="module")
def expected(network, dataset, paths):
    """Through the front four at a time, in the order of the index, by one lone thread.

    What several threads share may round differently: they cut it in other places.
    """
    pixels = load_images(dataset.images, paths, 160, "squash", "bicubic")
    with lone_workers(1, "expected") as pool:
        return torch.cat([*pool.map(network.features, pixels.split(4))])


@pytest.fixture
def counted(monkeypatch):
    """Images that went through the front, a number for each pass."""
    passes = []
    compute = FeatureStore.compute

    def count(self, paths):
        passes.append(len(paths))
        return compute(self, paths)

    monkeypatch.setattr(FeatureStore, "compute", count)
    return passes


def opened(network, dataset, paths, cache: Cache, workers: int = 2) -> FeatureStore:
    store = FeatureStore(network, dataset.images, workers)
    store.hold(paths, cache)
    return store


def memory(budget: int = 1 << 30) -> Cache:
    return Cache("memory", budget, Path("nowhere"))


@pytest.mark.parametrize("kind", ["auto", "memory", "disk", "off"])
@pytest.mark.parametrize("budget", [0, BYTES - 1, 6 * BYTES, 13 * BYTES, 1 << 30])
def test_every_cache_gives_the_same_features(
    network, dataset, paths, expected, kind, budget, tmp_path
):
    store = opened(network, dataset, paths, Cache(kind, budget, tmp_path))
    order = [7, 0, 3, 3, 11, 5, 7]
    found = store.get([paths[i] for i in order])
    assert torch.equal(found, expected[order])
    assert found.is_contiguous(memory_format=torch.channels_last)
    # A file is a little larger than its rows.
    fits = {"memory": budget, "off": 0}.get(kind, budget - budget // BYTES * 1024) // BYTES
    assert store.bytes_held == BYTES * max(0, min(12, fits))


def test_an_image_goes_through_the_front_once(network, dataset, paths, counted):
    store = opened(network, dataset, [*paths, *paths[:4]], memory())
    for _ in range(3):
        store.get(paths)
    assert sum(counted) == 12


def test_equal_images_go_through_the_front_once(
    network, dataset, dataset_copy, paths, counted, expected
):
    shutil.copy(dataset_copy / "images" / paths[0], dataset_copy / "images" / "again.png")
    store = FeatureStore(network, dataset_copy / "images", 1)
    store.hold([*paths, "again.png"], memory())
    assert sum(counted) == 12
    assert torch.equal(store.get(["again.png"]), expected[:1])


def test_features_whose_files_are_removed_are_computed_again(
    network, dataset, paths, expected, tmp_path
):
    """More of them than go through the front together."""
    store = opened(network, dataset, paths, Cache("disk", 1 << 30, tmp_path))
    shutil.rmtree(tmp_path)
    assert torch.equal(store.get(paths), expected)


def test_features_and_pixels_share_the_memory(network, dataset, paths):
    store = opened(network, dataset, paths, memory(BYTES * 12 + 2 * 76_800))
    store.pixels.hold(paths, memory(BYTES * 12 + 2 * 76_800), store.bytes_held)
    assert store.pixels.bytes_held == 2 * 76_800


def test_more_images_can_be_held_later(network, dataset, paths, counted, expected):
    store = opened(network, dataset, paths[:5], memory())
    store.hold(paths, memory())
    assert torch.equal(store.get(paths), expected)
    assert sum(counted) == 12


def test_more_workers_change_no_bit(network, dataset, paths):
    one, three = (opened(network, dataset, paths, memory(), n) for n in (1, 3))
    assert torch.equal(one.get(paths), three.get(paths))


def test_many_images_stay_in_their_places(network, dataset):
    """More than the workers take at a time, half of them held."""
    paths = list(dataset.index["im_path"])
    store = opened(network, dataset, paths, memory(BYTES * 60))
    order = torch.randperm(120, generator=torch.Generator().manual_seed(0)).tolist()
    chosen = [paths[place] for place in order]
    expected = network.features(load_images(dataset.images, chosen, 160, "squash", "bicubic"))
    # All in one batch, the others a few at a time: that does not round alike.
    assert_rounded(store.get(chosen), expected, *sums_of(network.front))


def test_covers_what_it_was_opened_for(network, dataset, paths):
    store = opened(network, dataset, paths[:6], memory(0))
    assert store.covers(paths[2:5])
    assert not store.covers(paths[5:7])


@pytest.mark.parametrize("budget", [0, 1 << 30])
def test_a_missing_image_is_named_at_the_start(network, dataset, paths, budget):
    with pytest.raises(InputError, match="no_such_clip_1.png: no such image"):
        opened(network, dataset, [*paths, "no_such_clip_1.png"], memory(budget))


def test_pixels_are_those_of_the_images(network, dataset, paths, tmp_path):
    expected = load_images(dataset.images, paths, 160, "squash", "bicubic")
    for cache in (memory(), memory(0), Cache("disk", 1 << 30, tmp_path)):
        store = FeatureStore(network, dataset.images, 2)
        store.pixels.hold(paths, cache)
        assert torch.equal(store.pixels.get(paths), expected)


def test_fingerprint_tells_fronts_apart(network, weights):
    same = build_network(NetworkConfig("test_efficientnet", "blocks.4", str(weights)), seed=1)
    other = build_network(NetworkConfig("test_efficientnet", "blocks.4", "random"), seed=1)
    assert fingerprint(same) == fingerprint(network)
    assert fingerprint(other) != fingerprint(network)
    same.bf16 = True
    assert fingerprint(same) != fingerprint(network)
