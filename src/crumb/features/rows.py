"""Cache expensive tensors in the memory of this process."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import Tensor


class Rows(Protocol):
    """Interface of a cache of tensors with one shape and dtype, each under a key of 16 bytes."""

    def __contains__(self, key: bytes) -> bool:
        """Whether the row of this key is cached."""
        ...

    def filling(self, keys: Sequence[bytes]) -> AbstractContextManager[list[bytes]]:
        """A context for adding rows. It yields the keys whose rows the caller must add.

        These are the missing keys, as many as the budget allows.
        """
        ...

    def add(self, keys: Sequence[bytes], rows: Tensor) -> None:
        """Add rows, [n, *row_shape], in a context of :meth:`filling`."""
        ...

    def read(self, keys: Sequence[bytes]) -> tuple[Tensor, list[int]]:
        """Read rows, [n, *row_shape]. Also returns the positions of rows that could not be read."""
        ...


class MemoryRows:
    """Rows in one tensor.

    Args:
        row_shape: shape of one row.
        dtype: dtype of one row.
        budget: maximum bytes of all rows.
    """

    def __init__(self, row_shape: Sequence[int], dtype: torch.dtype, budget: int) -> None:
        self._rows = torch.empty((0, *row_shape), dtype=dtype)
        self._places: dict[bytes, int] = {}
        self._capacity = budget // row_bytes(row_shape, dtype)

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    @contextmanager
    def filling(self, keys: Sequence[bytes]) -> Iterator[list[bytes]]:
        """Allocate memory for the rows of missing keys."""
        held = len(self._places)
        missing = [key for key in dict.fromkeys(keys) if key not in self._places]
        missing = missing[: max(0, self._capacity - held)]
        if missing:
            grown = self._rows.new_empty((held + len(missing), *self._rows.shape[1:]))
            grown[:held] = self._rows[:held]
            self._rows = grown
        yield missing

    def add(self, keys: Sequence[bytes], rows: Tensor) -> None:
        """Copy rows to the allocated memory."""
        start = len(self._places)
        self._rows[start : start + len(rows)] = rows
        self._places |= {key: start + number for number, key in enumerate(keys)}

    def read(self, keys: Sequence[bytes]) -> tuple[Tensor, list[int]]:
        """A copy of the rows. All of them can be read."""
        return self._rows[[self._places[key] for key in keys]], []


def row_bytes(row_shape: Sequence[int], dtype: torch.dtype) -> int:
    """Bytes of one row."""
    return math.prod(row_shape) * dtype.itemsize
