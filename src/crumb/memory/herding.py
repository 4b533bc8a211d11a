"""Herding: exemplars whose mean approximates the mean of their class.

Rebuffi, Kolesnikov, Sperl, Lampert, "iCaRL: Incremental Classifier and Representation Learning",
CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crumb.data.batches import Batch, Batches
from crumb.memory.policies import check_share
from crumb.memory.replay import ReplayMemory, take
from crumb.memory.storage import Storage


def herd(features: Tensor, room: int, costs: Sequence[int] | None = None) -> list[int]:
    """Choose exemplars greedily (algorithm 4), each at most once.

    The k-th is the one with which the mean of the k chosen comes nearest to the mean of all, out of
    those for which there is room. Where all cost the same, the first so many of them are what less
    room would have chosen.

    Args:
        features: features of the candidates, float [n, C].
        room: what the chosen may cost together; all candidates are taken where they cost less.
        costs: costs of each candidate; 1 by default, so that ``room`` is a count.

    Returns:
        indices of the chosen exemplars in order of choice; ties go to the earliest.
    """
    features = features.double()
    mean = features.mean(0)
    squares = features.square().sum(1)
    missing = torch.zeros_like(mean)
    own = torch.tensor(costs or [1] * len(features), device=features.device)
    chosen: list[int] = []
    while (too_large := own > room).sum() < len(features):
        squares[too_large] = torch.inf
        # What the next one would have to be for the mean of the chosen to be that of all.
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
    """Note what candidates take of the capacity: the exemplars held and, after them, the frames.

    Args:
        costs: costs by label, in the order of the candidates; a batch after the other is added.
        memory: the exemplars held.
        storage: what would be kept of a frame.
        batch: batch of the task.
    """
    for row, label in zip(storage.encode(batch), batch.labels.tolist(), strict=True):
        costs.setdefault(label, memory.costs(label)).append(memory.cost(row))


def store(
    memory: ReplayMemory, storage: Storage, batches: Batches, chosen: dict[int, list[int]]
) -> None:
    """Keep the chosen exemplars of some classes, in the order in which they were chosen.

    Args:
        memory: the memory that is written; other classes are left alone.
        storage: what is kept of a frame.
        batches: the task, read until all that was chosen is found.
        chosen: chosen by label, positions among the exemplars held and, after them, the class's
            frames of the task.

    Raises:
        InputError: for some class there was room for none.
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
