"""How much a memory keeps, and in which form."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch

from crumb.errors import InputError, require, setting
from crumb.kinds import check_kinds
from crumb.memory.encoded import LENGTH_BYTES, EncodedMemory
from crumb.memory.images import MIN_SIDE, USUAL_QUALITY, ImageForm, usual_side
from crumb.memory.payload import Fields
from crumb.memory.replay import ReplayMemory, capacity_in_bytes
from crumb.memory.storage import ImageStorage, Storage

StorageKind = Literal["feature", "image", "raw_feature", "enhanced_feature", "merec", "none"]
WritePolicy = Literal["end-of-task", "on-arrival", "reservoir"]
END_OF_TASK, ON_ARRIVAL = "end-of-task", "on-arrival"
"""Policies by which exemplars are stored by default, in paper and in strict mode."""
PAPER_MEMORY_SIZE = 417
"""Codes of 5,408 bytes in the room of 15 images (Talbot et al. 2025, section IV-C)."""
PAPER_MEMORY_BYTES = 15 * 3 * 224 * 224
"""Those 15 images, in uint8."""

CAPACITIES = ("memory_size", "memory_bytes", "budget_bytes")
"""Settings that say how much is kept; at most one of them is given."""
IMAGE_SETTINGS = ("exemplar_side", "jpeg_quality", "new_as_stored")
"""Settings that only exemplars that are images have."""
WANTED_PIXELS = 64
"""Images that are kept as pixels are as large as lets this many fit into a budget."""
# Bytes that are kept beside an image, at most.
_BESIDE_PIXELS = 12


@dataclass(frozen=True)
class CapacityConfig:
    """How much is kept of the past, and in which form.

    A subclass that allows fewer forms says so in the type of its own ``storage``.
    """

    memory_size: int | None = None
    """Capacity in exemplars over all classes (default 417, the paper's)."""
    memory_bytes: int | None = None
    """Capacity in bytes of exemplars, instead of MEMORY-SIZE."""
    budget_bytes: int | None = None
    """Capacity in bytes of exemplars and of all that is needed to read them (codebook, quantiser,
    row numbers), instead of MEMORY-SIZE: the same for every method that is compared."""
    storage: StorageKind = "feature"
    """What is kept of an exemplar: block indices, pixels, the feature map (enhanced: weighed by
    what the loss depends on), a Gaussian, nothing."""

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
    ) -> ReplayMemory:
        """An empty memory of this capacity.

        Args:
            storage: of its exemplars.
            device: where exemplars are kept, unless they are encoded.
            fields: of the payload, as in :class:`ReplayMemory`.

        Raises:
            InputError: the bytes hold not even one exemplar.
        """
        # The number of the row; of an encoded image its length as well.
        beside = 4 + sum(one.nbytes for one in (fields or {}).values() if one.within_budget)
        form = storage.form if isinstance(storage, ImageStorage) and storage.form.quality else None
        if form is not None:
            row, beside = form.least_bytes, beside + LENGTH_BYTES
        else:
            assert storage.row_shape is not None
            row = torch.empty(storage.row_shape, dtype=storage.dtype, device="meta").nbytes
        capacity, each, shared = self.memory_size or PAPER_MEMORY_SIZE, None, 0
        if self.budget_bytes is not None:
            each, shared = beside, storage.reader_bytes
            capacity = capacity_in_bytes("budget_bytes", self.budget_bytes, row + each, shared)
        elif self.memory_bytes is not None:
            each = 0
            capacity = capacity_in_bytes("memory_bytes", self.memory_bytes, row)
        if form is None:
            assert storage.row_shape is not None
            return ReplayMemory(capacity, storage.row_shape, storage.dtype, device, fields)
        if each is not None:
            capacity = (self.budget_bytes or self.memory_bytes or 0) - shared
        return EncodedMemory(capacity, each, row, self.capacity_setting(capacity), fields)

    def capacity_setting(self, capacity: int) -> str:
        """What set a capacity, for messages."""
        for name in CAPACITIES:
            if (value := getattr(self, name)) is not None:
                return setting(name, value)
        return setting("memory_size", capacity)


@dataclass(frozen=True)
class MemoryConfig(CapacityConfig):
    """How much is kept of the past, in which form, chosen how."""

    write_policy: WritePolicy | None = None
    """Second reading of each task (end-of-task; the paper), or a reservoir in a single pass:
    class-balanced (on-arrival) or plain. By default the first, and on-arrival in strict mode."""


def with_policy(config: Any, policy: str) -> Any:
    """The settings of a method, with a ``write_policy`` where they leave it open."""
    if getattr(config, "write_policy", policy) is None:
        return replace(config, write_policy=policy)
    return config


@dataclass(frozen=True)
class ImageConfig(CapacityConfig):
    """In which form images are kept, where images are."""

    exemplar_side: int | None = None
    """Side in pixels of stored images, which replay scales up again; by default that of the
    network's input, or with a capacity in bytes as large as lets about 128 images fit."""
    jpeg_quality: int | None = None
    """Quality of the JPEG that images are stored as, from 1 to 95; 0 stores pixels, three bytes
    each (default 75 with a capacity in bytes, 0 with one in exemplars)."""
    new_as_stored: bool = True
    """New images and those of tests pass through the form in which images are stored, so that no
    network can tell old from new by sharpness."""

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
        """With the form of images filled in, as it is written beside results.

        Args:
            shown: side in pixels of what the network is shown.

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
        """The form of images, of a configuration :meth:`with_form`."""
        assert self.exemplar_side is not None
        assert self.jpeg_quality is not None
        return ImageForm(shown, self.exemplar_side, self.jpeg_quality)
