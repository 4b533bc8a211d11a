"""``crumb data``: looking at a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from crumb.cli.parsing import parse
from crumb.data.index import RECORD, Dataset, load_dataset, read_index
from crumb.data.sets.registry import published_counts
from crumb.data.stats import balance_report
from crumb.files import read_json


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
    path = command.dataset
    dataset = _dataset_of(path) if path.is_file() else load_dataset(path)
    if dataset:
        published = published_counts(dataset.name, dataset.class_names.values())
        print(balance_report(dataset.index, dataset.class_names, dataset.name, published))
        return
    index = read_index(path)
    # An index holds no names.
    names = {number: f"class {number}" for number in sorted(index["class"].unique().tolist())}
    print(balance_report(index, names, path.name))


def _dataset_of(index: Path) -> Dataset | None:
    """The data set whose record lies beside an index file and names it, if there is one."""
    record = index.parent / RECORD
    if not record.is_file():
        return None
    named = read_json(record, "mend or remove it").get("index") == index.name
    return load_dataset(index.parent) if named else None
