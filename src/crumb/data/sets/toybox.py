"""Index a tree of clips in Toybox's layout.

Names, numbers and the rules of balancing are those published with CRUMB. Nothing is random.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd

from crumb.data.decode import ClipFile, decode_clips
from crumb.data.index import COLUMNS, Dataset, csv_rows, index_text, path_problem
from crumb.data.names import canonical
from crumb.data.sets.base import About, ClipSource, Sample, index_source, register, visible
from crumb.data.system_folders import system_line
from crumb.errors import InputError
from crumb.files import write_csv, write_text

CLASSES = {
    "cup": 1,
    "mug": 2,
    "spoon": 3,
    "ball": 4,
    "duck": 5,
    "cat": 6,
    "horse": 7,
    "giraffe": 8,
    "car": 9,
    "truck": 10,
    "airplane": 11,
    "helicopter": 12,
}
SESSIONS = {
    "rxplus": 1,
    "ryplus": 2,
    "rzplus": 3,
    "rxminus": 4,
    "ryminus": 5,
    "rzminus": 6,
    "tx": 7,
    "ty": 8,
    "tz": 9,
    "hodgepodge": 10,
}
DROPPED_SESSIONS = ("present", "absent")
TEST_SESSIONS = (3, 6, 9)
SUPER_CATEGORIES = ("animals", "households", "vehicles")

LAST_OBJECT = 30
"""Where a class has that many objects, the one of that number is left out, as published."""

CLASS_TABLE = "toybox_classes.csv"
_LAYOUT = (
    f"expected are clips {'|'.join(SUPER_CATEGORIES)}/<class>_<2 digits>_pivothead/*_<session>.mp4"
)
_OBJECT_FOLDER = re.compile(r"(.+)_([0-9]{2})_pivothead")
_FRAMES, _SHORTEST, _SESSIONS = 15, 8, 10
_CLIP = ["class", "object", "session"]


@dataclass(frozen=True)
class Clip:
    """A clip of the tree: path relative to its root, class name, object and session numbers."""

    path: Path
    class_name: str
    object: int
    session: int


@register
@dataclass(frozen=True, kw_only=True)
class Toybox(ClipSource):
    """Clips laid out like Toybox's: {animals|households|vehicles}/{class}_{nn}_pivothead/*.mp4.

    The clips are cut into frames, one per second, and balanced by the published rules. Complete
    frames are not decoded again.
    """

    # The output folder gets the frames (images/), the record of what is decoded
    # (frames.json), the index of all frames (toybox_dirmap_unbalanced.csv), the balanced index
    # (toybox_dirmap.csv), the class ids (toybox_classes.csv) and, last, dataset.json.

    name: ClassVar[str] = "toybox"
    about: ClassVar[About] = About(
        title="The Toybox Dataset of Egocentric Visual Object Transformations",
        content="videos of 12 classes, 360 objects, 12 transformations",
        size="see its page",
        licence="see its page",
        page="https://aivaslab.github.io/toybox/",
        download="all three super-categories, unpacked into animals/, households/ and vehicles/",
    )
    published: ClassVar[Mapping[str, int]] = {
        "images per class": 4350,
        "images per session": 15,
        "sessions per object": 10,
        "sessions per class": 290,
        "objects per class": 29,
        "sessions in all": 3480,
    }
    published_classes: ClassVar[tuple[str, ...]] = tuple(CLASSES)

    def sample(self) -> Sample:
        """Decode the clips that are not decoded yet, and balance.

        Sessions "present" and "absent" are left out, as published, and so are hidden files and
        files that are not .mp4. A table toybox_classes.csv (class,index) in the root gives the
        class ids. Without it the twelve published classes keep theirs, and others follow
        alphabetically from 13.

        Raises:
            InputError: the tree is not laid out as above, holds a broken clip or one of less than
                8 frames, a class has no object with all ten sessions (found before anything is
                decoded), or the folder cannot be written.
        """
        clips = find_clips(self.root)
        _check_complete(clips)
        class_ids = _class_ids(self.root, {clip.class_name for clip in clips})
        images = self.folder / "images"
        files = [
            ClipFile(
                clip.path.as_posix(), self.root / clip.path, images / clip.path.with_suffix("")
            )
            for clip in clips
        ]
        decoded = decode_clips(files, self.folder / "frames.json", self.workers)
        rows = [
            (class_ids[clip.class_name], clip.object, clip.session, number, image)
            for clip, file in zip(clips, files, strict=True)
            for number in range(1, decoded[file.key].frames + 1)
            for image in [file.frame(number).relative_to(images).as_posix()]
        ]
        frames = pd.DataFrame(sorted(rows), columns=list(COLUMNS))
        class_names = {number: name for name, number in class_ids.items()}
        index = balance(frames, class_names)
        write_text(self.folder / "toybox_dirmap_unbalanced.csv", index_text(frames))
        write_csv(self.folder / CLASS_TABLE, class_ids.items(), header=("class", "index"))
        gaps = [
            f"{clip.gaps} {'gap' if clip.gaps == 1 else 'gaps'} in the time stamps of {key}"
            for key, clip in decoded.items()
            if clip.gaps
        ]
        lines = (*left_out(self.root), *sorted(gaps))
        return Sample(images, index, class_names, TEST_SESSIONS, lines)


def index_toybox(root: Path, output: Path, workers: int) -> Dataset:
    """Index a tree of clips; see :class:`Toybox`."""
    return index_source(Toybox(root=root, output=output, workers=workers))[0]


def balance(frames: pd.DataFrame, class_names: Mapping[int, str] | None = None) -> pd.DataFrame:
    """Give every class the same number of objects, sessions and frames, by the published rules.

    In this order: frames 1 to 15 of a clip are kept; a shorter clip is continued backwards (9
    frames become 1..9, 8..3); objects with fewer than ten sessions are dropped; of every class
    that then has 30 objects, object 30 is dropped; objects are renumbered from 1 in each class.

    Args:
        frames: Index of all frames, columns ``COLUMNS``, im_num counted from 1.
        class_names: Names of class ids, for error messages.

    Returns:
        The balanced index, ordered by class, object, session, im_num.

    Raises:
        InputError: a clip of a kept object has less than 8 frames, or a class has no
            object with ten sessions.
    """
    names = class_names or {}
    kept = frames.loc[(frames["im_num"] <= _FRAMES).to_numpy(), list(COLUMNS)]
    kept = kept.sort_values([*_CLIP, "im_num"], kind="stable")
    count = kept.groupby(_CLIP)["im_num"].transform("size").to_numpy()
    parts, too_short = [kept.loc[count >= _FRAMES]], []
    for key, clip in kept.loc[count < _FRAMES].groupby(_CLIP):
        if len(clip) < _SHORTEST:
            too_short.append((key, clip))
        there_and_back = pd.concat([clip, clip.iloc[-2::-1]]).iloc[:_FRAMES]
        parts.append(there_and_back.assign(im_num=range(1, len(there_and_back) + 1)))
    index = pd.concat(parts).drop_duplicates().sort_values([*_CLIP, "im_num"], kind="stable")

    sessions = index.groupby(["class", "object"])["session"].transform("nunique").to_numpy()
    index = index.loc[sessions >= _SESSIONS]
    objects = index.groupby("class")["object"].transform("nunique").to_numpy()
    index = index.loc[~((objects == LAST_OBJECT) & (index["object"] == LAST_OBJECT).to_numpy())]
    for number in pd.unique(frames["class"].to_numpy()).tolist():
        if not (index["class"] == number).any():
            subject = f"class {names.get(number, number)}"
            raise InputError(subject, f"has no object with {_SESSIONS} sessions", "add its clips")
    if index.empty:
        raise InputError("the index", "has no frames", _LAYOUT)
    used = set(zip(index["class"].tolist(), index["object"].tolist(), strict=True))
    for (number, item, session), clip in too_short:
        if (number, item) in used:
            raise InputError(
                f"class {names.get(number, number)}, object {item}, session {session}",
                f"has {len(clip)} frames at one a second, of at least {_SHORTEST}, "
                f"the first is {clip['im_path'].iloc[0]}",
                "take the object out of the tree or give a longer clip",
            )
    numbers = index.groupby("class")["object"].rank(method="dense").astype("int64")
    return index.assign(object=numbers).reset_index(drop=True)


def find_clips(root: Path) -> list[Clip]:
    """All clips of the tree in the order of their paths, without those left out by name.

    Raises:
        InputError: the tree is not laid out as :class:`Toybox` says, or holds no clips.
    """
    if not root.is_dir():
        raise InputError(root, "is not a folder", _LAYOUT)
    _check_top(root)
    found: dict[tuple[str, int, int], Clip] = {}
    for super_category in SUPER_CATEGORIES:
        for folder in visible(root / super_category):
            match = _OBJECT_FOLDER.fullmatch(folder.name)
            if match is None or not folder.is_dir():
                raise InputError(folder, "is not a folder <class>_<2 digits>_pivothead", _LAYOUT)
            for path in visible(folder):
                session = _session(path)
                if session is None:
                    continue
                name = canonical(match[1])
                clip = Clip(path.relative_to(root), name, int(match[2]), session)
                if problem := path_problem(clip.path.as_posix()):
                    raise InputError(path, problem, "rename it")
                same = found.setdefault((clip.class_name, clip.object, clip.session), clip)
                if same is not clip:
                    problem = f"is the same class, object and session as {same.path}"
                    raise InputError(path, problem, "keep one of the two")
    if not found:
        raise InputError(root, "holds no clips", _LAYOUT)
    return list(found.values())


def missing_sessions(clips: Sequence[Clip]) -> dict[tuple[str, int], list[str]]:
    """Names of the sessions without a clip, for each (class name, object), sorted."""
    found: dict[tuple[str, int], set[int]] = {}
    for clip in clips:
        found.setdefault((clip.class_name, clip.object), set()).add(clip.session)
    return {
        key: [name for name, number in SESSIONS.items() if number not in found[key]]
        for key in sorted(found)
    }


def left_out(root: Path) -> list[str]:
    """One line for each object and each kind of file that is left out.

    Hidden files are not counted.

    Args:
        root: The tree.

    Raises:
        InputError: see :func:`find_clips`.
    """
    missing = missing_sessions(find_clips(root))
    whole = Counter(name for (name, _), sessions in missing.items() if not sessions)
    lines = []
    for (name, item), sessions in missing.items():
        if sessions:
            lines.append(f"{name} object {item} (no {', '.join(sessions)})")
        elif item == whole[name] == LAST_OBJECT:
            published = LAST_OBJECT - 1
            why = f"{LAST_OBJECT} objects; the published sample has {published}"
            lines.append(f"{name} object {item} ({why})")
    skipped: list[Path] = []
    list(visible(root, skipped))
    inside = [
        path
        for name in SUPER_CATEGORIES
        for folder in visible(root / name, skipped)
        for path in visible(folder, skipped)
    ]
    clips = [path for path in inside if path.suffix.lower() == ".mp4"]
    dropped = sum(path.stem.rsplit("_", 1)[-1] in DROPPED_SESSIONS for path in clips)
    others = len(inside) - len(clips)
    if dropped:
        kinds = " or ".join(DROPPED_SESSIONS)
        lines.append(f"{dropped} {'clip' if dropped == 1 else 'clips'} named {kinds}")
    if others:
        lines.append(f"{others} {'file that is' if others == 1 else 'files that are'} no .mp4")
    return [*lines, *system_line([path.relative_to(root) for path in skipped])]


def _check_complete(clips: Sequence[Clip]) -> None:
    """Raise InputError for a class without an object that has all sessions."""
    of_class: dict[str, list[tuple[int, int, str]]] = {}
    for (name, item), missing in missing_sessions(clips).items():
        of_class.setdefault(name, []).append((len(missing), item, ", ".join(missing)))
    for name, objects in of_class.items():
        count, item, missing = min(objects)
        if count:
            raise InputError(
                f"class {name}",
                f"has no object with {_SESSIONS} sessions, object {item} has no {missing}",
                "add the clips, or take the class out of the tree",
            )


def _check_top(root: Path) -> None:
    """Raise InputError for a root without super-categories, or with an unknown one."""
    if not any((root / name).is_dir() for name in SUPER_CATEGORIES):
        raise InputError(root, f"has none of the folders {', '.join(SUPER_CATEGORIES)}", _LAYOUT)
    for folder in visible(root):
        if folder.name not in SUPER_CATEGORIES and any(folder.glob("*_pivothead")):
            raise InputError(folder, "is not a known super-category", _LAYOUT)


def _session(path: Path) -> int | None:
    """Session number of a clip; None if it is left out, or for another kind of file."""
    if path.suffix.lower() != ".mp4":
        return None
    name = path.stem.rsplit("_", 1)[-1]
    if name in DROPPED_SESSIONS:
        return None
    if name not in SESSIONS:
        known = ", ".join((*SESSIONS, *DROPPED_SESSIONS))
        raise InputError(path, f"has the unknown transformation {name!r}", f"known are {known}")
    return SESSIONS[name]


def _class_ids(root: Path, names: set[str]) -> dict[str, int]:
    """Ids of the classes of the tree, sorted."""
    table = root / CLASS_TABLE
    if table.exists():
        known = _read_class_table(table)
        for name in sorted(names - set(known)):
            raise InputError(table, f"does not list the class {name!r}", "add its line")
    else:
        others = sorted(names - set(CLASSES))
        known = CLASSES | {name: len(CLASSES) + 1 + n for n, name in enumerate(others)}
    return {name: known[name] for name in sorted(names, key=known.__getitem__)}


def _read_class_table(path: Path) -> dict[str, int]:
    remedy = "give the header class,index and one class with its own number a line"
    rows = csv_rows(path, remedy)
    if next(rows, (1, []))[1] != ["class", "index"]:
        raise InputError(path, "has no header class,index", remedy)
    ids: dict[str, int] = {}
    for line, row in rows:
        if len(row) != 2 or not re.fullmatch("[0-9]{1,9}", row[1]):
            raise InputError(f"{path}, line {line}", "is not a name and number", remedy)
        if (name := canonical(row[0])) in ids or int(row[1]) in ids.values():
            raise InputError(f"{path}, line {line}", "repeats a class or a number", remedy)
        ids[name] = int(row[1])
    return ids
