"""SCR: supervised contrastive replay.

Mai, Li, Kim, Sanner, "Supervised Contrastive Replay: Revisiting the Nearest Class Mean Classifier
in Online Class-Incremental Continual Learning", CVPR Workshops 2021, arXiv 2103.13885.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from crumb.data.batches import Batch
from crumb.errors import InputError, require, setting
from crumb.methods.augmentation import random_crops
from crumb.methods.base import BytesHeld, strip_prefix
from crumb.methods.described import Ranges
from crumb.methods.registry import register
from crumb.methods.rehearsal import PolicyRehearsal, PolicyRehearsalConfig
from crumb.nets.split import SplitNetwork
from crumb.nets.tokens import check_grid, on_grid

MIN_AREA = 0.2
"""Smallest share of a feature map that a view shows (the authors', of images)."""


@dataclass(frozen=True)
class ScrConfig(PolicyRehearsalConfig):
    """Settings of SCR."""

    write_policy: Literal["reservoir", "on-arrival", "greedy"] = "reservoir"  # pyright: ignore[reportIncompatibleVariableOverride]
    """How exemplars are chosen: plain reservoir over all frames (reservoir, as in the paper),
    class-balanced reservoir (on-arrival), or the first frames of each class (greedy). Tests within
    a task need exemplars of its classes, so all of them store on arrival."""
    replay_size: int = 100
    """Number of exemplars at each step."""
    temperature: float = 0.07
    """Temperature that divides inner products."""
    hidden_size: int = 160
    """Width of the hidden layer of the projection."""
    projection_size: int = 128
    """Number of outputs of the projection."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_budget("replay_size")
        for name in ("replay_size", "hidden_size", "projection_size"):
            require(
                name, getattr(self, name), 1 <= getattr(self, name) <= 1 << 16, "from 1 to 65536"
            )
        temperature = self.temperature
        require("temperature", temperature, 0.001 <= temperature <= 1000, "from 0.001 to 1000")


def contrastive_loss(vectors: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss: each view is to be near all views of its class.

    Khosla, Teterwak, Wang, Sarna, Tian, Isola, Maschinot, Liu, Krishnan, "Supervised Contrastive
    Learning", NeurIPS 2020, equation 2. For view i, with P(i) the other views of its class,

        loss_i = - mean over p in P(i) of
                   log(exp(z_i.z_p / T) / sum over a != i of exp(z_i.z_a / T))

    Args:
        vectors: unit vectors z, float [n, D]; each class has at least two.
        labels: int64 [n], on the same device.
        temperature: T.

    Returns:
        the mean over i.
    """
    itself = torch.eye(len(labels), dtype=torch.bool, device=vectors.device)
    products = (vectors @ vectors.T / temperature).masked_fill(itself, -torch.inf)
    log_shares = products - products.logsumexp(1, keepdim=True)
    positive = (labels[:, None] == labels) & ~itself
    return -(log_shares.masked_fill(~positive, 0).sum(1) / positive.sum(1)).mean()


@register
class Scr(PolicyRehearsal):
    """Contrasts two views of new images and exemplars, and predicts the nearest class mean.

    Each step is on the supervised contrastive loss of the new batch and ``replay_size`` exemplars.
    Every item has two views: itself and a random crop, mirrored half of the time. The vector of a
    view is the input of the head, averaged over positions, through a projection of two layers,
    scaled to length 1. The head of the network is neither used nor trained.

    Predictions do not use the projection. They compare the input of the head, scaled to length 1,
    with the unit mean of the exemplars of each class, which is computed anew for each test. A class
    without exemplars scores minus infinity.

    The crops are of feature maps, because the feature extractor is frozen and its features are
    computed once. A convolutional extractor nearly commutes with crops and mirroring. The authors
    crop images (the same least area, 0.2) and also change colours and remove them, which feature
    maps cannot show. Where the memory holds fewer than ``replay_size`` exemplars, each is used
    once. The authors take no step while the memory is empty; here the first step is on the batch
    alone. Their learning rate is 0.1 without momentum, for a network with random initial weights.
    Gradients are clipped as for every method.
    """

    name = "scr"
    summary = "supervised contrastive loss and nearest mean of exemplars"
    paper = "Mai et al., CVPR Workshops 2021"
    keeps = "images or feature maps, a projection"
    Config = ScrConfig
    why_no_budget = ""
    supports_best_epoch = False
    tuned: ClassVar[Ranges] = {"temperature": (0.02, 0.5)}

    def __init__(
        self, network: SplitNetwork, config: ScrConfig, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(network, config, seed, device)
        if not super().parameters().keys() - self._of_head():
            problem = "leaves only the head to train, which scr does not use"
            raise InputError(
                setting("cut", network.backbone.cut), problem, "choose an earlier layer"
            )
        check_grid(network, setting("method", self.name))
        self.projection = self._projection().to(self.device)
        self.train_also(self.projection.parameters())

    # The update rule.

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on two views of new images and exemplars, then update the memory."""
        features, labels, generator = batch.features, batch.labels, self.generators["replay"]
        count = min(len(self.exemplars), self.config.replay_size)
        if self.budget:
            count = self.replay_count(len(batch), passes=2)
        if count and len(self.exemplars):
            stored = self.exemplars.sample(count, generator)
            features, labels = torch.cat([features, stored[0]]), torch.cat([labels, stored[1]])
        crops = partial(random_crops, least_area=MIN_AREA, generator=generator)
        views = torch.cat([features, on_grid(self.network, features, crops)])
        vectors = normalize(self.projection(self.network.penultimate(views)))
        labels = labels.repeat(2).to(vectors.device, non_blocking=True)
        loss = contrastive_loss(vectors, labels, self.config.temperature)
        self.step(loss)
        self.exemplars.on_batch(batch)
        return {"contrastive": loss.detach()}

    # Prediction.

    def scores(self, features: Tensor) -> Tensor:
        """Cosines with the class means divided by the temperature, [B, classes]."""
        means = self.prepare() if self.prepared is None else self.prepared
        cosines = self.embed(features) @ means.T
        return (cosines / self.config.temperature).masked_fill(means.isnan().any(1), -torch.inf)

    def prepare(self) -> Tensor:
        """Unit means of the exemplars of each class, [classes, D]; NaN for a class without any."""
        shape = (len(self.classes), self.network.penultimate_size)
        means = torch.full(shape, torch.nan, device=self.device)
        for label in self.exemplars.memory.counts:
            means[label] = normalize(self.exemplars.embedded(label, self.embed).mean(0), dim=0)
        return means

    # The rest of the contract.

    def _projection(self) -> nn.Sequential:
        """Two linear layers, initialised from a generator of the learner."""
        sizes = (
            self.network.penultimate_size,
            self.config.hidden_size,
            self.config.projection_size,
        )
        with torch.device("meta"):
            first, second = nn.Linear(*sizes[:2]), nn.Linear(*sizes[1:])
            layers = nn.Sequential(OrderedDict(first=first, rectifier=nn.ReLU(), second=second))
        layers = layers.to_empty(device="cpu")
        with torch.no_grad():
            for layer in (first, second):
                bound = layer.in_features**-0.5
                for parameter in layer.parameters():
                    parameter.uniform_(-bound, bound, generator=self.generators["codebook"])
        return layers

    def _of_head(self) -> set[str]:
        return {f"tail.{self.network.head_name}.{part}" for part in ("weight", "bias")}

    def parameters(self) -> dict[str, nn.Parameter]:
        """The tail without its head, and the projection."""
        tail = {n: p for n, p in super().parameters().items() if n not in self._of_head()}
        return tail | {f"projection.{n}": p for n, p in self.projection.named_parameters()}

    def bytes_held(self) -> BytesHeld:
        """Exemplars; plus row numbers, counts and the projection."""
        held = super().bytes_held()
        own = sum(value.nbytes for value in self.projection.state_dict().values())
        return replace(held, extra=held.extra + own)

    def state_dict(self) -> dict[str, Tensor]:
        """Network, generators and momentum; exemplars, counts and the projection."""
        own = {f"projection.{n}": v for n, v in self.projection.state_dict().items()}
        return super().state_dict() | own

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the :meth:`state_dict` of a learner with the same settings and classes."""
        super().load_state_dict(state)
        self.projection.load_state_dict(strip_prefix(state, "projection."))
