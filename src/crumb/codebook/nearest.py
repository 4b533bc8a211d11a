"""Nearest-block assignment without storing the whole similarity matrix."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from crumb.codebook import triton_kernel
from crumb.device import cores, lone_workers

# Number of similarities computed at a time: 2 MB of float32 stay in the cache of a CPU core. The #
# whole matrix (116 MB for 21 SqueezeNet feature maps) would not.
_SIMILARITIES_AT_ONCE = 1 << 19
# Minimum number of rows per thread.
_ROWS_PER_THREAD = 1 << 10


def nearest_blocks(slices: Tensor, directions: Tensor) -> Tensor:
    """Column of the largest entry in each row of ``slices @ directions``.

    Among equal entries the lowest column is chosen, and the first NaN if there is one, as in
    ``torch.argmax``. On a GPU, Triton sums in another order than a matrix product, so the choice
    may differ between columns that are equal up to rounding.

    Args:
        slices: float32 [n, D].
        directions: float32 [D, K].

    Returns:
        integers [n]: int32 on a CPU, int64 on a GPU.
    """
    if not slices.is_cpu:
        return _on_gpu(slices, directions)
    nearest = torch.empty(len(slices), dtype=torch.int32)
    products = _products(directions)
    threads = max(1, min(torch.get_num_threads(), len(slices) // _ROWS_PER_THREAD))
    rows = max(1, _SIMILARITIES_AT_ONCE // threads // directions.shape[1])
    if threads == 1:
        _search(slices, products, nearest.numpy(), rows)
        return nearest
    share = -(-len(slices) // threads)
    parts = zip(slices.split(share), nearest.split(share), strict=True)
    running = [_pool().submit(_search, one, products, out.numpy(), rows) for one, out in parts]
    for search in running:
        search.result()
    return nearest


@torch.no_grad()
def _search(
    slices: Tensor, products: Callable[[Tensor], Tensor], nearest: np.ndarray, rows: int
) -> None:
    """Find the columns of ``rows`` rows at a time."""
    for start in range(0, len(slices), rows):
        similarity = products(slices[start : start + rows])
        # NumPy's argmax takes a third of the time of torch.max, which checks one entry at a time.
        nearest[start : start + rows] = similarity.numpy().argmax(1)


def _products(directions: Tensor) -> Callable[[Tensor], Tensor]:
    """A function that multiplies slices, float32 [n, D], by the directions: float32 [n, K].

    On AMD processors, oneDNN takes half the time of ``torch.mm`` for such short dot products
    (benchmarks/README.md).
    """
    # The operation that torch.compile uses. It is not public, so it may be missing.
    operations = torch.ops.mkldnn
    if torch.backends.mkldnn.is_available() and hasattr(operations, "_linear_pointwise"):
        weight = directions.T.contiguous()
        linear = operations._linear_pointwise
        return lambda slices: linear(slices.contiguous(), weight, None, "none", [], "")
    return partial(torch.matmul, other=directions)


def _on_gpu(slices: Tensor, directions: Tensor) -> Tensor:
    if slices.is_cuda and triton_kernel.available():
        return triton_kernel.nearest_blocks(slices, directions)
    rows = max(1, _SIMILARITIES_AT_ONCE // directions.shape[1])
    return torch.cat([torch.mm(part, directions).max(1).indices for part in slices.split(rows)])


@cache
def _pool() -> ThreadPoolExecutor:
    return lone_workers(cores(), "nearest-block")
