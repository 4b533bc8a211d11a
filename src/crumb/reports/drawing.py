"""Shared drawing code of the figures: axes, style, bars, legends and names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from crumb.files import short_name
from crumb.methods.facts import facts
from crumb.reports.families import OWN_METHOD, Result
from crumb.reports.intervals import estimate
from crumb.reports.panels import COLOURS, blank

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
"""Contrast of at least 3:1 on light and dark pages; curves also differ in line and marker."""
OWN, OTHERS = PALETTE[:2]
KINDS = {
    "crumb": COLOURS[1],
    "keeps exemplars": COLOURS[0],
    "keeps none": COLOURS[2],
    "upper bound": "#555555",
}
"""Colours of kinds of results, for figures with too many results for individual colours."""
_LINES, _MARKERS = ("-", "--", "-.", ":"), "osD^vPX*"
# Inches; narrow enough to be readable on a phone.
NARROW = (3.8, 3.0)
_TWO, _SMALL, _LINE = 2, 8, 0.165
# Length of a name that fills half a line, in characters.
_LONG = 20
_MAX_LETTERS = 29


def new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure without a background, with size in inches, and its axes."""
    figure = blank(width, height)
    axes = figure.subplots()
    plain_axes(axes)
    axes.tick_params(labelsize=_SMALL)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_fontsize(_SMALL + 1)
    return figure, axes


def plain_axes(axes: Axes) -> None:
    """Style axes with a faint grid in the background and no frame."""
    axes.set_facecolor("none")
    axes.grid(alpha=0.3, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def curve_look(number: int) -> dict[str, Any]:
    """Line, marker and colour of a curve; the curve with number 0 is drawn thicker, on top."""
    return {
        "ls": _LINES[number % len(_LINES)],
        "marker": _MARKERS[number % len(_MARKERS)],
        "lw": 1.4 if number else 2.2,
        "zorder": 2 if number else 3,
        "color": PALETTE[number % len(PALETTE)],
        "ms": 3.5,
    }


def kind_of(result: Result) -> str:
    """The kind (one of :data:`KINDS`) of a result."""
    if result.method == OWN_METHOD:
        return "crumb"
    if result.is_bound:
        return "upper bound"
    return "keeps exemplars" if facts(result.method).stores_exemplars else "keeps none"


def spread(values: Sequence[float]) -> tuple[float, float] | None:
    """Ends of a bar or band: the 95 % interval (Student's t), or both values of two runs; None for
    one.
    """
    known = estimate(values)
    if known.half is None:
        return None
    if len(values) == _TWO:
        return known.low, known.high
    return known.mean - known.half, known.mean + known.half


def said_of_spread(counts: Sequence[int], what: str = "bars") -> str:
    """Caption of bars or bands, for the given numbers of runs."""
    runs = sorted(set(counts))
    said = []
    if many := [str(n) for n in runs if n > _TWO]:
        said.append(
            f"the {what} are 95 % intervals of the mean over {' or '.join(many)} runs (Student's t)"
        )
    if _TWO in runs:
        said.append(f"for two runs the {what} span both values, which is not a confidence interval")
    if 1 in runs:
        said.append("one run has no interval")
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}."


def legend_below(figure: Figure, handles: Sequence[Any]) -> None:
    """Draw a legend below the axes, in one column if its names are long."""
    longest = max(len(handle.get_label()) for handle in handles)
    columns = 2 if longest <= _LONG else 1
    place = "outside lower center"
    figure.legend(handles=handles, loc=place, ncols=columns, frameon=False, fontsize=_SMALL)
    rows = -(-len(handles) // columns)
    figure.set_figheight(figure.get_figheight() + _LINE * rows)


def legend_of_kinds(figure: Figure) -> None:
    """Draw the legend of :data:`KINDS` below the axes."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour, lw=2, label=name) for name, colour in KINDS.items()]
    place = "outside lower center"
    figure.legend(handles=handles, loc=place, ncols=len(KINDS), frameon=False, fontsize=_SMALL)


def name_ends(axes: Axes, ends: Mapping[str, tuple[float, str]], x: float) -> None:
    """Write names at the right ends of curves without overlap.

    Args:
        axes: percentage axes with the curves.
        ends: height of each curve's end and its colour, by name.
        x: x position of the ends.
    """
    heights = apart([y for y, _ in ends.values()], min(3.6, 100 / len(ends)))
    for (name, (y, colour)), height in zip(ends.items(), heights, strict=True):
        _named(axes, f"{name} {y:.0f}", (x, y), (x + 0.35, height), colour, "data")


def apart(values: Sequence[float], gap: float) -> list[float]:
    """Heights from 0 to 100 closest to these values, at least ``gap`` apart and in the same order.

    Args:
        values: preferred heights; at least one.
        gap: minimum distance, small enough for all to fit.
    """
    from scipy.optimize import isotonic_regression

    order = np.argsort(values, kind="stable")
    steps = gap * np.arange(len(order))
    # Subtracting the gaps turns the constraint into non-decreasing heights.
    lowest = isotonic_regression(np.array(values, dtype=float)[order] - steps).x
    found = np.empty(len(order))
    found[order] = lowest.clip(0, 100 - steps[-1]) + steps
    return found.tolist()


def name_points(
    axes: Axes,
    labels: Sequence[tuple[float, float, str, str]],
    room: tuple[float, float] = (0.08, 0.028),
) -> None:
    """Write names next to points, moved up if another name is in the way.

    Args:
        axes: axes with everything that determines their limits.
        labels: x and y in data units, name and colour of each point.
        room: width and height of a name as shares of the axes.
    """
    width, lift = room
    # Query the limits, which matplotlib computes lazily.
    axes.get_xlim()
    taken: list[tuple[float, float]] = []
    # Bottom up, so that names keep the order of their points.
    for x, y, name, colour in sorted(labels, key=lambda label: label[1]):
        place, height = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))
        while any(abs(place - p) < width and abs(height - h) < lift for p, h in taken):
            height += lift
        taken.append((place, height))
        _named(axes, name, (x, y), (place + 0.008, height + 0.006), colour, "axes fraction")


def _named(
    axes: Axes,
    name: str,
    point: tuple[float, float],
    place: tuple[float, float],
    colour: str,
    unit: str,
) -> None:
    axes.annotate(
        name,
        point,
        place,
        textcoords=unit,
        va="center" if unit == "data" else "baseline",
        fontsize=_SMALL,
        color=colour,
        arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.4, "alpha": 0.6},
    )


def shortened(name: str) -> str:
    """Shorten a long name in the middle for a narrow figure."""
    return name if len(name) <= _MAX_LETTERS else f"{name[:8]}…{name[-20:]}"


def slug(name: str) -> str:
    """A valid file name made from a title."""
    # The suffix identifies the figure and its result or group.
    return short_name(re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("_."), 180)
