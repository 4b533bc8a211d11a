"""``crumb demo``: index, train, compare and plot on the package's sample clips."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from crumb.cli.parsing import parse
from crumb.cli.tables import summary_table
from crumb.data.protocol import lay_out
from crumb.data.sets.toybox import index_toybox
from crumb.errors import InputError
from crumb.features.features import FeatureStore
from crumb.files import write_bytes
from crumb.kinds import Argument
from crumb.methods.registry import DEFAULT_METHOD, DEFAULT_SETTINGS, find_method
from crumb.nets.config import NetworkConfig
from crumb.reports.families import Result, family_of
from crumb.reports.figures import accuracy_panel
from crumb.reports.frames import task_frames
from crumb.reports.panels import as_png
from crumb.stream.config import MachineConfig, StreamConfig, at_least, check_runs
from crumb.stream.run import stream

METHODS = {"finetune": 2, "crumb": 2, DEFAULT_METHOD: 1}
"""Epochs of the first task; later tasks have one."""


@dataclass(frozen=True)
class Demo:
    """Learn eight classes from 240 short clips, two classes at a time, with three methods.

    finetune keeps nothing, crumb keeps 200 exemplars of 588 bytes each, and slda (streaming LDA)
    keeps class means and one covariance in 64,000 bytes. Runs that an earlier call finished in the
    same folder are not repeated.
    """

    output: Annotated[Path, Argument(positional=True)] = Path("crumb-demo")
    """Folder for frames, results and figures."""
    runs: int = 1
    """Runs per method, each with its own order of classes."""
    memory_size: int = 200
    """Maximum number of exemplars that crumb keeps."""

    def __post_init__(self) -> None:
        check_runs("runs", 0, self.runs)
        at_least("memory_size", self.memory_size, 1)


def run(words: Sequence[str]) -> None:
    """Index the clips, run the methods, print the table and draw the figures."""
    command = parse(Demo, words, "crumb demo")
    workers = os.cpu_count() or 1
    print(f"1/3  indexing the sample clips into {command.output}")
    clips = Path(str(files("crumb") / "sample" / "clips"))
    dataset = index_toybox(clips, command.output / "sample", workers)
    print(f"2/3  streaming {len(dataset.class_names)} classes, 2 at a time: {', '.join(METHODS)}")
    records, stores = {}, dict[str, FeatureStore]()
    own = {
        "finetune": {},
        "crumb": {"memory_size": command.memory_size},
        DEFAULT_METHOD: DEFAULT_SETTINGS,
    }
    for name, epochs in METHODS.items():
        config = StreamConfig(
            dataset=command.output / "sample",
            method=name,
            runs=command.runs,
            epochs_first_task=epochs,
            machine=MachineConfig(workers=workers),
            output=command.output / "results" / name,
            resume=True,
        )
        method = find_method(name).Config(**own[name])
        try:
            records[name] = stream(config, NetworkConfig(), method, stores).finished()
        except InputError as error:
            # The demo has neither --resume nor --output, so the remedies of these errors do not
            # apply.
            if error.setting != "resume":
                raise
            raise InputError(
                command.output,
                "holds results with other settings",
                "name another folder (crumb demo OTHER) or remove it",
            ) from error
    print("3/3  drawing")
    family = family_of("", [Result(name, name, runs) for name, runs in records.items()])
    write_bytes(command.output / "accuracy.png", as_png(accuracy_panel(family).figure))
    task_frames(lay_out(dataset, "class_instance", 0), dataset.images, command.output / "tasks.png")
    print(f"\n{summary_table(records)}\n")
    print(f"accuracy over tasks: {command.output / 'accuracy.png'}")
    print(f"what was streamed:   {command.output / 'tasks.png'}")
    print(f"all figures:         {command.output / 'results'}")
