"""Write policies that store exemplars on arrival (single-pass)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from crumb.errors import InputError, setting
from crumb.memory.replay import ReplayMemory

_COUNTS_BYTES = 24
NOWHERE = -1
"""Row number of a frame that is not stored."""


class OnArrival:
    """Class-balanced reservoir: every frame is offered once, when it arrives.

    Chrysakis and Moens, "Online Continual Learning from Imbalanced Data", ICML 2020, algorithm 1.
    While there is room, every frame is stored. Then a frame of a class that has never been the
    largest replaces a random exemplar of the largest class. A frame of a class that has been the
    largest is subject to reservoir sampling within its class. From then on, the exemplars of that
    class are a uniform sample of its frames. Needs no task boundaries.

    If exemplars differ in length, each class that has been the largest holds the first frames of a
    random order of all its frames. A new frame gets a random position in that order. With h held of
    n frames, it is among the first h + 1 with probability (h + 1) / n. Otherwise it is rejected,
    even if there is free room. To make it fit, the last frames in the order of the largest class
    are dropped one by one. Each is a random exemplar, or the new frame itself if it is of that
    class. Once a frame was rejected, the free room is therefore smaller than the longest exemplar.

    Args:
        memory: the memory that is written.
        generator: generator of the choices (CPU).
    """

    def __init__(self, memory: ReplayMemory, generator: torch.Generator) -> None:
        self.memory = memory
        self._generator = generator
        self._seen: dict[int, int] = {}
        self._largest: set[int] = set()

    def offer(
        self, rows: Tensor, labels: Tensor, payload: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Offer one batch, in stream order.

        Args:
            rows: [B, *row_shape].
            labels: int64 [B].
            payload: payload of each, [B, *shape] by name, where there is one.

        Returns:
            the number of the row in which each is when all have been offered, int64 [B];
            :data:`NOWHERE` for one that is not stored.
        """
        return offer_each(self.memory, self._has_room, rows, labels, payload)

    def meet(self, labels: Tensor) -> None:
        """Reserve room in a budget for the counts of the next classes.

        Args:
            labels: int64 [B].

        Raises:
            InputError: the budget has no room for an exemplar in addition to the counts.
        """
        if known := {*labels.tolist()} - self._seen.keys():
            classes = len(self._seen) + len(known)
            self.memory.set_aside(_COUNTS_BYTES * classes, self._make_room)

    def keep_to_capacity(self) -> None:
        """Reserve room for the counts in a budget that holds less than before."""
        self.memory.set_aside(self.nbytes, self._make_room)

    def _make_room(self) -> None:
        self._largest.update(drop_surplus(self.memory, self._generator))

    @property
    def nbytes(self) -> int:
        """Bytes of the counts: label, frames and whether it was the largest, per class."""
        return _COUNTS_BYTES * len(self._seen)

    def _has_room(self, row: Tensor, label: int) -> bool:
        """Make room for a frame; returns whether to store it."""
        self._seen[label] = self._seen.get(label, 0) + 1
        if label not in self._largest and self.memory.fits(row):
            return True
        if not self.memory.fits(row):
            self._largest.update(largest_classes(self.memory))
        if label in self._largest:
            held, place = self.memory.count(label), self._below(self._seen[label])
            fits = self.memory.fits(row)
            if place > held or (place == held and not fits):
                return False
            if not fits:
                self.memory.drop(label, self._below(held))
        while not self.memory.fits(row):
            largest = largest_classes(self.memory, label if label in self._largest else None)
            self._largest.update(largest)
            victim = largest[self._below(len(largest))]
            place = self._below(self.memory.count(victim) + (victim == label))
            if place == self.memory.count(victim):
                return False
            self.memory.drop(victim, place)
        return True

    def _below(self, limit: int) -> int:
        return random_below(limit, self._generator)

    def state_dict(self) -> dict[str, Tensor]:
        """Number of frames seen of each class, and the classes that have been the largest."""
        table = [[label, seen, label in self._largest] for label, seen in self._seen.items()]
        return {"seen": torch.tensor(table, dtype=torch.int64).view(-1, 3)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the counts of :meth:`state_dict`.

        Exemplars of another policy have no counts, so they count as all frames seen.
        """
        if "seen" in state:
            table = state["seen"].tolist()
            self._seen = {label: seen for label, seen, _ in table}
            self._largest = {label for label, _, largest in table if largest}
        else:
            self._seen, self._largest = self.memory.counts, set()
        self.keep_to_capacity()


class Reservoir:
    """Plain reservoir over all frames of the stream, regardless of class.

    Vitter, "Random Sampling with a Reservoir", 1985, algorithm R: at any time each frame offered
    so far is held with the same probability. Needs no task boundaries.

    If exemplars differ in length, the memory holds the first frames of a random order of all
    frames, as many as fit. A new frame gets a random position in that order. With h held of n
    frames, it is among the first h + 1 with probability (h + 1) / n. Otherwise it is rejected. To
    make it fit, the last frames of the order are dropped one by one. Each is a random exemplar or
    the new frame itself. Once a frame was rejected, the free room is therefore smaller than the
    longest exemplar.

    Args:
        memory: the memory that is written.
        generator: generator of the choices (CPU).
    """

    nbytes = 8
    """Bytes of the count."""

    def __init__(self, memory: ReplayMemory, generator: torch.Generator) -> None:
        self.memory = memory
        self._generator = generator
        self._offered = 0

    def offer(
        self, rows: Tensor, labels: Tensor, payload: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Offer one batch, in stream order.

        Args:
            rows: [B, *row_shape].
            labels: int64 [B].
            payload: payload of each, [B, *shape] by name, where there is one.

        Returns:
            the number of the row in which each is when all have been offered, int64 [B];
            :data:`NOWHERE` for one that is not stored.
        """
        return offer_each(self.memory, self._has_room, rows, labels, payload)

    def keep_to_capacity(self) -> None:
        """Drop random exemplars if a budget holds less than before."""
        # The budget reserves room for the count from the start.
        self.memory.set_aside(0, self._make_room)

    def _make_room(self) -> None:
        while self.memory.used > self.memory.capacity:
            number = random_below(len(self.memory), self._generator)
            self.memory.drop(*self.memory.locate([number])[0])

    def _has_room(self, row: Tensor, label: int) -> bool:
        """Make room for a frame; returns whether to store it."""
        self._offered += 1
        if self._offered <= len(self.memory) + 1 and self.memory.fits(row):
            return True
        number = random_below(self._offered, self._generator)
        if number > len(self.memory):
            return False
        # All numbers up to the number of exemplars are equally likely: this one is dropped first.
        while not self.memory.fits(row):
            if number == len(self.memory):
                return False
            self.memory.drop(*self.memory.locate([number])[0])
            if not self.memory.fits(row):
                number = random_below(len(self.memory) + 1, self._generator)
        return True

    def state_dict(self) -> dict[str, Tensor]:
        """Number of frames offered so far."""
        return {"offered": torch.tensor(self._offered)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the count of :meth:`state_dict`.

        Exemplars of another policy have no count, so they count as all frames offered.
        """
        self._offered = int(state.get("offered", len(self.memory)))


def offer_each(
    memory: ReplayMemory,
    has_room: Callable[[Tensor, int], bool],
    rows: Tensor,
    labels: Tensor,
    payload: Mapping[str, Tensor] | None,
) -> Tensor:
    """Offer frames one by one, and store those for which the policy makes room.

    Args:
        memory: the memory that is written.
        has_room: makes room for a frame, [*row_shape], of a label. Returns whether to store it.
        rows: [B, *row_shape].
        labels: int64 [B].
        payload: payload of each, [B, *shape] by name, where there is one.

    Returns:
        row numbers, as in :meth:`OnArrival.offer`.
    """
    frame_in: dict[int, int] = {}
    for number, (row, label) in enumerate(zip(rows, labels.tolist(), strict=True)):
        if has_room(row, label):
            own = {name: value[number, None] for name, value in (payload or {}).items()}
            (slot,) = memory.add(label, row[None], own)
            frame_in[slot] = number
    slots = torch.full((len(labels),), NOWHERE)
    # A later frame of the batch may have replaced an earlier one.
    held = {slot for label in {*labels.tolist()} for slot in memory.newest(label, len(labels))}
    for slot, number in frame_in.items():
        if slot in held:
            slots[number] = slot
    return slots


def largest_classes(memory: ReplayMemory, more: int | None = None) -> list[int]:
    """The classes with the most exemplars, by ascending label.

    Args:
        memory: not empty, unless ``more`` is given.
        more: label of a class to count with one additional exemplar.
    """
    counts = memory.counts
    if more is not None:
        counts = dict(sorted({**counts, more: counts.get(more, 0) + 1}.items()))
    most = max(counts.values())
    return [label for label, count in counts.items() if count == most]


def drop_surplus(memory: ReplayMemory, generator: torch.Generator) -> set[int]:
    """Drop random exemplars of the largest class until the rest is within the capacity.

    Returns:
        labels of the classes that were the largest on the way.
    """
    found: set[int] = set()
    while memory.used > memory.capacity:
        largest = largest_classes(memory)
        found.update(largest)
        victim = largest[random_below(len(largest), generator)]
        memory.drop(victim, random_below(memory.count(victim), generator))
    return found


def random_below(limit: int, generator: torch.Generator) -> int:
    """Draw an integer from 0 to ``limit`` - 1."""
    return int(torch.randint(limit, (), generator=generator))


def check_share(
    capacity: int,
    classes: int,
    given: str | None = None,
    otherwise: str = f", or {setting('write_policy', 'on-arrival')}",
) -> None:
    """Refuse a memory in which a class would get no exemplar.

    Args:
        capacity: number of exemplars that it holds.
        classes: number of classes that share it.
        given: the setting of the capacity, with its value, for the message.
        otherwise: another remedy, for the message.

    Raises:
        InputError: there are fewer exemplars than classes. The message gives the smallest memory
            that works.
    """
    if capacity < classes:
        raise InputError(
            given or setting("memory_size", capacity),
            f"leaves no exemplar for each of {classes} classes",
            f"give room for at least {classes}{otherwise}",
        )
