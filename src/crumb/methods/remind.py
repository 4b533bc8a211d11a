"""REMIND: replay of feature maps rebuilt from the codes of a product quantiser.

Hayes, Kafle, Shrestha, Acharya, Kanan, "REMIND Your Neural Network to Prevent Catastrophic
Forgetting", ECCV 2020.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from crumb.codebook.initialisers import initial_blocks, published_statistics
from crumb.data.batches import Batch, Batches
from crumb.errors import InputError, require, setting
from crumb.memory.capacity import CAPACITIES, PAPER_MEMORY_SIZE, CapacityConfig
from crumb.memory.exemplars import ChosenExemplars
from crumb.memory.policies import OnArrival, largest_classes, random_below
from crumb.memory.quantiser import (
    MAX_CENTROIDS,
    ProductQuantiser,
    QuantisedStorage,
    centroid_bytes,
    check_codebooks,
)
from crumb.methods.augmentation import beta, mixed, random_resized_crops
from crumb.methods.base import BytesHeld, Learner, strip_prefix
from crumb.methods.class_rates import ClassRates
from crumb.methods.described import Ranges
from crumb.methods.registry import register
from crumb.methods.training import MAX_FLOAT, TrainingConfig, refuse_trainable_front
from crumb.nets.split import SplitNetwork
from crumb.nets.tokens import check_grid, on_grid
from crumb.progress import bar

CHANNELS_PER_CODEBOOK = 16


@dataclass(frozen=True)
class RemindConfig(CapacityConfig, TrainingConfig):
    """Settings of REMIND."""

    storage: Literal["feature"] = "feature"
    """Form of an exemplar: the code of its feature map."""
    weight_decay: float = 0.00001
    """Weight decay of SGD after the first task, added after the clipping."""
    schedule: Literal["constant", "class"] = "constant"
    """Learning rate after the first task: constant LR, or (class) the authors' for ImageNet, with
    LR 0.1: it falls from LR to FINAL-LR with the number of images of each class."""
    final_lr: float = 0.001
    """Learning rate of a class after IMAGES-PER-CLASS images, with SCHEDULE class."""
    lr_step: int = 100
    """Number of images of a class after which its learning rate falls."""
    images_per_class: int = 1300
    """Number of images of a class until its learning rate is FINAL-LR (that of ImageNet)."""
    base_lr: float | None = None
    """Learning rate in the first task. Default: LR."""
    base_weight_decay: float = 0.0001
    """Weight decay in the first task."""
    base_batch_size: int | None = None
    """Maximum number of images per step in the first task; larger batches are split."""
    images_per_step: int = 1
    """Number of new images per step after the first task (1 in the paper)."""
    rehearsal_samples_per_update: int = 50
    """Number of exemplars per step."""
    mixup_alpha: float = 0.1
    """Mixup parameter: exemplars are mixed in pairs with shares from Beta(ALPHA, ALPHA). 0 turns
    mixup off."""
    random_resized_crops: bool = True
    """Whether to augment feature maps by random resized crops."""
    pq_codebooks: int | None = None
    """Number of sub-vectors of a feature vector, each with its own centroids. Default: one per 16
    channels."""
    pq_centroids: int | None = None
    """Number of centroids per sub-vector. Default: 256, or with BUDGET-BYTES the largest power of
    two whose centroids take at most half of the budget."""
    pq_centroids_source: Literal["fitted", "crumb"] = "fitted"
    """Centroids: k-means on the first task, or CRUMB's initial memory blocks for every
    sub-vector."""

    def __post_init__(self) -> None:
        CapacityConfig.__post_init__(self)
        TrainingConfig.__post_init__(self)
        most = f"at most {MAX_FLOAT:g}"
        if (rate := self.base_lr) is not None:
            require("base_lr", rate, 0 < rate <= MAX_FLOAT, f"above 0 and {most}")
        final = self.final_lr
        require("final_lr", final, 0 < final <= MAX_FLOAT, f"above 0 and {most}")
        if self.schedule == "class" and final > self.lr:
            problem = f"is above {setting('lr', self.lr)}"
            raise InputError(
                setting("final_lr", final), problem, "give a final rate below the rate"
            )
        decay = self.base_weight_decay
        holds = 0 <= decay <= MAX_FLOAT
        require("base_weight_decay", decay, holds, f"at least 0 and {most}")
        alpha = self.mixup_alpha
        holds = alpha == 0 or 1e-6 <= alpha <= 1e6
        require("mixup_alpha", alpha, holds, "from 1e-6 to 1e6, or 0")
        for name in ("lr_step", "images_per_class"):
            require(
                name, (value := getattr(self, name)), 1 <= value < 1 << 31, "from 1 to 2^31 - 1"
            )
        counts = ("base_batch_size", "images_per_step", "rehearsal_samples_per_update")
        for name in (*counts, "pq_codebooks"):
            if (value := getattr(self, name)) is not None:
                require(name, value, 1 <= value <= 1 << 16, "from 1 to 65536")
        if (count := self.pq_centroids) is not None:
            holds = 2 <= count <= MAX_CENTROIDS
            require("pq_centroids", count, holds, f"from 2 to {MAX_CENTROIDS}")

    @property
    def least_lr(self) -> float:
        """The final rate, with a schedule that ends there."""
        return self.final_lr if self.schedule == "class" else 0.0

    def resolved(self, channels: int) -> Self:
        """The settings with defaults filled in, as stored with results.

        Args:
            channels: channels of the feature maps.

        Raises:
            InputError: the channels cannot be split into so many sub-vectors.
        """
        config = self
        if all(getattr(self, name) is None for name in CAPACITIES):
            config = replace(config, memory_size=PAPER_MEMORY_SIZE)
        wanted = max(1, channels // CHANNELS_PER_CODEBOOK)
        codebooks = self.pq_codebooks or max(n for n in range(1, wanted + 1) if channels % n == 0)
        check_codebooks(codebooks, channels)
        centroids = self.pq_centroids or MAX_CENTROIDS
        if self.pq_centroids is None and self.budget_bytes is not None:
            while centroids > 2 and 2 * centroid_bytes(channels, centroids) > self.budget_bytes:
                centroids //= 2
        config = replace(config, base_lr=self.base_lr or self.lr)
        return replace(config, pq_codebooks=codebooks, pq_centroids=centroids)


@register
class Remind(Learner):
    """Trains normally on the first task, then on one image at a time with exemplars, all rebuilt
    from codes.

    The first task (base initialisation) is learned in plain steps on the features. At its end, a
    product quantiser is fitted to a random sample of its channel vectors (see
    :meth:`ProductQuantiser.fit`). Codes of random frames of the task then fill the memory, with
    equal shares for its classes, and the momentum is reset. From then on, each new image is learned
    from its own reconstruction, together with exemplars drawn uniformly (without replacement if
    there are enough). In the first pass its code is then stored. A full memory drops a random
    exemplar of the largest class.

    Every feature map of a step is randomly cropped. With mixup, twice as many exemplars are drawn
    and mixed in pairs; new images are not mixed. The share is drawn once per step. The loss is the
    mean cross entropy over new images and (mixed) exemplars. Predictions use reconstructions as
    soon as the quantiser is fitted, which is before the last test of the first task.

    The original program differs in four ways. It trains the whole network in the first task; here
    the feature extractor is frozen, as for every method. It stores the codes of all frames of that
    task and keeps this number, whatever the capacity. Its softmax is over all outputs, including
    those of unseen classes; here it is over the classes seen so far. It starts the stream with the
    weights of the epoch that was best on test images. ``images_per_step`` is an addition for speed.
    Gradients are clipped as for all methods.

    The rate is constant, as in the CRUMB authors' runs; ``schedule`` class is that of the paper's
    runs on ImageNet (see :class:`ClassRates`).
    """

    name = "remind"
    summary = "replay of feature maps rebuilt from product-quantised codes"
    paper = "Hayes et al., ECCV 2020"
    keeps = "codes, quantiser"
    Config = RemindConfig
    tuned: ClassVar[Ranges] = {
        "mixup_alpha": (0.01, 1.0),
        "rehearsal_samples_per_update": (10, 100),
    }
    needs_task_boundaries = True
    needs_second_pass = True
    tested_after_task_end = True

    def __init__(
        self, network: SplitNetwork, config: RemindConfig, seed: int = 0, device: str = "cpu"
    ) -> None:
        refuse_trainable_front(network)
        if config.random_resized_crops:
            check_grid(network, setting("random_resized_crops", True))
        config = config.resolved(network.feature_shape[0])
        super().__init__(network, config, seed, device)
        assert config.pq_codebooks is not None
        assert config.pq_centroids is not None
        self.quantiser = ProductQuantiser(
            network.feature_shape, config.pq_codebooks, config.pq_centroids, self.device
        )
        storage, memory = QuantisedStorage(self.quantiser), self.generators["memory"]
        self.exemplars = ChosenExemplars(config, storage, memory, self.device)
        steps = (config.lr_step, config.images_per_class)
        falling = config.schedule == "class"
        self.rates = ClassRates(config.lr, config.final_lr, *steps) if falling else None
        self._set_rates()

    def _set_rates(self) -> None:
        """Set learning rate and weight decay for the first task or for later ones."""
        config, group = self.config, self.optimizer.param_groups[0]
        base = not self.quantiser.ready
        group["lr"] = config.base_lr if base else config.lr
        group["weight_decay"] = config.base_weight_decay if base else config.weight_decay

    # The update rule.

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Take steps on the images in order; after the first task each step includes exemplars.

        Returns:
            mean losses over the steps.
        """
        steps: list[dict[str, Tensor]] = []
        if not self.quantiser.ready:
            size = self.config.base_batch_size or len(batch)
            parts = zip(batch.features.split(size), batch.labels.split(size), strict=True)
            steps = [self._base_step(features, labels) for features, labels in parts]
        else:
            size, codes = self.config.images_per_step, self.exemplars.storage.encode(batch)
            for some, labels in zip(codes.split(size), batch.labels.split(size), strict=True):
                steps.append(self._step_with_exemplars(some, labels))
                if batch.first_pass:
                    self._store(some, labels)
        return {name: torch.stack([step[name] for step in steps]).mean() for name in steps[0]}

    def _base_step(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        loss = self.loss(features, labels)
        self.step(loss)
        return {"direct": loss.detach()}

    def _step_with_exemplars(self, codes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Take one step on new images, uint8 [n, code_length], and exemplars, all rebuilt from
        codes.
        """
        config, generator, new = self.config, self.generators["replay"], len(codes)
        if self.rates is not None:
            self.optimizer.param_groups[0]["lr"] = self.rates.next(labels)
        drawn = config.rehearsal_samples_per_update * (2 if config.mixup_alpha else 1)
        stored, theirs = self.exemplars.memory.sample(drawn, generator)
        maps = self.exemplars.storage.features(torch.cat([codes, stored]))
        targets = one_hot(torch.cat([labels, theirs]), len(self.classes)).float().to(self.device)
        if config.random_resized_crops:
            crops = partial(random_resized_crops, generator=generator)
            maps = on_grid(self.network, maps, crops)
        if config.mixup_alpha:
            share = beta(config.mixup_alpha, generator)
            maps, targets = (mixed(values, new, share) for values in (maps, targets))
        each = cross_entropy(self.active(self.network(maps)), targets, reduction="none")
        self.step(each.mean())
        return {"quantised": each[:new].mean().detach(), "replay": each[new:].mean().detach()}

    # The memory.

    def _store(self, codes: Tensor, labels: Tensor) -> None:
        """Store new images, replacing others if the memory is full."""
        memory, generator = self.exemplars.memory, self.generators["memory"]
        for code, label in zip(codes, labels.tolist(), strict=True):
            if len(memory) < memory.capacity:
                memory.add(label, code[None])
                continue
            largest = largest_classes(memory)
            victim = largest[random_below(len(largest), generator)]
            memory.overwrite(victim, random_below(memory.count(victim), generator), label, code)

    def end_task(self, batches: Batches) -> None:
        """After the first task, fit the quantiser and fill the memory."""
        if self.quantiser.ready:
            return
        if self.config.pq_centroids_source == "crumb":
            self.quantiser.begin_with(self._memory_blocks(next(iter(batches)).features))
        else:
            self.quantiser.fit(batches, self.generators["codebook"])
        policy = OnArrival(self.exemplars.memory, self.generators["memory"])
        for batch in bar(batches, "codes", "batch", leave=False):
            policy.offer(self.exemplars.storage.encode(batch), batch.labels)
        self.optimizer.state.clear()
        self._set_rates()

    def _memory_blocks(self, features: Tensor) -> Tensor:
        """CRUMB's initial memory blocks, repeated for every sub-vector, float [M, K, C / M]."""
        codebooks, count, length = self.quantiser.centroids.shape
        blocks = initial_blocks(
            self.network.backbone.initialiser,
            count,
            length,
            features,
            self.generators["codebook"],
            published_statistics(self.network.config),
        )
        return blocks.expand(codebooks, -1, -1)

    # The rest of the contract.

    def scores(self, features: Tensor) -> Tensor:
        """Logits of the classes seen so far, [B, classes], from the reconstruction if a quantiser
        exists.
        """
        if self.quantiser.ready:
            features = self.quantiser.decode(self.quantiser.encode(features))
        return super().scores(features)

    def bytes_held(self) -> BytesHeld:
        """Codes; plus their row numbers, the quantiser and the images counted for the rates."""
        held = self.exemplars
        extra = held.bookkeeping_bytes + self.quantiser.nbytes
        extra += 0 if self.rates is None else self.rates.nbytes
        return BytesHeld(held.nbytes, extra, held.reading_bytes)

    def state_dict(self) -> dict[str, Tensor]:
        """Network, generators and momentum; codes, quantiser and counts of images."""
        parts = {"memory": self.exemplars.state_dict(), "quantiser": self.quantiser.state_dict()}
        parts |= {} if self.rates is None else {"rates": self.rates.state_dict()}
        named = {f"{part}.{name}": v for part, held in parts.items() for name, v in held.items()}
        return super().state_dict() | named

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the :meth:`state_dict` of a learner with the same settings and classes."""
        super().load_state_dict(state)
        self.exemplars.load_state_dict(strip_prefix(state, "memory."))
        self.quantiser.load_state_dict(strip_prefix(state, "quantiser."))
        if self.rates is not None:
            self.rates.load_state_dict(strip_prefix(state, "rates."))
        self._set_rates()
