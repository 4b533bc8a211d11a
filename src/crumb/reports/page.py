"""The HTML page of a report: findings, tables, figures and settings.

The layout is in the templates ``page.html`` and ``section.html``; this file fills them.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from crumb.errors import InputError
from crumb.reports.command import command_of
from crumb.reports.costs import panels_of_experiment
from crumb.reports.drawing import slug
from crumb.reports.families import Difference, Family, Result
from crumb.reports.figures import panels_of_family, panels_of_result
from crumb.reports.frames import MAX_FRAMES, TaskFrames, sample_frames
from crumb.reports.inline_svg import inline, width_of
from crumb.reports.key_figures import WORK, columns
from crumb.reports.markup import Markup, data_uri, render
from crumb.reports.panels import Panel, StoredPanel, read_panels, stored
from crumb.reports.reader import Experiment, Report
from crumb.reports.table import Cell, Column, Table, plain
from crumb.reports.wording import (
    Setting,
    compare_settings,
    count,
    experiment_title,
    facts,
    file_prefixes,
    p_value,
    remarks,
    summary,
    title_of,
    when,
)

MARK = "<!doctype html>\n<!-- written by crumb report -->\n"
"""First characters of every page."""
_ANALYSES = "analysis"
"""Subfolder of a results folder with figures made by `crumb analyse`."""
_FEW, _TOLD = 6, 3
"""Maximum number of rows, and of comparisons in words."""
_MAX_ROWS = 400
"""Maximum number of rows shown under a figure; longer tables can only be downloaded."""
_WIDE = 600
"""Width in points from which a figure gets the full page width."""
_FIGURES = ("final", "average", "forgetting", "replay_bytes", "extra_bytes", "time", *WORK, "runs")
_BOOTSTRAP = Column("95 % interval (bootstrap)")
_HOLM = Column("p, permutation, after Holm")
_EFFECT = Column("effect size d", "+.2f")
_COMPARED = (
    Column("result", kind="words"),
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
    _COMPARED[0],
    Column("run"),
    Column("finished (UTC)", kind="words"),
    Column("final accuracy, %", ".1f"),
    Column("average accuracy, %", ".1f"),
    Column("forgetting, points", ".1f"),
    Column("seconds", ",.1f"),
)


@dataclass(frozen=True)
class Drawn:
    """A page and the figures in it.

    Attributes:
        html: the page.
        panels: figures drawn for it, without those found in results folders.
    """

    html: str
    panels: Sequence[Panel]


def draw(report: Report) -> Drawn:
    """Make the self-contained page of a report.

    Raises:
        InputError: a figure in a results folder is damaged.
    """
    panels: list[Panel] = []
    many = len(report.experiments) > 1
    html = render(
        "page.html",
        title=title_of(report),
        style=Markup((files("crumb") / "reports/templates/report.css").read_text("utf-8")),
        sections=[
            (number, experiment_title(one), _section(one, prefix, panels))
            for number, (one, prefix) in enumerate(
                zip(report.experiments, file_prefixes(report), strict=True), 1
            )
        ],
        findings=[one for experiment in report.experiments for one in _findings(experiment, many)],
        remarks=remarks(report),
    )
    return Drawn(MARK + str(html), panels)


def _findings(experiment: Experiment, many: bool) -> list[tuple[str, list[str]]]:
    """Findings per family, with a title if there are several."""
    found = []
    for family in experiment.families:
        names = [experiment_title(experiment)] * many
        names += [family.title] * (len(experiment.families) > 1)
        found.append((". ".join(names), summary(family, _TOLD if names else 2 * _TOLD)))
    return found


def _section(experiment: Experiment, prefix: str, panels: list[Panel]) -> Markup:
    """The section of one stream. Appends drawn figures to ``panels``."""
    drawn = {one.title: panels_of_family(one, prefix) for one in experiment.families}
    drawn["Accuracy and cost"] = panels_of_experiment(experiment, prefix)
    panels += [panel for group in drawn.values() for panel in group]
    own, own_panels = _own_figures(experiment)
    panels += own_panels
    tasks, caption = _frames(experiment)
    return render(
        "section.html",
        facts=facts(experiment),
        tables={
            family.title: [_results(family), *_comparisons(family)]
            for family in experiment.families
        },
        figures={
            title: figures([(stored(panel), f"f-{panel.name}") for panel in group])
            for title, group in drawn.items()
            if group
        },
        runs=_runs(experiment),
        tasks=tasks,
        caption=caption,
        own=own,
        settings=_settings(experiment.results),
    )


def _results(family: Family) -> Table:
    rows = [
        [f"{one.name} (upper bound)" if one.is_bound else one.name, *one.figures.cells(_FIGURES)]
        for one in family.results
    ]
    caption = f"{family.title}, best first."
    if family.budget is not None:
        caption += " Methods without exemplars are in the table of every budget."
    return Table([_COMPARED[0], *columns(_FIGURES)], rows, caption, _best(family)).filled()


def _runs(experiment: Experiment) -> Table:
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


def _frames(experiment: Experiment) -> tuple[list[TaskFrames], str]:
    """Sample frames of the stream and their caption, or why there are none."""
    shown = next((one for one in experiment.results if not one.is_bound), None)
    if shown is None:
        return [], "No sample frames: upper bounds see all tasks again at each task."
    try:
        tasks = sample_frames(shown)
    except InputError as error:
        return [], f"No sample frames: {error.in_flags()}."
    run, of = shown.records[0].run, len(shown.records[0].scores)
    caption = (
        f"Training frames of run {run}: {MAX_FRAMES} evenly spaced frames per task, in stream "
        "order. Other runs have other orders of classes and clips."
    )
    if len(tasks) < of:
        caption += f" {len(tasks)} of {of} tasks are shown, evenly spaced."
    return tasks, caption


def _own_figures(experiment: Experiment) -> tuple[list[tuple[str, bool, Markup]], list[Panel]]:
    """Figures of single results: drawn for baselines and the best results, and found in all
    folders.

    Returns:
        name, folded state and figures of each result; and the drawn figures.
    """
    chosen = {family.baseline.name for family in experiment.families}
    chosen |= {family.ranked[0].name for family in experiment.families}
    parts: list[tuple[str, bool, Markup]] = []
    drawn: list[Panel] = []
    for number, one in enumerate(experiment.results):
        own = panels_of_result(one) if one.name in chosen else []
        # File names allow fewer characters than result names.
        taken = {panel.name for panel in drawn}
        own = [replace(p, name=f"{p.name}_{number}") if p.name in taken else p for p in own]
        drawn += own
        kept = read_panels(one.folder / _ANALYSES) if one.folder else []
        if found := [*map(stored, own), *kept]:
            named = [(panel, f"r{number}-{slug(one.name)}-{panel.name}") for panel in found]
            folded = len(experiment.results) > _FEW and one.name not in chosen
            parts.append((one.name, folded, figures(named)))
    return parts, drawn


def figures(panels: Sequence[tuple[StoredPanel, str]]) -> Markup:
    """Figures side by side if there is room, each with caption and numbers.

    Args:
        panels: figures with a unique prefix of identifiers each.

    Raises:
        InputError: a figure is damaged or not written by Crumb.
    """
    return render("figures.html", figures=[_figure(panel, prefix) for panel, prefix in panels])


def _figure(panel: StoredPanel, prefix: str) -> dict[str, Any]:
    return {
        "panel": panel,
        "svg": Markup(inline(panel.svg, prefix, panel.title, panel.caption)),
        # At half width its text would be unreadable; on a phone it scrolls.
        "wide": width_of(panel.svg) >= _WIDE,
        "saved": data_uri(panel.table.encode(), "text/csv"),
        "numbers": _numbers(panel),
    }


def _numbers(panel: StoredPanel) -> Table | None:
    """The numbers of a figure, unless there are too many to show."""
    head, *rows = [*csv.reader(panel.table.splitlines())] or [[]]
    if not head or not 0 < len(rows) <= _MAX_ROWS:
        return None
    whole = [[*map(_rounded, row), *[""] * (len(head) - len(row))][: len(head)] for row in rows]
    names = [name.replace("_", " ") for name in head]
    return replace(plain(names, whole), caption=f"Numbers of: {panel.title}")


def _rounded(value: str) -> str:
    """A rounded number; the downloadable file has all digits."""
    return f"{float(value):.4g}" if re.fullmatch(r"-?\d+\.\d+(e-?\d+)?", value) else value


def _settings(results: Sequence[Result]) -> list[tuple[str, Table]]:
    """Tables of settings, each with the title of its fold, if folded."""
    differ, shared = compare_settings(results)
    parts = []
    if differ:
        rows = [row for setting in differ for row in _rows_of(setting)]
        caption = (
            "Settings that differ between results, named as in config.toml. A result that is not "
            "listed under a setting does not have it."
        )
        table = plain(("setting", "value", "result"), rows, numbers=False)
        title = f"Settings that differ ({len(differ)})" if len(rows) > 3 * _FEW else ""
        parts.append((title, replace(table, caption=caption)))
    table = plain(("setting", "value"), shared.items(), numbers=False)
    title = f"Shared settings ({len(shared)})"
    parts.append((title, replace(table, caption="Settings that are the same for all results.")))
    about = (
        "Each command reproduces a result in a new folder. The file for --pretrained must exist "
        "unchanged. Rounding differs between machines."
    )
    made = [[one.name, command_of(one)] for one in results]
    table = Table([_COMPARED[0], Column("command", kind="code")], made, about)
    return [*parts, ("Commands that reproduce each result", table)]


def _rows_of(setting: Setting) -> list[list[Cell]]:
    """One row per value of a setting; the most common value does not list all results."""
    most = max(setting.values.values(), key=len)
    rows: list[list[Cell]] = []
    for value, names in setting.values.items():
        named = ", ".join(names)
        if names is most and len(names) > _FEW and len(setting.values) > 1:
            named = f"the other {len(names)}"
        rows.append([setting.name, value, named])
    return rows
