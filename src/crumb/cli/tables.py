"""Tables for the terminal, and files that must not be overwritten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from crumb.errors import InputError
from crumb.files import read_text
from crumb.reports.key_figures import columns, key_figures
from crumb.reports.panels import Panel
from crumb.reports.table import Column, Table
from crumb.stream.record import RunRecord

_FIGURES = ("final", "average", "forgetting", "replay_bytes", "seconds", "runs")
_OF_A_FIGURE = '{\n  "format": "crumb-figure"'
"""First bytes of the file that is written last for each figure."""


def summary_table(methods: Mapping[str, Sequence[RunRecord]]) -> str:
    """One row for each method: the mean of its runs, with half of the 95 % interval."""
    rows = [[name, *key_figures(runs).cells(_FIGURES)] for name, runs in methods.items()]
    return Table([Column("method"), *columns(_FIGURES)], rows).text()


def check_free(begins: Mapping[Path, str], owner: str) -> None:
    """Refuse to overwrite files that Crumb did not write.

    Args:
        begins: first characters of each file if Crumb wrote it, by path.
        owner: what the files belong to, for the message.

    Raises:
        InputError: a file has other contents.
    """
    for path, mark in begins.items():
        if path.exists() and not read_text(path, "move it").startswith(mark):
            problem = f"does not belong to {owner} and would be overwritten"
            raise InputError(path, problem, "move it or choose another --output")


def check_figures(panels: Sequence[Panel], folder: Path, flag: str) -> None:
    """Refuse to overwrite files that are not figures written by Crumb.

    Args:
        panels: figures that will be written.
        folder: their folder.
        flag: the flag that names it, for the message.

    Raises:
        InputError: a file has other contents.
    """
    for panel in panels:
        about = folder / f"{panel.name}.json"
        check_free({about: _OF_A_FIGURE}, "a figure")
        for kind in (".png", ".svg", ".csv"):
            path = about.with_suffix(kind)
            if path.exists() and not about.exists():
                problem = "is not a figure and would be overwritten"
                raise InputError(path, problem, f"move it or choose another {flag}")
