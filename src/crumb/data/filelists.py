"""File lists: the tasks of a run as text files in the published format.

``<protocol>/run<r>/<stream|offline>/`` holds ``train_task_00_filelist.txt`` and so on, and
``test_filelist.txt``, with one ``path label`` per line. The label follows the last blank.
``train_all.txt`` is a table of all training rows with their index columns, task and label. It is
never read back.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from crumb.data.index import path_problem, shown, table_parts
from crumb.data.protocol import PROTOCOLS, Frames, TaskList
from crumb.data.shards import member_size
from crumb.errors import InputError, setting
from crumb.files import read_text, write_bytes, write_parts

_REMEDY = "write the lists again"
_FORM = "write `path label`, the path below the images root"
_TRAIN_LIST = re.compile(r"train_task_([0-9]+)_filelist\.txt")
_TEST_LIST = "test_filelist.txt"


def list_folder(folder: Path, protocol: str, run: int, offline: bool) -> Path:
    """Folder of the lists of one run, below ``folder``."""
    return folder / protocol / f"run{run}" / ("offline" if offline else "stream")


def write_task_list(tasks: TaskList, folder: Path) -> None:
    """Write the lists of one run below ``folder``, and remove lists of an earlier layout.

    ``train_all.txt`` is written only for task lists with a table, which were laid out here.

    Raises:
        InputError: the folder cannot be written.
    """
    target = list_folder(folder, tasks.protocol, tasks.run, tasks.offline)
    names = [_train_list(number) for number in range(len(tasks.tasks))]
    for name, frames in zip([*names, _TEST_LIST], [*tasks.tasks, tasks.test], strict=True):
        lines = zip(frames.paths, frames.labels.tolist(), strict=True)
        content = "".join([f"{path} {label}\n" for path, label in lines]).encode()
        # A list that a power failure emptied is refused when it is read, and can be written again.
        write_bytes(target / name, content, sync=False)
    for path in target.iterdir():
        if _TRAIN_LIST.fullmatch(path.name) and path.name not in names:
            path.unlink()
    if (table := tasks.table) is not None:
        write_parts(target / "train_all.txt", table_parts(table))


def read_task_list(
    folder: Path,
    protocol: str,
    run: int,
    offline: bool,
    images: Path,
    class_names: Sequence[str] | None,
) -> TaskList:
    """Read the lists of one run.

    Args:
        folder: Folder that holds ``<protocol>/run<r>/``.
        protocol: One of ``crumb.data.protocol.PROTOCOLS``.
        run: Number of the run.
        offline: Read the offline lists instead of the stream.
        images: Root that the listed paths are relative to.
        class_names: Name of label 0, 1, ...; None names each class by its label.

    Returns:
        The run, without its table.

    Raises:
        InputError: a list is missing or empty; or a line is malformed, names an image that is
            missing or outside ``images``, gives an image a second label, skips a label (the labels
            up to each task must be 0, 1, ... without gaps), or tests an image twice or a label
            without training images.
    """
    if protocol not in PROTOCOLS:
        raise InputError(
            setting("protocol"), f"{protocol!r} is unknown", f"use {', '.join(PROTOCOLS)}"
        )
    source = list_folder(folder, protocol, run, offline)
    checker = _Checker(images)
    tasks = []
    for path in _train_lists(source):
        tasks.append(checker.read(path))
        checker.check_gap(path, tasks[-1])
    known = len(checker.labels)
    test_path = source / _TEST_LIST
    test = checker.read(test_path)
    for line, label in enumerate(test.labels.tolist(), 1):
        if label >= known:
            problem = f"has the unknown class {label}, which no training list has"
            raise InputError(f"{test_path}, line {line}", problem, _REMEDY)
    _check_repeats(test_path, test.paths)
    if class_names is not None and len(class_names) != known:
        problem = f"have {known} classes where {len(class_names)} names are given"
        raise InputError(source, problem, "give one name for each label")
    names = tuple(class_names) if class_names is not None else tuple(map(str, range(known)))
    return TaskList(protocol, run, offline, tuple(tasks), test, names)


def _train_list(task: int) -> str:
    return f"train_task_{task:02}_filelist.txt"


def _train_lists(source: Path) -> Iterator[Path]:
    if not source.is_dir():
        raise InputError(source, "is not a folder", _REMEDY)
    last = 0
    for path in source.iterdir():
        if match := _TRAIN_LIST.fullmatch(path.name):
            number = int(match[1])
            if path.name != (name := _train_list(number)):
                raise InputError(path, f"is not called {name}", "rename or remove it")
            last = max(last, number)
    # A gap in the numbers is detected when the missing file is read.
    for number in range(last + 1):
        yield source / _train_list(number)


class _Checker:
    """Reads lists and checks every line against earlier lines and the images."""

    def __init__(self, images: Path) -> None:
        self.images = images
        self.labels: set[int] = set()
        self.label_of: dict[str, int] = {}
        self.root = os.path.realpath(images)
        self.real_folders: dict[str, str] = {}

    def read(self, path: Path) -> Frames:
        """Images and labels of one list."""
        paths, labels = [], []
        for where, image, label in _lines(path):
            if image not in self.label_of:
                self._check_image(where, image)
            elif self.label_of[image] != label:
                problem = f"gives {image} the label {label}, before it was {self.label_of[image]}"
                raise InputError(where, problem, _REMEDY)
            self.label_of[image] = label
            paths.append(image)
            labels.append(label)
        if not paths:
            raise InputError(path, "is empty", _REMEDY)
        return Frames(tuple(paths), np.array(labels, dtype=np.int64))

    def check_gap(self, path: Path, frames: Frames) -> None:
        """Add the labels of a training list. With earlier labels, they must be 0, 1, ...."""
        self.labels |= set(frames.labels.tolist())
        missing = next(label for label in range(len(self.labels) + 1) if label not in self.labels)
        for line, label in enumerate(frames.labels.tolist(), 1):
            if label > missing:
                problem = f"has label {label}, but no line up to this task has label {missing}"
                raise InputError(f"{path}, line {line}", problem, "number labels in task order")

    def _check_image(self, where: str, image: str) -> None:
        try:
            self._check_place(where, image)
        # A name may be too long for the file system, or lie in an unreadable folder.
        except OSError as error:
            problem = f"the image {shown(image)} cannot be looked at ({error.strerror})"
            raise InputError(where, problem, "check the images root") from error

    def _check_place(self, where: str, image: str) -> None:
        file = self.images / image
        folder = str(file.parent)
        if folder not in self.real_folders:
            self.real_folders[folder] = os.path.realpath(folder)
        real = self.real_folders[folder]
        if file.is_symlink():
            real = os.path.realpath(file)
        if os.path.commonpath([self.root, real]) != self.root:
            problem = f"the path {image!r} leads out of the images root"
            raise InputError(where, problem, "list images below the images root")
        if member_size(file) is None and not file.is_file():
            raise InputError(where, f"the image {file} does not exist", "check the images root")


def _lines(path: Path) -> Iterator[tuple[str, str, int]]:
    """Location, image path and label of each line."""
    text = read_text(path, _REMEDY)
    # An editor may have left blank lines at the end.
    lines = text.rstrip("\n").split("\n") if text.strip("\n") else []
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number}"
        image, blank, label = line.rpartition(" ")
        if not blank:
            raise InputError(where, f"{shown(line)} is not a path and a label", _FORM)
        if problem := path_problem(image):
            raise InputError(where, problem, _FORM)
        if re.fullmatch("-[0-9]+", label):
            raise InputError(where, f"the label {shown(label)} is negative", _REMEDY)
        if not re.fullmatch("[0-9]+", label):
            raise InputError(where, f"the label {shown(label)} is not an integer", _REMEDY)
        if len(label) > 9:
            raise InputError(where, f"the label {shown(label)} is too large", _REMEDY)
        yield where, image, int(label)


def _check_repeats(path: Path, images: tuple[str, ...]) -> None:
    """Raise InputError for an image tested on twice, unless its clip was continued backwards."""
    last: dict[str, int] = {}
    for line, image in enumerate(images):
        first = last.setdefault(image, line)
        between = images[first : line + 1]
        if first != line and (len(between) < 3 or between != between[::-1]):
            problem = f"repeats {image} of line {first + 1}"
            raise InputError(f"{path}, line {line + 1}", problem, "list each test image once")
