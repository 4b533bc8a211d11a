"""Directions in which a pretrained network separates classes, the most important first."""

from __future__ import annotations

import torch
from torch import Tensor


def directions(classifier: Tensor, generator: torch.Generator) -> Tensor:
    """An orthonormal basis of the features. The leading directions separate classes best.

    The directions are the right singular vectors of the classifier's weights with centred rows, in
    descending order. They need no memory, because they can be computed again from the network.
    Directions beyond the rank of the weights are random.

    Args:
        classifier: weights of the pretrained last layer, float [classes, D] or [classes, D, h, w].
            A kernel is averaged over its positions.
        generator: generator of the random directions (CPU).

    Returns:
        float32 [D, D], one direction per column.
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
    # The sign of a singular vector is arbitrary, so fix it for all machines.
    largest = basis.gather(0, basis.abs().argmax(0, keepdim=True))
    return (basis * largest.sign()).float().contiguous()
