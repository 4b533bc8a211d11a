"""SIESTA: class means while awake, replay of quantised feature maps during sleep.

Harun, Gallardo, Hayes, Kemker, Kanan, "SIESTA: Efficient Online Continual Learning with Sleep",
TMLR 2023, arXiv 2303.10725.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from crumb.data.batches import Batch, Batches
from crumb.errors import require
from crumb.memory.capacity import DrawConfig
from crumb.memory.draws import balanced
from crumb.methods.base import BytesHeld
from crumb.methods.described import Ranges
from crumb.methods.quantised import QuantisedConfig, QuantisedRehearsal
from crumb.methods.registry import register
from crumb.nets.split import SplitNetwork
from crumb.progress import bar


@dataclass(frozen=True)
class SiestaConfig(QuantisedConfig, DrawConfig):
    """Settings of SIESTA."""

    temperature: float = 0.1
    """Divisor of the cosines in the softmax."""
    sleep_steps: int = 100
    """Number of steps of each sleep."""
    sleep_batch_size: int = 64
    """Number of exemplars per step of a sleep, from all classes equally often."""
    sleep_every: int | None = None
    """Number of new images from one sleep to the next. Default: sleep at the end of each task."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_budget("sleep_steps")
        holds = 1e-3 <= self.temperature <= 1e3
        require("temperature", self.temperature, holds, "from 0.001 to 1000")
        for name in ("sleep_steps", "sleep_batch_size", "sleep_every"):
            if (value := getattr(self, name)) is not None:
                require(name, value, 1 <= value < 1 << 31, "from 1 to 2^31 - 1")


@register
class Siesta(QuantisedRehearsal):
    """Learns class means without gradients while awake, and trains the tail during sleep.

    The output layer is a cosine classifier: the logit of class k for an image with penultimate
    features z is cos(w_k, z) / ``temperature``. There is no bias.

    The first task is learned in plain steps on the features. At its end the quantiser is fitted and
    the memory is filled, as in ``remind``. After that, each new image is learned once, in the first
    pass. With n images of class k so far, its weights become

        w_k <- (n w_k + z / |z|) / (n + 1)

    with z from the reconstruction of the image, and its code is stored. Nothing else changes. The
    learner sleeps at the end of each task, including the first, or after every ``sleep_every`` new
    images. A sleep takes ``sleep_steps`` steps of SGD on the tail and the output layer. Each is on
    the mean cross entropy of ``sleep_batch_size`` reconstructed exemplars, from all classes equally
    often. The momentum starts anew in each sleep.

    The weights of each class are scaled to length 1 after a sleep. That changes no prediction, and
    a mean that goes on from trained weights is then a mean of vectors of one length.

    The original program differs in four ways. Its means are of vectors that are not scaled, and a
    class that returns starts a new mean. Each sleep has a learning rate that rises and falls (one
    cycle) and is 1 % lower from each layer to the one before. Here it is constant. The quantiser
    rotates the channels first (OPQ). The temperature is learned. Gradients are clipped as for every
    method.
    """

    name = "siesta"
    summary = "class means while awake, replay of codes during sleep"
    paper = "Harun et al., TMLR 2023"
    keeps = "codes, quantiser, counts of images"
    Config = SiestaConfig
    why_no_budget = ""
    tuned: ClassVar[Ranges] = {"temperature": (0.02, 0.5), "sleep_steps": (20, 500)}
    learns_at_task_end = True

    def __init__(
        self, network: SplitNetwork, config: SiestaConfig, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(network, config, seed, device)
        if self.exemplars.grasp:
            self.exemplars.grasp.in_cycles = True
        self.seen = torch.zeros(0, dtype=torch.int64, device=self.device)
        self.awake = torch.zeros(1, dtype=torch.int64)

    # Awake.

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """In the first task, take steps. Later, update class means and perhaps sleep.

        Returns:
            mean losses of steps in the first task and of sleeps; the loss of new images, from
                which nothing is learned, as ``quantised``.
        """
        if self.budget:
            self.budget.begin(len(batch))
        if not self.quantiser.ready:
            if batch.first_pass:
                self._count(batch.labels)
            steps = self.learn_base(batch)
            return {"direct": torch.stack([step["direct"] for step in steps]).mean()}
        codes = self.exemplars.storage.encode(batch)
        with self.inference():
            vectors = self.embed(self.exemplars.storage.features(codes))
            if batch.first_pass:
                self._average(vectors, batch.labels)
            losses = {"quantised": self._cross_entropy(vectors, batch.labels)}
        if self.budget:
            self.budget.note()
        if batch.first_pass:
            self.store(codes, batch.labels)
            if self._tired(len(batch)) and (replay := self._sleep()) is not None:
                losses["replay"] = replay
        return losses

    def _tired(self, images: int) -> bool:
        """Count new images; returns whether it is time to sleep."""
        if (limit := self.config.sleep_every) is None:
            return False
        self.awake += images
        tired = bool(self.awake >= limit)
        self.awake %= limit
        return tired

    def _average(self, vectors: Tensor, labels: Tensor) -> None:
        """Take unit vectors, float [B, D], into the weights of their classes."""
        labels = labels.to(self.device)
        before = self.seen.clone()
        self._count(labels)
        sums = self._weights() * before[:, None]
        # Of a class that has not been seen, the weights are random.
        sums = torch.where(before[:, None] > 0, sums, 0).index_add_(0, labels, vectors)
        means = sums / self.seen.clamp(min=1)[:, None]
        self._set_weights(labels.unique(), means)

    def _count(self, labels: Tensor) -> None:
        self.seen += labels.to(self.device).bincount(minlength=len(self.classes))

    # Asleep.

    def end_task(self, batches: Batches) -> None:
        """After the first task, fit the quantiser, fill the memory and sleep; later, sleep."""
        first = not self.quantiser.ready
        super().end_task(batches)
        if first or self.config.sleep_every is None:
            self._sleep()

    def _sleep(self) -> Tensor | None:
        """Train on exemplars; returns the mean loss, or None without any step."""
        generator, size = self.generators["replay"], self.config.sleep_batch_size
        stored, losses = list(self.exemplars.memory.counts), []
        if self.exemplars.grasp:
            self.exemplars.grasp.restart()
        steps = self.config.sleep_steps
        if self.budget:
            # Maps of tests since the last batch do not count.
            self.budget.begin(0)
            steps = self.budget.left // size
        for _ in bar(range(steps), "sleep", "step", leave=False):
            if self.budget and self.budget.left < size:
                break
            labels = balanced(stored, size, generator)
            loss = self.loss(self.exemplars.draw(labels, generator), torch.tensor(labels))
            self.step(loss)
            losses.append(loss.detach())
        self.optimizer.state.clear()
        with torch.no_grad():
            known = torch.arange(len(self.classes), device=self.device)
            self._set_weights(known, normalize(self._weights()))
        return torch.stack(losses).mean() if losses else None

    # The cosine classifier.

    def _weights(self) -> Tensor:
        """Weights of the classes seen so far, float [classes, D]; a kernel counts as its sum."""
        weight = self.network.head.weight[: len(self.classes)]
        return weight.reshape(*weight.shape[:2], -1).sum(2)

    def _set_weights(self, labels: Tensor, values: Tensor) -> None:
        """Set the weights of some classes, out of float [classes, D]; a kernel in equal parts."""
        weight = self.network.head.weight
        places = weight[0, 0].numel()
        parts = (values[labels] / places)[..., None].expand(-1, -1, places)
        weight[labels] = parts.reshape(len(labels), *weight.shape[1:])

    def _cosines(self, vectors: Tensor) -> Tensor:
        return vectors @ normalize(self._weights()).T / self.config.temperature

    def _cross_entropy(self, vectors: Tensor, labels: Tensor) -> Tensor:
        labels = labels.to(vectors.device, non_blocking=True)
        return cross_entropy(self._cosines(vectors), labels)

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Mean cross entropy of features through the tail and the cosine classifier."""
        return self._cross_entropy(self.embed(features), labels)

    def logits(self, features: Tensor) -> Tensor:
        """Cosines with the weights of the classes seen so far, over the temperature."""
        return self._cosines(self.embed(features))

    # The rest of the contract.

    def add_classes(self, names: Iterable[str]) -> None:
        """As of :class:`Learner`; new classes have no images yet."""
        super().add_classes(names)
        missing = len(self.classes) - len(self.seen)
        self.seen = torch.cat([self.seen, self.seen.new_zeros(missing)])

    def parameters(self) -> dict[str, nn.Parameter]:
        """The tail without the bias of its head."""
        bias = f"tail.{self.network.head_name}.bias"
        return {name: p for name, p in super().parameters().items() if name != bias}

    def bytes_held(self) -> BytesHeld:
        """Codes; plus their row numbers, the quantiser and counts of images."""
        held = super().bytes_held()
        return replace(held, extra=held.extra + self.seen.nbytes + self.awake.nbytes)

    def state_dict(self) -> dict[str, Tensor]:
        """Network, generators and momentum; codes, quantiser and counts of images."""
        return super().state_dict() | {"seen": self.seen, "awake": self.awake}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the :meth:`state_dict` of a learner with the same settings and classes."""
        super().load_state_dict(state)
        self.seen = state["seen"].to(self.device).clone()
        self.awake = state["awake"].cpu().clone()
