"""Fine-tuning: the lower bound of every comparison."""

from __future__ import annotations

from torch import Tensor

from crumb.data.batches import Batch
from crumb.methods.base import BytesHeld, Learner
from crumb.methods.registry import register


@register
class Finetune(Learner):
    """Plain SGD on the stream without any memory. Shows the forgetting without countermeasures."""

    name = "finetune"
    summary = "plain SGD, no measure against forgetting"
    paper = "lower bound"
    keeps = "nothing"

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step of mean cross entropy over the classes seen so far."""
        loss = self.loss(batch.features, batch.labels)
        self.step(loss)
        return {"direct": loss.detach()}

    def bytes_held(self) -> BytesHeld:
        """Nothing."""
        return BytesHeld(0, 0)
