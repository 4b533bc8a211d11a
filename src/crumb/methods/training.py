"""Settings of methods that train by gradient descent."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

from crumb.errors import InputError, require, setting
from crumb.kinds import check_kinds

if TYPE_CHECKING:
    from crumb.nets.split import SplitNetwork

PretrainedParts = Literal["both", "weights", "blocks"]
"""What a learner takes over from pretraining."""

MAX_FLOAT = 1e38
"""The largest float32 is 3.4e38."""


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of every learner that trains by gradient descent."""

    lr: float = 0.001
    """Learning rate of SGD, constant."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 0.0001
    """Weight decay of SGD, added after the clipping."""
    clip: float = 10.0
    """Gradient elements are clipped to [-CLIP, CLIP]."""

    def __post_init__(self) -> None:
        check_kinds(self)
        most = f"at most {MAX_FLOAT:g}"
        require("lr", self.lr, 0 < self.lr <= MAX_FLOAT, f"above 0 and {most}")
        require("momentum", self.momentum, 0 <= self.momentum < 1, "in [0, 1)")
        decay = self.weight_decay
        require("weight_decay", decay, 0 <= decay <= MAX_FLOAT, f"at least 0 and {most}")
        require("clip", self.clip, 0 < self.clip <= MAX_FLOAT, f"above 0 and {most}")

    @property
    def least_lr(self) -> float:
        """Lower bound of the learning rate, given the other settings."""
        return 0.0


def require_compute_budget(maps: int) -> None:
    """Refuse a compute budget that leaves nothing for replay, or is beyond all use.

    Raises:
        InputError: the number of maps per image is out of range.
    """
    require("compute_budget", maps, 2 <= maps <= 1 << 20, "from 2 to 2^20")


@dataclass(frozen=True)
class ComputeConfig:
    """Settings of the computation per new image."""

    compute_budget: int | None = None
    """Number of feature maps through the tail per new image, new and replayed ones together. It
    sets how many exemplars are replayed. Default: as many as the method replays by itself."""

    def check_budget(self, *replaced: str) -> None:
        """Check the budget; ``replaced`` are the settings that it replaces.

        Raises:
            InputError: it leaves nothing for replay, or one of these settings is given too.
        """
        if (budget := self.compute_budget) is None:
            return
        require_compute_budget(budget)
        usual = {field.name: field.default for field in fields(self)}
        for name in replaced:
            if (value := getattr(self, name)) != usual[name]:
                problem = f"has no effect with {setting('compute_budget', budget)}"
                raise InputError(setting(name, value), problem, "leave one of them out")


def refuse_trainable_front(network: SplitNetwork) -> None:
    """Refuse settings that methods with coded features cannot use.

    Raises:
        InputError: the feature extractor is trained, so stored codes would become stale.
    """
    if network.config.trainable == "all":
        problem = "leaves no fixed features to encode"
        raise InputError(
            setting("trainable", "all"),
            problem,
            f"use {setting('trainable', 'tail')}, or {setting('storage', 'image')}",
        )
