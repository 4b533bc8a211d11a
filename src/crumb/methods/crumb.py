"""CRUMB: compositional replay using memory blocks.

Talbot, Zawar, Badkundri, Zhang, Kreiman, "Tuned Compositional Feature Replays for Efficient
Stream Learning", TNNLS 2025, arXiv 2104.02206. The settings are in crumb_config.py.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from crumb.codebook.codebook import Codebook, check_block_length
from crumb.codebook.initialisers import check_initialiser, initial_blocks, published_statistics
from crumb.codebook.statistics import reconstruction_statistics
from crumb.data.batches import Batch, Batches
from crumb.errors import InputError
from crumb.memory import storage as forms
from crumb.memory.draws import balanced
from crumb.memory.exemplars import ClassReplay, Exemplars
from crumb.memory.gaussian import GaussianMemory
from crumb.methods.base import BytesHeld, strip_prefix
from crumb.methods.compute import Budgeted
from crumb.methods.crumb_config import WITH_CODEBOOK, CrumbConfig, resolved
from crumb.methods.described import Ranges
from crumb.methods.registry import register
from crumb.methods.training import refuse_trainable_front
from crumb.nets.split import SplitNetwork


@register
class Crumb(Budgeted):
    """Learns on reconstructions; replays exemplars rebuilt from stored block indices.

    The losses follow the paper (its code inverts a flag): the reconstruction loss on new images in
    streaming, the sum of both losses in pretraining. With ``storage`` image, raw_feature,
    enhanced_feature or merec there is no codebook, and the loss is the direct one.
    """

    name = "crumb"
    summary = "replay of feature maps rebuilt from memory blocks"
    paper = "Talbot et al., TNNLS 2025"
    keeps = "block indices, codebook"
    Config = CrumbConfig
    why_no_budget = ""
    tuned: ClassVar[Ranges] = {"replay_coefficient": (0.5, 50.0)}

    def __init__(
        self, network: SplitNetwork, config: CrumbConfig, seed: int = 0, device: str = "cpu"
    ) -> None:
        if config.storage in WITH_CODEBOOK:
            refuse_trainable_front(network)
        config = resolved(config, network.backbone)
        super().__init__(network, config, seed, device)
        rereads = config.write_policy == "end-of-task" and config.storage != "none"
        self.needs_task_boundaries = self.needs_second_pass = rereads
        self.needs_images = config.storage == "image"
        if self.needs_images and config.new_as_stored:
            self.put_through(config.form(network.preprocessing.size))
        self.codebook = self._empty_codebook() if config.storage in WITH_CODEBOOK else None
        self._initialised = False
        self.exemplars = self._empty_memory()

    # The update rule.

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the new batch, then replay the classes that are not in it."""
        if self.budget:
            self.budget.begin(len(batch))
        losses = self._step_on_new(batch)
        cost = len(losses) * len(batch)
        for turn in range(self.config.replay_times):
            times = self.config.replay_times - turn
            if (replay := self._replay(batch.labels, times)) is not None:
                losses["replay"] = replay
        while self.budget and "replay" not in losses and self.budget.left >= cost:
            self._step_on_new(batch)
        if self.exemplars is not None:
            self.exemplars.on_batch(batch)
        return {name: loss.detach() for name, loss in losses.items()}

    def _step_on_new(self, batch: Batch) -> dict[str, Tensor]:
        losses = self._losses_on_new(batch)
        weights = {"codebook": self.config.codebook_loss, "direct": self.config.direct_loss}
        if self.codebook is None:
            weights = {"direct": 1.0}
        self.step(torch.stack([weights[name] * loss for name, loss in losses.items()]).sum())
        return losses

    def _losses_on_new(self, batch: Batch) -> dict[str, Tensor]:
        losses = {}
        if self.codebook is not None:
            self._initialise(batch.features)
            if self.config.codebook_loss:
                losses["codebook"] = self.loss(self.codebook(batch.features), batch.labels)
        if self.codebook is None or self.config.direct_loss:
            losses["direct"] = self.loss(batch.features, batch.labels)
        return losses

    def _replay(self, labels: Tensor, times: int) -> Tensor | None:
        """Draw exemplars of all stored classes missing from the batch, equally often, at least one
        batch. With a compute budget, draw as many as it leaves for each of ``times`` steps.
        """
        if self.exemplars is None:
            return None
        present = set(labels.tolist())
        stored = [label for label in range(len(self.classes)) if self.exemplars.count(label)]
        if not (absent := [label for label in stored if label not in present]):
            return None
        generator = self.generators["replay"]
        drawn = absent * -(-len(labels) // len(absent))
        if self.budget:
            if (count := self.budget.after(len(labels)) // times) == 0:
                return None
            drawn = balanced(absent, count, generator)
        features = self.exemplars.draw(drawn, generator)
        loss = self.loss(features, torch.tensor(drawn))
        self.step(self.config.replay_coefficient * loss)
        return loss

    # The memory.

    def end_task(self, batches: Batches) -> None:
        """Write the memory in a second pass over the task (only with ``end-of-task``)."""
        if self.exemplars is not None:
            with self.inference():
                self.exemplars.on_task_end(batches, len(self.classes))

    def check_room(self, classes: int) -> None:
        """Refuse a memory too small for one exemplar per class at the end of a task."""
        if self.exemplars is not None:
            self.exemplars.check_room(classes)

    def _empty_memory(self) -> ClassReplay | None:
        kind, on_arrival = self.config.storage, self.config.write_policy == "on-arrival"
        if kind == "none":
            return None
        if kind == "merec":
            return GaussianMemory(self.network.feature_shape, self.device, on_arrival)
        storage: forms.Storage
        if self.codebook is not None:
            storage = forms.CodeStorage(self.codebook)
        elif kind == "image":
            form = self.config.form(self.network.preprocessing.size)
            storage = forms.ImageStorage(self.network, form)
        elif kind == "enhanced_feature":
            storage = forms.EnhancedFeatureStorage(self.network, self.loss)
        else:
            storage = forms.RawFeatureStorage(self.network)
        memory = self.generators["memory"]
        return Exemplars(self.config, storage, memory, self.device, embed=self.embed_quietly)

    # The codebook.

    def _empty_codebook(self) -> Codebook:
        config = self.config
        check_block_length(config.block_length, self.network.feature_shape[0])
        check_initialiser(config.initialiser, config.blocks, config.block_length)
        blocks = torch.zeros(config.blocks, config.block_length)
        codebook = Codebook(blocks, self.network.feature_shape).to(self.device)
        codebook.blocks.requires_grad_(not config.frozen_blocks)
        self.train_also([codebook.blocks])
        return codebook

    def set_codebook(self, blocks: Tensor) -> None:
        """Start from these memory blocks, float [K, D]."""
        assert self.codebook is not None
        with torch.no_grad():
            self.codebook.blocks.copy_(blocks)
        self._initialised = True

    def start_codebook(self, blocks: Tensor | None, source: object) -> bool:
        """Start from pretrained memory blocks; see :class:`Learner`."""
        if self.codebook is None:
            return False
        size = tuple(self.codebook.blocks.shape)
        if blocks is None or tuple(blocks.shape) != size:
            found = "no codebook" if blocks is None else f"a codebook of {tuple(blocks.shape)}"
            raise InputError(
                source, f"holds {found}, but this run needs {size}", "pretrain with the same size"
            )
        self.set_codebook(blocks)
        return True

    def _initialise(self, features: Tensor) -> None:
        """On the first batch, initialise the blocks, matched to its features if requested."""
        if self._initialised or self.codebook is None:
            return
        blocks = initial_blocks(
            self.config.initialiser,
            self.config.blocks,
            self.config.block_length,
            features,
            self.generators["codebook"],
            published_statistics(self.network.config),
        )
        self.set_codebook(blocks)

    # The rest of the contract.

    def mem_scores(self, features: Tensor) -> Tensor | None:
        """Logits of f(reconstruction of z)."""
        return None if self.codebook is None else super().scores(self.codebook(features))

    def statistics(self, batch: Batch) -> dict[str, float] | None:
        """The published statistics of codebook, features and reconstruction on this batch."""
        if self.codebook is None:
            return None
        self._initialise(batch.features)
        return reconstruction_statistics(self.codebook, batch.features)

    def bytes_held(self) -> BytesHeld:
        """Exemplars; plus their row numbers and the codebook."""
        if self.exemplars is None:
            return BytesHeld(0, self.codebook.blocks.nbytes if self.codebook is not None else 0)
        extra = self.exemplars.bookkeeping_bytes + self.exemplars.reader_bytes
        extra += self.counted_bytes
        return BytesHeld(self.exemplars.nbytes, extra, self.exemplars.reading_bytes)

    def parameters(self) -> dict[str, nn.Parameter]:
        """The tail and the memory blocks; one optimizer trains both."""
        own = {} if self.codebook is None else {"codebook.blocks": self.codebook.blocks}
        return super().parameters() | own

    def state_dict(self) -> dict[str, Tensor]:
        """Network, generators and momentum; memory blocks, exemplars and the policy's counts."""
        state = super().state_dict()
        if self.codebook is not None:
            state |= {
                "codebook.blocks": self.codebook.blocks.detach(),
                "codebook.initialised": torch.tensor(self._initialised),
            }
        if self.exemplars is not None:
            held = self.exemplars.state_dict()
            state |= {f"memory.{name}": value for name, value in held.items()}
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the :meth:`state_dict` of a learner with the same settings and classes."""
        super().load_state_dict(state)
        if self.codebook is not None:
            self.codebook.load_state_dict({"blocks": state["codebook.blocks"]})
            self._initialised = bool(state["codebook.initialised"])
        if self.exemplars is not None:
            self.exemplars.load_state_dict(strip_prefix(state, "memory."))
