"""Figures of a report: accuracy and forgetting over tasks, differences from the baseline."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from crumb.reports.classes import class_forgetting_panel, confusion_panel
from crumb.reports.comparison import title
from crumb.reports.figures import COLOURS
from crumb.reports.panels import Panel, blank
from crumb.reports.report import Difference, Family, Result
from crumb.reports.report_text import LEVEL
from crumb.reports.statistics import estimate
from crumb.stream.metrics import forgetting
from crumb.stream.record import RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = (
    COLOURS[1],
    COLOURS[0],
    COLOURS[2],
    "#8F6BD1",
    "#A6761D",
    "#C44E86",
    COLOURS[3],
    "#7A7A7A",
)
"""At least 3 : 1 against both papers of the page; curves differ in line and marker as well."""
MOST_CURVES = 8
_LINES, _MARKERS = ("-", "--", "-.", ":"), "osD^vPX*"
OWN, OTHERS = PALETTE[:2]
# Inches; so narrow that its words can be read on a phone.
HEIGHT, _WIDTH, _LINE = 3.2, 4.4, 0.165
_TWO, _SMALL = 2, 8
# Letters of a name that fills half a line.
_LONG, _TICKS = 24, 10
_MOST_LETTERS = 34
Curves = Sequence[Sequence[float]]

# Place of the figures that one results folder has alone, as functions of its records that may
# return None: confusion_panel and class_forgetting_panel of crumb.reports.classes.
OF_ONE_RESULT: tuple[Callable[[Sequence[RunRecord]], Panel | None], ...] = (
    confusion_panel,
    class_forgetting_panel,
)


def panels_of_result(result: Result) -> list[Panel]:
    """The figures of one results folder alone (:data:`OF_ONE_RESULT`), by its name."""
    drawn = [draw(result.records) for draw in OF_ONE_RESULT]
    found = [panel for panel in drawn if panel is not None]
    return [replace(panel, name=f"{slug(result.name)}_{panel.name}") for panel in found]


def panels_of_family(family: Family, prefix: str) -> list[Panel]:
    """Accuracy and forgetting over tasks, and the differences from the baseline.

    Args:
        family: to be drawn.
        prefix: of the names of the files.
    """
    panels = [accuracy_panel(family)]
    if len(family.baseline.records[0].scores) > 1:
        panels.append(forgetting_panel(family))
    if family.differences:
        panels.append(difference_panel(family))
    suffix = "" if family.budget is None else f"_{family.budget}"
    return [replace(panel, name=f"{prefix}{panel.name}{suffix}") for panel in panels]


def shortened(name: str) -> str:
    """A name for a narrow figure: the middle of a long one is left out."""
    return name if len(name) <= _MOST_LETTERS else f"{name[:8]}…{name[-25:]}"


def slug(name: str) -> str:
    """What the name of a file may hold."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("_.")


def spread(values: Sequence[float]) -> tuple[float, float] | None:
    """What a bar or band shows: the 95 % interval (Student's t); of two runs both; of one None."""
    known = estimate(values)
    if known.half is None:
        return None
    if len(values) == _TWO:
        return known.low, known.high
    return known.mean - known.half, known.mean + known.half


def said_of_spread(counts: Sequence[int], what: str = "bars") -> str:
    """What the bars or bands of a figure are, for the numbers of runs that its results have."""
    runs = sorted(set(counts))
    said = []
    if many := [str(n) for n in runs if n > _TWO]:
        said.append(
            f"the {what} are 95 % intervals of the mean over {' or '.join(many)} runs (Student's t)"
        )
    if _TWO in runs:
        said.append(
            f"of two runs the {what} reach from the lower to the higher, which is no interval"
        )
    if 1 in runs:
        said.append("one run has no interval")
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}."


def accuracy_panel(family: Family) -> Panel:
    """Accuracy on all classes seen so far, after each task."""
    curves = {one.name: [record.curve() for record in one.records] for one in _drawn(family)}
    return _curves(
        family,
        curves,
        1,
        name="accuracy_over_tasks",
        title=_of_budget("Accuracy over tasks", family),
        label="accuracy on classes seen, %",
        caption="Accuracy on the test images of all classes seen so far, mean of the runs.",
    )


def forgetting_panel(family: Family) -> Panel:
    """Mean drop of the accuracy on earlier tasks since their best, after each task."""
    curves = {
        one.name: [
            [
                forgetting(record.matrix()[: task + 1]) or 0.0
                for task in range(1, len(record.scores))
            ]
            for record in one.records
        ]
        for one in _drawn(family)
    }
    return _curves(
        family,
        curves,
        2,
        name="forgetting_over_tasks",
        title=_of_budget("Forgetting over tasks", family),
        label="forgetting, percent points",
        caption="How far the accuracy on the classes of each earlier task has dropped from its "
        "best, mean over these tasks and the runs; less is better.",
    )


def _drawn(family: Family) -> list[Result]:
    """The baseline, the best, and an upper bound, as many as can be told apart."""
    bounds = [one for one in family.results if one not in family.ranked][:1]
    best = [one for one in family.ranked if one is not family.baseline]
    room = MOST_CURVES - 1 - len([one for one in bounds if one is not family.baseline])
    chosen = [family.baseline, *best[:room], *bounds]
    return [one for one in family.results if one in chosen]


def _curves(
    family: Family,
    curves: Mapping[str, Curves],
    first: int,
    *,
    name: str,
    title: str,
    label: str,
    caption: str,
) -> Panel:
    """A panel of curves over tasks; ``first`` is the number of the task that they begin at."""
    figure, axes = new_axes(HEIGHT)
    rows: list[list[object]] = []
    others = [one for one in curves if one != family.baseline.name]
    for result, runs in curves.items():
        number = 0 if result == family.baseline.name else 1 + others.index(result)
        rows += _curve(axes, result, number, first, runs, _limits(label))
    axes.set(xlabel="tasks learned (number of tasks)", ylabel=label)
    if first == 1:
        axes.set_ylim(-3, 103)
    last = first + max(len(run) for runs in curves.values() for run in runs) - 1
    axes.set_xticks(range(first, last + 1, 1 + (last - first) // _TICKS))
    legend_below(figure, axes.get_legend_handles_labels()[0])
    chosen = ""
    if left := len(family.results) - len(curves):
        chosen = (
            f" Drawn are {family.baseline.name}, which the others are compared with, and the best "
            f"others, {len(curves)} in all; {left} more are in the tables."
        )
    band = said_of_spread([len(runs) for runs in curves.values()], "bands")
    text = f"{caption} In the legend the value after the last task. {band}{chosen}"
    return Panel(name, title, text, figure, ["result", "tasks", label, "low", "high", "runs"], rows)


def _curve(
    axes: Axes, result: str, number: int, first: int, runs: Curves, limits: tuple[float, float]
) -> list[list[object]]:
    """Draw the mean of runs and its band; the baseline has number 0. Returns rows of numbers."""
    columns = [*zip(*runs, strict=True)]
    means = [estimate(column).mean for column in columns]
    tasks = np.arange(first, first + len(means))
    look: dict[str, Any] = {
        "ls": _LINES[number % len(_LINES)],
        "marker": _MARKERS[number % len(_MARKERS)],
        "lw": 1.4 if number else 2.2,
        "zorder": 2 if number else 3,
        "color": PALETTE[number % len(PALETTE)],
    }
    label = f"{shortened(result)}: {means[-1]:.0f}"
    axes.plot(tasks, means, ms=3.5, label=label, **look)
    bands = [spread(column) for column in columns]
    if known := [band for band in bands if band is not None]:
        low, high = np.clip(np.array(known).T, *limits)
        axes.fill_between(tasks, low, high, color=look["color"], alpha=0.14, lw=0)
    return [
        [result, task, mean, *(band or (None, None)), len(runs)]
        for task, mean, band in zip(tasks.tolist(), means, bands, strict=True)
    ]


def _limits(label: str) -> tuple[float, float]:
    """What the values of curves can be."""
    return (0, 100) if label.endswith("%") else (-100, 100)


def difference_panel(family: Family) -> Panel:
    """A dot and an interval for each result: how far it is above or below the baseline."""
    name, found = family.baseline.name, [*reversed(family.differences)]
    figure, axes = new_axes(1.1 + 0.19 * max(len(found), 4))
    rows: list[list[object]] = []
    for place, one in enumerate(found):
        middle, band, sure = -one.estimate.mean, _band(one), one.row.holm_p <= LEVEL
        if band is not None:
            axes.plot(band, [place, place], color=OTHERS, lw=1.3, solid_capstyle="butt")
        fill = OTHERS if sure else "none"
        axes.plot(middle, place, "o", ms=4.5, mec=OTHERS, mfc=fill, mew=1.2)
        rows.append([one.result.name, middle, *(band or (None, None)), one.runs, one.row.holm_p])
    axes.axvline(0, color=OWN, lw=1.4, zorder=1)
    axes.set_yticks(range(len(found)), [shortened(one.result.name) for one in found])
    axes.set_ylim(-0.7, len(found) - 0.3)
    # Aligned so that it has the room below the names as well.
    axes.set_xlabel("difference in final accuracy, percent points", loc="right")
    axes.set_ylabel("result (best on top)")
    caption = (
        f"Mean difference in final accuracy from {name} over paired runs: to the right of the line "
        f"a result is more accurate, to the left less. "
        f"{said_of_spread([one.runs for one in found])} "
        f"Filled dots are significant at {LEVEL} after Holm's correction, hollow ones are not."
    )
    head = ["result", "difference_points", "low", "high", "paired_runs", "holm_p"]
    text = _of_budget(f"Differences from {name}", family)
    return Panel("differences", text, caption, figure, head, rows[::-1])


def _band(one: Difference) -> tuple[float, float] | None:
    known = spread([-gap for gap in one.gaps])
    return None if known is None else (max(known[0], -100.0), min(known[1], 100.0))


def new_axes(height: float) -> tuple[Figure, Axes]:
    """Axes of a narrow figure without a background."""
    figure = blank(_WIDTH, height)
    axes = figure.subplots()
    axes.set_facecolor("none")
    axes.grid(alpha=0.3, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=_SMALL)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_fontsize(_SMALL + 1)
    return figure, axes


def legend_below(figure: Figure, handles: Sequence[Any]) -> None:
    """A legend below the axes, in one column where its names are long."""
    longest = max(len(handle.get_label()) for handle in handles)
    columns = 2 if longest <= _LONG else 1
    place = "outside lower center"
    figure.legend(handles=handles, loc=place, ncols=columns, frameon=False, fontsize=_SMALL)
    rows = -(-len(handles) // columns)
    figure.set_figheight(figure.get_figheight() + _LINE * rows)


def _of_budget(text: str, family: Family) -> str:
    return text if family.budget is None else f"{text}, {title(family.budget)}"
