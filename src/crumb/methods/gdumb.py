"""GDumb: a greedy sampler, and a network trained from the start on the memory.

Prabhu, Torr, Dokania, "GDumb: A Simple Approach that Questions Our Progress in Continual
Learning", ECCV 2020.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from crumb.data.batches import Batch
from crumb.errors import require
from crumb.methods.described import Ranges
from crumb.methods.rainbow import rate
from crumb.methods.registry import register
from crumb.methods.rehearsal import PolicyRehearsal, PolicyRehearsalConfig
from crumb.nets.split import SplitNetwork
from crumb.progress import bar
from crumb.seeds import generator


@dataclass(frozen=True)
class GdumbConfig(PolicyRehearsalConfig):
    """Settings of GDumb."""

    lr: float = 0.001
    """Highest learning rate of SGD. It falls along cosines."""
    write_policy: Literal["greedy", "on-arrival", "reservoir"] = "greedy"  # pyright: ignore[reportIncompatibleVariableOverride]
    """How exemplars are chosen: the first frames of each class (greedy, as in the paper),
    class-balanced reservoir (on-arrival), or plain reservoir over all frames (reservoir). Tests
    within a task need exemplars of its classes, so all of them store on arrival."""
    teacher: Literal["none"] = "none"  # pyright: ignore[reportIncompatibleVariableOverride]
    """No teacher: no step is taken on the stream."""
    draw_policy: Literal["uniform"] = "uniform"  # pyright: ignore[reportIncompatibleVariableOverride]
    """No other draw: each epoch is over the whole memory."""
    memory_epochs: int = 256
    """Number of epochs over the shuffled memory before a test."""
    memory_batch_size: int = 16
    """Batch size of these epochs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        epochs, size = self.memory_epochs, self.memory_batch_size
        require("memory_epochs", epochs, 1 <= epochs <= 1_000_000, "from 1 to 1000000")
        require("memory_batch_size", size, 1 <= size < 1 << 31, "from 1 to 2^31 - 1")


@register
class Gdumb(PolicyRehearsal):
    """The stream fills the memory only. Before a test, the initial network learns the memory.

    A frame is stored while its class has less than its equal share of the capacity. No step is
    taken on the stream. Predictions train the tail, from its initial weights, for
    ``memory_epochs`` epochs on the shuffled memory. The learning rate is ``lr`` / 10 in the first
    epoch. Then it falls along cosines from ``lr`` to ``lr`` / 100, over 1, 2, 4, ... epochs. These
    are the authors' schedule, epochs and batch size for CIFAR-10.

    The trained weights are kept until the memory or the classes change. Each training therefore
    costs ``memory_epochs`` passes through the memory: once for each task of a stream, and once for
    each call of ``predict`` that follows new frames. It draws from generators of its own, so a test
    changes nothing that comes later. A stream counts this time as test time. The trained weights
    are neither saved nor counted: they are the one copy of the network that no method counts. The
    initial weights follow from the pretrained network.

    The authors train a whole network from random weights, with a learning rate of 0.05, a weight
    decay of 1e-6 and CutMix. Here the tail starts from its pretrained weights, with the learning
    rate of all methods and without augmentation. That program reports the epoch that is best on
    test images; here the last epoch counts. Gradients are clipped as for every method.
    """

    name = "gdumb"
    summary = "trains the initial network on the memory alone, before a test"
    paper = "Prabhu et al., ECCV 2020"
    keeps = "images or feature maps"
    Config = GdumbConfig
    why_no_budget = "it trains before tests, not on the stream"
    trains = False
    supports_best_epoch = False
    tuned: ClassVar[Ranges] = {"lr": (0.0003, 0.05)}

    def __init__(
        self, network: SplitNetwork, config: GdumbConfig, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(network, config, seed, device)
        self._trained: dict[str, Tensor] = {}

    # The update rule.

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Offer the batch to the memory."""
        self.exemplars.on_batch(batch)
        if batch.first_pass:
            self._trained = {}
        return {}

    def train_on_memory(self) -> dict[str, Tensor]:
        """Train a copy of the initial tail on the memory.

        Returns:
            the trained weights, by name.
        """
        config, draws = self.config, generator(self.seed, "gdumb")
        weights = {n: p.detach().clone().requires_grad_() for n, p in self._initial().items()}
        optimizer = self.make_optimizer([*weights.values()])  # type: ignore[arg-type]
        epochs = range(config.memory_epochs)
        for epoch in bar(epochs, f"{self.name}, memory", "epoch", leave=False):
            optimizer.param_groups[0]["lr"] = config.lr * rate(epoch)
            for features, labels in self.exemplars.shuffled(config.memory_batch_size, draws):
                logits = self.active(functional_call(self.network, weights, (features,)))
                optimizer.zero_grad(set_to_none=True)
                cross_entropy(logits, labels.to(logits.device)).backward()
                nn.utils.clip_grad_value_(weights.values(), config.clip)
                optimizer.step()
                self.steps += 1
        return {name: value.detach() for name, value in weights.items()}

    # Prediction.

    def prepare(self) -> dict[str, Tensor]:
        """The trained weights; empty while the memory is."""
        if not self._trained and len(self.exemplars):
            mode, dropout = self.network.training, generator(self.seed, "gdumb", self.device)
            self.network.train().use_generator(dropout)
            try:
                with torch.inference_mode(False), torch.enable_grad():
                    self._trained = self.train_on_memory()
            finally:
                self.network.train(mode).use_generator(self.generators["dropout"])
        return self._trained

    def scores(self, features: Tensor) -> Tensor:
        """Logits of the trained network, [B, classes]."""
        weights = self.prepare() if self.prepared is None else self.prepared
        return self.active(functional_call(self.network, weights, (features,)))

    # The rest of the contract.

    def _initial(self) -> dict[str, nn.Parameter]:
        return self.network.trained()

    def parameters(self) -> dict[str, nn.Parameter]:
        """None: the network keeps its initial weights."""
        return {}

    def add_classes(self, names: Iterable[str]) -> None:
        """The network is trained again, with an output for each new class."""
        before = len(self.classes)
        super().add_classes(names)
        if len(self.classes) > before:
            self._trained = {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the :meth:`state_dict` of a learner with the same settings and classes."""
        super().load_state_dict(state)
        self._trained = {}
