"""A learning rate for each class, which falls with the number of its images.

Hayes, Kafle, Shrestha, Acharya, Kanan, "REMIND Your Neural Network to Prevent Catastrophic
Forgetting", ECCV 2020, and its authors' program.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor


class ClassRates:
    """Each class starts with the first rate and falls in equal factors to the last.

    The rate of a class after n of its images is

        first * (last / first) ** (step * floor(n / step) / images),

    and the last rate from ``images`` on (the authors' program goes on falling).

    Args:
        first: learning rate of the first image of each class.
        last: learning rate after ``images`` images of a class.
        step: number of images of a class that have the same rate.
        images: number of images of a class until its last rate.
    """

    def __init__(self, first: float, last: float, step: int, images: int) -> None:
        self.first, self.last = first, last
        self.step, self.images = step, images
        self.seen: Counter[int] = Counter()

    def rate(self, label: int) -> float:
        """Learning rate of the next image of a class."""
        seen = self.seen.get(label, 0) // self.step * self.step
        return self.first * (self.last / self.first) ** min(1.0, seen / self.images)

    def next(self, labels: Tensor) -> float:
        """Learning rate of a step on these images, the mean over them, which are then counted.

        Args:
            labels: int64 [n], n at least 1.
        """
        rates = [self.rate(label) for label in labels.tolist()]
        self.seen.update(labels.tolist())
        return sum(rates) / len(rates)

    @property
    def nbytes(self) -> int:
        """Bytes of the counts."""
        return 16 * len(self.seen)

    def state_dict(self) -> dict[str, Tensor]:
        """Label and number of images of each class, int64 [n, 2]."""
        return {"seen": torch.tensor([*self.seen.items()], dtype=torch.int64).view(-1, 2)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load a :meth:`state_dict`; without one, no image counts."""
        self.seen = Counter(dict(state["seen"].tolist()) if state else {})
