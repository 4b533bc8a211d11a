"""Nearest-block assignment without holding the whole similarity matrix."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
from torch import Tensor

from crumb.codebook import triton_kernel
from crumb.device import cores, lone_workers

# Similarities computed at a time: 2 MB of float32, which stays in the cache of a CPU core, where
# the whole matrix (116 MB for 21 SqueezeNet maps) would not.
_SIMILARITIES_AT_ONCE = 1 << 19
# Minimum number of rows per thread.
_ROWS_PER_THREAD = 1 << 10


def nearest_blocks(slices: Tensor, directions: Tensor) -> Tensor:
    """Column of the largest entry in each row of ``slices @ directions``.

    The lowest column wins among equals, and the first NaN where there is one, as in
    ``torch.argmax``. On a GPU with Triton the sums are in another order than a matrix product's,
    which may decide between columns that are equal up to rounding.

    Args:
        slices: float32 [n, D].
        directions: float32 [D, K].

    Returns:
        integers [n]: int32 on a CPU, int64 on a GPU.
    """
    if not slices.is_cpu:
        return _on_gpu(slices, directions)
    nearest = torch.empty(len(slices), dtype=torch.int32)
    threads = max(1, min(torch.get_num_threads(), len(slices) // _ROWS_PER_THREAD))
    rows = max(1, _SIMILARITIES_AT_ONCE // threads // directions.shape[1])
    if threads == 1:
        _search(slices, directions, nearest.numpy(), rows)
        return nearest
    share = -(-len(slices) // threads)
    parts = zip(slices.split(share), nearest.split(share), strict=True)
    running = [_pool().submit(_search, one, directions, out.numpy(), rows) for one, out in parts]
    for search in running:
        search.result()
    return nearest


@torch.no_grad()
def _search(slices: Tensor, directions: Tensor, nearest: np.ndarray, rows: int) -> None:
    """Find the columns of ``rows`` rows at a time."""
    similarity = torch.empty(min(rows, len(slices)), directions.shape[1])
    for start in range(0, len(slices), rows):
        piece = slices[start : start + rows]
        scores = torch.mm(piece, directions, out=similarity[: len(piece)])
        # NumPy's takes a third of the time of torch.max, which looks at one entry at a time.
        nearest[start : start + rows] = scores.numpy().argmax(1)


def _on_gpu(slices: Tensor, directions: Tensor) -> Tensor:
    if slices.is_cuda and triton_kernel.available():
        return triton_kernel.nearest_blocks(slices, directions)
    rows = max(1, _SIMILARITIES_AT_ONCE // directions.shape[1])
    return torch.cat([torch.mm(part, directions).max(1).indices for part in slices.split(rows)])


@cache
def _pool() -> ThreadPoolExecutor:
    return lone_workers(cores(), "nearest-block")
