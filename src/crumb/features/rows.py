"""Tensors that cost much to compute, kept in the memory of this process."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import Tensor


class Rows(Protocol):
    """Tensors of one shape and type, each under a key of 16 bytes."""

    def __contains__(self, key: bytes) -> bool:
        """Whether the row of this key is kept."""
        ...

    def filling(self, keys: Sequence[bytes]) -> AbstractContextManager[list[bytes]]:
        """A context in which those of ``keys`` that it is entered with are to be added.

        They are the ones that are missing, as far as the budget has room for them.
        """
        ...

    def add(self, keys: Sequence[bytes], rows: Tensor) -> None:
        """Keep rows, [n, *row_shape], in a context of :meth:`filling`."""
        ...

    def read(self, keys: Sequence[bytes]) -> tuple[Tensor, list[int]]:
        """The rows, [n, *row_shape], and the positions of those that could not be read."""
        ...


class MemoryRows:
    """Rows in one tensor.

    Args:
        row_shape: of one row.
        dtype: of one row.
        budget: bytes of rows.
    """

    def __init__(self, row_shape: Sequence[int], dtype: torch.dtype, budget: int) -> None:
        self._rows = torch.empty((0, *row_shape), dtype=dtype)
        self._places: dict[bytes, int] = {}
        self._capacity = budget // row_bytes(row_shape, dtype)

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    @contextmanager
    def filling(self, keys: Sequence[bytes]) -> Iterator[list[bytes]]:
        """Make room for those of ``keys`` that are missing."""
        held = len(self._places)
        missing = [key for key in dict.fromkeys(keys) if key not in self._places]
        missing = missing[: max(0, self._capacity - held)]
        if missing:
            grown = self._rows.new_empty((held + len(missing), *self._rows.shape[1:]))
            grown[:held] = self._rows[:held]
            self._rows = grown
        yield missing

    def add(self, keys: Sequence[bytes], rows: Tensor) -> None:
        """Put rows into the room that was made."""
        start = len(self._places)
        self._rows[start : start + len(rows)] = rows
        self._places |= {key: start + number for number, key in enumerate(keys)}

    def read(self, keys: Sequence[bytes]) -> tuple[Tensor, list[int]]:
        """A copy of the rows; all of them can be read."""
        return self._rows[[self._places[key] for key in keys]], []


def row_bytes(row_shape: Sequence[int], dtype: torch.dtype) -> int:
    """Bytes of one row."""
    return math.prod(row_shape) * dtype.itemsize
