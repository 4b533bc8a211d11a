"""Parse class, object and session from the paths in a user's folder."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath

from crumb.data.heic import HEIC_REMEDY, HEIC_SUFFIXES, reads_heic
from crumb.data.index import path_problem, shown
from crumb.data.names import alike_line, canonical
from crumb.data.sets.base import visible
from crumb.data.sets.toybox import SUPER_CATEGORIES
from crumb.data.system_folders import REASON, in_system_folder
from crumb.errors import InputError
from crumb.files import file_size

VIDEOS, IMAGES = "videos", "images"
SUFFIXES = {
    VIDEOS: frozenset(
        [
            *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".insv", ".mkv", ".webm"),
            *(".avi", ".divx", ".wmv", ".asf", ".flv", ".mpg", ".mpeg", ".mpe", ".vob", ".ts"),
            *(".mts", ".m2ts", ".ogv", ".gif", ".mxf", ".dv", ".ivf", ".nut", ".y4m"),
            *(".m1v", ".m2v", ".h264", ".264", ".h265", ".265", ".hevc", ".mjpeg", ".mjpg"),
        ]
    ),
    IMAGES: frozenset(
        [
            *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".webp", ".avif"),
            *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2"),
            *HEIC_SUFFIXES,
        ]
    ),
}
"""Kind of a file by its suffix; the content decides on reading."""

TRAIN, TEST = "train", "test"
LAYOUT = (
    "expected are class/clip.mp4, class/object/clip.mp4, class/frame.jpg, class/session/frame.jpg, "
    "class/object/session/frame.jpg, or all of these below train/ and test/"
)
_OTHER_SPLITS = frozenset({"training", "testing", "val", "valid", "validation", "dev", "eval"})


@dataclass(frozen=True)
class Entry:
    """A file that can be used.

    Attributes:
        path: relative to the root, with slashes.
        class_name: name of its class.
        object: name of its object; empty if the class has none.
        session: name of its clip; empty if the images of an object are not divided.
        split: "train" or "test" if given, else empty.
        frame: key that orders the session, before the path.
    """

    path: str
    class_name: str
    object: str = ""
    session: str = ""
    split: str = ""
    frame: float = 0.0


@dataclass
class Found:
    """Contents of a folder or table.

    Attributes:
        root: Folder that the paths are relative to.
        entries: Files that can be used.
        unused: Paths that cannot be used, by reason.
        notes: One line for each oddity.
    """

    root: Path
    entries: list[Entry] = field(default_factory=list)
    unused: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    notes: list[str] = field(default_factory=list)

    def refuse(self, path: str, reason: str) -> None:
        """Note a path that cannot be used, in printable form."""
        self.unused[reason].append(path if path.isprintable() else shown(path))

    def accepts(self, path: str) -> bool:
        """Whether a file can be used. If not, the reason is noted."""
        reason = path_problem(path) and "a name that cannot be written down; rename it"
        if in_system_folder(path.split("/")[:-1]):
            reason = REASON
        try:
            path.encode()
            reason = reason or _file_problem(self.root / path)
        except UnicodeEncodeError:
            reason = "a name that is not UTF-8; rename it"
        if reason:
            self.refuse(path, reason)
        return not reason


def medium(path: str) -> str:
    """``VIDEOS`` or ``IMAGES`` by the end of a name; empty for anything else."""
    suffix = PurePosixPath(path).suffix.lower()
    return next((name for name, known in SUFFIXES.items() if suffix in known), "")


def natural(text: str) -> tuple[object, ...]:
    """Key that sorts names naturally: clip2 before clip10, Ä next to a."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    parts = re.split("([0-9]+)", plain)
    # Comparing length first, then digits, orders numbers of any length.
    numbers = [(len(part.lstrip("0")), part.lstrip("0")) for part in parts[1::2]]
    return (*zip(parts[::2], [*numbers, (-1, "")], strict=True), text)


def read_tree(root: Path) -> Found:
    """Every file below a folder, with class, object and session from its path.

    The first folder between the class and the file is the object. The others are the session. Every
    clip is a session. If there is a single folder between, it is a session of images, or an object
    of clips.

    Raises:
        InputError: ``root`` is not a folder, holds nothing usable, is laid out like Toybox, or has
            folders that look like parts of a data set but are not train and test.
    """
    if not root.is_dir():
        raise InputError(root, "is not a folder", f"give a folder or a .csv file; {LAYOUT}")
    found = Found(root)
    tops = [path.name for path in visible(root) if path.is_dir()]
    _check_toybox(root, tops)
    is_split = _are_splits(root, tops)
    for path in _files(root, found, ()):
        depth = path.count("/")
        if depth < (2 if is_split else 1):
            found.refuse(path, "in no folder of a class")
        elif found.accepts(path):
            found.entries.append(_read_path(path, is_split))
    if not found.entries:
        why = next(iter(found.unused), "")
        named = f" ({found.unused[why][0]}: {why})" if why else ""
        raise InputError(root, f"holds no video or image that can be used{named}", LAYOUT)
    _look_for_oddities(found, tops, is_split)
    return found


def read_files(root: Path) -> Found:
    """Every readable video and image below a folder, whatever the layout.

    Returns:
        entries without a class, in natural order.
    """
    found = Found(root)
    found.entries = [Entry(path, "") for path in _files(root, found, ()) if found.accepts(path)]
    return found


def _files(folder: Path, found: Found, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Files below a folder in natural order. Links are followed, hidden files are skipped.

    System folders are noted and not entered.
    """
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    name = folder.relative_to(found.root).as_posix()
    try:
        skipped: list[Path] = []
        entries = sorted(visible(folder, skipped), key=lambda path: natural(path.name))
    except OSError as error:
        found.refuse(f"{name}/", f"cannot be opened ({error.strerror})")
        return
    if here in above:
        found.refuse(f"{name}/", "a link to a folder above it")
        return
    if not entries and above:
        found.refuse(f"{name}/", "an empty folder")
    for path in skipped:
        found.refuse(f"{path.relative_to(found.root).as_posix()}/", REASON)
    for path in entries:
        if path.is_dir():
            yield from _files(path, found, (*above, here))
        else:
            yield path.relative_to(found.root).as_posix()


def _file_problem(path: Path) -> str | None:
    """Why a file cannot be used; None if it can."""
    if not medium(path.name):
        kind = path.suffix.lower() or "no ending"
        return f"no video or image that Crumb reads ({kind})"
    if path.suffix.lower() in HEIC_SUFFIXES and not reads_heic():
        return f"a HEIC image; {HEIC_REMEDY}"
    try:
        return None if file_size(path) else "an empty file"
    except FileNotFoundError:
        return "a link to nothing" if path.is_symlink() else "no such file"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _read_path(path: str, is_split: bool) -> Entry:
    split, rest = path.split("/", 1) if is_split else ("", path)
    class_name, *inner, file = rest.split("/")
    if medium(file) == VIDEOS:
        inner.append(PurePosixPath(file).stem)
    item, *sessions = map(canonical, inner if len(inner) > 1 else ["", *inner])
    return Entry(path, canonical(class_name), item, "/".join(sessions), split.lower())


def _are_splits(root: Path, tops: Sequence[str]) -> bool:
    """Whether the folders at the top are train and test, not classes."""
    names = {name.lower() for name in tops}
    others = [name for name in tops if name.lower() not in (TRAIN, TEST)]
    both = {TRAIN, TEST} <= names
    if others and (both or (len(names) > 1 and names <= {TRAIN, TEST, *_OTHER_SPLITS})):
        raise InputError(
            root / others[0],
            "lies where train/ and test/ are expected",
            "name the two folders train and test, and move others away",
        )
    return both


def _check_toybox(root: Path, tops: Sequence[str]) -> None:
    for name in SUPER_CATEGORIES:
        if name in tops and any((root / name).glob("*_[0-9][0-9]_pivothead")):
            raise InputError(
                root,
                f"is laid out like Toybox ({name}/ holds objects of several classes)",
                f"use `crumb index toybox {root}`",
            )


def _forms_line(folders: Iterable[str]) -> list[str]:
    """A line if one name is written in two Unicode forms, else no line."""
    known: dict[str, str] = {}
    for name in folders:
        if known.setdefault(canonical(name), name) != name:
            form = canonical(name)
            return [f"folders are called {form} in two forms of Unicode; they are one class"]
    return []


def alike_lines(entries: Sequence[Entry]) -> list[str]:
    """One line each for classes, objects and sessions whose names look the same."""
    objects: defaultdict[str, list[str]] = defaultdict(list)
    sessions: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for entry in entries:
        objects[entry.class_name].append(entry.object)
        sessions[entry.class_name, entry.object].append(entry.session)
    of_objects = (
        line
        for name, found in objects.items()
        for line in alike_line(found, "objects", f" of {name}")
    )
    of_sessions = (
        line
        for where, found in sessions.items()
        for line in alike_line(found, "sessions", f" of {'/'.join(filter(None, where))}")
    )
    # Only the first of each: several usually have the same cause.
    return [*alike_line(objects), *islice(of_objects, 1), *islice(of_sessions, 1)]


def _look_for_oddities(found: Found, tops: Sequence[str], is_split: bool) -> None:
    """Note what may be a mistake."""
    names = list(dict.fromkeys(entry.class_name for entry in found.entries))
    folders = (entry.path.split("/")[1 if is_split else 0] for entry in found.entries)
    found.notes += [*_forms_line(folders), *alike_lines(found.entries)]
    said = {path for paths in found.unused.values() for path in paths}
    for name in [] if is_split else tops:
        if canonical(name) not in names and f"{name}/" not in said:
            found.refuse(f"{name}/", "a folder in which nothing can be used")
    found.notes += [
        f"{name} has a name like a Windows system folder; if you did not make it, remove it"
        for name in names
        if name.startswith("$")
    ]
    if len(names) == 1:
        found.notes.append(
            f"{names[0]} is the only class; if its folders are the classes, give "
            f"{found.root / names[0]}"
        )
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        alike[re.sub("[0-9]+", "#", name)].append(name)
    for stem, (first, *others) in alike.items():
        if others and re.search(r"[^\W\d_]", stem):
            found.notes.append(
                f"{first} and {others[0]} differ in a number only; if they are objects of one "
                "class, put them into a folder of that class"
            )
            break
    depths: dict[str, dict[int, str]] = {}
    for entry in found.entries:
        depths.setdefault(entry.class_name, {}).setdefault(entry.path.count("/"), entry.path)
    for name, paths in depths.items():
        if len(paths) > 1:
            first, second, *_ = paths.values()
            found.notes.append(f"{name} has files at several depths: {first}, {second}")
            break
