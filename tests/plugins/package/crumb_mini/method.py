"""A method: fine-tuning with smoothed labels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import cross_entropy

from crumb.data.batches import Batch
from crumb.errors import require
from crumb.methods.base import BytesHeld, Learner
from crumb.methods.training import TrainingConfig


@dataclass(frozen=True)
class MiniConfig(TrainingConfig):
    """Settings of mini."""

    smoothing: float = 0.1
    """Share of each label that goes to the other classes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require("smoothing", self.smoothing, 0 <= self.smoothing < 1, "in [0, 1)")


class Mini(Learner):
    """Cross entropy with smoothed labels."""

    name = "mini"
    summary = "smoothed labels"
    paper = "Mini et al., 2026"
    keeps = "nothing"
    Config = MiniConfig

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """One step."""
        logits, labels = self.active(self.network(batch.features)), batch.labels.to(self.device)
        loss = cross_entropy(logits, labels, label_smoothing=self.config.smoothing)
        self.step(loss)
        return {"direct": loss.detach()}

    def bytes_held(self) -> BytesHeld:
        """Nothing."""
        return BytesHeld(0, 0)
