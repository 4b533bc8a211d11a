"""Class names: canonical form, and names that look the same."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from crumb.errors import InputError

UNKNOWN = "unknown"
"""Prediction for inputs that are too far from every class. No class may have this name."""
_JOINERS = "\u200c\u200d"
_ONE = {"classes": "class", "objects": "object", "sessions": "session"}


def canonical(name: str) -> str:
    """The canonical form of a name. Unicode has several forms, such as ä or a with two dots.

    macOS writes the decomposed form, Linux and Windows the composed one. Names are converted to the
    composed form (NFC).
    """
    return unicodedata.normalize("NFC", name)


def class_name(name: str, where: object) -> str:
    """Check a class name and return its canonical form.

    Args:
        name: name as given.
        where: where it was given, for the message.

    Raises:
        InputError: the name is empty, begins or ends with a blank, contains an invisible or control
            character, or is "unknown", which is reserved.
    """
    name = canonical(name)
    given = f"{where} {name!r}"
    if not name.strip():
        raise InputError(given, "is blank", "give the class a name")
    if name != name.strip():
        raise InputError(given, "begins or ends with a blank", "leave it out")
    if hidden := [sign for place, sign in enumerate(name) if _is_hidden(name, place)]:
        raise InputError(given, f"holds {hidden[0]!r}, which cannot be seen", "leave it out")
    if name == UNKNOWN:
        raise InputError(
            given, "is reserved for inputs that match no class", "give it another name"
        )
    return name


def _is_hidden(name: str, place: int) -> bool:
    if name[place] in _JOINERS:
        # Persian words and emoji need them.
        return place == 0 or name[place - 1].isascii()
    return unicodedata.category(name[place]) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def alike_line(names: Iterable[str], what: str = "classes", where: str = "") -> list[str]:
    """A line about classes whose names look the same; empty if there are none.

    They differ only in case, blanks, invisible characters or the width of letters.

    Args:
        names: names of classes.
        what: word for the names, if not classes.
        where: where they occur, if not everywhere.
    """
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(names):
        groups[_outline(name)].append(name)
    if not (several := [group for group in groups.values() if len(group) > 1]):
        return []
    first = [repr(name) if _has_hidden(name) else name for name in several[0]]
    more = f", and {len(several) - 1} more such" if len(several) > 1 else ""
    how = (
        "case"
        if len({name.casefold() for name in several[0]}) == 1
        else "blanks or letters that look the same"
    )
    return [
        f"{' and '.join(first)} are separate {what}{where} and differ in {how} only{more}; if they "
        f"are one {_ONE[what]}, give them one name"
    ]


def _outline(name: str) -> str:
    """A name reduced to its letters, ignoring case, blanks, invisible characters and widths."""
    wide = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(letter for letter in wide if not letter.isspace() and _is_seen(letter))


def _is_seen(letter: str) -> bool:
    return unicodedata.category(letter) not in ("Cf", "Cc")


def _has_hidden(name: str) -> bool:
    # Only quotes and escapes show leading, trailing and invisible characters.
    return name != name.strip() or not name.isprintable()
