"""LwF: learning without forgetting.

Li, Hoiem, "Learning without Forgetting", ECCV 2016.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from crumb.data.batches import Batch
from crumb.errors import require
from crumb.methods.described import Ranges
from crumb.methods.previous import Distiller
from crumb.methods.registry import register
from crumb.methods.training import MAX_FLOAT, TrainingConfig


@dataclass(frozen=True)
class LwfConfig(TrainingConfig):
    """Settings of LwF."""

    distillation: float = 1.0
    """Weight of the distillation from the network of the last task (the paper's lambda_o)."""
    temperature: float = 2.0
    """Temperature of the distillation softmax."""

    def __post_init__(self) -> None:
        super().__post_init__()
        weight, most = self.distillation, f"at least 0 and at most {MAX_FLOAT:g}"
        require("distillation", weight, 0 <= weight <= MAX_FLOAT, most)
        require_temperature(self.temperature)


def require_temperature(temperature: float) -> None:
    """Refuse temperatures at which scaled logits or the squared temperature leave float32."""
    holds = 0.01 <= temperature <= 1000
    require("temperature", temperature, holds, "from 0.01 to 1000")


@register
class Lwf(Distiller):
    """Distils the outputs for old classes from the network of the last task, on new images.

    The loss is a sum of two, as the paper's: L_new (equation 1) and lambda_o * L_old (equations 2
    and 3), in a single head. L_new is the cross entropy of the softmax over the outputs of the
    present task alone: those of classes that the network of the last task does not know, and of
    known ones that the task shows again. Over all outputs it would push those of absent classes
    down, image by image, and no distillation could hold them. L_old compares the softmaxes, at a
    temperature of 2, over the classes of the tasks before that the present one has not shown: one
    softmax for all, as is usual for a single head, where the paper sums over one for each old task.
    It is written as a Kullback-Leibler divergence, which differs from the paper's cross entropy by
    a constant, and carries the square of the temperature, with which its gradients keep their size
    whatever the temperature (Hinton et al. 2015); the paper has no such factor. The paper's phase
    that trains the new outputs alone is left out: in a stream each image is met once. The paper is
    told the task of a test image; here all classes met so far compete, as for every method.

    The program behind the published comparison has another loss, that of ``lwf_mc``. Gradients are
    clipped as for all methods.
    """

    name = "lwf"
    summary = "distils from the network of the last task"
    paper = "Li and Hoiem, ECCV 2016"
    keeps = "a copy of the tail"
    Config = LwfConfig
    tuned: ClassVar[Ranges] = {"distillation": (0.1, 10.0)}

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step of L_new + distillation * L_old (without L_old in the first task)."""
        self.previous.show(batch.labels)
        logits = self.active(self.network(batch.features))
        labels = batch.labels.to(logits.device, non_blocking=True)
        losses = {"classification": cross_entropy(self.previous.without_old(logits), labels)}
        loss = losses["classification"]
        # A class that the task shows again is learned from labels, not distilled.
        if len(old := self.previous.old(self.previous.known).nonzero().flatten()):
            old = old.to(logits.device)
            targets = self.previous.logits(batch.features)[:, old]
            losses["distillation"] = distillation(logits[:, old], targets, self.config.temperature)
            loss = loss + self.config.distillation * losses["distillation"]
        self.step(loss)
        return {name: loss.detach() for name, loss in losses.items()}


def distillation(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(softmax(targets / T) || softmax(logits / T)), the mean over images.

    Args:
        logits: logits of the trained network, float [B, K].
        targets: logits of the teacher network, float [B, K].
        temperature: T.
    """
    new, old = (log_softmax(values / temperature, 1) for values in (logits, targets))
    return temperature**2 * kl_div(new, old, reduction="batchmean", log_target=True)
