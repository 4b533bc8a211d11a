"""Pictures of results."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crumb.data.protocol import TaskList
from crumb.files import write_bytes
from crumb.reports.lettering import as_written
from crumb.stream.record import RunRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's palette: told apart with any colour vision, and in grey by the line style."""
_LINES = ("-", "--", "-.", ":")


def accuracy_curves(methods: Mapping[str, Sequence[RunRecord]], path: Path) -> None:
    """Accuracy on all classes seen so far, after each task; the band is one standard deviation.

    Args:
        methods: runs of each, all over equally many tasks.
        path: of the PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    for number, (name, records) in enumerate(methods.items()):
        curves = np.array([record.curve() for record in records])
        tasks, mean = np.arange(1, curves.shape[1] + 1), curves.mean(0)
        colour = COLOURS[number % len(COLOURS)]
        style = _LINES[number % len(_LINES)]
        label = f"{name}: {mean[-1]:.0f} % at the end"
        axes.plot(tasks, mean, style, color=colour, marker="o", label=label)
        if len(curves) > 1:
            spread = curves.std(0, ddof=1)
            axes.fill_between(tasks, mean - spread, mean + spread, color=colour, alpha=0.15, lw=0)
    count = max(len(record.classes) for records in methods.values() for record in records)
    runs = len(next(iter(methods.values())))
    band = f"mean ± standard deviation of {runs} runs" if runs > 1 else "one run"
    axes.set(
        xlabel=f"tasks learned ({count} classes after the last)",
        ylabel="accuracy on classes seen, %",
        ylim=(0, 103),
        title=f"What is still known after each task ({band})",
    )
    axes.set_xticks(range(1, max(len(r[0].scores) for r in methods.values()) + 1))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower left")
    write_figure(figure, path)


def task_frames(tasks: TaskList, images: Path, path: Path, columns: int = 10) -> None:
    """Frames of each task, evenly spaced along the stream: one row a task.

    Args:
        tasks: laid out.
        images: root folder of their paths.
        path: of the PNG.
        columns: frames per task.
    """
    from matplotlib.figure import Figure
    from PIL import Image

    rows = len(tasks.tasks)
    figure = Figure(figsize=(1.1 * columns, 1.32 * rows), dpi=100, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for number, frames in enumerate(tasks.tasks):
        chosen = np.linspace(0, len(frames.paths) - 1, columns).round().astype(int)
        for axes, index in zip(grid[number], chosen, strict=True):
            with Image.open(images / frames.paths[index]) as image:
                axes.imshow(image.convert("RGB"))
            axes.set_title(tasks.classes[frames.labels[index]], fontsize=8, pad=2)
            axes.set_xticks([])
            axes.set_yticks([])
        grid[number][0].set_ylabel(f"task {number + 1}", fontsize=9)
    figure.suptitle("The stream, from left to right and from top to bottom", fontsize=11)
    write_figure(figure, path)


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    content = io.BytesIO()
    with as_written(figure):
        figure.savefig(content, format="png")
    write_bytes(path, content.getvalue())
