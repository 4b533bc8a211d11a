"""Base class of methods that store images or feature maps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Generic, Literal, Self, TypeVar

from torch import Tensor

from crumb.data.batches import Batches
from crumb.errors import InputError, require, setting
from crumb.memory.capacity import (
    AT_TASK_END,
    CAPACITIES,
    PAPER_MEMORY_BYTES,
    ImageConfig,
    MemoryConfig,
    WritePolicy,
)
from crumb.memory.exemplars import Exemplars, ReplayStore
from crumb.memory.payload import Fields
from crumb.memory.storage import ImageStorage, RawFeatureStorage, Storage
from crumb.methods.base import BytesHeld, strip_prefix
from crumb.methods.compute import Budgeted
from crumb.methods.teacher import EmaTeacher
from crumb.methods.training import ComputeConfig, TrainingConfig
from crumb.nets.split import SplitNetwork


@dataclass(frozen=True)
class RehearsalConfig(ImageConfig, TrainingConfig, ComputeConfig):
    """Settings of the exemplar memory."""

    memory_size: int | None = None
    """Capacity in exemplars over all classes. Default: as many as fit into the paper's 15 images as
    pixels (2,257,920 bytes)."""
    storage: Literal["image", "raw_feature"] = "image"
    """Form of an exemplar: the image (JPEG) or the feature map (float32)."""
    teacher: Literal["none", "ema"] = "none"
    """Which weights predict: those that are trained (none), or their exponential moving average
    (ema), a copy of the tail that counts as extra bytes."""
    teacher_decay: float = 0.99
    """Share of the moving average that each step keeps (only with an ema teacher)."""

    def __post_init__(self) -> None:
        ImageConfig.__post_init__(self)
        TrainingConfig.__post_init__(self)
        self.check_budget()
        require("teacher_decay", self.teacher_decay, 0 <= self.teacher_decay < 1, "in [0, 1)")
        usual = RehearsalConfig.__dataclass_fields__["teacher_decay"].default
        if self.teacher == "none" and self.teacher_decay != usual:
            problem = f"has no effect with {setting('teacher', 'none')}"
            given = setting("teacher_decay", self.teacher_decay)
            raise InputError(given, problem, "leave one of them out")

    def resolved(self, network: SplitNetwork) -> Self:
        """The settings with defaults filled in, as stored with results.

        Raises:
            InputError: stored images would be larger than those of the stream.
        """
        config = self
        if all(getattr(self, name) is None for name in CAPACITIES):
            config = replace(config, memory_bytes=PAPER_MEMORY_BYTES)
        return config.with_form(network.preprocessing.size) if self.storage == "image" else config


@dataclass(frozen=True)
class PolicyRehearsalConfig(RehearsalConfig, MemoryConfig):
    """Settings of the exemplar memory and of the choice of exemplars."""

    write_policy: WritePolicy = "on-arrival"
    """How exemplars are chosen: class-balanced reservoir (on-arrival), plain reservoir over all
    frames (reservoir), the first frames of each class (greedy), or equal shares per class in a
    second pass over each task, at even steps (end-of-task) or by herding (herding)."""


@dataclass(frozen=True)
class ReservoirConfig(PolicyRehearsalConfig):
    """The same settings for methods whose authors use a plain reservoir."""

    write_policy: WritePolicy = "reservoir"
    """How exemplars are chosen: plain reservoir over all frames (reservoir, as in the paper),
    class-balanced reservoir (on-arrival), the first frames of each class (greedy), or equal shares
    per class in a second pass over each task, at even steps (end-of-task) or by herding
    (herding)."""


M = TypeVar("M", bound=ReplayStore)


class Rehearsal(Budgeted, Generic[M]):
    """A learner with exemplars, which subclasses create in their constructor.

    Attributes:
        exemplars: the stored exemplars.
        teacher: the moving average of the weights that predicts, if the settings ask for one.
    """

    exemplars: M

    def __init__(
        self, network: SplitNetwork, config: RehearsalConfig, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(network, config.resolved(network), seed, device)
        self.teacher: EmaTeacher | None = None
        if config.teacher == "ema":
            self.teacher = EmaTeacher(self.network, config.teacher_decay)
            self.supports_best_epoch = False
        self.needs_images = config.storage == "image"
        if self.needs_images and self.config.new_as_stored:
            self.put_through(self.config.form(network.preprocessing.size))

    def storage(self) -> Storage:
        """The storage of exemplars that the settings specify."""
        if self.needs_images:
            return ImageStorage(self.network, self.config.form(self.network.preprocessing.size))
        return RawFeatureStorage(self.network)

    def end_task(self, batches: Batches) -> None:
        """Write the memory in a second pass over the task, if the policy does so."""
        with self.inference():
            self.exemplars.on_task_end(batches, len(self.classes))

    def descend(self) -> None:
        """Take one optimizer step, which the teacher follows."""
        if self.teacher:
            self.teacher.start()
        super().descend()
        if self.teacher:
            self.teacher.follow()

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """As of :class:`Learner`; with the weights of the teacher, if there is one."""
        with self.teacher.predicting() if self.teacher else nullcontext(), super().evaluation():
            yield

    def _resize_head(self, outputs: int, keep: int | None = None) -> None:
        super()._resize_head(outputs, keep)
        if self.teacher:
            self.teacher.replace_head(len(self.classes) if keep is None else keep)

    def reset(self) -> None:
        """As of :class:`Learner`; the teacher starts anew too."""
        super().reset()
        if self.teacher:
            self.teacher.weights = {}

    def check_room(self, classes: int) -> None:
        """Refuse a memory too small for one exemplar per class at the end of a task."""
        self.exemplars.check_room(classes)

    def bytes_held(self) -> BytesHeld:
        """Exemplars; plus row numbers, counts, the shared JPEG header and the teacher."""
        held = self.exemplars
        extra = held.bookkeeping_bytes + held.reader_bytes
        extra += (self.teacher.nbytes if self.teacher else 0) + self.counted_bytes
        return BytesHeld(held.nbytes, extra, held.reading_bytes)

    def state_dict(self) -> dict[str, Tensor]:
        """Network, generators and momentum; exemplars, the policy's counts and the teacher."""
        state = super().state_dict()
        state |= {f"memory.{name}": v for name, v in self.exemplars.state_dict().items()}
        averages = self.teacher.state_dict() if self.teacher else {}
        return state | {f"teacher.{name}": value for name, value in averages.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the :meth:`state_dict` of a learner with the same settings and classes."""
        super().load_state_dict(state)
        self.exemplars.load_state_dict(strip_prefix(state, "memory."))
        if self.teacher:
            self.teacher.load_state_dict(strip_prefix(state, "teacher."))


class PolicyRehearsal(Rehearsal[Exemplars]):
    """Rehearsal with exemplars chosen by a policy, on arrival or in a second pass."""

    def __init__(
        self,
        network: SplitNetwork,
        config: PolicyRehearsalConfig,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        super().__init__(network, config, seed, device)
        self.needs_task_boundaries = self.needs_second_pass = (
            self.config.write_policy in AT_TASK_END
        )
        memory, fields = self.generators["memory"], self.fields()
        self.exemplars = Exemplars(
            self.config, self.storage(), memory, self.device, fields, self.embed_quietly
        )

    def fields(self) -> Fields:
        """Additional tensors to store with each exemplar, passed to :meth:`Exemplars.on_batch`."""
        return {}
