"""Index CORe50: one frame per second of each clip.

Numbers, names and selected frames are those published with CRUMB. Nothing is random.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import pandas as pd

from crumb.data.index import COLUMNS, Dataset
from crumb.data.sets.base import About, Sample, Source, register, visible
from crumb.data.system_folders import system_line
from crumb.errors import InputError, setting
from crumb.progress import bar

CLASS_NAMES = {
    1: "plug_adapter",
    2: "mobile_phone",
    3: "scissors",
    4: "light_bulb",
    5: "can",
    6: "glasses",
    7: "ball",
    8: "marker",
    9: "cup",
    10: "remote_control",
}
TEST_SESSIONS = (3, 7, 10)
_OBJECTS, _OBJECTS_PER_CLASS, _SESSIONS = 50, 5, 11
# One frame per second of 20, starting with frame 10, because some clips lack earlier frames.
_FRAMES = range(10, 300, 20)
_FOLDERS = {128: "core50_128x128", 350: "core50_350x350"}
_FRAME_NAME = re.compile(r"C_([0-9]{2})_([0-9]{2})_([0-9]{3})\.png")
_LAYOUT = "expected are images s<1-11>/o<1-50>/C_<session>_<object>_<frame>.png"
_UNPACK = "unpack the archive again, or take the object out of every session"


@register
@dataclass(frozen=True, kw_only=True)
class Core50(Source):
    """Frames of CORe50: core50_128x128/s{session}/o{object}/C_{session}_{object}_{frame}.png.

    ROOT is the folder core50_128x128 (or core50_350x350, with --side 350), or the folder it is in.
    Frames 10, 30, ..., 290 of each clip are used, as published.
    """

    name: ClassVar[str] = "core50"
    about: ClassVar[About] = About(
        title="CORe50: a New Dataset and Benchmark for Continuous Object Recognition",
        content="164,866 frames of videos of 10 classes, 50 objects, 11 sessions",
        size="about 6 GB (128x128) or 28 GB (350x350)",
        licence="CC BY 4.0",
        page="https://vlomonaco.github.io/core50/",
        download="core50_128x128.zip, which unpacks into core50_128x128/, or core50_350x350.zip",
    )
    published: ClassVar[Mapping[str, int]] = {
        "images per class": 825,
        "images per session": 15,
        "sessions per object": 11,
        "sessions per class": 55,
        "objects per class": 5,
        "sessions in all": 550,
        "classes": 10,
        "images": 8250,
    }
    published_classes: ClassVar[tuple[str, ...]] = tuple(CLASS_NAMES.values())

    side: Literal[128, 350] = 128
    """Side of the images in pixels, which determines the folder."""
    from_names: bool = False
    """Write the published index without checking images, which may be added later."""

    @property
    def images(self) -> Path:
        """The folder of sessions."""
        named = (self.root.name, self.root.resolve().name)
        if any(folder in named for side, folder in _FOLDERS.items() if side != self.side):
            problem = f"does not fit the folder {self.root}"
            raise InputError(
                setting("side", self.side), problem, "give the side of the images in it"
            )
        return self.root if _FOLDERS[self.side] in named else self.root / _FOLDERS[self.side]

    def sample(self) -> Sample:
        """Check that every frame of the published sample is there.

        An object that is missing in every session is left out. All other objects must be complete.
        Object ids count over all classes: class 1 has objects 1 to 5. Hidden files are ignored.

        Raises:
            InputError: the tree is not laid out as above, or a session, an object of a session or
                a frame of the sample is missing.
        """
        images = self.images
        if self.from_names:
            return Sample(images, core50_index(), CLASS_NAMES, TEST_SESSIONS)
        if not images.is_dir():
            problem = f"neither is nor holds a folder {images.name}"
            remedy = (
                f"unpack the archive there, or see {setting('side')} and {setting('from_names')}"
            )
            raise InputError(self.root, problem, remedy)
        skipped: list[Path] = []
        clips, others = _find_clips(images, skipped)
        _check_complete(images, clips)
        objects = sorted({item for item, _ in clips})
        index = core50_index()
        index = index.loc[index["object"].isin(objects)].reset_index(drop=True)
        frames = sum(map(len, clips.values()))
        found = set(index["class"].tolist())
        names = {number: name for number, name in CLASS_NAMES.items() if number in found}
        system = system_line([path.relative_to(images) for path in skipped])
        left_out = (*_left_out(objects, frames - len(index), others), *system)
        return Sample(images, index, names, TEST_SESSIONS, left_out)


def core50_index() -> pd.DataFrame:
    """The sampled index as published: 8,250 rows, 15 frames of each of 11 sessions of 50 objects.

    im_path is relative to the folder of the images (``s8/o12/C_08_12_070.png``). No image is
    needed.
    """
    clips = itertools.product(range(1, _OBJECTS + 1), range(1, _SESSIONS + 1), _FRAMES)
    rows = [
        (
            (item - 1) // _OBJECTS_PER_CLASS + 1,
            item,
            session,
            frame,
            f"s{session}/o{item}/C_{session:02}_{item:02}_{frame:03}.png",
        )
        for item, session, frame in clips
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def core50_dataset(images: Path) -> Dataset:
    """CORe50 with its 128x128 images below ``images`` (folders s1 to s11)."""
    return Dataset("core50", images, images, core50_index(), dict(CLASS_NAMES), TEST_SESSIONS)


def _find_clips(images: Path, skipped: list[Path]) -> tuple[dict[tuple[int, int], set[int]], int]:
    """Numbers of the frames of each clip (object, session), and the number of other files.

    Skipped system folders are appended to ``skipped``.
    """
    sessions, others = _numbered_folders(images, "s", _SESSIONS, skipped)
    folders: dict[tuple[int, int], Path] = {}
    for session, parent in sessions.items():
        objects, files = _numbered_folders(parent, "o", _OBJECTS, skipped)
        folders |= {(item, session): folder for item, folder in objects.items()}
        others += files
    clips: dict[tuple[int, int], set[int]] = {}
    for clip, folder in bar(folders.items(), "clips", "clip"):
        clips[clip], files = _frames(folder, clip, skipped)
        others += files
    return clips, others


def _numbered_folders(
    parent: Path, letter: str, last: int, skipped: list[Path]
) -> tuple[dict[int, Path], int]:
    """Folders ``letter`` 1 to ``last`` by number, and the number of other files.

    Raises:
        InputError: there is another folder, or a file that is a .png.
    """
    known = {f"{letter}{number}": number for number in range(1, last + 1)}
    found: dict[int, Path] = {}
    files = 0
    for path in visible(parent, skipped):
        if path.name in known and path.is_dir():
            found[known[path.name]] = path
        elif path.is_dir() or path.suffix.lower() == ".png":
            problem = f"is not one of the folders {letter}1 to {letter}{last}"
            raise InputError(path, problem, _LAYOUT)
        else:
            files += 1
    return dict(sorted(found.items())), files


def _frames(folder: Path, clip: tuple[int, int], skipped: list[Path]) -> tuple[set[int], int]:
    """Numbers of the frames in the folder of a clip, and the number of other files.

    Raises:
        InputError: it holds something else, or a frame of another clip.
    """
    numbers: set[int] = set()
    others = 0
    for path in visible(folder, skipped):
        match = _FRAME_NAME.fullmatch(path.name)
        if match and (int(match[2]), int(match[1])) == clip:
            numbers.add(int(match[3]))
        elif path.suffix.lower() == ".png" or path.is_dir():
            item, session = clip
            problem = f"is not a frame C_{session:02}_{item:02}_<3 digits>.png"
            raise InputError(path, problem, _LAYOUT)
        else:
            others += 1
    return numbers, others


def _check_complete(images: Path, clips: Mapping[tuple[int, int], set[int]]) -> None:
    """Raise InputError that names the first incomplete clip and the number of others."""
    if not any(clips.values()):
        raise InputError(images, "holds no frames", _LAYOUT)
    objects = sorted({item for item, _ in clips})
    missing: list[tuple[Path, str]] = []
    for session in range(1, _SESSIONS + 1):
        if not any(found == session for _, found in clips):
            missing.append((images / f"s{session}", "is missing or holds no object"))
            continue
        for item in objects:
            folder = images / f"s{session}" / f"o{item}"
            frames = clips.get((item, session))
            if frames is None:
                missing.append((folder, "is missing, though other sessions have the object"))
            elif lost := [frame for frame in _FRAMES if frame not in frames]:
                missing.append((folder, f"lacks the frames {', '.join(map(str, lost))}"))
    if missing:
        path, problem = missing[0]
        if len(missing) > 1:
            problem += f" (and {len(missing) - 1} more folders are not whole)"
        raise InputError(path, problem, _UNPACK)


def _left_out(objects: Sequence[int], unused_frames: int, others: int) -> tuple[str, ...]:
    lines = []
    absent = [str(item) for item in range(1, _OBJECTS + 1) if item not in objects]
    if absent:
        lines.append(f"objects that are not in the tree: {', '.join(absent)}")
    if unused_frames:
        used = f"{_FRAMES[0]}, {_FRAMES[1]}, ..., {_FRAMES[-1]}"
        lines.append(f"frames other than {used} of a clip: {unused_frames}")
    if others:
        lines.append(f"files that are not .png: {others}")
    return tuple(lines)
