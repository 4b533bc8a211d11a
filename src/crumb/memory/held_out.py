"""Training and validation exemplars of every class, chosen as frames arrive."""

from __future__ import annotations

from functools import cached_property, partial

import torch
from torch import Tensor

from crumb.data.batches import Batch
from crumb.memory.encoded import joined_rows
from crumb.memory.exemplars import ChosenExemplars
from crumb.memory.policies import drop_surplus, random_below
from crumb.memory.replay import take

HELD_OUT = 10
"""One in this many exemplars of a class is for validation."""
_COUNTS_BYTES = 16


class SplitExemplars(ChosenExemplars):
    """Equal shares per class, with a tenth of each (at least one exemplar) for validation.

    Both parts of a class are uniform samples of its frames, without common frames. Each is a
    reservoir within its part of the share, thinned at random as new classes come. A share of one
    exemplar cannot be split: this exemplar is used for training and for validation. The number of
    exemplars in a share of bytes follows from the mean length of the class's exemplars. If a new
    exemplar does not fit in the share, random training exemplars are dropped until it does. A frame
    is also stored if it fits in the unused part of the share, with the probability of
    :class:`Reservoir`.

    Attributes:
        memory: the exemplars. Training exemplars have the label of their class, and validation
            exemplars have the label :func:`validating` of it.
    """

    @cached_property
    def _seen(self) -> dict[int, int]:
        """Number of offered frames of each class."""
        return {}

    @property
    def training(self) -> list[int]:
        """Labels of the classes that have training exemplars."""
        return [label for label in self.memory.counts if label >= 0]

    @property
    def counted_bytes(self) -> int:
        """Bytes of the counts of frames and the labels of their classes."""
        return _COUNTS_BYTES * len(self._seen)

    def shares(self, classes: int, cost: float = 1) -> tuple[int, int]:
        """Numbers of training and of validation exemplars in the share of a class.

        Args:
            classes: the classes that share the capacity.
            cost: mean cost of an exemplar.
        """
        share = max(1, int(self.memory.capacity / cost) // classes)
        held_out = max(1, share // HELD_OUT) if share > 1 else 0
        return share - held_out, held_out

    def _costs(self, label: int) -> list[int]:
        """Numbers of training and of validation exemplars of a class."""
        return self.memory.costs(label) + self.memory.costs(validating(label))

    def check_room(self, classes: int) -> None:
        """Accept any number of classes. The last ones may get no exemplar."""

    def thin(self, classes: int) -> None:
        """Drop exemplars until every class is within its share of this number of classes."""
        costs = {label: self._costs(label) for label in self.training}
        for key, count in self.memory.counts.items():
            own = costs.get(max(key, validating(key)), [1])
            train, validate = self.shares(classes, sum(own) / len(own))
            share = train if key >= 0 else validate
            if count > share:
                kept = torch.randperm(count, generator=self.generator)[:share].sort().values
                self.memory.keep(key, kept.tolist())
        room = max(1, self.memory.capacity // classes)
        for label in self.training:
            self._cut(label, room - sum(self._costs(label)))

    def _cut(self, label: int, room: int, offered: int = 0) -> bool:
        """Drop random training exemplars until the others fit in the share.

        Args:
            label: label of the class.
            room: unused part of its share; negative if its exemplars exceed it.
            offered: 1 if a new exemplar is a candidate too, else 0.

        Returns:
            whether the new exemplar was kept.
        """
        while room < 0 and (count := self.memory.count(label)):
            place = random_below(count + offered, self.generator)
            if place == count:
                return False
            room += self.memory.costs(label)[place]
            self.memory.drop(label, place)
        return room >= 0

    def offer(self, batch: Batch, classes: int) -> Tensor:
        """Offer frames of the first pass.

        Args:
            batch: frames in stream order.
            classes: the classes that share the capacity.

        Returns:
            bool [B]: frames taken for validation, on which the learner must not train.

        Raises:
            InputError: a budget in bytes has no room for an exemplar in addition to the counts.
        """
        met = len(self._seen.keys() | {*batch.labels.tolist()})
        if met > len(self._seen):
            self.memory.set_aside(_COUNTS_BYTES * met, partial(self._make_room, classes))
        self.thin(classes)
        rows = self.storage.encode(batch)
        taken = [
            self._offer(row, label, classes)
            for row, label in zip(rows, batch.labels.tolist(), strict=True)
        ]
        return torch.tensor(taken, dtype=torch.bool)

    def _make_room(self, classes: int) -> None:
        self.thin(classes)
        drop_surplus(self.memory, self.generator)

    def _offer(self, row: Tensor, label: int, classes: int) -> bool:
        """Offer one frame. Returns whether it is held out."""
        seen = self._seen[label] = self._seen.get(label, 0) + 1
        costs, train = self._costs(label), self.memory.count(label)
        own = self.memory.cost(row)
        room = max(1, self.memory.capacity // classes) - sum(costs) - own
        first = seen == len(costs) + 1 and room >= 0
        place = len(costs) if first else random_below(seen, self.generator)
        if place > len(costs) or (place == len(costs) and room < 0):
            return False
        if room >= 0:
            # If there are more classes than exemplars, the last classes have none.
            if not self.memory.fits(row):
                return False
            shares = self.shares(classes, (sum(costs) + own) / (len(costs) + 1))
            full = train >= shares[0] and len(costs) - train < shares[1]
            key = validating(label) if full else label
        else:
            key, position = (label, place) if place < train else (validating(label), place - train)
            self.memory.drop(key, position)
            if not self._cut(label, room + costs[place], offered=int(key >= 0)):
                return False
        self.memory.add(key, row[None])
        return key < 0

    def validation(self, size: int) -> list[tuple[Tensor, Tensor]]:
        """All validation exemplars, ``size`` at a time.

        Returns:
            pairs of feature maps, float [n, C, H, W], and labels, int64 [n], on the CPU.
        """
        counts, found = self.memory.counts, []
        for label in self.training:
            key = validating(label)
            found.append((label, self.memory.class_rows(key if key in counts else label)))
        if not found:
            return []
        rows = joined_rows([rows for _, rows in found])
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
        """Load a :meth:`state_dict`; errors as :class:`ReplayMemory`."""
        super().load_state_dict(state)
        self._seen = dict(state["seen"].tolist())
        room = partial(drop_surplus, self.memory, self.generator)
        self.memory.set_aside(self.counted_bytes, room)


def validating(label: int) -> int:
    """Label of a class's validation exemplars in the memory. The function is its own inverse."""
    return -1 - label
