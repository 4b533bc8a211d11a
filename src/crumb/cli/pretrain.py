"""``crumb pretrain``: train tail and codebook before any stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from crumb.cli.parsing import PRESET, RESUME, Preset, parse_parts
from crumb.cli.resume import take_settings
from crumb.cli.tables import summary_table
from crumb.errors import InputError, setting
from crumb.kinds import UNSET, Argument
from crumb.memory.capacity import MemoryConfig
from crumb.methods.crumb import CrumbConfig
from crumb.nets.config import NetworkConfig
from crumb.stream.config import (
    MAX_EPOCHS,
    MAX_IMAGES,
    EvaluationConfig,
    MachineConfig,
    OnError,
    StreamConfig,
    at_least,
    check_intervals,
    check_runs,
)
from crumb.stream.pretrain import PRETRAINED, pretrain

# Settings of a stream that pretraining has too, under the same or another name.
_SAME = (
    "dataset",
    "classes",
    "batch_size",
    "on_error",
    "evaluation",
    "machine",
    "checkpoint_minutes",
    "checkpoint_batches",
    "tensorboard",
    "output",
)
# Settings of CRUMB that have no effect in pretraining.
_OF_MEMORY = (*MemoryConfig.__dataclass_fields__, "replay_times", "replay_coefficient")
_RENAMED = {"run": "first_run", "epochs": "epochs_first_task"}


@dataclass(frozen=True)
class PretrainConfig:
    """Train the tail and the codebook on all classes at once, before any stream."""

    dataset: Annotated[Path, Argument(positional=True)]
    """Folder written by `crumb index`."""
    classes: tuple[str, ...] = ()
    """Classes to train on. Default: all."""
    run: int = 0
    """Seed, and number of the published order of images."""
    epochs: int = 10
    """Number of epochs."""
    batch_size: int = 128
    """Batch size in images."""
    on_error: OnError = "stop"
    """How to handle broken images: stop, or skip them and list them in skipped.csv."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)
    checkpoint_minutes: float = 10.0
    """Minutes between checkpoints."""
    checkpoint_batches: int | None = None
    """Batches between checkpoints, if that comes sooner."""
    tensorboard: bool = False
    """Also write the finished run for TensorBoard, to `tensorboard` in the results folder."""
    output: Path | None = None
    """Results folder. Default: outputs/<data set>/pretrain_<backbone>."""

    def __post_init__(self) -> None:
        check_runs("run", self.run)
        at_least("epochs", self.epochs, 1, MAX_EPOCHS)
        at_least("batch_size", self.batch_size, 1, MAX_IMAGES)
        check_intervals(self.checkpoint_minutes, self.checkpoint_batches)


def run(words: Sequence[str]) -> None:
    """Pretrain, then print the key figures and the file for --pretrained."""
    results = pretrain(*settings(words))
    print(summary_table({"pretraining": results.finished()}))
    print(f"for --pretrained: {results.folder / PRETRAINED}")


def settings(words: Sequence[str]) -> tuple[StreamConfig, NetworkConfig, CrumbConfig]:
    """The three configurations of pretraining. Flags override the preset, the preset overrides
    defaults.

    Raises:
        InputError: words or preset do not fit.
    """
    folder, preset, words = take_settings(words, "pretrain")
    parsed = parse_parts(
        "crumb pretrain",
        PretrainConfig.__doc__ or "",
        words,
        preset if folder is None else _as_pretraining(preset),
        (PRESET, RESUME),
        pretrain=PretrainConfig(UNSET),
        network=NetworkConfig(),
        method=CrumbConfig(direct_loss=1.0),
    )
    own: PretrainConfig = parsed.pretrain
    _check_use(parsed.method)
    config = StreamConfig(
        protocol="iid",
        **{name: getattr(own, name) for name in _SAME},
        **{name: getattr(own, field) for field, name in _RENAMED.items()},
    )
    if folder is not None:
        config = replace(config, output=folder, resume=True)
    return config, parsed.network, parsed.method


def _as_pretraining(preset: Preset) -> Preset:
    """Translate the settings stored with the results, which are those of a stream, to
    pretraining.
    """
    sections = dict(preset.sections)
    own = sections.pop("stream")
    if isinstance(own, Mapping):
        names = {name: name for name in _SAME} | _RENAMED
        own = {name: own[streamed] for name, streamed in names.items() if streamed in own}
    if isinstance(method := sections["method"], Mapping):
        sections["method"] = {k: v for k, v in method.items() if k not in _OF_MEMORY}
    return replace(preset, sections={"pretrain": own, **sections})


def _check_use(method: CrumbConfig) -> None:
    """Refuse memory settings: pretraining stores and replays nothing."""
    usual = CrumbConfig()
    for name in _OF_MEMORY:
        if getattr(method, name) != getattr(usual, name):
            raise InputError(
                setting(name, getattr(method, name)),
                "has no effect in pretraining, which stores and replays nothing",
                "leave it out",
            )
