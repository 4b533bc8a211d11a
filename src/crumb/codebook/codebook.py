"""The codebook: memory blocks, nearest-block assignment, reconstruction."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from crumb.codebook.nearest import nearest_blocks
from crumb.errors import InputError, setting


def code_dtype(blocks: int) -> torch.dtype:
    """The smallest unsigned type for the index of one of ``blocks`` (at most 2^16) blocks."""
    return torch.uint8 if blocks <= 1 << 8 else torch.uint16


class _Rows(Function):
    """Select rows of a matrix, like ``torch.nn.functional.embedding``, with a faster CPU gradient.

    The gradient of ``embedding`` takes up to four times as long as ``index_add_``
    (benchmarks/README.md).
    """

    @staticmethod
    def forward(ctx: Any, codes: Tensor, blocks: Tensor) -> Tensor:
        """Integers [B, N] and float [K, D] to float [B, N, D]."""
        ctx.save_for_backward(codes)
        ctx.count = len(blocks)
        return functional.embedding(codes, blocks)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[None, Tensor]:
        """Sum of the gradients of each block's copies, float [K, D]."""
        (codes,) = ctx.saved_tensors
        rows = gradients[0].reshape(codes.numel(), -1)
        sums = rows.new_zeros(ctx.count, rows.shape[1])
        # Torch sorts int64 indices first, which is faster than adding row by row.
        return None, sums.index_add_(0, codes.flatten().long(), rows)


class Codebook(nn.Module):
    """Memory blocks shared by every slice, channel group and position of a feature map.

    At each position, a feature map [C, H, W] is cut into C / D slices of D channels. Each slice is
    replaced by the memory block with the largest projection of the slice onto the block's direction
    (Talbot et al. 2025, equations 1-3). An exemplar is stored as the indices of its blocks: H * W *
    C / D integers, ordered by row, column, slice.

    Args:
        blocks: initial memory blocks, float [K, D].
        feature_shape: (C, H, W) of the feature maps; D must divide C.

    Attributes:
        blocks: memory blocks, a trained parameter, float [K, D].
        code_length: number of indices per feature map, N = H * W * C / D.
        dtype: dtype of the indices, the smallest unsigned type that fits.

    Raises:
        InputError: D does not divide C.
    """

    def __init__(self, blocks: Tensor, feature_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = feature_shape
        check_block_length(blocks.shape[1], channels)
        self.blocks = nn.Parameter(blocks.clone())
        self.feature_shape = feature_shape
        self.code_length = height * width * channels // blocks.shape[1]
        self.dtype = code_dtype(blocks.shape[0])

    @torch.no_grad()
    def encode(self, features: Tensor) -> Tensor:
        """Assign each slice to its memory block.

        The similarity is the dot product with the block, divided by the length of the block (at
        least 1e-12). The block with the largest similarity is chosen, and the lowest index among
        equals.

        Args:
            features: float [B, C, H, W].

        Returns:
            indices, ``dtype`` [B, N].
        """
        directions = functional.normalize(self.blocks, dim=1, eps=1e-12).T.contiguous()
        # In channels-last memory, the format of feature maps, slices are already contiguous.
        slices = features.permute(0, 2, 3, 1).reshape(-1, self.blocks.shape[1])
        found = nearest_blocks(slices, directions)
        return found.to(self.dtype).view(len(features), self.code_length)

    def decode(self, codes: Tensor) -> Tensor:
        """Reconstruct feature maps from indices with the present values of the blocks.

        Gradients flow only to the blocks. The choice of an index has no gradient (there is no
        straight-through estimator).

        Args:
            codes: integers [B, N].

        Returns:
            float [B, C, H, W].
        """
        channels, height, width = self.feature_shape
        rows: Tensor
        if self.blocks.is_cpu:
            rows = _Rows.apply(codes.int(), self.blocks)  # pyright: ignore[reportAssignmentType]
        else:
            rows = functional.embedding(codes.int(), self.blocks)
        return rows.view(len(codes), height, width, channels).permute(0, 3, 1, 2)

    def forward(self, features: Tensor) -> Tensor:
        """Reconstruct feature maps, float [B, C, H, W] to the same: ``decode(encode(.))``."""
        return self.decode(self.encode(features))


def check_block_length(length: int, channels: int) -> None:
    """Refuse a block length that does not divide the number of channels.

    Raises:
        InputError: lists the block lengths that do.
    """
    if length < 1 or channels % length:
        fitting = [str(n) for n in range(1, channels + 1) if channels % n == 0 and n <= 128]
        raise InputError(
            setting("block_length", length),
            f"does not divide the {channels} channels at the cut",
            f"choose one of {', '.join(fitting)}",
        )
