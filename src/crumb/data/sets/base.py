"""Base class of all data sets that can be indexed.

A data set is one file: a class that is its flags (a dataclass), says where the data comes from
(``about``), and finds and samples its images (``sample``). Everything else is shared.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, TypeVar

import pandas as pd

from crumb.data.index import RECORD, Dataset, write_dataset
from crumb.data.resize import Resize
from crumb.data.system_folders import is_system_folder
from crumb.errors import InputError, printable, setting
from crumb.files import read_json
from crumb.kinds import Argument, check_kinds


@dataclass(frozen=True)
class About:
    """Origin of a data set.

    Attributes:
        title: its full name.
        content: images or videos, and classes, in a few words.
        size: size of the download, in words.
        licence: the licence, in words.
        page: address of its web page.
        download: files to download, and the folder that they unpack to.
    """

    title: str
    content: str
    size: str
    licence: str
    page: str
    download: str


@dataclass(frozen=True)
class Sample:
    """The images of a data set that are used, with their index and names.

    Attributes:
        images: root folder of the paths.
        index: one row per image, columns ``crumb.data.index.COLUMNS``.
        class_names: name of each class id.
        test_sessions: sessions of test images. All other sessions are for training.
        left_out: one line for everything that is not used, with the reason.
        class_groups: see :class:`crumb.data.index.Dataset`.
        resize: see there. Images of published data sets are squashed, as published.
    """

    images: Path
    index: pd.DataFrame
    class_names: Mapping[int, str]
    test_sessions: tuple[int, ...]
    left_out: tuple[str, ...] = ()
    class_groups: tuple[tuple[int, ...], ...] = ()
    resize: Resize = "squash"


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """A data set as its publishers lay it out, before it is indexed.

    Its fields are the flags of ``crumb index NAME``. Data sets add their own.
    """

    name: ClassVar[str]
    about: ClassVar[About | None] = None
    published: ClassVar[Mapping[str, int]] = {}
    """Counts of the whole data set, by the names of :func:`crumb.data.stats.counts`."""
    published_classes: ClassVar[tuple[str, ...]] = ()
    """The classes for which they hold."""

    root: Annotated[Path, Argument(positional=True)]
    """Folder of the raw data (read only)."""
    output: Path | None = None
    """Output folder of the index and dataset.json. Default: NAME-data."""

    def __post_init__(self) -> None:
        check_kinds(self)
        self.keep_apart(self.root)

    def keep_apart(self, raw: Path) -> None:
        """Refuse an output folder that is, contains or is inside a folder that is only read."""
        inner, output = raw.resolve(), self.folder.resolve()
        if output.is_relative_to(inner) or inner.is_relative_to(output):
            raise InputError(
                setting("output", self.folder),
                f"is, contains or lies inside the folder of the raw data, {raw}",
                "give a folder next to it",
            )

    @property
    def folder(self) -> Path:
        """Output folder of the data set."""
        return self.output or Path(f"{self.name}-data")

    @property
    def dataset_name(self) -> str:
        """Name of the data set: in dataset.json, and of the folder of its results."""
        return self.name

    @abstractmethod
    def sample(self) -> Sample:
        """Find the files, check their layout, sample as published.

        Files that are made on the way (frames of clips) are written to :attr:`folder`.

        Raises:
            InputError: the layout of the folder is wrong, or a file is broken.
        """


@dataclass(frozen=True, kw_only=True)
class ClipSource(Source):
    """A data set of clips that are decoded."""

    workers: Annotated[int, Argument(default="one per core")] = os.cpu_count() or 1
    """Number of processes that decode clips."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.workers <= 4096:
            raise InputError(setting("workers", self.workers), "is out of range", "give 1 to 4096")


def index_source(source: Source) -> tuple[Dataset, tuple[str, ...]]:
    """Index a data set.

    Returns:
        the data set after it is written, and the lines about what is left out.

    Raises:
        InputError: see :meth:`Source.sample`; or the folder cannot be written. No data set is
            left behind.
    """
    root = printable(source.root.resolve())
    _check_folder(source, root)
    sample = source.sample()
    dataset = Dataset(
        source.dataset_name,
        source.folder,
        sample.images,
        sample.index,
        dict(sample.class_names),
        sample.test_sessions,
        sample.class_groups,
        sample.resize,
        (source.name, root),
    )
    write_dataset(dataset)
    return dataset, sample.left_out


def _check_folder(source: Source, root: str) -> None:
    """Refuse a folder with a data set of another kind, or of other raw data."""
    record = source.folder / RECORD
    if not record.is_file():
        return
    found = read_json(record, "remove it")
    # Earlier versions wrote only the name, which was that of the kind.
    known = found.get("made_of") or [found.get("name"), root]
    remedy = f"choose another {setting('output')}, or remove it"
    if known[0] != source.name:
        raise InputError(source.folder, "holds another data set", remedy)
    # A published data set is the same wherever its raw data lies.
    if source.about is None and known[1] != root:
        raise InputError(source.folder, f"holds the data set of {known[1]}, not of {root}", remedy)


def visible(folder: Path, skipped: list[Path] | None = None) -> Iterator[Path]:
    """Entries that are neither hidden nor system folders, sorted by name.

    Args:
        folder: A missing folder has no entries.
        skipped: The skipped system folders are appended (:mod:`crumb.data.system_folders`).
    """
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if is_system_folder(path.name) and path.is_dir():
            if skipped is not None:
                skipped.append(path)
        elif not path.name.startswith("."):
            yield path


S = TypeVar("S", bound=Source)
_SOURCES: dict[str, type[Source]] = {}


def register(source: type[S]) -> type[S]:
    """Class decorator that registers a data set under its ``name``, at any time.

    A class that is defined again, as in a notebook, replaces the earlier one.

    Raises:
        InputError: another class has the name.
    """
    known, own = (
        f"{one.__module__}:{one.__qualname__}"
        for one in (_SOURCES.get(source.name, source), source)
    )
    if known != own:
        raise InputError(own, f"has the name {source.name!r} of {known}", "give it another name")
    _SOURCES[source.name] = source
    return source


def registered() -> dict[str, type[Source]]:
    """Data sets of imported modules; see :func:`crumb.data.sets.registry.sources` for all."""
    return dict(_SOURCES)
