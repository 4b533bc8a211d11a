"""What methods that keep images or feature maps of the past share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, Literal, Self, TypeVar

from torch import Tensor

from crumb.data.batches import Batches
from crumb.memory.capacity import (
    CAPACITIES,
    PAPER_MEMORY_BYTES,
    ImageConfig,
    MemoryConfig,
    WritePolicy,
)
from crumb.memory.exemplars import Exemplars, ReplayStore
from crumb.memory.payload import Fields
from crumb.memory.storage import ImageStorage, RawFeatureStorage, Storage
from crumb.methods.base import BytesHeld, Learner, strip_prefix
from crumb.methods.training import TrainingConfig
from crumb.nets.split import SplitNetwork


@dataclass(frozen=True)
class RehearsalConfig(ImageConfig, TrainingConfig):
    """How much is kept of the past, as images or as feature maps."""

    memory_size: int | None = None
    """Capacity in exemplars over all classes (default: those in the room of the paper's 15
    images as pixels, 2,257,920 bytes)."""
    storage: Literal["image", "raw_feature"] = "image"
    """What is kept of an exemplar: the image (JPEG) or the feature map (float32)."""

    def __post_init__(self) -> None:
        ImageConfig.__post_init__(self)
        TrainingConfig.__post_init__(self)

    def resolved(self, network: SplitNetwork) -> Self:
        """With what was left open filled in, as it is written beside results.

        Raises:
            InputError: stored images would be larger than those of the stream.
        """
        config = self
        if all(getattr(self, name) is None for name in CAPACITIES):
            config = replace(config, memory_bytes=PAPER_MEMORY_BYTES)
        return config.with_form(network.preprocessing.size) if self.storage == "image" else config


@dataclass(frozen=True)
class PolicyRehearsalConfig(RehearsalConfig, MemoryConfig):
    """How much is kept of the past, as images or as feature maps, chosen how."""

    write_policy: WritePolicy = "on-arrival"
    """A class-balanced reservoir, a plain one over all frames (reservoir), or equal shares by a
    second reading of each task (end-of-task)."""


M = TypeVar("M", bound=ReplayStore)


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
        if self.needs_images and self.config.new_as_stored:
            self.put_through(self.config.form(network.preprocessing.size))

    def storage(self) -> Storage:
        """The form of the exemplars that the settings ask for."""
        if self.needs_images:
            return ImageStorage(self.network, self.config.form(self.network.preprocessing.size))
        return RawFeatureStorage(self.network)

    def end_task(self, batches: Batches) -> None:
        """Second reading of the task: write the memory, where that is when it is written."""
        with self.inference():
            self.exemplars.on_task_end(batches, len(self.classes))

    def check_room(self, classes: int) -> None:
        """Refuse a memory in which some class would get no exemplar at the end of a task."""
        self.exemplars.check_room(classes)

    def bytes_held(self) -> BytesHeld:
        """Exemplars; and row numbers, counts, and what JPEG images have in common."""
        held = self.exemplars
        extra = held.bookkeeping_bytes + held.reader_bytes
        return BytesHeld(held.nbytes, extra, held.reading_bytes)

    def state_dict(self) -> dict[str, Tensor]:
        """Network, generators and momentum; exemplars and the policy's counts."""
        held = self.exemplars.state_dict()
        return super().state_dict() | {f"memory.{name}": value for name, value in held.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over :meth:`state_dict` of a learner with the same settings and classes."""
        super().load_state_dict(state)
        self.exemplars.load_state_dict(strip_prefix(state, "memory."))


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
        self.needs_task_boundaries = self.needs_second_pass = (
            self.config.write_policy == "end-of-task"
        )
        memory, fields = self.generators["memory"], self.fields()
        self.exemplars = Exemplars(self.config, self.storage(), memory, self.device, fields)

    def fields(self) -> Fields:
        """What else is stored with each exemplar, to be handed to :meth:`Exemplars.on_batch`."""
        return {}
