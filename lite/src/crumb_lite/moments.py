"""Class means and within-class covariance, in a single pass and two bytes per number."""

from __future__ import annotations

import math

import numpy as np

from crumb_lite.halves import pack, round_randomly, triangle_size, unpack


class Moments:
    """Count and mean of each class, and the covariance within classes.

    The statistics of ``crumb.memory.moments.ClassMoments``, by the same update rule.

    Args:
        state: ``centre``, float16 [d]; ``means``, float16 [classes, d]; ``counts``, int32
            [classes]; ``pooled``, int32 [2]; for streaming LDA also ``triangle``, float16
            [d (d + 1) / 2].
    """

    def __init__(self, state: dict[str, np.ndarray]) -> None:
        self.centre, self.means = state["centre"], state["means"]
        self.counts, self.pooled = state["counts"], state["pooled"]
        self.triangle = state.get("triangle")

    def state(self) -> dict[str, np.ndarray]:
        """All statistics."""
        names = ("centre", "means", "counts", "pooled", "triangle")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @property
    def frames(self) -> int:
        """Number of frames learned, of forgotten classes too."""
        return int(self.pooled[0])

    @property
    def scale(self) -> float:
        """Approximate magnitude of the numbers in the first batch."""
        return 2.0 ** -int(self.pooled[1])

    def add(self, vectors: np.ndarray, labels: np.ndarray, draws: np.random.Generator) -> None:
        """Merge a batch (Chan, Golub, LeVeque 1979).

        Args:
            vectors: float32 [B, d].
            labels: integers [B].
            draws: generator of the rounding.
        """
        if not self.frames:
            self._begin(vectors)
        frames, exponent = self.pooled.tolist()
        vectors = vectors * np.float32(2.0**exponent) - self.centre.astype(np.float32)
        present, place, new = np.unique(labels, return_inverse=True, return_counts=True)
        sums = np.zeros((len(present), vectors.shape[1]), np.float32)
        np.add.at(sums, place, vectors)
        batch_means = sums / new[:, None].astype(np.float32)
        shift, old = batch_means - self.means[present], self.counts[present]
        share = (new / (old + new)).astype(np.float32)[:, None]
        self.means[present] = round_randomly(self.means[present] + share * shift, draws)
        self.counts[present] += new.astype(np.int32)
        if self.triangle is not None:
            between = shift * np.sqrt(share * old[:, None].astype(np.float32))
            deviations = np.concatenate([vectors - batch_means[place], between])
            self._add_deviations(deviations, len(vectors), draws)
        self.pooled = np.array([frames + len(vectors), exponent], np.int32)

    def _begin(self, vectors: np.ndarray) -> None:
        """Choose scale and centre by the first batch."""
        size = math.sqrt(float(np.square(vectors).mean()))
        exponent = -round(math.log2(size)) if size > 0 else 0
        self.centre = (vectors.mean(0) * np.float32(2.0**exponent)).astype(np.float16)
        self.pooled = np.array([0, exponent], np.int32)

    def _add_deviations(self, deviations: np.ndarray, new: int, draws: np.random.Generator) -> None:
        """Update the covariance with the deviations, [n, d], of ``new`` frames."""
        assert self.triangle is not None
        before = self.triangle.astype(np.float32)
        scatter = pack(deviations.T @ deviations)
        after = before + (scatter - np.float32(new) * before) / np.float32(self.frames + new)
        self.triangle = round_randomly(after, draws)

    def mean_vectors(self) -> np.ndarray:
        """Float32 [classes, d]; the centre for classes without frames."""
        return (self.means.astype(np.float32) + self.centre) * np.float32(self.scale)

    def covariance(self) -> np.ndarray:
        """Float32 [d, d]."""
        assert self.triangle is not None
        return unpack(self.triangle, len(self.centre)) * np.float32(self.scale**2)

    def overall(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviations of all frames, float32 [d], in units of the scale."""
        assert self.triangle is not None
        rows = np.arange(len(self.centre))
        within = self.triangle[rows * (rows + 3) // 2].astype(np.float32).clip(0)
        weights = (self.counts / max(1, self.counts.sum())).astype(np.float32)
        means = self.means.astype(np.float32)
        mean = weights @ means
        return mean + self.centre, np.sqrt(within + weights @ np.square(means - mean))

    def make_room(self, classes: int) -> None:
        """Add rows until there are ``classes`` classes."""
        missing = max(0, classes - len(self.counts))
        self.means = np.pad(self.means, ((0, missing), (0, 0)))
        self.counts = np.pad(self.counts, (0, missing))

    def drop(self, dimensions: int) -> None:
        """Keep the leading dimensions."""
        self.centre, self.means = self.centre[:dimensions], self.means[:, :dimensions]
        if self.triangle is not None:
            self.triangle = self.triangle[: triangle_size(dimensions)]

    def forget(self, label: int) -> None:
        """Remove a class; later ones move up. The covariance keeps its frames."""
        self.means, self.counts = (np.delete(x, label, 0) for x in (self.means, self.counts))
