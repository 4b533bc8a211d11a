"""Images in class folders, ``{split}/{class}/*``, with a train and a test split."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from crumb.data.index import COLUMNS, path_problem, shown
from crumb.data.names import canonical
from crumb.data.system_folders import is_system_folder
from crumb.errors import InputError
from crumb.progress import bar

TRAIN_SESSION, TEST_SESSION = 0, 1
_OBJECT = 0
_SHOWN = 3
_SYSTEM = "system"

Split = dict[str, list[str]]
"""Paths of the images of each class, relative to the root of the data set."""


def read_split(
    folder: Path, suffixes: Collection[str], others: Counter[str], unsorted: str
) -> Split:
    """The images below ``{split}/{class}/``; hidden files are ignored, folders of the system too.

    No file is opened, so a million files take seconds.

    Args:
        folder: folder of the split. Its name is the first part of the paths.
        suffixes: suffixes of images in lower case. Files may use either case.
        others: counter to which other files are added by kind (:func:`suffix`), for
            :func:`others_lines`.
        unsorted: remedy for images outside class folders, for the message.

    Raises:
        InputError: the folder cannot be listed or has no class folders, a class folder has no
            image, or an image is outside class folders, a broken link or not a file.
    """
    split: Split = {}
    stray = []
    for entry in bar(_visible(folder), folder.name, "class"):
        if is_system_folder(entry.name) and entry.is_dir():
            others[_SYSTEM] += 1
        elif entry.is_dir():
            images = _images(Path(entry.path), suffixes, others)
            split.setdefault(canonical(entry.name), []).extend(images)
        elif suffix(entry.name) in suffixes:
            stray.append(entry.name)
        else:
            others[suffix(entry.name)] += 1
    if stray:
        images = "1 image" if len(stray) == 1 else f"{len(stray)} images"
        problem = f"holds {images} in no class folder, the first is {stray[0]}"
        raise InputError(folder, problem, unsorted)
    if not split:
        problem = "has no class folders"
        raise InputError(folder, problem, f"expected are images {folder.name}/<class>/*")
    return split


def _images(folder: Path, suffixes: Collection[str], others: Counter[str]) -> list[str]:
    start = f"{folder.parent.name}/{folder.name}/"
    images = []
    for entry in _visible(folder):
        if entry.is_dir():
            others["folder"] += 1
        elif (kind := suffix(entry.name)) not in suffixes:
            others[kind] += 1
        elif not entry.is_file():
            problem = "is a link to nothing" if entry.is_symlink() else "is not a file"
            raise InputError(entry.path, problem, "restore or remove it")
        else:
            images.append(start + entry.name)
    if not images:
        problem = f"holds no images ({', '.join(sorted(suffixes))})"
        raise InputError(folder, problem, "add its images or remove the class from all splits")
    return images


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        problem = f"cannot be listed ({error.strerror})"
        raise InputError(folder, problem, "restore it or its rights") from error
    return sorted(found, key=lambda entry: entry.name)


def suffix(name: str) -> str:
    """The suffix of a file name in lower case, with its dot; empty if there is none."""
    stem, dot, end = name.rpartition(".")
    return dot + end.lower() if stem else ""


def others_lines(others: Mapping[str, int]) -> list[str]:
    """One line for each kind of file that is not an image."""
    kinds = {"": ("file without a suffix", "files without a suffix")}
    kinds["folder"] = ("folder inside a class folder", "folders inside class folders")
    kinds[_SYSTEM] = ("folder of the system, never data", "folders of the system, never data")
    lines = []
    for kind, count in sorted(others.items()):
        named = _printable(kind)
        one, several = kinds.get(kind, (f"{named} file", f"{named} files"))
        lines.append(f"{count} {one if count == 1 else several}")
    return lines


def beside_lines(root: Path, used: Iterable[str]) -> list[str]:
    """A line about unused contents of the root. Hidden files are ignored."""
    names = [entry.name for entry in _visible(root)]
    if beside := [name for name in names if name not in set(used)]:
        return [f"other contents of {root}: {listed(beside)}"]
    return []


def listed(names: Sequence[object]) -> str:
    """The first few names, and the number of further ones."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(_printable(str(name)) for name in names[:_SHOWN]) + more


def _printable(name: str) -> str:
    return name if name.isprintable() else shown(name)


def check_same_classes(root: Path, splits: Mapping[str, Split]) -> None:
    """Refuse a class that is missing in one of the splits.

    Args:
        root: root of the data set.
        splits: splits by name.

    Raises:
        InputError: a class is missing in a split. The message names the first one.
    """
    classes = set().union(*splits.values())
    for name, split in splits.items():
        if missing := sorted(classes - split.keys()):
            count = "" if len(missing) == 1 else f", one of {len(missing)} classes"
            problem = f"has no images of it{count}"
            raise InputError(
                f"class {missing[0]}", f"{root / name} {problem}", "add them, or remove the class"
            )


def class_index(
    root: Path, train: Split, test: Split, class_ids: Mapping[str, int]
) -> pd.DataFrame:
    """The index in the published form for data sets of single images.

    Every class has one object, 0. Its session 0 is the training set and session 1 the test set.
    im_num counts from 1 in the order of the paths.

    Args:
        root: root of the paths, for messages.
        train: training images of every class.
        test: test images of every class.
        class_ids: class ids of the used classes.

    Returns:
        Rows sorted by class, object, session and im_path, with columns ``COLUMNS``.

    Raises:
        InputError: an index cannot hold a path.
    """
    paths: list[str] = []
    clips: list[tuple[int, int]] = []
    lengths: list[int] = []
    for name, number in sorted(class_ids.items(), key=lambda item: item[1]):
        for session, split in ((TRAIN_SESSION, train), (TEST_SESSION, test)):
            images = sorted(split[name])
            _check_paths(root, images)
            paths += images
            clips.append((number, session))
            lengths.append(len(images))
    classes, sessions = np.repeat(np.array(clips, dtype=np.int64).T, lengths, axis=1)
    numbers = np.concatenate([np.arange(1, length + 1) for length in lengths])
    columns = (classes, np.full(len(paths), _OBJECT), sessions, numbers, paths)
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))


def _check_paths(root: Path, images: Sequence[str]) -> None:
    for image in images:
        if problem := path_problem(image):
            raise InputError(root / image, problem, "rename it")
    try:
        "\n".join(images).encode()
    except UnicodeEncodeError as error:
        first = next(image for image in images if not _is_text(image))
        raise InputError(
            ascii(str(root / first)), "has a name that is not UTF-8", "rename it"
        ) from error


def _is_text(name: str) -> bool:
    # Python decodes bytes that are not UTF-8 to surrogates.
    return not any("\ud800" <= letter <= "\udfff" for letter in name)
