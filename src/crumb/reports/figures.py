"""Figures of results: accuracy and forgetting over tasks, differences from the baseline.

Figures of accuracy against cost are in :mod:`crumb.reports.costs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from crumb.reports.classes import class_forgetting_panel, confusion_panel
from crumb.reports.drawing import (
    KINDS,
    NARROW,
    OTHERS,
    OWN,
    curve_look,
    kind_of,
    legend_below,
    legend_of_kinds,
    name_ends,
    new_axes,
    plain_axes,
    said_of_spread,
    shortened,
    slug,
    spread,
)
from crumb.reports.families import OWN_METHOD, Difference, Family, Result, in_bytes
from crumb.reports.intervals import estimate
from crumb.reports.panels import Panel, blank
from crumb.reports.wording import LEVEL
from crumb.stream.metrics import forgetting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_CURVES = 8
_TICKS = 10
_ACCURACY = "accuracy on classes seen, %"
Curves = Sequence[Sequence[float]]


def panels_of_result(result: Result) -> list[Panel]:
    """The figures of a single result; empty if its runs did not record the data."""
    drawn = [confusion_panel(result.records), class_forgetting_panel(result.records)]
    found = [panel for panel in drawn if panel is not None]
    return [replace(panel, name=f"{slug(result.name)}_{panel.name}") for panel in found]


def panels_of_family(family: Family, prefix: str) -> list[Panel]:
    """Panels of accuracy and forgetting over tasks, and of differences from the baseline.

    Args:
        family: the results to draw.
        prefix: prefix of the file names.
    """
    panels = [accuracy_panel(family)]
    if len(family.baseline.records[0].scores) > 1:
        panels.append(forgetting_panel(family))
    if family.differences:
        panels.append(difference_panel(family))
    suffix = "" if family.budget is None else f"_{family.budget}"
    return [replace(panel, name=f"{prefix}{panel.name}{suffix}") for panel in panels]


# Curves over tasks.


def accuracy_panel(family: Family) -> Panel:
    """Panel of the accuracy on all classes seen so far after each task, for a few results."""
    return _curves(
        family,
        _accuracies(_drawn(family)),
        1,
        name="accuracy_over_tasks",
        title=_of_budget("Accuracy over tasks", family),
        label=_ACCURACY,
        caption="Accuracy on the test images of all classes seen so far, mean of the runs.",
    )


def forgetting_panel(family: Family) -> Panel:
    """Panel of the mean forgetting of earlier tasks after each task, for a few results."""
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
        label="forgetting, percentage points",
        caption=(
            "Drop of the accuracy on the classes of each earlier task from its best, averaged "
            "over these tasks and the runs; lower is better."
        ),
    )


def accuracy_of_all(families: Sequence[Family]) -> Figure:
    """Figure of the accuracy over tasks of all results: one plot per family, coloured by kind."""
    figure = blank(1 + 5.2 * len(families), 5.6)
    panels = figure.subplots(1, len(families), squeeze=False)[0]
    for axes, family in zip(panels, families, strict=True):
        plain_axes(axes)
        ends = {}
        for one in family.results:
            look = {"color": KINDS[kind_of(one)], "lw": 1.2, "alpha": 0.75}
            if one.method == OWN_METHOD:
                look |= {"lw": 2.4, "alpha": 1, "zorder": 3}
            rows = _curve(axes, one.name, 1, _accuracies([one])[one.name], look)
            ends[one.name] = rows[-1][2], look["color"]
        last = max(len(record.scores) for one in family.results for record in one.records)
        name_ends(axes, ends, last)
        axes.set(title=family.title, xlabel="tasks learned", ylim=(-3, 103), xlim=(0.8, last + 1.9))
        _task_ticks(axes, 1, last)
    figure.axes[0].set_ylabel(f"{_ACCURACY} (mean of runs)")
    legend_of_kinds(figure)
    return figure


def _accuracies(results: Sequence[Result]) -> dict[str, Curves]:
    return {one.name: [record.curve() for record in one.records] for one in results}


def _drawn(family: Family) -> list[Result]:
    """The baseline, the best results and an upper bound, as many as can be distinguished."""
    bounds = [one for one in family.results if one not in family.ranked][:1]
    best = [one for one in family.ranked if one is not family.baseline]
    room = MAX_CURVES - 1 - len([one for one in bounds if one is not family.baseline])
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
    """A panel of curves over tasks, starting at task number ``first``."""
    figure, axes = new_axes(*NARROW)
    rows: list[list[Any]] = []
    others = [one for one in curves if one != family.baseline.name]
    for result, runs in curves.items():
        number = 0 if result == family.baseline.name else 1 + others.index(result)
        look = curve_look(number)
        rows += _curve(axes, result, first, runs, look, (0, 100) if first == 1 else (-100, 100))
    axes.set(xlabel="tasks learned (number of tasks)", ylabel=label)
    if first == 1:
        axes.set_ylim(-3, 103)
    else:
        # Points that are all equal would be drawn on an axis of hundredths.
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, -1), max(high, 1))
    _task_ticks(axes, first, max(row[1] for row in rows))
    legend_below(figure, axes.get_legend_handles_labels()[0])
    chosen = ""
    if left := len(family.results) - len(curves):
        chosen = (
            f" Shows the baseline {family.baseline.name} and the best other results, "
            f"{len(curves)} in all; {left} more are in the tables."
        )
    band = said_of_spread([len(runs) for runs in curves.values()], "bands")
    text = f"{caption} The legend gives the value after the last task. {band}{chosen}"
    return Panel(name, title, text, figure, ["result", "tasks", label, "low", "high", "runs"], rows)


def _curve(
    axes: Axes,
    result: str,
    first: int,
    runs: Curves,
    look: Mapping[str, Any],
    limits: tuple[float, float] | None = None,
) -> list[list[Any]]:
    """Draw the mean over runs and its band.

    Returns:
        rows of numbers: result, task, mean, ends of the band, number of runs.
    """
    columns = [*zip(*runs, strict=True)]
    means = [estimate(column).mean for column in columns]
    tasks = np.arange(first, first + len(means))
    axes.plot(tasks, means, label=f"{shortened(result)}: {means[-1]:.0f}", **look)
    bands = [spread(column) for column in columns]
    if limits and (known := [band for band in bands if band is not None]):
        low, high = np.clip(np.array(known).T, *limits)
        axes.fill_between(tasks, low, high, color=look["color"], alpha=0.14, lw=0)
    return [
        [result, task, mean, *(band or (None, None)), len(runs)]
        for task, mean, band in zip(tasks.tolist(), means, bands, strict=True)
    ]


def _task_ticks(axes: Axes, first: int, last: int) -> None:
    axes.set_xticks(range(first, last + 1, 1 + (last - first) // _TICKS))


# Differences.


def difference_panel(family: Family) -> Panel:
    """Panel with the difference of each result from the baseline and its interval."""
    name, found = family.baseline.name, [*reversed(family.differences)]
    figure, axes = new_axes(NARROW[0], 1.1 + 0.19 * max(len(found), 4))
    rows: list[list[object]] = []
    for place, one in enumerate(found):
        band, sure = _band(one), one.holm_p <= LEVEL
        if band is not None:
            axes.plot(band, [place, place], color=OTHERS, lw=1.3, solid_capstyle="butt")
        fill = OTHERS if sure else "none"
        axes.plot(one.gap.mean, place, "o", ms=4.5, mec=OTHERS, mfc=fill, mew=1.2)
        ends = band or (None, None)
        rows.append([one.result.name, one.gap.mean, *ends, len(one.runs), one.holm_p])
    axes.axvline(0, color=OWN, lw=1.4, zorder=1)
    axes.set_yticks(range(len(found)), [shortened(one.result.name) for one in found])
    axes.set_ylim(-0.7, len(found) - 0.3)
    # Aligned to use the room below the names too.
    axes.set_xlabel("difference in final accuracy, percentage points", loc="right")
    axes.set_ylabel("result (best on top)")
    caption = (
        f"Mean difference in final accuracy from {name} over paired runs; right of the line is "
        f"more accurate. "
        f"{said_of_spread([len(one.runs) for one in found])} "
        f"Filled dots are significant at {LEVEL} after Holm's correction, hollow ones are not."
    )
    head = ["result", "difference_points", "low", "high", "paired_runs", "holm_p"]
    text = _of_budget(f"Differences from {name}", family)
    return Panel("differences", text, caption, figure, head, rows[::-1])


def _band(one: Difference) -> tuple[float, float] | None:
    known = spread(one.gaps)
    return None if known is None else (max(known[0], -100.0), min(known[1], 100.0))


def _of_budget(text: str, family: Family) -> str:
    return text if family.budget is None else f"{text}, {in_bytes(family.budget)}"
