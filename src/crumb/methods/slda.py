"""Streaming linear discriminant analysis.

Hayes and Kanan, "Lifelong Machine Learning with Deep Streaming Linear Discriminant Analysis",
CVPR Workshops 2020, arXiv 1909.01520.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from crumb.errors import require
from crumb.memory.crumbs import ClassCrumbs
from crumb.methods.base import BytesHeld, strip_prefix
from crumb.methods.closed_form import ClosedForm, ClosedFormConfig
from crumb.methods.confidence import distance_limits, own_distances, reach_of
from crumb.methods.described import Ranges
from crumb.methods.registry import register
from crumb.nets.split import SplitNetwork

_MIN_SPREAD = 1e-3
"""Standard deviation within classes, in units of the size of the features, that is assumed."""


@dataclass(frozen=True)
class SldaConfig(ClosedFormConfig):
    """Settings of streaming LDA."""

    transform: Literal["sqrt", "none"] = "sqrt"
    """Describe the square roots of the features (with their signs), or the features themselves."""
    shrinkage: float = 0.05
    """Share of the covariance that is replaced by its mean variance in every direction."""
    prior_frames: int = 200
    """Weight, in frames, of that mean variance besides: few frames tell little of how a class
    varies, so the first clips are compared almost by plain distance."""
    crumbs: int = 16
    """Coded frames kept of each class, on which the learner tests itself. With BUDGET-BYTES, as
    many as an eighth of it holds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require("crumbs", self.crumbs, 0 <= self.crumbs <= 1000, "from 0 to 1000")
        require("shrinkage", self.shrinkage, 0 < self.shrinkage <= 1, "above 0 and at most 1")
        prior = self.prior_frames
        require("prior_frames", prior, 0 <= prior < 1 << 31, "from 0 to 2^31 - 1")


@register
class StreamingLda(ClosedForm):
    """A frame belongs to the class whose mean is nearest in the metric of the shared covariance.

    Differs from the paper: means and covariance are those of all frames at once, in any order (see
    :class:`ClassMoments`); they are kept in two bytes a number and, within a budget, in the
    leading directions of the network's own classifier; the covariance is shrunk towards its mean
    variance rather than towards 1, and more so while frames are few; square roots are taken of the
    features, which suits what follows a rectifier. The linear classifier is solved for when it is
    asked for, not frame by frame.
    """

    name = "slda"
    summary = "class means in the metric of a shared covariance"
    paper = "Hayes and Kanan, CVPRW 2020"
    keeps = "class means, one covariance"
    Config = SldaConfig
    covariance = True
    usual_temperature = 8.0
    """Frames of a clip and dimensions of a vector are not independent, as the model would have
    them: at 1 it is far too sure (docs/methods.md)."""
    tuned: ClassVar[Ranges] = {"shrinkage": (0.001, 1.0)}

    def __init__(
        self, network: SplitNetwork, config: Any, seed: int = 0, device: str = "cpu"
    ) -> None:
        self.share_of_statistics = 7 / 8 if config.crumbs and config.budget_bytes else 1.0
        super().__init__(network, config, seed, device)
        self.crumbs: ClassCrumbs | None = None
        if config.crumbs:
            each, draws = self._crumbs_of(config.classes_expected), self.generators["memory"]
            self.crumbs = ClassCrumbs(self.dimensions, each, seed, draws, self.device)
        self._solved: tuple[Tensor, Tensor] | None = None

    # The update rule. (The statistics are merged in ClassMoments.add.)

    def absorb(self, vectors: Tensor, labels: Tensor) -> None:
        """Merge vectors, float32 [B, dimensions], of these labels, int64 [B]; keep some of them."""
        seen = self.moments.counts.clone()
        super().absorb(vectors, labels)
        if self.crumbs is not None and self.crumbs.each:
            self.crumbs.refer(*self.moments.overall())
            self.crumbs.offer(vectors / self.moments.scale, labels, seen)

    def scores(self, features: Tensor) -> Tensor:
        """Minus half the squared Mahalanobis distance to each class, [B, classes].

        A class without frames scores minus infinity.
        """
        return self.nearness(self.describe(features))

    def nearness(self, vectors: Tensor) -> Tensor:
        """The same of vectors, float32 [B, dimensions]."""
        whitener, means = self.prepared or self.prepare()
        white = vectors @ whitener
        nearness = white @ means.T - means.square().sum(1) / 2
        nearness = nearness - white.square().sum(1, keepdim=True) / 2
        return nearness.masked_fill(self.moments.counts == 0, -torch.inf)

    def prepare(self) -> tuple[Tensor, Tensor]:
        """What is solved for, once for all predictions until something is learned."""
        if self._solved is None:
            self._solved = self._solve()
        return self._solved

    def _shrinkage(self) -> float:
        """Share of the covariance that is replaced, after so many frames."""
        least, prior = self.config.shrinkage, self.config.prior_frames
        frames = int(self.moments.pooled[0])
        return least + (1 - least) * prior / max(prior + frames, 1)

    def _solve(self) -> tuple[Tensor, Tensor]:
        """What makes the shrunk covariance the identity, [d, d], and the means in that metric."""
        covariance, share = self.moments.covariance_matrix(), self._shrinkage()
        # Of one frame, or many equal ones, nothing but rounding errors would tell the directions.
        least = (_MIN_SPREAD * self.moments.scale) ** 2
        variance = covariance.diagonal().mean().clamp(min=least)
        covariance.mul_(1 - share).diagonal().add_(share * variance)
        identity = torch.eye(len(covariance), device=self.device)
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if failed:
            factor = _positive_factor(covariance, share * variance)
        whitener = torch.linalg.solve_triangular(factor, identity, upper=False).T
        return whitener, self.moments.mean_vectors() @ whitener

    def self_test(self) -> list[float | None]:
        """Percent of its crumbs that the learner gets right, by class; None for one without any."""
        if self.crumbs is None:
            return [None] * len(self.classes)
        with self.evaluation():
            vectors, labels = self.crumbs.vectors()
            right = self.nearness(vectors * self.moments.scale).argmax(1) == labels
        found = [right[labels == label] for label in range(len(self.classes))]
        return [100 * one.float().mean().item() if len(one) else None for one in found]

    def distance_limits(self, share: float) -> Tensor:
        """Squared distances that all but ``share`` of a class's own frames keep, [classes].

        By its crumbs and, where :meth:`measure_reach` was called, by frames that were not learned
        from. Infinite where no distance can be measured.
        """
        if (own := self._own_distances()) is None:
            return torch.full((len(self.classes),), torch.inf, dtype=torch.float64)
        means, variance = own
        if self.reach is not None:
            farther, variance = self.reach
            means = means * farther
        return distance_limits(means, variance, share)

    def measure_reach(
        self, scores: Sequence[Tensor], labels: Sequence[int], learned: float = 1.0
    ) -> None:
        """Note how much farther from their class frames are that were not learned from."""
        if (own := self._own_distances()) is not None:
            means, _ = own
            pairs = zip(scores, labels, strict=True)
            ratios = [-2 * one[:, label] / means[label] for one, label in pairs]
            self.reach = reach_of(ratios, learned)

    def _own_distances(self) -> tuple[Tensor, float] | None:
        """What :func:`crumb.methods.confidence.own_distances` makes of the crumbs."""
        if self.crumbs is None:
            return None
        with self.evaluation():
            vectors, labels = self.crumbs.vectors()
            nearness = self.nearness(vectors * self.moments.scale)
            distances = -2 * nearness.gather(1, labels[:, None])[:, 0]
            whitener, _ = self.prepare()
            spread = whitener.T @ self.moments.covariance_matrix() @ whitener
        mean = float(spread.trace())
        return own_distances(distances.cpu(), labels.cpu(), len(self.classes), mean)

    # Room for classes.

    def drop(self, dimensions: int) -> None:
        """Describe features in the leading directions from now on."""
        super().drop(dimensions)
        if self.crumbs is not None:
            self.crumbs.drop(dimensions)

    def make_room(self, classes: int) -> None:
        """Keep statistics of so many classes, and as many crumbs as then fit."""
        super().make_room(classes)
        if self.crumbs is not None:
            each = self._crumbs_of(max(classes, self.config.classes_expected))
            self.crumbs.make_room(classes, min(each, self.crumbs.each))

    def bytes_for(self, classes: int, dimensions: int) -> int:
        """Bytes kept for so many classes in so many directions, but for the codes themselves."""
        unfilled = ClassCrumbs.bytes_for(classes, dimensions, 0) if self.config.crumbs else 0
        return super().bytes_for(classes, dimensions) + unfilled

    def _crumbs_of(self, classes: int) -> int:
        """Crumbs of each of so many classes."""
        budget, size, most = self.config.budget_bytes, self.dimensions, self.config.crumbs
        if budget is None:
            return most
        one, none = (ClassCrumbs.bytes_for(classes, size, each) for each in (1, 0))
        return min(most, (budget - self.bytes_for(classes, size)) // (one - none))

    def _remove(self, label: int) -> None:
        super()._remove(label)
        if self.crumbs is not None:
            self.crumbs.forget(label)

    def _join(self, label: int, other: int) -> None:
        if self.crumbs is not None:
            frames = int(self.moments.counts[label]), int(self.moments.counts[other])
            self.crumbs.merge(label, other, frames)
        super()._join(label, other)

    # The rest of the contract.

    def bytes_held(self) -> BytesHeld:
        """Crumbs; the statistics and what crumbs are read with."""
        if self.crumbs is None:
            return super().bytes_held()
        extra = self.moments.nbytes + self.crumbs.reading_bytes
        return BytesHeld(self.crumbs.nbytes, extra, extra)

    def kept(self) -> dict[str, Tensor]:
        """Statistics, directions and crumbs."""
        crumbs = {} if self.crumbs is None else self.crumbs.state_dict()
        return super().kept() | {f"crumbs.{name}": value for name, value in crumbs.items()}

    def take_shape(self, state: dict[str, Tensor]) -> None:
        """Make room for what a state of :meth:`kept` holds of the classes met."""
        super().take_shape(state)
        if self.crumbs is not None:
            self.crumbs.make_room(len(self.classes), state["crumbs.codes"].shape[1])

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue with :meth:`state_dict` of a learner with the same settings and classes.

        Raises:
            ValueError: it is of no such learner.
        """
        super().load_state_dict(state)
        if self.crumbs is not None:
            self.crumbs.load_state_dict(strip_prefix(state, "crumbs."))

    def _changed(self) -> None:
        self._solved = None


def _positive_factor(covariance: Tensor, least: Tensor) -> Tensor:
    """Cholesky factor of the nearest matrix whose variances are at least ``least``.

    Rounding can leave a covariance of few frames without a factor of its own.
    """
    variances, axes = torch.linalg.eigh(covariance)
    raised = (axes * variances.clamp(min=least)) @ axes.T
    return torch.linalg.cholesky(raised)
