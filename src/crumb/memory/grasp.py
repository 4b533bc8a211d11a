"""GRASP: replay draws exemplars near their class mean first, then harder ones.

Harun, Gallardo, Chen, Kanan, "GRASP: A Rehearsal Policy for Efficient Online Continual Learning",
CoLLAs 2024, arXiv 2308.13646, and its authors' program.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from crumb.memory.herding import embedded
from crumb.memory.payload import Field, Fields
from crumb.memory.replay import ReplayMemory
from crumb.memory.storage import Storage

_LEAST = 1e-7
"""Added to distances, so that an exemplar at the mean does not take all draws (the authors')."""
_UNMEASURED = -1.0
_MANY = 255


class Grasp:
    """Draws exemplars of a class with probabilities in inverse proportion to their distances.

    The distance of an exemplar is 1 - cos(its embedding, the mean embedding of the exemplars of its
    class). After each draw the distance of the drawn exemplar grows by the largest distance in its
    class, so harder exemplars follow.

    The authors measure all distances at the start of each rehearsal cycle. A method with such
    cycles calls :meth:`restart`. For others, a class is measured anew once it has been drawn from
    as often as it has exemplars. An exemplar that was stored in the meantime counts as far as the
    mean distance of its class until then.

    Args:
        memory: the exemplars; :attr:`fields` are part of its payload.
        storage: how they are decoded.
        embed: from feature maps, float [n, C, H, W], to vectors, float [n, D], without gradients.

    Attributes:
        in_cycles: whether distances are measured anew after :meth:`restart` alone.
    """

    fields: ClassVar[Fields] = {
        "distance": Field((), torch.float32, _UNMEASURED),
        "draws": Field((), torch.uint8, 0),
    }
    """Five bytes of each exemplar: its distance, and how often it was drawn since its class was
    measured."""

    def __init__(
        self, memory: ReplayMemory, storage: Storage, embed: Callable[[Tensor], Tensor]
    ) -> None:
        self._memory, self._storage, self._embed = memory, storage, embed
        self.in_cycles = False

    def restart(self) -> None:
        """Measure each class anew before the next draw from it."""
        for label, count in self._memory.counts.items():
            unknown = torch.full((count,), _UNMEASURED)
            self._memory.replace_field(label, "distance", unknown)

    def draw(self, labels: Sequence[int], generator: torch.Generator) -> list[int]:
        """Row number of one exemplar for each label.

        Args:
            labels: classes that have exemplars.
            generator: generator of the draws (CPU).
        """
        drawn = {
            label: iter(self._draw_of_class(label, count, generator))
            for label, count in sorted(Counter(labels).items())
        }
        return [next(drawn[label]) for label in labels]

    def _draw_of_class(self, label: int, count: int, generator: torch.Generator) -> list[int]:
        slots = self._memory.newest(label, self._memory.count(label))
        payload = self._memory.payload.get(slots)
        distances, draws = payload["distance"].double(), payload["draws"].long()
        known = distances >= 0
        over = not self.in_cycles and draws.sum() >= len(slots)
        if over or not known.any():
            distances, draws = self._measured(label), torch.zeros_like(draws)
        elif not known.all():
            distances = torch.where(known, distances, distances[known].mean())
        places: list[int] = []
        for chance in torch.rand(count, generator=generator, dtype=torch.float64):
            ends = (1 / (distances + _LEAST)).cumsum(0)
            place = min(int(torch.searchsorted(ends, chance * ends[-1], right=True)), len(ends) - 1)
            distances[place] += distances.max()
            draws[place] += 1
            places.append(place)
        payload |= {"distance": distances, "draws": draws.clamp(max=_MANY)}
        self._memory.payload.put(slots, payload)
        return [slots[place] for place in places]

    def _measured(self, label: int) -> Tensor:
        """Distances of the exemplars of a class, float64 [n], on the CPU."""
        vectors = embedded(self._memory, self._storage, label, self._embed).double().cpu()
        cosines = normalize(vectors, dim=1) @ normalize(vectors.mean(0), dim=0)
        return (1 - cosines).clamp(min=0)
