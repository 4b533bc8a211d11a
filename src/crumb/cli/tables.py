"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from crumb.errors import InputError
from crumb.files import read_text
from crumb.reports.key_figures import columns, key_figures
from crumb.reports.table import Column, Table
from crumb.stream.record import RunRecord

_FIGURES = ("final", "average", "forgetting", "replay_bytes", "time", "runs")


def summary_table(methods: Mapping[str, Sequence[RunRecord]]) -> str:
    """One row for each method: the mean of its runs, with half of the 95 % interval."""
    rows = [[name, *key_figures(runs).cells(_FIGURES)] for name, runs in methods.items()]
    return Table([Column("method"), *columns(_FIGURES)], rows).text()


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
