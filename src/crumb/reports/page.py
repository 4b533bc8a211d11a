"""The parts of a page in HTML; every text is escaped here."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import NewType

from crumb.reports.inline_svg import inline, width_of
from crumb.reports.panels import StoredPanel
from crumb.reports.report_frames import TaskFrames, data_uri

MARK = "<!doctype html>\n<!-- written by crumb report -->\n"
"""How every page begins."""
_MOST_ROWS = 400
"""Of a table of numbers under a figure; longer ones are only to be saved."""
_WIDE = 600
"""Points from which on a figure has the width of the page."""

Html = NewType("Html", str)


def text(value: object) -> Html:
    """Any text, as it is to be read; a number and its percent sign stay in one line."""
    return Html(escape(str(value)).replace(" %", "\u00a0%"))


def join(parts: Sequence[Html], between: str = "\n") -> Html:
    """Parts one after the other."""
    return Html(between.join(parts))


def element(name: str, content: Html, **attributes: str) -> Html:
    """An element; underscores in names of attributes are hyphens, and ``class_`` is class."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
    )
    return Html(f"<{name}{given}>{content}</{name}>")


def paragraph(said: object) -> Html:
    """One paragraph of text."""
    return element("p", text(said))


def items(said: Sequence[str]) -> Html:
    """A list, an item a text."""
    return element("ul", join([element("li", text(one)) for one in said]))


def details(title: str, content: Html) -> Html:
    """What is folded until it is asked for."""
    return element("details", Html(element("summary", text(title)) + content))


def definitions(facts: Sequence[tuple[str, str]]) -> Html:
    """Names and what is said of each."""
    rows = [Html(element("dt", text(n)) + element("dd", text(said))) for n, said in facts]
    return element("dl", join(rows))


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: with its unit.
        number: whether it holds numbers, which stand flush right.
    """

    name: str
    number: bool = True


def table(
    caption: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[object]],
    bold: frozenset[tuple[int, int]] = frozenset(),
) -> Html:
    """A table in a box of its own that scrolls; the first cell of a row is its heading.

    Args:
        caption: what it shows.
        columns: of the cells.
        rows: of texts, or of what is HTML already.
        bold: places (row, column) of cells in bold.
    """
    kinds = ["number" if column.number else "words" for column in columns]
    head = [
        element("th", text(c.name), scope="col", class_=k)
        for c, k in zip(columns, kinds, strict=True)
    ]
    body = []
    for place, row in enumerate(rows):
        cells = [element("th", breakable(row[0]), scope="row")]
        for column, value in enumerate(row[1:], 1):
            shown = _cell(value)
            if (place, column) in bold:
                shown = element("strong", shown)
            cells.append(element("td", shown, class_=kinds[column]))
        body.append(element("tr", join(cells, "")))
    parts = [
        element("caption", text(caption)),
        element("thead", element("tr", join(head, ""))),
        element("tbody", join(body)),
    ]
    name = " ".join(caption.split()[:12])
    return element(
        "div",
        element("table", join(parts)),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=name,
    )


def breakable(name: object) -> Html:
    """A name that may go on in the next line after a dot, a stroke or an underscore."""
    return Html(re.sub(r"([._/])(?=\w)", r"\1<wbr>", text(name)))


class Ready(str):
    """A cell that is HTML already."""

    __slots__ = ()


def _cell(value: object) -> Html:
    return Html(value) if isinstance(value, Ready) else text(value)


def figure(panel: StoredPanel, prefix: str) -> Html:
    """A figure with its caption and its numbers, which can be saved.

    Args:
        panel: the figure.
        prefix: of identifiers, which no other figure of the page has.

    Raises:
        InputError: the picture is damaged or none of ours.
    """
    picture = inline(panel.svg, prefix, panel.title, panel.caption)
    caption = element("strong", text(f"{panel.title}.")) + " " + text(panel.caption)
    saved = element(
        "a",
        text(f"save {panel.name}.csv"),
        href=data_uri(panel.table.encode(), "text/csv"),
        download=f"{panel.name}.csv",
    )
    head, *rows = [*csv.reader(panel.table.splitlines())] or [[]]
    numbers = element("p", saved)
    if head and 0 < len(rows) <= _MOST_ROWS:
        columns = [Column(name.replace("_", " "), place > 0) for place, name in enumerate(head)]
        whole = [[*map(_rounded, row), *[""] * (len(head) - len(row))][: len(head)] for row in rows]
        numbers = Html(table(f"Numbers of: {panel.title}", columns, whole) + numbers)
    rest = element("figcaption", Html(caption)) + details("Numbers", numbers)
    if width_of(panel.svg) < _WIDE:
        return element("figure", Html(picture + rest))
    # In half a page its words could not be read, and on a phone it is moved under the finger.
    pan = element("div", Html(picture), class_="pan", tabindex="0")
    return element("figure", Html(pan + rest), class_="wide")


def _rounded(value: str) -> str:
    """A number as a reader needs it; the file that can be saved has all digits."""
    return f"{float(value):.4g}" if re.fullmatch(r"-?\d+\.\d+(e-?\d+)?", value) else value


def figures(panels: Sequence[tuple[StoredPanel, str]]) -> Html:
    """Figures side by side, where there is room."""
    shown = [figure(panel, prefix) for panel, prefix in panels]
    return element("div", join(shown), class_="figures")


def frames(tasks: Sequence[TaskFrames], caption: str) -> Html:
    """Rows of frames, one a task."""
    rows = []
    for one in tasks:
        pictures = [
            f'<span><img src="{data_uri(content, "image/jpeg")}" alt="" width="96" height="96">'
            f"<span>{text(name)}</span></span>"
            for name, content in one.frames
        ]
        label = element("p", text(f"task {one.task}"))
        rows.append(Html(label + element("div", Html("".join(pictures)))))
    content = Html(join(rows) + element("figcaption", text(caption)))
    return element("figure", content, class_="frames")


def page(title: str, body: Html) -> str:
    """The whole page, which needs no other file."""
    style = (files("crumb") / "reports/report.css").read_text(encoding="utf-8")
    return (
        f'{MARK}<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{text(title)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )
