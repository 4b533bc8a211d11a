"""Nearest-block assignment on CUDA in one Triton kernel, without the similarity matrix."""

# Triton has no packages for macOS, so it is imported at the first call. pyright:
# reportMissingImports=false

from __future__ import annotations

import os
import shutil
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    import triton.language as tl

# Slices, blocks and channels that one program of four warps multiplies at a time. Triton 3.9 uses
# at # most 166 registers per thread and spills none (compute capability 7.5 to 12.0).
TILE = {"ROWS": 64, "COLUMNS": 64, "DEPTH": 16}
# The default depends on Triton's version, and an unset value gives a warning.
OPTIONS = {"enable_fp_fusion": True}


@cache
def available() -> bool:
    """Whether Triton and the C compiler that it needs are installed. Starts neither."""
    compilers = (os.environ.get("CC", ""), "gcc", "clang")
    return find_spec("triton") is not None and any(map(shutil.which, filter(None, compilers)))


def nearest_blocks(slices: Tensor, directions: Tensor) -> Tensor:
    """Column of the largest entry in each row of ``slices @ directions``.

    Same result as ``torch.max(slices @ directions, 1).indices``: the lowest column among equals,
    and the first NaN if there is one. The products never leave the multiprocessors. Each program
    keeps the best column of its rows while it iterates over the columns, so only the result takes
    memory.

    Products and sums are float32 (never TF32, whatever PyTorch is set to), but in another order
    than in a matrix product of PyTorch. The two may choose different columns if the two largest
    similarities of a row are equal up to rounding. In float64, the similarities of the two choices
    then differ by at most about D * 1e-7 times the length of the slice and of the direction.
    Results are equal for integers and other values without rounding.

    The kernel is compiled at the first call for each D and K, in about a second. n may vary.

    Args:
        slices: float32 [n, D] on a CUDA device, n >= 0; copied unless contiguous.
        directions: float32 [D, K] on the same device, K >= 1; copied unless contiguous.

    Returns:
        int64 [n], each from 0 to K - 1.
    """
    count, length = slices.shape
    nearest = torch.empty(count, dtype=torch.int64, device=slices.device)
    programs = -(-count // TILE["ROWS"])
    if not programs:
        return nearest
    kernel = _kernel()[(programs,)]
    # Triton launches on the current device, which may not be the device of the slices.
    with torch.cuda.device_of(slices):
        kernel(
            slices.contiguous(),
            directions.contiguous(),
            nearest,
            count,
            LENGTH=length,
            BLOCKS=directions.shape[1],
            **TILE,
            **OPTIONS,
        )
    return nearest


@cache
def _kernel() -> Any:
    # Triton looks up names in the source of a kernel in the globals of its module.
    global tl
    import triton
    import triton.language as tl

    return triton.jit(do_not_specialize=["count"])(_nearest_blocks)


def _nearest_blocks(
    slices: tl.tensor,
    directions: tl.tensor,
    nearest: tl.tensor,
    count: tl.tensor,
    LENGTH: tl.constexpr,
    BLOCKS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
) -> None:
    # 64 bits, as n * D may exceed 2^31.
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    best = tl.full([ROWS], -(2**31), tl.int32)
    index = tl.zeros([ROWS], tl.int32)
    for start in range(0, BLOCKS, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        scores = tl.zeros([ROWS, COLUMNS], tl.float32)
        for first in range(0, LENGTH, DEPTH):
            channels = first + tl.arange(0, DEPTH)
            # Padding channels are zero on both sides, because infinity times zero is NaN.
            left = tl.load(
                slices + rows[:, None] * LENGTH + channels[None, :],
                mask=(rows < count)[:, None] & (channels < LENGTH)[None, :],
                other=0.0,
            )
            right = tl.load(
                directions + channels[:, None] * BLOCKS + columns[None, :],
                mask=(channels < LENGTH)[:, None] & (columns < BLOCKS)[None, :],
                other=0.0,
            )
            scores = tl.dot(left, right, scores, input_precision="ieee")
        # Map similarities to integers in the same order. NaN comes above infinity, and padding
        # columns come below minus infinity. Both zeros become 0.
        ranks = tl.where(scores == 0, 0.0, scores).to(tl.int32, bitcast=True)
        ranks ^= (ranks >> 31) & 0x7FFFFFFF
        ranks = tl.where(scores != scores, 0x7FFFFFFF, ranks)
        ranks = tl.where((columns < BLOCKS)[None, :], ranks, -(2**31))
        rank, column = tl.max(ranks, 1, return_indices=True)
        index = tl.where(rank > best, start + column, index)
        best = tl.maximum(best, rank)
    tl.store(nearest + rows, index, mask=rows < count)
