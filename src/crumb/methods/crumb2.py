"""CRUMB 2: class means, one shared covariance, and the main axes of each class.

It keeps what is worth most per byte beside a network that is frozen, or tuned once. docs/crumb2.md
says how the parts were found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from crumb.data.batches import Batches
from crumb.errors import require
from crumb.memory.capacity import FIRST_TASK, by_mode
from crumb.memory.class_factors import FactoredMoments
from crumb.methods.closed_form import largest
from crumb.methods.described import Ranges
from crumb.methods.fsa import FirstSessionAdaptation, FsaConfig
from crumb.methods.registry import register
from crumb.nets.split import SplitNetwork

_MOST_RANK = 16


@dataclass(frozen=True)
class Crumb2Config(FsaConfig):
    """Settings of CRUMB 2."""

    tail: Literal["first-task", "frozen"] | None = None
    """Whether the tail is tuned on the first task, which takes more passes over it (first-task), or
    stays as pretrained (frozen). Default: first-task, or frozen in strict mode."""
    rank: int | None = None
    """Number of axes stored per class. Default: as many as take at most a quarter of the bytes of
    the shared covariance, up to 16."""
    class_share: float = 0.5
    """Share of a class's own covariance in its metric. It is lower for a class of few frames
    (PRIOR-FRAMES)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank is not None:
            require("rank", self.rank, 0 <= self.rank <= 256, "from 0 to 256")
        share = self.class_share
        require("class_share", share, 0 <= share < 1, "at least 0 and below 1")


class Metrics(NamedTuple):
    """What distances are computed with. A whitened class covariance is b I + A' A, with the inverse
    (I - B' B) / b.

    Attributes:
        whitener: whitening matrix of the shared covariance, [d, d].
        means: whitened class means, [classes, d].
        axes: B of each class, [classes, rank, d].
        sizes: b of each class, [classes].
        offsets: logarithms of the determinants, [classes].
    """

    whitener: Tensor
    means: Tensor
    axes: Tensor
    sizes: Tensor
    offsets: Tensor


@register
class Crumb2(FirstSessionAdaptation):
    """Predicts the class whose mean is nearest, in a metric between the shared one and its own.

    The covariance of class k is taken to be ``(1 - s) S + s (F' F + (1 - c) S)``. S is the shared
    covariance of ``slda``. F holds the ``rank`` main axes of the class, and c is the share of its
    variance along them (:class:`FactoredMoments`). s is ``class_share`` times n / (n +
    ``prior_frames``) after n frames of the class. This is regularised discriminant analysis
    (Friedman, JASA 1989) at low rank.

    In paper mode the tail is tuned on the first task, as in ``fsa``.
    """

    name = "crumb2"
    summary = "a shared covariance and the main axes of each class"
    paper = "this project"
    keeps = "class means and axes, one covariance"
    Config = Crumb2Config
    needs_task_boundaries = False
    needs_second_pass = False
    tested_after_task_end = False
    learns_at_task_end = False
    tuned: ClassVar[Ranges] = {"shrinkage": (0.001, 1.0), "class_share": (0.1, 0.9)}
    moments: FactoredMoments

    def __init__(
        self, network: SplitNetwork, config: Any, seed: int = 0, device: str = "cpu"
    ) -> None:
        self.trains = by_mode(config).tail == FIRST_TASK
        super().__init__(network, config, seed, device)
        self._settle()

    # The update rule. (The statistics are merged in FactoredMoments.)

    def nearness(self, vectors: Tensor) -> Tensor:
        """Minus half the squared distance to each class, [B, classes].

        It is the logarithm of a normal density, up to a constant: Mahalanobis' distance in the
        metric of the class, plus the logarithm of a determinant.
        """
        found: Metrics = self.prepared or self.prepare()
        white = vectors @ found.whitener
        distances = white.square().sum(1, keepdim=True) - 2 * white @ found.means.T
        distances = distances + found.means.square().sum(1)
        own = torch.einsum("kd,krd->kr", found.means, found.axes)
        along = (torch.einsum("bd,krd->bkr", white, found.axes) - own).square().sum(2)
        distances = (distances - along) / found.sizes + found.offsets
        return (-distances / 2).masked_fill(self.moments.counts == 0, -torch.inf)

    def _solve(self) -> Any:
        """The metrics of all classes."""
        whitener, means = super()._solve()
        parts = []
        for label, frames in enumerate(self.moments.counts.tolist()):
            factor, captured = self.moments.factor_of(label)
            share = self.config.class_share * frames / max(frames + self.config.prior_frames, 1)
            size = torch.tensor(1 - share * captured, device=self.device)
            axes = share**0.5 * factor @ whitener
            small = axes @ axes.T + size * torch.eye(len(axes), device=self.device)
            lower = torch.linalg.cholesky(small)
            rest = (len(whitener) - len(axes)) * size.log()
            offset = 2 * lower.diagonal().log().sum() + rest
            parts.append((torch.linalg.solve_triangular(lower, axes, upper=False), size, offset))
        if not parts:
            return Metrics(whitener, means, means[:, None], means.sum(1), means.sum(1))
        axes, sizes, offsets = (torch.stack(part) for part in zip(*parts, strict=True))
        return Metrics(whitener, means, axes, sizes, offsets)

    def end_task(self, batches: Batches) -> None:
        """At the end of the first task, tune the tail and compute the statistics anew."""
        if self.needs_second_pass:
            super().end_task(batches)
            self._settle()

    def _settle(self) -> None:
        """Read tasks again only until the tail is tuned."""
        tunes = self.config.tail == FIRST_TASK and not self.adapted
        self.needs_task_boundaries = self.needs_second_pass = tunes
        self.tested_after_task_end = self.learns_at_task_end = tunes

    # Room for classes.

    def rank_for(self, classes: int) -> int:
        """Number of axes stored per class, for so many classes."""
        if self.config.rank is not None:
            return self.config.rank
        most, budget = self.most_dimensions(), self.config.budget_bytes
        if budget is not None:
            room = budget * self.share_of_statistics
            bytes_of = super().bytes_for
            most = largest(most, lambda count: bytes_of(classes, count) <= room)
        # An axis takes a byte per direction, and so does half a row of the covariance.
        return min(_MOST_RANK, most // (4 * max(classes, 1)))

    def _rank(self, classes: int) -> int:
        """The same, but no more than are stored: what was given up is gone."""
        rank = self.rank_for(max(classes, self.config.classes_expected))
        stored = getattr(self, "moments", None)
        return rank if stored is None else min(rank, stored.rank)

    def bytes_for(self, classes: int, dimensions: int) -> int:
        """Bytes needed for so many classes and directions, without the codes."""
        factors = FactoredMoments.bytes_of_factors(classes, dimensions, self._rank(classes))
        return super().bytes_for(classes, dimensions) + factors

    def new_moments(self, dimensions: int) -> FactoredMoments:
        """Empty statistics of vectors, without a class."""
        rounding, rank = self.generators["rounding"], self._rank(len(self.classes))
        return FactoredMoments(dimensions, self.device, rounding, rank)

    def make_room(self, classes: int) -> None:
        """Make room for statistics of so many classes; fewer axes are kept if necessary."""
        self.moments.keep(self._rank(classes))
        super().make_room(classes)

    # The rest of the contract.

    def parameters(self) -> dict[str, nn.Parameter]:
        """The tail, if it is tuned."""
        return super().parameters() if self.trains else {}

    def _mean_distance(self) -> float:
        """Mean squared distance of all frames from their own class."""
        found: Metrics = self.prepare()
        counts = self.moments.counts
        shares = counts / counts.sum().clamp(min=1)
        factors = torch.stack([self.moments.factor_of(label)[0] for label in range(len(counts))])
        white = factors @ found.whitener
        own = white.square().sum((1, 2))
        along = torch.einsum("kqd,krd->kqr", found.axes, white).square().sum((1, 2))
        # What does not lie along the axes is known as a mean over all classes.
        rest = (super()._mean_distance() - shares @ own).clamp(min=0)
        return float(shares @ ((own - along + rest) / found.sizes + found.offsets))

    def take_shape(self, state: dict[str, Tensor]) -> None:
        """Resize to the classes in a state of :meth:`kept`.

        Raises:
            ValueError: the state does not fit these settings.
        """
        rank = state["moments.factors"].shape[1]
        if rank > self.moments.rank:
            raise ValueError(f"there are {rank} axes instead of at most {self.moments.rank}")
        super().take_shape(state)
        self.moments.keep(rank)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the :meth:`state_dict` of a learner with the same settings and classes.

        Raises:
            ValueError: the state does not fit.
        """
        super().load_state_dict(state)
        self._settle()
