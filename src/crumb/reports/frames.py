"""Frames of each task: thumbnails for the page, and a picture of a whole stream."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from PIL import Image

from crumb.data.index import Dataset
from crumb.data.pictures import load_picture
from crumb.data.protocol import TaskLayout, TaskList
from crumb.data.spacing import evenly
from crumb.errors import InputError
from crumb.files import write_bytes
from crumb.reports.families import Result
from crumb.reports.panels import as_png
from crumb.stream.config import StreamConfig
from crumb.stream.tasks import open_dataset, tasks_of

MAX_TASKS, MAX_FRAMES = 8, 6
_SIDE, _QUALITY = 96, 72


@dataclass(frozen=True)
class TaskFrames:
    """Sample frames of a task.

    Attributes:
        task: number of the task, from 1.
        frames: class name and JPEG of each frame, in stream order.
    """

    task: int
    frames: tuple[tuple[str, bytes], ...]


def sample_frames(result: Result) -> list[TaskFrames]:
    """Evenly spaced frames of each task of the first run, for at most 8 evenly spaced tasks.

    Raises:
        InputError: data set or images were moved or have changed.
    """
    settings, record = result.settings, result.records[0]
    folder = Path(str(settings["stream.dataset"]))
    if not folder.is_dir():
        problem = "is no longer there, or not on this machine"
        raise InputError(folder, problem, "restore the data set to see its frames")
    config = _config(settings, folder)
    dataset = open_dataset(folder, config.classes)
    if dataset.digest != settings["files.index"]:
        raise InputError(folder, "has changed since the run", "index the original data again")
    tasks = tasks_of(config, dataset, record.run, False)
    return [
        TaskFrames(
            number + 1,
            tuple(
                (tasks.classes[frames.labels[place]], _jpeg(dataset, frames.paths[place]))
                for place in evenly(len(frames.paths), MAX_FRAMES).tolist()
            ),
        )
        for number in evenly(len(tasks.tasks), MAX_TASKS).tolist()
        for frames in [tasks.tasks[number]]
    ]


def _config(settings: Mapping[str, Any], folder: Path) -> StreamConfig:
    """The part of the configuration that determines the tasks."""
    sizes = [own.name for own in fields(TaskLayout)]
    given = {name: settings[key] for name in sizes if (key := f"stream.layout.{name}") in settings}
    lists = settings.get("stream.filelists")
    return StreamConfig(
        folder,
        protocol=settings["stream.protocol"],
        classes=tuple(settings.get("stream.classes", ())),
        layout=TaskLayout(**given),
        filelists=None if lists is None else Path(lists),
    )


def _jpeg(dataset: Dataset, path: str) -> bytes:
    pixels = load_picture(dataset.images / path, _SIDE, dataset.resize)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=_QUALITY)
    return content.getvalue()


def task_frames(tasks: TaskList, images: Path, path: Path, columns: int = 10) -> None:
    """Draw evenly spaced frames of each task, one row per task.

    Args:
        tasks: tasks with training frames.
        images: root folder of their paths.
        path: PNG file to write.
        columns: frames per task, at most.
    """
    from matplotlib.figure import Figure

    rows = len(tasks.tasks)
    figure = Figure(figsize=(1.1 * columns, 1.32 * rows), dpi=100, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for number, (axes, frames) in enumerate(zip(grid, tasks.tasks, strict=True), 1):
        for one in axes:
            one.set(xticks=[], yticks=[], frame_on=False)
        for one, place in zip(axes, evenly(len(frames.paths), columns), strict=False):
            with Image.open(images / frames.paths[place]) as image:
                one.imshow(image.convert("RGB"))
            one.set_title(tasks.classes[frames.labels[place]], fontsize=8, pad=2)
        axes[0].set_ylabel(f"task {number}", fontsize=9)
    figure.suptitle("The stream, from left to right and from top to bottom", fontsize=11)
    write_bytes(path, as_png(figure))
