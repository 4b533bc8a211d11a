"""Final accuracy against cost in bytes and seconds: figures, and the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from crumb.reports.drawing import (
    KINDS,
    NARROW,
    OTHERS,
    OWN,
    PALETTE,
    kind_of,
    legend_below,
    legend_of_kinds,
    name_points,
    new_axes,
    said_of_spread,
    shortened,
    spread,
)
from crumb.reports.families import Result, over_budget
from crumb.reports.key_figures import columns
from crumb.reports.panels import Panel
from crumb.reports.reader import Experiment
from crumb.reports.table import Column, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BEST, _OTHER = OTHERS, PALETTE[-1]
_NAMED = 14
"""Maximum number of named points."""
LABELS = {
    "bytes": "bytes kept besides the network",
    "seconds": "time of learning and storing, seconds a run",
}
"""Axis label of each cost, by unit."""
_OVER = "Hollow circles kept more bytes than the budget and are not on the line. "
_HEAD = ("final", "total_bytes", "seconds", "runs")
Name = TypeVar("Name")


def panels_of_experiment(experiment: Experiment, prefix: str) -> list[Panel]:
    """Panels of accuracy against bytes and seconds, if there are several results."""
    if len(experiment.results) == 1:
        return []
    return [cost_panel(experiment, f"{prefix}accuracy_by_{unit}", unit) for unit in LABELS]


def cost_panel(experiment: Experiment, name: str, unit: str) -> Panel:
    """Panel of final accuracy against a cost, with the Pareto front joined and named."""
    results = experiment.results
    known = {one.name: (_cost(one, unit), one.figures.final.mean) for one in results}
    front, over = front_of(results, unit), over_budget(results)
    baselines = {family.baseline.name for family in experiment.families}
    figure, axes = new_axes(*NARROW)
    axes.plot(*_steps([known[name] for name in front]), color=_BEST, lw=1, zorder=1)
    looks = {one.name: _look(one, front, baselines, over) for one in results}
    # Draw the emphasised points last.
    order = sorted(results, key=lambda one: one.name in baselines or one.name in front)
    rows = [
        [
            *(one.name, *_point(axes, one, unit, looks[one.name])),
            *(one.figures.runs, one.name in front, one.name in over),
        ]
        for one in order
    ]
    _cost_axes(axes, [cost for cost, _ in known.values()], unit)
    named = [one.name for one in results if one.name in baselines or one.is_bound]
    named += [one.name for one in results if one.name in front and one.name not in named]
    named = sorted(named[:_NAMED], key=lambda name: known[name])
    letters = dict(zip(named, ascii_lowercase, strict=False))
    points = [(*known[name], letter, "#000000") for name, letter in letters.items()]
    name_points(axes, points, (0.04, 0.045))
    _key(figure, {f"{letters[name]}  {shortened(name)}": looks[name] for name in named})
    caption = (
        f"Final accuracy against {unit}, one point per result (means; for bytes the maximum over "
        "runs). Up and to the left is better: no result is both more accurate and cheaper than "
        "one on the line. Diamonds: baselines; squares: upper bounds; dots: other results. "
        f"{_OVER if over else ''}"
        f"{said_of_spread([one.figures.runs for one in results])}"
        f"{' k: thousand, M: million.' if unit == 'bytes' else ''}"
    )
    head = ["result", unit, "final_accuracy_percent", "low", "high", "runs", "on_the_line"]
    head.append("over_budget")
    return Panel(name, f"Accuracy against {unit}", caption, figure, head, rows)


def front_of(results: Sequence[Result], unit: str) -> dict[str, float]:
    """The Pareto front of final accuracy against a cost, cheapest first.

    Upper bounds and results over their budget are not on it.

    Args:
        results: results on one stream.
        unit: one of :data:`LABELS`.

    Returns:
        mean final accuracy in percent by name of the result.
    """
    over = over_budget(results)
    allowed = [one for one in results if not one.is_bound and one.name not in over]
    return pareto({one.name: (_cost(one, unit), one.figures.final.mean) for one in allowed})


def front_table(experiment: Experiment) -> Table:
    """All results with their costs, and on which fronts each one is."""
    results = experiment.results
    fronts, over = {unit: front_of(results, unit) for unit in LABELS}, over_budget(results)
    rows = []
    for one in results:
        said = ", ".join(unit for unit, front in fronts.items() if one.name in front) or "-"
        if one.is_bound or one.name in over:
            said = "upper bound" if one.is_bound else "over budget"
        rows.append([one.name, *one.figures.cells(_HEAD), said])
    return Table([Column("result"), *columns(_HEAD), Column("on the front", kind="words")], rows)


def cost_of_all(results: Sequence[Result], unit: str) -> Figure:
    """Figure of final accuracy against a cost, coloured by kind of result.

    For bytes, a line joins the results of one method with several budgets.
    """
    figure, axes = new_axes(8.6, 5.6)
    methods: dict[str, list[Result]] = {}
    for one in sorted(results, key=lambda one: one.budget or 0):
        methods.setdefault(one.method, []).append(one)
    labels = []
    for method, group in methods.items():
        look = {"color": KINDS[kind_of(group[0])], "marker": "o", "ms": 4}
        points = [_point(axes, one, unit, look)[:2] for one in group]
        if unit == "bytes":
            axes.plot(*zip(*points, strict=True), color=look["color"], lw=1)
        labels.append((*points[-1], method, look["color"]))
    _cost_axes(axes, [_cost(one, unit) for one in results], unit)
    axes.set_ylabel("final accuracy, % (mean; bars: 95 % interval, or both of two runs)")
    name_points(axes, labels)
    legend_of_kinds(figure)
    return figure


def _cost(one: Result, unit: str) -> float:
    return float(one.figures.total_bytes if unit == "bytes" else one.figures.seconds)


def _point(axes: Axes, one: Result, unit: str, look: Mapping[str, Any]) -> tuple[Any, ...]:
    """Draw a result and its bar; returns cost, mean and the ends of the bar."""
    x, y, bar = _cost(one, unit), one.figures.final.mean, spread([*one.finals.values()])
    if bar is not None:
        axes.plot([x, x], np.clip(bar, 0, 100), color=look["color"], lw=0.9, alpha=0.7)
    axes.plot(x, y, ls="none", **look)
    return x, y, *(bar or (None, None))


def pareto(points: Mapping[Name, tuple[float, float]]) -> dict[Name, float]:
    """The Pareto front: names and gains, cheapest first.

    Args:
        points: cost and gain by name. A point is dominated by another that costs no more and gains
            no less, unless both are equal.
    """
    found: dict[Name, float] = {}
    best = -np.inf
    for name, (_, gain) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1])):
        if gain > best or (found and points[[*found][-1]] == points[name]):
            found[name], best = gain, gain
    return found


def _steps(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Corners of the step line through the points."""
    x: list[float] = []
    y: list[float] = []
    for cost, gain in points:
        x += [cost] * (2 if y else 1)
        y += [*y[-1:], gain]
    return x, y


def _look(
    one: Result, front: Mapping[str, float], baselines: set[str], over: set[str]
) -> dict[str, Any]:
    if one.name in baselines:
        fill = "none" if one.name in over else OWN
        return {"color": OWN, "marker": "D", "mfc": fill, "ms": 5}
    if one.is_bound:
        return {"color": _OTHER, "marker": "s", "mfc": "none", "ms": 5}
    if one.name in over:
        return {"color": _OTHER, "marker": "o", "mfc": "none", "ms": 4}
    if one.name in front:
        return {"color": _BEST, "marker": "o", "mfc": _BEST, "ms": 5}
    return {"color": _OTHER, "marker": ".", "mfc": _OTHER, "ms": 5}


def _cost_axes(axes: Axes, costs: Sequence[float], unit: str) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set(xlabel=LABELS[unit], ylabel="final accuracy, %", ylim=(-3, 108))
    if unit == "bytes" and min(costs) <= 0:
        least = min((cost for cost in costs if cost > 0), default=1.0)
        axes.set_xscale("symlog", linthresh=10 ** np.floor(np.log10(least)))
        axes.set_xlim(left=-0.3 * 10 ** np.floor(np.log10(least)))
    elif max(costs) > 5 * min(costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
    axes.xaxis.set_major_formatter(lambda value, _: short_number(value))
    if axes.get_xscale() != "linear":
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.08)


def short_number(value: float) -> str:
    """`250 k` for 250,000, `1.5 M` for 1,500,000."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _key(figure: Figure, looks: Mapping[str, Mapping[str, Any]]) -> None:
    """Key of the points below the axes."""
    from matplotlib.lines import Line2D

    legend_below(figure, [Line2D([], [], ls="none", label=n, **look) for n, look in looks.items()])
