"""Decode clips to PNG files in parallel, and skip finished clips."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import (
    Executor,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from threading import get_ident
from typing import Any

from PIL import Image

from crumb import signals
from crumb.data.resize import Resize
from crumb.data.video import clip_length, frames_at_one_per_second
from crumb.errors import InputError, setting
from crumb.files import file_size, read_json, short_name, write_json
from crumb.progress import bar

_FORMAT, _VERSION = "crumb-frames", 1
DECODING = 3
"""Version of the decoder. Raise it whenever decoded frames or pixels change, so that clips are
decoded again. ``tests/data/test_pinned_frames.py`` fails otherwise."""
_FORMERLY = {"decoding": 1, "resize": "squash"}
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_CLIPS_BETWEEN_RECORDS = 200


@dataclass(frozen=True)
class ClipFile:
    """A clip to decode.

    Attributes:
        key: Its name in the record: the path relative to the root of the tree.
        source: The video.
        frames: Stem of its frames: frame n becomes the file ``<frames>_<n>.png``; a name that is
            too long for this is shortened.
    """

    key: str
    source: Path
    frames: Path

    def frame(self, number: int) -> Path:
        """File of frame ``number``, counted from 1."""
        return self.frames.with_name(f"{short_name(self.frames.name)}_{number}.png")


@dataclass(frozen=True)
class Decoded:
    """Result of decoding a clip.

    Attributes:
        frames: number of frames.
        gaps: number of restarts or jumps of its clock; see :mod:`crumb.data.clock`.
    """

    frames: int
    gaps: int


def decode_clips(
    clips: Sequence[ClipFile], record: Path, workers: int, resize: Resize = "squash"
) -> dict[str, Decoded]:
    """Write one frame a second of each clip as 224 x 224 PNG files.

    A clip is skipped if ``record`` contains it with its present size and modification time, it was
    decoded in the same way, and all its frames are complete. The record is written at the end, also
    after an error or an interruption, so no clip is decoded twice.

    Args:
        clips: Clips with different keys.
        record: JSON file that lists the finished clips.
        workers: Number of processes; 1 decodes in this process.
        resize: How frames are made square.

    Returns:
        The result of each clip, by key.

    Raises:
        InputError: ``workers`` is below 1, a clip or the record is broken, or a file cannot be
            written.
    """
    if workers < 1:
        raise InputError(setting("workers"), f"is {workers}", "give a number of at least 1")
    known = _read_record(record) if record.exists() else {}
    files = {
        clip.key: _file(clip.source) | {"decoding": DECODING, "resize": resize} for clip in clips
    }
    done: dict[str, Decoded] = {}
    for clip in clips:
        entry = known.get(clip.key)
        if entry and _same_file(entry, files[clip.key]) and _all_whole(clip, entry["frames"]):
            done[clip.key] = Decoded(entry["frames"], entry.get("gaps", 0))
    waiting = [clip for clip in clips if clip.key not in done]
    if any(clip.key in known for clip in waiting):
        # Their frames will be overwritten, so do not record them as done in case of an
        # interruption.
        _write_record(record, files, done)
    try:
        progress = bar(None, "clips", "clip", total=len(clips), initial=len(done))
        with progress, closing(_decode_all(waiting, workers, resize)) as results:
            for clip, decoded in results:
                done[clip.key] = decoded
                progress.update()
                if len(done) % _CLIPS_BETWEEN_RECORDS == 0:
                    _write_record(record, files, done)
    finally:
        if done:
            _write_record(record, files, done)
    return done


def _decode_all(
    clips: Sequence[ClipFile], workers: int, resize: Resize
) -> Generator[tuple[ClipFile, Decoded], None, None]:
    """Yield each clip and its result, in the order in which they finish."""
    if workers == 1 or len(clips) <= 1:
        for clip in clips:
            yield clip, _decode(clip, resize)
        return
    pool = _pool(min(workers, len(clips)))
    try:
        tasks = {pool.submit(_decode, clip, resize): clip for clip in clips}
        for task in as_completed(tasks):
            yield tasks[task], task.result()
    except BrokenProcessPool as error:
        raise InputError(setting("workers"), "one of them died", "give a smaller number") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _pool(workers: int) -> Executor:
    """A pool of processes, or of threads if processes do not work.

    Pillow holds the interpreter lock while it compresses, so processes are faster. They are
    spawned, because a fork of a process with threads can hang. They need semaphores, which are
    files in /dev/shm. If that folder is not writable, as in some containers, threads are used.
    """
    try:
        return ProcessPoolExecutor(workers, get_context("spawn"), signals.ignore)
    except (OSError, ImportError, NotImplementedError):
        return ThreadPoolExecutor(workers)


def _decode(clip: ClipFile, resize: Resize) -> Decoded:
    number = 0
    try:
        for number, image in enumerate(frames_at_one_per_second(clip.source, resize=resize), 1):
            clip.frames.parent.mkdir(parents=True, exist_ok=True)
            _save(image, clip.frame(number))
    except OSError as error:
        problem = f"cannot be written ({error.strerror})"
        raise InputError(
            clip.frames.parent, problem, f"free space or choose {setting('output')}"
        ) from error
    return Decoded(number, clip_length(clip.source).gaps)


def _save(image: Image.Image, path: Path) -> None:
    """Write a PNG file atomically.

    Unlike ``crumb.files`` it does not wait for the disk, which would take twice as long as
    decoding. A frame that is lost in a power failure has no valid end, so it is detected and
    decoded again.
    """
    temporary = path.with_name(f".{os.getpid()}.{get_ident()}")
    try:
        image.save(temporary, "PNG", compress_level=1)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _file(path: Path) -> dict[str, int]:
    """Identity of a clip's contents."""
    try:
        return {"bytes": file_size(path), "modified": path.stat().st_mtime_ns}
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        raise InputError(path, problem, "download the clip again or remove it") from error


def _same_file(entry: Mapping[str, Any], file: Mapping[str, Any]) -> bool:
    # Older records have no modification time and no decoder version.
    return all(entry.get(key, _FORMERLY.get(key, value)) == value for key, value in file.items())


def _all_whole(clip: ClipFile, frames: int) -> bool:
    return all(_is_whole(clip.frame(number)) for number in range(1, frames + 1))


def _is_whole(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(-len(_PNG_END), os.SEEK_END)
            return file.read() == _PNG_END
    except OSError:
        return False


def _read_record(path: Path) -> dict[str, Any]:
    remedy = "delete it: all clips are then decoded again"
    record = read_json(path, remedy)
    clips = record.get("clips")
    if (record.get("format"), record.get("version")) != (_FORMAT, _VERSION):
        raise InputError(path, f"is not of the format {_FORMAT!r}, version {_VERSION}", remedy)
    if not isinstance(clips, dict) or not all(map(_is_entry, clips.values())):
        raise InputError(path, "has a malformed entry", remedy)
    return clips


def _is_entry(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    counts = {"gaps": 0, **value}
    least = {"bytes": 1, "frames": 1, "gaps": 0}
    return all(type(counts.get(key)) is int and counts[key] >= n for key, n in least.items())


def _write_record(
    path: Path, files: Mapping[str, dict[str, Any]], done: Mapping[str, Decoded]
) -> None:
    clips = {key: {**files[key], **asdict(done[key])} for key in sorted(done)}
    write_json(path, {"format": _FORMAT, "version": _VERSION, "clips": clips})
