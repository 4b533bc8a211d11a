"""Index iLab-2M-Light: a balanced sample of photographs of toy vehicles.

Which images are used follows from their names alone. The rules, and the random numbers that choose
15 images in a row of each session, are those of the index published with CRUMB.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd

from crumb.data.index import COLUMNS, shown
from crumb.data.sets.base import About, Sample, Source, register
from crumb.errors import InputError, require, setting
from crumb.files import WRITE_REMEDY
from crumb.progress import bar

_NAMES = "boat bus car equip f1car heli mil monster pickup plane semi tank train ufo van"
CLASSES = {name: number for number, name in enumerate(_NAMES.split(), 1)}
DROPPED_CLASS = "semi"
_PART = ".part"
TEST_SESSIONS = (4, 8)
FOLDER = "train_img"

_LAYOUT = (
    f"expected are images {FOLDER}/<class>-i<instance>-b<background>-c<camera>-r<rotation>"
    "-l<lighting>-f<focus>.jpg"
)
_NAME = re.compile(
    r"(\w+)-i([0-9]{1,9})-b([0-9]{1,9})-c([0-9]{1,9})-r([0-9]{1,9})-l([0-9]{1,9})"
    r"(?:-[A-Za-z0-9]+)*\.(?i:jpg)"
)
_FIELDS = 6
"""Class, instance, background, camera, rotation, lighting."""


@dataclass(frozen=True)
class Balance:
    """Number of objects per class, sessions per object and images per session."""

    objects: int = 28
    sessions: int = 8
    images: int = 15


@register
@dataclass(frozen=True, kw_only=True)
class Ilab2mLight(Source):
    """iLab-2M-Light: photographs of toy vehicles, all of them in the folder train_img.

    Of every class but semi the first 28 objects, 8 backgrounds (sessions) and 15 images in a row
    are taken, by the published rules. No image is opened.
    """

    name: ClassVar[str] = "ilab2mlight"
    about: ClassVar[About] = About(
        title="iLab-2M-Light",
        content="photographs of toy vehicles of 15 classes: 30 poses, 5 lights, many backgrounds",
        size="2 million images, of which the 1.36 million to train on are read; see its page",
        licence="see its page",
        page="https://bmobear.github.io/projects/viva/",
        download=f"iLab-2M-Light.tar.gz; ROOT is the folder that holds {FOLDER}/",
    )
    published: ClassVar[Mapping[str, int]] = {
        "images per class": 3360,
        "images per session": 15,
        "sessions per object": 8,
        "sessions per class": 224,
        "objects per class": 28,
        "sessions in all": 3136,
    }
    published_classes: ClassVar[tuple[str, ...]] = tuple(
        name for name in CLASSES if name != DROPPED_CLASS
    )

    layout: Literal["flat", "nested"] = "flat"
    """Image layout: flat reads the images in place; nested links the used ones to
    images/CLASS/obj_N/sess_N/ in the output folder (or copies them if links fail), which is faster
    on some disks."""
    objects: int = Balance.objects
    """Number of objects per class. Use fewer for a part of the data set."""
    sessions: int = Balance.sessions
    """Number of sessions per object. Sessions 4 and 8 are test sessions."""
    images: int = Balance.images
    """Number of consecutive images per session."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value, least in (
            ("objects", self.objects, 1),
            ("sessions", self.sessions, TEST_SESSIONS[0]),
            ("images", self.images, 1),
        ):
            require(name, value, least <= value <= 10**9, f"from {least} to 1000000000")

    def sample(self) -> Sample:
        """Parse all names, and balance.

        Known classes have their published ids, others follow alphabetically from 16. The rows are
        ordered by class name, object, session, im_num.

        Raises:
            InputError: there is no folder train_img with images; a .jpg in it is not a file,
                has another kind of name, or the name means the same as another; a class has too few
                objects; or, with nested folders, the output folder cannot be written.
        """
        names, left_out = find_images(self.root)
        size = Balance(self.objects, self.sessions, self.images)
        index, dropped = balance(parse_names(names), size)
        root, paths = self.root, [f"{FOLDER}/{name}" for name in index["im_path"]]
        if self.layout == "nested":
            root, old = self.folder / "images", paths
            paths = [
                f"{name}/obj_{item}/sess_{clip}/{path}"
                for name, item, clip, _, path in index.itertuples(index=False, name=None)
            ]
            link_images(self.root, old, root, paths)
        class_ids = _class_ids(index["class"].unique().tolist())
        numbers = [class_ids[name] for name in index["class"]]
        return Sample(
            images=root,
            index=index.assign(**{"class": numbers, "im_path": paths}),
            class_names={number: name for name, number in class_ids.items()},
            test_sessions=tuple(number for number in TEST_SESSIONS if number <= self.sessions),
            left_out=(*left_out, *dropped),
        )


def find_images(root: Path) -> tuple[list[str], list[str]]:
    """Names of the .jpg files in train_img, in any order, and lines about other files.

    Raises:
        InputError: there is no such folder, it cannot be read or has no .jpg, or one is not a
            file.
    """
    folder = root / FOLDER
    if not folder.is_dir():
        raise InputError(root, f"has no folder {FOLDER}", _LAYOUT)
    names: list[str] = []
    others: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in bar(entries, "files", "file"):
                if entry.name.startswith("."):
                    continue
                if not entry.name.lower().endswith(".jpg"):
                    others.append(entry.name)
                elif entry.is_file():
                    names.append(entry.name)
                else:
                    raise InputError(folder, f"holds {shown(entry.name)}, no file", _LAYOUT)
        beside = sorted(path.name for path in root.iterdir() if path.is_dir())
    except OSError as error:
        raise InputError(folder, f"cannot be read ({error.strerror})", _LAYOUT) from error
    if not names:
        raise InputError(folder, "holds no .jpg images", _LAYOUT)
    lines = [
        f"folder {shown(name)} (the published sample is of {FOLDER})"
        for name in beside
        if name != FOLDER and not name.startswith(".")
    ]
    if others:
        what = "entry that is" if len(others) == 1 else "entries that are"
        lines.append(f"{len(others)} {what} no .jpg in {FOLDER}, such as {shown(min(others))}")
    return names, lines


@dataclass(frozen=True)
class Photographs:
    """Images in the published order.

    Attributes:
        names: n file names.
        taken: int32 [n, 6]: index into ``classes``, then instance, background, camera, rotation
            and lighting. The rows are sorted.
        classes: Names of the classes, sorted.
    """

    names: list[str]
    taken: np.ndarray
    classes: list[str]


def parse_names(names: Iterable[str]) -> Photographs:
    """Parse image names.

    The published index ignores the focus and everything else after the lighting. It does not define
    the order of images that differ only in these. Here they are ordered by name.

    Raises:
        InputError: a name cannot be parsed, or two names mean the same.
    """
    ordered = sorted(names)
    if odd := [name for name in ordered if not _NAME.fullmatch(name)]:
        more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
        problem = f"holds images whose names cannot be parsed: {shown(odd[0])}{more}"
        raise InputError(FOLDER, problem, f"remove them; {_LAYOUT}")
    classes = sorted({name.partition("-")[0] for name in ordered})
    places = {name: place for place, name in enumerate(classes)}
    matches = filter(None, map(_NAME.fullmatch, ordered))
    rows = ((places[match[1]], *map(int, match.groups()[1:])) for match in matches)
    taken = np.fromiter(rows, np.dtype((np.int32, _FIELDS)), len(ordered))
    order = np.lexsort(taken.T[::-1])
    photographs = Photographs([ordered[place] for place in order.tolist()], taken[order], classes)
    _check_twins(photographs)
    return photographs


def _check_twins(photographs: Photographs) -> None:
    """Raise InputError for two spellings of the same name."""
    taken = photographs.taken
    same = np.flatnonzero(np.all(taken[1:] == taken[:-1], axis=1))
    known: dict[tuple[int | str, ...], str] = {}
    for place in np.union1d(same, same + 1).tolist():
        name = photographs.names[place]
        others = name.lower().split("-", _FIELDS)[_FIELDS:]
        twin = known.setdefault((*taken[place].tolist(), *others), name)
        if twin is not name:
            raise InputError(f"{FOLDER}/{name}", f"tells the same as {twin}", "keep one of the two")


@dataclass(frozen=True)
class Session:
    """``images`` images of one instance on one background, starting at index ``first``."""

    class_name: str
    instance: int
    first: int
    images: int


def _sessions(photographs: Photographs) -> Iterator[Session]:
    """All sessions, ordered by class, instance and background."""
    keys = photographs.taken[:, :3]
    starts = np.flatnonzero(np.any(keys[1:] != keys[:-1], axis=1)) + 1
    for first, after in itertools.pairwise([0, *starts.tolist(), len(keys)]):
        place, instance, _ = keys[first].tolist()
        yield Session(photographs.classes[place], instance, first, after - first)


def balance(photographs: Photographs, size: Balance = Balance()) -> tuple[pd.DataFrame, list[str]]:
    """Give every class the same number of objects, sessions and images, by the published rules.

    An object is an instance, a session one background of it, both counted from 1 among those that
    are left. In this order: class semi is dropped; sessions with fewer than 15 images are dropped;
    objects with fewer than 8 sessions are dropped; sessions 1 to 8 are kept; objects 1 to 28 are
    kept; of each session of n images a start is drawn from 1 to n - 14, and 15 images in a row are
    kept from there. The draws are ``randint`` of Python's generator with seed 0, one a session,
    ordered by class name, object, session.

    Args:
        photographs: All images.
        size: Other numbers than 28, 8 and 15, for a part of the data set.

    Returns:
        the balanced index, columns ``COLUMNS``, ordered by class, object, session, im_num, where
        class is its name and im_path the name of the file; and lines about what is left out.

    Raises:
        InputError: a class has fewer objects than that, or there is no class.
    """
    generator = random.Random(0)
    rows, lines, short = [], [], []
    for name, group in itertools.groupby(_sessions(photographs), attrgetter("class_name")):
        sessions = list(group)
        if name == DROPPED_CLASS:
            count = sum(session.images for session in sessions)
            lines.append(f"class {name}: {count} of {count} images (not in the published sample)")
            continue
        long = [session for session in sessions if session.images >= size.images]
        objects = [list(found) for _, found in itertools.groupby(long, attrgetter("instance"))]
        whole = [found for found in objects if len(found) >= size.sessions]
        if len(whole) < size.objects:
            short.append(_shortage(name, sessions, objects, len(whole)))
        rows += _rows(photographs.names, whole, size, generator)
        lines += _left_out(name, sessions, len(long), len(whole), size)
    if short:
        raise InputError(
            FOLDER,
            f"has classes of fewer than {size.objects} objects with {size.sessions} sessions of "
            f"{size.images} images, with {', '.join(short)}",
            "add their images or take the classes out; for a part of the data set give "
            f"{setting('objects')}, {setting('sessions')} and {setting('images')} as it has them",
        )
    if not rows:
        raise InputError(FOLDER, f"holds no class but {DROPPED_CLASS}", _LAYOUT)
    return pd.DataFrame(rows, columns=list(COLUMNS)), lines


def _rows(
    names: Sequence[str],
    objects: Sequence[Sequence[Session]],
    size: Balance,
    generator: random.Random,
) -> Iterator[tuple[str, int, int, int, str]]:
    """The kept images of one class, as rows of the index."""
    for item, sessions in enumerate(objects[: size.objects], 1):
        for clip, session in enumerate(sessions[: size.sessions], 1):
            start = session.first + generator.randint(1, session.images - size.images + 1) - 1
            for number, name in enumerate(names[start : start + size.images], 1):
                yield session.class_name, item, clip, number, name


def _shortage(
    name: str, sessions: Sequence[Session], objects: Sequence[Sequence[Session]], whole: int
) -> str:
    """Describe a class with too few objects; if it has none, what is missing for one."""
    if whole:
        return f"{name} {whole}"
    most = max(map(len, objects), default=0)
    longest = max(session.images for session in sessions)
    return f"{name} 0 (at most {most} such sessions, and {longest} images in one)"


def _left_out(
    name: str, sessions: Sequence[Session], long: int, whole: int, size: Balance
) -> list[str]:
    """One line for each class with something left out."""
    objects = len({session.instance for session in sessions})
    images = sum(session.images for session in sessions)
    used = min(whole, size.objects)
    unused = images - used * size.sessions * size.images
    reasons = {
        f"sessions of fewer than {size.images} images": len(sessions) - long,
        f"objects of fewer than {size.sessions} such sessions": objects - whole,
        f"objects after the first {size.objects}": whole - used,
    }
    why = ", ".join(f"{reason}: {count}" for reason, count in reasons.items() if count)
    line = f"class {name}: {unused} of {images} images" + (f" ({why})" if why else "")
    return [line] if unused else []


def _class_ids(names: Sequence[str]) -> dict[str, int]:
    """Ids of classes, ascending."""
    others = sorted(set(names) - set(CLASSES))
    ids = CLASSES | {name: len(CLASSES) + 1 + place for place, name in enumerate(others)}
    return {name: ids[name] for name in sorted(names, key=ids.__getitem__)}


def link_images(old_root: Path, old: Sequence[str], new_root: Path, new: Sequence[str]) -> None:
    """Hard-link old paths to new ones, or use symbolic links or copies if links are not possible.

    Each file appears complete. Existing ones stay, so an interrupted call can be repeated.

    Raises:
        InputError: the folder cannot be written, or an image cannot be read.
    """
    # Remove the leftovers of a killed call, or the links could not be made again.
    for part in new_root.rglob(f".*{_PART}"):
        part.unlink(missing_ok=True)
    for old_path, new_path in zip(bar(old, "images", "image"), new, strict=True):
        source, target = old_root / old_path, new_root / new_path
        try:
            if not _is_there(source, target):
                target.parent.mkdir(parents=True, exist_ok=True)
                _place(source, target)
        except OSError as error:
            problem = f"cannot be made from {source} ({error.strerror})"
            raise InputError(target, problem, WRITE_REMEDY) from error


def _is_there(source: Path, target: Path) -> bool:
    """Whether the target is a link to the source, or a copy with the same size and time."""
    if not target.exists():
        return False
    old, new = source.stat(), target.stat()
    return (old.st_size, old.st_mtime_ns) == (new.st_size, new.st_mtime_ns)


def _place(source: Path, target: Path) -> None:
    # The target of a relative symbolic link may not exist as seen from the new folder.
    source = source.resolve()
    part = target.with_name(f".{target.name}{_PART}")
    try:
        for link in (os.link, os.symlink):
            with contextlib.suppress(OSError):
                link(source, part)
                break
        else:
            shutil.copy2(source, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
