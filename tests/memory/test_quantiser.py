"""The product quantiser against slow forms of it, and against another implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rounding import assert_rounded, tolerance
from torch import Tensor

from crumb.data.batches import Batch
from crumb.errors import InputError
from crumb.memory.quantiser import (
    VECTORS_PER_CENTROID,
    ProductQuantiser,
    QuantisedStorage,
    centroid_bytes,
    kmeans,
    nearest_centroids,
    packed,
    sample_vectors,
    unpacked,
)
from crumb.testing.networks import Task


def frames_of(features: Tensor, batch_size: int) -> Task:
    """Feature maps of class 0."""
    parts = features.split(batch_size)
    return Task([Batch(torch.zeros(len(part), dtype=torch.int64), part) for part in parts])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def maps_of(*shape: int, seed: int = 0, last: bool = True) -> Tensor:
    """Feature maps as a rectified layer gives them, in channels-last memory or not."""
    maps = (torch.randn(shape, generator=seeded(seed)) * 3 + 1).relu()
    return maps.contiguous(memory_format=torch.channels_last) if last else maps


def quantiser_of(shape: tuple[int, int, int], codebooks: int, count: int, seed: int = 0):
    quantiser = ProductQuantiser(shape, codebooks, count)
    values = torch.randn(codebooks, count, shape[0] // codebooks, generator=seeded(seed))
    quantiser.begin_with(values * 3 + 1)
    return quantiser


def error(vectors: Tensor, centroids: Tensor) -> float:
    gaps = torch.cdist(vectors.double(), centroids.double())
    return gaps.min(1).values.square().sum().item()


@pytest.mark.parametrize("last", [True, False])
def test_codes_are_those_of_a_slow_form(last: bool):
    maps = maps_of(3, 12, 4, 5, last=last)
    quantiser = quantiser_of((12, 4, 5), 3, 9)
    codes = quantiser.encode(maps)
    assert (codes.dtype, codes.shape) == (torch.uint8, (3, 4 * 5 * 3 // 2))
    # Nine centroids: two numbers in a byte, the earlier one in its upper half.
    numbers = torch.stack([codes >> 4, codes & 15], 2).flatten(1)
    values, centroids = maps.double().numpy(), quantiser.centroids.double().numpy()
    rebuilt = quantiser.decode(codes)
    assert rebuilt.is_contiguous(memory_format=torch.channels_last)
    place = 0
    for row in range(4):
        for column in range(5):
            for part in range(3):
                channels = slice(4 * part, 4 * part + 4)
                for frame in range(3):
                    gaps = np.square(centroids[part] - values[frame, channels, row, column])
                    best = gaps.sum(1).argmin()
                    assert numbers[frame, place] == best
                    found = rebuilt[frame, channels, row, column]
                    assert torch.equal(found, quantiser.centroids[part, best].float())
                place += 1


@settings(max_examples=30)
@given(
    st.integers(1, 4), st.integers(1, 3), st.integers(2, 256), st.integers(1, 3), st.integers(0, 99)
)
def test_no_centroid_is_nearer_but_for_rounding(codebooks, length, count, side, seed):
    quantiser = quantiser_of((codebooks * length, side, side + 1), codebooks, count, seed)
    maps = maps_of(2, *quantiser.feature_shape, seed=seed)
    rebuilt = quantiser.decode(quantiser.encode(maps))
    for part in range(codebooks):
        channels = slice(part * length, (part + 1) * length)
        vectors, found = (
            values[:, channels].permute(0, 2, 3, 1).reshape(-1, length).double()
            for values in (maps, rebuilt)
        )
        gaps = torch.cdist(vectors, quantiser.centroids[part].double()).square()
        excess = (vectors - found).square().sum(1) - gaps.min(1).values
        # Distances are compared by products with the centroids, which are about as large.
        largest = max(vectors.abs().max().item(), quantiser.centroids.abs().max().item())
        assert excess.max() <= 2 * tolerance(length + 2, 4 * length * largest**2)


def test_large_common_values_cost_no_digits():
    centroids = torch.tensor([[10_000.0, 0.0], [10_000.5, 0.0], [10_001.0, 0.0]])
    vectors = torch.tensor([[10_000.2, 0.0], [10_000.3, 0.0], [10_000.7, 0.0], [10_000.8, 0.0]])
    assert nearest_centroids(vectors, centroids).tolist() == [0, 1, 1, 2]


def test_the_first_of_equals_is_taken():
    centroids = torch.tensor([[3.0], [1.0], [1.0], [2.0]])
    assert nearest_centroids(torch.tensor([[1.0], [1.25]]), centroids).tolist() == [1, 1]


def test_bytes_are_those_of_the_centroids():
    quantiser = ProductQuantiser((512, 13, 13), 32, 256)
    assert quantiser.nbytes == centroid_bytes(512, 256) == 262_144
    storage = QuantisedStorage(quantiser)
    assert (storage.reader_bytes, storage.row_shape, storage.dtype) == (
        262_144,
        (5_408,),
        torch.uint8,
    )


@pytest.mark.parametrize(
    ("centroids", "size"),
    [(2, 676), (3, 1_352), (16, 2_704), (17, 3_380), (128, 4_732), (129, 5_408)],
)
def test_a_number_takes_as_many_bits_as_tell_the_centroids_apart(centroids: int, size: int):
    assert ProductQuantiser((512, 13, 13), 32, centroids).code_length == size


def test_numbers_are_packed_without_gaps():
    numbers = torch.tensor([[5, 0, 7, 2], [1, 6, 3, 4]], dtype=torch.uint8)
    # 101 000 111 010 and 001 110 011 100, each filled up with four zeros.
    assert packed(numbers, 3).tolist() == [[0b10100011, 0b10100000], [0b00111001, 0b11000000]]


@given(st.integers(1, 8), st.integers(1, 20), st.integers(0, 99))
def test_packed_numbers_come_back(bits: int, count: int, seed: int):
    numbers = torch.randint(1 << bits, (3, count), dtype=torch.uint8, generator=seeded(seed))
    codes = packed(numbers, bits)
    assert codes.shape == (3, -(-count * bits // 8))
    assert torch.equal(unpacked(codes, bits, count), numbers)


def test_centroids_are_kept_in_half_precision():
    quantiser = ProductQuantiser((1, 1, 1), 1, 3)
    quantiser.begin_with(torch.tensor([[[0.1], [1e6], [-1e6]]]))
    assert quantiser.state_dict()["centroids"].dtype == torch.half
    found = quantiser.decode(quantiser.encode(torch.tensor([0.0, 9e9, -9e9]).view(3, 1, 1, 1)))
    # The nearest of 11 significant bits; what is too large stays finite.
    assert found.dtype == torch.float32
    assert found.flatten().tolist() == [0.0999755859375, 65504, -65504]


def test_storage_is_the_quantiser():
    quantiser = quantiser_of((8, 2, 2), 2, 5)
    maps = maps_of(3, 8, 2, 2)
    rows = QuantisedStorage(quantiser).encode(Batch(torch.zeros(3).long(), maps))
    assert torch.equal(rows, quantiser.encode(maps))
    assert torch.equal(QuantisedStorage(quantiser).features(rows), quantiser.decode(rows))


# K-means.


def slow_kmeans(vectors: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Lloyd's algorithm as a textbook has it, where no cluster ever is empty."""
    centroids = first.astype(np.float64)
    for _ in range(25):
        gaps = np.square(vectors[:, None] - centroids[None]).sum(2)
        nearest = gaps.argmin(1)
        centroids = np.stack([vectors[nearest == k].mean(0) for k in range(len(first))])
    return centroids


def test_kmeans_is_that_of_a_textbook():
    vectors = torch.randn(400, 3, generator=seeded(1))
    first = vectors[torch.randperm(400, generator=seeded(5))[:6]]
    expected = slow_kmeans(vectors.double().numpy(), first.numpy())
    found = kmeans(vectors, 6, seeded(5))
    # The same vectors in each cluster, each mean rounded once.
    assert_rounded(found, expected, 1)
    assert error(vectors, found) < error(vectors, first)


@settings(max_examples=50)
@given(st.integers(1, 6), st.integers(1, 40), st.integers(0, 99))
def test_no_more_distinct_vectors_than_centroids_are_kept_as_they_are(distinct, copies, seed):
    values = torch.randn(distinct, 2, generator=seeded(seed)) * 10
    # One of them makes up nearly all, so that the others are rarely among the first centroids.
    vectors = torch.cat([values, values[:1].expand(copies, -1)])
    centroids = kmeans(vectors, 6, seeded(seed))
    assert centroids.shape == (6, 2)
    assert error(vectors, centroids) < 1e-6 * vectors.square().sum().item()


def test_fewer_vectors_than_centroids_are_enough():
    quantiser = ProductQuantiser((8, 1, 3), 2, 64)
    assert not quantiser.ready
    maps = maps_of(2, 8, 1, 3)
    quantiser.fit(frames_of(maps, 1), seeded())
    assert quantiser.ready
    # Half precision rounds by one part in 2,048 at most.
    torch.testing.assert_close(quantiser.decode(quantiser.encode(maps)), maps, rtol=2**-11, atol=0)


def test_an_empty_cluster_takes_the_worst_vector():
    # Whatever is drawn first, 25 means of one value each must be found for 25 far clusters.
    generator = seeded(3)
    centres = torch.arange(25.0)[:, None] * 100
    vectors = torch.cat([centres, centres[:1].expand(2000, -1)])
    centroids = kmeans(vectors[torch.randperm(len(vectors), generator=generator)], 25, generator)
    assert sorted(centroids.flatten().round().tolist()) == centres.flatten().tolist()


def test_each_sub_vector_has_centroids_of_its_own():
    quantiser = ProductQuantiser((6, 4, 4), 3, 4)
    maps = maps_of(5, 6, 4, 4) + torch.tensor([0.0, 0, 50, 50, 900, 900]).view(1, 6, 1, 1)
    quantiser.fit(frames_of(maps, 2), seeded())
    means = quantiser.centroids.mean((1, 2))
    assert means[0] < 20 < means[1] < 100 < 900 < means[2]
    spread = (maps - maps.mean((0, 2, 3), keepdim=True)).square().sum()
    assert (quantiser.decode(quantiser.encode(maps)) - maps).square().sum() < 0.4 * spread


def test_same_seed_same_centroids_without_global_state():
    def centroids(seed: int) -> Tensor:
        quantiser = ProductQuantiser((8, 3, 3), 2, 4)
        quantiser.fit(frames_of(maps_of(20, 8, 3, 3), 4), seeded(seed))
        return quantiser.centroids

    before = torch.get_rng_state()
    assert torch.equal(centroids(1), centroids(1))
    assert not torch.equal(centroids(1), centroids(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_state_is_taken_over():
    quantiser = quantiser_of((8, 2, 2), 2, 5)
    other = ProductQuantiser((8, 2, 2), 2, 5)
    other.load_state_dict(ProductQuantiser((8, 2, 2), 2, 5).state_dict())
    assert not other.ready
    other.load_state_dict(quantiser.state_dict())
    assert other.ready
    maps = maps_of(2, 8, 2, 2)
    assert torch.equal(other.encode(maps), quantiser.encode(maps))
    with pytest.raises(RuntimeError):
        ProductQuantiser((8, 2, 2), 2, 4).load_state_dict(quantiser.state_dict())


# The sample.


@pytest.mark.parametrize(("batch_size", "most"), [(3, 50), (3, 7), (1, 4), (4, 1_000), (11, 60)])
def test_sample_is_of_the_channel_vectors_spread_over_the_batches(batch_size: int, most: int):
    # Channel c of the vector with number v is 100 v + c, so that rows say where they are from.
    numbers = torch.arange(11 * 6).view(11, 1, 2, 3).float() * 100
    maps = (numbers + torch.arange(5).view(1, 5, 1, 1)).contiguous(
        memory_format=torch.channels_last
    )
    frames = frames_of(maps, batch_size)
    sample = sample_vectors(frames, most, seeded())
    assert frames.reads == 1
    found = (sample[:, 0] / 100).long()
    assert torch.equal(sample, found[:, None] * 100.0 + torch.arange(5))
    assert len(found.unique()) == len(found) <= most
    per_batch = torch.bincount(found // (6 * batch_size), minlength=len(frames))
    share = most / len(frames)
    for count, frames_in in zip(per_batch.tolist(), map(len, maps.split(batch_size)), strict=True):
        assert min(int(share), 6 * frames_in) <= count <= share + 1


def test_centroids_are_fitted_to_256_vectors_each_in_one_reading(monkeypatch):
    sizes = []

    def first(part: Tensor, count: int, generator: torch.Generator) -> Tensor:
        sizes.append(len(part))
        return part[:count]

    monkeypatch.setattr("crumb.memory.quantiser.kmeans", first)
    quantiser = ProductQuantiser((2, 20, 20), 2, 3)
    frames = frames_of(maps_of(10, 2, 20, 20), 5)
    quantiser.fit(frames, seeded())
    assert frames.reads == 1
    assert sizes == [3 * VECTORS_PER_CENTROID] * 2


@pytest.mark.parametrize("codebooks", [0, 5, 24])
def test_sub_vectors_must_be_of_equal_length(codebooks: int):
    match = f"pq_codebooks={codebooks}: does not divide the 12 channels.*1, 2, 3, 4, 6, 12"
    with pytest.raises(InputError, match=match):
        ProductQuantiser((12, 2, 2), codebooks, 4)


# Another implementation.


@pytest.fixture(scope="module")
def shared_data():
    """Vectors of 16 channels in 40 overlapping groups, rectified as features are."""
    generator = seeded(8)
    centres = torch.randn(40, 16, generator=generator) * 2
    vectors = centres[torch.randint(40, (8_192,), generator=generator)]
    vectors = (vectors + torch.randn(vectors.shape, generator=generator)).relu()
    return vectors.view(32, 16, 16, 16).permute(0, 3, 1, 2)


def test_codes_and_error_are_those_of_faiss(shared_data):
    faiss = pytest.importorskip("faiss")
    maps, count, codebooks = shared_data, 256, 4
    quantiser = ProductQuantiser((16, 16, 16), codebooks, count)
    quantiser.fit(frames_of(maps, 4), seeded())
    vectors = maps.permute(0, 2, 3, 1).reshape(-1, 16).contiguous().numpy()

    theirs = faiss.ProductQuantizer(16, codebooks, 8)
    faiss.copy_array_to_vector(quantiser.centroids.float().numpy().ravel(), theirs.centroids)
    codes = theirs.compute_codes(vectors)
    ours = quantiser.encode(maps).view(-1, codebooks).numpy()
    assert (codes == ours).mean() == 1
    rebuilt = quantiser.decode(quantiser.encode(maps)).permute(0, 2, 3, 1).reshape(-1, 16)
    np.testing.assert_array_equal(theirs.decode(codes), rebuilt.numpy())

    theirs.train(vectors)
    their_error = np.square(theirs.decode(theirs.compute_codes(vectors)) - vectors).sum()
    our_error = np.square(rebuilt.numpy() - vectors).sum()
    assert our_error < 1.03 * their_error
