"""Fine-tuning: the lower bound of every comparison."""

from __future__ import annotations

from torch import Tensor

from crumb.data.batches import Batch
from crumb.methods.base import BytesHeld, Learner
from crumb.methods.registry import register


@register
class Finetune(Learner):
    """SGD on what comes, nothing kept: how much is forgotten when nothing is done about it."""

    name = "finetune"
    summary = "SGD on what comes, nothing against forgetting"
    paper = "lower bound"
    keeps = "nothing"

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """One step of mean cross entropy over the classes met so far."""
        loss = self.loss(batch.features, batch.labels)
        self.step(loss)
        return {"direct": loss.detach()}

    def bytes_held(self) -> BytesHeld:
        """Nothing."""
        return BytesHeld(0, 0)
