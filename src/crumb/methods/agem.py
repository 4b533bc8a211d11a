"""A-GEM and A-GEM-R: averaged gradient episodic memory.

Chaudhry, Ranzato, Rohrbach, Elhoseiny, "Efficient Lifelong Learning with A-GEM", ICLR 2019,
arXiv 1812.00420.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from crumb.data.batches import Batch
from crumb.errors import require
from crumb.methods.optimisation import flat_gradient, set_flat_gradient
from crumb.methods.registry import register
from crumb.methods.rehearsal import PolicyRehearsal, PolicyRehearsalConfig


@dataclass(frozen=True)
class ReferenceConfig(PolicyRehearsalConfig):
    """Settings shared by A-GEM and A-GEM-R."""

    draw_policy: Literal["uniform"] = "uniform"  # pyright: ignore[reportIncompatibleVariableOverride]
    """No other draw: the reference batch is a random one."""
    reference_size: int | None = None
    """Number of exemplars in the reference batch. Default: the batch size."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reference_size is not None:
            holds = 1 <= self.reference_size < 1 << 31
            require("reference_size", self.reference_size, holds, "from 1 to 2^31 - 1")


@dataclass(frozen=True)
class AgemConfig(ReferenceConfig):
    """Settings of A-GEM."""

    write_policy: Literal["end-of-task"] = "end-of-task"
    """Equal shares per class, in a second pass over each task, so no exemplar is of the current
    task. For storing on arrival use `agem_r`."""


@dataclass(frozen=True)
class AgemRConfig(ReferenceConfig):
    """Settings of A-GEM-R."""

    write_policy: Literal["reservoir", "on-arrival", "greedy"] = "reservoir"
    """How exemplars are chosen: plain reservoir over all frames (reservoir), class-balanced
    reservoir (on-arrival), or the first frames of each class (greedy)."""


def project(gradient: Tensor, reference: Tensor) -> Tensor:
    """Project a gradient so that it does not increase the loss on the reference batch (equation
    11).

    Args:
        gradient: gradient of the new batch, float [P].
        reference: reference of the exemplars, float [P].

    Returns:
        float [P]: ``gradient`` itself unless its product with ``reference`` is negative.
    """
    conflict = torch.dot(gradient, reference).clamp(max=0)
    # Only a zero reference has zero length, and it conflicts with nothing.
    length = torch.dot(reference, reference).clamp(min=torch.finfo(reference.dtype).tiny)
    return gradient - conflict / length * reference


@register
class Agem(PolicyRehearsal):
    """Each step follows the gradient of the new batch, minus the part that conflicts with the past.

    The past is represented by the gradient of a batch drawn from the memory at each step. As in the
    paper, the memory holds only past tasks: images of the current task would agree with its
    gradient and permit forgetting. So the memory is written at the end of a task. For a single pass
    use ``agem_r``. The paper gives the network the task of each image. Here all classes seen so far
    compete, as for every method. Gradients are clipped as for every method, after the projection.

    The original code processes the whole memory at every step and sums over batches of three
    images, which is a different and far slower method. Its images are 64 x 64; ours are the
    backbone's.
    """

    name = "agem"
    summary = "gradients that do not conflict with a batch of exemplars"
    paper = "Chaudhry et al., ICLR 2019"
    keeps = "images or feature maps"
    Config = AgemConfig
    why_no_budget = "the reference batch holds no exemplar twice"
    needs_task_boundaries = True
    needs_second_pass = True

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step along the projected gradient, then update the memory."""
        parameters = [*self.parameters().values()]
        losses: dict[str, Tensor] = {}
        reference = None
        if held := len(self.exemplars):
            count = min(held, self.config.reference_size or len(batch))
            losses["replay"] = self.loss(*self.exemplars.sample(count, self.generators["replay"]))
            self.backward(losses["replay"])
            reference = flat_gradient(parameters)
        losses["direct"] = self.loss(batch.features, batch.labels)
        self.backward(losses["direct"])
        if reference is not None:
            set_flat_gradient(parameters, project(flat_gradient(parameters), reference))
        self.descend()
        self.exemplars.on_batch(batch)
        return {name: loss.detach() for name, loss in losses.items()}


@register
class AgemR(Agem):
    """A-GEM with a reservoir of all frames so far, including those of the current task.

    It needs no task boundaries and a single pass. The price: the more of the memory belongs to the
    current task, the less the reference gradient conflicts with its steps. The variant and its name
    are Buzzega et al.'s ("Dark Experience for General Continual Learning", NeurIPS 2020).
    """

    name = "agem_r"
    summary = "A-GEM with a reservoir, for a single pass"
    paper = "Buzzega et al., NeurIPS 2020"
    Config = AgemRConfig
    needs_task_boundaries = False
    needs_second_pass = False
