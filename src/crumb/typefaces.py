"""Find fonts of this machine that have the characters of a text, in any script."""

from __future__ import annotations

import sys
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

_told: set[str] = set()


def runs(text: str) -> list[tuple[str, Path | None]]:
    """A text in parts, each with the typeface that has its letters; None is matplotlib's own."""
    others = covering(frozenset(text))
    parts: list[tuple[str, Path | None]] = []
    for letter in text:
        path = None
        if not _has(own_typeface(), letter):
            path = next((path for path in others if _has(path, letter)), None)
        if parts and parts[-1][1] == path:
            parts[-1] = (parts[-1][0] + letter, path)
        else:
            parts.append((letter, path))
    return parts


@cache
def own_typeface(bold: bool = False) -> Path:
    """The typeface that comes with matplotlib, whose letters cover most of Europe's scripts."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name


@cache
def covering(letters: frozenset[str]) -> tuple[Path, ...]:
    """Files of the fewest typefaces of this machine with the letters that ours lacks."""
    missing = {letter for letter in letters if _is_drawn(letter) and not _has_own(letter)}
    chosen = []
    while missing:
        path, found = _best(frozenset(missing))
        if path is None:
            break
        chosen.append(path)
        missing -= found
    if not missing <= _told:
        _tell(missing)
    return tuple(chosen)


def _best(missing: frozenset[str]) -> tuple[Path | None, frozenset[str]]:
    """The file with most of these letters, an upright one of normal weight if there is one."""
    best: tuple[tuple[object, ...], Path | None, frozenset[str]] = ((0,), None, frozenset())
    for path in _files():
        found = frozenset(letter for letter in missing if _has(path, letter))
        if not found:
            continue
        font = opened(path)
        odd = any(word in font.style_name.lower() for word in ("bold", "italic", "oblique", "thin"))
        key = (-len(found), odd, "sans" not in font.family_name.lower(), str(path))
        if best[1] is None or key < best[0]:
            best = (key, path, found)
    return best[1], best[2]


@cache
def _files() -> tuple[Path, ...]:
    """Files of all typefaces that can be drawn in any size."""
    from matplotlib.font_manager import findSystemFonts

    paths = [Path(path) for path in sorted(findSystemFonts())]
    return tuple(path for path in paths if getattr(opened(path), "scalable", False))


@cache
def opened(path: Path) -> Any:
    """A typeface as matplotlib reads it; None if the file is not a typeface."""
    from matplotlib.ft2font import FT2Font

    try:
        return FT2Font(str(path))
    except (OSError, RuntimeError, ValueError):
        return None


def _has(path: Path, letter: str) -> bool:
    return opened(path).get_char_index(ord(letter)) != 0


def _has_own(letter: str) -> bool:
    return _has(own_typeface(), letter)


def _is_drawn(letter: str) -> bool:
    """Whether a letter leaves ink: no blank, no sign that directs or joins others."""
    return unicodedata.category(letter)[0] not in "CZ" and letter != "\N{VARIATION SELECTOR-16}"


def _tell(missing: set[str]) -> None:
    _told.update(missing)
    some = " ".join(sorted(missing)[:5])
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    sys.stderr.write(
        f"no font on this machine has the characters {some}{more}; figures show boxes instead. "
        "Install one, such as Noto (Debian: fonts-noto, fonts-noto-cjk)\n"
    )
