"""Figures of a report: accuracy against bytes and against seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_lowercase
from typing import TYPE_CHECKING

import numpy as np

from crumb.reports.comparison_figures import annotate
from crumb.reports.panels import Panel
from crumb.reports.report import Experiment, Result
from crumb.reports.report_figures import (
    HEIGHT,
    OTHERS,
    OWN,
    PALETTE,
    legend_below,
    new_axes,
    said_of_spread,
    shortened,
    spread,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BEST, _OTHER = OTHERS, PALETTE[-1]
_NAMED = 14
"""Points that are named."""
_BYTES = ("bytes kept besides the network", "bytes")
_SECONDS = ("time of learning and storing, seconds a run", "seconds")


def panels_of_experiment(experiment: Experiment, prefix: str) -> list[Panel]:
    """Accuracy against bytes and against seconds, where there is more than one result."""
    if len(experiment.results) == 1:
        return []
    return [
        cost_panel(experiment, prefix + "accuracy_by_bytes", _BYTES),
        cost_panel(experiment, prefix + "accuracy_by_seconds", _SECONDS),
    ]


def cost_panel(experiment: Experiment, name: str, cost: tuple[str, str]) -> Panel:
    """Final accuracy against a cost; those that no other beats in both are joined and named."""
    label, unit = cost
    results = experiment.results
    costs = {
        one.name: float(one.row.total_bytes if unit == "bytes" else one.row.seconds)
        for one in results
    }
    baselines = {family.baseline.name for family in experiment.families}
    front = pareto({o.name: (costs[o.name], o.row.final.mean) for o in results if not o.is_bound})
    figure, axes = new_axes(HEIGHT)
    axes.plot(*_steps([(costs[n], y) for n, y in front.items()]), color=_BEST, lw=1, zorder=1)
    rows: list[list[object]] = []
    for one in sorted(results, key=lambda one: one.name in baselines or one.name in front):
        x, mean, band = costs[one.name], one.row.final.mean, spread([*one.finals.values()])
        colour, marker, fill = _look(one, front, baselines)
        if band is not None:
            axes.plot([x, x], np.clip(band, 0, 100), color=colour, lw=0.9, alpha=0.7)
        axes.plot(x, mean, marker, color=colour, ms=5, mfc=fill)
        rows.append([one.name, x, mean, *(band or (None, None)), one.row.runs, one.name in front])
    axes.set(xlabel=label, ylabel="final accuracy, %", ylim=(-3, 108))
    _cost_axis(axes, [*costs.values()], unit)
    named = [one for one in results if one.name in baselines or one.is_bound]
    named += [one for one in results if one.name in front and one not in named]
    named = sorted(named[:_NAMED], key=lambda one: (costs[one.name], one.row.final.mean))
    looks = {o.name: _look(o, front, baselines) for o in named}
    letters = dict(zip(looks, ascii_lowercase, strict=False))
    points = [(costs[o.name], o.row.final.mean, letters[o.name], "#000000") for o in named]
    annotate(axes, points, (0.04, 0.045))
    _key(figure, {f"{letters[name]}  {shortened(name)}": look for name, look in looks.items()})
    caption = (
        f"Final accuracy against {unit}, one point a result (means; for bytes the most of any "
        f"run). Up and to the left is better: no result is both more accurate and cheaper than "
        f"one on the line. Diamonds: what the others are compared with; squares: upper bounds; "
        f"dots: other results. {said_of_spread([one.row.runs for one in results])}"
        f"{' k: thousand, M: million.' if unit == 'bytes' else ''}"
    )
    head = ["result", unit, "final_accuracy_percent", "low", "high", "runs", "on_the_line"]
    return Panel(name, f"Accuracy against {unit}", caption, figure, head, rows)


def pareto(points: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Names of points that no other beats, and their gain, cheapest first.

    Args:
        points: cost and gain by name. One is beaten by another that costs no more and gains no
            less, unless the two are equal.
    """
    found: dict[str, float] = {}
    best = -np.inf
    for name, (_, gain) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1])):
        if gain > best or (found and points[[*found][-1]] == points[name]):
            found[name], best = gain, gain
    return found


def _steps(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Corners of a line that rises where the next point is."""
    x: list[float] = []
    y: list[float] = []
    for cost, gain in points:
        x += [cost] * (2 if y else 1)
        y += [*y[-1:], gain]
    return x, y


def _look(one: Result, front: Mapping[str, float], baselines: set[str]) -> tuple[str, str, str]:
    """Colour, marker and colour inside of a point."""
    if one.name in baselines:
        return OWN, "D", OWN
    if one.is_bound:
        return _OTHER, "s", "none"
    return (_BEST, "o", _BEST) if one.name in front else (_OTHER, ".", _OTHER)


def _cost_axis(axes: Axes, costs: Sequence[float], unit: str) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

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


def _key(figure: Figure, looks: Mapping[str, tuple[str, str, str]]) -> None:
    """Which point is which, below the axes."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, marker=marker, mfc=fill, ls="none", ms=5, label=name)
        for name, (colour, marker, fill) in looks.items()
    ]
    legend_below(figure, handles)
