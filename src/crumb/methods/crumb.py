"""CRUMB: compositional replay using memory blocks.

Talbot, Zawar, Badkundri, Zhang, Kreiman, "Tuned Compositional Feature Replays for Efficient
Stream Learning", TNNLS 2025, arXiv 2104.02206.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from crumb.codebook.codebook import Codebook, check_block_length
from crumb.codebook.initialisers import PUBLISHED, check_initialiser, initial_blocks
from crumb.codebook.statistics import reconstruction_statistics
from crumb.data.batches import Batch, Batches
from crumb.errors import InputError
from crumb.memory.policies import EndOfTask, OnArrival, check_share
from crumb.memory.replay import ReplayMemory, capacity_in_bytes
from crumb.memory.storage import (
    CodeStorage,
    GaussianMemory,
    ImageStorage,
    RawFeatureStorage,
    Storage,
)
from crumb.methods.base import BytesHeld, Learner, TrainingConfig, require, under
from crumb.methods.registry import register
from crumb.nets.split import SplitNetwork

PAPER_MEMORY_SIZE = 417
"""Codes of 5,408 bytes in the room of 15 images (Talbot et al. 2025, section IV-C)."""


@dataclass(frozen=True)
class CrumbConfig(TrainingConfig):
    """Settings of CRUMB; the defaults are the paper's for video data sets."""

    blocks: int = 256
    """Memory blocks in the codebook."""
    block_length: int | None = None
    """Channels per memory block; the backbone's own by default (16 for most)."""
    initialiser: str | None = None
    """Initial values of the blocks; the backbone's own by default."""
    memory_size: int | None = None
    """Capacity in exemplars over all classes (default 417, the paper's)."""
    memory_bytes: int | None = None
    """Capacity in bytes of exemplars, instead of MEMORY-SIZE."""
    storage: Literal["feature", "image", "raw_feature", "merec", "none"] = "feature"
    """What is kept of an exemplar: block indices, pixels, the feature map, a Gaussian, nothing."""
    write_policy: Literal["end-of-task", "on-arrival"] = "end-of-task"
    """Second reading of each task (the paper), or a class-balanced reservoir in a single pass."""
    replay_coefficient: float = 5.0
    """Weight of the replay loss."""
    replay_times: int = 1
    """Replay steps after each batch."""
    codebook_loss: float = 1.0
    """Weight of the loss on reconstructed features of new images."""
    direct_loss: float = 0.0
    """Weight of the loss on the features themselves (1 in pretraining)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require("--blocks", self.blocks, 1 <= self.blocks <= 1 << 20, "from 1 to 2^20")
        for flag in ("replay_coefficient", "replay_times", "codebook_loss", "direct_loss"):
            value = getattr(self, flag)
            require(f"--{flag.replace('_', '-')}", value, value >= 0, "at least 0")
        if self.memory_size is not None and self.memory_bytes is not None:
            raise InputError("--memory-size", "contradicts --memory-bytes", "give one of them")
        for flag in ("memory_size", "memory_bytes"):
            value = getattr(self, flag)
            if value is not None:
                require(f"--{flag.replace('_', '-')}", value, value >= 1, "at least 1")
        if self.codebook_loss == 0 and self.direct_loss == 0:
            raise InputError("--codebook-loss 0", "leaves no loss", "give --direct-loss as well")


@register
class Crumb(Learner):
    """Learns on reconstructions; replays exemplars rebuilt from stored block indices.

    The losses are the ones the paper means (its code inverts a flag): on new images the loss of
    the reconstruction in streaming, the sum of both in pretraining. With ``storage`` image,
    raw_feature or merec there is no codebook, and the loss is the direct one.
    """

    name = "crumb"
    summary = "replay of feature maps rebuilt from memory blocks (Talbot et al. 2025)"
    Config = CrumbConfig

    def __init__(
        self, network: SplitNetwork, config: CrumbConfig, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(network, config, seed, device)
        self.codebook: Codebook | None = None
        self.storage: Storage | None = None
        self.memory: ReplayMemory | GaussianMemory | None = None
        self.writer: EndOfTask | OnArrival | None = None
        self.needs_task_boundaries = config.write_policy == "end-of-task"
        self.needs_images = config.storage == "image"
        self._check_codebook_settings()
        if config.storage == "merec":
            self.memory = GaussianMemory(network.feature_shape, self.device)
        elif config.storage in ("image", "raw_feature"):
            choice = ImageStorage if config.storage == "image" else RawFeatureStorage
            self._open_memory(choice(network))

    # The update rule.

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """One step on the new batch, then replay of the classes that are not in it."""
        losses = self._losses_on_new(batch)
        weights = {"codebook": self.config.codebook_loss, "direct": self.config.direct_loss}
        if not self.uses_codebook:
            weights = {"direct": 1.0}
        self.step(sum((weights[name] * loss for name, loss in losses.items()), torch.zeros(())))
        for _ in range(self.config.replay_times):
            if (replay := self._replay(batch.labels)) is not None:
                losses["replay"] = replay
        if self.config.write_policy == "on-arrival" and batch.first_pass:
            self._store_on_arrival(batch)
        return {name: loss.detach() for name, loss in losses.items()}

    def _losses_on_new(self, batch: Batch) -> dict[str, Tensor]:
        losses = {}
        if self.uses_codebook and self.config.codebook_loss:
            rebuilt = self._codebook_for(batch)(batch.features)
            losses["codebook"] = self.loss(rebuilt, batch.labels)
        if not self.uses_codebook or self.config.direct_loss:
            losses["direct"] = self.loss(batch.features, batch.labels)
        return losses

    def _replay(self, labels: Tensor) -> Tensor | None:
        """Every stored class that the batch lacks, equally often, at least as many as the batch."""
        if self.memory is None:
            return None
        present = set(labels.tolist())
        absent = [
            label
            for label in range(len(self.classes))
            if label not in present and self.memory.count(label)
        ]
        if not absent:
            return None
        drawn = absent * -(-len(labels) // len(absent))
        rows = self.memory.draw(drawn, self.generators["replay"])
        features = self.storage.features(rows) if self.storage else rows
        loss = self.loss(features, torch.tensor(drawn, device=self.device))
        self.step(self.config.replay_coefficient * loss)
        return loss

    # The memory.

    def end_task(self, batches: Batches) -> None:
        """Second reading of the task: write the memory (only with ``end-of-task``)."""
        if self.config.write_policy != "end-of-task" or self.memory is None:
            return
        with self.evaluation():
            if isinstance(self.memory, GaussianMemory):
                for batch in batches:
                    self.memory.offer(batch.features, batch.labels)
                return
            assert isinstance(self.writer, EndOfTask)
            assert self.storage is not None
            self.writer.begin(len(self.classes), len(batches), batches.batch_size)
            for batch in batches:
                if self.writer.offer(self.storage.encode(batch), batch.labels):
                    break

    def _store_on_arrival(self, batch: Batch) -> None:
        if isinstance(self.memory, GaussianMemory):
            self.memory.offer(batch.features, batch.labels)
        elif isinstance(self.writer, OnArrival):
            assert self.storage is not None
            self.writer.offer(self.storage.encode(batch), batch.labels)

    def _open_memory(self, storage: Storage) -> None:
        capacity = self._capacity(storage)
        self.storage = storage
        self.memory = ReplayMemory(capacity, storage.row_shape, storage.dtype, self.device)
        policy = EndOfTask if self.config.write_policy == "end-of-task" else OnArrival
        self.writer = policy(self.memory, self.generators["memory"])

    def _capacity(self, storage: Storage) -> int:
        """Most exemplars that may be kept."""
        if self.config.memory_bytes is None:
            return self.config.memory_size or PAPER_MEMORY_SIZE
        row = torch.empty(storage.row_shape, dtype=storage.dtype, device="meta")
        return capacity_in_bytes(self.config.memory_bytes, row.nbytes)

    def _code_storage(self) -> CodeStorage:
        """Storage as it will be once there is a codebook; for its sizes only."""
        blocks = torch.empty(self.config.blocks, self.block_length, device="meta")
        return CodeStorage(Codebook(blocks, self.network.feature_shape))

    def check_room(self, classes: int) -> None:
        """Refuse a memory in which some class would get no exemplar at the end of a task."""
        storage = self._code_storage() if self.config.storage == "feature" else self.storage
        if storage is not None and self.config.write_policy == "end-of-task":
            check_share(self._capacity(storage), classes, self.config.memory_bytes)

    # The codebook.

    @property
    def uses_codebook(self) -> bool:
        """Whether new images are learned from their reconstruction."""
        return self.config.storage in ("feature", "none")

    @property
    def block_length(self) -> int:
        """Channels per memory block."""
        given = self.config.block_length
        return self.network.backbone.block_length if given is None else given

    @property
    def initialiser(self) -> str:
        """Name of the codebook's initialiser."""
        return self.config.initialiser or self.network.backbone.initialiser

    def _check_codebook_settings(self) -> None:
        if not self.uses_codebook:
            return
        check_block_length(self.block_length, self.network.feature_shape[0])
        check_initialiser(self.initialiser, self.config.blocks)
        if self.config.storage == "feature":
            self._capacity(self._code_storage())

    def set_codebook(self, blocks: Tensor) -> None:
        """Start from these memory blocks, float [K, D]; at most once."""
        assert self.codebook is None
        self.codebook = Codebook(blocks, self.network.feature_shape).to(self.device)
        self.optimizer.param_groups[0]["params"].append(self.codebook.blocks)
        if self.config.storage == "feature":
            self._open_memory(CodeStorage(self.codebook))

    def start_codebook(self, blocks: Tensor | None, source: object) -> None:
        """Begin with pretrained memory blocks; errors as in :class:`Learner`."""
        if not self.uses_codebook:
            return
        size = (self.config.blocks, self.block_length)
        if blocks is None or tuple(blocks.shape) != size:
            found = "no codebook" if blocks is None else f"a codebook of {tuple(blocks.shape)}"
            raise InputError(source, f"holds {found}, this run needs {size}", "pretrain with that")
        self.set_codebook(blocks)

    def _codebook_for(self, batch: Batch) -> Codebook:
        """The codebook; on the first batch it is initialised, matched to the features if asked."""
        if self.codebook is None:
            source = self.network.config
            published = PUBLISHED.get((source.backbone, source.cut or ""))
            self.set_codebook(
                initial_blocks(
                    self.initialiser,
                    self.config.blocks,
                    self.block_length,
                    batch.features,
                    self.generators["codebook"],
                    published if source.weights == "pretrained" else None,
                )
            )
        assert self.codebook is not None
        return self.codebook

    # The rest of the contract.

    def scores(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of f(z) and of f(reconstruction of z)."""
        direct = self.active(self.network(features))
        if self.codebook is None:
            return direct, direct
        return direct, self.active(self.network(self.codebook(features)))

    def statistics(self, batch: Batch) -> dict[str, float] | None:
        """The published figures of codebook, features and reconstruction on this batch."""
        if not self.uses_codebook:
            return None
        return reconstruction_statistics(self._codebook_for(batch), batch.features)

    def bytes_held(self) -> BytesHeld:
        """Exemplars; and the row numbers of exemplars and the codebook."""
        extra = self.codebook.blocks.nbytes if self.codebook is not None else 0
        if self.memory is None:
            return BytesHeld(0, extra)
        return BytesHeld(self.memory.nbytes, extra + self.memory.bookkeeping_bytes)

    def parameters(self) -> dict[str, nn.Parameter]:
        """The tail and the memory blocks: one optimizer holds both."""
        own = {} if self.codebook is None else {"codebook.blocks": self.codebook.blocks}
        return super().parameters() | own

    def state_dict(self) -> dict[str, Tensor]:
        """Network, generators and momentum; memory blocks, exemplars and the policy's counts."""
        state = super().state_dict()
        parts: dict[str, Any] = {"memory": self.memory, "codebook": self.codebook}
        if isinstance(self.writer, OnArrival):
            parts["policy"] = self.writer
        for name, part in parts.items():
            if part is not None:
                state |= {f"{name}.{key}": value for key, value in part.state_dict().items()}
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over :meth:`state_dict` of a learner with the same settings and classes."""
        if "codebook.blocks" in state:
            if self.codebook is None:
                self.set_codebook(state["codebook.blocks"])
            assert self.codebook is not None
            self.codebook.load_state_dict({"blocks": state["codebook.blocks"]})
        super().load_state_dict(state)
        if self.memory is not None:
            self.memory.load_state_dict(under(state, "memory."))
        if isinstance(self.writer, OnArrival):
            self.writer.load_state_dict(under(state, "policy."))
