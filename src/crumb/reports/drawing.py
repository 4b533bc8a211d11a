"""What the figures of results have in common: axes, looks, bars, legends and names."""

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
"""At least 3 : 1 against both papers of the page; curves differ in line and marker as well."""
OWN, OTHERS = PALETTE[:2]
KINDS = {
    "crumb": COLOURS[1],
    "keeps exemplars": COLOURS[0],
    "keeps none": COLOURS[2],
    "upper bound": "#555555",
}
"""Colours of results where there are too many for a colour each."""
# Inches; so narrow that its words can be read on a phone.
NARROW = (3.8, 3.0)
_TWO, _SMALL, _LINE = 2, 8, 0.165
# Letters of a name that fills half a line.
_LONG = 20
_MAX_LETTERS = 29


def new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure without a background, of a size in inches, and its axes."""
    figure = blank(width, height)
    axes = figure.subplots()
    plain_axes(axes)
    axes.tick_params(labelsize=_SMALL)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_fontsize(_SMALL + 1)
    return figure, axes


def plain_axes(axes: Axes) -> None:
    """Axes with a faint grid behind what is drawn, and no frame."""
    axes.set_facecolor("none")
    axes.grid(alpha=0.3, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def kind_of(result: Result) -> str:
    """Which of :data:`KINDS` a result is."""
    if result.method == OWN_METHOD:
        return "crumb"
    if result.is_bound:
        return "upper bound"
    return "keeps exemplars" if facts(result.method).stores_exemplars else "keeps none"


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


def legend_below(figure: Figure, handles: Sequence[Any]) -> None:
    """A legend below the axes, in one column where its names are long."""
    longest = max(len(handle.get_label()) for handle in handles)
    columns = 2 if longest <= _LONG else 1
    place = "outside lower center"
    figure.legend(handles=handles, loc=place, ncols=columns, frameon=False, fontsize=_SMALL)
    rows = -(-len(handles) // columns)
    figure.set_figheight(figure.get_figheight() + _LINE * rows)


def legend_of_kinds(figure: Figure) -> None:
    """What the colours of :data:`KINDS` mean, below the axes."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour, lw=2, label=name) for name, colour in KINDS.items()]
    place = "outside lower center"
    figure.legend(handles=handles, loc=place, ncols=len(KINDS), frameon=False, fontsize=_SMALL)


def name_ends(axes: Axes, ends: Mapping[str, tuple[float, str]], x: float) -> None:
    """Names to the right of the ends of curves, none on another.

    Args:
        axes: of percents, with the curves.
        ends: of each curve the height of its end and its colour, by name.
        x: of the ends.
    """
    heights = apart([y for y, _ in ends.values()], min(3.6, 100 / len(ends)))
    for (name, (y, colour)), height in zip(ends.items(), heights, strict=True):
        _named(axes, f"{name} {y:.0f}", (x, y), (x + 0.35, height), colour, "data")


def apart(values: Sequence[float], gap: float) -> list[float]:
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


def name_points(
    axes: Axes,
    labels: Sequence[tuple[float, float, str, str]],
    room: tuple[float, float] = (0.08, 0.028),
) -> None:
    """Names beside points, higher where another name is in the way.

    Args:
        axes: with all that decides its limits.
        labels: of each point x and y in the units of the data, its name and its colour.
        room: width and height that a name takes, as shares of those of the axes.
    """
    width, lift = room
    # Asked for, as limits that follow from what was drawn are not there before.
    axes.get_xlim()
    taken: list[tuple[float, float]] = []
    # From the lowest up, so that names are in the order of their points.
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
    """A name for a narrow figure: the middle of a long one is left out."""
    return name if len(name) <= _MAX_LETTERS else f"{name[:8]}…{name[-20:]}"


def slug(name: str) -> str:
    """What the name of a file may hold."""
    # What is added says which figure it is, and of which result or group.
    return short_name(re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("_."), 180)
