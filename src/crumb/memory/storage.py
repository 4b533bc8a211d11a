"""Forms of exemplars: encode frames for storage, and decode them to feature maps.

``feature`` is the method of the paper, and the others are its ablations (Talbot et al. 2025).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Protocol

import torch
from torch import Tensor

from crumb.codebook.codebook import Codebook
from crumb.data.batches import Batch
from crumb.memory.encoded import as_bytes
from crumb.memory.images import ImageForm
from crumb.nets.split import SplitNetwork

REMEMBERED_BYTES = 256 << 20
"""Cached feature maps of stored images."""


class Storage(Protocol):
    """One form of storing exemplars."""

    dtype: torch.dtype

    @property
    def row_shape(self) -> tuple[int, ...] | None:
        """Shape of the row of an exemplar; None for variable lengths."""
        ...

    @property
    def reader_bytes(self) -> int:
        """Bytes shared by all exemplars to decode them."""
        ...

    def encode(self, batch: Batch) -> Tensor:
        """Encode frames to rows, [B, *row_shape]."""
        ...

    def features(self, rows: Tensor) -> Tensor:
        """Decode rows to the feature maps for replay, float [n, C, H, W]."""
        ...


class CodeStorage:
    """Block indices. The reconstruction uses the present memory blocks."""

    def __init__(self, codebook: Codebook) -> None:
        self._codebook = codebook
        self.row_shape = (codebook.code_length,)
        self.dtype = codebook.dtype

    @property
    def reader_bytes(self) -> int:
        """Bytes of the codebook."""
        return self._codebook.blocks.nbytes

    def encode(self, batch: Batch) -> Tensor:
        """Indices of the nearest blocks, [B, N]."""
        return self._codebook.encode(batch.features)

    def features(self, rows: Tensor) -> Tensor:
        """Reconstruct with the present blocks. Gradients flow to the blocks."""
        return self._codebook.decode(rows)


class ImageStorage:
    """Images as JPEG files or pixels, usually smaller than the input size.

    Replay passes them through the front again. The front is frozen, so its feature maps are cached
    for a while. The cache only saves time, and does not count as memory of the method.

    Args:
        network: network whose front is used.
        form: form of the stored images. Default: pixels at the input size, 150,528 bytes at 224 x
            224 (the original code stores float32, four times as much).
    """

    dtype = torch.uint8

    def __init__(self, network: SplitNetwork, form: ImageForm | None = None) -> None:
        self._network = network
        shown = network.preprocessing.size
        self.form = ImageForm(shown, shown) if form is None else form
        side = self.form.side
        self.row_shape: tuple[int, ...] | None = None if self.form.quality else (3, side, side)
        self._features: OrderedDict[bytes, Tensor] = OrderedDict()

    @property
    def reader_bytes(self) -> int:
        """Bytes of the common header of all JPEG files."""
        return len(self.form.header)

    def encode(self, batch: Batch) -> Tensor:
        """Scale images down, and encode them to rows of :meth:`ImageForm.encode`."""
        assert batch.images is not None
        return self.form.encode(batch.images)

    def pixels(self, rows: Tensor) -> Tensor:
        """Decode images to the input size, uint8 [n, 3, S, S] on the network's device."""
        return self.form.decode(rows).to(self._device)

    def features(self, rows: Tensor) -> Tensor:
        """Pass each image through the frozen feature extractor alone: batching would change the
        last bits.
        """
        if not len(rows):
            return torch.empty((0, *self._network.feature_shape), device=self._device)
        return torch.cat([self._features_of(row) for row in rows])

    @property
    def _device(self) -> torch.device:
        return next(self._network.parameters()).device

    def _features_of(self, row: Tensor) -> Tensor:
        key = blake2b(as_bytes(row.cpu()), digest_size=16).digest()
        found = self._features.pop(key, None)
        if found is None:
            # Features cached during a test are used for training later.
            with torch.inference_mode(False):
                found = self._network.features(self.pixels(row[None]))
        self._features[key] = found
        if len(self._features) * found.nbytes > REMEMBERED_BYTES:
            self._features.popitem(last=False)
        return found


class RawFeatureStorage:
    """Raw feature maps, float32."""

    dtype = torch.float32
    reader_bytes = 0

    def __init__(self, network: SplitNetwork) -> None:
        self.row_shape: tuple[int, ...] = network.feature_shape

    def encode(self, batch: Batch) -> Tensor:
        """The features themselves."""
        return batch.features

    def features(self, rows: Tensor) -> Tensor:
        """The features themselves."""
        return rows


class EnhancedFeatureStorage(RawFeatureStorage):
    """Feature maps whose values are weighted by the gradient of the loss.

    The weights are the absolute gradient of the loss, divided by its mean over the batch (a variant
    in the published code; Talbot et al. 2025).

    Args:
        network: network of the features.
        loss: maps features, float [B, C, H, W], and labels, int64 [B], to the loss.
    """

    def __init__(self, network: SplitNetwork, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(network)
        self._loss = loss

    def encode(self, batch: Batch) -> Tensor:
        """Weighted features; unweighted if all gradients are zero."""
        with torch.inference_mode(False), torch.enable_grad():
            # Batches of a second pass are made in inference mode, so copy them for autograd.
            features = batch.features.clone().requires_grad_()
            loss = self._loss(features, batch.labels.clone())
            (gradient,) = torch.autograd.grad(loss, features)
        weights = gradient.abs()
        mean = weights.mean()
        return batch.features * torch.where(mean > 0, weights / mean, torch.ones_like(weights))
