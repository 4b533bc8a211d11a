"""Exemplars of past classes, stored from batches and replayed as feature maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor

from crumb.data.batches import Batch, Batches
from crumb.memory.capacity import AT_TASK_END, CapacityConfig, DrawConfig, MemoryConfig
from crumb.memory.draws import balanced
from crumb.memory.end_of_task import EndOfTask
from crumb.memory.grasp import Grasp
from crumb.memory.greedy import Greedy
from crumb.memory.herding import Herding, embedded
from crumb.memory.payload import Fields
from crumb.memory.policies import (
    NOWHERE,
    OnArrival,
    Reservoir,
    check_share,
    drop_surplus,
)
from crumb.memory.storage import Storage


class ReplayStore(Protocol):
    """Interface of any memory."""

    @property
    def nbytes(self) -> int:
        """Allocated bytes of the exemplars."""
        ...

    @property
    def bookkeeping_bytes(self) -> int:
        """Bytes of everything else the memory holds."""
        ...

    @property
    def reader_bytes(self) -> int:
        """Bytes shared by all exemplars to decode them."""
        ...

    @property
    def reading_bytes(self) -> int:
        """Bytes needed to decode and to choose the exemplars; ``budget_bytes`` bounds them too."""
        ...

    def on_task_end(self, batches: Batches, classes: int) -> None:
        """End a task: store exemplars in a second pass if the policy does so."""
        ...

    def check_room(self, classes: int) -> None:
        """Raise the errors of :meth:`reread` at the start."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """All state."""
        ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load a :meth:`state_dict`."""
        ...


class ClassReplay(ReplayStore, Protocol):
    """Additional interface for replay by class (:class:`Exemplars` and :class:`GaussianMemory`)."""

    def count(self, label: int) -> int:
        """Exemplars of one class."""
        ...

    def draw(self, labels: list[int], generator: torch.Generator) -> Tensor:
        """One feature map for each entry of ``labels``, float32 [n, C, H, W]."""
        ...

    def on_batch(self, batch: Batch) -> object:
        """After a batch is learned, store exemplars on arrival if the policy does so."""
        ...


class ChosenExemplars:
    """A replay memory with its storage. The method chooses which frames to store.

    Args:
        config: capacity of the memory.
        storage: form of an exemplar.
        generator: generator of the choices (CPU).
        device: device of the exemplars.
        fields: fields of the payload, instead of those of the class.
        counted: bytes of the counts of the policy, which do not depend on the numbers of exemplars
            and classes.
        embed: maps feature maps, float [n, C, H, W], to the vectors of grasp, float [n, D], without
            gradients. Needed only for this draw policy.

    Attributes:
        memory: the exemplars, by class.
        grasp: what draws instead of a uniform choice, if the configuration asks for it.
        generator: as given.
        fields: fields of the payload of each exemplar, if any.

    Raises:
        InputError: the capacity in bytes does not hold a single exemplar.
    """

    fields: Fields = MappingProxyType({})

    def __init__(
        self,
        config: CapacityConfig,
        storage: Storage,
        generator: torch.Generator,
        device: torch.device | str,
        fields: Fields | None = None,
        counted: int = 0,
        embed: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.storage, self.generator = storage, generator
        fields = self.fields if fields is None else fields
        ranked = isinstance(config, DrawConfig) and config.draw_policy == "grasp"
        fields = {**fields, **Grasp.fields} if ranked else fields
        self.memory = config.memory(storage, device, fields, counted)
        self.grasp: Grasp | None = None
        if ranked:
            assert embed is not None
            self.grasp = Grasp(self.memory, storage, embed)
        self._setting = config.capacity_setting(self.memory.capacity)

    def __len__(self) -> int:
        return len(self.memory)

    @property
    def nbytes(self) -> int:
        """Allocated bytes of the exemplars."""
        return self.memory.nbytes

    @property
    def bookkeeping_bytes(self) -> int:
        """Bytes of row numbers and payload of the exemplars, and of what is counted."""
        return self.memory.bookkeeping_bytes + self.memory.payload.nbytes + self.counted_bytes

    @property
    def counted_bytes(self) -> int:
        """Bytes of what the choice of exemplars counts."""
        return 0

    @property
    def reader_bytes(self) -> int:
        """Bytes shared by all exemplars to decode them."""
        return self.storage.reader_bytes

    @property
    def reading_bytes(self) -> int:
        """Bytes needed to decode and choose the exemplars."""
        return self.bookkeeping_bytes + self.reader_bytes

    def count(self, label: int) -> int:
        """Exemplars of one class."""
        return self.memory.count(label)

    def embedded(self, label: int, embed: Callable[[Tensor], Tensor]) -> Tensor:
        """Embeddings of the exemplars of one class; see :func:`crumb.memory.herding.embedded`."""
        return embedded(self.memory, self.storage, label, embed)

    def draw(self, labels: list[int], generator: torch.Generator) -> Tensor:
        """One exemplar for each entry of ``labels``, as feature maps, float [n, C, H, W]."""
        if self.grasp is not None:
            return self.storage.features(self.memory.at(self.grasp.draw(labels, generator)))
        return self.storage.features(self.memory.draw(labels, generator))

    def _choose(self, count: int, generator: torch.Generator) -> tuple[list[int], Tensor]:
        """Row numbers of exemplars of any class, and their labels."""
        if self.grasp is None:
            return self.memory.sample_slots(count, generator)
        labels = balanced(list(self.memory.counts), count, generator)
        return self.grasp.draw(labels, generator), torch.tensor(labels)

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Exemplars of any class, by the draw policy; uniformly as :meth:`ReplayMemory.sample`.

        Returns:
            feature maps, float [count, C, H, W], and labels, int64 [count], on the CPU.
        """
        slots, labels = self._choose(count, generator)
        return self.storage.features(self.memory.at(slots)), labels

    def sample_with_payload(
        self, count: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The same exemplars as :meth:`sample`, and their payload: [count, *shape] by name."""
        slots, labels = self._choose(count, generator)
        payload = self.memory.payload.get(slots)
        return self.storage.features(self.memory.at(slots)), labels, payload

    def sample_by_class(
        self, count: int, generator: torch.Generator, classes: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Sample from a non-empty memory: a class uniformly, then one of its exemplars.

        Args:
            count: number of exemplars.
            generator: generator of the choices (CPU).
            classes: to choose from; all that have exemplars by default.

        Returns:
            feature maps, float [count, C, H, W], and labels, int64 [count], on the CPU.
        """
        stored = torch.tensor(list(self.memory.counts if classes is None else classes))
        labels = stored[torch.randint(len(stored), (count,), generator=generator)]
        return self.draw(labels.tolist(), generator), labels

    def beside(
        self,
        batch: Batch,
        generator: torch.Generator,
        classes: Sequence[int] | None = None,
        count: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """A batch followed by exemplars, or the batch alone if the memory is empty.

        Args:
            batch: batch of new images.
            generator: generator of the choices (CPU).
            classes: draw the class of each exemplar from these, then an exemplar of this class. By
                default all exemplars are drawn with equal probability.
            count: number of exemplars; as many as the batch has images by default.

        Returns:
            feature maps, float [n, C, H, W], and labels, int64 [n], on the CPU.
        """
        count = len(batch) if count is None else count
        if not count or not (len(self) if classes is None else classes):
            return batch.features, batch.labels
        if classes is None:
            stored, theirs = self.sample(count, generator)
        else:
            stored, theirs = self.sample_by_class(count, generator, classes)
        return torch.cat([batch.features, stored]), torch.cat([batch.labels, theirs])

    def shuffled(self, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every exemplar once, in random order, ``size`` at a time.

        Yields:
            feature maps, float [n, C, H, W], and labels, int64 [n], on the CPU.
        """
        order = torch.randperm(len(self), generator=generator).tolist()
        for start in range(0, len(order), size):
            rows, labels = self.memory.numbered(order[start : start + size])
            yield self.storage.features(rows), labels

    def on_task_end(self, batches: Batches, classes: int) -> None:
        """Do nothing: the method chooses the exemplars."""

    def check_room(self, classes: int) -> None:
        """Refuse a memory in which some of these classes would get no exemplar.

        Raises:
            InputError: the memory is too small; names the capacity setting.
        """
        check_share(self.memory.most, classes, self._setting, "")

    def state_dict(self) -> dict[str, Tensor]:
        """The exemplars."""
        return self.memory.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load a :meth:`state_dict`; errors as :class:`ReplayMemory`."""
        self.memory.load_state_dict(state)
        self.memory.set_aside(0, partial(drop_surplus, self.memory, self.generator))


class Exemplars(ChosenExemplars):
    """A replay memory with the write policy of its configuration.

    Args:
        config: capacity and write policy.
        storage: form of an exemplar.
        generator: generator of the choices (CPU).
        device: device of the exemplars.
        fields: fields of the payload, instead of those of the class.
        embed: maps feature maps, float [n, C, H, W], to the vectors of herding and grasp,
            float [n, D]. Needed only for these policies.
    """

    def __init__(
        self,
        config: MemoryConfig,
        storage: Storage,
        generator: torch.Generator,
        device: torch.device | str,
        fields: Fields | None = None,
        embed: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        chosen = config.write_policy
        assert chosen is not None, "left open; a learner fills it in"
        stored_later = fields and chosen in AT_TASK_END
        assert not stored_later, "a second reading has no payload: allow no policy of task ends"
        counted = Reservoir.nbytes if chosen == "reservoir" else 0
        super().__init__(config, storage, generator, device, fields, counted, embed)
        self.policy: EndOfTask | Herding | OnArrival | Reservoir | Greedy
        if chosen == "herding":
            assert embed is not None
            self.policy = Herding(self.memory, storage, embed)
        else:
            self.policy = _POLICIES[chosen](self.memory, self.generator)

    @property
    def counted_bytes(self) -> int:
        """Bytes of what the policy counts."""
        return self.policy.nbytes

    def on_batch(self, batch: Batch, payload: Mapping[str, Tensor] | None = None) -> Tensor:
        """Offer a batch of the first pass to a policy that stores on arrival.

        Args:
            batch: the batch that was learned.
            payload: payload of its frames, [B, *shape] by name, if any.

        Returns:
            the row number of each frame, as in :meth:`OnArrival.offer`.
        """
        if isinstance(self.policy, _AT_TASK_END) or not batch.first_pass:
            return torch.full((len(batch),), NOWHERE)
        if isinstance(self.policy, OnArrival):
            self.policy.meet(batch.labels)
        return self.policy.offer(self.storage.encode(batch), batch.labels, payload)

    def resize_field(self, name: str, size: int) -> None:
        """Change the length of a field of the payload, as :meth:`Payload.resize`.

        Exemplars are dropped if a budget has no room for a longer field.

        Raises:
            InputError: the budget does not hold a single exemplar any more.
        """
        assert not isinstance(self.policy, _AT_TASK_END)
        self.memory.resize_field(name, size)
        self.policy.keep_to_capacity()

    def on_task_end(self, batches: Batches, classes: int) -> None:
        """Offer a finished task to a policy that stores at the ends of tasks.

        Raises:
            InputError: fewer exemplars than classes.
        """
        if isinstance(self.policy, Herding):
            self.policy.write(batches, classes)
        elif isinstance(self.policy, EndOfTask):
            self.policy.begin(classes, len(batches), batches.batch_size)
            for batch in batches:
                if self.policy.offer(self.storage.encode(batch), batch.labels):
                    break

    def check_room(self, classes: int) -> None:
        """Refuse a memory in which some of these classes would get no exemplar.

        Raises:
            InputError: the memory is too small; names the capacity setting.
        """
        if isinstance(self.policy, _AT_TASK_END):
            check_share(self.memory.most, classes, self._setting)

    def state_dict(self) -> dict[str, Tensor]:
        """The exemplars and the counts of the policy."""
        counted = {} if isinstance(self.policy, _AT_TASK_END) else self.policy.state_dict()
        return super().state_dict() | counted

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load a :meth:`state_dict`; errors as :class:`ReplayMemory`."""
        super().load_state_dict(state)
        if not isinstance(self.policy, _AT_TASK_END):
            self.policy.load_state_dict(state)


_AT_TASK_END = (EndOfTask, Herding)
_POLICIES = {
    "end-of-task": EndOfTask,
    "on-arrival": OnArrival,
    "reservoir": Reservoir,
    "greedy": Greedy,
}
