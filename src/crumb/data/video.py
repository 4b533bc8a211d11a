"""Frames of a video clip, one for each second."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import av.error
from av.container import InputContainer
from av.video.stream import VideoStream
from PIL import Image

from crumb.errors import InputError
from crumb.files import file_size

_REMEDY = "fetch the clip again, or take it out of the tree"
# A damaged time stamp can ask for more frames than a disk holds.
_LONGEST_STANDSTILL = 3600
_MOST_PIXELS = 2**26
# Pictures are left out, and lists that make FFmpeg open other files.
_CONTAINERS = "mov,matroska,avi,mpeg,mpegts,mpegvideo,flv,asf,ogg,gif,mxf,dv,ivf,nut,yuv4mpegpipe"


def frames_at_one_per_second(path: Path | str, size: int = 224) -> Iterator[Image.Image]:
    """Yield one frame for each second of a clip, resized to a square whatever its shape.

    Frame n (n from 1) is the first frame whose time since the first frame is at least n - 1
    seconds, by the clip's own time stamps; a clip of variable frame rate that stands still for
    seconds, at most an hour, repeats a frame. ffmpeg at one frame a second rounds times: it takes
    another frame of the same second, and may give one frame fewer where a clip ends in the first
    half of a second.

    Args:
        path: A video in a usual container (MP4, QuickTime, Matroska, WebM, AVI, MPEG, ...), told by
            its content, of at most 67,108,864 pixels a frame (8192 x 8192).
        size: Width and height of the frames in pixels; they are resized with bicubic filtering.

    Yields:
        RGB images of ``size`` x ``size`` pixels, turned upright if the clip asks for it.

    Raises:
        InputError: the file is missing, no file, empty, cut short, damaged or no video, or has no
            frames or too large ones.
    """
    path = Path(path)
    with _opened(path) as container:
        yield from _sample(path, container, size)


def clip_seconds(path: Path) -> float:
    """Length of a clip in seconds, as its header or else its time stamps tell it.

    Nothing is decoded: a clip that is damaged inside has a length all the same.

    Raises:
        InputError: the file is missing, no file, empty, cut short or no video.
    """
    with _opened(path) as container:
        stream = _video_stream(path, container)
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base)
        if container.duration:
            return container.duration / av.time_base
        times = [packet.pts for packet in container.demux(stream) if packet.pts is not None]
        if not times or not stream.time_base:
            raise InputError(path, "has no frames", _REMEDY)
        return float((max(times) - min(times)) * stream.time_base)


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    """The container of a clip; what goes wrong while it is open becomes an InputError."""
    if _is_cut_short(path):
        raise InputError(path, "is cut short", _REMEDY)
    try:
        # Absolute, or FFmpeg takes what is before a colon in a name for a protocol.
        name = str(path.absolute())
        options = {"format_whitelist": _CONTAINERS, "max_pixels": str(_MOST_PIXELS)}
        with av.open(name, options=options) as container:
            yield container
    # PyAV raises ValueError beside its own errors for broken headers.
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, av.error.ArgumentError):
            reason = "it is no video, or a broken one"
        raise InputError(path, f"cannot be decoded ({reason})", _REMEDY) from error


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    if not container.streams.video:
        raise InputError(path, "has no video stream", _REMEDY)
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise InputError(path, "has a video stream of an unknown format", _REMEDY)
    return stream


def _sample(path: Path, container: InputContainer, size: int) -> Iterator[Image.Image]:
    stream = _video_stream(path, container)
    # One thread each: clips are decoded side by side.
    stream.codec_context.thread_count = 1
    # Damage is an error; the decoder would paint over it.
    stream.codec_context.options = {"err_detect": "explode", "max_pixels": str(_MOST_PIXELS)}
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
        end = file_size(path)
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
