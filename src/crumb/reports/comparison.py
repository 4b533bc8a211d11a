"""Tables of a comparison: mean, standard deviation and rank of each method per memory budget."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from crumb.reports.families import OWN_METHOD, Family, Result, exceeds, family_of, in_bytes
from crumb.reports.key_figures import WORK, KeyFigures, columns, runs_table
from crumb.reports.table import Column, Table
from crumb.reports.wording import shown

if TYPE_CHECKING:
    from crumb.experiments.compare import Comparison

MARK = "<!-- written by crumb compare -->"
"""First line of the tables in Markdown."""
FIGURES = (
    *("final", "average", "forgetting", "replay_bytes", "total_bytes", "seconds"),
    *(*WORK, "runs"),
)
"""Columns of the tables of comparisons and ablation studies."""
OVER = "over budget"
"""Stands for the rank of a method that kept more bytes than the budget."""
LONG_HEAD = ("method", "budget_bytes", "run")


def results_of(comparison: Comparison) -> list[Result]:
    """The cells with finished runs, as results named after their methods."""
    return [
        Result(cell.method, cell.method, records, cell.budget)
        for cell, records in comparison.records.items()
        if records
    ]


def families(comparison: Comparison) -> dict[int | None, Family | None]:
    """The methods of each budget (methods without exemplars in all of them); None without a run."""
    results = results_of(comparison)
    found: dict[int | None, Family | None] = {}
    for budget in comparison.budgets:
        own = [one for one in results if one.budget in (budget, None)]
        found[budget] = family_of(in_bytes(budget), own, budget) if own else None
    return found


def ranks(family: Family | None) -> dict[str, int | str | None]:
    """Rank of each method by mean final accuracy (see :func:`ranked`)."""
    if family is None:
        return {}
    return ranked({one.name: (one.is_bound, one.figures) for one in family.results}, family.budget)


def ranked(
    methods: Mapping[str, tuple[bool, KeyFigures]], budget: int | None
) -> dict[str, int | str | None]:
    """Rank of each method by mean final accuracy: upper bounds first, then best first.

    1 is best; equals share the lower number. Upper bounds have none (None). A method that kept more
    bytes than the budget, everything counted, is not ranked (:data:`OVER`) and comes last.

    Args:
        methods: by name, whether it is an upper bound, and its key figures.
        budget: memory budget in bytes, if any.
    """
    over = {name for name, (_, known) in methods.items() if exceeds(known.total_bytes, budget)}
    means = [
        known.final.mean
        for name, (is_bound, known) in methods.items()
        if not is_bound and name not in over
    ]
    found: dict[str, int | str | None] = {}
    for name, (is_bound, known) in methods.items():
        if is_bound:
            found[name] = None
        elif name in over:
            found[name] = OVER
        else:
            found[name] = 1 + sum(mean > known.final.mean for mean in means)
    return dict(sorted(found.items(), key=lambda item: (_order(item[1]), item[0])))


def _order(rank: int | str | None) -> float:
    if rank is None:
        return 0
    return math.inf if isinstance(rank, str) else rank


def table(comparison: Comparison, family: Family | None) -> Table:
    """The methods of one budget, upper bounds first, then best first."""
    results = {one.name: one for one in (family.results if family else [])}
    given = {(cell.method, cell.budget): values for cell, values in comparison.given.items()}
    rows = []
    for name, rank in ranks(family).items():
        own = given.get((name, results[name].budget), {})
        said = ", ".join(f"{setting} {_shown(value)}" for setting, value in own.items())
        said = said or "defaults"
        rows.append([name, rank, *results[name].figures.cells(FIGURES), said])
    return Table([Column("method"), Column("rank"), *columns(FIGURES), Column("settings")], rows)


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else shown(value)


def notes(comparison: Comparison, family: Family | None, budget: int | None) -> list[str]:
    """Notes below a table: which methods beat CRUMB, and what is missing and why."""
    known = ranks(family)
    lines = []
    if isinstance(own := known.get(OWN_METHOD), int):
        better = ", ".join(
            name for name, rank in known.items() if isinstance(rank, int) and rank < own
        )
        lines.append(f"better than crumb by mean final accuracy: {better or 'none'}")
    if len({len(one.records) for one in (family.results if family else [])}) > 1:
        lines.append("not all methods have the same number of runs")
    missing = {c: why for c, why in comparison.notes.items() if c.budget in (budget, None)}
    return lines + [f"{cell.method} {why}" for cell, why in missing.items()]


def sections(comparison: Comparison) -> list[tuple[str, Table, list[str]]]:
    """Title, table and notes for each budget."""
    return [
        (in_bytes(budget), table(comparison, family), notes(comparison, family, budget))
        for budget, family in families(comparison).items()
    ]


def text(comparison: Comparison) -> str:
    """All tables, for a terminal."""
    tables = [
        "\n".join([title, rows.text(), *said, ""]) for title, rows, said in sections(comparison)
    ]
    return "\n".join(tables)


def markdown(comparison: Comparison) -> str:
    """All tables, in Markdown."""
    parts = [MARK]
    for title, rows, said in sections(comparison):
        lines = [f"## {title}", "", rows.markdown(), "", *[f"- {line}" for line in said]]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def long_table(comparison: Comparison) -> Table:
    """One row per run and cell."""
    cells = comparison.records.items()
    return runs_table(
        LONG_HEAD, [([c.method, c.budget], record) for c, records in cells for record in records]
    )
