"""Index a user's folder or table of videos or images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, ClassVar, Literal

import pandas as pd

from crumb.data.decode import ClipFile, decode_clips
from crumb.data.index import COLUMNS
from crumb.data.names import canonical
from crumb.data.resize import Resize
from crumb.data.sets.base import ClipSource, Sample, register
from crumb.data.sets.folder_layout import IMAGES, VIDEOS, Found, medium, read_tree
from crumb.data.sets.folder_split import (
    Clip,
    Part,
    Split,
    check_sides,
    divide,
    group,
    held_out,
    numbered,
    one_each,
)
from crumb.data.sets.folder_table import SUFFIXES, read_table
from crumb.data.sets.folder_warnings import same_on_both_sides, warnings
from crumb.data.video import clip_length
from crumb.errors import InputError, printable, require, setting
from crumb.files import short_name, write_csv
from crumb.kinds import Argument
from crumb.progress import bar

SESSIONS = "sessions.csv"
_SHARE = 0.25


@dataclass(frozen=True)
class Survey:
    """How Crumb reads a folder, before anything is written.

    Attributes:
        where: The folder or the table.
        root: Folder that all paths are relative to.
        kind: "videos" or "images".
        clips: Every session, in natural order of class, object and session.
        tested: Whether each clip is a test clip; with ``--split image``, its last images are.
        split: How training and test images are divided.
        test: Whether any are tested on.
        sides: Images to train on and to test on, by class; of videos one for each second.
        unused: Paths of what cannot be used, by the reason.
        notes: A line for each thing that is odd.
    """

    where: Path
    root: Path
    kind: str
    clips: tuple[Clip, ...]
    tested: tuple[bool, ...]
    split: Split
    test: bool
    sides: Mapping[str, tuple[int, int]]
    unused: Mapping[str, Sequence[str]]
    notes: tuple[str, ...]

    @property
    def class_ids(self) -> dict[str, int]:
        """Class ids, from 1 in natural order of the names."""
        names = dict.fromkeys(clip.class_name for clip in self.clips)
        return {name: number for number, name in enumerate(names, 1)}


@register
@dataclass(frozen=True, kw_only=True)
class Folder(ClipSource):
    """A folder of your own: class/clip.mp4, class/object/clip.mp4, class/session/frame.jpg, ...

    Crumb first shows how it read the folder. It cuts videos into frames (one per second, 224 x
    224), leaves images unchanged and in place, and holds out whole sessions for testing. ROOT may
    be a CSV file with the columns path and class and, if known, object, session, frame and split.
    """

    # Below the output folder come to lie the frames of videos (images/, frames.json), the index
    # (<name>_dirmap.csv), what its numbers stand for (sessions.csv) and, last, dataset.json.

    name: ClassVar[str] = "folder"

    root: Annotated[Path, Argument(positional=True)]
    """Folder of videos or images, or a CSV file with paths relative to its folder (read only)."""
    table: Path | None = None
    """CSV file that lists the files to use, with paths relative to ROOT."""
    split: Split | None = None
    """Test split: some sessions (the default), some objects, the given split (files in test/ or
    marked test in the table; the default if present), or the last images of each session (the
    default if every class has one session)."""
    test_share: float = _SHARE
    """Share of the sessions, objects or images used for testing."""
    test: bool = True
    """Hold images out to test on. Without them, `crumb tasks` and your own code can use the data
    set; `crumb stream` cannot."""
    largest: int | None = None
    """Maximum number of images per session, first ones first. Default: all."""
    only: Literal["videos", "images"] | None = None
    """Whether to use videos or images of a folder that holds both."""
    resize: Resize = "crop"
    """How images become square: crop resizes the shorter side and keeps the centre, squash ignores
    the aspect ratio, pad keeps everything and adds black bars."""
    dry_run: bool = False
    """Show how Crumb reads the folder, then stop."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require("test_share", self.test_share, 0 < self.test_share < 1, "between 0 and 1")
        if not self.test:
            for name, unset in (("split", None), ("test_share", _SHARE)):
                if (value := getattr(self, name)) != unset:
                    problem = f"has no effect with {setting('test', False)}"
                    raise InputError(setting(name, value), problem, "leave one of them out")
        if self.largest is not None:
            require("largest", self.largest, 1 <= self.largest < 1 << 31, "from 1 to 2^31 - 1")
        if self.table is not None and self.root.is_file():
            raise InputError(
                setting("table", self.table), "needs a folder as ROOT", "give one table"
            )
        if self.table is not None:
            self.keep_apart(self.table)

    @property
    def folder(self) -> Path:
        """Output folder of the data set. Default: named after the source folder."""
        return self.output or Path(f"{short_name(self.root.resolve().stem)}-data")

    @property
    def dataset_name(self) -> str:
        """That of the folder it is written to, so that two of them have results apart."""
        return printable(short_name(canonical(self.folder.resolve().name)))

    @cached_property
    def survey(self) -> Survey:
        """Survey of the folder, computed once.

        Raises:
            InputError: nothing can be used, the layout or the table is broken, videos and images
                are mixed, or a given test split was requested but is missing.
        """
        found = self._found()
        kind = self._keep_one_kind(found)
        split = self._chosen_split(found)
        if kind == VIDEOS:
            counts_of = _seconds(found)
        else:
            counts_of = dict.fromkeys((entry.path for entry in found.entries), 1)
        entries = [entry for entry in found.entries if entry.path in counts_of]
        if not entries:
            path, why = next((p[0], why) for why, p in found.unused.items())
            problem = f"holds no clip that can be used ({path}: {why})"
            raise InputError(self.root, problem, "give videos that a player shows")
        if split != "given":
            # Files of one session belong together, even in different folders.
            entries = [replace(entry, split="") for entry in entries]
        clips = group(entries)
        if kind == VIDEOS:
            _check_endings(found.root, clips)
        if self.split is None and split == "session" and one_each(clips):
            split = "image"
        tested = self._tested(clips, split)
        # Of videos any names do, as only the number of images is asked for.
        images = [
            clip.files if kind == IMAGES else ("",) * sum(counts_of[file] for file in clip.files)
            for clip in clips
        ]
        parts = self._parts(clips, images, tested, split)
        notes = list(found.notes)
        if self.test:
            notes += warnings(kind, clips, tested, split)
            notes += same_on_both_sides(found.root, kind, parts, self.workers)
        unused = {why: tuple(paths) for why, paths in found.unused.items()}
        return Survey(
            where=self.table or self.root,
            root=found.root,
            kind=kind,
            clips=tuple(clips),
            tested=tuple(tested),
            split=split,
            test=self.test,
            sides=_sides(parts),
            unused=unused,
            notes=tuple(notes),
        )

    def sample(self) -> Sample:
        """Cut videos into frames unless this is already done, and number everything.

        Raises:
            InputError: see :attr:`survey`; a class has no training or test data, a clip is
                broken, or the folder cannot be written.
        """
        survey = self.survey
        check_sides(survey.sides, survey.split, self.test)
        images = survey.root if survey.kind == IMAGES else self.folder / "images"
        of_clips = [clip.files for clip in survey.clips]
        if survey.kind == VIDEOS:
            of_clips = self._frames(survey)
        parts = self._parts(survey.clips, of_clips, survey.tested, survey.split)
        check_sides(_sides(parts), survey.split, self.test)
        keys = numbered(parts, survey.class_ids)
        rows = [
            (*key, number, image)
            for key, part in zip(keys, parts, strict=True)
            for number, image in enumerate(part.images, 1)
        ]
        self._write_sessions(keys, parts)
        return Sample(
            images,
            pd.DataFrame(sorted(rows), columns=list(COLUMNS)),
            {number: name for name, number in survey.class_ids.items()},
            tuple(sorted({key[2] for key, part in zip(keys, parts, strict=True) if part.is_test})),
            tuple(f"{path}: {why}" for why, paths in survey.unused.items() for path in paths),
            resize=self.resize,
        )

    def _found(self) -> Found:
        if self.root.is_file():
            if self.root.suffix.lower() not in SUFFIXES:
                raise InputError(self.root, "is a file", "give a folder or a .csv file")
            return read_table(self.root, self.root.parent)
        return read_table(self.table, self.root) if self.table else read_tree(self.root)

    def _keep_one_kind(self, found: Found) -> str:
        """The kind that is used. With ``only``, files of the other kind are noted as unused."""
        first = {medium(entry.path): entry.path for entry in reversed(found.entries)}
        if self.only is None and len(first) > 1:
            raise InputError(
                self.root,
                f"holds videos ({first[VIDEOS]}) and images ({first[IMAGES]})",
                f"remove the others, or add {setting('only', VIDEOS)} or {setting('only', IMAGES)}",
            )
        kind = self.only or next(iter(first))
        if kind not in first:
            raise InputError(setting("only", kind), f"{self.root} holds none", "leave it out")
        for entry in found.entries:
            if medium(entry.path) != kind:
                found.refuse(entry.path, f"left out by --only {kind}")
        found.entries = [entry for entry in found.entries if medium(entry.path) == kind]
        return kind

    def _chosen_split(self, found: Found) -> Split:
        given = any(entry.split for entry in found.entries)
        if self.split == "given" and not given:
            raise InputError(
                setting("split", "given"),
                f"{self.table or self.root} has no test split",
                "put the classes below train/ and test/, or add a column split to the table",
            )
        split = self.split or ("given" if given else "session")
        if split == "given" and self.test_share != _SHARE:
            raise InputError(
                setting("test_share", self.test_share),
                "has no meaning where train and test are given",
                f"leave it out, or add {setting('split', 'session')}",
            )
        return split

    def _tested(self, clips: Sequence[Clip], split: Split) -> list[bool]:
        return held_out(clips, split, self.test_share) if self.test else [False] * len(clips)

    def _parts(
        self,
        clips: Sequence[Clip],
        images: Sequence[tuple[str, ...]],
        tested: Sequence[bool],
        split: Split,
    ) -> list[Part]:
        last = self.test_share if split == "image" and self.test else None
        return [
            part
            for clip, paths, is_test in zip(clips, images, tested, strict=True)
            for part in divide(clip, paths[: self.largest], is_test, last)
        ]

    def _frames(self, survey: Survey) -> list[tuple[str, ...]]:
        """Paths of each clip's frames below images/."""
        images = self.folder / "images"
        files = {
            path: ClipFile(path, survey.root / path, images / PurePosixPath(path).with_suffix(""))
            for clip in survey.clips
            for path in clip.files
        }
        decoded = decode_clips(
            list(files.values()), self.folder / "frames.json", self.workers, self.resize
        )
        return [
            tuple(
                files[path].frame(number).relative_to(images).as_posix()
                for path in clip.files
                for number in range(1, decoded[path].frames + 1)
            )
            for clip in survey.clips
        ]

    def _write_sessions(self, keys: Sequence[tuple[int, int, int]], parts: Sequence[Part]) -> None:
        names = ("class_name", "object_name", "session_name")
        header = ("class", "object", "session", "use", "images", *names)
        rows = [
            (
                *key,
                "test" if part.is_test else "train",
                len(part.images),
                part.clip.class_name,
                part.clip.object,
                part.clip.session,
            )
            for key, part in zip(keys, parts, strict=True)
        ]
        write_csv(self.folder / SESSIONS, sorted(rows), header)


def _seconds(found: Found) -> dict[str, int]:
    """Seconds of each video, rounded up. Unreadable and odd videos are noted."""
    seconds: dict[str, int] = {}
    gaps: dict[str, int] = {}
    joined: list[str] = []
    for entry in bar(found.entries, "checking clips", "clip", leave=False):
        try:
            length = clip_length(found.root / entry.path)
        except InputError as error:
            found.refuse(entry.path, error.problem_in_flags())
            continue
        seconds[entry.path] = max(1, math.ceil(length.seconds))
        if length.gaps:
            gaps[entry.path] = length.gaps
        if length.is_joined:
            joined.append(entry.path)
    if joined:
        found.notes.append(
            "of files that were joined only the beginning is read; join the clips with ffmpeg "
            f"instead, or keep them apart: {', '.join(joined)}"
        )
    if gaps:
        named = ", ".join(f"{path} ({count})" for path, count in gaps.items())
        total = sum(gaps.values())
        found.notes.append(
            f"{total} {'gap' if total == 1 else 'gaps'} in time stamps, where clocks restart or "
            f"jump, closed: {named}"
        )
    return seconds


def _check_endings(root: Path, clips: Sequence[Clip]) -> None:
    """Raise InputError for two videos whose names differ only in the extension.

    They probably have the same content, and their frames would have the same names.
    """
    known: dict[PurePosixPath, str] = {}
    for path in (path for clip in clips for path in clip.files):
        other = known.setdefault(PurePosixPath(path).with_suffix(""), path)
        if other != path:
            problem = f"has the name of {PurePosixPath(other).name} but for its ending"
            raise InputError(root / path, problem, "take one of the two out, or rename it")


def _sides(parts: Sequence[Part]) -> dict[str, tuple[int, int]]:
    sides: dict[str, tuple[int, int]] = {}
    for part in parts:
        train, test = sides.get(part.clip.class_name, (0, 0))
        count = len(part.images)
        sides[part.clip.class_name] = (
            (train, test + count) if part.is_test else (train + count, test)
        )
    return sides
