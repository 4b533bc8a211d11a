"""Calibrated confidence on frames that a learner has not learned from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

_COLDEST, _HOTTEST, _STEPS = 0.001, 200.0, 60
_GOLDEN = (math.sqrt(5) - 1) / 2


def fit_temperature(scores: Tensor, labels: Tensor, doubt: float = 0.0) -> float:
    """The temperature T with which softmax(scores / T) explains labels best.

    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, section 4.
    Use held-out frames: every learner is overconfident on its training frames.

    Args:
        scores: float [n, classes]; minus infinity for a class that cannot be.
        labels: int64 [n], each of a class with finite scores.
        doubt: label smoothing. Without it, a learner that was right about a few frames would be
            certain of everything.

    Returns:
        the temperature, from 0.001 to 200, by golden-section search in log T (the likelihood is
            unimodal).
    """
    scores, labels = scores.double(), labels.to(scores.device)
    possible = scores.isfinite().all(0)
    scores, labels = scores[:, possible], (possible.cumsum(0) - 1)[labels]

    def cost(log: float) -> float:
        return float(cross_entropy(scores / math.exp(log), labels, label_smoothing=doubt))

    low, high = math.log(_COLDEST), math.log(_HOTTEST)
    for _ in range(_STEPS):
        width = _GOLDEN * (high - low)
        low, high = (
            (low, low + width) if cost(high - width) <= cost(low + width) else (high - width, high)
        )
    return math.exp((low + high) / 2)


def own_distances(
    distances: Tensor, labels: Tensor, classes: int, mean: float
) -> tuple[Tensor, float] | None:
    """Estimate how far the frames of each class are from it, from a few sample frames.

    Args:
        distances: float [n], squared distances of sample frames from their own class.
        labels: int64 [n], their classes.
        classes: number of them.
        mean: mean squared distance over all frames. Rescales the sample distances, which the
            quantisation of the samples inflates.

    Returns:
        mean squared distances, float64 [classes], with the overall mean as one pseudo-frame per
            class (a single frame coincides with its class mean); and their variance within classes
            as a share of the squared mean. None if no distance is above zero.
    """
    distances = distances.double()
    if not len(distances) or not mean > 0 or not distances.mean() > 0:
        return None
    distances = distances * (mean / distances.mean())
    means = torch.full((classes,), float(mean), dtype=torch.float64)
    spreads = []
    for label in labels.unique().tolist():
        own = distances[labels == label]
        means[label] = (own.sum() + mean) / (len(own) + 1)
        if len(own) > 1 and own.mean() > 0:
            spreads.append(float(own.var() / own.mean() ** 2))
    return means, sum(spreads) / len(spreads) if spreads else 1.0


def reach_of(ratios: Sequence[Tensor], learned: float = 1.0) -> tuple[float, float]:
    """Estimate how much farther held-out frames are than training frames.

    Args:
        ratios: for each held-out clip, float [frames]: squared distances of its frames from their
            class, in multiples of the mean over training frames.
        learned: share of all frames that had been learned then. The others are learned next, which
            improves the class statistics.

    Returns:
        mean of the multiples, at least 1, and their variance as a share of the squared mean.
    """
    every = torch.cat([one.double() for one in ratios])
    mean = float(every.mean())
    variance = float(every.var()) / mean**2 if len(every) > 1 and mean > 0 else 1.0
    return 1 + learned * max(mean - 1, 0.0), variance


def distance_limits(means: Tensor, variance: float, share: float) -> Tensor:
    """Distance within which all but a share of a class's own frames lie.

    Squared Mahalanobis distances of normally distributed frames follow a gamma distribution, which
    mean and variance determine.

    Args:
        means: float64 [classes], mean squared distances.
        variance: variance of the squared distances as a share of the squared mean.
        share: share of a class's own frames beyond its limit, above 0 and below 1.

    Returns:
        float64 [classes].
    """
    from scipy.special import gammainccinv

    variance = max(variance, 1e-6)
    return torch.from_numpy(gammainccinv(1 / variance, share) * means.numpy() * variance)
