"""The page of a report: findings, tables, figures and settings, in this order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from crumb.errors import InputError
from crumb.reports import page
from crumb.reports.comparison import WORK_HEAD, work_cells
from crumb.reports.page import Column, Html, Ready
from crumb.reports.panels import Panel, read_panels, stored
from crumb.reports.report import Difference, Experiment, Family, Report, Result
from crumb.reports.report_command import command_of
from crumb.reports.report_costs import panels_of_experiment
from crumb.reports.report_figures import (
    panels_of_family,
    panels_of_result,
    slug,
)
from crumb.reports.report_frames import MOST_FRAMES, sample_frames
from crumb.reports.report_text import (
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
)
from crumb.reports.statistics import Estimate, estimate

_ANALYSES = "analysis"
"""Folder of a results folder that holds figures which were made of it before."""
_FEW, _TOLD = 6, 3
"""Rows, and comparisons in words, where there is more of its kind."""
_RESULT = Column("result", number=False)
_COLUMNS = (
    _RESULT,
    Column("final accuracy, %"),
    Column("average accuracy, %"),
    Column("forgetting, points"),
    Column("replay bytes"),
    Column("extra bytes"),
    Column("time, seconds a run"),
    *map(Column, WORK_HEAD),
    Column("runs"),
)
_COMPARED = (
    _RESULT,
    Column("difference, points"),
    Column("95 % interval (Student's t)"),
    Column("95 % interval (bootstrap)"),
    Column("p, permutation"),
    Column("p, Wilcoxon"),
    Column("p, permutation, after Holm"),
    Column("effect size d"),
    Column("paired runs"),
)
_HOW = (
    "± is half the 95 % interval of the mean over runs (Student's t). Final accuracy: on the test "
    "images of all classes, after the last task. Average accuracy: mean of the accuracies after "
    "each task. Forgetting: mean drop of the accuracy on each task's classes from its best; less "
    "is better. Replay bytes: exemplars, the most of any run. Extra bytes: all else that is kept "
    "besides one copy of the network, such as a codebook or older weights, the most of any run. "
    "Time: of learning and storing, without tests. Means over runs: gradient steps; feature maps "
    "through the tail while learning, replayed ones and those of teachers included; passes over an "
    "image, how often the stream showed it. A star marks the best of a column."
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
    """The page of a report.

    Raises:
        InputError: a figure in a folder of results is damaged.
    """
    panels: list[Panel] = []
    head = [page.element("h1", page.text(title_of(report))), _contents(report), _findings(report)]
    body = [
        _experiment(experiment, number, len(report.experiments), panels)
        for number, experiment in enumerate(report.experiments, 1)
    ]
    title = f"{title_of(report)} - crumb report"
    main = page.element("main", page.join([*head, *body]))
    return Drawn(page.page(title, main), panels)


def _contents(report: Report) -> Html:
    """Links to the sections."""
    links = [
        page.element("li", page.element("a", page.text(experiment_title(one)), href=f"#stream-{n}"))
        for n, one in enumerate(report.experiments, 1)
    ]
    first = page.element("li", page.element("a", page.text("In short"), href="#in-short"))
    inner = page.element("ul", page.join([first, *links]))
    return page.element("nav", inner, aria_label="contents")


def _findings(report: Report) -> Html:
    parts = [page.element("h2", page.text("In short"), id="in-short")]
    for experiment in report.experiments:
        for family in experiment.families:
            names = [experiment_title(experiment)] * (len(report.experiments) > 1)
            names += [family.title] * (len(experiment.families) > 1)
            said = page.items(summary(family, _TOLD if names else 2 * _TOLD))
            head = page.element("h3", page.text(". ".join(names))) if names else Html("")
            parts.append(page.element("div", Html(head + said), class_="lead"))
    return page.join(parts + ([page.items(said)] if (said := remarks(report)) else []))


def _experiment(experiment: Experiment, number: int, of: int, panels: list[Panel]) -> Html:
    """All about one stream; what is drawn is added to ``panels``."""
    prefix = f"{slug(dataset_name(experiment.results[0].settings))}_{number}_" if of > 1 else ""
    tables: list[Html] = []
    figures: list[Html] = []
    for family in experiment.families:
        title = page.element("h4", page.text(family.title))
        tables += [title, _results(family), *_comparisons(family)]
        figures += [title, _figures(panels_of_family(family, prefix), panels)]
    if costs := panels_of_experiment(experiment, prefix):
        title = page.element("h4", page.text("Accuracy and what it costs"))
        figures += [title, _figures(costs, panels)]
    own, own_panels = _own_figures(experiment)
    panels += own_panels
    sections = [
        ("What was run", [page.definitions(facts(experiment))]),
        ("Results", [page.paragraph(_HOW), *tables]),
        ("Figures", figures),
        ("What was seen", [_frames(experiment)]),
        ("Figures of single results", own),
        ("Settings", _settings(experiment.results)),
    ]
    title = page.element("h2", page.text(experiment_title(experiment)), id=f"stream-{number}")
    shown = [
        page.join([page.element("h3", page.text(name)), *parts])
        for name, parts in sections
        if parts
    ]
    return page.element("section", page.join([title, *shown]))


def _figures(drawn: Sequence[Panel], panels: list[Panel]) -> Html:
    """Figures side by side, added to ``panels``."""
    panels += drawn
    return page.figures([(stored(panel), f"f-{panel.name}") for panel in drawn])


def _results(family: Family) -> Html:
    rows = [
        [
            f"{one.name} (upper bound)" if one.is_bound else one.name,
            str(one.row.final),
            str(one.row.average),
            "-" if one.row.forgetting is None else str(one.row.forgetting),
            f"{one.row.replay_bytes:,}",
            f"{max(record.extra_bytes for record in one.records):,}",
            _seconds(estimate([record.seconds for record in one.records])),
            *work_cells(one.row),
            one.row.runs,
        ]
        for one in family.results
    ]
    caption = f"{family.title}, best first."
    if family.budget is not None:
        caption += " Methods that keep no exemplars are in the table of every budget."
    return page.table(caption, _COLUMNS, rows, _best(family))


def _seconds(known: Estimate) -> str:
    half = "" if known.half is None else f" ± {known.half:,.1f}"
    return f"{known.mean:,.1f}{half}"


def _best(family: Family) -> frozenset[tuple[int, int]]:
    """Places of the best accuracies and of the least forgetting; bounds are no methods."""
    found: set[tuple[int, int]] = set()
    if len(family.ranked) == 1:
        return frozenset()
    for column, sign in ((1, 1), (2, 1), (3, -1)):
        values = {}
        for place, one in enumerate(family.results):
            known = (one.row.final, one.row.average, one.row.forgetting)[column - 1]
            if one in family.ranked and known is not None:
                values[place] = sign * round(known.mean, 1)
        found |= {(p, column) for p, value in values.items() if value == max(values.values())}
    return frozenset(found)


def _comparisons(family: Family) -> list[Html]:
    if not family.differences:
        return []
    name = family.baseline.name
    caption = (
        f"Final accuracy of each result minus that of {name} ({family.why}), over the runs that "
        f"both have; runs of the same number share the order of the stream. Holm's correction is "
        f"for {count(len(family.differences), 'comparison')}. "
        f"The bootstrap interval is too narrow where "
        f"runs are few, and there is none of fewer than three. d: mean difference in standard "
        f"deviations of the differences, corrected for few runs (Hedges)."
    )
    return [page.table(caption, _COMPARED, [_compared(one) for one in family.differences])]


def _compared(one: Difference) -> list[object]:
    row = one.row
    half, none = one.estimate.half, "-"
    student = none if half is None else _span(row.difference - half, row.difference + half)
    boot = row.difference_interval
    effect = row.effect.standardised
    tests = [none] * 3
    if one.runs > 1:
        p_values = (row.permutation_p, row.wilcoxon_p, row.holm_p)
        tests = [p_value(p).removeprefix("= ") for p in p_values]
    return [
        one.result.name,
        f"{row.difference:+.1f}",
        student,
        none if boot is None else _span(*boot),
        *tests,
        none if effect is None else f"{effect:+.2f}",
        one.runs,
    ]


def _span(low: float, high: float) -> str:
    """An interval of differences, without what cannot be."""
    return f"{max(low, -100.0):+.1f} to {min(high, 100.0):+.1f}"


def _frames(experiment: Experiment) -> Html:
    """Frames of the stream, or why there are none."""
    shown = next((one for one in experiment.results if not one.is_bound), None)
    if shown is None:
        return page.paragraph("No sample frames: an upper bound sees all tasks anew each time.")
    try:
        tasks = sample_frames(shown)
    except InputError as error:
        return page.paragraph(f"No sample frames: {error.in_flags()}.")
    run = shown.records[0].run
    caption = (
        f"Training frames of run {run}, {MOST_FRAMES} in even steps over each task, in the order "
        f"of the stream. Other runs have other orders of classes and clips."
    )
    if len(tasks) < len(shown.records[0].scores):
        caption += (
            f" {len(tasks)} of {len(shown.records[0].scores)} tasks are shown, in even steps."
        )
    return page.frames(tasks, caption)


def _own_figures(experiment: Experiment) -> tuple[list[Html], list[Panel]]:
    """Figures of single results: made here of baselines and the best; found in all folders."""
    chosen = {family.baseline.name for family in experiment.families}
    chosen |= {family.ranked[0].name for family in experiment.families}
    parts: list[Html] = []
    drawn: list[Panel] = []
    for number, one in enumerate(experiment.results):
        own = panels_of_result(one) if one.name in chosen else []
        # Names of files hold fewer letters than those of results.
        taken = {panel.name for panel in drawn}
        own = [replace(p, name=f"{p.name}_{number}") if p.name in taken else p for p in own]
        drawn += own
        found = [*map(stored, own), *read_panels(one.folder / _ANALYSES)]
        if found:
            named = [(panel, f"r{number}-{slug(one.name)}-{panel.name}") for panel in found]
            content = page.figures(named)
            head = page.element("h4", page.text(one.name))
            many = len(experiment.results) > _FEW and one.name not in chosen
            parts.append(page.details(one.name, content) if many else Html(head + content))
    return parts, drawn


def _settings(results: Sequence[Result]) -> list[Html]:
    differ, shared = compare_settings(results)
    parts = []
    if differ:
        rows = [row for setting in differ for row in _rows_of(setting)]
        caption = (
            "Settings that are not the same for all results, as they are in config.toml. A result "
            "that is not named under a setting does not have it."
        )
        columns = (Column("setting", number=False), Column("value", number=False), _RESULT)
        long = len(rows) > 3 * _FEW
        content = page.table(caption, columns, rows)
        parts.append(
            page.details(f"Settings that differ ({len(differ)})", content) if long else content
        )
    pairs = [[name, value] for name, value in shared.items()]
    columns = (Column("setting", number=False), Column("value", number=False))
    table = page.table("Settings that all results share.", columns, pairs)
    parts.append(page.details(f"Settings that all share ({len(shared)})", table))
    commands = [
        [one.name, Ready(page.element("code", page.text(command_of(one))))] for one in results
    ]
    about = (
        "Each makes a result again, into a folder of its own. What --pretrained names must be "
        "there, as it was; other machines round otherwise."
    )
    made = page.table(about, (_RESULT, Column("command", number=False)), commands)
    parts.append(page.details("Commands that make each result again", made))
    return parts


def _rows_of(setting: Setting) -> list[list[object]]:
    """One row for each value of a setting; the value that most have does not name them all."""
    most = max(setting.values.values(), key=len)
    rows: list[list[object]] = []
    for value, names in setting.values.items():
        named = ", ".join(names)
        if names is most and len(names) > _FEW and len(setting.values) > 1:
            named = f"the other {len(names)}"
        rows.append([setting.name, value, named])
    return rows
