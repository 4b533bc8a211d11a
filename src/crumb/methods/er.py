"""Experience replay.

Chaudhry, Rohrbach, Elhoseiny, Ajanthan, Dokania, Torr, Ranzato, "On Tiny Episodic Memories in
Continual Learning", 2019, arXiv 1902.10486, algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from crumb.data.batches import Batch
from crumb.errors import require
from crumb.methods.described import Ranges
from crumb.methods.registry import register
from crumb.methods.rehearsal import PolicyRehearsal, PolicyRehearsalConfig
from crumb.methods.training import MAX_FLOAT


@dataclass(frozen=True)
class ErConfig(PolicyRehearsalConfig):
    """Settings of experience replay."""

    replay_coefficient: float = 1.0
    """Weight of the loss of an exemplar, relative to that of a new image."""

    def __post_init__(self) -> None:
        super().__post_init__()
        weight, most = self.replay_coefficient, f"at least 0 and at most {MAX_FLOAT:g}"
        require("replay_coefficient", weight, 0 <= weight <= MAX_FLOAT, most)


@register
class ExperienceReplay(PolicyRehearsal):
    """Each step is on the new batch and as many exemplars, jointly.

    The loss is the mean over both of weight * cross entropy, the weight of an exemplar being
    ``replay_coefficient`` (1 in the paper) and that of a new image 1.

    If the memory is smaller than a batch, its exemplars are repeated, so that old and new images
    have the same weight at every step (the paper's memory is larger than a batch). The paper finds
    the plain reservoir best, except for very small memories, where class-balanced writing is
    better. Our memories are very small, so ``on-arrival`` is the default. Gradients are clipped as
    for every method.

    The original program calls this naive rehearsal: it means to take separate steps on new and
    stored images and to write the memory at the end of each task, and stops with an error in the
    first one. The joint step is the paper's; ``end-of-task`` writes when the program means to.
    """

    name = "er"
    summary = "each step uses the new batch and as many exemplars"
    paper = "Chaudhry et al., 2019"
    keeps = "images or feature maps"
    Config = ErConfig
    why_no_budget = ""
    tuned: ClassVar[Ranges] = {"replay_coefficient": (0.1, 10.0)}

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step of weighted cross entropy over new images and exemplars, then update the
        memory.
        """
        new = len(batch)
        count = self.replay_count(new)
        features, labels = self.exemplars.beside(batch, self.generators["replay"], count=count)
        logits = self.active(self.network(features))
        each = cross_entropy(logits, labels.to(logits.device), reduction="none")
        weighed = torch.cat([each[:new], self.config.replay_coefficient * each[new:]])
        self.step(weighed.mean())
        self.exemplars.on_batch(batch)
        losses = {"direct": each[:new].mean().detach()}
        if len(each) > new:
            losses["replay"] = each[new:].mean().detach()
        return losses
