"""Exemplars of variable length: encoded images."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from crumb.errors import InputError, setting
from crumb.lazy import LazyTensor, rows_between, states_are_lazy
from crumb.memory.budget import Budget
from crumb.memory.payload import Fields
from crumb.memory.replay import ReplayMemory

# Number of images read from a file at a time.
_IMAGES = 256
LENGTH_BYTES = 4
"""Bytes that store the length of an exemplar."""


def as_rows(encoded: Sequence[bytes]) -> Tensor:
    """Encoded images as rows of one tensor, zero-padded at the end.

    Args:
        encoded: encoded images, none of which ends with a zero byte.

    Returns:
        uint8 [n, longest] on the CPU.
    """
    parts = [torch.from_numpy(np.frombuffer(one, np.uint8).copy()) for one in encoded]
    return (
        pad_sequence(parts, batch_first=True) if parts else torch.empty((0, 0), dtype=torch.uint8)
    )


def joined_rows(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate rows of several tensors, zero-padded to the same length."""
    if len({part.shape[1:] for part in parts}) == 1:
        return torch.cat([*parts])
    longest = max(part.shape[1] for part in parts)
    return torch.cat([pad(part, (0, longest - part.shape[1])) for part in parts])


def as_bytes(row: Tensor) -> bytes:
    """The encoded image in a row of :func:`as_rows`, without padding."""
    return row.numpy().tobytes().rstrip(b"\0")


class EncodedMemory(ReplayMemory):
    """A replay memory for exemplars of different sizes.

    Rows have the form of :func:`as_rows`. They are stored without padding on the CPU, where they
    are decoded.

    Args:
        capacity: capacity in bytes, or in exemplars if ``overhead`` is None.
        overhead: bytes that each exemplar needs in addition to its own.
        least: bytes of the shortest possible exemplar.
        given: the setting of the capacity, with its value, for messages.
        fields: as in :class:`ReplayMemory`.
        budget: as in :class:`ReplayMemory`.

    Raises:
        InputError: the capacity does not hold even the shortest exemplar.
    """

    def __init__(
        self,
        capacity: int,
        overhead: int | None,
        least: int,
        given: str,
        fields: Fields | None = None,
        budget: Budget | None = None,
    ) -> None:
        super().__init__(capacity, (0,), torch.uint8, "cpu", fields, budget)
        self._overhead, self._least, self._given = overhead, least, given
        self._data: dict[int, bytes] = {}
        self._bytes = self._written = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the exemplars."""
        return self._bytes

    @property
    def capacity_bytes(self) -> int:
        """Bytes of a full memory; of the shortest exemplars, if the capacity is in exemplars."""
        return self.capacity * (self._least if self._overhead is None else 1)

    @property
    def bookkeeping_bytes(self) -> int:
        """Bytes of the row numbers and the lengths of the exemplars."""
        return super().bookkeeping_bytes + LENGTH_BYTES * len(self._data)

    # Room.

    @property
    def given(self) -> str:
        """The setting of the capacity, with its value, for messages."""
        return self._given

    @property
    def most(self) -> int:
        """Maximum number of exemplars that are ever held."""
        return self.capacity // self._cost(self._least)

    @property
    def used(self) -> int:
        """Used capacity."""
        return len(self) if self._overhead is None else self.nbytes + self._overhead * len(self)

    def cost(self, row: Tensor) -> int:
        """Capacity that an exemplar needs.

        Raises:
            InputError: the exemplar is larger than the capacity.
        """
        cost = self._cost(len(as_bytes(row)))
        if cost > self.capacity:
            problem = f"has no room for an image that takes {cost} bytes"
            smaller = f"lower {setting('exemplar_side')} or {setting('jpeg_quality')}"
            raise InputError(self._given, problem, f"give more, or {smaller}")
        return cost

    def costs(self, label: int) -> list[int]:
        """Capacity that each exemplar of a class uses, in listing order."""
        return [self._cost(len(self._data[slot])) for slot in self._slots.get(label, ())]

    def cost_of(self, label: int, position: int) -> int:
        """Capacity that one exemplar of a class uses."""
        return self._cost(len(self._data[self._slots[label][position]]))

    def _cost(self, size: int) -> int:
        return 1 if self._overhead is None else size + self._overhead

    def _enlarge(self, budget: Budget, more: int) -> None:
        super()._enlarge(budget, more)
        assert self._overhead is not None
        self._overhead += more

    def _room(self, budget: Budget, counted: int) -> int:
        return budget.room(counted)

    def _trim(self) -> None:
        """Do nothing: no memory is allocated in advance."""

    # Storage of rows.

    def _put(self, rows: Tensor) -> Sequence[int]:
        encoded = [as_bytes(row) for row in rows.cpu()]
        if self.used + sum(self._cost(len(one)) for one in encoded) > self.capacity:
            raise AssertionError("a write policy asked for more exemplars than the capacity")
        # Row numbers are never reused.
        slots = range(self._written, self._written + len(encoded))
        self._written = slots.stop
        self._data.update(zip(slots, encoded, strict=True))
        self._bytes += sum(map(len, encoded))
        return slots

    def _release(self, slots: Sequence[int]) -> None:
        for slot in slots:
            self._bytes -= len(self._data.pop(slot))

    def at(self, slots: Sequence[int]) -> Tensor:
        """The exemplars with these row numbers, in the form of :func:`as_rows`."""
        return as_rows([self._data[slot] for slot in slots])

    # Saving.

    def state_dict(self) -> dict[str, Tensor]:
        """The concatenated exemplars, class by class, with their lengths and labels."""
        encoded = [self._data[slot] for slot in self._listed()]
        state, rows = self._labels(), _Joined(encoded)
        return {
            **state,
            "rows": rows.lazily() if states_are_lazy() else rows.between(0, self._bytes),
            "lengths": torch.tensor([len(one) for one in encoded], dtype=torch.int32),
            "labels": state["labels"].int(),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the exemplars of :meth:`state_dict`, as :meth:`ReplayMemory.load_state_dict` does.

        Raises:
            InputError: they have another form, or exceed the capacity.
        """
        lengths = state["lengths"].tolist() if "lengths" in state else []
        rows = state["rows"]
        own = rows.ndim == 1 and rows.dtype == torch.uint8 and sum(lengths) == len(rows)
        total = sum(map(self._cost, lengths))
        if self._budget is not None and sum(lengths) <= self._budget.total:
            self.capacity = max(self.capacity, total)
        if not own or len(lengths) != len(state["labels"]) or total > self.capacity:
            raise InputError(
                "the saved replay memory",
                f"{len(lengths)} encoded images in {len(rows)} bytes do not fit",
                "load it with the settings it was saved with",
            )
        self._clear()
        self._data, self._bytes, self._written = {}, 0, 0
        self._add_all(_encoded_rows(rows, lengths), state)


class _Joined:
    """Encoded images, concatenated into one tensor of bytes.

    Args:
        encoded: the images.
    """

    def __init__(self, encoded: Sequence[bytes]) -> None:
        self._encoded, self._ends = encoded, array("q", accumulate(map(len, encoded)))

    def lazily(self) -> Tensor:
        """All bytes, uint8 [n]."""
        return LazyTensor((self._ends[-1] if self._ends else 0,), torch.uint8, self.between)

    def between(self, start: int, stop: int) -> Tensor:
        """A range of bytes, uint8 [stop - start]."""
        first, last = bisect_right(self._ends, start), bisect_left(self._ends, stop)
        joined = b"".join(self._encoded[first : last + 1])
        skipped = start - (self._ends[first - 1] if first else 0)
        content = np.frombuffer(joined, np.uint8)[skipped : skipped + stop - start]
        return torch.from_numpy(content.copy())


def _encoded_rows(joined: Tensor, lengths: Sequence[int]) -> Iterator[Tensor]:
    """Split concatenated images into rows of :func:`as_rows`, some images at a time."""
    start = 0
    for place in range(0, len(lengths), _IMAGES):
        sizes = lengths[place : place + _IMAGES]
        content = rows_between(joined, start, start + sum(sizes)).numpy().tobytes()
        start += len(content)
        ends = accumulate(sizes)
        yield as_rows([content[end - size : end] for end, size in zip(ends, sizes, strict=True)])
