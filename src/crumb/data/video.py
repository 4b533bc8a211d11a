"""Frames of a video clip, one for each second."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import av
import av.error
from av.container import InputContainer
from PIL import Image

from crumb.errors import InputError

_REMEDY = "fetch the clip again, or take it out of the tree"
# A damaged time stamp can ask for more frames than a disk holds.
_LONGEST_STANDSTILL = 3600


def frames_at_one_per_second(path: Path | str, size: int = 224) -> Iterator[Image.Image]:
    """Yield one frame for each second of a clip, resized to a square whatever its shape.

    Frame n (n from 1) is the first frame whose time since the first frame is at least n - 1
    seconds, by the clip's own time stamps; a clip of variable frame rate that stands still for
    seconds, at most an hour, repeats a frame. ffmpeg at one frame a second rounds times: it takes
    another frame of the same second, and may give one frame fewer where a clip ends in the first
    half of a second.

    Args:
        path: A video of any format that PyAV reads.
        size: Width and height of the frames in pixels; they are resized with bicubic filtering.

    Yields:
        RGB images of ``size`` x ``size`` pixels, turned upright if the clip asks for it.

    Raises:
        InputError: the file is missing, empty, cut short, damaged or no video, or has no frames.
    """
    path = Path(path)
    if _is_cut_short(path):
        raise InputError(path, "is cut short", _REMEDY)
    try:
        with av.open(str(path)) as container:
            yield from _sample(path, container, size)
    # PyAV raises ValueError beside its own errors for broken headers.
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(path, f"cannot be decoded ({reason})", _REMEDY) from error


def _sample(path: Path, container: InputContainer, size: int) -> Iterator[Image.Image]:
    if not container.streams.video:
        raise InputError(path, "has no video stream", _REMEDY)
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise InputError(path, "has a video stream of an unknown format", _REMEDY)
    # One thread each: clips are decoded side by side.
    stream.codec_context.thread_count = 1
    # Damage is an error; the decoder would paint over it.
    stream.codec_context.options = {"err_detect": "explode"}
    first: int | None = None
    taken = 0
    for frame in container.decode(stream):
        if frame.pts is None or frame.time_base is None:
            raise InputError(path, "has frames without time stamps", _REMEDY)
        first = frame.pts if first is None else first
        seconds = (frame.pts - first) * frame.time_base
        if seconds - taken > _LONGEST_STANDSTILL:
            raise InputError(path, f"jumps from second {taken} to {int(seconds)}", _REMEDY)
        image = None
        while seconds >= taken:
            if image is None:
                square = frame.reformat(size, size, format="rgb24", interpolation="BICUBIC")
                image = square.to_image().rotate(frame.rotation)
            taken += 1
            yield image
    if taken == 0:
        raise InputError(path, "has no frames", _REMEDY)


def _is_cut_short(path: Path) -> bool:
    """Whether an MP4 or QuickTime file ends inside one of its boxes.

    The decoder stays silent where the cut happens to fall between two frames.
    """
    try:
        end = path.stat().st_size
        with path.open("rb") as file:
            position = 0
            while position + 8 <= end:
                file.seek(position)
                length, kind = struct.unpack(">I4s", file.read(8))
                if position == 0 and kind != b"ftyp":
                    return False
                if length == 1:
                    length = int.from_bytes(file.read(8), "big")
                elif length == 0:
                    return False
                position += max(length, 8)
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", _REMEDY) from error
    return position > end
