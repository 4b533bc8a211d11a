"""Names of classes: when two of them are one, and when two are likely meant to be."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable

_ONE = {"classes": "class", "objects": "object", "sessions": "session"}


def canonical(name: str) -> str:
    """The one form of a name that Unicode can write in several, such as ä or a with two dots.

    macOS writes the parts, Linux and Windows the letter; both are read as the letter (NFC).
    """
    return unicodedata.normalize("NFC", name)


def alike_line(names: Iterable[str], what: str = "classes", where: str = "") -> list[str]:
    """A line that names classes which a reader takes for one; none where there are none.

    They differ in case, in blanks, in signs that cannot be seen or in the width of letters only.

    Args:
        names: of classes.
        what: they are, if not classes.
        where: they are, if not everywhere.
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
    """What is left of a name without case, blanks, invisible signs and widths."""
    wide = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(letter for letter in wide if not letter.isspace() and _is_seen(letter))


def _is_seen(letter: str) -> bool:
    return unicodedata.category(letter) not in ("Cf", "Cc")


def _has_hidden(name: str) -> bool:
    # Blanks at the ends and signs without ink are told by quotes and escapes only.
    return name != name.strip() or not name.isprintable()
