"""Text in figures: literal, in a font of this machine that has its characters.

Names of classes, methods and folders are arbitrary text. Matplotlib would typeset text between two
``$`` as a formula, and its default font lacks Chinese, Japanese and Korean characters.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crumb.typefaces import covering, opened

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

_POWER = re.compile(r"\$\\mathdefault\{(.*)\}\$")
_EXPONENT = re.compile(r"\^\{([^}]*)\}")
_RAISED = str.maketrans("0123456789-\N{MINUS SIGN}.", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁻·")


@contextmanager
def as_written(figure: Figure) -> Iterator[None]:
    """Context that draws text of figures literally.

    Characters that no font has are reported once, in one line on standard error, and drawn as
    boxes.
    """
    from matplotlib import rc_context
    from matplotlib.text import Text

    # This setting affects tick labels made while drawing; other labels already exist.
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
                # Creates the labels, so that their characters are known.
                axis.get_ticklabels(which="both")
        words = figure.findobj(Text)
        letters = frozenset("".join(text.get_text() for text in words if isinstance(text, Text)))
        families = [_family(path) for path in covering(letters)]
        for text in words:
            assert isinstance(text, Text)
            text.set_parse_math(False)
            text.set_usetex(False)
            if further := [name for name in families if name not in text.get_fontfamily()]:
                text.set_fontfamily([*text.get_fontfamily(), *further])
        yield


def _family(path: Path) -> str:
    """Register a font file with matplotlib and return its name."""
    from matplotlib.font_manager import fontManager

    if all(entry.fname != str(path) for entry in fontManager.ttflist):
        fontManager.addfont(path)
    return opened(path).family_name


def _without_formulas(axis: Axis) -> None:
    """Formatter of powers of ten with superscript digits instead of a formula."""
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
