"""Forms of exemplars: encode frames for storage, and decode them to feature maps.

``feature`` is the paper's; the others are its comparisons (Talbot et al. 2025, ablations).
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
"""Feature maps of stored images that need not be computed again."""


class Storage(Protocol):
    """One form of storing exemplars."""

    dtype: torch.dtype

    @property
    def row_shape(self) -> tuple[int, ...] | None:
        """Shape of an exemplar's row; None for variable lengths."""
        ...

    @property
    def reader_bytes(self) -> int:
        """Bytes shared by all exemplars to decode them."""
        ...

    def encode(self, batch: Batch) -> Tensor:
        """Encode frames to rows, [B, *row_shape]."""
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

    @property
    def reader_bytes(self) -> int:
        """Bytes of the codebook."""
        return self._codebook.blocks.nbytes

    def encode(self, batch: Batch) -> Tensor:
        """Indices of the nearest blocks, [B, N]."""
        return self._codebook.encode(batch.features)

    def features(self, rows: Tensor) -> Tensor:
        """Reconstruction with the present blocks; the gradient reaches them."""
        return self._codebook.decode(rows)


class ImageStorage:
    """Images: JPEG (or pixels), smaller than they are shown.

    Replay sends them through the front again. It is frozen, so what it makes of an image is
    remembered for a while: that changes how long replay takes and nothing else, and is not memory
    of the method's.

    Args:
        network: whose front is used.
        form: in which images are kept; by default pixels of all that the network is shown, 150,528
            bytes at 224 x 224 (the original keeps float32, four times that).
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
        """Bytes of what all JPEG files have in common."""
        return len(self.form.header)

    def encode(self, batch: Batch) -> Tensor:
        """The images, scaled down, as rows of :meth:`ImageForm.encode`."""
        assert batch.images is not None
        return self.form.encode(batch.images)

    def pixels(self, rows: Tensor) -> Tensor:
        """The images as replay shows them, uint8 [n, 3, S, S] on the network's device."""
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
    """The float32 feature map itself."""

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
    """The feature map, each value weighed by how much the loss depends on it.

    The weights are the absolute gradient of the loss, divided by its mean over the batch (a variant
    in the published code; Talbot et al. 2025).

    Args:
        network: whose features are kept.
        loss: loss of features, float [B, C, H, W], and labels, int64 [B].
    """

    def __init__(self, network: SplitNetwork, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(network)
        self._loss = loss

    def encode(self, batch: Batch) -> Tensor:
        """The weighed features; as they are where no gradient is left to weigh them with."""
        with torch.inference_mode(False), torch.enable_grad():
            # A batch of a second pass was made in inference mode, so copy it for autograd.
            features = batch.features.clone().requires_grad_()
            loss = self._loss(features, batch.labels.clone())
            (gradient,) = torch.autograd.grad(loss, features)
        weights = gradient.abs()
        mean = weights.mean()
        return batch.features * torch.where(mean > 0, weights / mean, torch.ones_like(weights))
