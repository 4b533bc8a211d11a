"""First Session Adaptation: tune the tail on the first task, then learn in closed form.

Panos, Kobe, Olmeda Reino, Aljundi, Turner, "First Session Adaptation: A Strong Replay-Free Baseline
for Class-Incremental Learning", ICCV 2023, arXiv 2303.13199.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, nn

from crumb.data.batches import Batch, Batches
from crumb.errors import InputError
from crumb.methods.base import Learner
from crumb.methods.registry import register
from crumb.methods.slda import SldaConfig, StreamingLda
from crumb.methods.training import TrainingConfig


@dataclass(frozen=True)
class FsaConfig(SldaConfig, TrainingConfig):
    """Settings of First Session Adaptation. EPOCHS-FIRST-TASK sets how long the tail is tuned."""

    lr: float = 0.005
    """Learning rate of SGD in the first task, constant."""

    def __post_init__(self) -> None:
        SldaConfig.__post_init__(self)
        TrainingConfig.__post_init__(self)


@register
class FirstSessionAdaptation(StreamingLda):
    """Trains the tail with a softmax head on the first task only. Then it is streaming LDA.

    The features of LDA are those of the tuned tail. The tail still changes while the first task is
    learned, so statistics of that time would be of other features. They are therefore computed in a
    second pass over the first task, at its end. Until then, predictions come from the softmax head,
    which is not used afterwards. From the second task on, each frame is seen once and nothing is
    trained.

    Two things differ from the paper. It tunes the whole network, or FiLM layers in all of it. Here
    the tail is tuned, and the whole network only with ``trainable="all"``. Its covariance is the
    sum of the empirical covariance and the identity. Here the statistics, the shrinkage and the
    transform are those of ``slda``.
    """

    name = "fsa"
    summary = "the tail tuned on the first task, then streaming LDA"
    paper = "Panos et al., ICCV 2023"
    keeps = "class means, one covariance"
    Config = FsaConfig
    trains = True
    needs_task_boundaries = True
    needs_second_pass = True
    tested_after_task_end = True

    # The update rule.

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Take a step in the first task. Later, add frames to the statistics."""
        if self.frozen:
            return super().learn(batch)
        loss = self.loss(batch.features, batch.labels)
        self.step(loss)
        return {"direct": loss.detach()}

    def end_task(self, batches: Batches) -> None:
        """At the end of the first task, freeze the tail and compute the statistics."""
        if self.frozen:
            return
        for batch in batches:
            super().learn(replace(batch, first_pass=True))
        self.optimizer.state.clear()

    def scores(self, features: Tensor) -> Tensor:
        """Logits of the softmax head in the first task, then those of LDA, [B, classes]."""
        return super().scores(features) if self.frozen else Learner.scores(self, features)

    @property
    def frozen(self) -> bool:
        """Whether the first task is over: only then there are statistics."""
        return bool(self.moments.pooled[0])

    # The rest of the contract.

    def parameters(self) -> dict[str, nn.Parameter]:
        """The tail, which is trained in the first task."""
        return Learner.parameters(self)

    def _remove(self, label: int) -> None:
        self._refuse_in_first_task()
        super()._remove(label)

    def _join(self, label: int, other: int) -> None:
        self._refuse_in_first_task()
        super()._join(label, other)

    def _refuse_in_first_task(self) -> None:
        """The softmax head could not follow a change of its classes.

        Raises:
            InputError: the first task is not over.
        """
        if not self.frozen:
            problem = "cannot change its classes in the first task"
            raise InputError("a learner of fsa", problem, "call end_task first")
