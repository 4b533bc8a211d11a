"""AANets: weighted stable and plastic branches at each level.

Liu, Schiele, Sun, "Adaptive Aggregation Networks for Class-Incremental Learning", CVPR 2021,
arXiv 2010.05063; on iCaRL (see icarl.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from crumb.data.batches import Batch, Batches
from crumb.errors import require
from crumb.memory.replay import take
from crumb.methods.base import BytesHeld
from crumb.methods.described import Ranges
from crumb.methods.icarl import Icarl
from crumb.methods.lwf import distillation, require_temperature
from crumb.methods.registry import register
from crumb.methods.rehearsal import RehearsalConfig
from crumb.methods.training import MAX_FLOAT
from crumb.nets.aggregation import AGGREGATIONS, ALPHA, Aggregation, aggregate, levels
from crumb.nets.split import SplitNetwork


@dataclass(frozen=True)
class AanetsConfig(RehearsalConfig):
    """Settings of AANets on iCaRL."""

    distillation: float = 0.25
    """Weight of the distillation from the network of the last task."""
    temperature: float = 2.0
    """Temperature of the distillation softmax."""
    fusion_lr: float = 1e-8
    """Learning rate of the branch weights (alpha). Below 1.5e-8 their step is skipped, because it
    would not change them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        most = f"at least 0 and at most {MAX_FLOAT:g}"
        weight, rate = self.distillation, self.fusion_lr
        require("distillation", weight, 0 <= weight <= MAX_FLOAT, most)
        require_temperature(self.temperature)
        require("fusion_lr", rate, 0 <= rate <= MAX_FLOAT, most)


@register
class Aanets(Icarl):
    """From the second task on, each level of the tail has two branches, alpha P + (1 - alpha) S.

    P, the plastic branch, is the tail itself. S, the stable branch, is a copy from the end of the
    first task that trains only one factor per filter (neuron-level scaling). Both start out equal,
    with alpha at 0.5. A level is the paper's residual level: all layers of one resolution. The head
    is shared. Each batch takes two steps (the paper's bilevel optimisation):

    1. on the batch and as many exemplars, P, the scales of S and the head take one step on the
       cross entropy and, weighed by 0.25, the distillation at a temperature of 2 from the network
       of the last task, which is both its branches with their alphas;
    2. the alphas take one step of plain gradient descent on the cross entropy of a balanced set.

    The paper takes the second step on exemplars of the old classes and as many images of the new
    ones, over and over, and alternates by epochs; here the set is as large as the batch, each class
    that has exemplars or is in the batch equally likely, a new one's images out of the batch. The
    learning rate of the alphas is the authors', 1e-8: at 0.5 float32 has steps of 3e-8 and more, so
    that a gradient of 1 moves no alpha. In that case the second step, which costs as much as the
    first, is skipped. Their other learning rate drops at half and three quarters of the epochs.
    Here it is constant, because the length of a task is unknown in a stream.

    Exemplars, phi and the nearest-mean prediction are those of iCaRL, with phi from both branches.
    Distillation is the softmax's, of the classes of the tasks before, as in the authors' program on
    iCaRL. In that program a filter has a factor for each of its input channels and a trained shift,
    and the classifier is a cosine one; the paper's scales are those of whole neurons. Batch norm in
    S is frozen whole. Gradients of step 1 are clipped as for all methods. The original program
    casts normalised images to bytes, which destroys them.
    """

    name = "aanets"
    summary = "iCaRL with a stable and a plastic branch at each level"
    paper = "Liu et al., CVPR 2021"
    keeps = "as icarl, a second branch of the tail"
    Config = AanetsConfig
    why_no_budget = "a copy of the tail computes the targets"
    tuned: ClassVar[Ranges] = {"distillation": (0.025, 2.5), "fusion_lr": (1e-9, 0.1)}

    def __init__(
        self, network: SplitNetwork, config: AanetsConfig, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(network, config, seed, device)
        self.aggregations: list[Aggregation] = []
        begun = torch.tensor(ALPHA)
        self._alphas_move = bool(begun - config.fusion_lr != begun)
        # Fail now instead of after the first task.
        levels(self.network)

    # The update rule.

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """A step of both branches, a step of the alphas, then the running means."""
        features, labels = self._joined(batch)
        logits = self.active(self.network(features))
        losses = {"classification": cross_entropy(logits, labels)}
        loss = losses["classification"]
        if old := self.previous.known:
            targets = self.previous.logits(features)
            losses["distillation"] = distillation(logits[:, :old], targets, self.config.temperature)
            loss = loss + self.config.distillation * losses["distillation"]
        self.step(loss)
        if self.aggregations and self._alphas_move:
            losses["fusion"] = self._weigh_branches(*self._balanced(batch))
        self._follow(batch)
        return {name: loss.detach() for name, loss in losses.items()}

    def _weigh_branches(self, features: Tensor, labels: Tensor) -> Tensor:
        """One step of the alphas on the cross entropy of these images, which is returned."""
        self.steps += 1
        alphas = [aggregation.alpha.requires_grad_() for aggregation in self.aggregations]
        loss = self.loss(features, labels)
        gradients = torch.autograd.grad(loss, alphas)
        for alpha, gradient in zip(alphas, gradients, strict=True):
            alpha.requires_grad_(False).sub_(self.config.fusion_lr * gradient)
        return loss

    def _balanced(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """A balanced batch: as many images as the batch has, each class equally likely; labels on
        the CPU.

        Classes with exemplars use them; the other classes of the batch use its images.
        """
        generator, stored = self.generators["replay"], [*self.exemplars.memory.counts]
        new = sorted({*batch.labels.tolist()} - {*stored})
        classes = torch.tensor(stored + new)
        labels = classes[torch.randint(len(classes), (len(batch),), generator=generator)]
        features = torch.empty_like(batch.features)
        replayed = torch.isin(labels, torch.tensor(stored))
        if replayed.any():
            drawn = self.exemplars.draw(labels[replayed].tolist(), generator)
            features[replayed.to(features.device)] = drawn
        for label in new:
            places = (labels == label).nonzero().flatten()
            shown = (batch.labels == label).nonzero().flatten()
            chosen = shown[torch.randint(len(shown), (len(places),), generator=generator)]
            features[places.to(features.device)] = take(batch.features, chosen)
        return features, labels

    # The branches.

    def end_task(self, batches: Batches) -> None:
        """As iCaRL; after the first task, create the stable branches."""
        if not self.aggregations:
            self._branch()
        super().end_task(batches)

    def _branch(self) -> None:
        """Copy the levels and train the scales of the copies with the other parameters."""
        self.aggregations = aggregate(self.network, self.generators["dropout"])
        for aggregation in self.aggregations:
            self.train_also(p for p in aggregation.parameters() if p.requires_grad)

    # The rest of the contract.

    def bytes_held(self) -> BytesHeld:
        """As iCaRL (whose copy now has scales and alphas), plus the stable branches."""
        held = super().bytes_held()
        branches = sum(aggregation.nbytes for aggregation in self.aggregations)
        return replace(held, extra=held.extra + branches)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the :meth:`state_dict` of a learner with the same settings and classes."""
        branched = any(name.startswith(f"network.tail.{AGGREGATIONS}.") for name in state)
        if branched and not self.aggregations:
            self._branch()
        super().load_state_dict(state)
