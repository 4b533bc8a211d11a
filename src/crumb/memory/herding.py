"""Herding: exemplars whose mean approximates the mean of their class.

Rebuffi, Kolesnikov, Sperl, Lampert, "iCaRL: Incremental Classifier and Representation Learning",
CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from crumb.data.batches import Batch, Batches
from crumb.memory.budget import fitting
from crumb.memory.policies import check_share
from crumb.memory.replay import ReplayMemory, take
from crumb.memory.storage import Storage


def herd(features: Tensor, room: int, costs: Sequence[int] | None = None) -> list[int]:
    """Choose exemplars greedily (algorithm 4), each at most once.

    The k-th exemplar is the one that brings the mean of the k chosen exemplars nearest to the mean
    of all candidates, among the candidates that still fit. If all cost the same, a smaller capacity
    would choose the first of the same exemplars.

    Args:
        features: features of the candidates, float [n, C].
        room: maximum total cost of the chosen exemplars. If all candidates cost less, all are
            taken.
        costs: cost of each candidate, by default 1, so ``room`` is a count.

    Returns:
        indices of the chosen exemplars in order of choice. The earliest wins a tie.
    """
    features = features.double()
    mean = features.mean(0)
    squares = features.square().sum(1)
    missing = torch.zeros_like(mean)
    own = torch.tensor(costs or [1] * len(features), device=features.device)
    chosen: list[int] = []
    while (too_large := own > room).sum() < len(features):
        squares[too_large] = torch.inf
        # The ideal next vector: with it, the mean of the chosen would equal the mean of all.
        missing = missing + mean
        best = int((squares - 2 * (features @ missing)).argmin())
        chosen.append(best)
        missing = missing - features[best]
        room -= int(own[best])
        own[best] = torch.iinfo(own.dtype).max
    return chosen


def note_costs(
    costs: dict[int, list[int]], memory: ReplayMemory, storage: Storage, batch: Batch
) -> None:
    """Add the costs of candidates: the exemplars held, followed by the frames of a batch.

    Args:
        costs: costs of the candidates by label, extended by each batch.
        memory: the exemplars held.
        storage: form of an exemplar.
        batch: batch of the task.
    """
    for row, label in zip(storage.encode(batch), batch.labels.tolist(), strict=True):
        costs.setdefault(label, memory.costs(label)).append(memory.cost(row))


def store(
    memory: ReplayMemory, storage: Storage, batches: Batches, chosen: dict[int, list[int]]
) -> None:
    """Keep the chosen exemplars of some classes, in the order in which they were chosen.

    Args:
        memory: the memory that is written. Other classes are not changed.
        storage: form of an exemplar.
        batches: batches of the task, read until all chosen frames are found.
        chosen: positions of the chosen candidates by label. The candidates are the exemplars held,
            followed by the class's frames of the task.

    Raises:
        InputError: there is no room for any exemplar of a class.
    """
    if not all(chosen.values()):
        check_share(0, len(chosen), memory.given, "")
    position = {label: memory.count(label) for label in chosen}
    order = {label: [p for p in chosen[label] if p < position[label]] for label in chosen}
    for label, held in order.items():
        memory.keep(label, held)
    missing = {label: {*chosen[label]} - {*order[label]} for label in chosen}
    for batch in batches:
        if not any(missing.values()):
            break
        rows = storage.encode(batch)
        for label in set(batch.labels.tolist()) & missing.keys():
            places = (batch.labels == label).nonzero().flatten()
            here = range(position[label], position[label] + len(places))
            found = [p for p in here if p in missing[label]]
            memory.add(label, take(rows, places[[p - here.start for p in found]]))
            order[label] += found
            missing[label].difference_update(found)
            position[label] = here.stop
    for label, found in order.items():
        memory.keep(label, [found.index(p) for p in chosen[label]])


_AT_ONCE = 64


def embedded(
    memory: ReplayMemory, storage: Storage, label: int, embed: Callable[[Tensor], Tensor]
) -> Tensor:
    """Embeddings of the exemplars of one class, in listing order, float [n, D].

    Args:
        memory: the exemplars.
        storage: form of an exemplar, which decodes them.
        label: a class that has exemplars.
        embed: maps feature maps, float [n, C, H, W], to vectors, float [n, D].
    """
    rows = memory.class_rows(label).split(_AT_ONCE)
    return torch.cat([embed(storage.features(part)) for part in rows])


class Herding:
    """Equal shares per class, chosen by herding in a second pass over each task (algorithms 4 and
    5).

    Candidates are the exemplars and the frames of the task. Classes that are not in the task keep
    the first of their exemplars.

    Args:
        memory: the memory that is written.
        storage: form of an exemplar.
        embed: maps feature maps, float [n, C, H, W], to the vectors of herding, float [n, D].
    """

    nbytes = 0
    """Bytes of what the policy counts."""

    def __init__(
        self, memory: ReplayMemory, storage: Storage, embed: Callable[[Tensor], Tensor]
    ) -> None:
        self.memory, self._storage, self._embed = memory, storage, embed

    def write(self, batches: Batches, classes: int) -> None:
        """Choose exemplars at the end of a task, without gradients.

        Args:
            batches: batches of the task, which is read twice.
            classes: classes seen so far, including those of this task.

        Raises:
            InputError: fewer exemplars than classes.
        """
        memory = self.memory
        check_share(memory.most, classes, memory.given, "")
        share = memory.capacity // classes
        for label in memory.counts:
            memory.keep(label, fitting(memory.costs(label), share))
        store(memory, self._storage, batches, self._choose(batches, share))

    def _choose(self, batches: Batches, share: int) -> dict[int, list[int]]:
        """Positions among exemplars and frames by label, for :func:`store`."""
        found: dict[int, list[Tensor]] = {}
        costs: dict[int, list[int]] = {}
        for batch in batches:
            vectors = self._embed(batch.features)
            note_costs(costs, self.memory, self._storage, batch)
            for label in batch.labels.unique().tolist():
                if label not in found:
                    held = self.memory.count(label)
                    own = (self.memory, self._storage, label, self._embed)
                    found[label] = [embedded(*own)] if held else []
                places = (batch.labels == label).nonzero().flatten()
                found[label].append(take(vectors, places))
        each = found.items()
        return {label: herd(torch.cat(parts), share, costs[label]) for label, parts in each}
