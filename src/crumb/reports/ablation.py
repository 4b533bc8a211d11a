"""Tables of an ablation study: results per arm, and tests against the reference arm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from crumb.experiments.arms import UNABLATED
from crumb.reports.comparison import FIGURES
from crumb.reports.families import Difference, Result, compare
from crumb.reports.intervals import bootstrap_interval
from crumb.reports.key_figures import columns, runs_table
from crumb.reports.statistics import smallest_p
from crumb.reports.table import Cell, Column, Table
from crumb.stream.metrics import mean_and_deviation

if TYPE_CHECKING:
    from crumb.experiments.ablation import Ablation

MARK = "<!-- written by crumb ablate -->"
"""First line of the table in Markdown."""
LONG_HEAD = ("arm", "run")
MARKS = {
    "ablation.md": MARK,
    "ablation.csv": ",".join(LONG_HEAD),
    "ablation_tests.csv": "arm,runs,mean,low,high,difference,",
}
"""First characters of each file written by any version of Crumb."""
_TESTS = (
    Column("arm"),
    Column("beside"),
    Column("difference, points", "+.1f"),
    Column("effect size", "+.1f"),
    Column("p (Wilcoxon)", ".3f"),
    Column("p", ".3f"),
    Column("p (Holm)", ".3f"),
    Column("runs"),
)
_LONG_TESTS = (
    *("arm", "runs", "mean", "low", "high", "difference", "difference_low", "difference_high"),
    *("standardised_difference", "median_difference", "permutation_p", "holm_p", "wilcoxon_p"),
    *("beside", "difference_t_low", "difference_t_high"),
)


def results_of(ablation: Ablation) -> dict[str, Result]:
    """The arms with finished runs, by name, the unablated run first."""
    known = ablation.records.items()
    return {name: Result(name, ablation.method, records) for name, records in known if records}


def table(ablation: Ablation) -> Table:
    """One row per arm with finished runs."""
    results = results_of(ablation).values()
    rows = [[one.name, *one.figures.cells(FIGURES)] for one in results]
    return Table([Column("arm"), *columns(FIGURES)], rows)


def compared(ablation: Ablation) -> list[Difference]:
    """Compare the final accuracy of each arm with its reference arm, on shared runs.

    The reference is the arm from which it differs in one thing if they share a run, else the
    unablated run. Arms that share no run with it are left out; :func:`notes` names them.
    """
    results = results_of(ablation)
    references = {name: results.get(_reference(ablation, results, name)) for name in results}
    return compare(
        (one, other)
        for name, one in results.items()
        if name != UNABLATED and (other := references[name]) is not None
    )


def _reference(ablation: Ablation, results: dict[str, Result], name: str) -> str:
    """Name of the reference arm."""
    meant = ablation.beside.get(name, UNABLATED)
    one = results.get(meant)
    return meant if one and one.finals.keys() & results[name].finals.keys() else UNABLATED


def tests(differences: Sequence[Difference]) -> Table:
    """One row per comparison."""
    rows: list[list[Cell]] = [
        [
            *(one.result.name, one.reference.name, one.gap, one.effect.standardised),
            *(one.wilcoxon_p, one.permutation_p, one.holm_p, len(one.runs)),
        ]
        for one in differences
    ]
    return Table(_TESTS, rows)


def test_notes(differences: Sequence[Difference]) -> list[str]:
    """Notes below the table of tests."""
    if not differences:
        return []
    most, fewest = (choose(len(one.runs) for one in differences) for choose in (max, min))
    least, count = smallest_p(most), len(differences)
    arms = f"{count} arm{'s' * (count > 1)}"
    lines = [
        "difference: final accuracy minus that of the reference arm, paired by run, mean ± sample "
        "standard deviation; ablation_tests.csv has the 95 % intervals of the mean (Student's t, "
        "and bootstrap (BCa), which is too narrow for few runs)",
        "effect size: mean difference in standard deviations of the differences (Hedges' "
        "correction)",
        "p (Wilcoxon): signed-rank test, two-sided, not adjusted",
        f"p: paired permutation test, two-sided; none of {most} run{'s' * (most > 1)} can be below "
        f"{least:.3g}; p (Holm): the same adjusted for {arms}, and none below "
        f"{min(1.0, count * least):.3g}",
    ]
    if fewest < 3:
        lines.append("an effect size needs at least three runs, a standard deviation two")
    return lines


def notes(ablation: Ablation) -> list[str]:
    """Notes below the tables: missing arms and the reasons."""
    results = results_of(ablation)
    counts = {len(one.records) for one in results.values()}
    lines = ["not all arms have the same number of runs"] if len(counts) > 1 else []
    for name, one in results.items():
        if name == UNABLATED:
            continue
        other, meant = _reference(ablation, results, name), ablation.beside.get(name, UNABLATED)
        if other != meant:
            lines.append(
                f"{name} is compared with {other}, from which it differs in more than one thing, "
                f"because it shares no run with {meant}"
            )
        own, whole = one.finals.keys(), results[other].finals.keys() if other in results else set()
        if not own & whole:
            lines.append(f"{name} shares no run with {other}, so it is not tested")
        elif own != whole:
            missing = ", ".join(map(str, sorted(whole - own)))
            lacks = f", as it lacks {missing}" if missing else ""
            lines.append(f"{name} is tested on the runs shared with {other}{lacks}")
    return lines + [f"{name} {why}" for name, why in ablation.notes.items()]


def sections(ablation: Ablation) -> list[tuple[Table, list[str]]]:
    """The tables with their notes: the arms, and their tests if any."""
    found = [(table(ablation), notes(ablation))]
    if differences := compared(ablation):
        found.append((tests(differences), test_notes(differences)))
    return found


def text(ablation: Ablation) -> str:
    """All tables, for a terminal."""
    tables = ["\n".join([rows.text(), *said, ""]) for rows, said in sections(ablation)]
    return "\n".join(tables)


def markdown(ablation: Ablation) -> str:
    """All tables, in Markdown."""
    parts = [MARK]
    for rows, said in sections(ablation):
        parts += [rows.markdown(), "\n".join(f"- {line}" for line in said)]
    return "\n\n".join(part for part in parts if part) + "\n"


def long_tests(differences: Sequence[Difference]) -> Table:
    """The tests in full precision; None for missing values."""
    return Table([Column(name) for name in _LONG_TESTS], [_measured(one) for one in differences])


def _measured(one: Difference) -> list[Cell]:
    none, half = (None, None), one.gap.half
    return [
        one.result.name,
        len(one.runs),
        mean_and_deviation(one.values)[0],
        *(bootstrap_interval(one.values) or none),
        one.gap.mean,
        *(one.gap_interval or none),
        one.effect.standardised,
        one.effect.median,
        one.permutation_p,
        one.holm_p,
        one.wilcoxon_p,
        one.reference.name,
        *(none if half is None else (one.gap.mean - half, one.gap.mean + half)),
    ]


def long_table(ablation: Ablation) -> Table:
    """One row per run and arm."""
    arms = ablation.records.items()
    return runs_table(LONG_HEAD, [([name], record) for name, records in arms for record in records])
