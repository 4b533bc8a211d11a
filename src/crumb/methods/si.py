"""SI: synaptic intelligence.

Zenke, Poole, Ganguli, "Continual Learning Through Synaptic Intelligence", ICML 2017
(arXiv 1703.04200), equations 3 to 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from crumb.data.batches import Batch, Batches
from crumb.errors import require
from crumb.methods.base import BytesHeld, strip_prefix
from crumb.methods.described import Ranges
from crumb.methods.penalty import (
    Named,
    PenaltyConfig,
    PenaltyLearner,
    Slot,
    copies,
    gradients_of,
    nbytes,
    restored,
    with_rows,
    zeros,
)
from crumb.methods.registry import register
from crumb.methods.training import MAX_FLOAT
from crumb.nets.split import SplitNetwork


@dataclass(frozen=True)
class SIConfig(PenaltyConfig):
    """Settings of SI."""

    regularisation: float = 10.0
    """Weight of the penalty (the paper's c; its authors' experiments have 0.01 to 0.2)."""
    damping: float = 0.001
    """Damping that keeps the importance finite for weights that hardly moved (the paper's xi).
    Pretrained weights move only by hundredths, so 0.1 would remove all importance."""

    def __post_init__(self) -> None:
        super().__post_init__()
        holds = 0 < self.damping <= MAX_FLOAT
        require("damping", self.damping, holds, f"above 0 and at most {MAX_FLOAT:g}")


@register
class SI(PenaltyLearner):
    """Cross entropy + regularisation * sum Omega (theta - theta*)^2, theta* of the last task.

    During a task, omega sums the contribution of each weight to the loss: -g * (actual step), with
    g the gradient of the cross entropy alone, before clipping. At its end

        Omega <- max(0, Omega + omega / ((change over the task)^2 + damping)),   omega <- 0

    The max(0, .) is not in the paper but in the authors' code. Without it, a weight that increased
    the loss would be pushed away from its anchor without bound.

    The original code resets omega after every epoch, so with ten epochs it divides the path of the
    last epoch by the change over all ten. Here omega covers the whole task.

    Attributes:
        path: omega, of the shape of each parameter; empty before the first step.
    """

    name = "si"
    summary = "weights anchored by their contribution to the loss"
    paper = "Zenke et al., ICML 2017"
    keeps = "weights of the last task, importances, path"
    Config = SIConfig
    supports_best_epoch = False
    tuned: ClassVar[Ranges] = {"regularisation": (0.01, 1e4)}

    def __init__(
        self, network: SplitNetwork, config: Any, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(network, config, seed, device)
        self.path: Named = {}

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step of cross entropy + regularisation * penalty, and extend the path."""
        self._begin()
        parameters, before = self.parameters(), copies(self.parameters())
        loss = self.direct_loss(batch)
        losses = {"direct": loss.detach()}
        gradients = gradients_of(loss, parameters)
        # Linear in the gradient of the loss, so one backward pass is enough.
        total = torch.stack([(gradients[name] * p).sum() for name, p in parameters.items()]).sum()
        if (penalty := self.penalty(parameters)) is not None:
            losses["penalty"] = penalty.detach()
            total = total + self.config.regularisation * penalty
        self.step(total)
        for name, p in parameters.items():
            self.path[name] -= gradients[name] * (p.detach() - before[name])
        return losses

    def _begin(self) -> None:
        """Before the first step, start the path of the first task at the initial weights."""
        if not self.penalty.slots:
            self.penalty.slots = [Slot(copies(self.parameters()), {})]
            self.path = zeros(self.parameters())

    def end_task(self, batches: Batches) -> None:
        """Turn the path into importance and the current weights into anchors, without reading
        data.
        """
        self._begin()
        (slot,) = self.penalty.slots
        importances = {}
        for name, p in self.parameters().items():
            change = p.detach() - slot.anchors[name]
            gained = self.path[name] / (change.square() + self.config.damping)
            importances[name] = (slot.importances.get(name, 0) + gained).clamp_(min=0)
        self.penalty.slots = [Slot(copies(self.parameters()), importances)]
        self.path = zeros(self.parameters())
        super().end_task(batches)

    def _resize_head(self, outputs: int, keep: int | None = None) -> None:
        super()._resize_head(outputs, keep)
        if self.path:
            kept = len(self.classes) if keep is None else keep
            self.path = with_rows(self.path, zeros(self.head_parameters()), kept)

    def bytes_held(self) -> BytesHeld:
        """No exemplars; anchors, importances, the classes of the task and the path."""
        return BytesHeld(0, super().bytes_held().extra + nbytes(self.path))

    def state_dict(self) -> dict[str, Tensor]:
        """Network, generators and momentum; anchors, importances and the path."""
        return super().state_dict() | {f"path.{name}": value for name, value in self.path.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the :meth:`state_dict` of a learner with the same settings and classes."""
        super().load_state_dict(state)
        self.path = (
            restored(strip_prefix(state, "path."), self.parameters()) if self.penalty.slots else {}
        )
