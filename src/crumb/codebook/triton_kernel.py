"""Nearest-block assignment on CUDA by one Triton kernel, without the similarity matrix."""

# Triton has no packages for macOS; nothing here needs it before the first call.
# pyright: reportMissingImports=false

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

# Slices, blocks and channels multiplied at a time by one program of four warps. Triton 3.9 needs
# at most 166 registers a thread for it and spills none (compute capability 7.5 to 12.0).
TILE = {"ROWS": 64, "COLUMNS": 64, "DEPTH": 16}
# Triton's default differs from version to version, and an unset one warns.
OPTIONS = {"enable_fp_fusion": True}


@cache
def available() -> bool:
    """Whether Triton is installed, and the C compiler that it needs; neither is started."""
    compilers = (os.environ.get("CC", ""), "gcc", "clang")
    return find_spec("triton") is not None and any(map(shutil.which, filter(None, compilers)))


def nearest_blocks(slices: Tensor, directions: Tensor) -> Tensor:
    """Column of the largest entry in each row of ``slices @ directions``.

    What ``torch.max(slices @ directions, 1).indices`` gives: the lowest column among equals, and
    the first NaN where there is one. The products never leave the multiprocessors: each program
    keeps the best of its rows while it passes over the columns, so that the only memory taken is
    that of the result.

    Products and sums are float32 (never TF32, whatever PyTorch is set to), but summed in another
    order than a matrix product of PyTorch. Where the two largest similarities of a row differ by
    no more than that rounding, the two may choose differently; computed again in float64, the
    similarities of the two choices then agree to about D * 1e-7 of the length of the slice (times
    the length of the directions). Integers and other values without rounding give equal results.

    The kernel is compiled when first called for a D and a K, in about a second; n may change.

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
    # Triton launches on the current device, which need not be that of the slices.
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
    # Triton looks up the names in the source of a kernel among the globals of its module.
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
            # Channels past the last are zero on both sides, as infinity times zero is NaN.
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
        # Integers in the order of the similarities, which have room for NaN above infinity and
        # for columns past the last below minus infinity. Both zeros are 0.
        ranks = tl.where(scores == 0, 0.0, scores).to(tl.int32, bitcast=True)
        ranks ^= (ranks >> 31) & 0x7FFFFFFF
        ranks = tl.where(scores != scores, 0x7FFFFFFF, ranks)
        ranks = tl.where((columns < BLOCKS)[None, :], ranks, -(2**31))
        rank, column = tl.max(ranks, 1, return_indices=True)
        index = tl.where(rank > best, start + column, index)
        best = tl.maximum(best, rank)
    tl.store(nearest + rows, index, mask=rows < count)
