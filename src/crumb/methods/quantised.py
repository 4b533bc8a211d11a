"""Base class of methods that learn the first task on features, then on codes of a quantiser.

Hayes, Kafle, Shrestha, Acharya, Kanan, "REMIND Your Neural Network to Prevent Catastrophic
Forgetting", ECCV 2020.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self

from torch import Tensor

from crumb.codebook.initialisers import initial_blocks, published_statistics
from crumb.data.batches import Batch, Batches
from crumb.errors import require
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
from crumb.methods.base import BytesHeld, strip_prefix
from crumb.methods.compute import Budgeted
from crumb.methods.training import (
    MAX_FLOAT,
    ComputeConfig,
    TrainingConfig,
    refuse_trainable_front,
)
from crumb.nets.split import SplitNetwork
from crumb.progress import bar

CHANNELS_PER_CODEBOOK = 16


@dataclass(frozen=True)
class QuantisedConfig(CapacityConfig, TrainingConfig, ComputeConfig):
    """Settings of the first task, the quantiser and the memory of codes."""

    storage: Literal["feature"] = "feature"
    """Form of an exemplar: the code of its feature map."""
    weight_decay: float = 0.00001
    """Weight decay of SGD after the first task, added after the clipping."""
    base_lr: float | None = None
    """Learning rate in the first task. Default: LR."""
    base_weight_decay: float = 0.0001
    """Weight decay in the first task."""
    base_batch_size: int | None = None
    """Maximum number of images per step in the first task; larger batches are split."""
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
        decay = self.base_weight_decay
        holds = 0 <= decay <= MAX_FLOAT
        require("base_weight_decay", decay, holds, f"at least 0 and {most}")
        for name in ("base_batch_size", "pq_codebooks"):
            if (value := getattr(self, name)) is not None:
                require(name, value, 1 <= value <= 1 << 16, "from 1 to 65536")
        if (count := self.pq_centroids) is not None:
            holds = 2 <= count <= MAX_CENTROIDS
            require("pq_centroids", count, holds, f"from 2 to {MAX_CENTROIDS}")

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


class QuantisedRehearsal(Budgeted):
    """Learns the first task on features, then fits a product quantiser and stores codes.

    At the end of the first task, the quantiser is fitted to a random sample of the channel vectors
    of the task (see :meth:`ProductQuantiser.fit`). Codes of random frames of the task then fill the
    memory, with equal shares for its classes, and the momentum is reset. Predictions use
    reconstructions as soon as the quantiser is fitted, which is before the last test of the first
    task.

    Attributes:
        quantiser: the product quantiser; not ready in the first task.
        exemplars: the codes.
    """

    needs_task_boundaries = True
    needs_second_pass = True
    tested_after_task_end = True

    def __init__(
        self, network: SplitNetwork, config: QuantisedConfig, seed: int = 0, device: str = "cpu"
    ) -> None:
        refuse_trainable_front(network)
        config = config.resolved(network.feature_shape[0])
        super().__init__(network, config, seed, device)
        assert config.pq_codebooks is not None
        assert config.pq_centroids is not None
        self.quantiser = ProductQuantiser(
            network.feature_shape, config.pq_codebooks, config.pq_centroids, self.device
        )
        storage, memory = QuantisedStorage(self.quantiser), self.generators["memory"]
        self.exemplars = ChosenExemplars(
            config, storage, memory, self.device, embed=self.embed_quietly
        )
        self._set_rates()

    def _set_rates(self) -> None:
        """Set learning rate and weight decay for the first task or for later ones."""
        config, group = self.config, self.optimizer.param_groups[0]
        base = not self.quantiser.ready
        group["lr"] = config.base_lr if base else config.lr
        group["weight_decay"] = config.base_weight_decay if base else config.weight_decay

    # The first task.

    def learn_base(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Take steps on the features of a batch of the first task; the losses of each step."""
        size = self.config.base_batch_size or len(batch)
        parts = zip(batch.features.split(size), batch.labels.split(size), strict=True)
        return [self._base_step(features, labels) for features, labels in parts]

    def _base_step(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        loss = self.loss(features, labels)
        self.step(loss)
        return {"direct": loss.detach()}

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

    # The memory.

    def store(self, codes: Tensor, labels: Tensor) -> None:
        """Store new images, replacing others if the memory is full."""
        memory, generator = self.exemplars.memory, self.generators["memory"]
        for code, label in zip(codes, labels.tolist(), strict=True):
            if len(memory) < memory.capacity:
                memory.add(label, code[None])
                continue
            largest = largest_classes(memory)
            victim = largest[random_below(len(largest), generator)]
            memory.overwrite(victim, random_below(memory.count(victim), generator), label, code)

    # The rest of the contract.

    def scores(self, features: Tensor) -> Tensor:
        """Logits of the classes seen so far, [B, classes], from the reconstruction if a quantiser
        exists.
        """
        if self.quantiser.ready:
            features = self.quantiser.decode(self.quantiser.encode(features))
        return self.logits(features)

    def logits(self, features: Tensor) -> Tensor:
        """Logits of the classes seen so far, [B, classes], from features or reconstructions."""
        return super().scores(features)

    def bytes_held(self) -> BytesHeld:
        """Codes; plus their row numbers and the quantiser."""
        held = self.exemplars
        extra = held.bookkeeping_bytes + self.quantiser.nbytes + self.counted_bytes
        return BytesHeld(held.nbytes, extra, held.reading_bytes)

    def state_dict(self) -> dict[str, Tensor]:
        """Network, generators and momentum; codes and quantiser."""
        parts = {"memory": self.exemplars.state_dict(), "quantiser": self.quantiser.state_dict()}
        named = {f"{part}.{name}": v for part, held in parts.items() for name, v in held.items()}
        return super().state_dict() | named

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the :meth:`state_dict` of a learner with the same settings and classes."""
        super().load_state_dict(state)
        self.exemplars.load_state_dict(strip_prefix(state, "memory."))
        self.quantiser.load_state_dict(strip_prefix(state, "quantiser."))
        self._set_rates()
