"""iCubWorld Transformations: frames of objects that are turned and moved before a robot's eyes.

Numbers and rules are those published with CRUMB, except the class ids. There they follow the order
in which the operating system lists the folders, which differs between machines; here they are
alphabetical, so that a run has the same class order everywhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import pandas as pd

from crumb.data.index import COLUMNS, path_problem
from crumb.data.names import canonical
from crumb.data.sets.base import About, Sample, Source, register, visible
from crumb.errors import InputError, require, setting
from crumb.progress import bar

PARTS = ("part1", "part2", "part3", "part4")
CLASSES = (
    "bodylotion",
    "book",
    "cellphone",
    "flower",
    "glass",
    "hairbrush",
    "hairclip",
    "mouse",
    "mug",
    "ovenglove",
    "pencilcase",
    "perfume",
    "remote",
    "ringbinder",
    "soapdispenser",
    "sodabottle",
    "sprayer",
    "squeezer",
    "sunglasses",
    "wallet",
)
SESSIONS = {"MIX": 0, "ROT2D": 1, "ROT3D": 2, "SCALE": 3, "TRANSL": 4}
TEST_SESSIONS = (0,)
CAMERAS = ("left", "right")
_LAYOUT = (
    f"expected are images part<1-4>/<class>/<class><1-10>/{'|'.join(SESSIONS)}/<day>/"
    f"{'|'.join(CAMERAS)}/*.jpg"
)
_UNPACK = "unpack the parts again"
_LARGEST = 9999
_STRAY = "files that are not frames of a clip"
_SYSTEM = "folders of the system, never data"

# Instances of each class, by number.
_Instances = Mapping[str, Mapping[int, Path]]


@register
@dataclass(frozen=True, kw_only=True)
class IcubWorld(Source):
    """iCubWorld Transformations: part{1-4}/{class}/{class}{1-10}/{session}/{day}/{camera}/*.jpg.

    As published, every tenth frame of a clip is used (there are about ten a second), of the two
    days the first, of the two cameras the left. A session is one of the transformations of an
    object: MIX, which is tested on, ROT2D, ROT3D, SCALE or TRANSL.
    """

    name: ClassVar[str] = "icubworldtransf"
    about: ClassVar[About] = About(
        title="iCubWorld Transformations",
        content="frames of videos of 20 classes, 200 objects, 5 transformations",
        size="about 28 GB",
        licence="see its page",
        page="https://robotology.github.io/iCubWorld/",
        download="part1.tar.gz to part4.tar.gz, unpacked into part1/ to part4/",
    )
    published: ClassVar[Mapping[str, int]] = {
        "sessions per object": 5,
        "sessions per class": 50,
        "objects per class": 10,
        "sessions in all": 1000,
        "classes": 20,
    }
    published_classes: ClassVar[tuple[str, ...]] = CLASSES

    camera: Literal["left", "right"] = "left"
    """Camera: left or right eye of the robot."""
    day: int = 1
    """Number of the day folder of each clip, in alphabetical order, from 1."""
    step: int = 10
    """Use every n-th frame (clips have about ten per second)."""
    instances: int = 10
    """Number of objects per class, from the first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("day", "step", "instances"):
            value = getattr(self, name)
            require(name, value, 1 <= value <= _LARGEST, f"from 1 to {_LARGEST}")

    def sample(self) -> Sample:
        """Find the clips, and take the frames of each in the order of their names.

        Classes that are there are numbered from 0 in alphabetical order; instance n is object
        n - 1; the frames of a clip that are used count from 0. Hidden files are ignored.

        Raises:
            InputError: the tree is not laid out as above, or an instance of a class that is there
                lacks a transformation, the day, the camera or any frame.
        """
        unused: Counter[str] = Counter()
        found = _find_instances(self.root, unused)
        self._check_instances(found)
        names = dict(enumerate(sorted(found)))
        objects = [(number, item) for number in names for item in range(self.instances)]
        rows = []
        for number, item in bar(objects, "objects", "object"):
            for session, folder in self._clips(found[names[number]][item + 1], unused):
                frames = self._frames(folder, unused)
                rows += [(number, item, session, *frame) for frame in enumerate(frames)]
        extra = sum(instance > self.instances for of in found.values() for instance in of)
        unused[f"instances above {self.instances}"] += extra
        lines = [f"{part} (not in the tree)" for part in PARTS if not (self.root / part).is_dir()]
        lines += [f"{what}: {count}" for what, count in unused.items() if count]
        index = pd.DataFrame(rows, columns=list(COLUMNS))
        return Sample(self.root, index, names, TEST_SESSIONS, tuple(lines))

    def _check_instances(self, found: _Instances) -> None:
        """Raise InputError for a class that lacks one of the instances that are used."""
        for name, of in sorted(found.items()):
            missing = [n for n in range(1, self.instances + 1) if n not in of]
            if missing:
                shown = ", ".join(f"{name}{n}" for n in missing[:10])
                problem = f"has no folder {shown}" + (", ..." if missing[10:] else "")
                raise InputError(
                    f"class {name}", problem, f"{_UNPACK}, or lower {setting('instances')}"
                )

    def _clips(self, instance: Path, unused: Counter[str]) -> list[tuple[int, Path]]:
        """Session number and folder of frames of each transformation of one object."""
        found = {path.name: path for path in _folders(instance, unused)}
        for name, path in found.items():
            if name not in SESSIONS:
                known = ", ".join(SESSIONS)
                raise InputError(path, "is not a known transformation", f"known are {known}")
        clips = []
        for name, session in SESSIONS.items():
            if name not in found:
                raise InputError(instance, f"has no folder {name}", _UNPACK)
            days = list(_folders(found[name], unused))
            if len(days) < self.day:
                count = f"{len(days)} day {'folder' if len(days) == 1 else 'folders'}"
                problem = f"has {count}, so none for {setting('day', self.day)}"
                raise InputError(found[name], problem, f"{_UNPACK}, or choose an earlier day")
            unused["folders of other days"] += len(days) - 1
            clips.append((session, self._camera_folder(days[self.day - 1], unused)))
        return clips

    def _camera_folder(self, day: Path, unused: Counter[str]) -> Path:
        cameras = {path.name: path for path in _folders(day, unused)}
        for name, path in cameras.items():
            if name not in CAMERAS:
                raise InputError(path, "is not a camera folder", _LAYOUT)
        if self.camera not in cameras:
            raise InputError(
                day, f"has no folder {self.camera}", f"{_UNPACK}, or see {setting('camera')}"
            )
        unused["folders of the other camera"] += len(cameras) - 1
        return cameras[self.camera]

    def _frames(self, folder: Path, unused: Counter[str]) -> list[str]:
        """Paths, relative to the root, of the frames of a clip that are used."""
        frames: list[Path] = []
        for path in _visible(folder, unused):
            if path.suffix.lower() == ".jpg":
                frames.append(path)
            elif path.is_dir():
                raise InputError(path, "is a folder among the frames of a clip", _LAYOUT)
            else:
                unused[_STRAY] += 1
        if not frames:
            raise InputError(folder, "holds no .jpg", _UNPACK)
        # Alphabetical order is not time order if the numbers differ in length.
        frames.sort(key=lambda path: (len(path.name), path.name))
        used = frames[:: self.step]
        unused[f"frames between those used (one in {self.step})"] += len(frames) - len(used)
        relative = [path.relative_to(self.root).as_posix() for path in used]
        for path, name in zip(used, relative, strict=True):
            if problem := path_problem(name):
                raise InputError(path, problem, "rename it")
        return relative


def _find_instances(root: Path, unused: Counter[str]) -> dict[str, dict[int, Path]]:
    """Folder of each object, by class name and the number of the instance.

    Raises:
        InputError: ``root`` has no part, or a part or class holds an unknown folder, or two parts
            the same object.
    """
    entries = _visible(root, unused)
    parts = [folder for folder in entries if folder.name in PARTS and folder.is_dir()]
    if not parts:
        raise InputError(root, f"has none of the folders {', '.join(PARTS)}", _LAYOUT)
    unused["entries of the root other than part1 to part4"] += len(entries) - len(parts)
    found: dict[str, dict[int, Path]] = {}
    for folder in (folder for part in parts for folder in _folders(part, unused)):
        name = canonical(folder.name)
        instances = found.setdefault(name, {})
        for path in _folders(folder, unused):
            match = re.fullmatch(re.escape(name) + "([1-9][0-9]{0,3})", canonical(path.name))
            if match is None:
                problem = f"is not a folder {name}<number from 1>"
                raise InputError(path, problem, _LAYOUT)
            same = instances.setdefault(int(match[1]), path)
            if same != path:
                problem = f"is the same object as {same.relative_to(root)}"
                raise InputError(path, problem, "keep one of the two")
    if not found:
        raise InputError(root, "holds no classes", _LAYOUT)
    return found


def _folders(parent: Path, unused: Counter[str]) -> list[Path]:
    """Folders in a folder, by name. Other files are counted."""
    entries = _visible(parent, unused)
    folders = [path for path in entries if path.is_dir()]
    unused[_STRAY] += len(entries) - len(folders)
    return folders


def _visible(parent: Path, unused: Counter[str]) -> list[Path]:
    """Entries of a folder. Its system folders are counted."""
    skipped: list[Path] = []
    entries = list(visible(parent, skipped))
    unused[_SYSTEM] += len(skipped)
    return entries
