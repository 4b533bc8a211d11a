"""Stable SGD: reduces forgetting by the training regime alone.

Mirzadeh, Farajtabar, Pascanu, Ghasemzadeh, "Understanding the Role of Training Regimes in Continual
Learning", NeurIPS 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from crumb.errors import InputError, require, setting
from crumb.methods.base import BytesHeld
from crumb.methods.described import Ranges
from crumb.methods.finetune import Finetune
from crumb.methods.registry import register
from crumb.methods.training import MAX_FLOAT, TrainingConfig
from crumb.nets.split import SplitNetwork


@dataclass(frozen=True)
class StableSgdConfig(TrainingConfig):
    """Settings of Stable SGD; all but the rate are those of the published runs on Toybox.

    Their rate, 0.015, is for a network trained from nothing: it leaves a pretrained
    EfficientNet-Lite0 at chance, as 0.005 does not.
    """

    lr: float = 0.005
    """Initial learning rate of SGD; a large one is part of the method."""
    momentum: float = 0.8
    """Momentum of SGD."""
    gamma: float = 0.85
    """Factor of the learning rate at the start of each task, including the first."""
    lr_floor: float = 5e-5
    """Lower bound of the learning rate."""
    head_dropout: float = 0.25
    """Dropout probability before the last layer, if the tail has no dropout of its own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require("gamma", self.gamma, 0 < self.gamma <= 1, "above 0 and at most 1")
        dropout, floor = self.head_dropout, self.lr_floor
        require("head_dropout", dropout, 0 <= dropout < 1, "in [0, 1)")
        most = f"at least 0 and at most {MAX_FLOAT:g}"
        require("lr_floor", floor, 0 <= floor <= MAX_FLOAT, most)
        if floor > self.lr:
            raise InputError(
                setting("lr_floor", floor),
                f"is above {setting('lr', self.lr)}",
                "give a floor below the rate",
            )

    @property
    def least_lr(self) -> float:
        """The floor."""
        return self.lr_floor


@register
class StableSgd(Finetune):
    """Fine-tuning with a learning rate that decays from task to task: max(lr * gamma^t, lr_floor).

    A large rate, dropout and small batches lead the first task to a wide minimum, and smaller rates
    then stay near it (section 4 of the paper). Dropout is the network's ``--dropout`` or, where its
    tail has none, before the last layer; the batch is the stream's ``--batch-size``. t counts from
    1, as in the authors' program. One optimizer goes through all tasks with its momentum; the
    program makes a new one for each epoch, of which the paper says nothing. The program masks
    outputs by task, in training for one data set and in tests for another; here nothing is told the
    task. Gradients are clipped as for all methods.
    """

    name = "stable_sgd"
    summary = "SGD with dropout, its rate falls with each task"
    paper = "Mirzadeh et al., NeurIPS 2020"
    keeps = "nothing"
    Config = StableSgdConfig
    tuned: ClassVar[Ranges] = {"gamma": (0.4, 1.0)}
    needs_task_boundaries = True

    def __init__(
        self, network: SplitNetwork, config: StableSgdConfig, seed: int = 0, device: str = "cpu"
    ) -> None:
        if not network.drops:
            network.drop_before_head(config.head_dropout)
        super().__init__(network, config, seed, device)
        self._tasks = 0

    def begin_task(self, names: Sequence[str]) -> None:
        """Add the classes and lower the learning rate."""
        super().begin_task(names)
        self._count_tasks(self._tasks + 1)

    def _count_tasks(self, tasks: int) -> None:
        self._tasks = tasks
        rate = max(self.config.lr * self.config.gamma**tasks, self.config.lr_floor)
        self.optimizer.param_groups[0]["lr"] = rate

    def bytes_held(self) -> BytesHeld:
        """The number of tasks."""
        return BytesHeld(0, 8)

    def state_dict(self) -> dict[str, Tensor]:
        """Network, generators and momentum; the number of tasks, which determines the learning
        rate.
        """
        return super().state_dict() | {"tasks": torch.tensor(self._tasks)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the :meth:`state_dict` of a learner with the same settings and classes."""
        super().load_state_dict(state)
        self._count_tasks(int(state["tasks"]))
