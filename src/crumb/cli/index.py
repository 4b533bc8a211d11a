"""``crumb index``: from raw data to an indexed data set."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crumb.cli.flags import HELP
from crumb.cli.parsing import parse
from crumb.data.names import alike_line
from crumb.data.sets.base import index_source
from crumb.data.sets.folder import Folder
from crumb.data.sets.folder_report import report
from crumb.data.sets.folder_split import check_sides
from crumb.data.sets.registry import find_source, installed_sources, published_counts, sources
from crumb.data.stats import balance_report
from crumb.errors import InputError


def run(words: Sequence[str]) -> None:
    """Index a data set, then print what was left out and the number of images per class."""
    if words and words[0] in HELP:
        print(_help())
        return
    if not words:
        remedy = "see crumb index --help, or, for your own videos, crumb index folder --help"
        raise InputError("crumb index", "the data set's name is missing", remedy)
    if words[0] not in sources() and Path(words[0]).exists():
        problem = "is a folder or file, no name of a data set"
        remedy = f"for your own videos or photos: crumb index folder {shlex.quote(words[0])}"
        raise InputError(f"crumb index {words[0]}", problem, remedy)
    source = parse(find_source(words[0]), words[1:], f"crumb index {words[0]}")
    if isinstance(source, Folder):
        _index_folder(source)
        return
    dataset, left_out = index_source(source)
    for line in left_out:
        print(f"left out: {line}")
    for line in alike_line(dataset.class_names.values()):
        print(f"note: {line}")
    published = published_counts(dataset.name, dataset.class_names.values())
    print(balance_report(dataset.index, dataset.class_names, dataset.name, published))
    print(f"data set: {source.folder}")


def _index_folder(source: Folder) -> None:
    """Show how the user's folder was read, then index it."""
    survey = source.survey
    print(report(survey, source.test_share), end="\n\n", flush=True)
    check_sides(survey.sides, survey.split, survey.test)
    if source.dry_run:
        print("nothing was written because of --dry-run; run it without to index the folder")
        return
    dataset, _ = index_source(source)
    tested = np.count_nonzero(dataset.index["session"].isin(dataset.test_sessions))
    trained = len(dataset.index) - tested
    print(f"data set: {source.folder} ({trained} images to train on, {tested} to test on)")
    # What has no test images cannot be streamed.
    command, place = ("stream", source.folder) if survey.test else ("learn", source.root)
    print(f"next: crumb {command} {shlex.quote(str(place))}")


def _help() -> str:
    found, broken = installed_sources()
    width = max(map(len, found))
    lines = [
        f"  {name:{width}}  {(source.__doc__ or '').splitlines()[0]}"
        for name, source in found.items()
    ]
    return "\n".join(
        [
            "usage: crumb index NAME ROOT [--output DIR] ...",
            "",
            "Find the images of a data set, sample them as published and write an index.",
            "",
            *lines,
            *map(str, broken),
            "",
            "crumb index NAME --help lists the flags of a data set.",
        ]
    )
