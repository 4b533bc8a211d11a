"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from crumb.errors import InputError
from crumb.files import read_text
from crumb.reports.intervals import PLUS_MINUS
from crumb.reports.key_figures import columns, key_figures
from crumb.reports.table import Column, Table
from crumb.stream.record import RunRecord

_FIGURES = ("final", "average", "forgetting", "replay_bytes", "seconds", "runs")


def summary_table(methods: Mapping[str, Sequence[RunRecord]]) -> str:
    """One row per method: mean ± sample standard deviation over its runs, and a line that says so.

    Args:
        methods: finished runs by method, at least one run each.
    """
    rows = [[name, *key_figures(records).cells(_FIGURES)] for name, records in methods.items()]
    text = Table([Column("method"), *columns(_FIGURES)], rows).text()
    return f"{text}\n{PLUS_MINUS}" if "±" in text else text


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
