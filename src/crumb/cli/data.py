"""``crumb data``: list, check and show data sets."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from crumb import plugins
from crumb.cli.flags import HELP
from crumb.cli.parsing import parse
from crumb.data.index import RECORD, Dataset, load_dataset, read_index
from crumb.data.pictures import check_image_file
from crumb.data.protocol import Frames, TaskList
from crumb.data.sets.base import Source
from crumb.data.sets.registry import (
    find_source,
    installed_sources,
    published_counts,
    sources,
)
from crumb.data.stats import balance_report, counts
from crumb.device import cores
from crumb.errors import InputError, meant
from crumb.files import read_json
from crumb.kinds import Argument
from crumb.nets.config import Preprocessing
from crumb.progress import bar
from crumb.reports.contact_sheet import contact_sheet
from crumb.reports.table import plain
from crumb.stream.config import MAX_WORKERS, at_least
from crumb.stream.skipping import broken_images

_NAMED = 5


@dataclass(frozen=True)
class ListDatasets:
    """List the data sets that `crumb index` knows, or describe one."""

    name: Annotated[str, Argument(positional=True, metavar="NAME")] = ""
    """Data set to describe. Default: list all."""


@dataclass(frozen=True)
class CheckDataset:
    """Check an indexed data set against its published counts, and that its image files exist."""

    name: Annotated[str, Argument(positional=True, metavar="NAME")]
    """Name of the data set (see `crumb data list`)."""
    folder: Annotated[Path, Argument(positional=True, metavar="FOLDER")]
    """Folder written by `crumb index`."""
    decode: bool = False
    """Also decode every image."""
    workers: int | None = None
    """Number of reader threads. Default: one per core."""

    def __post_init__(self) -> None:
        if self.workers is not None:
            at_least("workers", self.workers, 1, MAX_WORKERS)


@dataclass(frozen=True)
class DatasetStats:
    """Print the number of images, sessions and objects per class."""

    dataset: Annotated[Path, Argument(positional=True)]
    """Folder written by `crumb index`, or any index file with the published columns."""


@dataclass(frozen=True)
class ShowDataset:
    """Draw evenly spaced frames of each class into a PNG."""

    folder: Annotated[Path, Argument(positional=True, metavar="FOLDER")]
    """Folder written by `crumb index`."""
    output: Path
    """PNG file to write."""
    columns: int = 12
    """Maximum number of frames per class."""
    classes: tuple[str, ...] = ()
    """Classes to draw. Default: all, or 40 evenly spaced ones if there are more."""


def run(words: Sequence[str]) -> None:
    """Run the action named by the first word."""
    if words and words[0] in HELP:
        print(_help())
        return
    if not words:
        raise InputError("crumb data", "the action is missing", "see crumb data --help")
    action, *rest = words
    if action not in _ACTIONS:
        problem = f"give {', '.join(_ACTIONS)}"
        raise InputError(f"crumb data {action}", f"is unknown{meant(action, _ACTIONS)}", problem)
    kind, act = _ACTIONS[action]
    act(parse(kind, rest, f"crumb data {action}"))


def _help() -> str:
    usages = {
        "list [NAME]": ListDatasets,
        "check NAME FOLDER [--decode]": CheckDataset,
        "stats FOLDER": DatasetStats,
        "show FOLDER --output FILE.png [--columns N] [--classes ...]": ShowDataset,
    }
    lines = [f"  {usage}\n      {kind.__doc__}" for usage, kind in usages.items()]
    return "\n".join(
        [
            "usage: crumb data list | check | stats | show ...",
            "",
            "List, check and show data sets.",
            "",
            *lines,
            "",
            "crumb data ACTION --help lists the flags of an action.",
        ]
    )


def _list(command: ListDatasets) -> None:
    if command.name:
        print(_whole(command.name, _source("list", command.name)))
        return
    found, broken = installed_sources()
    width = max(map(len, found))
    for name, source in found.items():
        about = source.about
        content = about.content if about else (source.__doc__ or "").splitlines()[0]
        print(f"{name:{width}}  {content}")
        if about:
            facts = dict.fromkeys((about.size, about.licence, about.page))
            print(f"{'':{width}}  {'; '.join(facts)}")
    for error in broken:
        print(error)
    print("\ncrumb data list NAME tells what to download; crumb index NAME indexes it.")


def _whole(name: str, source: type[Source]) -> str:
    """The description of a data set."""
    facts: dict[str, str] = {}
    if about := source.about:
        facts = {key: getattr(about, key) for key in ("content", "size", "licence", "page")}
        facts["download"] = about.download
    facts["layout"] = (source.__doc__ or "").splitlines()[0]
    if source.published:
        facts["published"] = ", ".join(f"{n:,} {what}" for what, n in source.published.items())
    if classes := source.published_classes:
        shown = ", ".join(classes[:30])
        rest = f" and {len(classes) - 30:,} more" if len(classes) > 30 else ""
        facts["classes"] = f"{len(classes):,}: {shown}{rest}"
    facts["index it"] = f"crumb index {name} ROOT --output FOLDER"
    facts["then"] = f"crumb data check {name} FOLDER"
    width = max(map(len, facts)) + 4
    lines = [
        textwrap.fill(
            value,
            96,
            initial_indent=f"  {key:{width - 2}}",
            subsequent_indent=" " * width,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for key, value in facts.items()
    ]
    return "\n".join([f"{name}: {about.title}" if about else name, *lines])


def _source(action: str, name: str) -> type[Source]:
    """The class of a data set.

    Raises:
        InputError: no such data set. The message suggests similar names.
    """
    known, others = sources(), plugins.names(plugins.DATASETS)
    if name not in known and (name in others or plugins.is_reference(name)):
        return find_source(name)
    if name not in known:
        near = difflib.get_close_matches(name, [*known, *others], 3) or list(known)
        hint = f"did you mean {', '.join(near)}?"
        raise InputError(f"crumb data {action} {name}", "is not a known data set", hint)
    return known[name]


def _check(command: CheckDataset) -> None:
    """Print the published counts next to those found. Raise InputError if they differ."""
    source = _source("check", command.name)
    dataset = load_dataset(command.folder)
    if dataset.name != command.name:
        remedy = f"use crumb data check {dataset.name}"
        raise InputError(command.folder, f"holds {dataset.name!r}, not {command.name!r}", remedy)
    rows, wrong = _counted(dataset, source)
    paths = list(dict.fromkeys(dataset.index["im_path"]))
    missing = _missing(dataset.images, paths)
    rows.append(_row("image files", len(paths), len(paths) - len(missing)))
    broken: Mapping[str, str] = {}
    if command.decode:
        there = tuple(path for path in paths if path not in missing)
        broken = _broken(dataset.images, there, command.workers or cores())
        rows.append(_row("readable images", len(there), len(there) - len(broken)))
    print(plain(["", "expected", "found", ""], rows).text())
    for problems in (missing, broken):
        for path in [*problems][:_NAMED]:
            print(f"{path}: {problems[path]}")
        if len(problems) > _NAMED:
            print(f"and {len(problems) - _NAMED:,} more")
    faults = [f"differs from the published counts in {', '.join(wrong)}"] if wrong else []
    faults += [f"lacks {_count(missing, 'image file')}"] if missing else []
    faults += [f"has {_count(broken, 'broken image')}"] if broken else []
    if faults:
        remedy = f"see crumb data list {command.name}, complete the raw data and index it again"
        raise InputError(command.folder, " and ".join(faults), remedy)


def _count(problems: Mapping[str, str], what: str) -> str:
    """The number of problems and the path of the first."""
    path = next(iter(problems))
    if len(problems) == 1:
        return f"1 {what} ({path})"
    return f"{len(problems):,} {what}s (first {path})"


def _counted(dataset: Dataset, source: type[Source]) -> tuple[list[list[str]], list[str]]:
    """One row per published count, and the names of the counts that differ."""
    rows, wrong = [], []
    found = counts(dataset.index)
    for name, expected in source.published.items():
        row = _row(name, expected, found[name])
        rows.append(row)
        wrong += [name] if row[-1] else []
    if source.published_classes:
        names = {dataset.class_names[number] for number in dataset.index["class"].unique()}
        known = names & set(source.published_classes)
        rows.append(_row("published classes", len(source.published_classes), len(known)))
        if others := len(names) - len(known):
            rows.append(_row("other classes", 0, others))
        wrong += [row[0] for row in rows if row[0].endswith("classes") and row[-1]]
    return rows, list(dict.fromkeys(wrong))


def _row(name: str, expected: int, found: int | np.ndarray) -> list[str]:
    """Cells of a table row; the last one marks a difference."""
    values = np.atleast_1d(found)
    low, high = values.min(), values.max()
    text = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return [name, f"{expected:,}", text, "" if low == high == expected else "differs"]


def _missing(images: Path, paths: Sequence[str]) -> dict[str, str]:
    """The problem of each file that is missing, empty or not a regular file."""
    problems = {}
    for path in bar(paths, "checking images", "image"):
        try:
            if not check_image_file(images / path):
                problems[path] = "is empty"
        except InputError as error:
            problems[path] = error.problem_in_flags()
    return problems


def _broken(images: Path, paths: tuple[str, ...], workers: int) -> dict[str, str]:
    """The problem of each image that cannot be decoded."""
    nothing = np.zeros(0, np.int64)
    one_task = Frames(paths, np.zeros(len(paths), np.int64))
    tasks = TaskList("iid", 0, False, (one_task,), Frames((), nothing), ("any",))
    return broken_images(images, [tasks], Preprocessing().size, workers)


def _stats(command: DatasetStats) -> None:
    path = command.dataset
    dataset = _dataset_of(path) if path.is_file() else load_dataset(path)
    if dataset:
        published = published_counts(dataset.name, dataset.class_names.values())
        print(balance_report(dataset.index, dataset.class_names, dataset.name, published))
        return
    index = read_index(path)
    # A bare index file holds no class names.
    names = {number: f"class {number}" for number in sorted(index["class"].unique().tolist())}
    print(balance_report(index, names, path.name))


def _dataset_of(index: Path) -> Dataset | None:
    """The data set that an index file belongs to; None if the record next to it is missing."""
    record = index.parent / RECORD
    if not record.is_file():
        return None
    named = read_json(record, "mend or remove it").get("index") == index.name
    return load_dataset(index.parent) if named else None


def _show(command: ShowDataset) -> None:
    dataset = load_dataset(command.folder)
    sheet = contact_sheet(dataset, command.output, command.columns, command.classes)
    if sheet.left_out:
        print(f"{sheet.left_out}; choose others with --classes")
    print(f"picture: {command.output}")


_ACTIONS = {
    "list": (ListDatasets, _list),
    "check": (CheckDataset, _check),
    "stats": (DatasetStats, _stats),
    "show": (ShowDataset, _show),
}
