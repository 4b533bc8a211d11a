"""A network whose tail is one linear layer on two features, for steps worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from crumb.data.batches import Batch
from crumb.nets.config import Backbone, NetworkConfig, Preprocessing
from crumb.nets.split import SplitNetwork

PLAIN: dict[str, Any] = {
    "lr": 0.5,
    "momentum": 0.0,
    "weight_decay": 0.0,
    "storage": "raw_feature",
    "memory_size": 8,
}
"""Settings with which a step is the gradient times the learning rate."""


class TwoFeatures(nn.Module):
    """3 x 8 x 8 images, 2 x 1 x 1 features at ``flatten``, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 2, 8)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(2, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.flatten(self.stem(images)))


LINEAR = Backbone(
    f"{__name__}:TwoFeatures",
    "linear",
    "flatten",
    preprocessing=Preprocessing(8, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
)


def linear_network() -> SplitNetwork:
    """The same frozen front at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = TwoFeatures()
    return SplitNetwork(model, LINEAR, NetworkConfig(f"{__name__}:LINEAR", "flatten", "random"))


def linear_learner(
    kind: Any, weights: Sequence[Sequence[float]], known: int | None = None, **settings: Any
) -> Any:
    """A learner with these head weights, [outputs, 2], and biases of zero.

    Args:
        kind: method.
        weights: one row for each output.
        known: number of classes; by default all outputs.
        settings: besides :data:`PLAIN`.
    """
    learner = kind(linear_network(), kind.Config(**{**PLAIN, **settings}))
    learner.start_head(len(weights))
    with torch.no_grad():
        learner.network.head.weight.copy_(torch.tensor(weights))
        learner.network.head.bias.zero_()
    learner.add_classes([f"class {label}" for label in range(known or len(weights))])
    return learner


def vectors(*rows: tuple[float, float]) -> Tensor:
    """Features, float32 [n, 2, 1, 1]."""
    return torch.tensor(rows, dtype=torch.float32)[:, :, None, None]


def batch_at(labels: Sequence[int], *rows: tuple[float, float], first: bool = True) -> Batch:
    """A batch with these features."""
    return Batch(torch.tensor(labels), vectors(*rows), None, first)


def head_of(learner: Any) -> tuple[list[list[float]], list[float]]:
    """Weights and biases of the head."""
    head = learner.network.head
    return head.weight.detach().tolist(), head.bias.detach().tolist()
