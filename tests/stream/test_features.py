"""Feature maps computed once, or whenever asked for: the same ones."""

import pytest
import torch

from crumb.data.images import load_images
from crumb.errors import InputError
from crumb.nets.backbones import build_network
from crumb.nets.config import NetworkConfig
from crumb.stream.features import FeatureStore, fingerprint

BYTES = 4 * 48 * 10 * 10


@pytest.fixture(scope="module")
def network(weights):
    return build_network(NetworkConfig("test_efficientnet", "blocks.4", str(weights)))


@pytest.fixture(scope="module")
def paths(dataset):
    return list(dataset.index["im_path"][:12])


@pytest.fixture(scope="module")
def expected(network, dataset, paths):
    """Through the front one by one, in evaluation mode."""
    pixels = load_images(dataset.images, paths, 160)
    return torch.cat([network.features(image[None]) for image in pixels])


@pytest.mark.parametrize("budget", [0, BYTES - 1, 5 * BYTES, 12 * BYTES, 1 << 30])
def test_any_budget_gives_the_same_features(network, dataset, paths, expected, budget):
    store = FeatureStore(network, dataset.images, paths, budget, workers=2)
    order = [7, 0, 3, 3, 11, 5, 7]
    found = store.features([paths[i] for i in order])
    torch.testing.assert_close(found, expected[order], rtol=1e-5, atol=1e-6)
    assert found.shape == (7, 48, 10, 10)


def test_an_image_goes_through_the_front_once(network, dataset, paths, monkeypatch):
    counted = []
    features = network.features

    def count(images):
        counted.append(len(images))
        return features(images)

    monkeypatch.setattr(network, "features", count)
    store = FeatureStore(network, dataset.images, [*paths, *paths[:4]], 1 << 30, workers=1)
    for _ in range(3):
        store.features(paths)
    assert sum(counted) == 12


def test_more_workers_change_no_bit(network, dataset, paths):
    one, three = (FeatureStore(network, dataset.images, paths, 1 << 30, n) for n in (1, 3))
    assert torch.equal(one.features(paths), three.features(paths))


def test_many_images_stay_in_their_places(network, dataset):
    """More than are decoded at a time."""
    paths = list(dataset.index["im_path"])
    store = FeatureStore(network, dataset.images, paths, 1 << 30, workers=2)
    chosen = [paths[place] for place in (0, 63, 64, 119)]
    expected = network.features(load_images(dataset.images, chosen, 160))
    torch.testing.assert_close(store.features(chosen), expected, rtol=1e-5, atol=1e-6)


def test_covers_what_it_was_opened_for(network, dataset, paths):
    store = FeatureStore(network, dataset.images, paths[:6], 0, workers=1)
    assert store.covers(paths[2:5])
    assert not store.covers(paths[5:7])


@pytest.mark.parametrize("budget", [0, 1 << 30])
def test_a_missing_image_is_named_at_the_start(network, dataset, paths, budget):
    with pytest.raises(InputError, match="no_such_clip_1.png: no such image"):
        FeatureStore(network, dataset.images, [*paths, "no_such_clip_1.png"], budget, workers=2)


def test_fingerprint_tells_fronts_apart(network, weights):
    same = build_network(NetworkConfig("test_efficientnet", "blocks.4", str(weights)), seed=1)
    other = build_network(NetworkConfig("test_efficientnet", "blocks.4", "random"), seed=1)
    assert fingerprint(same) == fingerprint(network)
    assert fingerprint(other) != fingerprint(network)
