"""A compute budget: the same number of feature maps through the tail per new image.

Prabhu, Al Kader Hammoud, Dokania, Torr, Lim, Ghanem, Bibi, "Computationally Budgeted Continual
Learning: What Does Matter?", CVPR 2023, compare methods by a fixed computation per new image.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from crumb.errors import InputError, setting
from crumb.methods.base import Learner
from crumb.nets.split import SplitNetwork


class TailBudget:
    """Counts the maps that a budget allows and those that went through the tail.

    What a batch leaves over is left to later ones. A batch that found the memory empty is made up
    for in this way, by batches that replay at most twice as many exemplars as usual.

    Args:
        network: the network, which counts its maps.
        per_image: maps per new image.

    Attributes:
        left: maps that are allowed and were not used, up to the last :meth:`note`.
    """

    nbytes = 8
    """Bytes of the count."""

    def __init__(self, network: SplitNetwork, per_image: int) -> None:
        self._network, self._per_image = network, per_image
        self.left, self._noted = 0, 0

    def begin(self, images: int) -> None:
        """Allow the maps of a batch of new images."""
        self.left += self._per_image * images
        self._noted = self._network.maps

    def note(self) -> None:
        """Subtract the maps since :meth:`begin` or the last note."""
        self.left -= self._network.maps - self._noted
        self._noted = self._network.maps

    def after(self, images: int) -> int:
        """Number of exemplars for steps that come after the step on new images."""
        return max(0, min(self.left, 2 * (self._per_image - 1) * images))

    def replayed(self, images: int, passes: int = 1, draws: int = 1) -> int:
        """Number of exemplars beside new images that have not passed the tail yet.

        Args:
            images: number of new images.
            passes: passes through the tail of each image and exemplar.
            draws: draws of exemplars in the step; the result is for each.
        """
        usual = self._per_image * images // passes - images
        return max(0, min(self.left // passes - images, 2 * usual)) // draws


class Budgeted(Learner):
    """A learner that keeps a compute budget, or refuses one.

    Attributes:
        budget: the budget, if the settings give one.
    """

    why_no_budget: ClassVar[str] = "the number of its exemplars does not follow one"
    """Why the method cannot keep a compute budget; empty if it can."""

    def __init__(
        self, network: SplitNetwork, config: Any, seed: int = 0, device: str = "cpu"
    ) -> None:
        self.budget: TailBudget | None = None
        if config.compute_budget is not None:
            if self.why_no_budget:
                problem = f"cannot be kept by {self.name}, because {self.why_no_budget}"
                given = setting("compute_budget", config.compute_budget)
                raise InputError(given, problem, "leave it out or choose another method")
            self.budget = TailBudget(network, config.compute_budget)
        super().__init__(network, config, seed, device)

    def replay_count(self, images: int, passes: int = 1, draws: int = 1) -> int:
        """Number of exemplars beside a batch in its one step; without a budget as many as images.

        Arguments as of :meth:`TailBudget.replayed`.
        """
        if self.budget is None:
            return images
        self.budget.begin(images)
        return self.budget.replayed(images, passes, draws)

    def descend(self) -> None:
        """Take one optimizer step, and note the maps that it took."""
        super().descend()
        if self.budget:
            self.budget.note()

    @property
    def counted_bytes(self) -> int:
        """Bytes of the count of maps, if there is a budget."""
        return self.budget.nbytes if self.budget else 0

    def state_dict(self) -> dict[str, Tensor]:
        """As of :class:`Learner`, and the maps that are left."""
        left = {"budget.left": torch.tensor(self.budget.left)} if self.budget else {}
        return super().state_dict() | left

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the :meth:`state_dict` of a learner with the same settings and classes."""
        super().load_state_dict(state)
        if self.budget:
            self.budget.left = int(state["budget.left"])
