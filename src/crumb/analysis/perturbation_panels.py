"""Figures of the test under perturbations: what is lost, and which of two arms loses less."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crumb.analysis.perturbations import MEANING, NONE, advantages, drops
from crumb.reports.intervals import in_words, over_runs
from crumb.reports.panels import COLOURS, Panel, blank
from crumb.reports.statistics import holm, paired_permutation

Accuracies = Mapping[int, Mapping[str, float]]
"""Percent, by run, then perturbation."""


def drop_panel(arms: Mapping[str, Accuracies]) -> Panel:
    """Share of the accuracy that each arm loses under each perturbation.

    Args:
        arms: accuracies of each, by name; at least one run each.
    """
    kinds = [kind for kind in next(iter(next(iter(arms.values())).values())) if kind != NONE]
    figure = blank(7.2, 1.5 + 0.3 * len(kinds) * len(arms))
    axes = figure.subplots()
    rows: list[list[object]] = []
    handles: dict[str, Any] = {}
    for number, (arm, accuracies) in enumerate(arms.items()):
        lost = drops(accuracies)
        for place, kind in enumerate(kinds):
            accuracy = over_runs([of_run[kind] for of_run in accuracies.values()])
            whole = over_runs([of_run[NONE] for of_run in accuracies.values()])
            plain = [arm, kind, whole.mean, *accuracy.span()]
            if kind not in lost:
                rows.append([*plain, None, None, None, 0])
                continue
            values = [100 * value for value in lost[kind].values()]
            value = over_runs(values)
            rows.append([*plain, *value.span(), value.runs])
            height = place + (number - (len(arms) - 1) / 2) * 0.8 / len(arms)
            bar = np.array([value.bar()]).T
            style = {"color": COLOURS[number], "ecolor": "#444444", "capsize": 3, "alpha": 0.75}
            bars = axes.barh(height, value.mean, 0.72 / len(arms), xerr=bar, **style)
            handles.setdefault(arm, bars)
            axes.plot(values, [height] * len(values), ".", color="#444444", ms=4)
    axes.set_yticks(range(len(kinds)), [MEANING[kind] for kind in kinds])
    axes.invert_yaxis()
    axes.axvline(0, color="#777777", lw=0.8)
    axes.set(xlabel="accuracy lost, % of the unperturbed accuracy", ylabel="perturbation")
    axes.grid(axis="x", alpha=0.3)
    if len(arms) > 1:
        # Named here, as a label of bars that begins with _ is left out.
        key = (list(handles.values()), list(handles))
        figure.legend(*key, frameon=False, loc="outside upper right")
    runs = min(len(accuracies) for accuracies in arms.values())
    caption = (
        "Relative loss of accuracy on the test images (direct path, top-1) when feature maps are "
        "perturbed at the cut, each image by itself, or pictures are stylised. Permuted positions "
        "destroy shape; zero channels and style destroy texture. Dots: runs. "
        f"{in_words(runs)}"
    )
    header = ["arm", "perturbation", "unperturbed accuracy, %", "accuracy, %", "low", "high"]
    header += ["relative drop, %", "low", "high", "runs"]
    title = "Accuracy lost under perturbations"
    return Panel("perturbations", title, caption, figure, header, rows)


def advantage_panel(names: Sequence[str], own: Accuracies, other: Accuracies) -> Panel | None:
    """How much less the first arm loses than the second, over the runs that both have.

    Args:
        names: names of the two.
        own: accuracies of the first.
        other: those of the second.

    Returns:
        the panel; None where no run of both has anything to lose.
    """
    found = advantages(own, other)
    if not found:
        return None
    p_values = {
        kind: paired_permutation([*values.values()], [0.0] * len(values), 0)
        for kind, values in found.items()
    }
    corrected = holm(p_values)
    figure = blank(7.2, 1.4 + 0.36 * len(found))
    axes = figure.subplots()
    rows: list[list[object]] = []
    for place, (kind, values) in enumerate(found.items()):
        points = [100 * value for value in values.values()]
        value = over_runs(points)
        bar = np.array([value.bar()]).T
        axes.errorbar(value.mean, place, xerr=bar, fmt="o", color=COLOURS[0], capsize=4)
        axes.plot(points, [place + 0.2] * len(points), ".", color="#777777", ms=4)
        rows.append([kind, *value.span(), p_values[kind], corrected[kind], value.runs])
    axes.set_yticks(range(len(found)), [MEANING[kind] for kind in found])
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.axvline(0, color="#777777", lw=0.8)
    axes.set(xlabel=f"advantage of {names[0]}, percentage points")
    axes.set_ylabel("perturbation")
    axes.grid(axis="x", alpha=0.3)
    caption = (
        f"Relative drop of {names[1]} minus that of {names[0]}, run by run: above 0, {names[0]} "
        f"loses less. Small dots: runs. {in_words(len(next(iter(found.values()))))} The table has "
        "p-values of a paired permutation test over the runs, plain and corrected for the number "
        "of perturbations (Holm)."
    )
    header = ["perturbation", "advantage, points", "low", "high", "p", "p after Holm", "runs"]
    title = "Shape and texture: who loses less"
    return Panel("perturbation_advantage", title, caption, figure, header, rows)
