"""Directions in which a pretrained network tells classes apart, most important first."""

from __future__ import annotations

import torch
from torch import Tensor


def directions(classifier: Tensor, generator: torch.Generator) -> Tensor:
    """An orthonormal basis of the features, nested: any leading part is the best of its size.

    The right singular vectors of the classifier's weights, rows centred, in descending order. They
    cost no memory, as whoever has the network can compute them. Directions beyond the rank of the
    weights are random.

    Args:
        classifier: weights of the network's own last layer, float [classes, D] or
            [classes, D, h, w]; a kernel is averaged over its places.
        generator: of the random directions (CPU).

    Returns:
        float32 [D, D], a direction in each column.
    """
    weights = classifier.detach().to("cpu", torch.float64)
    weights = weights.flatten(2).mean(2) if weights.ndim > 2 else weights
    weights = weights - weights.mean(0)
    _, sizes, right = torch.linalg.svd(weights, full_matrices=False)
    known = right[sizes > 1e-6 * sizes.max().clamp(min=1e-30)].T
    width = weights.shape[1]
    others = torch.randn(width, width, generator=generator, dtype=torch.float64)
    others = others[:, : width - known.shape[1]]
    basis, _ = torch.linalg.qr(torch.cat([known, others], 1))
    # A factorisation is free to turn each vector round: the same signs on every machine.
    largest = basis.gather(0, basis.abs().argmax(0, keepdim=True))
    return (basis * largest.sign()).float().contiguous()
