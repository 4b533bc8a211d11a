"""Confusion matrix, and forgetting per class, over the runs of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from crumb.reports.intervals import in_words, over_runs
from crumb.reports.panels import COLOURS, Panel, blank
from crumb.stream.record import RunRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_NUMBERS = 14
_MAX_NAMES = 40


def confusion_shares(record: RunRecord) -> np.ndarray | None:
    """Percentage of each class's test images (row) predicted as each class (column).

    The row of a class without test images is NaN. None if confusions were not recorded.
    """
    counts = record.confusion_matrix()
    if counts is None:
        return None
    totals = counts.sum(1, keepdims=True)
    return np.divide(100 * counts, totals, np.full(counts.shape, np.nan), where=totals > 0)


def confusion_panel(records: Sequence[RunRecord]) -> Panel | None:
    """Panel of the confusion matrix after the last task, averaged over runs.

    Args:
        records: records of at least one run; the same classes in any order.

    Returns:
        the panel; None if a run (of an old version) did not record it.
    """
    names = records[0].classes
    tables = []
    for record in records:
        shares = confusion_shares(record)
        if shares is None:
            return None
        places = [record.classes.index(name) for name in names]
        tables.append(shares[np.ix_(places, places)])
    cells, mean = np.array(tables), np.mean(tables, axis=0)
    rows = [
        [name, other, mean[i, j], cells[:, i, j].min(), cells[:, i, j].max()]
        for i, name in enumerate(names)
        for j, other in enumerate(names)
    ]
    of_runs = "one run" if len(records) == 1 else f"mean of {len(records)} runs"
    caption = (
        "Percentage of a class's test images (row) predicted as each class (column) after the "
        f"last task; top-1, {of_runs}. Classes are in the order of the first run. The table has "
        "the lowest and the highest run of each cell."
    )
    header = ["class", "taken for", "share, %", "lowest run, %", "highest run, %"]
    title = "Confusion matrix"
    return Panel("confusion", title, caption, _heat_map(mean, names), header, rows)


def _heat_map(shares: np.ndarray, names: Sequence[str]) -> Figure:
    side = 2.2 + min(6.0, 0.42 * len(names))
    figure = blank(side + 1.2, side)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, ax=axes, label="share of the class's test images, %", shrink=0.8)
    axes.set(xlabel="taken for class", ylabel="class")
    if len(names) <= _MAX_NAMES:
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
    else:
        axes.set(xlabel="taken for class, by number", ylabel="class, by number")
    if len(names) <= _MAX_NUMBERS:
        for (i, j), share in np.ndenumerate(shares):
            if share >= 0.5:
                colour = "white" if share > 55 else "black"
                axes.text(j, i, f"{share:.0f}", ha="center", va="center", fontsize=8, color=colour)
    return figure


def class_forgetting(record: RunRecord) -> dict[str, tuple[float, float]] | None:
    """Best accuracy of each class before the last task, and its accuracy after it, in percent.

    Forgetting is their difference, as in Chaudhry et al., "Riemannian Walk", ECCV 2018, equation 3,
    with classes instead of tasks. Classes of the last task are left out, because they cannot be
    forgotten yet.

    Returns:
        by name; None if accuracies by class were not recorded.
    """
    accuracy = record.class_accuracy()
    if accuracy is None:
        return None
    found = {}
    for name, row in zip(record.classes, accuracy, strict=True):
        known = [value for value in row if value is not None and not np.isnan(value)]
        if len(known) > 1:
            found[name] = (max(known[:-1]), known[-1])
    return found


def class_forgetting_panel(records: Sequence[RunRecord]) -> Panel | None:
    """Panel of the mean forgetting per class, most forgotten first.

    Args:
        records: records of at least one run.

    Returns:
        the panel; None if a run (of an old version) did not record it, or all classes came with the
            last task.
    """
    runs: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        found = class_forgetting(record)
        if found is None:
            return None
        for name, pair in found.items():
            runs.setdefault(name, []).append(pair)
    if not runs:
        return None
    drops = {name: over_runs([best - last for best, last in v]) for name, v in runs.items()}
    order = sorted(drops, key=lambda name: -drops[name].mean)
    rows = [
        [name, *drops[name].span(), *np.mean(runs[name], axis=0).tolist(), drops[name].runs]
        for name in order
    ]
    shown = order[:_MAX_NAMES]
    figure = blank(6.4, 1.2 + 0.28 * len(shown))
    axes = figure.subplots()
    means = [drops[name].mean for name in shown]
    bars = np.array([drops[name].bar() for name in shown]).T
    style = {"ecolor": "#777777", "capsize": 3, "color": COLOURS[0], "height": 0.7}
    axes.barh(range(len(shown)), means, xerr=bars, **style)
    axes.set_yticks(range(len(shown)), shown)
    axes.invert_yaxis()
    axes.axvline(0, color="#777777", lw=0.8)
    low, high = axes.get_xlim()
    axes.set(xlabel="forgetting, percentage points", ylabel="class")
    axes.set_xlim(min(low, -1), max(high, 1))
    axes.grid(axis="x", alpha=0.3)
    caption = (
        "Best accuracy on the test images of a class after any task but the last, minus that after "
        f"the last. {in_words(len(records))} Runs in which a class came with the last task do not "
        "count for it. Fewer than three runs have no interval."
    )
    if len(shown) < len(order):
        caption += f" Shows the {len(shown)} most forgotten of {len(order)} classes."
    header = ["class", "forgetting, points", "low", "high", "best, %", "last, %", "runs"]
    title = "Forgetting by class"
    return Panel("class_forgetting", title, caption, figure, header, rows)
