"""EWC: elastic weight consolidation.

Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017
(arXiv 1612.00796), equation 3. The online form: Schwarz et al., "Progress & Compress", ICML 2018
(arXiv 1805.06370), section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from crumb.data.batches import Batches
from crumb.errors import InputError, require, setting
from crumb.methods.described import Ranges
from crumb.methods.penalty import PenaltyConfig, PenaltyLearner, Slot, copies, frames
from crumb.methods.registry import register

Form = Literal["per-task", "online"]
Fisher = Literal["sampled", "empirical"]


@dataclass(frozen=True)
class EWCConfig(PenaltyConfig):
    """Settings of EWC."""

    regularisation: float = 10_000.0
    """Weight of the penalty (half of the paper's lambda)."""
    form: Form = "per-task"
    """One penalty per past task, or a single one whose importance decays (online EWC)."""
    gamma: float = 1.0
    """Decay factor of past importance after each task (online EWC)."""
    fisher: Fisher = "sampled"
    """Labels of the Fisher information: sampled from the network's predictions, or the true
    labels."""
    fisher_samples: int | None = None
    """Number of frames per task for the Fisher information. Default: all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require("gamma", self.gamma, 0 <= self.gamma <= 1, "in [0, 1]")
        if self.form == "per-task" and self.gamma != 1:
            problem = f"has no effect with {setting('form', 'per-task')}"
            raise InputError(
                setting("gamma", self.gamma), problem, f"give {setting('form', 'online')} as well"
            )
        if self.fisher_samples is not None:
            holds = 1 <= self.fisher_samples < 1 << 63
            require("fisher_samples", self.fisher_samples, holds, "from 1 to 2^63 - 1")


@register
class EWC(PenaltyLearner):
    """Cross entropy + regularisation * sum over past tasks t of F_t (theta - theta_t)^2.

    F_t is the diagonal of the Fisher information at the end of task t: the mean over its frames
    of the squared gradient of log p(y | frame), frame by frame, in eval mode. By definition y is
    drawn from the network's own p; ``empirical`` takes the true label instead. p is over the
    outputs that the task trains.

    The online form has a single term, gamma F* (theta - theta_{t-1})^2, in which
    F* <- gamma F* + F_t after each task.

    The original code squares the gradient of the mean of a batch, in which the gradients of frames
    cancel, and uses the most likely class as y, which underestimates uncertainty.
    """

    name = "ewc"
    summary = "weights held by their Fisher information"
    paper = "Kirkpatrick et al., PNAS 2017"
    keeps = "weights and importances of each task"
    Config = EWCConfig
    tuned: ClassVar[Ranges] = {"regularisation": (1.0, 2e4)}
    needs_second_pass = True

    def end_task(self, batches: Batches) -> None:
        """Compute the Fisher information of the current weights in a second pass over the task."""
        importances = self.mean_gradients(self._surprises(batches), torch.square)
        super().end_task(batches)
        slot = Slot(copies(self.parameters()), importances)
        if self.config.form == "per-task":
            self.penalty.slots.append(slot)
            return
        past = self.penalty.slots[0].importances if self.penalty.slots else {}
        # Store gamma F*, the factor of the penalty.
        for name, fisher in importances.items():
            importances[name] = self.config.gamma * (past.get(name, 0) + fisher)
        self.penalty.slots = [slot]

    def _surprises(self, batches: Batches) -> Iterator[Tensor]:
        """-log p(y) of each frame."""
        for features, label in frames(batches, "Fisher information", self.config.fisher_samples):
            self.present.shown.add(label)
            surprises = -self.trained_logits(features)[0].log_softmax(0)
            if self.config.fisher == "sampled":
                label = self._draw(surprises.detach())
            yield surprises[label]

    def _draw(self, surprises: Tensor) -> int:
        """Sample a class from the network's predicted probabilities."""
        chances = (-surprises).exp().cpu()
        return int(torch.multinomial(chances, 1, generator=self.generators["memory"]))
