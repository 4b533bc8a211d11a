"""RanPAC: ridge regression on random features.

McDonnell, Gong, Parvaneh, Abbasnejad, van den Hengel, "RanPAC: Random Projections and Pre-trained
Models for Continual Learning", NeurIPS 2023, arXiv 2307.02251.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crumb.errors import require
from crumb.methods.random_features import RandomFeatures, RandomFeaturesConfig
from crumb.methods.registry import register
from crumb.seeds import generator

_DECADES = range(-8, 3)
"""Candidate exponents of the ridge coefficient."""


@dataclass(frozen=True)
class RanpacConfig(RandomFeaturesConfig):
    """Settings of RanPAC."""

    ridge: float | None = None
    """Ridge coefficient, in units of the mean eigenvalue of the Gram matrix. Default: the power of
    ten with the least generalised cross-validation error."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (ridge := self.ridge) is not None:
            require("ridge", ridge, 1e-12 <= ridge <= 1e12, "from 1e-12 to 1e12")


@register
class Ranpac(RandomFeatures):
    """Predicts one-hot labels by ridge regression on rectified random projections of the features.

    The regression needs the Gram matrix of the random features and their sum for each class. Both
    follow from class means and the covariance within classes, which are kept in two bytes per
    number (see :class:`ClassMoments`).

    The paper holds out a fifth of the frames of each task to choose the ridge coefficient from the
    powers of ten between 1e-8 and 1e8. Here no frame is held out. Generalised cross-validation
    chooses the coefficient from the statistics (Golub, Heath, Wahba, Technometrics 1979). It is in
    units of the mean eigenvalue of the Gram matrix, so it suits features of any magnitude. It is at
    least twice the rounding error of the eigenvalues. The paper's training in the first session is
    left out.
    """

    name = "ranpac"
    summary = "ridge regression on random projections of the features"
    paper = "McDonnell et al., NeurIPS 2023"
    keeps = "class means, one covariance, of random features"
    Config = RanpacConfig
    covariance = True
    usual_temperature = 0.1
    """Scores lie around 0 and 1. At temperature 1, probabilities would be nearly equal."""

    # The update rule. (The statistics are merged in ClassMoments.add.)

    def describe(self, features: Tensor) -> Tensor:
        """Rectified random projections of feature maps, float32 [B, dimensions]."""
        return super().describe(features).relu()

    def basis(self, classifier: Tensor, count: int) -> Tensor:
        """Normally distributed projections, float32 [D, count]."""
        size = self.network.penultimate_size, count
        return torch.randn(size, generator=generator(self.seed, "projections"))

    def scores(self, features: Tensor) -> Tensor:
        """Predicted labels, about 1 for the right class and 0 for others, [B, classes].

        A class without frames scores minus infinity.
        """
        predicted = self.describe(features) @ self.prepare()
        return predicted.masked_fill(self.moments.counts == 0, -torch.inf)

    def _solve(self) -> Tensor:
        """Regression weights (G + lambda)^-1 C, [dimensions, classes]."""
        frames, means = int(self.moments.counts.sum()), self.moments.mean_vectors()
        shares = self.moments.counts / max(frames, 1)
        # G and C, both divided by the number of frames.
        sums = means.T * shares
        gram = self.moments.covariance_matrix() + sums @ means
        eigenvalues, axes = torch.linalg.eigh(gram)
        targets = axes.T @ sums
        positive = eigenvalues.clamp(min=0)
        unit = positive.mean().clamp(min=1e-20)
        if self.config.ridge is not None:
            ridge = self.config.ridge * unit
        else:
            # The true eigenvalues are not negative.
            least = -2 * eigenvalues[0]
            powers = torch.tensor([10.0**power for power in _DECADES], device=gram.device)
            candidates = (powers * unit).clamp(min=least)
            errors = validation_errors(positive, targets, candidates, frames)
            # The largest of equally good ones.
            ridge = candidates.flip(0)[errors.flip(0).argmin()]
        return axes @ (targets / (positive + ridge)[:, None])


def validation_errors(eigenvalues: Tensor, targets: Tensor, ridges: Tensor, frames: int) -> Tensor:
    """Generalised cross-validation errors of ridge coefficients, [R].

    Infinite where the regression has as many effective parameters as there are frames, or where
    rounding leaves no positive error.

    Args:
        eigenvalues: of the Gram matrix divided by the number of frames, [M], not negative.
        targets: mean of the one-hot labels times the features along each axis, [M, classes].
        ridges: coefficients divided by the number of frames, [R].
        frames: number of frames.
    """
    energies, ridges = targets.square().sum(1), ridges[:, None]
    shifted = eigenvalues + ridges
    residuals = 1 - (energies * (shifted + ridges) / shifted.square()).sum(1)
    free = 1 - (eigenvalues / shifted).sum(1) / max(frames, 1)
    return (residuals / free.square()).masked_fill((free <= 0) | (residuals <= 0), torch.inf)
