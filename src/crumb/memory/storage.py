"""What is kept of an exemplar, and how it becomes a feature map again.

``feature`` is the paper's; the others are its comparisons (Talbot et al. 2025, ablations).
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from crumb.codebook.codebook import Codebook
from crumb.data.batches import Batch
from crumb.nets.split import SplitNetwork


class Storage(Protocol):
    """One way to keep an exemplar."""

    row_shape: tuple[int, ...]
    dtype: torch.dtype

    def encode(self, batch: Batch) -> Tensor:
        """What is kept of each frame, [B, *row_shape]."""
        ...

    def features(self, rows: Tensor) -> Tensor:
        """The feature maps that replay trains on, float [n, C, H, W]."""
        ...


class CodeStorage:
    """Block indices; the reconstruction follows the blocks as they are tuned."""

    def __init__(self, codebook: Codebook) -> None:
        self._codebook = codebook
        self.row_shape = (codebook.code_length,)
        self.dtype = codebook.dtype

    def encode(self, batch: Batch) -> Tensor:
        """Indices of the nearest blocks, [B, N]."""
        return self._codebook.encode(batch.features)

    def features(self, rows: Tensor) -> Tensor:
        """Reconstruction with the present blocks; the gradient reaches them."""
        return self._codebook.decode(rows)


class ImageStorage:
    """uint8 pixels, 150,528 bytes at 224 x 224 (the original keeps float32, four times that)."""

    dtype = torch.uint8

    def __init__(self, network: SplitNetwork) -> None:
        self._network = network
        size = network.preprocessing.size
        self.row_shape = (3, size, size)

    def encode(self, batch: Batch) -> Tensor:
        """The pixels themselves."""
        assert batch.images is not None
        return batch.images

    def features(self, rows: Tensor) -> Tensor:
        """Through the frozen front again."""
        return self._network.features(rows)


class RawFeatureStorage:
    """The float32 feature map itself."""

    dtype = torch.float32

    def __init__(self, network: SplitNetwork) -> None:
        self.row_shape: tuple[int, ...] = network.feature_shape

    def encode(self, batch: Batch) -> Tensor:
        """The features themselves."""
        return batch.features

    def features(self, rows: Tensor) -> Tensor:
        """The features themselves."""
        return rows


class GaussianMemory:
    """MeRec: of each class only the mean and variance of its feature maps.

    Replay draws from the diagonal Gaussian. Mean and (population) variance are updated batch by
    batch with the pairwise form of Welford's algorithm; no cap applies, and a class costs two
    feature maps.

    Args:
        feature_shape: (C, H, W).
        device: where the figures are kept.
    """

    def __init__(self, feature_shape: tuple[int, int, int], device: torch.device | str) -> None:
        self._shape, self._device = feature_shape, device
        self._count: dict[int, int] = {}
        self._mean: dict[int, Tensor] = {}
        self._squares: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self._count)

    @property
    def nbytes(self) -> int:
        """Bytes of the means and variances."""
        return sum(t.nbytes for table in (self._mean, self._squares) for t in table.values())

    @property
    def bookkeeping_bytes(self) -> int:
        """Bytes of the counts (8 per class)."""
        return 8 * len(self._count)

    def count(self, label: int) -> int:
        """Frames seen of one class."""
        return self._count.get(label, 0)

    def offer(self, features: Tensor, labels: Tensor) -> None:
        """Add frames: float [B, C, H, W], int64 [B]."""
        for label in labels.unique().tolist():
            self._merge(label, features[labels == label].to(self._device))

    def _merge(self, label: int, new: Tensor) -> None:
        mean, squares = new.mean(0), new.var(0, correction=0) * len(new)
        old = self._count.get(label, 0)
        if old:
            total = old + len(new)
            shift = mean - self._mean[label]
            squares = self._squares[label] + squares + shift.square() * (old * len(new) / total)
            mean = self._mean[label] + shift * (len(new) / total)
        self._count[label] = old + len(new)
        self._mean[label], self._squares[label] = mean, squares

    def draw(self, labels: list[int], generator: torch.Generator) -> Tensor:
        """One feature map for each entry of ``labels``, float32 [len(labels), C, H, W].

        Args:
            labels: classes that have been seen.
            generator: of the noise (CPU).
        """
        noise = torch.randn((len(labels), *self._shape), generator=generator).to(self._device)
        mean = torch.stack([self._mean[label] for label in labels])
        variance = torch.stack([self._squares[label] / self._count[label] for label in labels])
        return mean + noise * variance.sqrt()

    def state_dict(self) -> dict[str, Tensor]:
        """Counts, means and summed squared deviations, class by class."""
        table = [[label, count] for label, count in self._count.items()]
        empty = torch.empty((0, *self._shape))
        return {
            "counts": torch.tensor(table, dtype=torch.int64).view(-1, 2),
            "mean": torch.stack(list(self._mean.values())) if table else empty,
            "squares": torch.stack(list(self._squares.values())) if table else empty,
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over the figures of :meth:`state_dict`."""
        labels = [label for label, _ in state["counts"].tolist()]
        self._count = dict(state["counts"].tolist())
        for name, table in (("mean", self._mean), ("squares", self._squares)):
            table.clear()
            table.update(zip(labels, state[name].to(self._device), strict=True))
