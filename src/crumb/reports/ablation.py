"""Tables of an ablation study: each arm, and each beside the run that is whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from crumb.experiments.ablation import Ablation
from crumb.experiments.arms import UNABLATED
from crumb.reports import comparison
from crumb.reports.arms import ArmRow, Runs, compare_arms, runs_of
from crumb.reports.statistics import Estimate, differences, estimate, holm, smallest_p

MARK = "<!-- written by crumb ablate -->"
"""First line of the table in Markdown."""
# Without the rank and what was tuned.
HEAD = ("arm", *comparison.HEAD[2:-1])
LONG_HEAD = ("arm", "run")
TEST_HEAD = (
    "arm",
    "beside",
    "difference, points",
    "effect size",
    "p (Wilcoxon)",
    "p",
    "p (Holm)",
    "runs",
)
# So begin the tests of every Crumb that has written some.
TESTS_MARK = "arm,runs,mean,low,high,difference,"
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
    "beside",
    "difference_t_low",
    "difference_t_high",
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


@dataclass(frozen=True)
class Beside:
    """An arm beside another, on the runs that both have.

    Attributes:
        arm: what is known of it, by :func:`compare_arms`.
        reference: the other, by name.
        gap: mean of the paired differences, with Student's t interval.
    """

    arm: ArmRow
    reference: str
    gap: Estimate


def compared(ablation: Ablation) -> list[Beside]:
    """Final accuracy of each arm beside the one it is compared with, on the runs that both have.

    An arm that shares no run with it is left out; :func:`notes` names it.
    """
    runs = _runs(ablation)
    rows = []
    for name, own in runs.items():
        other = reference_of(ablation, name)
        whole = runs.get(other, {})
        if name == UNABLATED or not (shared := sorted(own.keys() & whole.keys())):
            continue
        own, whole = ({run: arm[run] for run in shared} for arm in (own, whole))
        (row,) = compare_arms(whole, {name: own}, _SEED)
        gaps = differences(*([arm[run] for run in shared] for arm in (own, whole)))
        rows.append(Beside(row, other, estimate(gaps.tolist())))
    adjusted = holm({row.arm.arm: row.arm.permutation_p for row in rows})
    return [replace(row, arm=replace(row.arm, holm_p=adjusted[row.arm.arm])) for row in rows]


def _runs(ablation: Ablation) -> dict[str, Runs]:
    return {name: runs_of(records) for name, records in ablation.records.items() if records}


def reference_of(ablation: Ablation, name: str) -> str:
    """The arm that an arm is compared with: the one it differs from in one thing, if it has runs.

    Otherwise the run that is whole.
    """
    other = ablation.beside.get(name, UNABLATED)
    runs = _runs(ablation)
    return other if runs.get(other, {}).keys() & runs.get(name, {}).keys() else UNABLATED


def tests(rows: Sequence[Beside]) -> list[list[str]]:
    """One row an arm, under :data:`TEST_HEAD`."""
    return [_tested(row) for row in rows]


def _tested(row: Beside) -> list[str]:
    arm, effect = row.arm, row.arm.effect.standardised
    half = "" if row.gap.half is None else f" ± {row.gap.half:.1f}"
    return [
        arm.arm,
        row.reference,
        f"{row.gap.mean:+.1f}{half}",
        "-" if effect is None else f"{effect:+.1f}",
        *[f"{p:.3f}" for p in (arm.wilcoxon_p, arm.permutation_p, arm.holm_p)],
        str(arm.runs),
    ]


def test_notes(rows: Sequence[Beside]) -> list[str]:
    """What is to be said below the tests."""
    if not rows:
        return []
    most, fewest = (choose(row.arm.runs for row in rows) for choose in (max, min))
    least, count = smallest_p(most), len(rows)
    arms = f"{count} arm{'s' * (count > 1)}"
    lines = [
        "difference in final accuracy from the arm beside it, run by run; ± is half the 95 % "
        "interval (Student's t); ablation_tests.csv has the bootstrap interval (BCa) as well, "
        "which is too narrow for few runs",
        "effect size: mean difference in standard deviations of the differences (Hedges)",
        "p (Wilcoxon): signed-rank test, two-sided, not adjusted",
        f"p: paired permutation test, two-sided; none of {most} run{'s' * (most > 1)} can be below "
        f"{least:.3g}; p (Holm): the same adjusted for {arms}, and none below "
        f"{min(1.0, count * least):.3g}",
    ]
    if fewest < 3:
        lines.append("fewer than three runs give no effect size, a single one no interval")
    return lines


def notes(ablation: Ablation) -> list[str]:
    """What is to be said below the tables: what is missing, and why."""
    runs = _runs(ablation)
    lines = ["not all arms have equally many runs"] if len({*map(len, runs.values())}) > 1 else []
    for name, own in runs.items():
        if name == UNABLATED:
            continue
        other, meant = reference_of(ablation, name), ablation.beside.get(name, UNABLATED)
        if other != meant:
            lines.append(
                f"{name} is beside {other}, and differs from it in more than one thing: "
                f"{meant} has no run in common with it"
            )
        whole = runs.get(other, {})
        if not own.keys() & whole.keys():
            lines.append(f"{name} has no run in common with {other}, and is not tested beside it")
        elif own.keys() != whole.keys():
            lines.append(f"{name} is tested on the runs in common with {other}{_lacks(own, whole)}")
    return lines + [f"{name} {why}" for name, why in ablation.notes.items()]


def _lacks(own: Runs, whole: Runs) -> str:
    missing = sorted(whole.keys() - own.keys())
    return f", as it lacks {', '.join(map(str, missing))}" if missing else ""


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


def long_tests(rows: Sequence[Beside]) -> list[list[object]]:
    """The tests in full precision, under :data:`LONG_TEST_HEAD`; None where there is no value."""
    return [[*_measured(row.arm), row.reference, *_ends(row.gap)] for row in rows]


def _measured(row: ArmRow) -> list[object]:
    none = (None, None)
    return [
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


def _ends(gap: Estimate) -> tuple[float | None, float | None]:
    return (None, None) if gap.half is None else (gap.mean - gap.half, gap.mean + gap.half)


def long_table(ablation: Ablation) -> tuple[list[str], list[list[object]]]:
    """Header and rows of a table with one row for each run of each arm."""
    arms = ablation.records.items()
    return comparison.rows_of_runs(
        LONG_HEAD, [([name], record) for name, records in arms for record in records]
    )
