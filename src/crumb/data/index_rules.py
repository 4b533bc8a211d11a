"""Rules for the rows of an index."""

from __future__ import annotations

import re

COLUMNS = ("class", "object", "session", "im_num", "im_path")
"""Category id, physical instance, clip of that instance, frame of that clip, relative path."""

MOST_DIGITS = 18
"""Maximum number of digits, so that a number fits in 64 bits."""
_WHOLE_NUMBER = re.compile(r"-?[0-9]+")
# These include line breaks: an index and file lists are read line by line.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# Python replaces bytes of a file name that are not text by these.
_SURROGATE = re.compile("[\ud800-\udfff]")
_SHOWN = 200


def path_problem(path: str) -> str | None:
    """Why ``path`` cannot be in an index or file list; None if it can.

    Blanks inside a path are allowed: the label of a line follows its last blank.
    """
    if not path:
        return "the path is empty"
    if _CONTROL.search(path):
        return f"the path {shown(path)} holds a control character"
    if _SURROGATE.search(path):
        return f"the path {shown(path)} has a name that is not UTF-8"
    if path != path.strip():
        return f"the path {shown(path)} begins or ends with a blank"
    if path.startswith("/"):
        return f"the path {shown(path)} is absolute"
    if ".." in path.split("/"):
        return f"the path {shown(path)} leaves the images root"
    return None


def shown(text: str) -> str:
    """Quote ``text`` for a message, on one line. A very long text is shortened."""
    quoted = repr(text)
    if len(quoted) <= _SHOWN:
        return quoted
    return f"{quoted[: _SHOWN // 2]}... ({len(text)} characters)"


def number_problem(text: str) -> str | None:
    """Why ``text`` cannot be an index entry; None if it can."""
    if not _WHOLE_NUMBER.fullmatch(text):
        return "is not an integer"
    if text.startswith("-"):
        return "is negative"
    return "is too large" if len(text) > MOST_DIGITS else None
