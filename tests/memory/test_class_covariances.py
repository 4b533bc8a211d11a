"""A covariance for each class in one pass: equal to a batch computation."""

from __future__ import annotations

import torch

from crumb.memory.class_covariances import ClassCovariances


def covariances(dimensions: int, classes: int) -> ClassCovariances:
    made = ClassCovariances(
        dimensions, torch.device("cpu"), torch.Generator().manual_seed(0), covariance=True
    )
    made.make_room(classes)
    return made


def test_hand_computed():
    made = covariances(2, 3)
    made.add(torch.tensor([[0.0, 0], [2, 0], [5, 5]]), torch.tensor([0, 0, 2]))
    assert made.covariance_of(0).tolist() == [[1, 0], [0, 0]]
    made.add(torch.tensor([[4.0, 3], [8, 8], [5, 7]]), torch.tensor([0, 1, 2]))
    # Class 0: (0, 0), (2, 0), (4, 3), mean (2, 1); sums of squares 8 and 6, of products 6.
    found = made.covariance_of(0)
    torch.testing.assert_close(found, torch.tensor([[8.0, 6], [6, 6]]) / 3, rtol=2e-3, atol=0)
    assert made.covariance_of(1).tolist() == [[0, 0], [0, 0]]
    expected = torch.tensor([[0.0, 0], [0, 1]])
    torch.testing.assert_close(made.covariance_of(2), expected, rtol=2e-3, atol=0)
    # The deviations of all six frames: 8 + 0 + 0, 6 + 0 + 2.
    pooled = torch.tensor([[8.0, 6], [6, 8]]) / 6
    torch.testing.assert_close(made.covariance_matrix(), pooled, rtol=2e-3, atol=0)
    _, deviations = made.overall()
    assert (deviations.square() > made.covariance_matrix().diagonal() / made.scale**2).all()


def test_one_pass_is_a_batch_computation_up_to_rounding():
    count, wide = 900, 8
    draws = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (count,), generator=draws)
    mixing = torch.randn(3, wide, wide, generator=draws)
    vectors = (torch.randn(count, 1, wide, generator=draws) @ mixing[labels])[:, 0] + labels[
        :, None
    ]
    made = covariances(wide, 3)
    for start in range(0, count, 21):
        made.add(vectors[start : start + 21], labels[start : start + 21])
    for label in range(3):
        expected = vectors[labels == label].double().T.cov(correction=0)
        spread = expected.diagonal().sqrt()
        errors = (made.covariance_of(label) - expected).abs() / torch.outer(spread, spread)
        assert errors.max() < 0.03


def test_two_merged_classes_are_one():
    draws = torch.Generator().manual_seed(0)
    vectors = torch.randn(40, 3, generator=draws)
    apart, joined = covariances(3, 3), covariances(3, 2)
    labels = torch.tensor([0] * 10 + [1] * 20 + [2] * 10)
    apart.add(vectors, labels)
    apart.merge(0, 2)
    joined.add(vectors, labels % 2)
    assert apart.counts.tolist() == joined.counts.tolist() == [20, 20]
    for label in range(2):
        torch.testing.assert_close(
            apart.covariance_of(label), joined.covariance_of(label), rtol=0.01, atol=0.01
        )


def test_a_forgotten_class_leaves_the_covariances_of_others():
    made = covariances(2, 3)
    made.add(torch.tensor([[1.0, 0], [0, 1], [3, 3], [4, 5]]), torch.tensor([0, 0, 2, 2]))
    kept = made.covariance_of(2)
    made.forget(0)
    assert torch.equal(made.covariance_of(1), kept)
    assert made.nbytes == ClassCovariances.bytes_for(2, 2, covariance=True)


def test_leading_dimensions_keep_their_covariances():
    made = covariances(3, 2)
    made.add(torch.tensor([[1.0, 0, 2], [0, 1, 4]]), torch.tensor([1, 1]))
    before = made.covariance_of(1)
    made.drop(2)
    assert torch.equal(made.covariance_of(1), before[:2, :2])
    assert made.nbytes == ClassCovariances.bytes_for(2, 2, covariance=True)
