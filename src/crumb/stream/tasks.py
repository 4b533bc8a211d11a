"""Build and check the tasks of a run, and choose held-out training frames."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from crumb.data.filelists import read_task_list
from crumb.data.index import Dataset, load_dataset
from crumb.data.protocol import Frames, TaskList, lay_out
from crumb.errors import InputError, setting
from crumb.seeds import derive
from crumb.stream.config import ProtocolConfig


def open_dataset(folder: Path, classes: Sequence[str]) -> Dataset:
    """The data set, or only some of its classes; errors as its parts."""
    dataset = load_dataset(folder)
    return dataset.select(classes) if classes else dataset


def tasks_of(config: ProtocolConfig, dataset: Dataset, run: int, offline: bool) -> TaskList:
    """The tasks of one run, laid out or read from lists.

    Raises:
        InputError: see :func:`crumb.data.protocol.lay_out` and
            :func:`crumb.data.filelists.read_task_list`; or a list names an unknown image or has
            inconsistent labels, or a class has no test image.
    """
    if config.filelists is None:
        tasks = lay_out(dataset, config.protocol, run, offline, config.layout)
    else:
        lists = read_task_list(
            config.filelists, config.protocol, run, offline, dataset.images, None
        )
        tasks = replace(lists, classes=_classes(lists, dataset, config.filelists))
    if config.filelists is None and not dataset.test_sessions:
        root = dataset.made_of[1] if dataset.made_of else "FOLDER"
        raise InputError(
            dataset.folder,
            f"was indexed with {setting('test', False)}, so there is nothing to test on",
            f"index it again without, or make a model with crumb learn {shlex.quote(root)}",
        )
    tested = set(tasks.test.labels.tolist())
    for label, name in enumerate(tasks.classes):
        if label not in tested:
            raise InputError(
                config.filelists or dataset.folder,
                f"has no test image of class {name!r}",
                f"add some, or choose other classes with {setting('classes')}",
            )
    return tasks


def _classes(tasks: TaskList, dataset: Dataset, lists: Path) -> tuple[str, ...]:
    """The class names of labels 0, 1, ..., taken from the images, because lists hold only
    numbers.
    """
    numbers = dataset.index["class"].tolist()
    names = [dataset.class_names[number] for number in numbers]
    name_of = dict(zip(dataset.index["im_path"].tolist(), names, strict=True))
    found: dict[int, str] = {}
    for frames in (*tasks.tasks, tasks.test):
        for path, label in zip(frames.paths, frames.labels.tolist(), strict=True):
            name = name_of.get(path)
            if name is None:
                problem = f"list {path}, whose class is not in the stream"
                raise InputError(
                    lists, problem, f"write the lists again, with the same {setting('classes')}"
                )
            if found.setdefault(label, name) != name:
                problem = f"give both {found[label]} and {name} the label {label}"
                raise InputError(lists, problem, "write the lists again")
    names = [found[label] for label in sorted(found)]
    for label, name in enumerate(names):
        if name in names[:label]:
            problem = f"give {name} the labels {names.index(name)} and {label}"
            raise InputError(lists, problem, "write the lists again")
    return tuple(names)


def relabelled(tasks: TaskList) -> TaskList:
    """Renumber labels in order of first appearance, as in every task list.

    Args:
        tasks: tasks with images removed; every class still has at least one.
    """
    order = pd.unique(np.concatenate([frames.labels for frames in tasks.tasks]))
    new_label = np.argsort(order)
    return replace(
        tasks,
        tasks=tuple(replace(frames, labels=new_label[frames.labels]) for frames in tasks.tasks),
        test=replace(tasks.test, labels=new_label[tasks.test.labels]),
        classes=tuple(tasks.classes[label] for label in order.tolist()),
        laid_out=None,
    )


def epochs_of(config: ProtocolConfig, tasks: TaskList, least: int = 1) -> list[int]:
    """Number of epochs of each task, for a learner that needs a minimum number."""
    first, later = config.readings
    return [max(least, count) for count in (first, *[later] * (len(tasks.tasks) - 1))]


def held_out(config: ProtocolConfig, tasks: TaskList, epochs: Sequence[int]) -> list[np.ndarray]:
    """Choose the held-out training frames of each task that select its best epoch.

    An image is held out for the whole run or not at all, because it may occur twice (in a clip
    continued backwards, or in later offline tasks). So held-out images are never learned from.

    Args:
        config: configuration of the stream.
        tasks: tasks of the run.
        epochs: number of epochs of each task. Nothing is held out if neither it nor a later task
            has several epochs.

    Returns:
        for each task a bool mask (n,), true for held-out frames.

    Raises:
        InputError: a task would have no training frame or no held-out frame.
    """
    paths = dict.fromkeys(path for frames in tasks.tasks for path in frames.paths)
    draws = np.random.default_rng(derive(tasks.run, "validation")).random(len(paths))
    share = config.evaluation.validation_share
    held = {path for path, draw in zip(paths, draws, strict=True) if draw < share}
    masks = []
    for task, frames in enumerate(tasks.tasks):
        selects = config.evaluation.select_best_epoch and max(epochs[task:]) > 1
        mask = np.array([selects and path in held for path in frames.paths])
        if selects and (mask.all() or not mask.any()):
            what, size = ("learn from", "smaller") if mask.all() else ("select on", "larger")
            raise InputError(
                setting("validation_share", share),
                f"leaves task {task} of run {tasks.run} nothing to {what}",
                f"give a {size} one",
            )
        masks.append(mask)
    return masks


def choose(frames: Frames, mask: np.ndarray) -> Frames:
    """The frames where ``mask`` (bool, (n,)) is true, in order."""
    chosen = np.flatnonzero(mask)
    return Frames(tuple(frames.paths[i] for i in chosen), frames.labels[chosen])
