"""First Session Adaptation: tune the tail on the first task, then learn in closed form.

Panos, Kobe, Olmeda Reino, Aljundi, Turner, "First Session Adaptation: A Strong Replay-Free Baseline
for Class-Incremental Learning", ICCV 2023, arXiv 2303.13199.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from crumb.data.batches import Batches
from crumb.errors import DivergedError, require, setting
from crumb.methods.base import BytesHeld, Learner
from crumb.methods.registry import register
from crumb.methods.slda import SldaConfig, StreamingLda
from crumb.methods.training import TrainingConfig
from crumb.progress import bar


@dataclass(frozen=True)
class FsaConfig(SldaConfig, TrainingConfig):
    """Settings of First Session Adaptation."""

    lr: float = 0.005
    """Learning rate of SGD in the first task, constant."""
    tuning_epochs: int = 5
    """Number of epochs that tune the tail, over the shuffled frames of the first task."""

    def __post_init__(self) -> None:
        SldaConfig.__post_init__(self)
        TrainingConfig.__post_init__(self)
        epochs = self.tuning_epochs
        require("tuning_epochs", epochs, 1 <= epochs <= 1_000_000, "from 1 to 1000000")


@register
class FirstSessionAdaptation(StreamingLda):
    """Trains the tail with a softmax head on the first task only. Apart from that, streaming LDA.

    While the first task arrives, its frames are added to statistics of the pretrained features, as
    in ``slda``. At its end, the tail is tuned on all frames of the task, shuffled, for
    ``tuning_epochs`` epochs. Then the statistics are computed anew, in one more pass, from the
    features of the tuned tail. The softmax head is not used afterwards. From the second task on,
    each frame is seen once and nothing is trained.

    Two things differ from the paper. It tunes the whole network, or FiLM layers in all of it. Here
    the tail is tuned, and the whole network only with ``trainable="all"``. Its covariance is the
    sum of the empirical covariance and the identity. Here the statistics, the shrinkage and the
    transform are those of ``slda``.

    Attributes:
        adapted: whether the first task has ended.
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
    learns_at_task_end = True
    supports_best_epoch = False
    adapted = False

    # The update rule. (While frames arrive, that of StreamingLda.)

    def end_task(self, batches: Batches) -> None:
        """At the end of the first task, tune the tail and compute the statistics anew."""
        if self.adapted:
            return
        draws, epochs = self.generators["replay"], range(self.config.tuning_epochs)
        for _ in bar(epochs, f"{self.name}, tuning", "epoch", leave=False):
            for batch in batches.shuffled(draws):
                self.step(self.loss(batch.features, batch.labels))
        self.optimizer.state.clear()
        if not all(value.isfinite().all() for value in self.parameters().values()):
            given = setting("lr", self.config.lr)
            raise DivergedError(
                given, "made the weights infinite while tuning", "use a smaller one"
            )
        self.adapted = True
        self.clear()
        for batch in batches:
            self.learn(replace(batch, first_pass=True))

    # The rest of the contract.

    def parameters(self) -> dict[str, nn.Parameter]:
        """The tail, which is trained at the end of the first task."""
        return Learner.parameters(self)

    def bytes_for(self, classes: int, dimensions: int) -> int:
        """Bytes needed for so many classes and directions, without the codes."""
        return super().bytes_for(classes, dimensions) + 1

    def bytes_held(self) -> BytesHeld:
        """As for ``slda``, and one byte."""
        held = super().bytes_held()
        return BytesHeld(held.replay, held.extra + 1, held.reading + 1)

    def kept(self) -> dict[str, Tensor]:
        """The state of ``slda``, and whether the first task has ended."""
        return super().kept() | {"adapted": torch.tensor(self.adapted)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the :meth:`state_dict` of a learner with the same settings and classes.

        Raises:
            ValueError: the state does not fit.
        """
        super().load_state_dict(state)
        self.adapted = bool(state["adapted"])
