"""Class means and within-class covariance, in a single pass and two bytes per number."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from crumb.memory.checked import check_finite, check_forms
from crumb.memory.halves import pack, round_randomly, triangle_size, unpack

_MAX_EXPONENT = 149
"""Exponent of the smallest float32."""


class ClassMoments:
    """Count and mean of each class, and the within-class covariance pooled over all classes.

    Each batch is merged into the statistics (Chan, Golub, LeVeque, "Updating Formulae and a
    Pairwise Algorithm for Computing Sample Variances", 1979). Up to rounding, they equal the
    statistics of all frames at once, in any order. The update of Hayes and Kanan (2020, equation 2)
    weights the deviation of a frame from the current mean differently and depends on the order.

    The statistics are stored in half precision with stochastic rounding. The standard deviation of
    the error settles near sqrt(u s / 2), however many frames follow. Here u is the spacing of
    half-precision numbers around the value, and s is the mean change per batch. For a mean, this
    error is about 2 % of the within-class standard deviation if frames come one by one, and 1 % if
    a batch has 21 frames of a class. For an entry of the covariance, it is 1 % of the product of
    the two standard deviations.

    Args:
        dimensions: dimensions of the vectors.
        device: device of the statistics.
        generator: generator of the rounding, on that device.
        covariance: whether to keep the covariance.

    Attributes:
        centre: float16 [dimensions], approximately the mean of the first batch. Means are stored
            relative to it, because half-precision numbers are denser near zero.
        means: float16 [classes, dimensions], the means minus the centre, times ``2 ** exponent``.
        counts: int32 [classes], frames per class.
        triangle: float16 [dimensions (dimensions + 1) / 2], the covariance times
            ``4 ** exponent``, row by row up to the diagonal; empty without covariance.
        pooled: int32 [2], number of frames in the covariance, and the exponent of the power of two
            that scales the first batch to a magnitude of about one.
    """

    def __init__(
        self,
        dimensions: int,
        device: torch.device,
        generator: torch.Generator,
        covariance: bool = True,
    ) -> None:
        entries = triangle_size(dimensions) if covariance else 0
        self.covariance = covariance
        self.centre = torch.zeros(dimensions, dtype=torch.float16, device=device)
        self.means = torch.zeros(0, dimensions, dtype=torch.float16, device=device)
        self.counts = torch.zeros(0, dtype=torch.int32, device=device)
        self.triangle = torch.zeros(entries, dtype=torch.float16, device=device)
        self.pooled = torch.zeros(2, dtype=torch.int32, device=device)
        self._generator = generator

    @property
    def dimensions(self) -> int:
        """Dimensions of the vectors."""
        return self.means.shape[1]

    @staticmethod
    def bytes_for(classes: int, dimensions: int, covariance: bool) -> int:
        """Bytes of the statistics of ``classes`` classes."""
        entries = triangle_size(dimensions) if covariance else 0
        return classes * (2 * dimensions + 4) + 2 * (dimensions + entries) + 8

    @property
    def nbytes(self) -> int:
        """Bytes of the statistics."""
        return sum(value.nbytes for value in self.state_dict().values())

    @torch.no_grad()
    def add(self, vectors: Tensor, labels: Tensor) -> None:
        """Merge a batch.

        Args:
            vectors: float32 [B, dimensions].
            labels: int64 [B], below the number of classes given to :meth:`make_room`.
        """
        frames, exponent = self.pooled.tolist()
        if not frames:
            size = float(vectors.square().mean().sqrt())
            exponent = -round(math.log2(size)) if size > 0 else 0
            self.centre = (vectors.mean(0) * 2.0**exponent).to(torch.float16)
        vectors = vectors * 2.0**exponent - self.centre
        present, place, new = labels.to(vectors.device).unique(
            return_inverse=True, return_counts=True
        )
        sums = vectors.new_zeros(len(present), self.dimensions).index_add_(0, place, vectors)
        means, old = self.means[present].float(), self.counts[present]
        batch_means = sums / new[:, None]
        shift = batch_means - means
        share = (new / (old + new))[:, None]
        self.means[present] = round_randomly(means + share * shift, self._generator)
        self.counts[present] += new.int()
        if self.covariance:
            between = shift * (share * old[:, None]).sqrt()
            deviations = torch.cat([vectors - batch_means[place], between])
            self._add_deviations(deviations, place, present, old, new)
        self.pooled = self.pooled.new_tensor([frames + len(vectors), exponent])

    def _add_deviations(
        self, deviations: Tensor, place: Tensor, present: Tensor, old: Tensor, new: Tensor
    ) -> None:
        """Update the covariance with the deviations of a batch.

        Args:
            deviations: [B + P, dimensions], those of the frames from the mean of their class in
                the batch, then the weighted shift of the mean of each class.
            place: int64 [B], the class of each frame, as a row of the following.
            present: int64 [P], the labels of the batch.
            old: int32 [P], frames of each of them before the batch.
            new: int64 [P], frames of each of them in the batch.
        """
        self._merge(deviations.T @ deviations, len(place), int(self.pooled[0]))

    def _merge(self, scatter: Tensor, new: int, frames: int) -> None:
        """Update the covariance with the scatter [d, d] of ``new`` frames."""
        before = self.triangle.float()
        after = before + (pack(scatter) - new * before) / (frames + new)
        self.triangle = round_randomly(after, self._generator)

    @property
    def scale(self) -> float:
        """Approximate magnitude of the numbers in the first batch."""
        return 2.0 ** -int(self.pooled[1])

    def mean_vectors(self) -> Tensor:
        """Float32 [classes, dimensions]; the centre for classes without frames."""
        return (self.means.float() + self.centre) * self.scale

    def overall(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviations of all frames, float32 [dimensions] each.

        In units of :attr:`scale`, so that they fit into half precision.
        """
        means = self.means.float()
        weights = (self.counts / self.counts.sum().clamp(min=1))[:, None]
        mean = (weights * means).sum(0)
        between = (weights * (means - mean).square()).sum(0)
        return mean + self.centre, (self._variances().clamp(min=0) + between).sqrt()

    def _variances(self) -> Tensor:
        """Variances within classes, in units of the squared scale."""
        return self._diagonal(self.triangle.float())

    def _diagonal(self, triangle: Tensor) -> Tensor:
        rows = torch.arange(self.dimensions, device=triangle.device)
        return triangle[rows * (rows + 3) // 2]

    def covariance_matrix(self) -> Tensor:
        """Float32 [dimensions, dimensions]: the mean outer product of deviations from the means."""
        return unpack(self.triangle, self.dimensions) * self.scale**2

    def make_room(self, classes: int) -> None:
        """Add rows until there are ``classes`` classes."""
        missing = max(0, classes - len(self.counts))
        self.means = torch.cat([self.means, self.means.new_zeros(missing, self.dimensions)])
        self.counts = torch.cat([self.counts, self.counts.new_zeros(missing)])

    def drop(self, dimensions: int) -> None:
        """Keep the leading dimensions only. Their statistics do not change."""
        self.centre = self.centre[:dimensions].clone()
        self.means = self.means[:, :dimensions].clone()
        if self.covariance:
            self.triangle = self.triangle[..., : triangle_size(dimensions)].clone()

    def forget(self, label: int) -> None:
        """Remove a class; later ones move up. The covariance keeps the frames of the class."""
        kept = [other for other in range(len(self.counts)) if other != label]
        self.means, self.counts = self.means[kept], self.counts[kept]

    @torch.no_grad()
    def merge(self, label: int, other: int) -> None:
        """Add the frames of class ``other`` to class ``label``, and remove ``other``."""
        old, new = int(self.counts[label]), int(self.counts[other])
        if new:
            means = self.means.float()
            shift, share = means[other] - means[label], new / (old + new)
            merged = means[label] + share * shift
            self.means[label] = round_randomly(merged, self._generator)
            self.counts[label] += new
            if self.covariance:
                self._join_covariances(label, other, shift * (share * old) ** 0.5, share)
        self.forget(other)

    def _join_covariances(self, label: int, other: int, between: Tensor, share: float) -> None:
        """Update the covariance for a class that takes in another one.

        Args:
            label: the class.
            other: the other one, whose frames are ``share`` of those of both.
            between: weighted shift of the mean, [dimensions]. Its outer product is the scatter of
                the two means around their common mean.
            share: see ``other``.
        """
        self._merge(torch.outer(between, between), 0, int(self.pooled[0]))

    def state_dict(self) -> dict[str, Tensor]:
        """All statistics."""
        names = ("centre", "means", "counts", "triangle", "pooled")
        return {
            name: getattr(self, name) for name in names if self.covariance or name != "triangle"
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the statistics of :meth:`state_dict`.

        Raises:
            ValueError: the shapes or dtypes differ, or numbers are not finite or out of range.
        """
        check_forms(state, self.state_dict())
        check_finite(state)
        frames, exponent = state["pooled"].tolist()
        if frames < 0 or bool((state["counts"] < 0).any()) or abs(exponent) > _MAX_EXPONENT:
            raise ValueError("counts of frames or the exponent are out of range")
        for name, value in state.items():
            setattr(self, name, value.to(self.means.device).clone())
