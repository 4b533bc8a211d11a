"""Capacity of a memory and form of its exemplars."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

from crumb.errors import InputError, require, setting
from crumb.kinds import check_kinds
from crumb.memory.images import MIN_SIDE, USUAL_QUALITY, ImageForm, usual_side

if TYPE_CHECKING:
    import torch

    from crumb.memory.payload import Fields
    from crumb.memory.replay import ReplayMemory
    from crumb.memory.storage import Storage

StorageKind = Literal["feature", "image", "raw_feature", "enhanced_feature", "merec", "none"]
WritePolicy = Literal["end-of-task", "herding", "on-arrival", "reservoir", "greedy"]
DrawPolicy = Literal["uniform", "grasp"]
END_OF_TASK, ON_ARRIVAL = "end-of-task", "on-arrival"
AT_TASK_END = (END_OF_TASK, "herding")
"""Write policies that read each task a second time."""
FIRST_TASK, FROZEN = "first-task", "frozen"
BY_MODE = {"write_policy": (END_OF_TASK, ON_ARRIVAL), "tail": (FIRST_TASK, FROZEN)}
"""Settings that the mode decides if they are None: their values in paper and in strict mode."""
PAPER_MEMORY_SIZE = 417
"""Number of codes of 5,408 bytes that fit into 15 images (Talbot et al. 2025, section IV-C)."""
PAPER_MEMORY_BYTES = 15 * 3 * 224 * 224
"""Bytes of 15 images in uint8."""

CAPACITIES = ("memory_size", "memory_bytes", "budget_bytes")
"""Capacity settings, of which at most one is given."""
IMAGE_SETTINGS = ("exemplar_side", "jpeg_quality", "new_as_stored")
"""Settings that apply only to image exemplars."""
WANTED_PIXELS = 64
"""Number of pixel images that should fit into a budget; determines their size."""
# Maximum number of bytes kept besides an image.
_BESIDE_PIXELS = 12


@dataclass(frozen=True)
class CapacityConfig:
    """Settings of capacity and storage.

    A subclass that allows fewer forms narrows the type of ``storage``.
    """

    memory_size: int | None = None
    """Capacity in exemplars over all classes (default 417, the paper's)."""
    memory_bytes: int | None = None
    """Capacity in bytes of exemplars, instead of MEMORY-SIZE."""
    budget_bytes: int | None = None
    """Capacity in bytes of exemplars and everything needed to decode and choose them (codebook,
    quantiser, row numbers, counts), instead of MEMORY-SIZE. Use the same budget for all compared
    methods."""
    storage: StorageKind = "feature"
    """Form of an exemplar: block indices, pixels, the feature map (enhanced: weighted by the
    gradient of the loss), a Gaussian per class, or nothing."""

    def __post_init__(self) -> None:
        check_kinds(self)
        given = [name for name in CAPACITIES if getattr(self, name) is not None]
        if given and self.storage in ("merec", "none"):
            names = [setting(name) for name in CAPACITIES]
            raise InputError(
                setting("storage", self.storage),
                "holds no exemplars that a capacity could count",
                f"leave {', '.join(names[:-1])} and {names[-1]} out",
            )
        if len(given) > 1:
            first, second, *_ = map(setting, given)
            raise InputError(first, f"contradicts {second}", "give one of them")
        for name in given:
            value = getattr(self, name)
            require(name, value, 1 <= value < 1 << 63, "from 1 to 2^63 - 1")

    def memory(
        self,
        storage: Storage,
        device: torch.device | str,
        fields: Fields | None = None,
        counted: int = 0,
    ) -> ReplayMemory:
        """Create an empty memory with this capacity.

        Args:
            storage: storage of its exemplars.
            device: device of the exemplars, unless they are encoded images.
            fields: fields of the payload, as in :class:`ReplayMemory`.
            counted: bytes of what the choice of exemplars counts, whatever their number.

        Raises:
            InputError: the bytes hold not even one exemplar.
        """
        import torch

        from crumb.memory.budget import Budget, capacity_in_bytes
        from crumb.memory.encoded import LENGTH_BYTES, EncodedMemory
        from crumb.memory.replay import ReplayMemory
        from crumb.memory.storage import ImageStorage

        # The row number, plus the length of an encoded image.
        beside = 4 + sum(one.nbytes for one in (fields or {}).values())
        form = storage.form if isinstance(storage, ImageStorage) and storage.form.quality else None
        if form is not None:
            row, beside = form.least_bytes, beside + LENGTH_BYTES
        else:
            assert storage.row_shape is not None
            row = torch.empty(storage.row_shape, dtype=storage.dtype, device="meta").nbytes
        capacity, budget, each = self.memory_size or PAPER_MEMORY_SIZE, None, None
        if self.budget_bytes is not None:
            each = beside
            budget = Budget(self.budget_bytes, row + each, storage.reader_bytes + counted)
            capacity = budget.exemplars()
        elif self.memory_bytes is not None:
            each = 0
            capacity = capacity_in_bytes("memory_bytes", self.memory_bytes, row)
        if form is None:
            assert storage.row_shape is not None
            return ReplayMemory(capacity, storage.row_shape, storage.dtype, device, fields, budget)
        if each is not None:
            capacity = budget.room() if budget else self.memory_bytes or 0
        given = self.capacity_setting(capacity)
        return EncodedMemory(capacity, each, row, given, fields, budget)

    def capacity_setting(self, capacity: int) -> str:
        """The capacity setting, for messages."""
        for name in CAPACITIES:
            if (value := getattr(self, name)) is not None:
                return setting(name, value)
        return setting("memory_size", capacity)


@dataclass(frozen=True)
class DrawConfig(CapacityConfig):
    """Settings of capacity, storage and draws."""

    draw_policy: DrawPolicy = "uniform"
    """How exemplars are drawn for replay: at random (uniform), or from all classes equally often,
    those near the class mean first and then harder ones (grasp), with five more bytes per
    exemplar."""


@dataclass(frozen=True)
class MemoryConfig(DrawConfig):
    """Settings of capacity, storage, draws and write policy."""

    write_policy: WritePolicy | None = None
    """How exemplars are chosen: in a second pass over each task at even steps (end-of-task, as in
    the paper) or by herding (herding); or online by a class-balanced reservoir (on-arrival), a
    plain reservoir (reservoir) or the first frames of each class (greedy). Default: end-of-task, or
    on-arrival in strict mode."""


def by_mode(config: Any, strict: bool = False) -> Any:
    """The settings of a method, with those of ``BY_MODE`` filled in where they are None."""
    chosen = {
        name: values[strict]
        for name, values in BY_MODE.items()
        if getattr(config, name, "") is None
    }
    return replace(config, **chosen) if chosen else config


def second_pass(config: Any) -> tuple[str, str, str] | None:
    """The setting of a method that makes it read a task a second time.

    Returns:
        its name and value, and the value that needs a single pass; None if there is none.
    """
    for name, (_, single) in BY_MODE.items():
        if (given := getattr(config, name, None)) in (*AT_TASK_END, FIRST_TASK):
            return name, given, single
    return None


@dataclass(frozen=True)
class ImageConfig(CapacityConfig):
    """Settings of stored images."""

    exemplar_side: int | None = None
    """Side of stored images in pixels; replay scales them up again. Default: the network's input
    size, or with a capacity in bytes the size at which about 128 images fit."""
    jpeg_quality: int | None = None
    """JPEG quality of stored images, from 1 to 95; 0 stores raw pixels, three bytes each. Default:
    75 with a capacity in bytes, 0 with one in exemplars."""
    new_as_stored: bool = True
    """Also compress new and test images like stored ones, so that sharpness does not tell old from
    new."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (side := self.exemplar_side) is not None:
            require("exemplar_side", side, 1 <= side < 1 << 14, "from 1 to 16383")
        if (quality := self.jpeg_quality) is not None:
            require("jpeg_quality", quality, 0 <= quality <= 95, "from 1 to 95, or 0")
        if self.storage == "image":
            return
        for name in IMAGE_SETTINGS:
            if (value := getattr(self, name)) != ImageConfig.__dataclass_fields__[name].default:
                problem = f"has no effect with {setting('storage', self.storage)}"
                raise InputError(setting(name, value), problem, "leave one of them out")

    def with_form(self, shown: int) -> Self:
        """The settings with defaults of stored images filled in, as stored with results.

        Args:
            shown: side of the network's input in pixels.

        Raises:
            InputError: stored images would be larger than those of the stream.
        """
        side, quality, budget = self.exemplar_side, self.jpeg_quality, self.budget_bytes
        if side is not None and side > shown:
            problem = f"is more than the {shown} pixels of the stream"
            raise InputError(setting("exemplar_side", side), problem, f"give at most {shown}")
        in_bytes = budget or self.memory_bytes
        if quality is None:
            quality = USUAL_QUALITY if in_bytes else 0
        if side is None and quality and in_bytes:
            side = usual_side(in_bytes, shown)
        elif side is None and budget:
            each = max(0, budget // WANTED_PIXELS - _BESIDE_PIXELS)
            side = min(shown, max(MIN_SIDE, math.isqrt(each // 3)))
        return replace(self, exemplar_side=side or shown, jpeg_quality=quality)

    def form(self, shown: int) -> ImageForm:
        """The form of stored images, after :meth:`with_form`."""
        assert self.exemplar_side is not None
        assert self.jpeg_quality is not None
        return ImageForm(shown, self.exemplar_side, self.jpeg_quality)
