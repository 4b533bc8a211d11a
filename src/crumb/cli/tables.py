"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from crumb.errors import InputError
from crumb.files import read_text
from crumb.reports.table import plain
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
    head = ["method", *[title for title, _, _ in _COLUMNS], "runs"]
    rows = []
    for method, records in methods.items():
        summary = summarise(records)["summary"]
        cells = [_cell(summary[name], digits) for _, name, digits in _COLUMNS]
        rows.append([method, *cells, str(len(records))])
    return plain(head, rows).text()


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
