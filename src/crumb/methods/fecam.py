"""FeCAM: Mahalanobis distances with a covariance of each class.

Goswami, Liu, Twardowski, van de Weijer, "FeCAM: Exploiting the Heterogeneity of Class Distributions
in Exemplar-Free Continual Learning", NeurIPS 2023, arXiv 2309.14062.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from crumb.errors import require
from crumb.memory.class_covariances import ClassCovariances
from crumb.methods.closed_form import MIN_SPREAD, ClosedForm, ClosedFormConfig, whitening
from crumb.methods.described import Ranges
from crumb.methods.registry import register


@dataclass(frozen=True)
class FecamConfig(ClosedFormConfig):
    """Settings of FeCAM."""

    transform: Literal["sqrt", "none"] = "sqrt"
    """Transform of the features: signed square root (Tukey's, with exponent 1/2) or none."""
    diagonal_shrinkage: float = 1.0
    """This multiple of the mean variance of a class is added to each of its variances."""
    off_diagonal_shrinkage: float = 1.0
    """This multiple of the mean covariance of two features is added to each such covariance."""
    pooled_share: float = 0.0
    """Share of each class covariance that is replaced by the one pooled over all classes
    (regularised discriminant analysis). With 1, all classes share one covariance."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("diagonal_shrinkage", "off_diagonal_shrinkage"):
            require(name, value := getattr(self, name), 0 <= value <= 1e6, "from 0 to 1000000")
        share = self.pooled_share
        require("pooled_share", share, 0 <= share <= 1, "from 0 to 1")


@register
class Fecam(ClosedForm):
    """Predicts the class whose mean is nearest, each class in a metric of its own.

    The metric of a class is its covariance, shrunk and then divided by the standard deviations
    (correlation normalisation). Vectors and means are scaled to length 1.

    Three things differ from the paper. Means and covariances are updated batch by batch (see
    :class:`ClassCovariances`), in two bytes per number. A mean is that of the transformed features;
    the paper transforms the mean of the features. Within a budget, or with ``dimensions``, the
    features are projected on the leading directions of the network's own classifier first.
    ``pooled_share`` is the regularisation of Friedman ("Regularized Discriminant Analysis", JASA
    1989).
    """

    name = "fecam"
    summary = "class means in the metric of a covariance for each class"
    paper = "Goswami et al., NeurIPS 2023"
    keeps = "class means and covariances"
    Config = FecamConfig
    Moments = ClassCovariances
    covariance = True
    moments: ClassCovariances
    usual_temperature = 0.04
    """Distances are between vectors of length 1. At temperature 1, probabilities would be nearly
    equal."""
    tuned: ClassVar[Ranges] = {"diagonal_shrinkage": (0.01, 100.0)}

    # The update rule. (The statistics are merged in ClassCovariances.)

    def scores(self, features: Tensor) -> Tensor:
        """Minus half the squared Mahalanobis distance to each class, [B, classes].

        A class without frames scores minus infinity.
        """
        whiteners, means = self.prepare()
        differences = normalize(self.describe(features)) - means
        nearness = -(differences @ whiteners).square().sum(2).T / 2
        return nearness.masked_fill(self.moments.counts == 0, -torch.inf)

    def _solve(self) -> tuple[Tensor, Tensor]:
        """Whitening matrices [classes, d, d] and means of length 1, [classes, 1, d]."""
        labels = range(len(self.classes))
        whiteners = [whitening(self.correlation(label), MIN_SPREAD) for label in labels]
        return torch.stack(whiteners), normalize(self.moments.mean_vectors())[:, None]

    def correlation(self, label: int) -> Tensor:
        """Correlation matrix of a class's shrunk covariance, [d, d]."""
        covariance, share = self.moments.covariance_of(label), self.config.pooled_share
        if share:
            covariance = covariance.lerp(self.moments.covariance_matrix(), share)
        size, diagonal = len(covariance), covariance.diagonal()
        variance = self.config.diagonal_shrinkage * diagonal.mean()
        between = (covariance.sum() - diagonal.sum()) / max(1, size * (size - 1))
        between *= self.config.off_diagonal_shrinkage
        covariance = covariance + between
        covariance.diagonal().add_(variance - between)
        # With a single frame there is no variance.
        least = (MIN_SPREAD * self.moments.scale) ** 2
        deviations = covariance.diagonal().clamp(min=least).sqrt()
        return (covariance / torch.outer(deviations, deviations)).fill_diagonal_(1)

    def basis(self, classifier: Tensor, count: int) -> Tensor:
        """Directions of the features; the features themselves if all are kept for good."""
        if self.config.budget_bytes is None and self.config.dimensions is None:
            return torch.eye(count)
        return super().basis(classifier, count)
