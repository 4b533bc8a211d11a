"""Scores of vectors: streaming LDA and nearest class mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from crumb_lite.moments import Moments

_MIN_SPREAD = 1e-3
"""Assumed standard deviation within classes, in units of the feature norm."""


def whitening(moments: Moments, settings: Mapping[str, Any]) -> np.ndarray:
    """Matrix W, float32 [d, d], with W W' the inverse of the shrunk covariance.

    Hayes and Kanan, "Lifelong Machine Learning with Deep Streaming Linear Discriminant Analysis",
    CVPR Workshops 2020, with the shrinkage of ``crumb.methods.slda``.
    """
    covariance = moments.covariance().astype(np.float64)
    prior, shrinkage = settings["prior_frames"], settings["shrinkage"]
    share = shrinkage + (1 - shrinkage) * prior / max(prior + moments.frames, 1)
    variance = max(covariance.diagonal().mean(), (_MIN_SPREAD * moments.scale) ** 2)
    covariance = (1 - share) * covariance + share * variance * np.eye(len(covariance))
    try:
        factor = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        # Rounding can make the covariance of few frames indefinite.
        variances, axes = np.linalg.eigh(covariance)
        factor = np.linalg.cholesky((axes * variances.clip(share * variance)) @ axes.T)
    return np.linalg.inv(factor).T.astype(np.float32)


def nearness(vectors: np.ndarray, means: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Minus half the squared distances of vectors, [n, d], to means, [classes, d].

    Returns:
        float32 [n, classes]; minus infinity for a class without frames.
    """
    found = vectors @ means.T - np.square(means).sum(1) / 2
    found -= np.square(vectors).sum(1, keepdims=True) / 2
    return np.where(counts == 0, np.float32(-np.inf), found)


def softmax(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities, float64 [..., classes]."""
    scores = scores.astype(np.float64) / temperature
    chances = np.exp(scores - scores.max(-1, keepdims=True))
    return chances / chances.sum(-1, keepdims=True)
