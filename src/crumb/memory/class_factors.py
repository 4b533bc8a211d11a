"""Class means, one covariance, and the main directions in which each class varies by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from crumb.memory.moments import ClassMoments

_STEPS = 127
"""Largest 8-bit number of a factor."""


class FactoredMoments(ClassMoments):
    """Like :class:`ClassMoments`, with a low-rank covariance of each class besides the pooled one.

    The covariance of class k is about ``F' F + rest``, where F has ``rank`` rows. They are the
    leading principal axes of the class, scaled by their standard deviations. The rest is known by
    its size only. A batch is merged by incremental principal component analysis (Ross, Lim, Lin,
    Yang, "Incremental Learning for Robust Visual Tracking", IJCV 2008): the axes of the old factor,
    the deviations of the new frames and the shift of the mean together are reduced to ``rank``
    rows again.

    A factor takes one byte per number. It is rounded randomly, so that it is unbiased.

    Args:
        dimensions: dimensions of the vectors.
        device: device of the statistics.
        generator: generator of the rounding, on that device.
        rank: rows of a factor.

    Attributes:
        factors: int8 [classes, rank, dimensions], in steps.
        steps: float16 [classes, rank], the size of a step in units of the moments.
        captured: float16 [classes], share of the variance of a class that lies in its factor.
    """

    def __init__(
        self, dimensions: int, device: torch.device, generator: torch.Generator, rank: int
    ) -> None:
        super().__init__(dimensions, device, generator)
        self.factors = torch.zeros(0, rank, dimensions, dtype=torch.int8, device=device)
        self.steps = torch.zeros(0, rank, dtype=torch.float16, device=device)
        self.captured = torch.zeros(0, dtype=torch.float16, device=device)

    @property
    def rank(self) -> int:
        """Rows of a factor."""
        return self.factors.shape[1]

    @staticmethod
    def bytes_of_factors(classes: int, dimensions: int, rank: int) -> int:
        """Bytes of the factors of ``classes`` classes."""
        return classes * (rank * (dimensions + 2) + 2)

    def factor_of(self, label: int) -> tuple[Tensor, float]:
        """The factor of a class, and the share of its variance that is captured.

        Returns:
            float32 [rank, dimensions], zero without frames; and a number from 0 to 1.
        """
        return self._decoded(label) * self.scale, float(self.captured[label])

    def _decoded(self, label: int) -> Tensor:
        return self.factors[label] * self.steps[label].float()[:, None]

    def _add_deviations(
        self, deviations: Tensor, place: Tensor, present: Tensor, old: Tensor, new: Tensor
    ) -> None:
        super()._add_deviations(deviations, place, present, old, new)
        if not self.rank:
            return
        rows = torch.arange(len(present), device=place.device)
        owners = torch.cat([place, rows])
        frames = zip(present.tolist(), old.tolist(), new.tolist(), strict=True)
        for row, (label, before, added) in enumerate(frames):
            parts = [(label, before)] if before else []
            self._reduce(label, parts, deviations[owners == row], before + added)

    def _reduce(
        self, label: int, parts: list[tuple[int, int]], deviations: Tensor, frames: int
    ) -> None:
        """Set the factor of a class to the leading axes of factors and deviations together.

        Args:
            label: the class.
            parts: labels of the factors, each with the number of its frames.
            deviations: [n, dimensions], further deviations from the mean.
            frames: number of frames of all of these.
        """
        rows, total = [deviations], float(deviations.square().sum())
        for part, count in parts:
            factor = self._decoded(part)
            rows.append(factor * count**0.5)
            share = max(float(self.captured[part]), torch.finfo(torch.float16).tiny)
            total += count * float(factor.square().sum()) / share
        stacked = torch.cat(rows)
        stacked = stacked[stacked.any(1)].double()
        # The leading axes in the space of the rows, which are few. In single precision, equal
        # eigenvalues can be too much for the solver.
        _, axes = torch.linalg.eigh(stacked @ stacked.T)
        leading = (axes[:, -self.rank :].T @ stacked).float()
        held = float(leading.square().sum())
        self.captured[label] = min(held / total, 1.0) if total > 0 else 0.0
        leading = leading / frames**0.5
        missing = self.rank - len(leading)
        self._encode(label, torch.cat([leading.new_zeros(missing, self.dimensions), leading]))

    def _encode(self, label: int, factor: Tensor) -> None:
        steps = (factor.abs().amax(1) / _STEPS).to(torch.float16)
        scaled = factor / steps.float().clamp(min=torch.finfo(torch.float16).tiny)[:, None]
        draws = torch.rand(factor.shape, generator=self._generator, device=factor.device)
        self.factors[label] = (scaled + draws).floor().clamp(-_STEPS, _STEPS).to(torch.int8)
        self.steps[label] = steps

    def make_room(self, classes: int) -> None:
        """Add rows until there are ``classes`` classes."""
        missing = max(0, classes - len(self.counts))
        super().make_room(classes)
        for name in ("factors", "steps", "captured"):
            value = getattr(self, name)
            setattr(self, name, torch.cat([value, value.new_zeros(missing, *value.shape[1:])]))

    def keep(self, rank: int) -> None:
        """Keep at most ``rank`` rows of each factor, those of the largest variance."""
        if (lost := self.rank - rank) > 0:
            sizes = self.factors.float().square().sum(2) * self.steps.float().square()
            # Rows are in ascending order.
            before, after = sizes.sum(1), sizes[:, lost:].sum(1)
            share = torch.where(before > 0, after / before.clamp(min=1e-30), 0.0)
            self.captured = (self.captured.float() * share).to(torch.float16)
            self.factors, self.steps = self.factors[:, lost:].clone(), self.steps[:, lost:].clone()

    def drop(self, dimensions: int) -> None:
        """Keep the leading dimensions only. The captured shares are taken to stay."""
        super().drop(dimensions)
        self.factors = self.factors[..., :dimensions].clone()

    def forget(self, label: int) -> None:
        """Remove a class; later ones move up. The pooled covariance keeps its frames."""
        kept = [other for other in range(len(self.counts)) if other != label]
        super().forget(label)
        for name in ("factors", "steps", "captured"):
            setattr(self, name, getattr(self, name)[kept])

    def _join_covariances(self, label: int, other: int, between: Tensor, share: float) -> None:
        super()._join_covariances(label, other, between, share)
        if not self.rank:
            return
        # The counts of the class are those of both by now.
        both, new = int(self.counts[label]), int(self.counts[other])
        self._reduce(label, [(label, both - new), (other, new)], between[None], both)

    def state_dict(self) -> dict[str, Tensor]:
        """All statistics."""
        own = {"factors": self.factors, "steps": self.steps, "captured": self.captured}
        return super().state_dict() | own
