"""Tables of a comparison: mean, 95 % interval and rank of each method in the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from crumb.experiments.compare import Cell, Comparison
from crumb.methods.registry import find_method
from crumb.reports.statistics import Estimate, estimate
from crumb.stream.record import FIGURES, RunRecord

MARK = "<!-- written by crumb compare -->"
"""First line of the tables in Markdown."""
# Of the process, which has run other cells before.
_NOT_OF_A_CELL = "peak_memory_bytes"


@dataclass(frozen=True)
class Row:
    """One method in a table.

    Attributes:
        method: by name.
        rank: by mean final accuracy, 1 is best, equals share the lower number; None for an upper
            bound, which is no method for a stream.
        final: accuracy after the last task on all classes, percent.
        average: of the accuracies after each task, percent.
        forgetting: percent points; None for a single task.
        replay_bytes: of exemplars, the most of any run.
        total_bytes: of all that is kept besides one copy of the network, the most of any run.
        seconds: of learning and storing, a run.
        work: means over runs of gradient steps, feature maps through the tail and passes over an
            image (:class:`~crumb.stream.record.RunRecord`); None where no run counted them.
        runs: how many.
        tuned: settings found by `crumb tune`; empty for the defaults.
    """

    method: str
    rank: int | None
    final: Estimate
    average: Estimate
    forgetting: Estimate | None
    replay_bytes: int
    total_bytes: int
    seconds: float
    work: tuple[float | None, float | None, float | None]
    runs: int
    tuned: Mapping[str, Any]


def table(comparison: Comparison, budget: int | None) -> list[Row]:
    """The methods of one budget, best first; upper bounds on top."""
    rows = [
        row_of(name, records, comparison.tuned.get(name, {}))
        for name, records in comparison.of_budget(budget).items()
    ]
    means = [row.final.mean for row in rows if not _is_bound(row.method)]
    ranked = [
        row
        if _is_bound(row.method)
        else replace(row, rank=1 + sum(mean > row.final.mean for mean in means))
        for row in rows
    ]
    return sorted(ranked, key=lambda row: (row.rank or 0, row.method))


def better_than(rows: Sequence[Row], method: str = "crumb") -> list[str]:
    """Methods with a better mean final accuracy than one of them, best first."""
    own = [row.rank for row in rows if row.method == method]
    return [row.method for row in rows if own and row.rank and row.rank < (own[0] or 0)]


def _is_bound(method: str) -> bool:
    return find_method(method).offline


def row_of(method: str, records: Sequence[RunRecord], tuned: Mapping[str, Any]) -> Row:
    """What a table says of finished runs, without a rank."""
    figures = [record.figures() for record in records]
    known = {
        name: estimate([value for one in figures if (value := one[name]) is not None])
        for name in ("final_accuracy", "average_accuracy", "seconds")
    }
    forgotten = [value for one in figures if (value := one["forgetting"]) is not None]
    return Row(
        method,
        None,
        known["final_accuracy"],
        known["average_accuracy"],
        estimate(forgotten) if forgotten else None,
        max(record.replay_bytes for record in records),
        max(record.replay_bytes + record.extra_bytes for record in records),
        known["seconds"].mean,
        (
            _mean([one["gradient_steps"] for one in figures]),
            _mean([one["tail_maps"] for one in figures]),
            _mean([one["image_passes"] for one in figures]),
        ),
        len(records),
        tuned,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """Of those that are known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


WORK_HEAD = ("gradient steps", "maps through the tail", "passes over an image")
HEAD = (
    "method",
    "rank",
    "final accuracy, %",
    "average accuracy, %",
    "forgetting, points",
    "replay bytes",
    "all extra bytes",
    "seconds a run",
    *WORK_HEAD,
    "runs",
    "tuned",
)


def cells_of(row: Row) -> list[str]:
    """What a table shows of a row, under :data:`HEAD`."""
    return [
        row.method,
        "-" if row.rank is None else str(row.rank),
        str(row.final),
        str(row.average),
        "-" if row.forgetting is None else str(row.forgetting),
        f"{row.replay_bytes:,}",
        f"{row.total_bytes:,}",
        f"{row.seconds:.0f}",
        *work_cells(row),
        str(row.runs),
        ", ".join(f"{name} {value:g}" for name, value in row.tuned.items()) or "no",
    ]


def work_cells(row: Row) -> list[str]:
    """What a table shows of a row's work, under :data:`WORK_HEAD`."""
    formats = (",.0f", ",.0f", ".2f")
    return [
        "-" if value is None else format(value, form)
        for value, form in zip(row.work, formats, strict=True)
    ]


def notes(comparison: Comparison, budget: int | None) -> list[str]:
    """What is to be said below a table: who beats CRUMB, and what is missing and why."""
    rows = table(comparison, budget)
    lines = []
    if any(row.method == "crumb" for row in rows):
        better = ", ".join(better_than(rows)) or "none"
        lines.append(f"better than crumb by mean final accuracy: {better}")
    counts = {row.runs for row in rows}
    if len(counts) > 1:
        lines.append("not all methods have equally many runs")
    missing = comparison.notes.items()
    return lines + [f"{cell.method} {why}" for cell, why in missing if _concerns(cell, budget)]


def title(budget: int | None) -> str:
    """What stands above a table."""
    return "no exemplars kept" if budget is None else f"{budget:,} bytes"


def _concerns(cell: Cell, budget: int | None) -> bool:
    return cell.budget in (budget, None)


def markdown(comparison: Comparison) -> str:
    """All tables, in Markdown."""
    parts = [MARK, "± is half the 95 % interval of the mean over runs (Student's t)."]
    for budget in comparison.budgets:
        rows = [cells_of(row) for row in table(comparison, budget)]
        lines = [f"## {title(budget)}", "", line_of(HEAD), line_of(["---"] * len(HEAD))]
        lines += [line_of(row) for row in rows]
        below = [f"- {note}" for note in notes(comparison, budget)]
        parts.append("\n".join([*lines, "", *below]))
    return "\n\n".join(parts) + "\n"


def line_of(cells: Sequence[str]) -> str:
    """A line of a table in Markdown."""
    return f"| {' | '.join(cells)} |"


LONG_HEAD = ("method", "budget_bytes", "run")


def long_table(comparison: Comparison) -> tuple[list[str], list[list[object]]]:
    """Header and rows of a table with one row for each run of each cell."""
    cells = comparison.records.items()
    return rows_of_runs(
        LONG_HEAD, [([c.method, c.budget], record) for c, records in cells for record in records]
    )


def rows_of_runs(
    head: Sequence[str], runs: Sequence[tuple[Sequence[object], RunRecord]]
) -> tuple[list[str], list[list[object]]]:
    """Header and rows of a table with one row for each run.

    Args:
        head: of the columns that name a run, its number last.
        runs: what names each but the number, and its record.
    """
    figures = [name for name in FIGURES if name != _NOT_OF_A_CELL]
    rows: list[list[object]] = [
        [*names, record.run, *map(record.figures().get, figures), *record.curve()]
        for names, record in runs
    ]
    tasks = max((len(row) for row in rows), default=0) - len(head) - len(figures)
    curve = [f"accuracy_after_task_{number + 1}" for number in range(tasks)]
    return [*head, *figures, *curve], rows
