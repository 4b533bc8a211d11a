"""Reconstruction error of feature maps over the stream, and drift of stored exemplars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from crumb.reports.intervals import OverRuns, in_words, over_runs
from crumb.reports.panels import COLOURS, Panel, blank


def relative_errors(maps: Tensor, rebuilt: Tensor) -> np.ndarray:
    """||f - reconstruction||^2 / ||f||^2 of each map; 0 is perfect, 1 as good as all zeros.

    Args:
        maps: float [B, C, H, W].
        rebuilt: float [B, C, H, W].

    Returns:
        float64 [B]; NaN for maps of zeros.
    """
    apart = (maps - rebuilt).double().square().flatten(1).sum(1)
    return (apart / maps.double().square().flatten(1).sum(1)).cpu().numpy()


def cosines(maps: Tensor, rebuilt: Tensor) -> np.ndarray:
    """Cosine of the angle between each map and its reconstruction: 1 where only lengths differ.

    Args:
        maps: float [B, C, H, W].
        rebuilt: float [B, C, H, W].

    Returns:
        float64 [B]; NaN where either is of zeros.
    """
    one, other = maps.double().flatten(1), rebuilt.double().flatten(1)
    lengths = one.norm(dim=1) * other.norm(dim=1)
    return ((one * other).sum(1) / lengths).cpu().numpy()


def drift(codes: np.ndarray, then: np.ndarray, now: np.ndarray) -> float:
    """Drift of the reconstructions of stored indices, caused by tuning the blocks.

    ||C_now[indices] - C_then[indices]||^2 / ||C_then[indices]||^2, mean over the exemplars.

    Args:
        codes: int64 [n, N], n above 0.
        then: blocks with which they were stored, [K, D].
        now: the blocks later, [K, D].
    """
    moved = ((now - then).astype(np.float64) ** 2).sum(1)[codes].sum(1)
    length = (then.astype(np.float64) ** 2).sum(1)[codes].sum(1)
    return float(np.mean(moved / length))


def stored_since(
    held: Mapping[str, np.ndarray], before: Mapping[str, np.ndarray]
) -> np.ndarray | None:
    """Exemplars that are held now and were not before.

    Args:
        held: the indices of the exemplars of each class, int64 [n, N], by name.
        before: likewise.

    Returns:
        int64 [m, N]; None where there is none.
    """
    new = []
    for name, rows in held.items():
        known = {row.tobytes() for row in before.get(name, ())}
        new += [row for row in rows if row.tobytes() not in known]
    return np.stack(new) if new else None


@dataclass
class TaskSnapshots:
    """History of a learner over the tasks of one run.

    Attributes:
        tasks: numbers, from 1, ascending.
        errors: mean relative error on the test images of all classes seen, after each.
        blocks: the codebook after each, [K, D].
        stored: indices of the exemplars stored in each, int64 [n, N], or None.
    """

    tasks: list[int] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    blocks: list[np.ndarray] = field(default_factory=list)
    stored: list[np.ndarray | None] = field(default_factory=list)

    def drifts(self) -> dict[tuple[int, int], float]:
        """The drift of what was stored in a task, after it and each later one: by both numbers."""
        return {
            (task, self.tasks[later]): drift(codes, self.blocks[place], self.blocks[later])
            for place, (task, codes) in enumerate(zip(self.tasks, self.stored, strict=True))
            if codes is not None
            for later in range(place, len(self.tasks))
        }


def error_panel(runs: Sequence[TaskSnapshots]) -> Panel:
    """Relative error on the test images of all classes seen so far, after each task."""
    by_task: dict[int, list[float]] = {}
    for snapshots in runs:
        for task, error in zip(snapshots.tasks, snapshots.errors, strict=True):
            by_task.setdefault(task, []).append(error)
    values = {task: over_runs(by_task[task]) for task in sorted(by_task)}
    rows = [[task, *value.span(), value.runs] for task, value in values.items()]
    figure = blank(5.6, 3.4)
    axes = figure.subplots()
    bars = np.array([value.bar() for value in values.values()]).T
    means = [value.mean for value in values.values()]
    axes.errorbar([*values], means, bars, color=COLOURS[0], marker="o", capsize=3)
    what = "relative squared error"
    axes.set(xlabel="tasks learned", ylabel=f"{what}, ratio", ylim=(0, None), xticks=[*values])
    axes.grid(alpha=0.3)
    caption = (
        "Squared distance between the feature map of a test image and its reconstruction from "
        "memory blocks, divided by the squared length of the map (0: perfect; 1: no better than "
        "zeros), mean over the test images of all classes seen so far. "
        f"{in_words(len(runs))}"
    )
    header = ["tasks learned", "relative error", "low", "high", "runs"]
    title = "Error of reconstruction over the stream"
    return Panel("reconstruction_error", title, caption, figure, header, rows)


def drift_panel(runs: Sequence[TaskSnapshots]) -> Panel | None:
    """Drift of what was stored in each task, after it and each later one; None without any."""
    found: dict[tuple[int, int], list[float]] = {}
    for snapshots in runs:
        for key, value in snapshots.drifts().items():
            found.setdefault(key, []).append(value)
    values: dict[int, dict[int, OverRuns]] = {}
    for (task, later), drifts in sorted(found.items()):
        values.setdefault(task, {})[later] = over_runs(drifts)
    if not any(len(curve) > 1 for curve in values.values()):
        return None
    figure = blank(5.6, 3.6)
    axes = figure.subplots()
    for number, (task, curve) in enumerate(values.items()):
        bars = np.array([value.bar() for value in curve.values()]).T
        means = [value.mean for value in curve.values()]
        style = {"color": COLOURS[number % len(COLOURS)], "capsize": 3, "marker": "o", "ms": 4}
        line = ("-", "--", "-.", ":")[number // len(COLOURS) % 4]
        axes.errorbar([*curve], means, bars, ls=line, label=f"task {task}", **style)
    last = max(later for curve in values.values() for later in curve)
    what = "relative squared drift"
    axes.set(
        xlabel="tasks learned", ylabel=f"{what}, ratio", ylim=(0, None), xticks=range(1, last + 1)
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, title="stored in", ncols=1 + len(values) // 7)
    caption = (
        "How far the reconstructions of stored exemplars have moved since the end of the task in "
        "which they were stored, because memory blocks were tuned: squared distance of the same "
        "indices read with today's and with that day's blocks, divided by the squared length of "
        f"the latter, mean over the exemplars that were stored. {in_words(len(runs))}"
    )
    rows = [
        [task, later, *value.span(), value.runs]
        for task, curve in values.items()
        for later, value in curve.items()
    ]
    header = ["stored in task", "tasks learned", "relative drift", "low", "high", "runs"]
    title = "Drift of stored exemplars"
    return Panel("exemplar_drift", title, caption, figure, header, rows)
