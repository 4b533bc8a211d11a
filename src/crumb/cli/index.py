"""``crumb index``: from raw clips to an indexed data set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from crumb.cli.parsing import parse
from crumb.data.left_out import left_out
from crumb.data.stats import balance_report
from crumb.data.toybox import index_toybox
from crumb.errors import InputError
from crumb.stream.config import MOST_WORKERS, at_least


@dataclass(frozen=True)
class Index:
    """Cut clips into frames, one a second, and write the index of a balanced sample.

    Frames that are there already and whole are not decoded again.
    """

    layout: Annotated[Literal["toybox"], tyro.conf.Positional]
    """How ROOT is laid out; toybox: {animals|households|vehicles}/{class}_{nn}_pivothead/*.mp4."""
    root: Annotated[Path, tyro.conf.Positional]
    """Folder of the raw clips; it is only read."""
    output: Path = Path("toybox-data")
    """Folder that frames, index and dataset.json are written to; not inside ROOT."""
    workers: int = os.cpu_count() or 1
    """Processes that decode clips."""

    def __post_init__(self) -> None:
        at_least("--workers", self.workers, 1, MOST_WORKERS)
        root, output = self.root.resolve(), self.output.resolve()
        if output.is_relative_to(root) or root.is_relative_to(output):
            raise InputError(
                f"--output {self.output}",
                f"is, contains or lies inside the folder of the clips, {self.root}",
                "name a folder beside it",
            )


def run(words: Sequence[str]) -> None:
    """Index, then print what is left out and the balance check."""
    command = parse(Index, words, "crumb index")
    dataset = index_toybox(command.root, command.output, command.workers)
    for line in left_out(command.root):
        print(line)
    print(balance_report(dataset.index, dataset.class_names, dataset.name))
    print(f"data set: {command.output}")
