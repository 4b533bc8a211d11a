"""Class means and covariance in one pass: equal to a batch computation, for ever."""

from __future__ import annotations

import pytest
import torch

from crumb.memory.moments import ClassMoments


def moments(dimensions, classes, seed=0, covariance=True):
    made = ClassMoments(
        dimensions, torch.device("cpu"), torch.Generator().manual_seed(seed), covariance
    )
    made.make_room(classes)
    return made


def in_batch(vectors, labels, classes):
    """Means and pooled covariance of all frames at once, in double precision."""
    vectors = vectors.double()
    means = torch.stack([vectors[labels == label].mean(0) for label in range(classes)])
    deviations = vectors - means[labels]
    return means, deviations.T @ deviations / len(vectors)


def test_hand_computed():
    made = moments(2, 2)
    made.add(torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 0]))
    # The mean of class 0 is (1, 0); both deviations are one along the first axis.
    assert made.mean_vectors()[0].tolist() == [1, 0]
    assert made.covariance_matrix().tolist() == [[1, 0], [0, 0]]
    made.add(torch.tensor([[4.0, 3.0], [8.0, 8.0]]), torch.tensor([0, 1]))
    # Class 0: (0, 0), (2, 0), (4, 3), mean (2, 1); sums of squares 8 and 6, of products 6.
    assert made.mean_vectors().tolist() == [[2, 1], [8, 8]]
    assert made.covariance_matrix().tolist() == [[2, 1.5], [1.5, 1.5]]
    assert made.counts.tolist() == [3, 1]


def frames(count, dimensions, classes, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (count,), generator=generator)
    mixing = torch.randn(dimensions, dimensions, generator=generator) / dimensions**0.5
    centres = 2 * torch.randn(classes, dimensions, generator=generator)
    noise = torch.randn(count, dimensions, generator=generator)
    return scale * (noise @ mixing + centres[labels]), labels


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("order", ["mixed", "sorted"])
def test_one_pass_is_a_batch_computation_up_to_rounding(order, scale):
    vectors, labels = frames(600, 12, 4, scale=scale)
    if order == "sorted":
        vectors, labels = vectors[labels.argsort()], labels.sort().values
    made = moments(12, 4)
    for part in range(0, 600, 21):
        made.add(vectors[part : part + 21], labels[part : part + 21])
    means, covariance = in_batch(vectors, labels, 4)
    spread = covariance.diagonal().sqrt()
    assert ((made.mean_vectors() - means).abs() / spread).max() < 0.03
    correlation = (made.covariance_matrix() - covariance).abs() / torch.outer(spread, spread)
    assert correlation.max() < 0.03


def test_rounding_to_the_nearest_number_would_drift():
    """What the random rounding is for: frames that come late move a mean by less than a step."""
    made = moments(1, 1, covariance=False)
    made.add(torch.ones(1, 1), torch.zeros(1, dtype=torch.int64))
    for _ in range(3000):
        made.add(torch.full((1, 1), 2.0), torch.zeros(1, dtype=torch.int64))
    assert made.mean_vectors().item() == pytest.approx(2, abs=0.03)
    nearest = torch.ones((), dtype=torch.float16)
    for count in range(1, 3001):
        nearest = (nearest.float() + (2 - nearest.float()) / (count + 1)).half()
    assert made.mean_vectors().item() > nearest.item()


def test_leading_dimensions_are_what_they_would_have_been():
    vectors, labels = frames(200, 8, 3)
    whole, part = moments(8, 3), moments(5, 3)
    whole.add(vectors, labels)
    whole.drop(5)
    part.add(vectors[:, :5], labels)
    assert whole.nbytes == part.nbytes == ClassMoments.bytes_for(3, 5, True)
    torch.testing.assert_close(whole.mean_vectors(), part.mean_vectors(), rtol=0.01, atol=0.01)
    torch.testing.assert_close(
        whole.covariance_matrix(), part.covariance_matrix(), rtol=0.01, atol=0.01
    )


def test_merged_classes_are_one_class():
    vectors, labels = frames(400, 6, 3)
    apart, together = moments(6, 3), moments(6, 2)
    apart.add(vectors, labels)
    apart.merge(0, 2)
    together.add(vectors, torch.where(labels == 2, 0, labels))
    assert torch.equal(apart.counts, together.counts)
    torch.testing.assert_close(apart.mean_vectors(), together.mean_vectors(), rtol=0.01, atol=0.01)
    torch.testing.assert_close(
        apart.covariance_matrix(), together.covariance_matrix(), rtol=0.01, atol=0.02
    )


def test_a_forgotten_class_leaves_the_others_alone():
    vectors, labels = frames(90, 4, 3)
    made = moments(4, 3)
    made.add(vectors, labels)
    before, covariance = made.mean_vectors(), made.covariance_matrix()
    made.forget(1)
    assert torch.equal(made.mean_vectors(), before[[0, 2]])
    assert torch.equal(made.covariance_matrix(), covariance)
