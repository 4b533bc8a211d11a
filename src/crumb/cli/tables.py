"""Tables for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from crumb.errors import InputError
from crumb.files import read_text
from crumb.stream.record import RunRecord
from crumb.stream.results import summarise

_COLUMNS = (
    ("final accuracy, %", "final_accuracy", 1),
    ("average accuracy, %", "average_accuracy", 1),
    ("forgetting, points", "forgetting", 1),
    ("replay bytes", "replay_bytes", 0),
    ("seconds a run", "seconds", 1),
)


def summary_table(methods: Mapping[str, Sequence[RunRecord]]) -> str:
    """One row a method: mean and sample standard deviation over its runs."""
    rows = [["method", *[title for title, _, _ in _COLUMNS], "runs"]]
    for method, records in methods.items():
        summary = summarise(records)["summary"]
        cells = [_cell(summary[name], digits) for _, name, digits in _COLUMNS]
        rows.append([method, *cells, str(len(records))])
    return align(rows)


def align(rows: Sequence[Sequence[str]], numbers: bool = True) -> str:
    """Columns side by side, a rule below the head.

    The first is flush left, the others as well or, where they hold ``numbers``, flush right.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    flush = str.rjust if numbers else str.ljust
    lines = [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [flush(cell, width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def fitted(rows: Sequence[Sequence[str]], width: int, numbers: bool = True) -> str:
    """The table of :func:`align` or, where that is too wide, a paragraph a row.

    Args:
        rows: the head first.
        width: most columns of a line; a word that is longer stays whole.
        numbers: of :func:`align`.
    """
    text = align(rows, numbers)
    if max(map(len, text.splitlines())) <= width:
        return text
    head, *others = rows
    paragraphs = [head[0], "-" * len(head[0])]
    for row in others:
        pairs = zip(head[1:], row[1:], strict=True)
        named = [f"{name}: {cell}" for name, cell in pairs if cell]
        paragraphs += [row[0], _folded(named, width)]
    return "\n".join(paragraphs)


def _folded(items: Sequence[str], width: int) -> str:
    """Items one after the other, indented; a line ends within one only if it is longer itself."""
    tied = [item if len(item) > width - 3 else item.replace(" ", "\xa0") for item in items]
    return textwrap.fill(
        "; ".join(tied),
        width,
        initial_indent="  ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    ).replace("\xa0", " ")


def _cell(figure: Mapping[str, float | None], digits: int) -> str:
    mean, deviation = figure["mean"], figure["std"]
    if mean is None:
        return "-"
    if deviation is None or digits == 0:
        return f"{mean:,.{digits}f}"
    return f"{mean:,.{digits}f} ± {deviation:.{digits}f}"


def check_free(begins: Mapping[Path, str], owner: str) -> None:
    """Refuse to write over files of the user's.

    Args:
        begins: how each file begins if it is one of ours.
        owner: whose, for the message.

    Raises:
        InputError: one begins otherwise.
    """
    for path, mark in begins.items():
        if path.exists() and not read_text(path, "move it").startswith(mark):
            problem = f"is not of {owner}, and would be overwritten"
            raise InputError(path, problem, "move it, or choose another --output")
