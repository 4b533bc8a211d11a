"""Joint training: the upper bound of every comparison."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crumb.data.batches import Batch
from crumb.errors import require
from crumb.methods.base import BytesHeld
from crumb.methods.finetune import Finetune
from crumb.methods.registry import register
from crumb.methods.training import TrainingConfig
from crumb.nets.split import SplitNetwork


@dataclass(frozen=True)
class OfflineConfig(TrainingConfig):
    """Settings of joint training."""

    joint_epochs: int = 5
    """Readings of everything so far at each task, where EPOCHS or EPOCHS-FIRST-TASK say fewer."""
    convergence: float | None = None
    """Go on to the next task before that when a reading lowers the mean training loss by less than
    this share of it: with 0.01, and JOINT-EPOCHS 100, until it has converged."""

    def __post_init__(self) -> None:
        super().__post_init__()
        epochs, share = self.joint_epochs, self.convergence
        require("joint_epochs", epochs, 1 <= epochs <= 1_000_000, "from 1 to 1000000")
        if share is not None:
            require("convergence", share, 0 <= share < 1, "in [0, 1)")


@register
class Offline(Finetune):
    """Trains at each task on all frames of all tasks so far, shuffled, again and again.

    It starts each task from the weights of the last one, as the published upper bound does, and
    reads it five times, as that does on videos: a stream that is read once would leave it
    undertrained, and so no bound. What it keeps is the whole data set, which no budget counts: it
    answers how far memory could help.
    """

    name = "offline"
    summary = "joint training: on everything so far at every task"
    paper = "upper bound"
    keeps = "the whole data set"
    Config = OfflineConfig
    offline = True

    def __init__(
        self, network: SplitNetwork, config: OfflineConfig, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(network, config, seed, device)
        self.least_epochs = config.joint_epochs
        # Of the present task: frames, those read so far in all its readings, and the sum of losses
        # in each reading.
        self._frames = self._read = 0
        self._sums = torch.zeros(0, dtype=torch.float64, device=self.device)

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """One step of mean cross entropy over the classes met so far."""
        losses = super().learn(batch)
        if self.config.convergence is not None:
            self._follow(batch, losses["direct"])
        return losses

    def _follow(self, batch: Batch, loss: Tensor) -> None:
        if batch.first_pass:
            if self._read > self._frames:
                self._frames, self._read, self._sums = 0, 0, self._sums[:0]
            self._frames += len(batch)
        reading = 0 if batch.first_pass else self._read // self._frames
        if reading == len(self._sums):
            self._sums = torch.cat([self._sums, self._sums.new_zeros(1)])
        self._sums[reading] += len(batch) * loss.double()
        self._read += len(batch)

    def converged(self) -> bool:
        """Whether the last reading has lowered the mean loss by no more than the share asked for.

        One that came out higher has as well.
        """
        share = self.config.convergence
        if share is None or len(self._sums) < 2:
            return False
        before, last = self._sums[-2:].tolist()
        return last > (1 - share) * before

    def bytes_held(self) -> BytesHeld:
        """Of its own only the losses: the stream hands it all frames of the tasks so far."""
        return BytesHeld(0, 0 if self.config.convergence is None else 16 + self._sums.nbytes)

    def state_dict(self) -> dict[str, Tensor]:
        """Network, generators and momentum; the losses of the readings."""
        if self.config.convergence is None:
            return super().state_dict()
        counts = torch.tensor([self._frames, self._read])
        return super().state_dict() | {"frames": counts, "losses": self._sums}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over :meth:`state_dict` of a learner with the same settings and classes."""
        super().load_state_dict(state)
        if self.config.convergence is not None:
            self._frames, self._read = state["frames"].tolist()
            self._sums = state["losses"].to(self.device)
