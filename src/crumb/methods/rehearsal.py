"""What methods that keep images or feature maps of the past share."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Generic, Literal, Self, TypeVar

import torch
from torch import Tensor

from crumb.data.batches import Batches
from crumb.errors import InputError, require, setting
from crumb.memory.exemplars import (
    CAPACITIES,
    PAPER_MEMORY_BYTES,
    CapacityConfig,
    ChosenExemplars,
    Exemplars,
    Held,
    MemoryConfig,
    WritePolicy,
)
from crumb.memory.storage import ImageStorage, RawFeatureStorage, Storage
from crumb.methods.base import BytesHeld, Learner, TrainingConfig, under
from crumb.nets.split import SplitNetwork

WANTED_EXEMPLARS = 64
"""Images are kept as large as lets this many fit into a budget, ..."""
LEAST_SIDE = 32
"""... but not smaller than this, in pixels."""
# Bytes that are kept beside an image, at most.
_ROW_NUMBERS = 12


@dataclass(frozen=True)
class RehearsalConfig(CapacityConfig, TrainingConfig):
    """How much is kept of the past, as images or as feature maps."""

    memory_size: int | None = None
    """Capacity in exemplars over all classes (default: those in the room of the paper's 15
    images, 2,257,920 bytes)."""
    storage: Literal["image", "raw_feature"] = "image"
    """What is kept of an exemplar: pixels (uint8) or the feature map (float32)."""
    exemplar_side: int | None = None
    """Side in pixels of stored images, which replay scales up again; by default that of the
    network's input, or with BUDGET-BYTES the largest with which 64 exemplars fit, at least 32."""

    def __post_init__(self) -> None:
        CapacityConfig.__post_init__(self)
        TrainingConfig.__post_init__(self)
        if (side := self.exemplar_side) is not None:
            require("exemplar_side", side, 1 <= side < 1 << 14, "from 1 to 16383")
            if self.storage != "image":
                problem = f"is of no use with {setting('storage', self.storage)}"
                raise InputError(setting("exemplar_side", side), problem, "leave one of them out")

    def resolved(self, network: SplitNetwork) -> Self:
        """With what was left open filled in, as it is written beside results.

        Raises:
            InputError: stored images would be larger than those of the stream.
        """
        config, shown = self, network.preprocessing.size
        if all(getattr(self, name) is None for name in CAPACITIES):
            config = replace(config, memory_bytes=PAPER_MEMORY_BYTES)
        if self.storage != "image":
            return config
        side = self.exemplar_side
        if side is not None and side > shown:
            problem = f"is more than the {shown} pixels of the stream"
            raise InputError(setting("exemplar_side", side), problem, f"give at most {shown}")
        if side is None and self.budget_bytes is not None:
            each = max(0, self.budget_bytes // WANTED_EXEMPLARS - _ROW_NUMBERS)
            side = min(shown, max(LEAST_SIDE, math.isqrt(each // 3)))
        return replace(config, exemplar_side=side or shown)


@dataclass(frozen=True)
class PolicyRehearsalConfig(RehearsalConfig, MemoryConfig):
    """How much is kept of the past, as images or as feature maps, chosen how."""

    write_policy: WritePolicy = "on-arrival"
    """A class-balanced reservoir, a plain one over all frames (reservoir), or equal shares by a
    second reading of each task (end-of-task)."""


M = TypeVar("M", bound=Held)


class Rehearsal(Learner, Generic[M]):
    """A learner with exemplars; a subclass makes them in its constructor.

    Attributes:
        exemplars: what is held of the past.
    """

    exemplars: M

    def __init__(
        self, network: SplitNetwork, config: RehearsalConfig, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(network, config.resolved(network), seed, device)
        self.needs_images = config.storage == "image"

    def storage(self) -> Storage:
        """The form of the exemplars that the settings ask for."""
        if self.needs_images:
            return ImageStorage(self.network, self.config.exemplar_side)
        return RawFeatureStorage(self.network)

    def end_task(self, batches: Batches) -> None:
        """Second reading of the task: write the memory, where that is when it is written."""
        with self.evaluation():
            self.exemplars.reread(batches, len(self.classes))

    def check_room(self, classes: int) -> None:
        """Refuse a memory in which some class would get no exemplar at the end of a task."""
        self.exemplars.check_room(classes)

    def bytes_held(self) -> BytesHeld:
        """Exemplars; and row numbers and counts."""
        held = self.exemplars
        return BytesHeld(held.nbytes, held.bookkeeping_bytes, held.reading_bytes)

    def state_dict(self) -> dict[str, Tensor]:
        """Network, generators and momentum; exemplars and the policy's counts."""
        held = self.exemplars.state_dict()
        return super().state_dict() | {f"memory.{name}": value for name, value in held.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over :meth:`state_dict` of a learner with the same settings and classes."""
        super().load_state_dict(state)
        self.exemplars.load_state_dict(under(state, "memory."))


class PolicyRehearsal(Rehearsal[Exemplars]):
    """Rehearsal with exemplars that a policy chooses, as they arrive or in a second reading."""

    def __init__(
        self,
        network: SplitNetwork,
        config: PolicyRehearsalConfig,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        super().__init__(network, config, seed, device)
        self.needs_task_boundaries = self.reads_twice = self.config.write_policy == "end-of-task"
        memory = self.generators["memory"]
        self.exemplars = Exemplars(self.config, self.storage(), memory, self.device)


def joined(
    features: Tensor,
    labels: Tensor,
    exemplars: ChosenExemplars,
    stored: list[int],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """New images and as many exemplars: the class of each is drawn, then one of its exemplars.

    Args:
        features: of the new images, float [B, C, H, W].
        labels: theirs, int64 [B], on the CPU.
        exemplars: drawn from.
        stored: classes that have some; none leaves the new images alone.
        generator: of the choices (CPU).

    Returns:
        feature maps, float [2B, C, H, W], and labels, int64 [2B], both on the features' device.
    """
    if stored and len(labels):
        replayed, theirs = exemplars.sample_by_class(len(labels), generator, stored)
        features, labels = torch.cat([features, replayed]), torch.cat([labels, theirs])
    return features, labels.to(features.device, non_blocking=True)
