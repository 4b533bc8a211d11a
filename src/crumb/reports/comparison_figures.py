"""Pictures of a comparison: accuracy over tasks, against bytes and against seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crumb.experiments.compare import Comparison
from crumb.methods.registry import find_method
from crumb.reports.comparison import Row, table, title
from crumb.reports.figures import COLOURS, write_figure
from crumb.stream.record import RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OWN, _BOUND, _STORING, _OTHER = COLOURS[1], "#555555", COLOURS[0], COLOURS[2]
_LEGEND = {
    "crumb": _OWN,
    "keeps exemplars": _STORING,
    "keeps none": _OTHER,
    "upper bound": _BOUND,
}


def draw(comparison: Comparison, folder: Path) -> list[Path]:
    """The three pictures.

    Args:
        comparison: with at least one finished run.
        folder: of the PNGs.

    Returns:
        their paths.
    """
    paths = [folder / f"accuracy_{name}.png" for name in ("over_tasks", "by_bytes", "by_seconds")]
    over_tasks(comparison, paths[0])
    by_bytes(comparison, paths[1])
    by_seconds(comparison, paths[2])
    return paths


def over_tasks(comparison: Comparison, path: Path) -> None:
    """Mean accuracy on all classes seen so far after each task, one panel for each budget."""
    from matplotlib.figure import Figure

    budgets = [budget for budget in comparison.budgets if comparison.of_budget(budget)]
    figure = Figure(figsize=(1 + 5.2 * len(budgets), 5.6), dpi=130, layout="constrained")
    panels = figure.subplots(1, len(budgets), squeeze=False)[0]
    for axes, budget in zip(panels, budgets, strict=True):
        methods = comparison.of_budget(budget)
        ends = {name: _curve(methods, name)[-1] for name in methods}
        heights = spread([*ends.values()], min(3.6, 100 / len(ends)))
        for name, height in zip(ends, heights, strict=True):
            curve, colour = _curve(methods, name), _colour(name)
            tasks = np.arange(1, len(curve) + 1)
            wide = 2.4 if name == "crumb" else 1.2
            axes.plot(tasks, curve, color=colour, lw=wide, alpha=1 if name == "crumb" else 0.75)
            axes.annotate(
                f"{name} {curve[-1]:.0f}",
                (tasks[-1], curve[-1]),
                (tasks[-1] + 0.35, height),
                va="center",
                fontsize=7.5,
                color=colour,
                arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.4, "alpha": 0.6},
            )
        last = max(len(record.scores) for records in methods.values() for record in records)
        axes.set(
            title=title(budget),
            xlabel="tasks learned",
            ylim=(-3, 103),
            xlim=(0.8, last + 1.9),
            xticks=range(1, last + 1),
        )
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("accuracy on classes seen, % (mean of runs)")
    _legend(figure.axes[0])
    write_figure(figure, path)


def by_bytes(comparison: Comparison, path: Path) -> None:
    """Final accuracy against all extra bytes; a line joins the budgets of a method."""
    label = "all extra bytes (exemplars, codebook, copies of weights, ...)"
    _scatter(_points(comparison), label, path, True)


def by_seconds(comparison: Comparison, path: Path) -> None:
    """Final accuracy against the seconds of learning and storing; likewise."""
    _scatter(_points(comparison), "seconds of learning and storing, a run", path, False)


def _points(comparison: Comparison) -> dict[str, list[Row]]:
    """The rows of each method, one for each budget; of one without exemplars a single one."""
    points: dict[str, list[Row]] = {}
    for budget in comparison.budgets:
        for row in table(comparison, budget):
            if row.method not in points or find_method(row.method).stores_exemplars():
                points.setdefault(row.method, []).append(row)
    return points


def _scatter(points: Mapping[str, Sequence[Row]], label: str, path: Path, of_bytes: bool) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(8.6, 5.6), dpi=130, layout="constrained")
    axes = figure.subplots()
    labels = []
    for name, rows in points.items():
        x = [row.total_bytes if of_bytes else row.seconds for row in rows]
        y = np.array([row.final.mean for row in rows])
        ends = np.array([[row.final.low, row.final.high] for row in rows]).T
        colour = _colour(name)
        line = "-" if of_bytes else "none"
        spans = {"ls": line, "marker": "o", "ms": 4, "lw": 1, "elinewidth": 0.8}
        axes.errorbar(x, y, abs(ends - y), color=colour, **spans)
        labels.append((x[-1], float(y[-1]), name, colour))
    what = "accuracy after the last task, % (mean; bars: lowest and highest run)"
    axes.set(xlabel=label, ylabel=what, ylim=(-3, 103))
    if of_bytes:
        axes.set_xscale("symlog", linthresh=10_000)
        axes.set_xlim(left=0)
    else:
        axes.set_xscale("log", subs=[])
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:.0f}")
    annotate(axes, labels)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    _legend(axes)
    write_figure(figure, path)


def annotate(
    axes: Axes,
    labels: Sequence[tuple[float, float, str, str]],
    room: tuple[float, float] = (0.08, 0.028),
) -> None:
    """Names beside points, higher where another name is in the way.

    Args:
        axes: with its limits and scales as they stay.
        labels: of each point x and y in the units of the data, its name and its colour.
        room: width and height that a name takes, as shares of those of the axes.
    """
    width, lift = room
    taken: list[tuple[float, float]] = []
    # From the lowest up, so that names are in the order of their points.
    for x, y, name, colour in sorted(labels, key=lambda label: label[1]):
        place, height = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))
        while any(abs(place - p) < width and abs(height - h) < lift for p, h in taken):
            height += lift
        taken.append((place, height))
        axes.annotate(
            name,
            (x, y),
            (place + 0.008, height + 0.006),
            textcoords="axes fraction",
            fontsize=8,
            color=colour,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.4, "alpha": 0.6},
        )


def spread(values: Sequence[float], gap: float) -> list[float]:
    """Heights from 0 to 100 nearest to these values, at least ``gap`` apart, in the same order.

    Args:
        values: where the labels would be; at least one.
        gap: between two neighbours; so small that all find room.
    """
    from scipy.optimize import isotonic_regression

    order = np.argsort(values, kind="stable")
    steps = gap * np.arange(len(order))
    # Without the gaps, heights that keep them are heights that do not fall.
    lowest = isotonic_regression(np.array(values, dtype=float)[order] - steps).x
    found = np.empty(len(order))
    found[order] = lowest.clip(0, 100 - steps[-1]) + steps
    return found.tolist()


def _curve(methods: Mapping[str, Sequence[RunRecord]], name: str) -> np.ndarray:
    return np.mean([record.curve() for record in methods[name]], axis=0)


def _colour(method: str) -> str:
    kind = find_method(method)
    if method == "crumb":
        return _OWN
    if kind.offline:
        return _BOUND
    return _STORING if kind.stores_exemplars() else _OTHER


def _legend(axes: Axes) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour, lw=2, label=name) for name, colour in _LEGEND.items()]
    axes.legend(handles=handles, frameon=False, fontsize=8, loc="lower left")
