"""Find broken images, and remove them from the tasks."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from crumb.data.pictures import load_picture
from crumb.data.protocol import Frames, TaskList
from crumb.device import lone_workers
from crumb.errors import InputError, setting
from crumb.progress import bar
from crumb.stream.tasks import choose, relabelled

# Maximum number of images checked at a time; all of ImageNet's would take a gigabyte.
_AT_ONCE = 1000
_SETTING = setting("on_error", "skip")
_REMEDY = "repair some of the images that crumb stream reports without it"


def broken_images(
    images: Path, task_lists: Iterable[TaskList], size: int, workers: int
) -> dict[str, str]:
    """Decode every image of the tasks once and collect the errors.

    Args:
        images: root folder of the paths.
        task_lists: tasks of all runs.
        size: side of the decoded image in pixels.
        workers: number of reader threads.

    Returns:
        the problem of each broken image, by path.
    """
    paths = [path for tasks in task_lists for frames in _all(tasks) for path in frames.paths]
    distinct = list(dict.fromkeys(paths))
    broken: dict[str, str] = {}
    check = partial(_problem, images, size)
    progress = bar(None, "checking images", "image", total=len(distinct))
    with progress, lone_workers(workers, "check") as pool:
        for start in range(0, len(distinct), _AT_ONCE):
            part = distinct[start : start + _AT_ONCE]
            for path, problem in zip(part, pool.map(check, part), strict=True):
                if problem is not None:
                    broken[path] = problem
                progress.update()
    return broken


def leave_out(tasks: TaskList, broken: Container[str]) -> TaskList:
    """The tasks without some images; the order of the others is unchanged.

    Labels number the classes in order of first appearance, as in every task list. They are
    renumbered if a class lost its first images.

    Raises:
        InputError: a task or class would have no training image left, or a class no test image.
    """
    learned = [_whole(frames, broken) for frames in tasks.tasks]
    test = _whole(tasks.test, broken)
    for task, frames in enumerate(learned):
        if not frames.paths:
            raise InputError(
                _SETTING, f"leaves no image in task {task} of run {tasks.run}", _REMEDY
            )
    known = {label for frames in learned for label in frames.labels.tolist()}
    tested = set(test.labels.tolist())
    for label, name in enumerate(tasks.classes):
        if label not in known & tested:
            purpose = "be tested on" if label in known else "learn from"
            problem = f"leaves class {name!r} no image to {purpose}"
            raise InputError(_SETTING, problem, _REMEDY)
    return relabelled(replace(tasks, tasks=tuple(learned), test=test))


def _all(tasks: TaskList) -> tuple[Frames, ...]:
    return (*tasks.tasks, tasks.test)


def _problem(images: Path, size: int, path: str) -> str | None:
    try:
        load_picture(images / path, size)
    except InputError as error:
        # Either the image is damaged or memory is short. The latter is no reason to skip it.
        if isinstance(error.__cause__, MemoryError):
            raise
        return error.problem_in_flags()
    return None


def _whole(frames: Frames, broken: Container[str]) -> Frames:
    return choose(frames, np.array([path not in broken for path in frames.paths], bool))
