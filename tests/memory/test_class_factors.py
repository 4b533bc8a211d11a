"""The main axes of each class in one pass: near those of a batch computation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from crumb.memory.class_factors import FactoredMoments

STEP = 1 / 127
"""What 8 bits resolve, as a share of the largest number of a row."""


def moments(dimensions: int, classes: int, rank: int) -> FactoredMoments:
    made = FactoredMoments(dimensions, torch.device("cpu"), torch.Generator().manual_seed(0), rank)
    made.make_room(classes)
    return made


def in_batches(made: FactoredMoments, vectors: Tensor, labels: Tensor, size: int = 21) -> None:
    for start in range(0, len(vectors), size):
        made.add(vectors[start : start + size], labels[start : start + size])


def draw(count: int, wide: int, axes: int, noise: float = 0.1) -> tuple[Tensor, Tensor]:
    """Vectors of three classes, each of which varies along axes of its own."""
    draws = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (count,), generator=draws)
    mixing = torch.randn(3, axes, wide, generator=draws)
    vectors = (torch.randn(count, 1, axes, generator=draws) @ mixing[labels])[:, 0]
    return vectors + noise * torch.randn(count, wide, generator=draws) + labels[:, None], labels


def test_hand_computed():
    """Covariance diag(2, 1/2), of which the first axis is 4/5."""
    made = moments(2, 2, 1)
    made.add(torch.tensor([[2.0, 0], [-2, 0]]), torch.tensor([0, 0]))
    made.add(torch.tensor([[0.0, 1], [0, -1]]), torch.tensor([0, 0]))
    factor, captured = made.factor_of(0)
    assert factor.abs()[0].tolist() == pytest.approx([2**0.5, 0], abs=2 * STEP)
    assert captured == pytest.approx(0.8, rel=2 * STEP)
    assert made.factor_of(1) == (pytest.approx(torch.zeros(1, 2)), 0)


def test_the_shift_of_a_mean_counts_as_variance():
    """Frames that come one by one deviate from nothing but the mean so far."""
    made = moments(2, 1, 2)
    for x in (0.0, 3, 0, 3):
        made.add(torch.tensor([[x, 1.0]]), torch.tensor([0]))
    factor, captured = made.factor_of(0)
    assert (factor.T @ factor).tolist() == [[pytest.approx(2.25, rel=4 * STEP), 0], [0, 0]]
    assert captured == 1


def test_all_axes_are_the_covariance_of_the_class():
    vectors, labels = draw(600, 6, 6)
    made = moments(6, 3, 6)
    in_batches(made, vectors, labels)
    for label in range(3):
        expected = vectors[labels == label].T.cov(correction=0)
        factor, captured = made.factor_of(label)
        spread = expected.diagonal().sqrt()
        errors = (factor.T @ factor - expected).abs() / torch.outer(spread, spread)
        assert errors.max() < 0.05
        assert captured == pytest.approx(1, abs=0.01)


def test_leading_axes_are_those_of_a_batch_computation():
    vectors, labels = draw(900, 20, 3)
    made = moments(20, 3, 3)
    in_batches(made, vectors, labels)
    for label in range(3):
        covariance = vectors[labels == label].T.cov(correction=0)
        variances, _ = torch.linalg.eigh(covariance)
        factor, captured = made.factor_of(label)
        missed = torch.linalg.matrix_norm(covariance - factor.T @ factor, 2)
        assert missed < 0.06 * variances[-1]
        share = variances[-3:].sum() / variances.sum()
        assert captured == pytest.approx(share.item(), abs=0.02)


def test_fewer_axes_are_the_largest_ones():
    vectors, labels = draw(300, 8, 4)
    made, small = moments(8, 3, 4), moments(8, 3, 4)
    for one in (made, small):
        in_batches(one, vectors, labels)
    small.keep(2)
    small.keep(3)
    assert small.rank == 2
    for label in range(3):
        (all_axes, before), (axes, after) = made.factor_of(label), small.factor_of(label)
        sizes = all_axes.square().sum(1)
        assert torch.equal(axes, all_axes[sizes.argsort()[2:]])
        share = float(sizes.topk(2).values.sum() / sizes.sum())
        assert after == pytest.approx(before * share, rel=1e-2)


def test_merged_classes_have_the_axes_of_all_frames():
    vectors, labels = draw(300, 8, 2)
    labels = labels.clamp(max=1)
    apart = moments(8, 2, 6)
    in_batches(apart, vectors, labels)
    apart.merge(0, 1)
    covariance = vectors.T.cov(correction=0)
    factor, _ = apart.factor_of(0)
    missed = torch.linalg.matrix_norm(covariance - factor.T @ factor, 2)
    assert missed < 0.05 * torch.linalg.matrix_norm(covariance, 2)


def test_classes_and_directions_can_be_dropped():
    vectors, labels = draw(90, 8, 2)
    made = moments(8, 3, 2)
    in_batches(made, vectors, labels)
    kept = made.factor_of(2)[0]
    made.forget(1)
    assert torch.equal(made.factor_of(1)[0], kept)
    made.drop(5)
    assert torch.equal(made.factor_of(1)[0], kept[:, :5])
    assert made.nbytes == made.bytes_for(2, 5, True) + made.bytes_of_factors(2, 5, 2)


def test_without_axes_it_is_the_plain_statistics():
    vectors, labels = draw(60, 4, 2)
    made = moments(4, 3, 0)
    in_batches(made, vectors, labels)
    made.merge(0, 2)
    assert made.factor_of(0)[0].shape == (0, 4)
    assert made.bytes_of_factors(2, 4, 0) == 4


def test_two_frames_that_alternate_are_no_trouble():
    """Their factors have many rows of zeros, and with them equal eigenvalues."""
    draws = torch.Generator().manual_seed(4)
    pair = torch.randn(2, 64, generator=draws)
    made = moments(64, 1, 32)
    for size in (8, 32, 32):
        made.add(pair[torch.arange(size) % 2], torch.zeros(size, dtype=torch.int64))
    factor, captured = made.factor_of(0)
    expected = (pair[0] - pair[1]).square().sum() / 4
    assert factor.square().sum() == pytest.approx(expected.item(), rel=0.02)
    assert captured == pytest.approx(1, abs=0.01)
