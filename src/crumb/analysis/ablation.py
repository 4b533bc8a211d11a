"""Table of an ablation study: mean and 95 % interval of each arm."""

from __future__ import annotations

from crumb.analysis import comparison
from crumb.stream.ablate import Ablation

MARK = "<!-- written by crumb ablate -->"
"""First line of the table in Markdown."""
# Without the rank and what was tuned.
HEAD = ("arm", *comparison.HEAD[2:-1])
LONG_HEAD = ("arm", "run")


def table(ablation: Ablation) -> list[list[str]]:
    """One row an arm that has runs, under :data:`HEAD`; the run that is whole comes first."""
    rows = [
        comparison.cells_of(comparison.row_of(name, records, {}))
        for name, records in ablation.records.items()
        if records
    ]
    return [[name, *cells[:-1]] for name, _, *cells in rows]


def notes(ablation: Ablation) -> list[str]:
    """What is to be said below the table: what is missing, and why."""
    counts = {len(records) for records in ablation.records.values() if records}
    lines = ["not all arms have equally many runs"] if len(counts) > 1 else []
    return lines + [f"{name} {why}" for name, why in ablation.notes.items()]


def markdown(ablation: Ablation) -> str:
    """The table, in Markdown."""
    line = comparison.line_of
    rows = [line(HEAD), line(["---"] * len(HEAD)), *map(line, table(ablation))]
    said = "± is half the 95 % interval of the mean over runs (Student's t)."
    below = [f"- {note}" for note in notes(ablation)]
    return "\n".join([MARK, "", said, "", *rows, "", *below]).rstrip() + "\n"


def long_table(ablation: Ablation) -> tuple[list[str], list[list[object]]]:
    """Header and rows of a table with one row for each run of each arm."""
    arms = ablation.records.items()
    return comparison.rows_of_runs(
        LONG_HEAD, [([name], record) for name, records in arms for record in records]
    )
