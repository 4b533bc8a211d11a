"""Exemplars of past classes, grouped by class, in one tensor."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from crumb.errors import InputError, setting
from crumb.lazy import LazyTensor, parts_of, states_are_lazy
from crumb.memory.budget import Budget
from crumb.memory.draws import without_replacement
from crumb.memory.payload import Fields, Payload

EXEMPLARS = "memory.rows"
"""Last part of the name of the exemplars in the state of a learner."""
_PAYLOAD = "payload."


class ReplayMemory:
    """At most ``capacity`` exemplars of equal size, grouped by class.

    The exemplars lie in one tensor that grows with their number, up to the capacity. Each class has
    a list of its row numbers, so no labels are stored. Other data of an exemplar is its payload,
    which is dropped with the exemplar.

    :attr:`capacity`, :attr:`used` and :meth:`cost` are in exemplars here. They are in bytes if
    exemplars differ in length (:class:`crumb.memory.encoded.EncodedMemory`).

    Args:
        capacity: maximum number of exemplars over all classes.
        row_shape: shape of the row of one exemplar.
        dtype: dtype of one exemplar.
        device: device of the exemplars.
        fields: fields of the payload, if any.
        budget: the budget that determines the capacity, if any.

    Attributes:
        capacity: as given, until :meth:`set_aside` lowers it.
        payload: data stored with each exemplar, by row number.
        rows: [allocated, *row_shape]. Only rows in the list of a class hold an exemplar.

    Raises:
        InputError: the capacity is below 1.
    """

    def __init__(
        self,
        capacity: int,
        row_shape: tuple[int, ...],
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        fields: Fields | None = None,
        budget: Budget | None = None,
    ) -> None:
        if capacity < 1:
            raise InputError(
                setting("memory_size", capacity),
                "holds no exemplar",
                f"give at least 1, or {setting('storage', 'none')}",
            )
        self.capacity, self._budget = capacity, budget
        self.rows = torch.empty((0, *row_shape), dtype=dtype, device=device)
        self._slots: dict[int, array[int]] = {}
        self._free = _numbers()
        self.payload = Payload(fields or {})

    def __len__(self) -> int:
        return sum(len(slots) for slots in self._slots.values())

    @property
    def nbytes(self) -> int:
        """Allocated bytes of the exemplars."""
        return self.rows.nbytes

    @property
    def capacity_bytes(self) -> int:
        """Bytes of the exemplars of a full memory."""
        return self.capacity * self.rows.new_empty((1, *self.rows.shape[1:]), device="meta").nbytes

    @property
    def bookkeeping_bytes(self) -> int:
        """Bytes of the row numbers, which assign exemplars to classes."""
        return sum(len(n) * n.itemsize for n in (*self._slots.values(), self._free))

    @property
    def counts(self) -> dict[int, int]:
        """Number of exemplars of each class that has any, by ascending label."""
        return {label: len(self._slots[label]) for label in sorted(self._slots)}

    def count(self, label: int) -> int:
        """Number of exemplars of one class."""
        return len(self._slots.get(label, ()))

    # Room.

    @property
    def given(self) -> str:
        """The setting of the capacity, with its value, for messages."""
        return setting("memory_size", self.capacity)

    @property
    def most(self) -> int:
        """Maximum number of exemplars that are ever held."""
        return self.capacity

    @property
    def used(self) -> int:
        """Used capacity."""
        return len(self)

    def cost(self, row: Tensor) -> int:
        """Capacity that an exemplar, [*row_shape], needs."""
        return 1

    def costs(self, label: int) -> list[int]:
        """Capacity that each exemplar of a class uses, in listing order."""
        return [1] * self.count(label)

    def cost_of(self, label: int, position: int) -> int:
        """Capacity that one exemplar of a class uses."""
        return 1

    def fits(self, row: Tensor) -> bool:
        """Whether there is room for one more exemplar, [*row_shape]."""
        return self.used + self.cost(row) <= self.capacity

    def set_aside(self, counted: int, make_room: Callable[[], object]) -> None:
        """Reserve bytes of a budget for the counts of a policy. Other capacities do not change.

        Args:
            counted: bytes of all counts.
            make_room: drops exemplars until :attr:`used` is at most :attr:`capacity`.

        Raises:
            InputError: the budget has no room for an exemplar in addition to the counts.
        """
        if self._budget is not None:
            self.capacity = self._room(self._budget, counted)
            make_room()
            self._trim()

    def resize_field(self, name: str, size: int) -> None:
        """Change the length of a field of the payload, as :meth:`Payload.resize`.

        The exemplars may then exceed a budget, until :meth:`set_aside` is called.
        """
        more = self.payload.resize(name, size)
        if self._budget is not None:
            self._enlarge(self._budget, more)

    def _enlarge(self, budget: Budget, more: int) -> None:
        """Update the budget after each exemplar needs more bytes."""
        self._budget = replace(budget, each=budget.each + more)

    def _room(self, budget: Budget, counted: int) -> int:
        """The capacity that remains of a budget."""
        return budget.exemplars(counted)

    def _trim(self) -> None:
        """Allocate no more rows than the capacity."""
        if len(self.rows) > self.capacity:
            state = self.state_dict()
            ReplayMemory.load_state_dict(self, state | {"allocated": torch.tensor(self.capacity)})

    # Writing.

    def add(
        self, label: int, rows: Tensor, payload: Mapping[str, Tensor] | None = None
    ) -> Sequence[int]:
        """Append exemplars to a class. The caller must make room for them first.

        Args:
            label: label of the class.
            rows: [n, *row_shape].
            payload: payload of each, [n, *shape] by name, if any.

        Returns:
            the numbers of their rows.
        """
        if not len(rows):
            return ()
        slots = self._put(rows)
        self._slots.setdefault(label, _numbers()).extend(slots)
        self.payload.put(slots, payload or {})
        return slots

    def keep(self, label: int, positions: Sequence[int]) -> None:
        """Keep only the exemplars of a class at ``positions``, in that order."""
        old = self._slots.pop(label, _numbers())
        kept = _numbers(old[position] for position in positions)
        self._let_go(sorted(set(old) - set(kept), reverse=True))
        if kept:
            self._slots[label] = kept

    def drop(self, label: int, position: int) -> None:
        """Drop one exemplar of a class."""
        self._let_go([self._slots[label].pop(position)])
        if not self._slots[label]:
            del self._slots[label]

    def drop_all(self, label: int, positions: Sequence[int]) -> None:
        """Drop some exemplars of a class. The others keep their order."""
        if positions:
            old = np.frombuffer(self._slots.pop(label), np.int32)
            kept = np.delete(old, positions)
            self._let_go(old[list(positions)].tolist())
            if len(kept):
                self._slots[label] = _numbers(kept.tobytes())

    def overwrite(self, label: int, position: int, new_label: int, row: Tensor) -> None:
        """Replace one exemplar of ``label`` by ``row`` of ``new_label``."""
        self.drop(label, position)
        self.add(new_label, row[None])

    # Reading.

    def draw(self, labels: Sequence[int], generator: torch.Generator) -> Tensor:
        """Sample one exemplar for each entry of ``labels``, uniformly and with replacement.

        Args:
            labels: classes that have exemplars.
            generator: generator of the choice (CPU).

        Returns:
            [len(labels), *row_shape].
        """
        chances = torch.rand(len(labels), generator=generator, dtype=torch.float64).tolist()
        slots = [
            self._slots[label][int(chance * len(self._slots[label]))]
            for label, chance in zip(labels, chances, strict=True)
        ]
        return self.at(slots)

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sample exemplars of any class, uniformly and without replacement.

        If ``count`` exceeds the number of exemplars, all are returned equally often, to within one.

        Args:
            count: number of exemplars; the memory must not be empty.
            generator: generator of the choice (CPU).

        Returns:
            [count, *row_shape], and their labels, int64 [count], on the CPU.
        """
        slots, labels = self.sample_slots(count, generator)
        return self.at(slots), labels

    def sample_slots(self, count: int, generator: torch.Generator) -> tuple[list[int], Tensor]:
        """Like :meth:`sample`, but returns row numbers and labels."""
        return self._slots_of(without_replacement(count, len(self), generator))

    def numbered(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Exemplars by number, counted class by class in ascending order of labels.

        Returns:
            [len(numbers), *row_shape], and their labels, int64 [len(numbers)], on the CPU.
        """
        slots, labels = self._slots_of(numbers)
        return self.at(slots), labels

    def _slots_of(self, numbers: Sequence[int]) -> tuple[list[int], Tensor]:
        found = self.locate(numbers)
        slots = [self._slots[label][position] for label, position in found]
        return slots, torch.tensor([label for label, _ in found])

    def locate(self, numbers: Sequence[int]) -> list[tuple[int, int]]:
        """Class and position in the class of exemplars by number, counted class by class."""
        labels, counts = list(self.counts), list(self.counts.values())
        ends = list(accumulate(counts))
        classes = [bisect_right(ends, number) for number in numbers]
        return [
            (labels[one], number - ends[one] + counts[one])
            for one, number in zip(classes, numbers, strict=True)
        ]

    def class_rows(self, label: int) -> Tensor:
        """The exemplars of one class, in listing order."""
        return self.at(self._slots.get(label, _numbers()))

    def payload_of(self, label: int) -> dict[str, Tensor]:
        """The payload of the exemplars of one class, in listing order: [n, *shape] by name."""
        return self.payload.get(self._slots.get(label, _numbers()))

    def newest(self, label: int, count: int) -> Sequence[int]:
        """Row numbers of the last ``count`` exemplars added to a class, or fewer."""
        return self._slots.get(label, _numbers())[-count:]

    def replace_field(self, label: int, name: str, values: Tensor) -> None:
        """Replace one field of the payload of all exemplars of a class: [n, *shape]."""
        slots = self._slots[label]
        self.payload.put(slots, {**self.payload.get(slots), name: values})

    # Saving.

    def state_dict(self) -> dict[str, Tensor]:
        """The exemplars, class by class, their labels, and the number of allocated rows.

        The capacity is part of the configuration.
        """
        listed = self._listed()
        if states_are_lazy():
            shape = (len(listed), *self.rows.shape[1:])
            rows = LazyTensor(
                shape, self.rows.dtype, lambda start, stop: self.at(listed[start:stop]).cpu()
            )
        else:
            rows = self.at(listed)
        return {"rows": rows, "allocated": torch.tensor(len(self.rows))} | self._labels()

    def _listed(self) -> array[int]:
        return _numbers(slot for label in self.counts for slot in self._slots[label])

    def _labels(self) -> dict[str, Tensor]:
        """Labels of the exemplars, class by class, and their payload."""
        labels = [label for label, count in self.counts.items() for _ in range(count)]
        stored = self.payload.get(self._listed())
        return {"labels": torch.tensor(labels, dtype=torch.int64)} | {
            f"{_PAYLOAD}{name}": value for name, value in stored.items()
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the exemplars of a :meth:`state_dict`.

        In older versions a budget did not cover the counts, so there may be more exemplars than the
        capacity. The capacity is then raised until :meth:`set_aside` is called.

        Raises:
            InputError: there are too many exemplars, or their shape or dtype differs.
        """
        rows, labels = state["rows"], state["labels"]
        fits = rows.shape[1:] == self.rows.shape[1:] and rows.dtype == self.rows.dtype
        if fits and self._budget is not None and rows.nbytes <= self._budget.total:
            self.capacity = max(self.capacity, len(rows))
        if not fits or len(rows) != len(labels) or len(rows) > self.capacity:
            raise InputError(
                "the saved replay memory",
                f"{len(rows)} exemplars of {tuple(rows.shape[1:])} {rows.dtype} do not fit",
                "load it with the settings it was saved with",
            )
        self.rows = self.rows.new_empty((0, *self.rows.shape[1:]))
        self._clear()
        if allocated := int(state.get("allocated", 0)):
            self._grow(allocated)
        self._add_all(parts_of(rows), state)

    def _clear(self) -> None:
        self._slots, self._free = {}, _numbers()
        self.payload = Payload(self.payload.fields)

    def _add_all(self, parts: Iterable[Tensor], state: dict[str, Tensor]) -> None:
        """Add exemplars in parts, with the labels and the payload of a state."""
        labels, slots = state["labels"], _numbers()
        for part in parts:
            slots.extend(self._put(part))
        stored = {name: state.get(f"{_PAYLOAD}{name}") for name in self.payload.fields}
        if slots:
            self.payload.put(slots, {n: value for n, value in stored.items() if value is not None})
        for label in labels.unique().tolist():
            places = (labels == label).nonzero().flatten().tolist()
            self._slots[label] = _numbers(slots[place] for place in places)

    # Storage of rows.

    def _put(self, rows: Tensor) -> Sequence[int]:
        """Write exemplars. Returns their row numbers."""
        slots = self._take_slots(len(rows))
        _indexable(self.rows)[slots] = _indexable(rows.to(self.rows.device, self.rows.dtype))
        return slots

    def _let_go(self, slots: Sequence[int]) -> None:
        """Drop the contents and payload of these rows."""
        self.payload.drop(slots)
        self._release(slots)

    def _release(self, slots: Sequence[int]) -> None:
        """Mark these rows as free."""
        self._free.extend(slots)

    def at(self, slots: Sequence[int]) -> Tensor:
        """The exemplars with these row numbers."""
        return take(self.rows, torch.tensor(slots, dtype=torch.int64))

    def _take_slots(self, count: int) -> list[int]:
        missing = count - len(self._free)
        if missing > 0:
            self._grow(missing)
        return [self._free.pop() for _ in range(count)]

    def _grow(self, missing: int) -> None:
        held = len(self.rows)
        if held + missing > self.capacity:
            raise AssertionError("a write policy asked for more exemplars than the capacity")
        # Doubling makes the cost of a write independent of the number of exemplars, and the bytes
        # independent of the order of writes.
        size = min(self.capacity, 1 << (held + missing - 1).bit_length())
        rows = self.rows.new_empty((size, *self.rows.shape[1:]))
        rows[:held] = self.rows
        self.rows = rows
        self._free.extend(range(size - 1, held - 1, -1))


def _numbers(values: Iterable[int] | bytes = ()) -> array[int]:
    """Row numbers, four bytes each."""
    return array("i", values)


def take(rows: Tensor, places: Tensor) -> Tensor:
    """Select rows in one indexing operation.

    Args:
        rows: [n, ...] of any type, on any device.
        places: row indices, int64 [m], on the CPU.
    """
    return _indexable(rows)[places.to(rows.device, non_blocking=True)].view(rows.dtype)


def _indexable(rows: Tensor) -> Tensor:
    """View as a dtype that torch can index: it cannot write to an indexed uint16 tensor."""
    return rows.view(torch.int16) if rows.dtype == torch.uint16 else rows
