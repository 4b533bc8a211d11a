"""The four protocols: how the images of a data set become a stream of tasks.

======================  =============================  ============================================
protocol                a task holds                   order inside a task
======================  =============================  ============================================
``iid``                 any images                     images shuffled
``class_iid``           all images of a few classes    images shuffled
``instance``            a few clips of any class       clips shuffled, frames in time order
``class_instance``      all clips of a few classes     clips shuffled, frames in time order
======================  =============================  ============================================

Run r of a protocol is laid out with seed r. For ``class_iid`` and ``class_instance`` it equals the
lists published with CRUMB, line by line. The other two protocols differ on purpose:

* ``iid``: the published tasks are one row too long, so the last row of a task is also the first row
  of the next one. Here tasks do not overlap.
* ``instance``: the published lookup compares a clip's class with the object column and its object
  with the session column, which loses most clips. Here a clip is (class, object, session).

If a data set has groups of classes, classes are shuffled within each group, and groups follow one
another. Test images keep the order of the index.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from crumb.data.index import COLUMNS, Dataset
from crumb.errors import InputError, require, setting
from crumb.kinds import check_kinds

PROTOCOLS = ("iid", "class_iid", "instance", "class_instance")

# Arrays of class ids, each shuffled separately.
_Groups = Sequence[np.ndarray]


@dataclass(frozen=True)
class Frames:
    """Images in order.

    Attributes:
        paths: n paths relative to the images root of the data set.
        labels: (n,) int64, the label of each image.
    """

    paths: tuple[str, ...]
    labels: np.ndarray


@dataclass(frozen=True)
class TaskList:
    """One run of a protocol.

    Attributes:
        protocol: One of ``PROTOCOLS``.
        run: Number of the run, which is its seed.
        offline: Whether task t holds the images of tasks 0..t (an upper bound, not a stream).
        tasks: The training images of each task, in the order they arrive.
        test: The test images of all classes; empty if the data set has no test session.
        classes: Class name of label 0, 1, ...; labels count classes in order of first appearance.
        laid_out: Index rows of the tasks; None if the tasks were read from file lists.
    """

    protocol: str
    run: int
    offline: bool
    tasks: tuple[Frames, ...]
    test: Frames
    classes: tuple[str, ...]
    laid_out: LaidOut | None = None

    @property
    def table(self) -> pd.DataFrame | None:
        """The rows of all tasks in one table; None if the tasks were read from file lists.

        Its columns are ``Unnamed: 0`` (row number in the index), ``COLUMNS``, task and label. It is
        large, so it is made again at each use.
        """
        return None if self.laid_out is None else self.laid_out.table(self.tasks)


@dataclass(frozen=True)
class LaidOut:
    """The rows of an index that form the tasks of a run.

    Attributes:
        index: one row per image; shared by all runs.
        rows: (n,) int64, row numbers in the index, task by task.
    """

    index: pd.DataFrame
    rows: np.ndarray

    def table(self, tasks: Sequence[Frames]) -> pd.DataFrame:
        """See :attr:`TaskList.table`."""
        table = self.index[list(COLUMNS)].iloc[self.rows].reset_index(drop=True)
        table.insert(0, "Unnamed: 0", self.rows)
        table["task"] = np.repeat(np.arange(len(tasks)), [len(task.paths) for task in tasks])
        table["label"] = np.concatenate([task.labels for task in tasks])
        return table


@dataclass(frozen=True)
class TaskLayout:
    """Sizes of tasks.

    Raises:
        InputError: a number is below 1 or too large.
    """

    classes_per_task: int = 2
    """New classes in each task of the class protocols."""
    images_per_task: int | None = None
    """Images in each task of iid. By default there are as many tasks as in the class protocols, all
    of the same size (to within one image)."""
    clips_per_task: int | None = None
    """Clips in each task of instance. By default there are as many tasks as in the class
    protocols."""

    def __post_init__(self) -> None:
        check_kinds(self)
        for name in ("classes_per_task", "images_per_task", "clips_per_task"):
            value = getattr(self, name)
            if value is not None:
                require(name, value, 1 <= value < 1 << 63, "from 1 to 2^63 - 1")


def lay_out(
    dataset: Dataset,
    protocol: str,
    run: int,
    offline: bool = False,
    layout: TaskLayout = TaskLayout(),
) -> TaskList:
    """Lay out one run of a protocol.

    ``class_iid`` and ``class_instance`` equal the published lists. Unlike the published lists,
    ``iid`` tasks do not overlap and ``instance`` finds every clip (see the module). The result
    depends only on the arguments: no global generator is used.

    Args:
        dataset: The data set. Rows of its test sessions are the test set, all others the training
            set.
        protocol: One of ``PROTOCOLS``.
        run: Seed of the run, 0 or more. The published runs are 0 to 9.
        offline: Let task t contain all images of tasks 0..t, shuffled again.
        layout: Sizes of the tasks.

    Raises:
        InputError: the protocol is unknown, the run is out of range, the training set is empty, the
            data set has test sessions without images, or a class has only test images.
    """
    if protocol not in PROTOCOLS:
        raise InputError(
            setting("protocol"), f"{protocol!r} is unknown", f"use {', '.join(PROTOCOLS)}"
        )
    if not 0 <= run < 2**32:
        raise InputError(setting("run"), f"is {run}", "give a number from 0 to 4294967295")
    train, test = _split(dataset)
    by_protocol = {
        "iid": _iid,
        "class_iid": _class_iid,
        "instance": _instance,
        "class_instance": _class_instance,
    }
    tasks = by_protocol[protocol](train, _class_groups(dataset, train), run, offline, layout)
    rows = np.concatenate(tasks)
    order = pd.Index(pd.unique(train["class"].to_numpy()[rows]))
    ends = np.cumsum([len(task) for task in tasks])[:-1]
    whole = _frames(train, rows, order)
    paths = np.split(np.array(whole.paths, object), ends)
    labels = np.split(whole.labels, ends)
    return TaskList(
        protocol=protocol,
        run=run,
        offline=offline,
        tasks=tuple(map(Frames, map(tuple, paths), labels)),
        test=_frames(test, np.arange(len(test)), order),
        classes=tuple(dataset.class_names[number] for number in order.tolist()),
        laid_out=LaidOut(dataset.index, train.index.to_numpy()[rows]),
    )


def _split(dataset: Dataset) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and test rows. Their row labels are row numbers of the index."""
    index = dataset.index.reset_index(drop=True)
    is_test = index["session"].isin(dataset.test_sessions).to_numpy()
    train, test = index.loc[~is_test], index.loc[is_test]
    sessions = ", ".join(map(str, dataset.test_sessions))
    for rows, problem in ((train, "no session to train on"), (test, "no session to test on")):
        if rows.empty and (rows is train or dataset.test_sessions):
            raise InputError(
                dataset.folder, f"has {problem}", f"the test sessions are {sessions}; add others"
            )
    untrained = np.setdiff1d(test["class"].to_numpy(), train["class"].to_numpy())
    if len(untrained):
        name = dataset.class_names[int(untrained[0])]
        raise InputError(
            dataset.folder, f"has only test images of class {name!r}", "add clips or drop the class"
        )
    return train, test


def _frames(table: pd.DataFrame, rows: np.ndarray, order: pd.Index) -> Frames:
    """Some rows of a table. The label of a class is its position in ``order``."""
    paths = table["im_path"].to_numpy(object)[rows]
    labels = order.get_indexer(table["class"].to_numpy()[rows]).astype(np.int64)
    return Frames(tuple(paths), labels)


def _class_groups(dataset: Dataset, train: pd.DataFrame) -> _Groups:
    """Ids of the training classes by group, each group in order of first appearance."""
    classes = pd.unique(train["class"].to_numpy())
    if not dataset.class_groups:
        return [classes]
    return [classes[np.isin(classes, group)] for group in dataset.class_groups]


def _iid(
    train: pd.DataFrame, groups: _Groups, run: int, offline: bool, layout: TaskLayout
) -> list[np.ndarray]:
    order = np.random.RandomState(run).permutation(len(train))
    bounds = _bounds(len(order), layout.images_per_task, _class_tasks(groups, layout))
    if not offline:
        return [order[start:end] for start, end in bounds]
    return [order[:end][np.random.RandomState(run).permutation(end)] for _, end in bounds]


def _class_iid(
    train: pd.DataFrame, groups: _Groups, run: int, offline: bool, layout: TaskLayout
) -> list[np.ndarray]:
    classes = _shuffled_classes(groups, np.random.RandomState(run))
    rows_of = _by_class(train["class"].to_numpy())
    tasks = []
    for start, end in _bounds(len(classes), layout.classes_per_task):
        rows = _places_of(rows_of, classes[0 if offline else start : end])
        # Use a new generator each time: the published tasks of one run share their permutation.
        tasks.append(rows[np.random.RandomState(run).permutation(len(rows))])
    return tasks


def _instance(
    train: pd.DataFrame, groups: _Groups, run: int, offline: bool, layout: TaskLayout
) -> list[np.ndarray]:
    clips = _clips(train, ["class", "object", "session"])
    generator = np.random.RandomState(run)
    order = generator.permutation(len(clips.keys))
    tasks = []
    for start, end in _bounds(len(order), layout.clips_per_task, _class_tasks(groups, layout)):
        chosen = generator.permutation(order[:end]) if offline else order[start:end]
        tasks.append(clips.rows_of(chosen))
    return tasks


def _class_instance(
    train: pd.DataFrame, groups: _Groups, run: int, offline: bool, layout: TaskLayout
) -> list[np.ndarray]:
    clips = _clips(train, ["object", "session", "class"])
    clips_of = _by_class(clips.keys[:, 2])
    generator = np.random.RandomState(run)
    classes = _shuffled_classes(groups, generator)
    tasks = []
    for start, end in _bounds(len(classes), layout.classes_per_task):
        if offline:
            # This drops nothing, but the published offline lists draw these numbers before the
            # clips.
            generator.shuffle(classes[:end])
        of_task = _places_of(clips_of, classes[0 if offline else start : end])
        tasks.append(clips.rows_of(of_task[generator.permutation(len(of_task))]))
    return tasks


def _by_class(classes: np.ndarray) -> dict[int, np.ndarray]:
    """The positions of each class, ascending."""
    order = np.argsort(classes, kind="stable")
    found, starts = np.unique(classes[order], return_index=True)
    return dict(zip(found.tolist(), np.split(order, starts[1:]), strict=True))


def _places_of(by_class: dict[int, np.ndarray], chosen: np.ndarray) -> np.ndarray:
    """The positions of some classes, ascending."""
    return np.sort(np.concatenate([by_class[number] for number in chosen.tolist()]))


def _shuffled_classes(groups: _Groups, generator: np.random.RandomState) -> np.ndarray:
    return np.concatenate([generator.permutation(group) for group in groups])


@dataclass(frozen=True)
class _Clips:
    """Clips in ascending order of their keys.

    Attributes:
        keys: (clips, 3) int64, the key of each clip.
        rows: (n,) row positions, clip by clip, with each clip in time order.
        starts: (clips + 1,) where each clip starts in ``rows``, and the end of the last.
    """

    keys: np.ndarray
    rows: np.ndarray
    starts: np.ndarray

    def rows_of(self, clips: np.ndarray) -> np.ndarray:
        """The row positions of some clips, concatenated."""
        starts, lengths = self.starts[clips], np.diff(self.starts)[clips]
        ends = np.cumsum(lengths)
        within = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
        return self.rows[np.repeat(starts, lengths) + within]


def _clips(train: pd.DataFrame, key: list[str]) -> _Clips:
    columns = [train[column].to_numpy() for column in [*key, "im_num"]]
    rows = np.lexsort(columns[::-1])
    keys = np.stack(columns[:-1], axis=1)[rows]
    starts = np.flatnonzero(np.any(keys[1:] != keys[:-1], axis=1)) + 1
    starts = np.concatenate([[0], starts, [len(rows)]])
    return _Clips(keys[starts[:-1]], rows, starts)


def _class_tasks(groups: _Groups, layout: TaskLayout) -> int:
    return math.ceil(sum(map(len, groups)) / layout.classes_per_task)


def _bounds(total: int, size: int | None, tasks: int = 1) -> list[tuple[int, int]]:
    """Start and end of each task: ``size`` items each, or ``tasks`` parts of equal size."""
    if size is not None:
        return [(start, min(start + size, total)) for start in range(0, total, size)]
    tasks = min(tasks, total)
    cuts = [total * task // tasks for task in range(tasks + 1)]
    return list(itertools.pairwise(cuts))
