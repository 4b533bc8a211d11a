"""ER-ACE: experience replay with asymmetric cross entropy.

Caccia, Aljundi, Asadi, Tuytelaars, Pineau, Belilovsky, "New Insights on Reducing Abrupt
Representation Change in Online Continual Learning", ICLR 2022, arXiv 2104.05025.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from crumb.data.batches import Batch
from crumb.methods.registry import register
from crumb.methods.rehearsal import PolicyRehearsal, ReservoirConfig


def cross_entropy_within(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy over the classes that occur in ``labels``; others take no part.

    Args:
        logits: float [B, classes].
        labels: int64 [B], on the same device.
    """
    absent = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
    absent[labels] = False
    return cross_entropy(logits.masked_fill(absent, -torch.inf), labels)


@register
class ErAce(PolicyRehearsal):
    """New images compete among the classes of their batch only, exemplars among all classes.

    Each step is on the sum of two mean cross entropies: of the new batch, over the classes that
    occur in it, and of as many exemplars, over all classes seen so far (equation 3 of the paper).
    New images therefore never push the outputs of absent classes down. Only replay separates new
    classes from old ones.

    While the memory is empty, the loss of the new batch covers all classes seen so far. The
    authors' program does so in the whole first task, and there it also replays nothing. Without
    task boundaries the end of the first task is unknown. That program also lets outputs that no
    image has used yet compete. Here a class has an output from its first appearance on. A batch
    that shows a single class has a loss of zero for its new images, so in a stream sorted by class
    all learning comes from replay. Gradients are clipped as for every method.
    """

    name = "er_ace"
    summary = "new images compete within their batch, exemplars among all classes"
    paper = "Caccia et al., ICLR 2022"
    keeps = "images or feature maps"
    Config = ReservoirConfig
    why_no_budget = ""

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on new images and exemplars, then update the memory."""
        new = len(batch)
        count = self.replay_count(new)
        features, labels = self.exemplars.beside(batch, self.generators["replay"], count=count)
        logits = self.active(self.network(features))
        labels = labels.to(logits.device, non_blocking=True)
        if len(logits) == new:
            losses = {"direct": cross_entropy(logits, labels)}
        else:
            direct = cross_entropy_within(logits[:new], labels[:new])
            losses = {"direct": direct, "replay": cross_entropy(logits[new:], labels[new:])}
        self.step(torch.stack([*losses.values()]).sum())
        self.exemplars.on_batch(batch)
        return {name: loss.detach() for name, loss in losses.items()}
