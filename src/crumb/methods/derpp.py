"""DER++: dark experience replay with labels.

Buzzega, Boschini, Porrello, Abati, Calderara, "Dark Experience for General Continual Learning: a
Strong, Simple Baseline", NeurIPS 2020, arXiv 2004.07211, equation 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy

from crumb.methods.der import Der, DerConfig, check_weight
from crumb.methods.described import Ranges
from crumb.methods.registry import register


@dataclass(frozen=True)
class DerppConfig(DerConfig):
    """Settings of DER++; the coefficients are the authors' for CIFAR-10 and 500 exemplars."""

    alpha: float = 0.2
    """Weight of the squared difference between logits and stored logits."""
    beta: float = 0.5
    """Weight of the cross entropy of exemplars."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weight("beta", self.beta)


@register
class Derpp(Der):
    """DER with the cross entropy of a second draw of exemplars.

    Each step is on

        CE(tail(features), labels) + alpha * mean((tail(exemplars) - stored logits)^2)
        + beta * CE(tail(other exemplars), their labels)

    The two draws are independent, as in the authors' program. Otherwise as ``der``.
    """

    name = "derpp"
    summary = "DER, and cross entropy on a second draw of exemplars"
    Config = DerppConfig
    tuned: ClassVar[Ranges] = {"alpha": (0.05, 2.0), "beta": (0.1, 2.0)}
    draws = 2

    def replayed(self, count: int) -> dict[str, tuple[float, Tensor]]:
        """Losses on two draws of this many exemplars, with their weights."""
        losses = super().replayed(count)
        features, labels = self.exemplars.sample(count, self.generators["replay"])
        logits = self.network(features)
        loss = cross_entropy(logits, labels.to(logits.device, non_blocking=True))
        return losses | {"replay": (self.config.beta, loss)}
