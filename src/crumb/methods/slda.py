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
from crumb.methods.closed_form import MIN_SPREAD, ClosedForm, ClosedFormConfig, whitening
from crumb.methods.confidence import distance_limits, own_distances, reach_of
from crumb.methods.described import Ranges
from crumb.methods.registry import register
from crumb.nets.split import SplitNetwork


@dataclass(frozen=True)
class SldaConfig(ClosedFormConfig):
    """Settings of streaming LDA."""

    transform: Literal["sqrt", "none"] = "sqrt"
    """Transform of the features: signed square root or none."""
    shrinkage: float = 0.05
    """Shrinkage: share of the covariance replaced by its mean variance in every direction."""
    prior_frames: int = 200
    """Additional weight of the mean variance, in frames. With few frames the covariance is
    uncertain, so the first clips are compared almost by Euclidean distance."""
    crumbs: int = 16
    """Number of quantised feature vectors stored per class for self-tests. With BUDGET-BYTES, at
    most as many as fit into an eighth of it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require("crumbs", self.crumbs, 0 <= self.crumbs <= 1000, "from 0 to 1000")
        require("shrinkage", self.shrinkage, 0 < self.shrinkage <= 1, "above 0 and at most 1")
        prior = self.prior_frames
        require("prior_frames", prior, 0 <= prior < 1 << 31, "from 0 to 2^31 - 1")


@register
class StreamingLda(ClosedForm):
    """Predicts the class whose mean is nearest in the metric of the shared covariance.

    There are four differences from the paper. Means and covariance do not depend on the order of
    frames (see :class:`ClassMoments`). They take two bytes per number and, within a budget, cover
    only the leading directions of the network's own classifier. The covariance is shrunk towards
    its mean variance instead of 1, and more strongly while there are few frames. Features are
    replaced by their square roots, which suits features after a rectifier. The linear classifier is
    computed when it is needed, not after every frame.
    """

    name = "slda"
    summary = "class means in the metric of a shared covariance"
    paper = "Hayes and Kanan, CVPRW 2020"
    keeps = "class means, one covariance"
    Config = SldaConfig
    covariance = True
    usual_temperature = 8.0
    """The model assumes independent frames and dimensions, so at temperature 1 it is overconfident
    (docs/methods.md)."""
    tuned: ClassVar[Ranges] = {"shrinkage": (0.001, 1.0), "transform": ("sqrt", "none")}

    def __init__(
        self, network: SplitNetwork, config: Any, seed: int = 0, device: str = "cpu"
    ) -> None:
        self.share_of_statistics = 7 / 8 if config.crumbs and config.budget_bytes else 1.0
        super().__init__(network, config, seed, device)
        self.crumbs: ClassCrumbs | None = None
        if config.crumbs:
            self.crumbs = self._new_crumbs(self._crumbs_of(config.classes_expected))

    # The update rule. (The statistics are merged in ClassMoments.add.)

    def absorb(self, vectors: Tensor, labels: Tensor) -> None:
        """Add vectors, float32 [B, dimensions], with labels, int64 [B], and store some of them."""
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
        """The same for vectors, float32 [B, dimensions]."""
        whitener, means = self.prepared or self.prepare()
        white = vectors @ whitener
        nearness = white @ means.T - means.square().sum(1) / 2
        nearness = nearness - white.square().sum(1, keepdim=True) / 2
        return nearness.masked_fill(self.moments.counts == 0, -torch.inf)

    def _shrinkage(self) -> float:
        """Effective shrinkage after so many frames."""
        least, prior = self.config.shrinkage, self.config.prior_frames
        frames = int(self.moments.pooled[0])
        return least + (1 - least) * prior / max(prior + frames, 1)

    def _solve(self) -> tuple[Tensor, Tensor]:
        """Whitening matrix of the shrunk covariance, [d, d], and the whitened class means."""
        covariance, share = self.moments.covariance_matrix(), self._shrinkage()
        # With a single frame or equal frames, directions would come from rounding errors alone.
        least = (MIN_SPREAD * self.moments.scale) ** 2
        variance = covariance.diagonal().mean().clamp(min=least)
        covariance.mul_(1 - share).diagonal().add_(share * variance)
        whitener = whitening(covariance, share * variance)
        return whitener, self.moments.mean_vectors() @ whitener

    def self_test(self) -> list[float | None]:
        """Accuracy in percent on the stored features, by class; None for a class without any."""
        if self.crumbs is None:
            return [None] * len(self.classes)
        with self.evaluation():
            vectors, labels = self.crumbs.vectors()
            right = self.nearness(vectors * self.moments.scale).argmax(1) == labels
        found = [right[labels == label] for label in range(len(self.classes))]
        return [100 * one.float().mean().item() if len(one) else None for one in found]

    def distance_limits(self, share: float) -> Tensor:
        """Squared distance within which all but ``share`` of a class's own frames lie, [classes].

        Estimated from stored features and, after :meth:`measure_reach`, from held-out frames.
        Infinite if no distance can be measured.
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
        """Record how much farther held-out frames are from their class."""
        if (own := self._own_distances()) is not None:
            means, _ = own
            pairs = zip(scores, labels, strict=True)
            ratios = [-2 * one[:, label] / means[label] for one, label in pairs]
            self.reach = reach_of(ratios, learned)

    def _own_distances(self) -> tuple[Tensor, float] | None:
        """The result of :func:`crumb.methods.confidence.own_distances` on the stored features."""
        if self.crumbs is None:
            return None
        with self.evaluation():
            vectors, labels = self.crumbs.vectors()
            nearness = self.nearness(vectors * self.moments.scale)
            distances = -2 * nearness.gather(1, labels[:, None])[:, 0]
            mean = self._mean_distance()
        return own_distances(distances.cpu(), labels.cpu(), len(self.classes), mean)

    def _mean_distance(self) -> float:
        """Mean squared distance of all frames from their own class."""
        whitener = self.prepare()[0]
        return float((whitener.T @ self.moments.covariance_matrix() @ whitener).trace())

    # Room for classes.

    def _new_crumbs(self, each: int) -> ClassCrumbs:
        draws = self.generators["memory"]
        return ClassCrumbs(self.dimensions, each, self.seed, draws, self.device)

    def clear(self) -> None:
        """Forget all frames but no class."""
        if self.crumbs is not None:
            self.crumbs = self._new_crumbs(self.crumbs.each)
        super().clear()

    def drop(self, dimensions: int) -> None:
        """Keep only the leading feature directions from now on."""
        super().drop(dimensions)
        if self.crumbs is not None:
            self.crumbs.drop(dimensions)

    def make_room(self, classes: int) -> None:
        """Make room for statistics of so many classes, and for as many stored features as then
        fit.
        """
        super().make_room(classes)
        if self.crumbs is not None:
            each = self._crumbs_of(max(classes, self.config.classes_expected))
            self.crumbs.make_room(classes, min(each, self.crumbs.each))

    def bytes_for(self, classes: int, dimensions: int) -> int:
        """Bytes needed for so many classes and directions, without the codes."""
        unfilled = ClassCrumbs.bytes_for(classes, dimensions, 0) if self.config.crumbs else 0
        return super().bytes_for(classes, dimensions) + unfilled

    def _crumbs_of(self, classes: int) -> int:
        """Number of stored features per class, for so many classes."""
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
        """Stored features; plus the statistics and the decoder of the features."""
        if self.crumbs is None:
            return super().bytes_held()
        extra = self.moments.nbytes + self.crumbs.reading_bytes
        return BytesHeld(self.crumbs.nbytes, extra, extra)

    def kept(self) -> dict[str, Tensor]:
        """Statistics, directions and stored features."""
        crumbs = {} if self.crumbs is None else self.crumbs.state_dict()
        return super().kept() | {f"crumbs.{name}": value for name, value in crumbs.items()}

    def take_shape(self, state: dict[str, Tensor]) -> None:
        """Resize to the classes in a state of :meth:`kept`."""
        super().take_shape(state)
        if self.crumbs is not None:
            self.crumbs.make_room(len(self.classes), state["crumbs.codes"].shape[1])

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the :meth:`state_dict` of a learner with the same settings and classes.

        Raises:
            ValueError: the state does not fit.
        """
        super().load_state_dict(state)
        if self.crumbs is not None:
            self.crumbs.load_state_dict(strip_prefix(state, "crumbs."))
