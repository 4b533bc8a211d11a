"""A table of files: their classes, objects and sessions in a CSV file."""

from __future__ import annotations

import contextlib
import csv
import math
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from crumb.data.index import csv_rows, path_problem, shown
from crumb.data.names import canonical
from crumb.data.sets.folder_layout import TEST, TRAIN, VIDEOS, Entry, Found, alike_lines, medium
from crumb.errors import InputError
from crumb.files import read_text

SUFFIXES = (".csv", ".tsv", ".tab", ".txt")
NEEDED, OPTIONAL = ("path", "class"), ("object", "session", "frame", "split")
_UNPRINTED = ("Cc", "Zl", "Zp")
_REMEDY = f"give comma-separated columns {', '.join(NEEDED)} and, if known, {', '.join(OPTIONAL)}"
_AS_TEXT = "save it as CSV UTF-8, as Excel and LibreOffice call it"
_RELATIVE = "give paths relative to the folder of the table, or to ROOT"
# Excel's separator depends on the language of Windows.
_SEPARATORS = ",;\t|"
_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\|//|file:", re.IGNORECASE)
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


def read_table(table: Path, root: Path) -> Found:
    """Every file that a table lists.

    A video without a session is a session of its own. Images without a session are one session per
    object. Tables from Windows work as they are: separators may be commas, semicolons or tabs,
    headings may be capitalised, paths may have backslashes, and the text may be UTF-16 with a byte
    order mark.

    Args:
        table: CSV file with a header; columns path and class, and any of object, session, frame (a
            number: images of a session are ordered by it, then by path) and split (train or test).
        root: Folder that its paths are relative to.

    Raises:
        InputError: there is no such file, it is not CSV, a column is missing or appears twice, a
            row is malformed or repeats a path, or none of the files can be used.
    """
    rows = _rows(table)
    header = _header(table, rows)
    found, files = Found(root), _Files(root)
    lines: dict[str, int] = {}
    numbered: dict[tuple[str, str, str], bool] = {}
    for line, row in rows:
        where = f"{table}, line {line}"
        row = [cell.strip() for cell in row]
        # Spreadsheets pad rows to the widest one and leave empty rows behind.
        if not any(row):
            continue
        while len(row) > len(header) and not row[-1]:
            row.pop()
        if len(row) != len(header):
            raise InputError(where, f"has {len(row)} fields, not {len(header)}", _REMEDY)
        entry = _entry(where, dict(zip(header, row, strict=True)), files)
        if lines.setdefault(entry.path, line) != line:
            problem = f"lists {shown(entry.path)} again, after line {lines[entry.path]}"
            raise InputError(where, problem, "keep one row for each file")
        has_frame = bool(row[header.index("frame")]) if "frame" in header else False
        session = (entry.class_name, entry.object, entry.session)
        if numbered.setdefault(session, has_frame) != has_frame:
            problem = f"{'has' if has_frame else 'lacks'} a frame, unlike others of its session"
            raise InputError(where, problem, "number all images of a session, or none")
        if found.accepts(entry.path):
            found.entries.append(entry)
    if not found.entries:
        why, paths = next(iter(found.unused.items()), ("", []))
        named = f" ({paths[0]}: {why})" if paths else ""
        raise InputError(
            table, f"lists no file that can be used{named}", f"give paths relative to {root}"
        )
    found.notes += alike_lines(found.entries)
    unknown = [name for name in header if name and name not in (*NEEDED, *OPTIONAL)]
    if unknown:
        found.notes.append(f"columns that are not used: {', '.join(map(repr, unknown))}")
    return found


def _rows(table: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of each row, with any known separator."""
    with contextlib.suppress(OSError), table.open("rb") as file:
        if file.read(4) in _WORKBOOKS:
            raise InputError(table, "is a workbook or another archive, not text", _AS_TEXT)
    text = read_text(table, _AS_TEXT, or_utf16=True)
    if "\0" in text:
        raise InputError(table, "holds bytes of value 0, as UTF-16 without a mark does", _AS_TEXT)
    first = text.lstrip("\n").partition("\n")[0]
    # Excel declares its separator in a first line such as sep=;
    named = re.fullmatch('"?sep=([^"])"?', first, re.IGNORECASE)
    rows = csv_rows(table, _REMEDY, named[1] if named else _separator(first), text)
    if named:
        next(rows, None)
    return rows


def _separator(first: str) -> str:
    """The delimiter with which the header has the required columns."""
    for separator in _SEPARATORS:
        with contextlib.suppress(csv.Error):
            if set(NEEDED) <= set(_headings(next(csv.reader([first], delimiter=separator), []))):
                return separator
    return max(_SEPARATORS, key=first.count)


def _headings(cells: list[str]) -> list[str]:
    """Names of columns; known names are lowered."""
    names = [cell.strip() for cell in cells]
    return [low if (low := name.lower()) in (*NEEDED, *OPTIONAL) else name for name in names]


def _header(table: Path, rows: Iterator[tuple[int, list[str]]]) -> list[str]:
    header = _headings(next(rows, (1, []))[1])
    while header and not header[-1]:
        header.pop()
    for column in NEEDED:
        if column not in header:
            has = f", but {shown(', '.join(header))}" if header else ""
            raise InputError(table, f"has no column {column!r}{has}", _REMEDY)
    for column in header:
        if column and header.count(column) > 1:
            raise InputError(table, f"has the column {shown(column)} twice", "keep one of them")
    return header


class _Files:
    """Finds files by names that were written on another system."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names: dict[str, dict[str, list[str]]] = {}

    def find(self, path: str) -> str:
        """The path as it is on this disk, or as given if no path or several paths match.

        On Windows and macOS, names that differ in case or Unicode form are the same.
        """
        if self.has(path):
            return path
        parts: list[str] = []
        for part in path.split("/"):
            fitting = self._in_folder("/".join(parts)).get(canonical(part).casefold(), [])
            if part not in fitting and len(fitting) != 1:
                return path
            parts.append(part if part in fitting else fitting[0])
        return "/".join(parts)

    def has(self, path: str) -> bool:
        """Whether this path exists."""
        # Unlike Path.exists, this accepts any text.
        return os.path.lexists(self.root / path)

    def _in_folder(self, folder: str) -> dict[str, list[str]]:
        if folder not in self._names:
            names: defaultdict[str, list[str]] = defaultdict(list)
            with contextlib.suppress(OSError):
                for path in (self.root / folder).iterdir():
                    names[canonical(path.name).casefold()].append(path.name)
            self._names[folder] = names
        return self._names[folder]


def _path(where: str, text: str, files: _Files) -> str:
    """A path of the table, relative to its root."""
    if _DRIVE.match(text) and not files.has(text):
        problem = f"the path {shown(text)} begins with a drive or a server"
        raise InputError(where, problem, _RELATIVE)
    if "\\" in text and not files.has(text):
        text = text.replace("\\", "/")
    # One spelling per file, so that a repeated path is noticed.
    path = PurePosixPath(text).as_posix()
    if problem := path_problem(path):
        raise InputError(where, problem, _RELATIVE)
    return files.find(path)


def _entry(where: str, row: dict[str, str], files: _Files) -> Entry:
    for column in NEEDED:
        if not row[column]:
            raise InputError(where, f"has an empty {column}", "fill it in or remove the row")
    path = _path(where, row["path"], files)
    for column in ("class", "object", "session"):
        if any(unicodedata.category(letter) in _UNPRINTED for letter in row.get(column, "")):
            problem = f"has {column} {shown(row[column])} with a control character"
            raise InputError(where, problem, "take it out")
    is_video = medium(path) == VIDEOS
    session = row.get("session", "")
    if is_video and not session:
        session = PurePosixPath(path).with_suffix("").as_posix()
    split = row.get("split", "").lower()
    if "split" in row and split not in (TRAIN, TEST):
        raise InputError(where, f"has the split {shown(row['split'])}", "give train or test")
    number = row.get("frame", "")
    if number and is_video:
        raise InputError(where, f"has frame {shown(number)} of a video", "leave it empty")
    try:
        frame = float(number or 0)
    except ValueError:
        frame = math.nan
    if not math.isfinite(frame):
        raise InputError(
            where, f"has frame {shown(number)}, which is not a number", "give a number"
        )
    class_name, item, session = map(canonical, (row["class"], row.get("object", ""), session))
    return Entry(path, class_name, item, session, split, frame)
