"""Experience replay.

Chaudhry, Rohrbach, Elhoseiny, Ajanthan, Dokania, Torr, Ranzato, "On Tiny Episodic Memories in
Continual Learning", 2019, arXiv 1902.10486, algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import cross_entropy

from crumb.data.batches import Batch
from crumb.methods.registry import register
from crumb.methods.rehearsal import PolicyRehearsal, PolicyRehearsalConfig


@dataclass(frozen=True)
class ErConfig(PolicyRehearsalConfig):
    """Settings of experience replay."""


@register
class ExperienceReplay(PolicyRehearsal):
    """Each step is on the new batch and as many exemplars, jointly.

    The memory may be smaller than a batch: its exemplars are then taken several times, so that old
    and new weigh the same at every step (the paper draws from a memory that is larger). The paper
    finds the plain reservoir best, but for a very small memory writing that gives every class the
    same. Ours are very small: ``on-arrival`` is the default. Gradients are clipped as for every
    method.

    The original program calls this naive rehearsal: it means to take separate steps on new and
    stored images and to write the memory at the end of each task, and stops with an error in the
    first one. The joint step is the paper's; ``end-of-task`` writes when the program means to.
    """

    name = "er"
    summary = "each step on the new batch and as many exemplars"
    paper = "Chaudhry et al., 2019"
    keeps = "images or feature maps"
    Config = ErConfig

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """One step of mean cross entropy over new images and exemplars; then the memory's."""
        new = len(batch)
        features, labels = self.exemplars.beside(batch, self.generators["replay"])
        logits = self.active(self.network(features))
        each = cross_entropy(logits, labels.to(logits.device), reduction="none")
        self.step(each.mean())
        self.exemplars.arrived(batch)
        losses = {"direct": each[:new].mean().detach()}
        if len(each) > new:
            losses["replay"] = each[new:].mean().detach()
        return losses
