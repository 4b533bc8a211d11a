from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tests.rounding import assert_rounded, sums_of

from crumb.codebook.codebook import Codebook
from crumb.data.batches import Batch
from crumb.memory.gaussian import GaussianMemory
from crumb.memory.replay import ReplayMemory
from crumb.memory.storage import CodeStorage, ImageStorage, RawFeatureStorage
from crumb.nets.backbones import build_network
from crumb.nets.config import NetworkConfig
from crumb.nets.split import SplitNetwork

SHAPE = (2, 1, 3)


@pytest.fixture(scope="module")
def network() -> SplitNetwork:
    return build_network(NetworkConfig("squeezenet1_0", weights="random"))


@pytest.fixture(scope="module")
def batch(network: SplitNetwork) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 3, 224, 224), dtype=torch.uint8, generator=generator)
    return Batch(torch.tensor([0, 1, 1]), network.features(images), images)


def test_codes_follow_the_blocks_as_they_are_tuned(network: SplitNetwork, batch: Batch):
    codebook = Codebook(torch.randn(256, 16), network.feature_shape)
    storage = CodeStorage(codebook)
    rows = storage.encode(batch)
    assert (rows.shape, rows.dtype) == ((3, *storage.row_shape), storage.dtype)
    assert rows[0].nbytes == 5_408
    before = storage.features(rows)
    with torch.no_grad():
        codebook.blocks.mul_(2)
    assert torch.equal(storage.features(rows), 2 * before)
    assert before.shape == batch.features.shape


@pytest.mark.parametrize(
    ("storage", "size"), [(ImageStorage, 150_528), (RawFeatureStorage, 346_112)]
)
def test_images_and_raw_features_come_back_as_they_were(
    network: SplitNetwork,
    batch: Batch,
    storage: type[ImageStorage | RawFeatureStorage],
    size: int,
):
    way = storage(network)
    assert way.row_shape is not None
    memory = ReplayMemory(2, way.row_shape, way.dtype)
    memory.add(1, way.encode(batch)[1:])
    assert memory.nbytes == 2 * size
    found = way.features(memory.class_rows(1))
    # One at a time, the others three at a time.
    assert_rounded(found, batch.features[1:], *sums_of(network.front))
    assert (found[0] - found[1]).abs().max() > 100 * (found - batch.features[1:]).abs().max()


def batches() -> st.SearchStrategy[list[tuple[np.ndarray, list[int]]]]:
    values = st.floats(-100, 100, width=32)

    def one(size: int) -> st.SearchStrategy[tuple[np.ndarray, list[int]]]:
        labels = st.lists(st.integers(0, 2), min_size=size, max_size=size)
        return st.tuples(npst.arrays(np.float32, (size, *SHAPE), elements=values), labels)

    return st.lists(st.integers(1, 5).flatmap(one), min_size=1, max_size=5)


def gaussian(state: GaussianMemory) -> dict[int, tuple[int, np.ndarray, np.ndarray]]:
    """Count, mean and population variance by class."""
    saved = state.state_dict()
    return {
        label: (count, saved["mean"][row].numpy(), saved["squares"][row].numpy() / count)
        for row, (label, count) in enumerate(saved["counts"].tolist())
    }


@given(batches())
@example(
    [(np.array([[[[0, 0, 0]], [[0, 0, 0]]], [[[0, 1e-22, 0]], [[0, 0, 0]]]], np.float32), [0, 0])]
)
def test_mean_and_variance_are_those_of_all_frames(stream: list[tuple[np.ndarray, list[int]]]):
    memory = GaussianMemory(SHAPE, "cpu")
    for features, labels in stream:
        memory.offer(torch.from_numpy(features), torch.tensor(labels))
    frames = np.concatenate([features for features, _ in stream]).astype(np.float64)
    labels = np.concatenate([labels for _, labels in stream])
    figures = gaussian(memory)
    assert figures.keys() == set(labels.tolist())
    for label, (count, mean, variance) in figures.items():
        mine = frames[labels == label]
        assert memory.count(label) == count == len(mine)
        # Sums over the frames, in as many pieces as there are batches. Squares of less than 1e-15
        # leave float32.
        largest, layers = max(1e-15, float(np.abs(mine).max())), len(stream)
        assert_rounded(mean, mine.mean(0), len(mine), layers, largest)
        assert_rounded(variance, mine.var(0), len(mine), layers, 4 * largest**2)
    assert len(memory) == len(figures)
    assert memory.nbytes == 2 * 4 * 6 * len(figures)
    assert memory.bookkeeping_bytes == 16 * len(figures)


def test_variance_is_exact_far_from_zero():
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(400, *SHAPE, generator=generator) + 1_000
    memory = GaussianMemory(SHAPE, "cpu")
    for piece in frames.split(7):
        memory.offer(piece, torch.zeros(len(piece), dtype=torch.int64))
    _, _, variance = gaussian(memory)[0]
    np.testing.assert_allclose(variance, frames.double().var(0, correction=0), rtol=1e-3)


def test_published_size_of_a_class():
    memory = GaussianMemory((512, 13, 13), "cpu")
    memory.offer(torch.zeros(3, 512, 13, 13), torch.tensor([0, 4, 4]))
    assert memory.nbytes == 2 * 2 * 86_528 * 4
    assert memory.count(4) == 2
    assert memory.count(1) == 0


def filled() -> GaussianMemory:
    memory = GaussianMemory(SHAPE, "cpu")
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([0.0, 1.0, 3.0])
    frames = torch.randn(200, *SHAPE, generator=generator) * spread + torch.tensor([5.0, 0.0, -2.0])
    labels = torch.arange(200) % 2 * 3
    frames[labels == 3] += 100
    memory.offer(frames, labels)
    return memory


def test_draws_follow_the_diagonal_gaussian_of_their_class():
    memory = filled()
    drawn = memory.draw([0] * 3_000 + [3] * 3_000, torch.Generator().manual_seed(1))
    assert drawn.shape == (6_000, *SHAPE)
    for label, part in ((0, drawn[:3_000]), (3, drawn[3_000:])):
        _, mean, variance = gaussian(memory)[label]
        np.testing.assert_allclose(part.mean(0), mean, atol=0.25)
        np.testing.assert_allclose(part.var(0), variance, rtol=0.15, atol=1e-6)
    flat = drawn[:3_000].flatten(1)[:, [1, 2, 4, 5]]
    correlation = torch.corrcoef(flat.T) - torch.eye(4)
    assert correlation.abs().max() < 0.1


def test_saved_gaussians_go_on_as_they_would_have():
    first, again = filled(), GaussianMemory(SHAPE, "cpu")
    again.offer(torch.ones(1, *SHAPE), torch.tensor([8]))
    again.load_state_dict(first.state_dict())
    more = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(2))
    for memory in (first, again):
        memory.offer(more, torch.tensor([0, 3, 5, 5]))
    drawn = [memory.draw([5, 0, 3], torch.Generator().manual_seed(3)) for memory in (first, again)]
    assert torch.equal(*drawn)
    assert first.count(8) == again.count(8) == 0


def test_saved_gaussians_of_no_class():
    memory = filled()
    memory.load_state_dict(GaussianMemory(SHAPE, "cpu").state_dict())
    assert len(memory) == memory.nbytes == 0
