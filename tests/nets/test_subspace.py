"""Directions of a pretrained network's classifier."""

from __future__ import annotations

import torch

from crumb.nets.subspace import directions


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_first_direction_tells_most_classes_apart():
    weights = torch.zeros(4, 3)
    weights[:, 1] = torch.tensor([5.0, -5.0, 5.0, -5.0])
    weights[:, 2] = torch.tensor([1.0, 1.0, -1.0, -1.0])
    # The same for all classes: it tells nothing apart.
    weights[:, 0] = 100.0
    basis = directions(weights, generator())
    expected = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    torch.testing.assert_close(basis, expected, rtol=0, atol=1e-6)


def test_the_basis_is_orthonormal_beyond_the_rank_of_the_weights():
    weights = torch.randn(5, 16, generator=generator())
    basis = directions(weights, generator(1))
    torch.testing.assert_close(basis.T @ basis, torch.eye(16), rtol=0, atol=1e-5)
    # Rows centred: four classes' worth of directions.
    centred = weights - weights.mean(0)
    assert (centred @ basis[:, 4:]).abs().max() < 1e-5
    other = directions(weights, generator(2))
    assert torch.equal(basis[:, :4], other[:, :4])
    assert not torch.equal(basis[:, 4:], other[:, 4:])


def test_a_kernel_is_averaged_over_its_places():
    weights = torch.randn(6, 4, generator=generator())
    kernel = weights[:, :, None, None].expand(6, 4, 3, 3)
    torch.testing.assert_close(
        directions(kernel, generator()), directions(weights, generator()), rtol=0, atol=1e-5
    )


def test_a_classifier_of_one_class_gives_random_directions():
    basis = directions(torch.ones(1, 3), generator())
    torch.testing.assert_close(basis.T @ basis, torch.eye(3), rtol=0, atol=1e-6)
