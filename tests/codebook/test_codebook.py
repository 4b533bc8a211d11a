from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tests.rounding import assert_rounded
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from crumb.codebook import nearest
from crumb.codebook.codebook import Codebook, check_block_length, code_dtype
from crumb.codebook.statistics import reconstruction_statistics
from crumb.errors import InputError

# Blocks whose length is a power of two (or zero), so that every similarity to small integers is
# exact in float32 and ties are real ties.
EXACT = {
    1: [(0,), (1,), (-1,), (2,), (-0.5,)],
    2: [(0, 0), (1, 0), (0, 1), (-1, 0), (0, -2), (4, 0), (0, 0.5)],
    4: [(0, 0, 0, 0), (1, 0, 0, 0), (0, 0, -2, 0), (1, 1, 1, 1), (1, -1, 1, -1), (-2, 2, 2, 2)],
}


@st.composite
def exact_cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    length = draw(st.sampled_from(sorted(EXACT)))
    blocks = draw(st.lists(st.sampled_from(EXACT[length]), min_size=1, max_size=9))
    batch, slices, height, width = (draw(st.integers(1, 3)) for _ in range(4))
    shape = (batch, slices * length, height, width)
    values = st.one_of(st.just(0), st.integers(-3, 3))
    features = draw(npst.arrays(np.float32, shape, elements=values.map(float)))
    return np.array(blocks, np.float32), features


def reference(blocks: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Argmax of x @ normalize(M).T, one slice after the other, in double precision."""
    length = blocks.shape[1]
    norms = np.maximum(np.linalg.norm(blocks.astype(np.float64), axis=1, keepdims=True), 1e-12)
    codes = []
    for image in features.astype(np.float64):
        _, height, width = image.shape
        codes.append(
            [
                np.argmax(image[first : first + length, row, column] @ (blocks / norms).T)
                for row in range(height)
                for column in range(width)
                for first in range(0, len(image), length)
            ]
        )
    return np.array(codes)


def codebook_of(blocks: np.ndarray, features: np.ndarray) -> Codebook:
    _, channels, height, width = features.shape
    return Codebook(torch.from_numpy(blocks), (channels, height, width))


@given(exact_cases())
def test_encode_is_the_plain_form_and_ties_go_to_the_lowest_index(case):
    blocks, features = case
    codebook = codebook_of(blocks, features)
    codes = codebook.encode(torch.from_numpy(features))
    assert codes.tolist() == reference(blocks, features).tolist()
    assert codes.shape == (len(features), codebook.code_length)
    assert codes.dtype == codebook.dtype == torch.uint8


@given(exact_cases(), st.integers(1, 40))
def test_encode_does_not_depend_on_the_size_of_its_pieces(case, pieces: int):
    blocks, features = case
    codebook = codebook_of(blocks, features)
    whole = codebook.encode(torch.from_numpy(features))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "_SIMILARITIES_AT_ONCE", pieces)
        assert torch.equal(codebook.encode(torch.from_numpy(features)), whole)


@pytest.mark.parametrize("threads", [1, 3])
def test_last_piece_may_be_short(monkeypatch: pytest.MonkeyPatch, threads: int):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 8, 3, 5, generator=generator)
    codebook = Codebook(torch.randn(16, 2, generator=generator), (8, 3, 5))
    whole = codebook.encode(features)
    monkeypatch.setattr(nearest, "_ROWS_PER_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    for rows in (1, 7, 59, 60, 61, 179, 181):
        monkeypatch.setattr(nearest, "_SIMILARITIES_AT_ONCE", 16 * rows)
        assert torch.equal(codebook.encode(features), whole)


@given(exact_cases())
def test_products_without_onednn_choose_the_same_blocks(case):
    blocks, features = case
    codebook = codebook_of(blocks, features)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        codes = codebook.encode(torch.from_numpy(features))
    assert codes.tolist() == reference(blocks, features).tolist()


@given(exact_cases(), st.integers(2, 5), st.booleans())
def test_threads_and_memory_format_change_nothing(case, threads: int, inference: bool):
    blocks, features = case
    codebook = codebook_of(blocks, features)
    maps = torch.from_numpy(features)
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode(inference):
        patch.setattr(nearest, "_ROWS_PER_THREAD", 1)
        patch.setattr(torch, "get_num_threads", lambda: threads)
        expected = reference(blocks, features).tolist()
        assert codebook.encode(maps).tolist() == expected
        laid = maps.contiguous(memory_format=torch.channels_last)
        assert codebook.encode(laid).tolist() == expected


@given(
    npst.arrays(
        np.float32,
        st.tuples(st.integers(1, 12), st.just(3)),
        elements=st.sampled_from([0, 1, -2, math.inf, -math.inf, math.nan]),
    )
)
def test_infinities_and_nan_are_chosen_as_argmax_chooses(slices: np.ndarray):
    directions = torch.tensor([[1.0, 0, 0, 1, 0], [0, 1.0, 0, 0, 1], [0, 0, 1.0, 0, 0]])
    found = nearest.nearest_blocks(torch.from_numpy(slices), directions)
    assert found.tolist() == (torch.from_numpy(slices) @ directions).argmax(1).tolist()


@given(st.integers(0, 10**6), st.sampled_from([1, 2, 4, 8]), st.integers(1, 40))
def test_chosen_block_has_the_longest_projection(seed: int, length: int, blocks: int):
    generator = torch.Generator().manual_seed(seed)
    codebook = Codebook(torch.randn(blocks, length, generator=generator), (8, 2, 3))
    features = torch.randn(2, 8, 2, 3, generator=generator)
    slices = features.permute(0, 2, 3, 1).reshape(-1, length).double()
    directions = torch.nn.functional.normalize(codebook.blocks.detach().double(), dim=1)
    similarity = slices @ directions.T
    chosen = similarity.gather(1, codebook.encode(features).long().view(-1, 1))
    longest = slices.norm(dim=1).max().item()
    assert_rounded(chosen[:, 0], similarity.amax(1), length, magnitude=longest)


@given(st.integers(0, 10**6), st.floats(0.125, 64))
def test_choice_depends_on_directions_only(seed: int, scale: float):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, 4, 2, 2, generator=generator)
    angles = torch.arange(8) * (math.pi / 4)
    blocks = torch.stack([angles.cos(), angles.sin()], 1)
    lengths = torch.rand(8, 1, generator=generator) + 0.5
    plain = Codebook(blocks, (4, 2, 2)).encode(features)
    scaled = Codebook(blocks * lengths, (4, 2, 2)).encode(features * scale)
    assert (plain == scaled).float().mean() > 0.9


def test_zero_slices_get_index_zero():
    blocks = torch.randn(300, 16, generator=torch.Generator().manual_seed(0))
    codes = Codebook(blocks, (64, 3, 3)).encode(torch.zeros(2, 64, 3, 3))
    assert not codes.int().any()


def test_block_of_length_zero_never_beats_a_positive_projection():
    codebook = Codebook(torch.tensor([[0.0, 0.0], [1e-3, 0.0]]), (2, 1, 1))
    features = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).view(2, 2, 1, 1)
    assert codebook.encode(features).tolist() == [[1], [0]]


def test_order_of_indices_is_row_column_slice():
    angles = torch.arange(12) * (2 * math.pi / 12)
    blocks = torch.stack([angles.cos(), angles.sin()], 1)
    features = torch.empty(1, 4, 2, 3)
    for row in range(2):
        for column in range(3):
            first = (row * 3 + column) * 2
            features[0, 0:2, row, column] = blocks[first]
            features[0, 2:4, row, column] = blocks[first + 1]
    codebook = Codebook(blocks, (4, 2, 3))
    assert codebook.encode(features).tolist() == [list(range(12))]
    assert torch.equal(codebook.decode(torch.arange(12)[None]), features)
    assert torch.equal(codebook(features), features)


def test_decode_reads_the_present_raw_blocks():
    codebook = Codebook(torch.tensor([[3.0, 4.0], [0.0, 5.0]]), (2, 1, 2))
    codes = codebook.encode(torch.tensor([[[[6.0, 0.0]], [[8.0, 1.0]]]]))
    assert codes.tolist() == [[0, 1]]
    assert codebook.decode(codes).tolist() == [[[[3.0, 0.0]], [[4.0, 5.0]]]]
    with torch.no_grad():
        codebook.blocks.add_(1)
    assert codebook.decode(codes).tolist() == [[[[4.0, 1.0]], [[5.0, 6.0]]]]


def test_gradient_reaches_the_chosen_blocks_and_adds_up():
    codebook = Codebook(torch.ones(4, 2), (4, 1, 2))
    weights = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0]).view(1, 2, 4)
    rebuilt = codebook.decode(torch.tensor([[2, 0, 2, 2]], dtype=torch.uint8))
    (rebuilt.permute(0, 2, 3, 1)[0] * weights).sum().backward()
    assert codebook.blocks.grad is not None
    assert codebook.blocks.grad.tolist() == [[4, 8], [0, 0], [1 + 16 + 64, 2 + 32 + 128], [0, 0]]


def test_features_get_no_gradient():
    features = torch.randn(2, 4, 2, 2, requires_grad=True)
    codebook = Codebook(torch.randn(5, 2), (4, 2, 2))
    codebook(features).square().sum().backward()
    assert features.grad is None
    assert codebook.blocks.grad is not None
    assert codebook.blocks.grad.any()


@pytest.mark.parametrize(
    ("blocks", "dtype"),
    [
        (1, torch.uint8),
        (256, torch.uint8),
        (257, torch.uint16),
        (65_536, torch.uint16),
    ],
)
def test_indices_have_the_smallest_type_that_holds_them(blocks: int, dtype: torch.dtype):
    values = torch.zeros(blocks, 2)
    values[-1] = torch.tensor([1.0, 2.0])
    codebook = Codebook(values, (4, 1, 1))
    features = torch.tensor([[3.0, 6.0, -3.0, -6.0]]).view(1, 4, 1, 1)
    codes = codebook.encode(features)
    assert codes.dtype == codebook.dtype == code_dtype(blocks) == dtype
    assert codes.int().tolist() == [[blocks - 1, 0]]
    assert codebook.decode(codes).flatten().tolist() == [1, 2, *values[0].tolist()]


@pytest.mark.parametrize(
    ("shape", "length", "indices"),
    [
        ((512, 13, 13), 16, 5_408),
        ((512, 13, 13), 8, 10_816),
        ((512, 13, 13), 4, 21_632),
        ((512, 13, 13), 32, 2_704),
        ((96, 54, 54), 8, 34_992),
        ((64, 14, 14), 8, 1_568),
    ],
)
def test_published_bytes_of_a_code(shape: tuple[int, int, int], length: int, indices: int):
    codebook = Codebook(torch.randn(256, length), shape)
    codes = codebook.encode(torch.randn(1, *shape))
    assert codebook.code_length == indices
    assert codes.nbytes == indices


class Similarities(TorchDispatchMode):
    """Remembers the bytes of the largest matrix with one column per block."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.blocks, self.largest = blocks, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.ndim == 2 and result.shape[1] == self.blocks:
            self.largest = max(self.largest, result.untyped_storage().nbytes())
        return result


def test_no_similarity_matrix_exceeds_2_megabytes(monkeypatch: pytest.MonkeyPatch):
    # What other threads do is not seen here; they share the limit.
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    codebook, features = Codebook(torch.randn(256, 16), (512, 13, 13)), torch.randn(2, 512, 13, 13)
    with Similarities(256) as seen:
        codebook.encode(features)
    assert 2**20 < seen.largest <= 2**21 < 2 * 5_408 * 256 * 4


def test_an_empty_batch_gives_no_codes():
    assert Codebook(torch.randn(4, 2), (4, 3, 3)).encode(torch.empty(0, 4, 3, 3)).shape == (0, 18)


@pytest.mark.parametrize("length", [0, -1, 3, 32])
def test_block_length_must_divide_the_channels(length: int):
    with pytest.raises(InputError, match=f"block_length={length}: .* 16 .*one of 1, 2, 4, 8, 16"):
        check_block_length(length, 16)


def test_codebook_checks_its_block_length():
    with pytest.raises(InputError, match="block_length=3"):
        Codebook(torch.zeros(2, 3), (16, 1, 1))


def test_blocks_are_copied_and_trainable():
    start = torch.ones(2, 2)
    codebook = Codebook(start, (2, 1, 1))
    with torch.no_grad():
        codebook.blocks.zero_()
    assert start.all()
    assert [name for name, p in codebook.named_parameters() if p.requires_grad] == ["blocks"]


def test_published_figures_of_codebook_and_reconstruction():
    codebook = Codebook(torch.tensor([[1.0], [-2.0]]), (2, 1, 2))
    features = torch.tensor([[[[3.0, 0.0]], [[-1.0, 0.0]]]])
    # Rebuilt as 1, 1, -2, 1.
    expected = {
        "codebook_mean": -0.5,
        "codebook_std": round(math.sqrt(4.5), 5),
        "codebook_max": 1.0,
        "codebook_min": -2.0,
        "codebook_sparsity": 0.0,
        "orig_fbanks_mean": 0.5,
        "orig_fbanks_std": round(math.sqrt(3), 5),
        "orig_fbanks_max": 3.0,
        "orig_fbanks_min": -1.0,
        "orig_fbanks_sparsity": 0.5,
        "reconstr_fbanks_mean": 0.25,
        "reconstr_fbanks_std": 1.5,
        "reconstr_fbanks_max": 1.0,
        "reconstr_fbanks_min": -2.0,
        "reconstr_fbanks_sparsity": 0.0,
        "reconstr_mse": 1.75,
    }
    figures = reconstruction_statistics(codebook, features)
    assert list(figures) == list(expected)
    assert figures == pytest.approx(expected, abs=1.1e-5)
