"""LwF: learning without forgetting.

Li, Hoiem, "Learning without Forgetting", ECCV 2016.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from crumb.data.batches import Batch, Batches
from crumb.errors import require
from crumb.methods.base import MOST_FLOAT, BytesHeld, Learner, Ranges, TrainingConfig, under
from crumb.methods.previous import PreviousNetwork
from crumb.methods.registry import register
from crumb.nets.split import SplitNetwork


@dataclass(frozen=True)
class LwfConfig(TrainingConfig):
    """Settings of LwF."""

    distillation: float = 1.0
    """Weight of the distillation from the network of the last task (the paper's lambda_o)."""
    temperature: float = 2.0
    """Both outputs are divided by it before the softmax of the distillation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        weight, most = self.distillation, f"at least 0 and at most {MOST_FLOAT:g}"
        require("distillation", weight, 0 <= weight <= MOST_FLOAT, most)
        require_temperature(self.temperature)


def require_temperature(temperature: float) -> None:
    """Refuse one with which tempered logits or the square of it leave float32."""
    holds = 0.01 <= temperature <= 1000
    require("temperature", temperature, holds, "from 0.01 to 1000")


@register
class Lwf(Learner):
    """Keeps, on new images, the answers that the network of the last task gives about old classes.

    The loss is the paper's sum of two, L_new (equation 1) and lambda_o * L_old (equations 2 and 3),
    in a single head: the new images' cross entropy is over all classes met so far, and L_old
    compares the softmaxes, at a temperature of 2, over the classes of the tasks before. L_old is
    written as a Kullback-Leibler divergence, which differs from the paper's cross entropy by a
    constant, and carries the square of the temperature, with which its gradients keep their size
    whatever the temperature (Hinton et al. 2015); the paper has no such factor. The paper's phase
    that trains the new outputs alone is left out: in a stream each image is met once.

    The published program has another loss, the binary cross entropy of each output, with the old
    network's sigmoids as targets; it is not this paper's. Gradients are clipped as for all methods.
    """

    name = "lwf"
    summary = "distils from the network of the last task"
    paper = "Li and Hoiem, ECCV 2016"
    keeps = "a copy of the tail"
    Config = LwfConfig
    tuned: ClassVar[Ranges] = {"distillation": (0.1, 10.0)}
    needs_task_boundaries = True

    def __init__(
        self, network: SplitNetwork, config: LwfConfig, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(network, config, seed, device)
        self.previous = PreviousNetwork(self.network)

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """One step of L_new + distillation * L_old; no L_old in the first task."""
        logits = self.active(self.network(batch.features))
        labels = batch.labels.to(logits.device, non_blocking=True)
        losses = {"classification": cross_entropy(logits, labels)}
        loss = losses["classification"]
        if old := self.previous.classes:
            targets = self.previous.logits(batch.features)
            losses["distillation"] = distillation(logits[:, :old], targets, self.config.temperature)
            loss = loss + self.config.distillation * losses["distillation"]
        self.step(loss)
        return {name: loss.detach() for name, loss in losses.items()}

    def end_task(self, batches: Batches) -> None:
        """Copy the network; the task is not read again."""
        self.previous.remember(len(self.classes))

    def bytes_held(self) -> BytesHeld:
        """The copy of the network."""
        return BytesHeld(0, self.previous.nbytes)

    def state_dict(self) -> dict[str, Tensor]:
        """Network, generators and momentum; the copy."""
        copied = {f"previous.{name}": v for name, v in self.previous.state_dict().items()}
        return super().state_dict() | copied

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over :meth:`state_dict` of a learner with the same settings and classes."""
        super().load_state_dict(state)
        self.previous.load_state_dict(under(state, "previous."))


def distillation(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(softmax(targets / T) || softmax(logits / T)), the mean over images.

    Args:
        logits: of the network that learns, float [B, K].
        targets: logits of the one it learns from, float [B, K].
        temperature: T.
    """
    new, old = (log_softmax(values / temperature, 1) for values in (logits, targets))
    return temperature**2 * kl_div(new, old, reduction="batchmean", log_target=True)
