"""MAS: memory aware synapses.

Aljundi, Babiloni, Elhoseiny, Rohrbach, Tuytelaars, "Memory Aware Synapses: Learning what (not) to
forget", ECCV 2018 (arXiv 1711.09601), section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from crumb.data.batches import Batches
from crumb.methods.described import Ranges
from crumb.methods.penalty import PenaltyConfig, PenaltyLearner, Slot, copies, frames
from crumb.methods.registry import register


@dataclass(frozen=True)
class MASConfig(PenaltyConfig):
    """Settings of MAS."""

    regularisation: float = 1.0
    """Weight of the penalty (the paper's lambda)."""


@register
class MAS(PenaltyLearner):
    """Cross entropy + regularisation * sum Omega (theta - theta*)^2, theta* of the last task.

    A task adds to Omega the mean over its frames of |gradient of the squared L2 norm of the
    logits|, frame by frame, in eval mode. Labels are not used. The logits are those of the classes
    seen so far.

    The original code takes the gradient of the mean of a batch, in which frames cancel, divides
    the norm by the number of logits, which shrinks Omega as classes come, and adds to Omega after
    every reading of the task instead of once.
    """

    name = "mas"
    summary = "weights anchored by their effect on the outputs"
    paper = "Aljundi et al., ECCV 2018"
    keeps = "weights of the last task, importances"
    Config = MASConfig
    tuned: ClassVar[Ranges] = {"regularisation": (0.001, 1000.0)}
    needs_second_pass = True

    def end_task(self, batches: Batches) -> None:
        """Measure the sensitivity of the outputs to the current weights in a second pass over the
        task.
        """
        importances = self.mean_gradients(self._norms(batches), torch.abs)
        for slot in self.penalty.slots:
            for name, past in slot.importances.items():
                importances[name] += past
        self.penalty.slots = [Slot(copies(self.parameters()), importances)]
        super().end_task(batches)

    def _norms(self, batches: Batches) -> Iterator[Tensor]:
        """Squared L2 norm of the logits of each frame."""
        for features, _ in frames(batches, "importance"):
            yield self.active(self.network(features)).square().sum()
