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
    """What A-GEM and A-GEM-R have in common."""

    reference_size: int | None = None
    """Exemplars in the reference batch; as many as the batch has images by default."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reference_size is not None:
            holds = 1 <= self.reference_size < 1 << 31
            require("reference_size", self.reference_size, holds, "from 1 to 2^31 - 1")


@dataclass(frozen=True)
class AgemConfig(ReferenceConfig):
    """Settings of A-GEM."""

    write_policy: Literal["end-of-task"] = "end-of-task"
    """Equal shares by a second reading of each task, so that no exemplar is of the present one;
    `agem_r` stores on arrival."""


@dataclass(frozen=True)
class AgemRConfig(ReferenceConfig):
    """Settings of A-GEM-R."""

    write_policy: Literal["reservoir", "on-arrival"] = "reservoir"
    """A plain reservoir over all frames, or a class-balanced one (on-arrival)."""


def project(gradient: Tensor, reference: Tensor) -> Tensor:
    """The nearest gradient that does not increase the loss on the reference batch (equation 11).

    Args:
        gradient: of the new batch, float [P].
        reference: of the exemplars, float [P].

    Returns:
        float [P]: ``gradient`` itself unless its product with ``reference`` is negative.
    """
    conflict = torch.dot(gradient, reference).clamp(max=0)
    # Only a reference of zeros has no length, and that conflicts with nothing.
    length = torch.dot(reference, reference).clamp(min=torch.finfo(reference.dtype).tiny)
    return gradient - conflict / length * reference


@register
class Agem(PolicyRehearsal):
    """Each step goes along the gradient of the new batch, less what conflicts with the past.

    The past is the gradient of one batch drawn from the memory anew at each step. The memory holds
    past tasks alone, as in the paper: images of the present one would agree with its gradient and
    let it forget. So it is written when a task is over; for a single pass there is ``agem_r``. The
    paper hands the network the task of each image; here all classes met so far compete, as for
    every method. Gradients are clipped as for every method, after the projection.

    The original program goes through the whole memory at every step and sums over batches of three
    images: a different and far slower method. Its images are 64 x 64; ours are the backbone's.
    """

    name = "agem"
    summary = "gradients that do not conflict with a batch of exemplars"
    paper = "Chaudhry et al., ICLR 2019"
    keeps = "images or feature maps"
    Config = AgemConfig
    needs_task_boundaries = True
    needs_second_pass = True

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """One step along the projected gradient; then the memory's."""
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
    """A-GEM whose memory is a reservoir of all frames so far, those of the present task included.

    It needs no task boundaries and shows each frame once. What it gives up for that is the point of
    A-GEM: the more of the memory is of the present task, the less the reference gradient conflicts
    with its steps. The variant and its name are Buzzega et al.'s ("Dark Experience for General
    Continual Learning", NeurIPS 2020).
    """

    name = "agem_r"
    summary = "A-GEM with a reservoir, for a single pass"
    paper = "Buzzega et al., NeurIPS 2020"
    Config = AgemRConfig
    needs_task_boundaries = False
    needs_second_pass = False
