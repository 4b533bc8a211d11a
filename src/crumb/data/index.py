"""The index of a data set: one row per image, and class names."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import itertools
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from crumb.data.index_rules import COLUMNS, MOST_DIGITS, number_problem, path_problem, shown
from crumb.data.names import canonical
from crumb.data.resize import RESIZES, Resize
from crumb.data.usual_index import read_usual
from crumb.errors import InputError, setting
from crumb.files import csv_text, read_json, read_text, write_json, write_parts

RECORD = "dataset.json"
_FORMAT, _VERSION = "crumb-dataset", 1
_REINDEX = "write it again with `crumb index`"
# Number of rows written at a time.
_ROWS = 1 << 12


@dataclass(frozen=True)
class Dataset:
    """An indexed data set.

    Attributes:
        name: Short name, for example "toybox".
        folder: Folder of dataset.json and the index.
        images: Root folder of the paths in im_path.
        index: One row per image, with columns ``COLUMNS``. Column class holds integer ids.
        class_names: Name of each class id.
        test_sessions: Sessions of the test set, empty if there is none. All other sessions are the
            training set.
        class_groups: Groups of class ids, with each id in one group. Classes are shuffled within
            each group, and groups follow one another. If empty, all classes are shuffled together.
        resize: How images are made square.
        made_of: Kind and folder of the raw data, such as ("folder", "/home/me/videos"); None if an
            earlier version wrote the data set.

    Raises:
        InputError: there are groups, but they do not contain each class id once.
    """

    name: str
    folder: Path
    images: Path
    index: pd.DataFrame
    class_names: dict[int, str]
    test_sessions: tuple[int, ...]
    class_groups: tuple[tuple[int, ...], ...] = ()
    resize: Resize = "squash"
    made_of: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        grouped = sorted(itertools.chain(*self.class_groups))
        if grouped and grouped != sorted(self.class_names):
            problem = "groups classes, but does not hold each class in one group"
            raise InputError(self.folder, problem, _REINDEX)

    @property
    def digest(self) -> str:
        """Digest of the index and the preprocessing of images."""
        found = hashlib.sha256()
        for part in index_parts(self.index):
            found.update(part)
        if self.resize != "squash":
            found.update(self.resize.encode())
        return found.hexdigest()

    def select(self, classes: Sequence[str]) -> Dataset:
        """The same data set with only the named classes, in the row order of the index.

        Raises:
            InputError: no class is named, a class is named twice, or the data set does not have it.
        """
        known = f"name classes among {', '.join(self.class_names.values())}"
        if not classes:
            raise InputError(setting("classes"), "is empty", known)
        # A typed name and a folder name may be two Unicode forms of the same name.
        forms = {canonical(name): name for name in self.class_names.values()}
        known_names = set(self.class_names.values())
        classes = [
            name if name in known_names else forms.get(canonical(name), name) for name in classes
        ]
        for position, name in enumerate(classes):
            if name not in self.class_names.values():
                raise InputError(setting("classes"), f"has no class {name!r}", known)
            if name in classes[:position]:
                raise InputError(
                    setting("classes"), f"names {name!r} twice", "name each class once"
                )
        kept = {number: name for number, name in self.class_names.items() if name in classes}
        index = self.index[self.index["class"].isin(list(kept))].reset_index(drop=True)
        groups = [
            tuple(number for number in group if number in kept) for group in self.class_groups
        ]
        return replace(
            self, index=index, class_names=kept, class_groups=tuple(filter(None, groups))
        )


def index_text(index: pd.DataFrame) -> str:
    """An index as CSV text, with the published unnamed first column of row numbers from 0."""
    return b"".join(index_parts(index)).decode()


def index_parts(index: pd.DataFrame) -> Iterator[bytes]:
    """The UTF-8 bytes of :func:`index_text`, some rows at a time."""
    return table_parts(index.loc[:, list(COLUMNS)])


def table_parts(table: pd.DataFrame) -> Iterator[bytes]:
    """A table as CSV in UTF-8, some rows at a time, with a first column of row numbers from 0."""
    yield csv_text([], ["", *table.columns]).encode()
    for start in range(0, len(table), _ROWS):
        part = table.iloc[start : start + _ROWS]
        columns = [part[name].tolist() for name in table.columns]
        yield csv_text(zip(itertools.count(start), *columns)).encode()


def read_index(path: Path) -> pd.DataFrame:
    """Read an index file. Columns that are not in ``COLUMNS`` are dropped, such as row numbers.

    Returns:
        One row per image in the order of the file. im_path is text, and other columns are int64.

    Raises:
        InputError: the file is missing or empty, a column is missing or repeated, or a row is
            malformed (not an integer, negative, an unusable path, the same clip and frame as an
            earlier row, or an image of another clip).
    """
    index = read_usual(path)
    return read_carefully(path) if index is None else index


def read_carefully(path: Path) -> pd.DataFrame:
    """Read an index file row by row; see :func:`read_index`."""
    rows = csv_rows(path, _REINDEX)
    header = next(rows, (1, []))[1]
    if not header:
        raise InputError(path, "is empty", _REINDEX)
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        raise InputError(path, f"has no column {missing[0]!r}", f"give {', '.join(COLUMNS)}")
    if twice := [column for column in COLUMNS if header.count(column) > 1]:
        raise InputError(path, f"has the column {twice[0]!r} twice", "keep one of them")
    places = [header.index(column) for column in COLUMNS]
    records: dict[tuple[int, ...], str] = {}
    clip_of: dict[str, tuple[int, ...]] = {}
    for line, row in rows:
        where = f"{path}, line {line}"
        if len(row) != len(header):
            raise InputError(where, f"has {len(row)} fields, not {len(header)}", _REINDEX)
        *numbers, image = (row[place] for place in places)
        for column, text in zip(COLUMNS, numbers, strict=False):
            if problem := number_problem(text):
                raise InputError(where, f"{column} {shown(text)} {problem}", _REINDEX)
        if problem := path_problem(image):
            raise InputError(where, problem, "use plain paths below the images root")
        key = tuple(map(int, numbers))
        if key in records:
            problem = "has the class, object, session and im_num of an earlier row"
            raise InputError(where, problem, "keep one row for each frame")
        # A short clip is continued backwards, so only its own images may repeat.
        if clip_of.setdefault(image, key[:-1]) != key[:-1]:
            problem = f"the image {shown(image)} is of another clip in an earlier row"
            raise InputError(where, problem, "give each image one class, object and session")
        records[key] = image
    if not records:
        raise InputError(path, "lists no images", _REINDEX)
    index = pd.DataFrame([*records], columns=list(COLUMNS[:-1]), dtype="int64")
    index["im_path"] = list(records.values())
    return index


def csv_rows(
    path: Path, remedy: str, delimiter: str = ",", text: str | None = None
) -> Iterator[tuple[int, list[str]]]:
    """Yield line number (from 1) and fields of each row of a CSV file, without blank rows.

    Args:
        path: path of the file.
        remedy: for the message.
        delimiter: delimiter of fields.
        text: text of the file, if it has been read.

    Raises:
        InputError: the file cannot be read or is not CSV.
    """
    lines = io.StringIO(read_text(path, remedy) if text is None else text)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        where = f"{path}, line {reader.line_num}"
        raise InputError(where, f"is not a CSV ({error})", remedy) from error


def write_dataset(dataset: Dataset) -> None:
    """Write the index as ``<name>_dirmap.csv``, then dataset.json, into the data set's folder.

    Raises:
        InputError: the folder cannot be written.
    """
    index_name = f"{dataset.name}_dirmap.csv"
    # The old record belongs to the old index, so remove it first.
    with contextlib.suppress(OSError):
        (dataset.folder / RECORD).unlink(missing_ok=True)
    folder, images = dataset.folder.resolve(), dataset.images.resolve()
    inside = images.is_relative_to(folder)
    write_parts(dataset.folder / index_name, index_parts(dataset.index))
    record = {
        "format": _FORMAT,
        "version": _VERSION,
        "name": dataset.name,
        "index": index_name,
        "images": images.relative_to(folder).as_posix() if inside else str(images),
        "test_sessions": list(dataset.test_sessions),
        "classes": {name: number for number, name in dataset.class_names.items()},
        "resize": dataset.resize,
    }
    if dataset.class_groups:
        record["class_groups"] = [list(group) for group in dataset.class_groups]
    if dataset.made_of is not None:
        record["made_of"] = list(dataset.made_of)
    write_json(dataset.folder / RECORD, record)


def load_dataset(folder: Path) -> Dataset:
    """Read a data set that ``write_dataset`` wrote.

    The image files are not checked: task lists can be made without them.

    Raises:
        InputError: ``folder`` does not exist or holds no data set; dataset.json has another format
            or version or lacks an entry; or the index is missing, damaged or has unnamed class ids.
    """
    remedy = "give the folder that `crumb index` wrote"
    path = folder / RECORD
    try:
        if not folder.is_dir():
            raise InputError(folder, "is not a folder", remedy)
        if not path.exists():
            problem = f"is not a data set, because it holds no {RECORD}"
            remedy = f"for your own videos or photos: crumb index folder {shlex.quote(str(folder))}"
            raise InputError(folder, problem, remedy)
    except OSError as error:
        raise InputError(folder, f"cannot be read ({error.strerror})", remedy) from error
    record = read_json(path, "index the data set with `crumb index`")
    if record.get("format") != _FORMAT:
        raise InputError(path, f"is not of the format {_FORMAT!r}", _REINDEX)
    if record.get("version") != _VERSION:
        problem = (
            f"has version {record.get('version')!r}, but this version of Crumb reads {_VERSION}"
        )
        raise InputError(path, problem, _REINDEX)
    _check_record(path, record)
    class_names = {number: canonical(name) for name, number in record["classes"].items()}
    index = read_index(folder / record["index"])
    unnamed = sorted(set(index["class"].unique().tolist()) - set(class_names))
    if unnamed:
        raise InputError(path, f"has no name for class id {unnamed[0]}", _REINDEX)
    return Dataset(
        name=record["name"],
        folder=folder,
        images=folder / record["images"],
        index=index,
        class_names=class_names,
        test_sessions=tuple(record["test_sessions"]),
        class_groups=tuple(map(tuple, record.get("class_groups", []))),
        # Older versions squashed all images, and did not record it.
        resize=record.get("resize", "squash"),
        made_of=tuple(record["made_of"]) if "made_of" in record else None,
    )


def _check_record(path: Path, record: dict[str, Any]) -> None:
    """Raise InputError unless every entry of dataset.json has its type."""
    for key in ("name", "index", "images"):
        value = record.get(key)
        if not (isinstance(value, str) and value and "\0" not in value):
            raise InputError(path, f"{key!r} is missing or not a string", _REINDEX)
    # It becomes part of the name of the results folder.
    if "/" in record["name"] or record["name"] in (".", ".."):
        raise InputError(
            path, f"'name' {shown(record['name'])} is not a name of a folder", _REINDEX
        )
    sessions, classes = record.get("test_sessions"), record.get("classes")
    if not (isinstance(sessions, list) and all(map(_is_count, sessions))):
        raise InputError(path, "'test_sessions' is not a list of session numbers", _REINDEX)
    if not (isinstance(classes, dict) and classes and all(map(_is_count, classes.values()))):
        raise InputError(path, "'classes' does not map names to ids", _REINDEX)
    if "" in classes:
        raise InputError(path, "'classes' has an empty name", _REINDEX)
    if len(set(map(canonical, classes))) < len(classes):
        problem = "'classes' has one name in two forms of Unicode"
        raise InputError(path, problem, _REINDEX)
    if len(set(classes.values())) < len(classes):
        raise InputError(path, "'classes' gives one id to two names", _REINDEX)
    if record.get("resize", "squash") not in RESIZES:
        raise InputError(path, f"'resize' is not one of {', '.join(RESIZES)}", _REINDEX)
    made_of = record.get("made_of", ["", ""])
    if not (isinstance(made_of, list) and list(map(type, made_of)) == [str, str]):
        raise InputError(path, "'made_of' is not a kind and a folder", _REINDEX)
    groups = record.get("class_groups", [])
    if not (isinstance(groups, list) and all(map(_is_group, groups))):
        raise InputError(path, "'class_groups' is not a list of lists of class ids", _REINDEX)


def _is_group(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_count, value))


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 10**MOST_DIGITS
