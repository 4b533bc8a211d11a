"""Exemplars grouped by task."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from crumb.data.batches import Batch, Batches
from crumb.errors import InputError
from crumb.memory.budget import fitting
from crumb.memory.capacity import CapacityConfig
from crumb.memory.payload import Field
from crumb.memory.policies import drop_surplus, random_below
from crumb.memory.storage import Storage

_COUNTS_BYTES = 16


class TaskExemplars:
    """A replay memory in which every finished task has an equal share of the exemplars or bytes.

    The exemplars of a task are a uniform sample of its frames: a reservoir within its share (see
    :class:`crumb.memory.policies.Reservoir`), thinned at random as new tasks come.

    Args:
        config: capacity of the memory.
        storage: form of an exemplar.
        generator: generator of the choices (CPU).
        device: device of the exemplars.

    Attributes:
        memory: the exemplars with their labels as payload. Its classes are tasks here.

    Raises:
        InputError: the capacity in bytes does not hold a single exemplar.
    """

    def __init__(
        self,
        config: CapacityConfig,
        storage: Storage,
        generator: torch.Generator,
        device: torch.device | str,
    ) -> None:
        self.storage = storage
        self._generator = generator
        label = {"label": Field((), torch.int32)}
        self.memory = config.memory(storage, device, label, _COUNTS_BYTES)
        self._setting = config.capacity_setting(self.memory.capacity)
        self._task = self._offered = 0

    @property
    def past(self) -> int:
        """Number of finished tasks."""
        return self._task

    @property
    def nbytes(self) -> int:
        """Allocated bytes of the exemplars."""
        return self.memory.nbytes

    @property
    def bookkeeping_bytes(self) -> int:
        """Bytes of labels, row numbers, and the counts of tasks and offered frames."""
        return self.memory.bookkeeping_bytes + self.memory.payload.nbytes + _COUNTS_BYTES

    @property
    def reader_bytes(self) -> int:
        """Bytes shared by all exemplars to decode them."""
        return self.storage.reader_bytes

    @property
    def reading_bytes(self) -> int:
        """Bytes needed to decode and choose the exemplars."""
        return self.bookkeeping_bytes + self.reader_bytes

    def of_task(self, task: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all exemplars of a task, ``size`` at a time.

        Yields:
            feature maps, float [n, C, H, W], and labels, int64 [n], on the CPU.
        """
        rows, labels = self.memory.class_rows(task), self.memory.payload_of(task)["label"].long()
        for some, theirs in zip(rows.split(size), labels.split(size), strict=True):
            yield self.storage.features(some), theirs

    def offer(self, batch: Batch) -> None:
        """Offer frames of the current task, in stream order.

        Raises:
            InputError: fewer exemplars than tasks.
        """
        share = self._share(self._task + 1)
        if not self._offered:
            self._thin(share)
        for row, label in zip(self.storage.encode(batch), batch.labels.tolist(), strict=True):
            self._offered += 1
            self._offer(share, row, label)

    def finish_task(self) -> None:
        """End the current task: exemplars offered since the last call belong to a past task."""
        if self._offered:
            self._task, self._offered = self._task + 1, 0

    def _thin(self, share: int) -> None:
        for old, count in self.memory.counts.items():
            order = torch.randperm(count, generator=self._generator).tolist()
            costs = self.memory.costs(old)
            taken = fitting([costs[place] for place in order], share)
            self.memory.keep(old, [order[place] for place in taken])

    def check_tasks(self, tasks: int) -> None:
        """Refuse a memory in which a task would get no exemplar.

        Raises:
            InputError: the memory is too small; names the capacity setting.
        """
        self._share(max(1, tasks))

    def _share(self, tasks: int) -> int:
        if self.memory.most < tasks:
            raise InputError(
                self._setting,
                f"leaves no exemplar for each of {tasks} tasks",
                f"give room for at least {tasks}",
            )
        return self.memory.capacity // tasks

    def _offer(self, share: int, row: Tensor, label: int) -> None:
        """Offer a frame of the current task, as in :class:`crumb.memory.policies.Reservoir`."""
        task, memory = self._task, self.memory
        room = share - sum(memory.costs(task)) - memory.cost(row)
        if self._offered > memory.count(task) + 1 or room < 0:
            place = random_below(self._offered, self._generator)
            if place > memory.count(task):
                return
            while room < 0:
                if place == memory.count(task):
                    return
                room += memory.costs(task)[place]
                memory.drop(task, place)
                if room < 0:
                    place = random_below(memory.count(task) + 1, self._generator)
        memory.add(task, row[None], {"label": torch.tensor([label])})

    def on_task_end(self, batches: Batches, classes: int) -> None:
        """Offer all frames of a finished task. Raises the errors of :meth:`offer`."""
        for batch in batches:
            self.offer(batch)

    def check_room(self, classes: int) -> None:
        """Do nothing: the number of tasks is not known from the classes."""

    def state_dict(self) -> dict[str, Tensor]:
        """The exemplars, their tasks and their labels."""
        place = {"task": torch.tensor([self._task, self._offered])}
        return self.memory.state_dict() | place

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load a :meth:`state_dict`; errors as :class:`ReplayMemory`."""
        self.memory.load_state_dict(state)
        self.memory.set_aside(0, partial(drop_surplus, self.memory, self._generator))
        self._task, self._offered = state["task"].tolist()
