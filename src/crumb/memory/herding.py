"""Exemplars whose mean stays near the mean of their class.

Rebuffi, Kolesnikov, Sperl, Lampert, "iCaRL: Incremental Classifier and Representation Learning",
CVPR 2017.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crumb.data.batches import Batches
from crumb.memory.replay import ReplayMemory, take
from crumb.memory.storage import Storage


def herd(features: Tensor, count: int) -> list[int]:
    """Choose exemplars one by one (algorithm 4), each once.

    The k-th is the one with which the mean of the k chosen comes nearest to the mean of all. The
    first so many of them are what a smaller count would have chosen.

    Args:
        features: of the candidates, float [n, C].
        count: how many are wanted; all candidates where there are fewer.

    Returns:
        positions of the chosen, in the order in which they were chosen; the earliest of equals.
    """
    features = features.double()
    mean = features.mean(0)
    squares = features.square().sum(1)
    missing = torch.zeros_like(mean)
    chosen: list[int] = []
    for _ in range(min(count, len(features))):
        # What the next one would have to be for the mean of the chosen to be that of all.
        missing = missing + mean
        best = int((squares - 2 * (features @ missing)).argmin())
        chosen.append(best)
        missing = missing - features[best]
        squares[best] = torch.inf
    return chosen


def store(
    memory: ReplayMemory, storage: Storage, batches: Batches, chosen: dict[int, list[int]]
) -> None:
    """Keep the chosen exemplars of some classes, in the order in which they were chosen.

    Args:
        memory: that is written; other classes are left alone.
        storage: what is kept of a frame.
        batches: the task, read until all that was chosen is found.
        chosen: by label, positions among the exemplars held and, after them, the class's frames
            of the task.
    """
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
