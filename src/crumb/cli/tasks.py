"""``crumb tasks``: write the file lists of a protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from crumb.cli.parsing import parse
from crumb.data.filelists import write_task_list
from crumb.data.index import load_dataset
from crumb.data.protocol import PROTOCOLS, TaskLayout, lay_out
from crumb.errors import InputError
from crumb.kinds import Argument
from crumb.stream.config import Protocol, check_runs


@dataclass(frozen=True)
class Tasks:
    """Write the file lists of a protocol: the images and labels of each task, in order.

    They are for other programs. crumb stream does not need them.
    """

    dataset: Annotated[Path, Argument(positional=True)]
    """Folder written by `crumb index`."""
    protocol: tuple[Protocol, ...] = PROTOCOLS
    """Protocols to write, one or more."""
    runs: int = 10
    """Number of runs. A run's number is its seed."""
    first_run: int = 0
    """Number of the first run."""
    offline: bool = False
    """Write lists for joint training, in which task t holds all images of tasks 0 to t."""
    classes: tuple[str, ...] = ()
    """Classes to use. Default: all."""
    layout: TaskLayout = field(default_factory=TaskLayout)
    """Classes and images per task."""
    output: Path | None = None
    """Output folder. Default: <data set's name>_task_filelists in the data set's folder."""

    def __post_init__(self) -> None:
        check_runs("first_run", self.first_run, self.runs)
        if not self.protocol:
            raise InputError("--protocol", "is empty", f"choose some of {', '.join(PROTOCOLS)}")
        sizes = {"images": self.layout.images_per_task, "clips": self.layout.clips_per_task}
        for (what, size), protocol in zip(sizes.items(), ("iid", "instance"), strict=True):
            if size is not None and protocol not in self.protocol:
                raise InputError(
                    f"--{what}-per-task {size}",
                    f"has no effect with --protocol {' '.join(self.protocol)}",
                    f"add {protocol} to the protocols or leave it out",
                )


def run(words: Sequence[str]) -> None:
    """Write the file lists of every run."""
    command = parse(Tasks, words, "crumb tasks")
    dataset = load_dataset(command.dataset)
    if command.classes:
        dataset = dataset.select(command.classes)
    folder = command.output or dataset.folder / f"{dataset.name}_task_filelists"
    mode = "offline" if command.offline else "stream"
    for protocol in command.protocol:
        for number in range(command.first_run, command.first_run + command.runs):
            tasks = lay_out(dataset, protocol, number, command.offline, command.layout)
            write_task_list(tasks, folder)
        runs = "1 run" if command.runs == 1 else f"{command.runs} runs"
        print(f"{protocol}, {mode}: {runs} in {folder / protocol}")
