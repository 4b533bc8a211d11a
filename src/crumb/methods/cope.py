"""CoPE: continual prototype evolution.

De Lange, Tuytelaars, "Continual Prototype Evolution: Learning Online from Non-Stationary Data
Streams", ICCV 2021, arXiv 2009.00919.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, normalize

from crumb.data.batches import Batch
from crumb.errors import InputError, require, setting
from crumb.memory.capacity import WritePolicy
from crumb.methods.base import BytesHeld
from crumb.methods.described import Ranges
from crumb.methods.registry import register
from crumb.methods.rehearsal import PolicyRehearsal, PolicyRehearsalConfig
from crumb.nets.split import SplitNetwork


@dataclass(frozen=True)
class CopeConfig(PolicyRehearsalConfig):
    """Settings of CoPE; the defaults are those of the authors' script for CIFAR-10."""

    lr: float = 0.005
    """Learning rate of SGD, constant."""
    momentum: float = 0.0
    """Momentum of SGD."""
    weight_decay: float = 0.0
    """Weight decay of SGD, added after the clipping."""
    storage: Literal["image", "raw_feature", "none"] = "image"  # pyright: ignore[reportIncompatibleVariableOverride]
    """Form of an exemplar: pixels (uint8), the feature map (float32), or none (prototypes only)."""
    write_policy: WritePolicy = "on-arrival"
    """How exemplars are chosen: class-balanced reservoir (on-arrival, as in the paper), plain
    reservoir over all frames (reservoir), the first frames of each class (greedy), or equal shares
    per class in a second pass over each task, at even steps (end-of-task) or by herding
    (herding)."""
    prototype_momentum: float = 0.99
    """Momentum of the prototype update after each batch."""
    temperature: float = 0.1
    """Temperature that divides inner products."""
    n_iter: int = 1
    """Gradient steps per batch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        momentum, temperature, steps = self.prototype_momentum, self.temperature, self.n_iter
        require("prototype_momentum", momentum, 0 <= momentum < 1, "in [0, 1)")
        require("temperature", temperature, 0.001 <= temperature <= 1000, "from 0.001 to 1000")
        require("n_iter", steps, 1 <= steps < 1 << 31, "from 1 to 2^31 - 1")
        if self.storage == "none" and self.draw_policy != "uniform":
            problem = f"has no effect with {setting('storage', 'none')}"
            given = setting("draw_policy", self.draw_policy)
            raise InputError(given, problem, "leave one of them out")

    def resolved(self, network: SplitNetwork) -> Self:
        """As in :class:`RehearsalConfig`. Without exemplars no task boundaries are needed."""
        if self.storage == "none":
            return replace(self, write_policy="on-arrival")
        return super().resolved(network)


def pseudo_prototypical_loss(
    embedded: Tensor, classes: Tensor, prototypes: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Attraction to the own class and repulsion from other classes, over pairs in the batch.

    Let r be the prototype of class c or an item of class c. The probability that x is of class c is

        P(r, x) = exp(r.x / T) / (exp(r.x / T) + sum over other classes k of exp(p_k.x / T)).

    Attraction: minus the log of the mean of P(r, x) over the prototype of x's own class and the
    other items of this class in the batch. Repulsion: for each item v of another class c, minus the
    log of 1 - (P(v, x) + P(p_c, x)) / 2. Both are summed and divided by the number of items.

    The computation is in logarithms, because at a low temperature the probabilities underflow
    float32.

    Args:
        embedded: float [B, D], unit vectors.
        classes: int64 [B], rows of ``prototypes``.
        prototypes: float [K, D], unit vectors, K at least 2.
        temperature: T.

    Returns:
        attraction and repulsion, scalars. No gradient reaches the prototypes or the attracting
        items.
    """
    to_prototypes = embedded @ prototypes.T / temperature
    # Row: the item x; column: the item v that gives class c.
    others = _log_sum_without_each(to_prototypes)[:, classes]
    by_prototype = to_prototypes[:, classes] - others
    by_attractor = embedded @ embedded.detach().T / temperature - others
    by_repellor = embedded @ embedded.T / temperature - others
    same = classes[:, None] == classes
    # An item does not attract itself; the prototype takes its place.
    itself = torch.eye(len(classes), dtype=torch.bool, device=classes.device)
    near = logsigmoid(torch.where(itself, by_prototype, by_attractor))
    near = near.masked_fill(~same, -torch.inf).logsumexp(1) - same.sum(1, dtype=near.dtype).log()
    far = torch.logaddexp(logsigmoid(-by_repellor), logsigmoid(-by_prototype)) - math.log(2)
    return -near.mean(), -far.masked_fill(same, 0).sum() / len(classes)


def _log_sum_without_each(values: Tensor) -> Tensor:
    """Log of the sum of exp over a row without column k, for each k, [B, K]."""
    largest = torch.zeros_like(values, dtype=torch.bool).scatter_(1, values.argmax(1, True), True)
    # Subtracting a share of at most one half loses no digits, unlike subtracting the largest.
    rest = values.masked_fill(largest, -torch.inf).logsumexp(1, keepdim=True)
    shares = values.softmax(1).masked_fill(largest, 0)
    return torch.where(largest, rest, values.logsumexp(1, keepdim=True) + torch.log1p(-shares))


@dataclass(frozen=True)
class Prototypes:
    """One unit vector per seen class.

    Attributes:
        labels: class labels in the order of first appearance.
        values: float32 [K, D].
    """

    labels: tuple[int, ...]
    values: Tensor

    def rows(self, labels: Tensor) -> Tensor:
        """The rows of these labels, int64 [n], on the device."""
        row_of = {label: row for row, label in enumerate(self.labels)}
        return torch.tensor([row_of[n] for n in labels.tolist()], device=self.values.device)

    def joined(self, embedded: Tensor, labels: Tensor) -> Prototypes:
        """Add prototypes of new classes: the mean of their items, scaled to length 1."""
        present, means = _class_means(embedded, labels)
        new = [place for place, label in enumerate(present) if label not in self.labels]
        labels_then = (*self.labels, *(present[place] for place in new))
        return Prototypes(labels_then, torch.cat([self.values, normalize(means[new])]))

    def moved(self, embedded: Tensor, labels: Tensor, momentum: float) -> Prototypes:
        """Move each prototype towards the mean of its class's items and rescale it to length 1."""
        present, means = _class_means(embedded, labels)
        rows = self.rows(torch.tensor(present))
        moved = normalize(momentum * self.values[rows] + (1 - momentum) * means)
        return Prototypes(self.labels, self.values.index_copy(0, rows, moved))


def _class_means(embedded: Tensor, labels: Tensor) -> tuple[list[int], Tensor]:
    """The labels that occur, ascending, and the mean vector of each, [k, D]."""
    present = labels.unique()
    members = (present[:, None] == labels).to(embedded.device, embedded.dtype)
    return present.tolist(), members @ embedded / members.sum(1, keepdim=True)


@register
class Cope(PolicyRehearsal):
    """Attracts images to the prototype of their class and repels them from others.

    The embedding of an image is the input of the head, averaged over positions and scaled to length
    1. The head itself is neither used nor trained. Each step minimises the pseudo-prototypical
    proxy loss on the new batch and as many exemplars, whose classes are drawn uniformly. After the
    last step on a batch, each prototype moves: p_c <- normalise(momentum * p_c + (1 - momentum) *
    mean), where the mean is over the embeddings of class c in that step. The method predicts the
    class of the nearest prototype. A class without a prototype scores minus infinity. While only
    one class has been seen, no step is taken.

    A prototype starts as the mean of its class in the first batch that shows the class. In the
    authors' program it starts at random, and at a momentum of 0.99 this start fades only after
    hundreds of batches. As in that program, no gradient reaches attracting items, but it does reach
    repelling items. There are three further differences from that program: with several steps per
    batch, it averages the exemplars of all steps for the prototypes; it has a second temperature
    without any effect; and its capacity is per class, while here it is over all classes. Gradients
    are clipped as for all methods.
    """

    name = "cope"
    summary = "prototypes that follow their classes, and replay"
    paper = "De Lange and Tuytelaars, ICCV 2021"
    keeps = "images or feature maps, prototypes"
    Config = CopeConfig
    why_no_budget = "the number of its steps on a batch is a setting"
    supports_best_epoch = False
    tuned: ClassVar[Ranges] = {"temperature": (0.01, 1.0), "prototype_momentum": (0.5, 0.995)}

    def __init__(
        self, network: SplitNetwork, config: CopeConfig, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(network, config, seed, device)
        if not self.parameters():
            problem = "leaves only the head to train, which cope does not use"
            raise InputError(
                setting("cut", network.backbone.cut), problem, "choose an earlier layer"
            )
        width = network.penultimate_size
        self.prototypes = Prototypes((), torch.zeros(0, width, device=self.device))

    # The update rule.

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Take steps on new images and exemplars, then update prototypes and memory."""
        losses = dict.fromkeys(("attraction", "repulsion"), torch.zeros((), device=self.device))
        config, moved = self.config, self.prototypes
        for _ in range(config.n_iter):
            stored = list(self.exemplars.memory.counts)
            features, labels = self.exemplars.beside(batch, self.generators["replay"], stored)
            embedded = self.embed(features)
            known = self.prototypes.joined(embedded.detach(), labels)
            if len(known.labels) > 1:
                rows = known.rows(labels)
                parts = pseudo_prototypical_loss(embedded, rows, known.values, config.temperature)
                self.step(torch.stack(parts).sum())
                losses = dict(zip(losses, parts, strict=True))
            self.prototypes = known
            moved = known.moved(embedded.detach(), labels, config.prototype_momentum)
        self.prototypes = moved
        if config.storage != "none":
            self.exemplars.on_batch(batch)
        return {name: loss.detach() for name, loss in losses.items()}

    def scores(self, features: Tensor) -> Tensor:
        """Inner products with the prototypes divided by the temperature, [B, classes]."""
        scores = features.new_full((len(features), len(self.classes)), -torch.inf)
        products = self.embed(features) @ self.prototypes.values.T
        scores[:, list(self.prototypes.labels)] = products / self.config.temperature
        return scores

    # The rest of the contract.

    def parameters(self) -> dict[str, nn.Parameter]:
        """The tail without its head."""
        head = f"tail.{self.network.head_name}."
        return {name: p for name, p in super().parameters().items() if not name.startswith(head)}

    def bytes_held(self) -> BytesHeld:
        """Exemplars; plus row numbers, counts and labelled prototypes."""
        held, known = super().bytes_held(), self.prototypes
        return replace(held, extra=held.extra + known.values.nbytes + 8 * len(known.labels))

    def state_dict(self) -> dict[str, Tensor]:
        """Network, generators and momentum; exemplars, counts and prototypes."""
        labels = torch.tensor(self.prototypes.labels, dtype=torch.int64)
        own = {"prototypes.labels": labels, "prototypes.values": self.prototypes.values}
        return super().state_dict() | own

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the :meth:`state_dict` of a learner with the same settings and classes."""
        super().load_state_dict(state)
        labels, values = state["prototypes.labels"], state["prototypes.values"]
        self.prototypes = Prototypes(tuple(labels.tolist()), values.to(self.device))
