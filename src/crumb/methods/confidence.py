"""How sure a learner is: probabilities that hold on frames it has not learned from."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

_COLDEST, _HOTTEST, _STEPS = 0.05, 200.0, 60
_GOLDEN = (math.sqrt(5) - 1) / 2


def fit_temperature(scores: Tensor, labels: Tensor, doubt: float = 0.0) -> float:
    """The temperature T with which softmax(scores / T) explains labels best.

    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, section 4.
    The frames must not be ones that were learned from: on those every learner is too sure.

    Args:
        scores: float [n, classes]; minus infinity for a class that cannot be.
        labels: int64 [n], each of a class with finite scores.
        doubt: share of frames that might have gone wrong although none did; without it a learner
            that was right about a few frames would be sure of everything.

    Returns:
        from 0.05 to 200; golden-section search in log T, in which the likelihood has one peak.
    """
    scores, labels = scores.double(), labels.to(scores.device)
    scores = scores[:, scores.isfinite().all(0)] if doubt else scores

    def cost(log: float) -> float:
        return float(cross_entropy(scores / math.exp(log), labels, label_smoothing=doubt))

    low, high = math.log(_COLDEST), math.log(_HOTTEST)
    for _ in range(_STEPS):
        width = _GOLDEN * (high - low)
        low, high = (
            (low, low + width) if cost(high - width) <= cost(low + width) else (high - width, high)
        )
    return math.exp((low + high) / 2)


def distance_limits(
    distances: Tensor, labels: Tensor, classes: int, mean: float, share: float
) -> Tensor:
    """How far all but a share of a class's own frames are from it.

    Squared Mahalanobis distances of normally distributed frames have a gamma distribution, whose
    mean and spread a few frames of each class tell.

    Args:
        distances: float [n], squared distances of sample frames from their own class.
        labels: int64 [n], their classes.
        classes: number of them.
        mean: of the squared distance over all frames, which scales those of the samples: they were
            coded, and coding adds to a distance.
        share: of a class's own frames that are farther than its limit, above 0 and below 1.

    Returns:
        float64 [classes]; a class without samples has the limit of them all.
    """
    from scipy.stats import gamma

    distances = distances.double() * (mean / distances.double().mean())
    means = torch.full((classes,), float(mean), dtype=torch.float64)
    spreads = []
    for label in labels.unique().tolist():
        own = distances[labels == label]
        means[label] = own.mean()
        if len(own) > 1:
            spreads.append(float(own.var() / own.mean() ** 2))
    relative = sum(spreads) / len(spreads) if spreads else 1.0
    limits = gamma.isf(share, 1 / max(relative, 1e-6), scale=means.numpy() * max(relative, 1e-6))
    return torch.from_numpy(limits)
