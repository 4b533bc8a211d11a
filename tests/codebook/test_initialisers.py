from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from crumb.codebook import initialisers
from crumb.codebook.initialisers import (
    INITIALISERS,
    PUBLISHED,
    FeatureStatistics,
    check_initialiser,
    initial_blocks,
)
from crumb.errors import InputError

SQUEEZENET = PUBLISHED["squeezenet1_0", "features.12"]
ANY_SIZE = [name for name in INITIALISERS if "everyperm" not in name]
SIZES = [(name, 256, 16) for name in ANY_SIZE] + [
    ("random_everyperm", 256, 8),
    ("random_everyperm_shuffled", 256, 8),
    ("random_everyperm_remove_half_rows", 128, 8),
]


def maps(seed: int = 0) -> Tensor:
    """Feature maps like a network's: rectified, standard deviation about 2.9, half zeros."""
    values = torch.randn(4, 32, 5, 5, generator=torch.Generator().manual_seed(seed))
    return (5 * values).relu()


def blocks(
    name: str,
    count: int = 256,
    length: int = 16,
    seed: int = 0,
    published: FeatureStatistics | None = None,
    features: Tensor | None = None,
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    pool = maps() if features is None else features
    return initial_blocks(name, count, length, pool, generator, published)


@pytest.mark.parametrize(("name", "count", "length"), SIZES)
def test_every_initialiser_has_its_shape_and_follows_its_seed(name: str, count: int, length: int):
    before = torch.get_rng_state()
    first = blocks(name, count, length)
    assert first.shape == (count, length)
    assert first.dtype == torch.float32
    assert torch.equal(blocks(name, count, length), first)
    assert torch.equal(blocks(name, count, length, seed=1), first) == (name == "zeros")
    assert torch.equal(torch.get_rng_state(), before)


def test_all_published_names_are_there():
    published = {
        "random_standard_normal",
        "normal_MobileNet",
        "random_uniform",
        "random_distmatch_dense",
        "random_distmatch_sparse",
        "random_distmatch_sparse_scratch_pretrain",
        "random_everyperm",
        "random_everyperm_shuffled",
        "random_everyperm_remove_half_rows",
        "sample_first_batch",
        "zeros",
    }
    assert INITIALISERS.keys() - published == {"sample_slices", "normal_matched"}
    assert published <= INITIALISERS.keys()


def test_published_statistics():
    assert (SQUEEZENET.sigma, SQUEEZENET.rho) == (14, 0.64)
    early = PUBLISHED["squeezenet1_0", "features.3"]
    assert (early.sigma, early.rho) == (0.73, 0.25)


@pytest.mark.parametrize(("length", "zeros"), [(16, 2_621), (8, 1_311)])
@pytest.mark.parametrize("seed", range(3))
def test_sparse_has_the_published_number_of_zeros(length: int, zeros: int, seed: int):
    values = blocks("random_distmatch_sparse", 256, length, seed, SQUEEZENET)
    assert (values == 0).sum() == zeros
    assert values.min() == 0


def test_zeros_of_sparse_are_spread_over_all_blocks():
    rows = (blocks("random_distmatch_sparse", published=SQUEEZENET) == 0).sum(1)
    assert rows.min() >= 1
    assert rows.max() <= 16
    assert rows.float().std() < 4


def test_sparse_from_scratch_ignores_the_features():
    values = blocks("random_distmatch_sparse_scratch_pretrain", published=SQUEEZENET)
    assert (values == 0).sum() == round(0.38 * 4_096)
    kept = values[values > 0]
    # Second moment of a half normal of scale 0.8523 * 5 / 3.
    assert kept.square().mean().sqrt().item() == pytest.approx(0.8523 * 5 / 3, rel=0.05)


@pytest.mark.parametrize("sigma", [14, 0.73])
def test_dense_has_the_standard_deviation_of_the_features(sigma: float):
    values = blocks("random_distmatch_dense", published=FeatureStatistics(sigma, 0.5))
    assert values.std().item() == pytest.approx(sigma, rel=0.05)
    assert (values > 0).all()


def test_matched_initialisers_measure_what_is_not_published():
    sigma = maps().std().item()
    assert blocks("random_distmatch_dense").std().item() == pytest.approx(sigma, rel=0.05)
    share = (maps() == 0).float().mean().item()
    assert (blocks("random_distmatch_sparse") == 0).sum() == round(share * 4_096)
    normal = blocks("normal_matched")
    assert normal.std().item() == pytest.approx(sigma, rel=0.05)
    assert abs(normal.mean().item()) < 0.2 * sigma


def test_measured_statistics():
    features = torch.tensor([0.0, 0.0, 0.0, 4.0]).view(1, 1, 2, 2)
    measured = FeatureStatistics.measure(features)
    assert (measured.sigma, measured.rho) == (pytest.approx(2.0), 0.75)


@pytest.mark.parametrize(
    ("name", "std"), [("random_standard_normal", 1), ("normal_MobileNet", 0.5)]
)
def test_normal_blocks(name: str, std: float):
    values = blocks(name)
    assert values.std().item() == pytest.approx(std, rel=0.05)
    assert abs(values.mean().item()) < 0.05


def test_uniform_blocks():
    values = blocks("random_uniform")
    assert values.min() >= 0
    assert values.max() < 1
    assert values.mean().item() == pytest.approx(0.5, abs=0.02)
    assert values.std().item() == pytest.approx(12**-0.5, rel=0.05)


def test_zero_blocks():
    assert not blocks("zeros").any()


def test_entries_of_the_first_batch():
    values = blocks("sample_first_batch")
    assert torch.isin(values, maps()).all()
    assert (values == 0).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_slices_of_the_first_batch():
    cut = maps().permute(0, 2, 3, 1).reshape(-1, 16)
    there = {tuple(row) for row in cut.tolist()}
    values = blocks("sample_slices")
    assert {tuple(row) for row in values.tolist()} <= there
    assert len(values.unique(dim=0)) > 50


@pytest.fixture
def levels(monkeypatch: pytest.MonkeyPatch) -> tuple[float, float]:
    """With every normal number equal to one, the pattern is all that is left."""
    ones = lambda request: torch.ones(request.count, request.length)  # noqa: E731
    monkeypatch.setattr(initialisers.Request, "normal", ones)
    return 14 * 5 / 3, 14 * 5 / 3 * 0.05


def patterns(values: Tensor, levels: tuple[float, float]) -> list[tuple[int, ...]]:
    large, small = levels
    ones = values > (large + small) / 2
    torch.testing.assert_close(values, torch.where(ones, large, small))
    return [tuple(row) for row in ones.int().tolist()]


def test_every_permutation_holds_every_binary_row_in_order(levels: tuple[float, float]):
    values = blocks("random_everyperm", 256, 8, published=SQUEEZENET)
    assert patterns(values, levels) == list(itertools.product((0, 1), repeat=8))


def test_shuffled_permutation_has_the_same_entries_elsewhere(levels: tuple[float, float]):
    values = blocks("random_everyperm_shuffled", 256, 8, published=SQUEEZENET)
    found = patterns(values, levels)
    assert sum(map(sum, found)) == 256 * 8 / 2
    assert len(set(found)) < 256


def test_half_of_the_permutations(levels: tuple[float, float]):
    halves = [
        patterns(blocks("random_everyperm_remove_half_rows", 128, 8, seed, SQUEEZENET), levels)
        for seed in (0, 1)
    ]
    for half in halves:
        assert len(set(half)) == 128
    assert set(halves[0]) != set(halves[1])


def test_permutation_levels_are_independent_half_normals():
    values = blocks("random_everyperm", 256, 8, published=SQUEEZENET)
    ones = torch.tensor(list(itertools.product((False, True), repeat=8)))
    for part, scale in ((values[ones], 1), (values[~ones], 0.05)):
        assert part.std().item() == pytest.approx(14 * scale, rel=0.08)
        assert (part > 0).all()


@pytest.mark.parametrize(
    ("name", "count", "length"),
    [
        ("random_everyperm", 256, 16),
        ("random_everyperm", 255, 8),
        ("random_everyperm", 4, 64),
        ("random_everyperm_shuffled", 128, 8),
        ("random_everyperm_remove_half_rows", 256, 8),
    ],
)
def test_permutations_need_their_number_of_blocks(name: str, count: int, length: int):
    with pytest.raises(InputError, match=rf"needs 2\^D .* not {count} of {length}; .*blocks"):
        blocks(name, count, length)


def test_unknown_initialiser_names_those_there_are():
    with pytest.raises(InputError, match="initialiser='nope': .*random_distmatch_sparse"):
        check_initialiser("nope", 256, 8)


def test_no_blocks_at_all():
    with pytest.raises(InputError, match="blocks=0"):
        check_initialiser("zeros", 0, 8)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite(value: float):
    features = maps()
    features[0, 0, 0, 0] = value
    with pytest.raises(InputError, match="not finite"):
        blocks("normal_matched", features=features)
