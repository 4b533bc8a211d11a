"""A table of files: their classes, objects and sessions in a CSV file."""

from __future__ import annotations

import math
import unicodedata
from pathlib import Path, PurePosixPath

from crumb.data.index import csv_rows, path_problem, shown
from crumb.data.sets.folder_layout import TEST, TRAIN, VIDEOS, Entry, Found, medium
from crumb.errors import InputError

NEEDED, OPTIONAL = ("path", "class"), ("object", "session", "frame", "split")
_UNPRINTED = ("Cc", "Zl", "Zp")
_REMEDY = f"give comma-separated columns {', '.join(NEEDED)} and, if known, {', '.join(OPTIONAL)}"


def read_table(table: Path, root: Path) -> Found:
    """Every file that a table lists.

    A video without a session is one of its own; images without are one session for each object.

    Args:
        table: CSV file with a header; columns path and class, and any of object, session, frame (a
            number: images of a session are ordered by it, then by path) and split (train or test).
        root: Folder that its paths are relative to.

    Raises:
        InputError: no such file, no CSV, a column is missing or there twice, a row is malformed or
            lists a path again, or none of the files can be used.
    """
    rows = csv_rows(table, _REMEDY)
    header = [name.strip() for name in next(rows, (1, []))[1]]
    for column in NEEDED:
        if column not in header:
            raise InputError(table, f"has no column {column!r}", _REMEDY)
    for column in header:
        if column and header.count(column) > 1:
            raise InputError(table, f"has the column {shown(column)} twice", "keep one of them")
    found = Found(root)
    lines: dict[str, int] = {}
    numbered: dict[tuple[str, str, str], bool] = {}
    for line, row in rows:
        where = f"{table}, line {line}"
        if len(row) != len(header):
            raise InputError(where, f"has {len(row)} fields, not {len(header)}", _REMEDY)
        cells = dict(zip(header, map(str.strip, row), strict=True))
        entry = _entry(where, cells)
        if lines.setdefault(entry.path, line) != line:
            problem = f"lists {shown(entry.path)} again, after line {lines[entry.path]}"
            raise InputError(where, problem, "keep one row for each file")
        has_frame = bool(cells.get("frame"))
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
    if unknown := [name for name in header if name not in (*NEEDED, *OPTIONAL)]:
        found.notes.append(f"columns that are not used: {', '.join(map(repr, unknown))}")
    return found


def _entry(where: str, row: dict[str, str]) -> Entry:
    for column in NEEDED:
        if not row[column]:
            raise InputError(where, f"has an empty {column}", "fill it in or take the row out")
    # The same file always gets the same name.
    path = PurePosixPath(row["path"]).as_posix()
    if problem := path_problem(path):
        raise InputError(where, problem, "use plain paths below the folder of the table, or ROOT")
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
        raise InputError(where, f"has frame {shown(number)}, no number", "give a number")
    return Entry(path, row["class"], row.get("object", ""), session, split, frame)
