"""``crumb pretrain``: tail and codebook, before any stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from crumb.cli.parsing import parse_parts, take_preset
from crumb.cli.tables import summary_table
from crumb.methods.crumb import CrumbConfig
from crumb.nets.config import NetworkConfig
from crumb.stream.config import (
    EvaluationConfig,
    MachineConfig,
    StreamConfig,
    at_least,
    check_runs,
)
from crumb.stream.pretrain import PRETRAINED, pretrain


@dataclass(frozen=True)
class PretrainConfig:
    """Train the tail and the codebook on all classes at once, before any stream."""

    dataset: Annotated[Path, tyro.conf.Positional]
    """Folder written by `crumb index`."""
    classes: tuple[str, ...] = ()
    """Only these classes of the data set."""
    run: int = 0
    """Seed, and number of the published order."""
    epochs: int = 10
    """Readings of the data set."""
    batch_size: int = 128
    """Images per batch."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)
    output: Path | None = None
    """Results folder; outputs/<data set>/pretrain_<backbone> by default."""

    def __post_init__(self) -> None:
        check_runs("--run", self.run)
        at_least("--epochs", self.epochs, 1)
        at_least("--batch-size", self.batch_size, 1)


def run(words: Sequence[str]) -> None:
    """Parse, pretrain, print the key figures and the file to stream from."""
    results = pretrain(*settings(words))
    print(summary_table({"pretraining": results.finished()}))
    print(f"for --pretrained: {results.folder / PRETRAINED}")


def settings(words: Sequence[str]) -> tuple[StreamConfig, NetworkConfig, CrumbConfig]:
    """The three configurations of pretraining: flags over preset over defaults.

    Raises:
        InputError: words or preset do not fit.
    """
    preset, words = take_preset(words)
    parsed = parse_parts(
        "crumb pretrain",
        PretrainConfig.__doc__ or "",
        words,
        preset,
        pretrain=PretrainConfig(tyro.MISSING),
        network=NetworkConfig(),
        method=CrumbConfig(direct_loss=1.0),
    )
    own: PretrainConfig = parsed.pretrain
    config = StreamConfig(
        dataset=own.dataset,
        protocol="iid",
        first_run=own.run,
        classes=own.classes,
        epochs_first_task=own.epochs,
        batch_size=own.batch_size,
        evaluation=own.evaluation,
        machine=own.machine,
        output=own.output,
    )
    return config, parsed.network, parsed.method
