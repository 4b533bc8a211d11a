"""``crumb data``: looking at a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from crumb.cli.parsing import parse
from crumb.data.index import load_dataset, read_index
from crumb.data.stats import balance_report


@dataclass(frozen=True)
class Data:
    """Print the balance check of a data set: images, sessions and objects per class."""

    action: Annotated[Literal["stats"], tyro.conf.Positional]
    """What to do."""
    dataset: Annotated[Path, tyro.conf.Positional]
    """Folder written by `crumb index`, or any index file with the published columns."""


def run(words: Sequence[str]) -> None:
    """Print the figures."""
    command = parse(Data, words, "crumb data")
    if command.dataset.is_file():
        index = read_index(command.dataset)
        # An index holds no names.
        names = {number: f"class {number}" for number in sorted(index["class"].unique().tolist())}
        print(balance_report(index, names, command.dataset.name))
        return
    dataset = load_dataset(command.dataset)
    print(balance_report(dataset.index, dataset.class_names, dataset.name))
