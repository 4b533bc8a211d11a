"""L2: all weights stay near those of the last task (the control experiment of EWC).

Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017
(arXiv 1612.00796), figure 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from crumb.data.batches import Batches
from crumb.methods.described import Ranges
from crumb.methods.penalty import Named, PenaltyConfig, PenaltyLearner, Slot, copies
from crumb.methods.registry import register


@dataclass(frozen=True)
class L2Config(PenaltyConfig):
    """Settings of L2."""

    regularisation: float = 100.0
    """Weight of the penalty (no factor of one half)."""


@register
class L2(PenaltyLearner):
    """Cross entropy + regularisation * sum (theta - theta*)^2, theta* of the last task.

    The original code also pulls the rows of unseen classes back to their random initial values,
    which only hinders new classes. Here they are free.
    """

    name = "l2"
    summary = "all weights held near those of the last task"
    paper = "Kirkpatrick et al., PNAS 2017"
    keeps = "weights of the last task"
    Config = L2Config
    tuned: ClassVar[Ranges] = {"regularisation": (0.1, 1e5)}

    def end_task(self, batches: Batches) -> None:
        """Make the current weights the anchors, without reading data."""
        self.penalty.slots = [Slot(copies(self.parameters()), self._ones())]
        super().end_task(batches)

    def _ones(self) -> Named:
        """Importance 1 except for rows of unseen classes: one number per tensor or head row."""
        head = self.head_parameters()
        ones = {name: torch.ones((), device=p.device) for name, p in self.parameters().items()}
        for name, p in head.items():
            ones[name] = p.new_zeros(len(p), *[1] * (p.ndim - 1))
            ones[name][: len(self.classes)] = 1
        return ones
