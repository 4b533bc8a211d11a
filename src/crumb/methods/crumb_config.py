"""The settings of CRUMB: valid combinations and defaults."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from crumb.errors import InputError, require, setting
from crumb.memory.capacity import (
    CAPACITIES,
    END_OF_TASK,
    IMAGE_SETTINGS,
    PAPER_MEMORY_SIZE,
    ImageConfig,
    MemoryConfig,
)
from crumb.methods.training import MAX_FLOAT, ComputeConfig, TrainingConfig
from crumb.nets.config import Backbone

WITH_CODEBOOK = ("feature", "none")
"""Kinds of storage that use a codebook."""
_OF_REPLAY: dict[str, tuple[float, ...]] = {
    "replay_coefficient": (),
    "draw_policy": (),
    "compute_budget": (),
}


@dataclass(frozen=True)
class CrumbConfig(MemoryConfig, ImageConfig, TrainingConfig, ComputeConfig):
    """Settings of CRUMB; the defaults are the paper's for video data sets."""

    blocks: int = 256
    """Number of memory blocks in the codebook."""
    block_length: int | None = None
    """Channels per memory block. Default: depends on the backbone (mostly 16)."""
    initialiser: str | None = None
    """Initialiser of the memory blocks. Default: depends on the backbone."""
    frozen_blocks: bool = False
    """Keep the initial memory blocks and train only the tail."""
    replay_coefficient: float = 5.0
    """Weight of the replay loss."""
    replay_times: int = 1
    """Number of replay steps after each batch."""
    codebook_loss: float = 1.0
    """Weight of the loss on reconstructed features of new images."""
    direct_loss: float = 0.0
    """Weight of the direct loss, on the original features (1 in pretraining)."""
    write_policy: Literal["end-of-task", "on-arrival"] | None = None
    """When exemplars are stored: in a second pass over each task (end-of-task, as in the paper), or
    in a class-balanced reservoir as frames arrive (on-arrival). Default: end-of-task, or on-arrival
    in strict mode."""

    def __post_init__(self) -> None:
        ImageConfig.__post_init__(self)
        TrainingConfig.__post_init__(self)
        self.check_budget()
        if self.compute_budget is not None and self.storage == "enhanced_feature":
            problem = f"cannot be kept with {setting('storage', self.storage)}"
            remedy = f"use another {setting('storage')}: this one takes a step of its own per image"
            raise InputError(setting("compute_budget", self.compute_budget), problem, remedy)
        for name in ("blocks", "block_length"):
            if (value := getattr(self, name)) is not None:
                require(name, value, 1 <= value <= 1 << 16, "from 1 to 65536")
        times = self.replay_times
        require("replay_times", times, 0 <= times <= 10_000, "from 0 to 10000")
        for name in ("replay_coefficient", "codebook_loss", "direct_loss"):
            value = getattr(self, name)
            holds = 0 <= value <= MAX_FLOAT
            require(name, value, holds, f"at least 0 and at most {MAX_FLOAT:g}")
        if self.codebook_loss == 0 and self.direct_loss == 0:
            raise InputError(
                setting("codebook_loss", 0),
                "leaves no loss",
                f"give {setting('direct_loss')} as well",
            )
        self._check_use()

    def _check_use(self) -> None:
        """Refuse settings without effect: those of a component that is not used.

        Besides their defaults they may have values that describe what happens anyway.
        """
        part, unused = _unused(self.storage, self.replay_times)
        defaults = {field.name: field.default for field in fields(self)}
        for name, harmless in unused.items():
            value = getattr(self, name)
            if value != defaults[name] and value not in harmless:
                problem = f"has no effect with {part}"
                raise InputError(setting(name, value), problem, "leave one of them out")


def _unused(storage: str, replay_times: int) -> tuple[str, dict[str, tuple[float, ...]]]:
    """The unused component, and its settings with harmless values."""
    part = f"{setting('storage', storage)}, which"
    if storage not in WITH_CODEBOOK:
        settings = {"blocks": (), "block_length": (), "initialiser": (), "frozen_blocks": ()}
        missing = "codebook"
        if storage == "merec":
            missing, settings = "codebook and no exemplars", {**settings, "draw_policy": ()}
        return f"{part} has no {missing}", {**settings, "codebook_loss": (0,), "direct_loss": (1,)}
    if storage == "none":
        return f"{part} replays nothing", {"replay_times": (0,), **_OF_REPLAY}
    if replay_times == 0:
        return setting("replay_times", 0), _OF_REPLAY
    return "", {}


def adapted(config: CrumbConfig, **changes: Any) -> CrumbConfig:
    """The settings with changes. Settings of components that are then unused are reset to defaults.

    Raises:
        InputError: the changes contradict other settings.
    """
    settings = {own.name: getattr(config, own.name) for own in fields(config)} | changes
    _, unused = _unused(settings["storage"], settings["replay_times"])
    if settings["storage"] in ("merec", "none"):
        unused = {**unused, **dict.fromkeys(CAPACITIES, ())}
    if settings["storage"] != "image":
        unused = {**unused, **dict.fromkeys(IMAGE_SETTINGS, ())}
    for own in fields(config):
        if own.name in unused and settings[own.name] not in unused[own.name]:
            settings[own.name] = own.default
    return CrumbConfig(**settings)


def resolved(config: CrumbConfig, backbone: Backbone) -> CrumbConfig:
    """The settings with defaults filled in, as stored with results.

    Raises:
        InputError: stored images would be larger than those of the stream.
    """
    chosen: dict[str, Any] = {"write_policy": END_OF_TASK}
    if config.storage == "image":
        config = config.with_form(backbone.preprocessing.size)
    if config.storage in WITH_CODEBOOK:
        chosen |= {"block_length": backbone.block_length, "initialiser": backbone.initialiser}
    if config.budget_bytes == config.memory_bytes is None and config.storage not in (
        "merec",
        "none",
    ):
        chosen["memory_size"] = PAPER_MEMORY_SIZE
    return replace(config, **{k: v for k, v in chosen.items() if getattr(config, k) is None})
