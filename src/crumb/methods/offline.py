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
    """Minimum number of epochs over all data so far at each task (EPOCHS and EPOCHS-FIRST-TASK may
    ask for more)."""
    convergence: float | None = None
    """Stop a task early when an epoch lowers the mean training loss by less than this share. With
    0.01 and JOINT-EPOCHS 100 it trains until convergence."""

    def __post_init__(self) -> None:
        super().__post_init__()
        epochs, share = self.joint_epochs, self.convergence
        require("joint_epochs", epochs, 1 <= epochs <= 1_000_000, "from 1 to 1000000")
        if share is not None:
            require("convergence", share, 0 <= share < 1, "in [0, 1)")


@register
class Offline(Finetune):
    """Trains at each task on all frames of all tasks so far, shuffled, for several epochs.

    Like the published upper bound, it starts each task from the weights of the last one and trains
    for five epochs on videos. After a single epoch it would be undertrained and no bound. It keeps
    the whole data set, which no budget counts, and so shows how much memory could help.
    """

    name = "offline"
    summary = "joint training on all data so far at each task"
    paper = "upper bound"
    keeps = "the whole data set"
    Config = OfflineConfig
    offline = True

    def __init__(
        self, network: SplitNetwork, config: OfflineConfig, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(network, config, seed, device)
        self.least_epochs = config.joint_epochs
        # Current task: number of frames, frames read so far, and the sum of losses per epoch.
        self._frames = self._read = 0
        self._sums = torch.zeros(0, dtype=torch.float64, device=self.device)

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step of mean cross entropy over the classes seen so far."""
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
        """Whether the last epoch lowered the mean loss by no more than the requested share.

        A higher loss counts too.
        """
        share = self.config.convergence
        if share is None or len(self._sums) < 2:
            return False
        before, last = self._sums[-2:].tolist()
        return last > (1 - share) * before

    def bytes_held(self) -> BytesHeld:
        """Only the losses; the stream provides all frames of the tasks so far."""
        return BytesHeld(0, 0 if self.config.convergence is None else 16 + self._sums.nbytes)

    def state_dict(self) -> dict[str, Tensor]:
        """Network, generators and momentum; the losses of the epochs."""
        if self.config.convergence is None:
            return super().state_dict()
        counts = torch.tensor([self._frames, self._read])
        return super().state_dict() | {"frames": counts, "losses": self._sums}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the :meth:`state_dict` of a learner with the same settings and classes."""
        super().load_state_dict(state)
        if self.config.convergence is not None:
            self._frames, self._read = state["frames"].tolist()
            self._sums = state["losses"].to(self.device)
