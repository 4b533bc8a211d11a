"""The tables of a report: results, each run, and comparisons with the baseline."""

from __future__ import annotations

from dataclasses import replace

from crumb.reports.families import Difference, Family
from crumb.reports.key_figures import WORK, columns
from crumb.reports.reader import Experiment, Report
from crumb.reports.table import Cell, Column, Table
from crumb.reports.wording import count, experiment_title, p_value, when

LATEX_MARK = "% written by crumb report"
"""First characters of every LaTeX file."""
_FIGURES = ("final", "average", "forgetting", "replay_bytes", "extra_bytes", "time", *WORK, "runs")
RESULT = Column("result", kind="words")
"""Column of the names of results."""
_BOOTSTRAP = Column("95 % interval (bootstrap)")
_HOLM = Column("p, permutation, after Holm")
_EFFECT = Column("effect size d", "+.2f")
_COMPARED = (
    RESULT,
    Column("difference, points", "+.1f"),
    Column("95 % interval (Student's t)"),
    _BOOTSTRAP,
    Column("p, permutation"),
    Column("p, Wilcoxon"),
    _HOLM,
    _EFFECT,
    Column("paired runs"),
)
_RUN = (
    RESULT,
    Column("run"),
    Column("finished (UTC)", kind="words"),
    Column("final accuracy, %", ".1f"),
    Column("average accuracy, %", ".1f"),
    Column("forgetting, points", ".1f"),
    Column("seconds", ",.1f"),
)


def family_tables(family: Family) -> list[Table]:
    """The table of results, and that of comparisons with the baseline if there are any."""
    return [_results(family), *_comparisons(family)]


def latex(report: Report) -> str:
    r"""The tables of results and comparisons as LaTeX, each with its title in a comment."""
    parts = [f"{LATEX_MARK}; the tables need \\usepackage{{booktabs}}\n"]
    for experiment in report.experiments:
        for family in experiment.families:
            # A name may hold a line end, which would end the comment.
            title = " ".join(f"{experiment_title(experiment)}. {family.title}".split())
            parts += [
                f"% {title}\n% {' '.join(table.caption.split())}\n{table.latex()}"
                for table in family_tables(family)
            ]
    return "\n".join(parts)


def _results(family: Family) -> Table:
    rows = [
        [f"{one.name} (upper bound)" if one.is_bound else one.name, *one.figures.cells(_FIGURES)]
        for one in family.results
    ]
    caption = f"{family.title}, best first."
    if family.budget is not None:
        caption += " Methods without exemplars are in the table of every budget."
    return Table([RESULT, *columns(_FIGURES)], rows, caption, _best(family)).filled()


def each_run(experiment: Experiment) -> Table:
    """When each run was finished, and what it reached."""
    names = ("final_accuracy", "average_accuracy", "forgetting", "seconds")
    rows: list[list[Cell]] = [
        [one.name, record.run, when(record), *map(record.figures().get, names)]
        for one in experiment.results
        for record in one.records
    ]
    return Table(_RUN, rows, "Each run.").filled()


def _best(family: Family) -> frozenset[tuple[int, int]]:
    """Table positions of the best accuracies and the lowest forgetting, without upper bounds."""
    found: set[tuple[int, int]] = set()
    if len(family.ranked) == 1:
        return frozenset()
    for column, (name, sign) in enumerate((("final", 1), ("average", 1), ("forgetting", -1)), 1):
        values = {}
        for place, one in enumerate(family.results):
            known = getattr(one.figures, name)
            if one in family.ranked and known is not None:
                values[place] = sign * round(known.mean, 1)
        found |= {(p, column) for p, value in values.items() if value == max(values.values())}
    return frozenset(found)


def _comparisons(family: Family) -> list[Table]:
    if not family.differences:
        return []
    name = family.baseline.name
    table = Table(_COMPARED, [_compared(one) for one in family.differences]).filled()
    caption = [
        f"Final accuracy of each result minus that of {name} ({family.why}), over shared runs; "
        "runs with the same number share the order of the stream."
    ]
    if _HOLM in table.columns:
        caption.append(f"Holm's correction is for {count(len(table.rows), 'comparison')}.")
    if _BOOTSTRAP in table.columns:
        caption.append(
            "The bootstrap interval is too narrow for few runs and needs at least three."
        )
    if _EFFECT in table.columns:
        caption.append(
            "d: mean difference in standard deviations of the differences, corrected for few runs "
            "(Hedges)."
        )
    return [replace(table, caption=" ".join(caption))]


def _compared(one: Difference) -> list[Cell]:
    mean, half, boot = one.gap.mean, one.gap.half, one.gap_interval
    p_values = (one.permutation_p, one.wilcoxon_p, one.holm_p)
    return [
        one.result.name,
        mean,
        None if half is None else _span(mean - half, mean + half),
        None if boot is None else _span(*boot),
        *(p_value(p).removeprefix("= ") if len(one.runs) > 1 else None for p in p_values),
        one.effect.standardised,
        len(one.runs),
    ]


def _span(low: float, high: float) -> str:
    """An interval of differences, clipped to possible values."""
    return f"{max(low, -100.0):+.1f} to {min(high, 100.0):+.1f}"
