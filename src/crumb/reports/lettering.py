"""Words in pictures: as they are written, in a typeface of this machine that has their letters.

Names of classes, methods and folders are foreign text. Matplotlib would read what stands between
two ``$`` as a formula, and its own typeface has no letters of Chinese, Japanese or Korean.
"""

from __future__ import annotations

import re
import sys
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

_POWER = re.compile(r"\$\\mathdefault\{(.*)\}\$")
_EXPONENT = re.compile(r"\^\{([^}]*)\}")
_RAISED = str.maketrans("0123456789-\N{MINUS SIGN}.", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁻·")
_told: set[str] = set()


@contextmanager
def as_written(figure: Figure) -> Iterator[None]:
    """In this context a figure is drawn with its words as they are written.

    Letters that no typeface has are named once, in one line to standard error, and drawn as boxes.
    """
    from matplotlib import rc_context
    from matplotlib.text import Text

    # Labels of ticks that are made while drawing take what is set here, all others have been made.
    plain: Any = {
        "text.parse_math": False,
        "text.usetex": False,
        "axes.formatter.use_mathtext": False,
    }
    with rc_context(plain), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        for axes in figure.axes:
            for axis in (axes.xaxis, axes.yaxis):
                _without_formulas(axis)
                # Writes the labels down, so that their letters are known.
                axis.get_ticklabels(which="both")
        words = figure.findobj(Text)
        letters = frozenset("".join(text.get_text() for text in words if isinstance(text, Text)))
        families = [_family(path) for path in _typefaces(letters)]
        for text in words:
            assert isinstance(text, Text)
            text.set_parse_math(False)
            text.set_usetex(False)
            if further := [name for name in families if name not in text.get_fontfamily()]:
                text.set_fontfamily([*text.get_fontfamily(), *further])
        yield


def runs(text: str) -> list[tuple[str, Path | None]]:
    """A text in parts, each with the typeface that has its letters; None is matplotlib's own."""
    others = _typefaces(frozenset(text))
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
def _typefaces(letters: frozenset[str]) -> tuple[Path, ...]:
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
        font = _opened(path)
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
    return tuple(path for path in paths if getattr(_opened(path), "scalable", False))


@cache
def _opened(path: Path) -> Any:
    """None for a file that is no typeface, whatever its name."""
    from matplotlib.ft2font import FT2Font

    try:
        return FT2Font(str(path))
    except (OSError, RuntimeError, ValueError):
        return None


def _has(path: Path, letter: str) -> bool:
    return _opened(path).get_char_index(ord(letter)) != 0


def _has_own(letter: str) -> bool:
    return _has(own_typeface(), letter)


def _family(path: Path) -> str:
    """The name under which matplotlib knows a file from now on."""
    from matplotlib.font_manager import fontManager

    if all(entry.fname != str(path) for entry in fontManager.ttflist):
        fontManager.addfont(path)
    return _opened(path).family_name


def _is_drawn(letter: str) -> bool:
    """Whether a letter leaves ink: no blank, no sign that directs or joins others."""
    return unicodedata.category(letter)[0] not in "CZ" and letter != "\N{VARIATION SELECTOR-16}"


def _tell(missing: set[str]) -> None:
    _told.update(missing)
    some = " ".join(sorted(missing)[:5])
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    sys.stderr.write(
        f"no typeface of this machine has the letters {some}{more}: figures show boxes in their "
        "place; install one, such as Noto Sans CJK (Debian: fonts-noto-cjk)\n"
    )


def _without_formulas(axis: Axis) -> None:
    """Powers of ten of a logarithmic axis in raised digits instead of a formula."""
    from matplotlib.ticker import LogFormatter

    for formatter, change in (
        (axis.get_major_formatter(), axis.set_major_formatter),
        (axis.get_minor_formatter(), axis.set_minor_formatter),
    ):
        if isinstance(formatter, LogFormatter):
            change(_raised(formatter))


def _raised(inner: Any) -> Any:
    from matplotlib.ticker import Formatter

    class Raised(Formatter):
        """The labels of another formatter, without formulas."""

        def __call__(self, x: float, pos: int | None = None) -> str:
            return _plain(inner(x, pos))

        def set_axis(self, axis: Any) -> None:
            super().set_axis(axis)
            inner.set_axis(axis)

        def set_locs(self, locs: Any) -> None:
            inner.set_locs(locs)

    return Raised()


def _plain(label: str) -> str:
    r"""``$\mathdefault{2\times10^{3}}$`` as ``2×10³``."""
    inside = _POWER.sub(r"\1", label).replace(r"\times", "×")
    return _EXPONENT.sub(lambda found: found[1].translate(_RAISED), inside)
