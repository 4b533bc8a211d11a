"""MIR: maximally interfered retrieval.

Aljundi, Caccia, Belilovsky, Caccia, Lin, Charlin, Tuytelaars, "Online Continual Learning with
Maximally Interfered Retrieval", NeurIPS 2019, arXiv 1908.04742.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from crumb.data.batches import Batch
from crumb.errors import require
from crumb.methods.registry import register
from crumb.methods.rehearsal import PolicyRehearsal, ReservoirConfig


@dataclass(frozen=True)
class MirConfig(ReservoirConfig):
    """Settings of MIR."""

    draw_policy: Literal["uniform"] = "uniform"  # pyright: ignore[reportIncompatibleVariableOverride]
    """No other draw: the exemplars whose loss would increase most are replayed."""
    candidates: int = 50
    """Number of random exemplars that are compared at each step. As many of them as the batch has
    images are replayed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require("candidates", self.candidates, 1 <= self.candidates < 1 << 31, "from 1 to 2^31 - 1")


@register
class Mir(PolicyRehearsal):
    """Replays the exemplars whose loss a step on the new batch would increase most.

    A virtual step on the new batch gives weights theta - lr * gradient. Of ``candidates`` random
    exemplars, those with the largest CE(virtual weights) - CE(weights) are replayed, as many as the
    batch has images. The step is on the sum of two mean cross entropies, of the new batch and of
    these exemplars. This is criterion MI-1 of the paper. If there are fewer candidates than
    the batch has images, all are replayed once.

    The virtual step is plain, as in the authors' program, which has no momentum or weight decay in
    its real steps either. The real step here has both, as for every method. That program leaves
    exemplars of the current task out and replays nothing in the first task. Here any exemplar may
    be replayed, which needs no task boundaries. Losses of candidates are computed without dropout.
    Gradients are clipped as for every method, also in the virtual step.

    Each step runs the tail over the candidates twice, without gradients.
    """

    name = "mir"
    summary = "replays exemplars whose loss the new batch would increase most"
    paper = "Aljundi et al., NeurIPS 2019"
    keeps = "images or feature maps"
    Config = MirConfig
    why_no_budget = "candidates pass through the tail before they are chosen"

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on new images and the exemplars they interfere with, then update the
        memory.
        """
        losses = {"direct": self.loss(batch.features, batch.labels)}
        self.backward(losses["direct"])
        if held := len(self.exemplars):
            count = min(held, self.config.candidates)
            features, labels = self.exemplars.sample(count, self.generators["replay"])
            chosen = self.interference(features, labels).argsort(descending=True, stable=True)
            chosen = chosen[: len(batch)]
            losses["replay"] = self.loss(features[chosen], labels[chosen.to(labels.device)])
            # Added to the gradient of the new batch.
            losses["replay"].backward()
        self.descend()
        self.exemplars.on_batch(batch)
        return {name: loss.detach() for name, loss in losses.items()}

    def interference(self, features: Tensor, labels: Tensor) -> Tensor:
        """Increase of the loss of each exemplar by a virtual step along the current gradient.

        Args:
            features: float [n, C, H, W].
            labels: int64 [n].

        Returns:
            float [n]; the weights of the network do not change.
        """
        lr, clip = self.config.lr, self.config.clip
        labels = labels.to(features.device, non_blocking=True)
        with self.inference():
            virtual: dict[str, Tensor] = {
                name: p if p.grad is None else p - lr * p.grad.clamp(-clip, clip)
                for name, p in self.parameters().items()
            }
            before = self.active(self.network(features))
            after = self.active(functional_call(self.network, virtual, (features,)))
            return _losses(after, labels) - _losses(before, labels)


def _losses(logits: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(logits, labels, reduction="none")
