"""DER: dark experience replay.

Buzzega, Boschini, Porrello, Abati, Calderara, "Dark Experience for General Continual Learning: a
Strong, Simple Baseline", NeurIPS 2020, arXiv 2004.07211.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from crumb.data.batches import Batch
from crumb.errors import require
from crumb.memory.payload import Field, Fields
from crumb.methods.described import Ranges
from crumb.methods.registry import register
from crumb.methods.rehearsal import PolicyRehearsal, PolicyRehearsalConfig
from crumb.methods.training import MAX_FLOAT
from crumb.nets.split import SplitNetwork

_AT_ONCE = 64


@dataclass(frozen=True)
class DerConfig(PolicyRehearsalConfig):
    """Settings of DER; the coefficient is the authors' for CIFAR-10 and 500 exemplars."""

    write_policy: Literal["reservoir", "on-arrival", "greedy"] = "reservoir"  # pyright: ignore[reportIncompatibleVariableOverride]
    """How exemplars are chosen: plain reservoir over all frames (reservoir, as in the paper),
    class-balanced reservoir (on-arrival), or the first frames of each class (greedy). Logits are
    those of the moment of arrival, so all of them store on arrival."""
    alpha: float = 0.3
    """Weight of the squared difference between logits and stored logits."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weight("alpha", self.alpha)


def check_weight(name: str, value: float) -> None:
    """Refuse a negative or infinite weight of a loss."""
    require(name, value, 0 <= value <= MAX_FLOAT, f"at least 0 and at most {MAX_FLOAT:g}")


@register
class Der(PolicyRehearsal):
    """Exemplars keep the logits that the network had for them when they were stored.

    Each step is on

        CE(tail(features), labels) + alpha * mean((tail(exemplars) - stored logits)^2)

    with as many exemplars as new images. The stored logits are those of the training pass in which
    the exemplar arrived, before the step. No label of an exemplar is used.

    As in the authors' program, both losses are over all outputs of the network, including those
    that no class uses yet. The cross entropy of early classes pushes the free outputs down, and the
    stored logits hold them down for old exemplars when new classes take them. Without the free
    outputs nothing would, and ``der`` forgets as fine-tuning does. The authors' network has an
    output for each class of the data set, and so has the network of a stream. A learner that is
    created in Python has 16 outputs, and twice as many whenever they are used up. Exemplars then
    get the logits of the new outputs, in one pass over the memory. Predictions are over the classes
    seen so far.

    Stored logits are float32, one for each output, and count as bytes. Each epoch of a task offers
    its frames to the memory, as in that program, so a frame may be stored twice. The first epoch
    alone would store the logits of a network that has not learned the task yet. In a single pass,
    early exemplars have such logits, and ``derpp`` is the better choice. The authors augment new
    images and exemplars with random crops, which nothing here does, and use a learning rate of 0.03
    without momentum. Gradients are clipped as for every method.
    """

    name = "der"
    summary = "exemplars are to keep the logits that they were stored with"
    paper = "Buzzega et al., NeurIPS 2020"
    keeps = "images or feature maps, logits"
    Config = DerConfig
    why_no_budget = ""
    tuned: ClassVar[Ranges] = {"alpha": (0.05, 2.0)}
    draws: ClassVar[int] = 1
    """Draws of exemplars in each step."""

    def __init__(
        self, network: SplitNetwork, config: DerConfig, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(network, config, seed, device)
        self.wants_images = self.needs_images

    def fields(self) -> Fields:
        """The logits of all outputs."""
        return {"logits": Field((self.network.outputs,), torch.float32)}

    # The update rule.

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on new images and exemplars, then store images with their logits."""
        count = self.replay_count(len(batch), draws=self.draws)
        logits = self.network(batch.features)
        labels = batch.labels.to(logits.device, non_blocking=True)
        losses = {"direct": cross_entropy(logits, labels)}
        total = losses["direct"]
        if count and len(self.exemplars):
            for name, (weight, loss) in self.replayed(count).items():
                losses[name] = loss
                total = total + weight * loss
        self.step(total)
        # Each epoch stores.
        self.exemplars.on_batch(replace(batch, first_pass=True), {"logits": logits})
        return {name: loss.detach() for name, loss in losses.items()}

    def replayed(self, count: int) -> dict[str, tuple[float, Tensor]]:
        """Losses on this many exemplars, with their weights."""
        generator = self.generators["replay"]
        features, _, payload = self.exemplars.sample_with_payload(count, generator)
        now = self.network(features)
        return {"logits": (self.config.alpha, mse_loss(now, payload["logits"].to(now.device)))}

    # The rest of the contract.

    def _resize_head(self, outputs: int, keep: int | None = None) -> None:
        super()._resize_head(outputs, keep)
        self.exemplars.resize_field("logits", outputs)
        memory = self.exemplars.memory
        with self.inference():
            for label in memory.counts:
                stored, known = memory.payload_of(label)["logits"], len(self.classes)
                fresh = [
                    self.network(self.exemplars.storage.features(rows))[:, known:].cpu()
                    for rows in memory.class_rows(label).split(_AT_ONCE)
                ]
                values = torch.cat([stored[:, :known], torch.cat(fresh)], 1)
                memory.replace_field(label, "logits", values)
