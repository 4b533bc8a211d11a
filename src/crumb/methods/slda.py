"""Streaming linear discriminant analysis.

Hayes and Kanan, "Lifelong Machine Learning with Deep Streaming Linear Discriminant Analysis",
CVPR Workshops 2020, arXiv 1909.01520.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from crumb.errors import require
from crumb.methods.base import Ranges
from crumb.methods.closed_form import ClosedForm, ClosedFormConfig
from crumb.methods.registry import register
from crumb.nets.split import SplitNetwork

_LEAST_SPREAD = 1e-3
"""Standard deviation within classes, in units of the size of the features, that is assumed."""


@dataclass(frozen=True)
class SldaConfig(ClosedFormConfig):
    """Settings of streaming LDA."""

    transform: Literal["sqrt", "none"] = "sqrt"
    """Describe the square roots of the features (with their signs), or the features themselves."""
    shrinkage: float = 0.1
    """Share of the covariance that is replaced by its mean variance in every direction."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require("shrinkage", self.shrinkage, 0 < self.shrinkage <= 1, "above 0 and at most 1")


@register
class StreamingLda(ClosedForm):
    """A frame belongs to the class whose mean is nearest in the metric of the shared covariance.

    Differs from the paper: means and covariance are those of all frames at once, in any order (see
    :class:`ClassMoments`); they are kept in two bytes a number and, within a budget, in the
    leading directions of the network's own classifier; the covariance is shrunk towards its mean
    variance rather than towards 1; square roots are taken of the features, which suits what
    follows a rectifier. The linear classifier is solved for when it is asked for, not frame by
    frame.
    """

    name = "slda"
    summary = "class means in the metric of a shared covariance"
    paper = "Hayes and Kanan, CVPRW 2020"
    keeps = "class means, one covariance"
    Config = SldaConfig
    covariance = True
    tuned: ClassVar[Ranges] = {"shrinkage": (0.001, 1.0)}

    def __init__(
        self, network: SplitNetwork, config: Any, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(network, config, seed, device)
        self._solved: tuple[Tensor, Tensor] | None = None

    def scores(self, features: Tensor) -> Tensor:
        """Minus half the squared Mahalanobis distance to each class, [B, classes].

        A class without frames scores minus infinity.
        """
        return self.nearness(self.describe(features))

    def nearness(self, vectors: Tensor) -> Tensor:
        """The same of vectors, float32 [B, dimensions]."""
        if self._solved is None:
            self._solved = self._solve()
        whitener, means = self._solved
        white = vectors @ whitener
        nearness = white @ means.T - means.square().sum(1) / 2
        nearness = nearness - white.square().sum(1, keepdim=True) / 2
        return nearness.masked_fill(self.moments.counts == 0, -torch.inf)

    def _solve(self) -> tuple[Tensor, Tensor]:
        """What makes the shrunk covariance the identity, [d, d], and the means in that metric."""
        covariance, share = self.moments.covariance_matrix(), self.config.shrinkage
        # Of one frame, or many equal ones, nothing but rounding errors would tell the directions.
        least = (_LEAST_SPREAD * self.moments.scale) ** 2
        variance = covariance.diagonal().mean().clamp(min=least)
        covariance.mul_(1 - share).diagonal().add_(share * variance)
        identity = torch.eye(len(covariance), device=self.device)
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if failed:
            factor = _positive_factor(covariance, share * variance)
        whitener = torch.linalg.solve_triangular(factor, identity, upper=False).T
        return whitener, self.moments.mean_vectors() @ whitener

    def _changed(self) -> None:
        self._solved = None


def _positive_factor(covariance: Tensor, least: Tensor) -> Tensor:
    """Cholesky factor of the nearest matrix whose variances are at least ``least``.

    Rounding can leave a covariance of few frames without a factor of its own.
    """
    variances, axes = torch.linalg.eigh(covariance)
    raised = (axes * variances.clamp(min=least)) @ axes.T
    return torch.linalg.cholesky(raised)
