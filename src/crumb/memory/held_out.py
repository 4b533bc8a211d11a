"""Exemplars to train on and exemplars to validate on, of every class, chosen as frames arrive."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from crumb.data.batches import Batch
from crumb.memory.exemplars import ChosenExemplars
from crumb.memory.policies import below
from crumb.memory.replay import take

HELD_OUT = 10
"""One in so many exemplars of a class is to validate on."""


class SplitExemplars(ChosenExemplars):
    """Every class has an equal share, a tenth of it (at least one) to validate on.

    Both parts of a class are a uniform sample of its frames (reservoirs within its share, thinned
    at random as classes come), and they have no frame in common. A share of one exemplar cannot be
    split: it is to train on, and to validate on as well.

    Attributes:
        memory: the exemplars; a class's own label lists those to train on,
            :func:`validating` of it those to validate on.
    """

    @cached_property
    def _seen(self) -> dict[int, int]:
        """Frames of each class that were offered."""
        return {}

    @property
    def training(self) -> list[int]:
        """Labels of the classes that have exemplars to train on."""
        return [label for label in self.memory.counts if label >= 0]

    @property
    def bookkeeping_bytes(self) -> int:
        """Bytes of the row numbers, and of the counts of frames, 16 for each class."""
        return super().bookkeeping_bytes + 16 * len(self._seen)

    def shares(self, classes: int) -> tuple[int, int]:
        """Exemplars of each of so many classes: to train on, to validate on."""
        share = max(1, self.memory.capacity // classes)
        held_out = max(1, share // HELD_OUT) if share > 1 else 0
        return share - held_out, held_out

    def check_room(self, classes: int) -> None:
        """Any number of classes: those that come last have no exemplar."""

    def thin(self, classes: int) -> None:
        """Make room for so many classes, at the cost of those that are held."""
        train, validate = self.shares(classes)
        for key, count in self.memory.counts.items():
            share = train if key >= 0 else validate
            if count > share:
                kept = torch.randperm(count, generator=self.generator)[:share].sort().values
                self.memory.keep(key, kept.tolist())

    def offer(self, batch: Batch, classes: int) -> Tensor:
        """Offer frames that are read for the first time.

        Args:
            batch: in stream order.
            classes: that share the capacity.

        Returns:
            bool [B]: which frames were taken to validate on, so are not to be trained on.
        """
        self.thin(classes)
        shares, rows = self.shares(classes), self.storage.encode(batch)
        taken = [
            self._offer(row, label, *shares)
            for row, label in zip(rows, batch.labels.tolist(), strict=True)
        ]
        return torch.tensor(taken, dtype=torch.bool)

    def _offer(self, row: Tensor, label: int, train: int, validate: int) -> bool:
        """Offer one frame; whether it is held out."""
        self._seen[label] = self._seen.get(label, 0) + 1
        for key, share in ((label, train), (validating(label), validate)):
            if self.memory.count(key) < share:
                # More classes than exemplars: those that come last have none.
                if len(self.memory) < self.memory.capacity:
                    self.memory.add(key, row[None])
                    return key < 0
                return False
        place = below(self._seen[label], self.generator)
        if place >= train + validate:
            return False
        key, place = (label, place) if place < train else (validating(label), place - train)
        self.memory.overwrite(key, place, key, row)
        return key < 0

    def validation(self, size: int) -> list[tuple[Tensor, Tensor]]:
        """All exemplars to validate on, ``size`` at a time.

        Returns:
            pairs of feature maps, float [n, C, H, W], and labels, int64 [n], on the CPU.
        """
        counts, found = self.memory.counts, []
        for label in self.training:
            key = validating(label)
            found.append((label, self.memory.class_rows(key if key in counts else label)))
        if not found:
            return []
        rows = torch.cat([rows for _, rows in found])
        labels = torch.tensor([label for label, rows in found for _ in range(len(rows))])
        return [
            (self.storage.features(take(rows, places)), labels[places])
            for places in torch.arange(len(labels)).split(size)
        ]

    def state_dict(self) -> dict[str, Tensor]:
        """The exemplars and the counts of frames."""
        seen = torch.tensor(list(self._seen.items()), dtype=torch.int64).view(-1, 2)
        return super().state_dict() | {"seen": seen}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over :meth:`state_dict`; errors as :class:`ReplayMemory`."""
        super().load_state_dict(state)
        self._seen = dict(state["seen"].tolist())


def validating(label: int) -> int:
    """Under which the memory lists the exemplars of a class to validate on; its own inverse."""
    return -1 - label
