"""Figures with their numbers, saved as PNG, SVG, CSV and a caption."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crumb.errors import InputError
from crumb.files import csv_text, read_json, read_text, write_bytes, write_csv, write_json
from crumb.reports.lettering import as_written

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT, VERSION = "crumb-figure", 1
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's palette, distinguishable with any colour vision; line styles differ too."""
_REMEDY = "make it again"


@dataclass(frozen=True)
class Panel:
    """A figure with its caption and numbers.

    Attributes:
        name: base name of its files.
        title: short title.
        caption: contents, units, meaning of intervals and number of runs.
        figure: figure without background (see :func:`blank`), with a label and unit on every axis.
        header: column names of the numbers.
        rows: the numbers, one list per row.
    """

    name: str
    title: str
    caption: str
    figure: Figure
    header: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True)
class StoredPanel:
    """A panel read from files.

    Attributes:
        name: base name of its files.
        title: short title.
        caption: contents of the figure.
        svg: the figure as SVG text.
        table: the numbers with header, as CSV.
    """

    name: str
    title: str
    caption: str
    svg: str
    table: str


def blank(width: float, height: float) -> Figure:
    """An empty figure without background, with size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor="none")


def write_panel(panel: Panel, folder: Path) -> list[Path]:
    """Write NAME.csv, NAME.png, NAME.svg, and last NAME.json with title and caption.

    Returns:
        their paths.

    Raises:
        InputError: a file cannot be written.
    """
    paths = [folder / f"{panel.name}.{kind}" for kind in ("csv", "png", "svg", "json")]
    write_csv(paths[0], panel.rows, panel.header)
    write_bytes(paths[1], as_png(panel.figure))
    write_bytes(paths[2], as_svg(panel).encode())
    about = {"title": panel.title, "caption": panel.caption}
    write_json(paths[3], {"format": FORMAT, "version": VERSION, **about})
    return paths


def as_svg(panel: Panel) -> str:
    """The figure as SVG, deterministic for the same numbers."""
    # Without a date and with deterministic identifiers.
    rules = {"svg.hashsalt": panel.name, "svg.fonttype": "none"}
    return _drawn(panel.figure, rules, format="svg", metadata={"Date": None}).decode()


def as_png(figure: Figure) -> bytes:
    """The figure as PNG on a white background."""
    return _drawn(figure, {}, format="png", facecolor="white")


def stored(panel: Panel) -> StoredPanel:
    """The panel as :func:`read_panels` would return it."""
    table = csv_text(panel.rows, panel.header)
    return StoredPanel(panel.name, panel.title, panel.caption, as_svg(panel), table)


def read_panels(folder: Path) -> list[StoredPanel]:
    """All panels of a folder, by name; [] if the folder is missing.

    Raises:
        InputError: a panel is damaged or incomplete.
    """
    panels = []
    for path in sorted(folder.glob("*.json")):
        about = read_json(path, _REMEDY)
        if about.get("format") != FORMAT:
            continue
        texts = [about.get(name) for name in ("title", "caption")]
        if about.get("version") != VERSION or not all(isinstance(text, str) for text in texts):
            raise InputError(path, f"is not a figure of format version {VERSION}", _REMEDY)
        svg, table = (read_text(path.with_suffix(kind), _REMEDY) for kind in (".svg", ".csv"))
        panels.append(StoredPanel(path.stem, str(texts[0]), str(texts[1]), svg, table))
    return panels


def _drawn(figure: Figure, rules: dict[Any, Any], **how: Any) -> bytes:
    from matplotlib import rc_context

    content = io.BytesIO()
    with as_written(figure), rc_context(rules):
        # Lay out once: a second layout shifts elements slightly.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        figure.savefig(content, **how)
    return content.getvalue()
