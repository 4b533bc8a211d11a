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
