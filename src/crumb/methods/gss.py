"""GSS-Greedy: gradient-based sample selection.

Aljundi, Lin, Goujaud, Bengio, "Gradient Based Sample Selection for Online Continual Learning",
NeurIPS 2019, arXiv 1903.08671.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from crumb.data.batches import Batch
from crumb.errors import require
from crumb.memory.exemplars import ChosenExemplars
from crumb.memory.payload import Field, Fields
from crumb.methods.last_layer import layer_gradient, seen_at_head
from crumb.methods.optimisation import flat_gradient
from crumb.methods.registry import register
from crumb.methods.rehearsal import Rehearsal, RehearsalConfig
from crumb.nets.split import SplitNetwork

NEUTRAL = 1.0
"""Score of a gradient orthogonal to all compared ones."""
MIN_SCORE = 1e-6
"""Lower bound of scores: exemplars with a score of 0 could never be drawn."""


@dataclass(frozen=True)
class GssConfig(RehearsalConfig):
    """Settings of GSS-Greedy; the defaults are those of the authors' script for CIFAR-10."""

    lr: float = 0.01
    """Learning rate of SGD, constant."""
    momentum: float = 0.0
    """Momentum of SGD."""
    weight_decay: float = 0.0
    """Weight decay of SGD, added after the clipping."""
    gradients: Literal["tail", "head"] = "tail"
    """Gradients to compare: all trained parameters (as in the paper), or the last layer only, which
    is much faster (one pass per batch instead of one per image)."""
    n_iter: int = 10
    """Gradient steps per batch."""
    n_constraints: int | None = None
    """Number of exemplars replayed per step. Default: the batch size."""
    memory_strength: int = 10
    """Number of random exemplars whose gradients a new image is compared with."""
    n_memories: int | None = None
    """Number of new images compared with the same random exemplars (and with those of them that
    were stored meanwhile). Default and maximum: the batch size."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("n_iter", "n_constraints", "memory_strength", "n_memories"):
            if (value := getattr(self, name)) is not None:
                require(name, value, 1 <= value < 1 << 31, "from 1 to 2^31 - 1")


class ScoredExemplars(ChosenExemplars):
    """A replay memory with scored exemplars; more similar exemplars have higher scores."""

    fields: Fields = MappingProxyType({"score": Field((), torch.float32)})

    def scores_of(self, label: int) -> Tensor:
        """Scores of the exemplars of one class, in listing order, float32 [n]."""
        return self.memory.payload_of(label)["score"]

    def offer(self, row: Tensor, label: int, score: float) -> bool:
        """Store one frame or reject it (algorithm 2).

        Args:
            row: stored form of the frame, [*row_shape].
            label: its class label.
            score: largest cosine with exemplars drawn at random, plus one; in (0, 2].

        Returns:
            whether it was stored.
        """
        if not self.memory.fits(row):
            if score >= NEUTRAL or not self._give_way(score):
                return False
            # If exemplars differ in size, removing one may not free enough room.
            while not self.memory.fits(row):
                self._give_way()
        self.memory.add(label, row[None], {"score": torch.tensor([score])})
        return True

    def _give_way(self, score: float = 0) -> bool:
        """Draw an exemplar, and drop it if it loses against a frame with this score."""
        scores = torch.cat([self.scores_of(label) for label in self.memory.counts])
        number = int(torch.multinomial(scores, 1, generator=self.generator))
        candidate = float(scores[number])
        chance = float(torch.rand((), generator=self.generator))
        if chance >= candidate / (candidate + score):
            return False
        self.memory.drop(*self.memory.locate([number])[0])
        return True

    def check_room(self, classes: int) -> None:
        """Any number of classes fits, because classes have no fixed share."""


@register
class Gss(Rehearsal[ScoredExemplars]):
    """Experience replay whose memory keeps images with diverse gradients.

    Each step is on the sum of two mean cross entropies, of the new batch and of exemplars drawn
    uniformly. Then, without dropout, the gradient of each new image is compared with those of
    ``memory_strength`` exemplars drawn at random: its score is the largest cosine, plus one. While
    there is room it is stored with its score. Then one whose score is below 1, so that it pulls
    against all of those drawn, may replace an exemplar: candidate i with probability
    C_i / sum(C), which gives way with probability C_i / (C_i + its score) (algorithm 2). The very
    first images, with nothing to compare them with, have a score of 1. An image whose gradient is
    zero or not finite points nowhere: its cosines count as 0.

    Images of a batch are offered one by one, but ``n_memories`` of them are compared with the same
    draw, to which those of them that are stored are added. The published program, whose names of
    settings these are, fills a waiting area of that many images first; here no image waits, since
    it would have to be held besides the memory. Where that program takes a step on new images and
    another on stored ones, here one step is on both. It compares with gradients of batches of
    ``n_constraints`` exemplars (the paper: of single ones), looks at the cosine of a whole batch
    before it replaces anything, and rescales scores by the smallest and the largest. It shuffles
    the memory once for each batch and replays successive parts of it; here each step draws anew.

    With ``gradients`` head, the gradient is taken by weights and bias of the last layer alone. It
    is exact for a convolution too: the sum over places of the derivative of the loss by what leaves
    the layer there, times what enters it there. Gradients are clipped as for all methods, in steps,
    not in comparisons.
    """

    name = "gss"
    summary = "replay of exemplars with diverse gradients"
    paper = "Aljundi et al., NeurIPS 2019"
    keeps = "images or feature maps, scores"
    Config = GssConfig
    why_no_budget = "each image is compared with exemplars before it is stored"

    def __init__(
        self, network: SplitNetwork, config: GssConfig, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(network, config, seed, device)
        memory = self.generators["memory"]
        self.exemplars = ScoredExemplars(self.config, self.storage(), memory, self.device)

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Take steps on new images and exemplars, then offer the images to the memory in the first
        epoch.
        """
        losses: dict[str, Tensor] = {}
        for _ in range(self.config.n_iter):
            losses = {"direct": self.loss(batch.features, batch.labels)}
            if held := len(self.exemplars):
                count = min(held, self.config.n_constraints or len(batch))
                replayed = self.exemplars.sample(count, self.generators["replay"])
                losses["replay"] = self.loss(*replayed)
            self.step(torch.stack([*losses.values()]).sum())
        if batch.first_pass:
            self._offer(batch)
        return {name: loss.detach() for name, loss in losses.items()}

    def _offer(self, batch: Batch) -> None:
        """Offer all images of a batch in stream order. Several share the same comparison
        exemplars.
        """
        size = min(len(batch), self.config.n_memories or len(batch))
        columns = (batch.features, batch.labels, self.exemplars.storage.encode(batch))
        self.network.eval()
        try:
            for features, labels, rows in zip(*(part.split(size) for part in columns), strict=True):
                past = self._drawn_directions()
                new = self._directions(features, labels)
                for row, label, direction in zip(rows, labels.tolist(), new, strict=True):
                    if self.exemplars.offer(row, label, score(direction, past)):
                        past.append(direction)
        finally:
            self.network.train()

    def _drawn_directions(self) -> list[Tensor]:
        """Gradients of random exemplars; empty while the memory is empty."""
        if not (held := len(self.exemplars)):
            return []
        count = min(held, self.config.memory_strength)
        return [*self._directions(*self.exemplars.sample(count, self.generators["memory"]))]

    def _directions(self, features: Tensor, labels: Tensor) -> Iterator[Tensor]:
        """The unit gradient of each image, float32 [P]; zeros if the gradient is zero."""
        if self.config.gradients == "head":
            yield from self._head_directions(features, labels)
            return
        parameters = [*self.parameters().values()]
        for one, label in zip(features.split(1), labels.split(1), strict=True):
            self.backward(self.loss(one, label))
            yield normalize(flat_gradient(parameters), dim=0)

    def _head_directions(self, features: Tensor, labels: Tensor) -> Iterator[Tensor]:
        """Directions by weights and bias of the last layer alone, in one pass for all images."""
        head = self.network.head
        with seen_at_head(self.network) as seen:
            logits = self.active(self.network(features))
        # No image takes part in the loss of another: one derivative holds those of all.
        loss = cross_entropy(logits, labels.to(logits.device), reduction="sum")
        (errors,) = torch.autograd.grad(loss, seen.left)
        for entered, error in zip(seen.entered.split(1), errors.split(1), strict=True):
            gradient = layer_gradient(head, entered, error, len(self.classes))
            yield normalize(gradient, dim=0)


def score(direction: Tensor, past: Sequence[Tensor]) -> float:
    """The largest cosine with any of these directions, plus one; in (0, 2].

    Args:
        direction: direction of length 1, float [P].
        past: likewise; with none, the score is neutral.
    """
    if not past:
        return NEUTRAL
    cosines = torch.stack([other @ direction for other in past]).nan_to_num(0, 0, 0)
    return min(max(float(cosines.amax()) + 1, MIN_SCORE), 2.0)
