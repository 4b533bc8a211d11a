"""Class means and a covariance for each class, in a single pass and two bytes per number."""

from __future__ import annotations

import torch
from torch import Tensor

from crumb.memory.halves import pack, round_randomly, triangle_size, unpack
from crumb.memory.moments import ClassMoments


class ClassCovariances(ClassMoments):
    """Like :class:`ClassMoments`, with the covariance of each class instead of the pooled one.

    Attributes:
        triangle: float16 [classes, dimensions (dimensions + 1) / 2], packed as in
            :class:`ClassMoments`.
    """

    def __init__(
        self,
        dimensions: int,
        device: torch.device,
        generator: torch.Generator,
        covariance: bool = True,
    ) -> None:
        super().__init__(dimensions, device, generator, covariance)
        self.triangle = self.triangle.new_zeros(0, len(self.triangle))

    @staticmethod
    def bytes_for(classes: int, dimensions: int, covariance: bool) -> int:
        """Bytes of the statistics of ``classes`` classes."""
        triangles = 2 * classes * triangle_size(dimensions) if covariance else 0
        return ClassMoments.bytes_for(classes, dimensions, False) + triangles

    def _add_deviations(
        self, deviations: Tensor, place: Tensor, present: Tensor, old: Tensor, new: Tensor
    ) -> None:
        rows = torch.arange(len(present), device=place.device)
        owners = torch.cat([place, rows])
        parts = [deviations[owners == row] for row in rows.tolist()]
        scatter = torch.stack([pack(part.T @ part) for part in parts])
        before, new = self.triangle[present].float(), new[:, None]
        after = before + (scatter - new * before) / (old[:, None] + new)
        self.triangle[present] = round_randomly(after, self._generator)

    def covariance_of(self, label: int) -> Tensor:
        """Float32 [dimensions, dimensions]: covariance of a class, zero without frames."""
        return unpack(self.triangle[label], self.dimensions) * self.scale**2

    def covariance_matrix(self) -> Tensor:
        """Float32 [dimensions, dimensions]: the covariance within classes, pooled over them."""
        return unpack(self._pooled(), self.dimensions) * self.scale**2

    def _pooled(self) -> Tensor:
        shares = self.counts / self.counts.sum().clamp(min=1)
        return shares @ self.triangle.float()

    def _variances(self) -> Tensor:
        return self._diagonal(self._pooled())

    def make_room(self, classes: int) -> None:
        """Add rows until there are ``classes`` classes."""
        missing = max(0, classes - len(self.counts))
        super().make_room(classes)
        self.triangle = torch.cat(
            [self.triangle, self.triangle.new_zeros(missing, self.triangle.shape[1])]
        )

    def forget(self, label: int) -> None:
        """Remove a class; later ones move up."""
        kept = [other for other in range(len(self.counts)) if other != label]
        super().forget(label)
        self.triangle = self.triangle[kept]

    def _join_covariances(self, label: int, other: int, between: Tensor, share: float) -> None:
        one, two = self.triangle[[label, other]].float()
        # The counts of the class are those of both by now.
        scatter = pack(torch.outer(between, between))
        joined = one + share * (two - one) + scatter / self.counts[label]
        self.triangle[label] = round_randomly(joined, self._generator)
