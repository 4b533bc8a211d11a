"""The figure of accuracy against the rate of the stream."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crumb.reports.drawing import (
    NARROW,
    curve_look,
    legend_below,
    new_axes,
    said_of_spread,
    shortened,
    spread,
)
from crumb.reports.families import Result, in_bytes
from crumb.reports.panels import Panel
from crumb.reports.reader import Report, stream_of
from crumb.reports.wording import dataset_name

RATE = "stream.stream_rate"
_MOST = 8
_CAPTION = (
    "Final accuracy against the number of frames that arrive per second. Frames that arrive while "
    "the learner is busy are lost, so a method that takes longer learns from fewer."
)


def rate_panels(report: Report) -> list[Panel]:
    """A figure for each stream on which a method has results with several rates."""
    streams: dict[tuple[str, ...], dict[str, Result]] = {}
    for one in report.results:
        if one.settings.get(RATE) is not None:
            stream = (*map(str, stream_of(one.settings).items()),)
            streams.setdefault(stream, {})[one.name] = one
    drawn = [_curves([*results.values()]) for results in streams.values()]
    found = [curves for curves in drawn if curves]
    names = ["accuracy_by_rate"]
    if len(found) > 1:
        names = [f"accuracy_by_rate_{number}" for number in range(1, 1 + len(found))]
    return [_panel(curves, name) for curves, name in zip(found, names, strict=False)]


def _curves(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Results of each method and budget by ascending rate; only those with several rates."""
    budgets = len({one.budget for one in results if one.budget is not None})
    found: dict[str, list[Result]] = {}
    for one in sorted(results, key=lambda one: one.settings[RATE]):
        several = budgets > 1 and one.budget is not None
        name = f"{one.method}, {in_bytes(one.budget)}" if several else one.method
        found.setdefault(name, []).append(one)
    return {
        name: curve
        for name, curve in found.items()
        if len({one.settings[RATE] for one in curve}) > 1
    }


def _panel(curves: dict[str, list[Result]], name: str) -> Panel:
    best = sorted(curves, key=lambda one: -curves[one][0].figures.final.mean)[:_MOST]
    figure, axes = new_axes(*NARROW)
    rows: list[list[object]] = []
    for number, method in enumerate(best):
        look = curve_look(number)
        rates = [one.settings[RATE] for one in curves[method]]
        means = [one.figures.final.mean for one in curves[method]]
        axes.plot(rates, means, label=shortened(method), **look)
        for one, rate, mean in zip(curves[method], rates, means, strict=True):
            bar = spread([*one.finals.values()])
            if bar is not None:
                axes.plot([rate, rate], np.clip(bar, 0, 100), color=look["color"], lw=0.9)
            lost = [record.images_lost for record in one.records if record.images_lost is not None]
            share = sum(lost) / (sum(lost) + sum(record.images for record in one.records))
            rows.append([method, rate, mean, *(bar or (None, None)), 100 * share, len(one.records)])
    axes.set_xscale("log")
    axes.set(xlabel="rate, frames per second", ylabel="final accuracy, %", ylim=(-3, 103))
    legend_below(figure, axes.get_legend_handles_labels()[0])
    shown = [one for method in best for one in curves[method]]
    caption = f"{_CAPTION} {said_of_spread([one.figures.runs for one in shown])}"
    if left := len(curves) - len(best):
        caption += f" Shows the {_MOST} best methods at the lowest rate; {left} more are left out."
    title = f"Accuracy against rate: {dataset_name(shown[0].settings)}"
    head = ["method", "frames_per_second", "final_accuracy_percent", "low", "high"]
    return Panel(name, title, caption, figure, [*head, "lost_percent", "runs"], rows)
