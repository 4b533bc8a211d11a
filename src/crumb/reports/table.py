"""Tables: rows of typed cells, as text, Markdown, CSV, LaTeX and HTML."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from crumb.files import csv_text
from crumb.reports.intervals import PLUS_MINUS, Estimate
from crumb.reports.markup import Markup, render

Cell: TypeAlias = str | int | float | Estimate | None
_LATEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: name with its unit.
        form: number format, as for :func:`format`; CSV has all digits.
        kind: kind of its cells; numbers are right-aligned.
        spread: whether it holds estimates; CSV adds a column with half the 95 % interval.
    """

    name: str
    form: str = ""
    kind: Literal["number", "words", "code"] = "number"
    spread: bool = False

    def shown(self, cell: Cell) -> str:
        """The text of a cell."""
        if cell is None:
            return "-"
        return cell if isinstance(cell, str) else format(cell, self.form)


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        columns: columns; the first names the rows.
        rows: one cell per column; None for missing values.
        caption: caption, in HTML only.
        best: positions (row, column) of bold cells, in HTML and LaTeX only.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    best: frozenset[tuple[int, int]] = frozenset()

    @property
    def head(self) -> list[str]:
        """Names of the columns."""
        return [column.name for column in self.columns]

    @property
    def meaning(self) -> str:
        """What ± means, where a cell has one; empty otherwise."""
        cells = (cell for row in self.rows for cell in row)
        has_half = any(isinstance(cell, Estimate) and cell.half is not None for cell in cells)
        return PLUS_MINUS if has_half else ""

    def shown(self) -> list[list[str]]:
        """The text of all cells."""
        return [
            [column.shown(cell) for column, cell in zip(self.columns, row, strict=True)]
            for row in self.rows
        ]

    def filled(self) -> Table:
        """The table without columns in which every cell is missing."""
        kept = [
            place
            for place in range(len(self.columns))
            if not place or any(row[place] not in (None, "-") for row in self.rows)
        ]
        return replace(
            self,
            columns=[self.columns[place] for place in kept],
            rows=[[row[place] for place in kept] for row in self.rows],
            best=frozenset((row, kept.index(place)) for row, place in self.best if place in kept),
        )

    def text(self, most: int = sys.maxsize) -> str:
        """Plain text with aligned columns, or one paragraph per row if the table is too wide.

        The last line says what ± means, where a cell has one.

        Args:
            most: maximum line length in characters; longer words are not broken.
        """
        placed: list[list[str]] = []
        for column, cells in zip(
            self.columns, zip(self.head, *self.shown(), strict=True), strict=True
        ):
            flush = str.rjust if placed and column.kind == "number" else str.ljust
            width = max(map(len, cells))
            placed.append([flush(cell, width) for cell in cells])
        head, *body = ["  ".join(line).rstrip() for line in zip(*placed, strict=True)]
        lines = [head, "-" * len(head), *body]
        if max(map(len, lines)) > most:
            lines = self._paragraphs(most)
        if self.meaning:
            lines += textwrap.wrap(self.meaning, most)
        return "\n".join(lines)

    def _paragraphs(self, width: int) -> list[str]:
        first, *others = self.head
        paragraphs = [first, "-" * len(first)]
        for name, *cells in self.shown():
            pairs = zip(others, cells, strict=True)
            named = [f"{head}: {cell}" for head, cell in pairs if cell]
            paragraphs += [name, _folded(named, width)]
        return paragraphs

    def markdown(self) -> str:
        """A table in Markdown, without a line end; below it what ± means, where a cell has one."""
        rows = [self.head, ["---"] * len(self.columns), *self.shown()]
        table = "\n".join(f"| {' | '.join(map(_in_markdown, row))} |" for row in rows)
        return f"{table}\n\n{self.meaning}" if self.meaning else table

    def csv(self) -> str:
        """CSV in full precision. Half of a 95 % interval is in ``<column>_half``."""
        head = [name for c in self.columns for name in (c.name, f"{c.name}_half")[: 1 + c.spread]]
        return csv_text([[*self._values(row)] for row in self.rows], head)

    def _values(self, row: Sequence[Cell]) -> Iterable[str | float | None]:
        for column, cell in zip(self.columns, row, strict=True):
            if isinstance(cell, Estimate):
                yield cell.mean
                yield cell.half
            else:
                yield cell
                if column.spread:
                    yield cell

    def latex(self) -> str:
        r"""A ``tabular`` for the package booktabs; a comment says what ± means."""
        kinds = ["r" if column.kind == "number" else "l" for column in self.columns]
        rows = [[*map(_in_latex, row)] for row in self.shown()]
        for place, number in self.best:
            rows[place][number] = rf"\textbf{{{rows[place][number]}}}"
        head, *body = [" & ".join(row) + r" \\" for row in [map(_in_latex, self.head), *rows]]
        comment = [f"% {self.meaning}"] if self.meaning else []
        begin = rf"\begin{{tabular}}{{l{''.join(kinds[1:])}}}"
        lines = [*comment, begin, r"\toprule", head, r"\midrule", *body]
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])

    def html(self) -> Markup:
        """HTML table in a scrolling box; the first cell of a row is its heading."""
        return render("table.html", table=self, label=" ".join(self.caption.split()[:12]))


def plain(head: Sequence[str], rows: Iterable[Sequence[Cell]], numbers: bool = True) -> Table:
    """A table of unformatted cells.

    Args:
        head: names of the columns.
        rows: rows of cells.
        numbers: whether all columns but the first are right-aligned.
    """
    kind = "number" if numbers else "words"
    return Table([Column(name, kind=kind) for name in head], [*rows])


def _folded(items: Sequence[str], width: int) -> str:
    """Wrap items with indentation; a line breaks inside an item only if it is too long."""
    tied = [item if len(item) > width - 3 else item.replace(" ", "\xa0") for item in items]
    return textwrap.fill(
        "; ".join(tied),
        width,
        initial_indent="  ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    ).replace("\xa0", " ")


def _in_markdown(cell: str) -> str:
    return " ".join(cell.replace("|", "\\|").splitlines())


def _in_latex(cell: str) -> str:
    escaped = "".join(_LATEX.get(letter, letter) for letter in cell)
    return re.sub(r"(?<!\w)-(?=\d)", "$-$", escaped)
