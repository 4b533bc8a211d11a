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
from crumb.reports.families import Result
from crumb.reports.figures import panels_of_family, panels_of_result
from crumb.reports.frames import MAX_FRAMES, TaskFrames, sample_frames
from crumb.reports.inline_svg import inline, width_of
from crumb.reports.markup import Markup, data_uri, render
from crumb.reports.panels import Panel, StoredPanel, read_panels, stored
from crumb.reports.ranks import rank_panels
from crumb.reports.rates import rate_panels
from crumb.reports.reader import Experiment, Report
from crumb.reports.report_tables import RESULT, each_run, family_tables
from crumb.reports.table import Cell, Column, Table, plain
from crumb.reports.wording import (
    Setting,
    compare_settings,
    experiment_title,
    facts,
    file_prefixes,
    remarks,
    summary,
    title_of,
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
    across = {"Ranks over data sets": rank_panels(report), "Rates": rate_panels(report)}
    panels = [panel for group in across.values() for panel in group]
    over_streams = [
        (slug(title), title, figures([(stored(panel), f"f-{panel.name}") for panel in group]))
        for title, group in across.items()
        if group
    ]
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
        across=over_streams,
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
        tables={family.title: family_tables(family) for family in experiment.families},
        figures={
            title: figures([(stored(panel), f"f-{panel.name}") for panel in group])
            for title, group in drawn.items()
            if group
        },
        runs=each_run(experiment),
        tasks=tasks,
        caption=caption,
        own=own,
        settings=_settings(experiment.results),
    )


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
    table = Table([RESULT, Column("command", kind="code")], made, about)
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
