"""The greedy class-balanced sampler of GDumb."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from crumb.memory.policies import drop_surplus, offer_each, random_below
from crumb.memory.replay import ReplayMemory


class Greedy:
    """The first frames of each class, up to an equal share of the capacity.

    Prabhu, Torr, Dokania, "GDumb: A Simple Approach that Questions Our Progress in Continual
    Learning", ECCV 2020, algorithm 1. A frame is stored while its class has less than capacity //
    classes. If the memory is full, random exemplars of the largest class are dropped. Needs no task
    boundaries and stores no counts.

    The share of a class shrinks as new classes come. Frames that arrive after a class has its share
    are never stored, so the memory holds more of the start of a clip than of its end.

    Args:
        memory: the memory that is written.
        generator: generator of the choices (CPU).
    """

    nbytes = 0
    """Bytes of what the policy counts."""

    def __init__(self, memory: ReplayMemory, generator: torch.Generator) -> None:
        self.memory = memory
        self._generator = generator

    def offer(
        self, rows: Tensor, labels: Tensor, payload: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Offer one batch, in stream order. Arguments and result as in :meth:`OnArrival.offer`."""
        return offer_each(self.memory, self._has_room, rows, labels, payload)

    def keep_to_capacity(self) -> None:
        """Drop random exemplars of the largest class if a budget holds less than before."""
        self.memory.set_aside(0, lambda: drop_surplus(self.memory, self._generator))

    def _has_room(self, row: Tensor, label: int) -> bool:
        """Make room for a frame. Returns whether to store it."""
        memory = self.memory
        share = memory.capacity // len({*memory.counts, label})
        if sum(memory.costs(label)) + memory.cost(row) > share:
            return False
        while not memory.fits(row):
            used = {held: sum(memory.costs(held)) for held in memory.counts}
            most = max(used.values())
            largest = [held for held, size in used.items() if size == most]
            victim = largest[random_below(len(largest), self._generator)]
            memory.drop(victim, random_below(memory.count(victim), self._generator))
        return True

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Nothing to load. Exemplars of another policy count as first frames."""
