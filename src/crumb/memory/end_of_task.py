"""The write policy of the paper: exemplars are stored at the end of a task, in a second pass."""

from __future__ import annotations

import torch
from torch import Tensor

from crumb.memory.budget import fitting
from crumb.memory.draws import FEW, in_random_order
from crumb.memory.policies import check_share
from crumb.memory.replay import ReplayMemory, take


class EndOfTask:
    """Equal shares per class in a second pass over the task (Talbot et al. 2025, algorithm 1).

    Every class seen so far gets floor(capacity / classes) exemplars or bytes. From each batch and
    class, the items at positions 0, s, 2s, ... are taken. The step s spreads the capacity over the
    task. A class with more than its share is thinned at random. Reading stops as soon as every
    class has its share, so the end of a task may never be read.

    Args:
        memory: the memory that is written.
        generator: generator of the thinning (CPU).
    """

    nbytes = 0
    """Bytes of what the policy counts."""

    def __init__(self, memory: ReplayMemory, generator: torch.Generator) -> None:
        self.memory = memory
        self._generator = generator
        self._classes = self._share = self._skip = self._frames = 0
        self._full: set[int] = set()
        self._few = True
        # Cost of the exemplars of each class whose exemplars have been counted.
        self._used: dict[int, int] = {}

    def begin(self, classes: int, batches: int, batch_size: int) -> None:
        """Start the second pass over a task.

        Args:
            classes: classes seen so far, including those of this task.
            batches: batches of the task.
            batch_size: batch size of all but the last.

        Raises:
            InputError: fewer exemplars than classes.
        """
        check_share(self.memory.most, classes)
        self._classes = classes
        self._share = self.memory.capacity // classes
        self._frames, self._skip = (batches - 1) * batch_size, 0
        self._few = self.memory.most <= FEW
        self._full.clear()
        self._used.clear()

    def offer(self, rows: Tensor, labels: Tensor) -> bool:
        """Take the needed frames of one batch.

        Args:
            rows: [B, *row_shape], in stream order.
            labels: int64 [B].

        Returns:
            whether every class has its share, so reading can stop.

        Raises:
            InputError: the share of a class has no room for any of its images.
        """
        if not self._skip:
            cost = sum(map(self.memory.cost, rows)) / len(rows)
            self._skip = max(1, int(self._frames * cost) // self.memory.capacity)
        # Every class must shrink to its share, also classes that the task does not contain. Do it
        # once.
        every = self._few or not self._used
        new = range(self._classes) if every else sorted({*labels.tolist()})
        for label in new:
            if label < self._classes:
                offered = (labels == label).nonzero().flatten()[:: self._skip]
                accept = self._take_permuted if self._few else self._take
                accept(label, take(rows, offered))
        return len(self._full) == self._classes

    def _take_permuted(self, label: int, offered: Tensor) -> None:
        """Shuffle all exemplars of a class, and keep those that fit.

        This makes the same draws as in all earlier versions. Its time grows with the memory.
        """
        held = self.memory.count(label)
        costs = self.memory.costs(label) + [self.memory.cost(row) for row in offered]
        if sum(costs) < self._share:
            self.memory.add(label, offered)
            return
        order = torch.randperm(len(costs), generator=self._generator).flip(0)
        places = fitting([costs[place] for place in order.tolist()], self._share)
        if not places:
            check_share(0, self._classes, self.memory.given)
        kept = order[places].flip(0)
        self.memory.keep(label, kept[kept < held].tolist())
        self.memory.add(label, take(offered, kept[kept >= held] - held))
        self._full.add(label)

    def _take(self, label: int, offered: Tensor) -> None:
        if label not in self._used:
            self._used[label] = sum(self.memory.costs(label))
        costs = [self.memory.cost(row) for row in offered]
        surplus = self._used[label] + sum(costs) - self._share
        if surplus >= 0:
            self._full.add(label)
        if surplus > 0:
            offered, costs = self._thinned(label, offered, costs, surplus)
        self.memory.add(label, offered)
        self._used[label] += sum(costs)

    def _thinned(
        self, label: int, offered: Tensor, costs: list[int], surplus: int
    ) -> tuple[Tensor, list[int]]:
        """Drop exemplars of a class, and some of those offered, until the rest fits.

        All are in a random order. The last ones are dropped, except those that still fit.

        Returns:
            the offered exemplars that are left, and their costs.
        """
        held, gone = self.memory.count(label), []
        for place in in_random_order(held + len(costs), self._generator):
            cost = self.memory.cost_of(label, place) if place < held else costs[place - held]
            gone.append((place, cost))
            surplus -= cost
            if surplus <= 0:
                break
        back = fitting([cost for _, cost in reversed(gone)], -surplus)
        for place in back:
            gone[-1 - place] = (-1, 0)
        gone = [(place, cost) for place, cost in gone if place >= 0]
        if len(gone) == held + len(costs):
            check_share(0, self._classes, self.memory.given)
        self.memory.drop_all(label, [place for place, _ in gone if place < held])
        self._used[label] -= sum(cost for place, cost in gone if place < held)
        lost = {place - held for place, _ in gone}
        left = [place for place in range(len(costs)) if place not in lost]
        return take(offered, torch.tensor(left, dtype=torch.int64)), [costs[n] for n in left]
