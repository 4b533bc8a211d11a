"""Tables of a comparison: mean, 95 % interval and rank of each method in the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crumb.reports.families import OWN_METHOD, Family, Result, family_of, in_bytes
from crumb.reports.key_figures import WORK, columns, runs_table
from crumb.reports.table import Column, Table

if TYPE_CHECKING:
    from crumb.experiments.compare import Comparison

MARK = "<!-- written by crumb compare -->"
"""First line of the tables in Markdown."""
FIGURES = (
    *("final", "average", "forgetting", "replay_bytes", "total_bytes", "seconds"),
    *(*WORK, "runs"),
)
"""What the tables of a comparison and of an ablation study say of each row."""
LONG_HEAD = ("method", "budget_bytes", "run")


def results_of(comparison: Comparison) -> list[Result]:
    """The cells that have runs, as results under the names of their methods."""
    return [
        Result(cell.method, cell.method, records, cell.budget)
        for cell, records in comparison.records.items()
        if records
    ]


def families(comparison: Comparison) -> dict[int | None, Family | None]:
    """The methods of each budget, those without exemplars in every one; None without a run."""
    results = results_of(comparison)
    found: dict[int | None, Family | None] = {}
    for budget in comparison.budgets:
        own = [one for one in results if one.budget in (budget, None)]
        found[budget] = family_of(in_bytes(budget), own, budget) if own else None
    return found


def ranks(family: Family | None) -> dict[str, int | None]:
    """Rank of each method by mean final accuracy, best first; None for upper bounds, on top.

    1 is best; equals share the lower number.
    """
    results = family.results if family else []
    means = [one.figures.final.mean for one in results if not one.is_bound]
    found = {
        one.name: None if one.is_bound else 1 + sum(mean > one.figures.final.mean for mean in means)
        for one in results
    }
    return dict(sorted(found.items(), key=lambda item: (item[1] or 0, item[0])))


def table(comparison: Comparison, family: Family | None) -> Table:
    """The methods of one budget, best first; upper bounds on top."""
    results = {one.name: one for one in (family.results if family else [])}
    rows = []
    for name, rank in ranks(family).items():
        tuned = comparison.tuned.get(name, {})
        said = ", ".join(f"{setting} {value:g}" for setting, value in tuned.items()) or "no"
        rows.append([name, rank, *results[name].figures.cells(FIGURES), said])
    return Table([Column("method"), Column("rank"), *columns(FIGURES), Column("tuned")], rows)


def notes(comparison: Comparison, family: Family | None, budget: int | None) -> list[str]:
    """What is to be said below a table: who beats CRUMB, and what is missing and why."""
    known = ranks(family)
    lines = []
    if own := known.get(OWN_METHOD):
        better = ", ".join(name for name, rank in known.items() if rank and rank < own)
        lines.append(f"better than crumb by mean final accuracy: {better or 'none'}")
    if len({len(one.records) for one in (family.results if family else [])}) > 1:
        lines.append("not all methods have equally many runs")
    missing = {c: why for c, why in comparison.notes.items() if c.budget in (budget, None)}
    return lines + [f"{cell.method} {why}" for cell, why in missing.items()]


def sections(comparison: Comparison) -> list[tuple[str, Table, list[str]]]:
    """For each budget a title, its table, and the notes below."""
    return [
        (in_bytes(budget), table(comparison, family), notes(comparison, family, budget))
        for budget, family in families(comparison).items()
    ]


def text(comparison: Comparison) -> str:
    """All tables, for a terminal."""
    return "\n".join(
        "\n".join([title, rows.text(), *said, ""]) for title, rows, said in sections(comparison)
    )


def markdown(comparison: Comparison) -> str:
    """All tables, in Markdown."""
    parts = [MARK]
    for title, rows, said in sections(comparison):
        lines = [f"## {title}", "", rows.markdown(), "", *[f"- {line}" for line in said]]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def long_table(comparison: Comparison) -> Table:
    """One row for each run of each cell."""
    cells = comparison.records.items()
    return runs_table(
        LONG_HEAD, [([c.method, c.budget], record) for c, records in cells for record in records]
    )
