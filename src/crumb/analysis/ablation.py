"""Tables of an ablation study: each arm, and each beside the run that is whole."""

from __future__ import annotations

from collections.abc import Sequence

from crumb.analysis import comparison
from crumb.analysis.arms import ArmRow, compare_arms, runs_of
from crumb.analysis.statistics import smallest_p
from crumb.stream.ablate import Ablation
from crumb.stream.arms import UNABLATED

MARK = "<!-- written by crumb ablate -->"
"""First line of the table in Markdown."""
# Without the rank and what was tuned.
HEAD = ("arm", *comparison.HEAD[2:-1])
LONG_HEAD = ("arm", "run")
TEST_HEAD = (
    "arm",
    "difference, points",
    "95 % interval",
    "effect size",
    "p",
    "p (Holm)",
    "p (Wilcoxon)",
    "runs",
)
LONG_TEST_HEAD = (
    "arm",
    "runs",
    "mean",
    "low",
    "high",
    "difference",
    "difference_low",
    "difference_high",
    "standardised_difference",
    "median_difference",
    "permutation_p",
    "holm_p",
    "wilcoxon_p",
)
# Of resamples and permutations.
_SEED = 0


def table(ablation: Ablation) -> list[list[str]]:
    """One row an arm that has runs, under :data:`HEAD`; the run that is whole comes first."""
    rows = [
        comparison.cells_of(comparison.row_of(name, records, {}))
        for name, records in ablation.records.items()
        if records
    ]
    return [[name, *cells[:-1]] for name, _, *cells in rows]


def compared(ablation: Ablation) -> list[ArmRow]:
    """Final accuracy of each arm beside the run that is whole, run by run.

    Arms that have not exactly its runs are left out; :func:`notes` names them.
    """
    runs = {name: runs_of(records) for name, records in ablation.records.items() if records}
    whole = runs.pop(UNABLATED, {})
    arms = {name: own for name, own in runs.items() if own.keys() == whole.keys()}
    return compare_arms(whole, arms, _SEED) if arms else []


def tests(rows: Sequence[ArmRow]) -> list[list[str]]:
    """One row an arm, under :data:`TEST_HEAD`."""
    return [_tested(row) for row in rows]


def _tested(row: ArmRow) -> list[str]:
    interval, effect = row.difference_interval, row.effect.standardised
    p_values = (row.permutation_p, row.holm_p, row.wilcoxon_p)
    return [
        row.arm,
        f"{row.difference:+.1f}",
        "-" if interval is None else f"{interval[0]:+.1f} to {interval[1]:+.1f}",
        "-" if effect is None else f"{effect:+.1f}",
        *[f"{p:.3f}" for p in p_values],
        str(row.runs),
    ]


def test_notes(rows: Sequence[ArmRow]) -> list[str]:
    """What is to be said below the tests."""
    if not rows:
        return []
    runs = rows[0].runs
    lines = [
        f"difference in final accuracy from {UNABLATED}, run by run; interval: bootstrap (BCa)",
        "effect size: mean difference in standard deviations of the differences (Hedges)",
        f"p: paired permutation test of {runs} run{'s' * (runs > 1)}, two-sided; none can be below "
        f"{smallest_p(runs):.3g}; Holm: adjusted for {len(rows)} arms",
    ]
    if runs < 3:
        lines.append("fewer than three runs give neither interval nor effect size")
    return lines


def notes(ablation: Ablation) -> list[str]:
    """What is to be said below the table: what is missing, and why."""
    counts = {len(records) for records in ablation.records.values() if records}
    lines = ["not all arms have equally many runs"] if len(counts) > 1 else []
    whole = {record.run for record in ablation.records.get(UNABLATED, [])}
    for name, records in ablation.records.items():
        if records and {record.run for record in records} != whole:
            lines.append(f"{name} has other runs than {UNABLATED}, and is not tested beside it")
    return lines + [f"{name} {why}" for name, why in ablation.notes.items()]


def markdown(ablation: Ablation) -> str:
    """Both tables, in Markdown."""
    said = "± is half the 95 % interval of the mean over runs (Student's t)."
    parts = [MARK, said, _markdown(HEAD, table(ablation)), _listed(notes(ablation))]
    if rows := compared(ablation):
        parts += [_markdown(TEST_HEAD, tests(rows)), _listed(test_notes(rows))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(map(comparison.line_of, [head, ["---"] * len(head), *rows]))


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def long_tests(rows: Sequence[ArmRow]) -> list[list[object]]:
    """The tests in full precision, under :data:`LONG_TEST_HEAD`; None where there is no value."""
    none = (None, None)
    return [
        [
            row.arm,
            row.runs,
            row.mean,
            *(row.interval or none),
            row.difference,
            *(row.difference_interval or none),
            row.effect.standardised,
            row.effect.median,
            row.permutation_p,
            row.holm_p,
            row.wilcoxon_p,
        ]
        for row in rows
    ]


def long_table(ablation: Ablation) -> tuple[list[str], list[list[object]]]:
    """Header and rows of a table with one row for each run of each arm."""
    arms = ablation.records.items()
    return comparison.rows_of_runs(
        LONG_HEAD, [([name], record) for name, records in arms for record in records]
    )
