"""The form of stored images: size and quality."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

USUAL_QUALITY = 75
"""Pillow's default JPEG quality. A photograph of 128 x 128 pixels takes about 1,700 bytes, and one
of 224 x 224 pixels about 4,000."""
WANTED = 128
"""JPEG images are kept as large as lets about so many fit into a budget, ..."""
MIN_SIDE = 32
"""... but not smaller than this, in pixels."""
_STEP = 16
_SCAN = b"\xff\xda"


@dataclass(frozen=True)
class ImageForm:
    """Stored images: scaled down, encoded as JPEG, and scaled up again for replay.

    JPEG files of the same side and quality begin with the same 623 bytes (tables and sizes). These
    bytes are stored once for all images.

    Attributes:
        shown: side in pixels of the images that the network gets.
        side: side of the stored images in pixels.
        quality: JPEG quality of Pillow, from 1 to 95; 0 stores pixels.
    """

    shown: int
    side: int
    quality: int = 0

    @property
    def lossless(self) -> bool:
        """Whether images are stored without loss."""
        return self.quality == 0 and self.side == self.shown

    @cached_property
    def header(self) -> bytes:
        """Common header of all JPEG files of this form; empty for pixels."""
        return self._blank[: _image_data(self._blank)] if self.quality else b""

    @cached_property
    def least_bytes(self) -> int:
        """Bytes of the shortest JPEG image (a single colour), or of the pixels."""
        return len(self._blank) - len(self.header) if self.quality else 3 * self.side**2

    @cached_property
    def _blank(self) -> bytes:
        # Grey, for which all JPEG coefficients are zero.
        return self._jpeg(np.full((self.side, self.side, 3), 128, np.uint8))

    def encode(self, images: Tensor) -> Tensor:
        """Encode images for storage.

        Args:
            images: uint8 [B, 3, S, S].

        Returns:
            pixels, uint8 [B, 3, side, side] on the same device; or JPEG files without their common
            header, uint8 [B, longest] on the CPU (see :func:`crumb.memory.encoded.as_rows`).
        """
        from crumb.memory.encoded import as_rows

        small = scaled(images, self.side)
        if not self.quality:
            return small
        pixels = small.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return as_rows([self._jpeg(one)[len(self.header) :] for one in pixels])

    def decode(self, rows: Tensor) -> Tensor:
        """Decode rows of :meth:`encode` to images for the network: uint8 [B, 3, shown, shown]."""
        if self.quality:
            import torch

            from crumb.memory.encoded import as_bytes

            files = [BytesIO(self.header + as_bytes(row)) for row in rows]
            pixels = np.stack([np.array(Image.open(file)) for file in files])
            rows = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        return scaled(rows, self.shown)

    def __call__(self, images: Tensor) -> Tensor:
        """Encode and decode images: uint8 [B, 3, S, S] to uint8 [B, 3, shown, shown]."""
        return self.decode(self.encode(images)).to(images.device)

    def _jpeg(self, pixels: np.ndarray) -> bytes:
        """A complete JPEG file of uint8 [side, side, 3]."""
        file = BytesIO()
        # Optimised tables would save less in each image than they take.
        Image.fromarray(pixels).save(file, "JPEG", quality=self.quality, optimize=False)
        return file.getvalue()


def _image_data(file: bytes) -> int:
    """End of the common header, where image-specific bytes begin."""
    start = file.rindex(_SCAN) + len(_SCAN)
    return start + int.from_bytes(file[start : start + 2], "big")


def usual_side(budget: int, shown: int) -> int:
    """Default side of the images stored in a budget.

    A multiple of 16 pixels, the size of JPEG's blocks. At the default quality, a photograph of s x
    s pixels takes about 1.2 s^1.5 bytes and eight more (means of 200 photographs of objects, from
    32 to 224 pixels).

    Args:
        budget: budget in bytes.
        shown: side of the images that the network gets, the maximum.
    """
    side = MIN_SIDE
    while side < shown and _usual_bytes(side + _STEP) * WANTED <= budget:
        side += _STEP
    return min(shown, side)


def _usual_bytes(side: int) -> float:
    return 1.2 * side * math.sqrt(side) + 8


def scaled(images: Tensor, side: int) -> Tensor:
    """uint8 [B, 3, S, S] to uint8 [B, 3, side, side], bilinear, without aliasing."""
    if images.shape[-1] == side:
        return images
    from torch.nn.functional import interpolate

    values = interpolate(images.float(), (side, side), mode="bilinear", antialias=True)
    return values.round_().clamp_(0, 255).byte()
