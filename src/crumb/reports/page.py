"""The page of a report: findings, tables, figures and settings, in this order.

What stands where is in the templates ``page.html`` and ``section.html``; here is what fills them.
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
    dataset_name,
    experiment_title,
    facts,
    p_value,
    remarks,
    summary,
    title_of,
    when,
)

MARK = "<!doctype html>\n<!-- written by crumb report -->\n"
"""How every page begins."""
_ANALYSES = "analysis"
"""Folder of a results folder that holds figures which were made of it before."""
_FEW, _TOLD = 6, 3
"""Rows, and comparisons in words, where there is more of its kind."""
_MAX_ROWS = 400
"""Of a table of numbers under a figure; longer ones are only to be saved."""
_WIDE = 600
"""Points from which on a figure has the width of the page."""
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
        panels: drawn for it; those that were found in folders of results are not among them.
    """

    html: str
    panels: Sequence[Panel]


def draw(report: Report) -> Drawn:
    """The page of a report, which needs no other file.

    Raises:
        InputError: a figure in a folder of results is damaged.
    """
    panels: list[Panel] = []
    many = len(report.experiments) > 1
    html = render(
        "page.html",
        title=title_of(report),
        style=Markup((files("crumb") / "reports/templates/report.css").read_text("utf-8")),
        sections=[
            (number, experiment_title(one), _section(one, number if many else None, panels))
            for number, one in enumerate(report.experiments, 1)
        ],
        findings=[one for experiment in report.experiments for one in _findings(experiment, many)],
        remarks=remarks(report),
    )
    return Drawn(MARK + str(html), panels)


def _findings(experiment: Experiment, many: bool) -> list[tuple[str, list[str]]]:
    """Of each family a title, where there are others, and sentences."""
    found = []
    for family in experiment.families:
        names = [experiment_title(experiment)] * many
        names += [family.title] * (len(experiment.families) > 1)
        found.append((". ".join(names), summary(family, _TOLD if names else 2 * _TOLD)))
    return found


def _section(experiment: Experiment, number: int | None, panels: list[Panel]) -> Markup:
    """All about one stream, with its number if there are others; ``panels`` gets what is drawn."""
    name = slug(dataset_name(experiment.results[0].settings))
    prefix = "" if number is None else f"{name}_{number}_"
    drawn = {one.title: panels_of_family(one, prefix) for one in experiment.families}
    drawn["Accuracy and what it costs"] = panels_of_experiment(experiment, prefix)
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
        caption += " Methods that keep no exemplars are in the table of every budget."
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
    """Places of the best accuracies and of the least forgetting; bounds are no methods."""
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
        f"Final accuracy of each result minus that of {name} ({family.why}), over the runs that "
        "both have; runs of the same number share the order of the stream."
    ]
    if _HOLM in table.columns:
        caption.append(f"Holm's correction is for {count(len(table.rows), 'comparison')}.")
    if _BOOTSTRAP in table.columns:
        caption.append(
            "The bootstrap interval is too narrow where runs are few, and there is none of fewer "
            "than three."
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
    """An interval of differences, without what cannot be."""
    return f"{max(low, -100.0):+.1f} to {min(high, 100.0):+.1f}"


def _frames(experiment: Experiment) -> tuple[list[TaskFrames], str]:
    """Frames of the stream and what they are, or why there are none."""
    shown = next((one for one in experiment.results if not one.is_bound), None)
    if shown is None:
        return [], "No sample frames: an upper bound sees all tasks anew each time."
    try:
        tasks = sample_frames(shown)
    except InputError as error:
        return [], f"No sample frames: {error.in_flags()}."
    run, of = shown.records[0].run, len(shown.records[0].scores)
    caption = (
        f"Training frames of run {run}, {MAX_FRAMES} in even steps over each task, in the order "
        f"of the stream. Other runs have other orders of classes and clips."
    )
    if len(tasks) < of:
        caption += f" {len(tasks)} of {of} tasks are shown, in even steps."
    return tasks, caption


def _own_figures(experiment: Experiment) -> tuple[list[tuple[str, bool, Markup]], list[Panel]]:
    """Figures of single results: made here of baselines and the best; found in all folders.

    Returns:
        of each result its name, whether its figures are folded, and these; and what was made.
    """
    chosen = {family.baseline.name for family in experiment.families}
    chosen |= {family.ranked[0].name for family in experiment.families}
    parts: list[tuple[str, bool, Markup]] = []
    drawn: list[Panel] = []
    for number, one in enumerate(experiment.results):
        own = panels_of_result(one) if one.name in chosen else []
        # Names of files hold fewer letters than those of results.
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
    """Figures side by side, where there is room, each with its caption and its numbers.

    Args:
        panels: each with a prefix of identifiers, which no other figure of the page has.

    Raises:
        InputError: a picture is damaged or none of ours.
    """
    return render("figures.html", figures=[_figure(panel, prefix) for panel, prefix in panels])


def _figure(panel: StoredPanel, prefix: str) -> dict[str, Any]:
    return {
        "panel": panel,
        "svg": Markup(inline(panel.svg, prefix, panel.title, panel.caption)),
        # In half a page its words could not be read, and on a phone it is moved under the finger.
        "wide": width_of(panel.svg) >= _WIDE,
        "saved": data_uri(panel.table.encode(), "text/csv"),
        "numbers": _numbers(panel),
    }


def _numbers(panel: StoredPanel) -> Table | None:
    """The numbers of a figure, unless they are too many to be read."""
    head, *rows = [*csv.reader(panel.table.splitlines())] or [[]]
    if not head or not 0 < len(rows) <= _MAX_ROWS:
        return None
    whole = [[*map(_rounded, row), *[""] * (len(head) - len(row))][: len(head)] for row in rows]
    names = [name.replace("_", " ") for name in head]
    return replace(plain(names, whole), caption=f"Numbers of: {panel.title}")


def _rounded(value: str) -> str:
    """A number as a reader needs it; the file that can be saved has all digits."""
    return f"{float(value):.4g}" if re.fullmatch(r"-?\d+\.\d+(e-?\d+)?", value) else value


def _settings(results: Sequence[Result]) -> list[tuple[str, Table]]:
    """Tables of settings, each with the title that it is folded under, if it is."""
    differ, shared = compare_settings(results)
    parts = []
    if differ:
        rows = [row for setting in differ for row in _rows_of(setting)]
        caption = (
            "Settings that are not the same for all results, as they are in config.toml. A result "
            "that is not named under a setting does not have it."
        )
        table = plain(("setting", "value", "result"), rows, numbers=False)
        title = f"Settings that differ ({len(differ)})" if len(rows) > 3 * _FEW else ""
        parts.append((title, replace(table, caption=caption)))
    table = plain(("setting", "value"), shared.items(), numbers=False)
    title = f"Settings that all share ({len(shared)})"
    parts.append((title, replace(table, caption="Settings that all results share.")))
    about = (
        "Each makes a result again, into a folder of its own. What --pretrained names must be "
        "there, as it was; other machines round otherwise."
    )
    made = [[one.name, command_of(one)] for one in results]
    table = Table([_COMPARED[0], Column("command", kind="code")], made, about)
    return [*parts, ("Commands that make each result again", table)]


def _rows_of(setting: Setting) -> list[list[Cell]]:
    """One row for each value of a setting; the value that most have does not name them all."""
    most = max(setting.values.values(), key=len)
    rows: list[list[Cell]] = []
    for value, names in setting.values.items():
        named = ", ".join(names)
        if names is most and len(names) > _FEW and len(setting.values) > 1:
            named = f"the other {len(names)}"
        rows.append([setting.name, value, named])
    return rows
