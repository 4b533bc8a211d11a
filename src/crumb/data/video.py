"""Frames of a video clip, one for each second."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from crumb.data.clock import Clock, FrameClock
from crumb.data.resize import Resize, to_square
from crumb.errors import InputError
from crumb.files import file_size
from crumb.kinds import given, whole_number

_REMEDY = "fetch the clip again, or take it out of the tree"
_MOST_PIXELS = 2**26
# Pictures are left out, and lists that make FFmpeg open other files.
_CONTAINERS = (
    "mov,matroska,avi,mpeg,mpegts,mpegvideo,flv,asf,ogg,gif,mxf,dv,ivf,nut,yuv4mpegpipe,"
    "h264,hevc,mjpeg,m4v"
)
_PICTURES = (
    Disposition.attached_pic
    | Disposition.timed_thumbnails
    | Disposition.still_image
    | Disposition.dependent
)
_DEFAULT_IS_WORTH = 5_000_000
# The four numbers of a display matrix, by their signs, and what they ask for.
_TURNS = {
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}


def frames_at_one_per_second(
    path: Path | str, size: int = 224, resize: Resize = "crop"
) -> Iterator[Image.Image]:
    """Yield one frame for each second of a clip, as a square.

    Frame n (n from 1) is the first frame whose time since the first frame is at least n - 1
    seconds, by the clip's own time stamps; a clip of variable frame rate that stands still for
    seconds, at most ten, repeats a frame. Where time stamps restart (joined clips), jump by more
    than ten seconds or do not increase, the gap is closed (:mod:`crumb.data.clock`), so that no
    frame is lost or repeated. ffmpeg at one frame a second rounds times: it takes another frame of
    the same second, and may give one frame fewer where a clip ends in the first half of a second.

    Args:
        path: A video in a usual container (MP4, QuickTime, Matroska, WebM, AVI, MPEG, ...) or a
            plain H.264, HEVC, MPEG or Motion JPEG stream, told by its content, of at most
            67,108,864 pixels a frame (8192 x 8192). Of several video streams the one that ffmpeg
            takes: the default one, or else the largest; cover pictures are none.
        size: Width and height of the frames in pixels; they are resized with bicubic filtering.
        resize: What becomes of the aspect ratio (:func:`crumb.data.resize.to_square`).

    Yields:
        RGB images of ``size`` x ``size`` pixels, turned and mirrored as the clip asks for.

    Raises:
        InputError: the file is missing, no file, empty, cut short, damaged or no video, or has no
            frames or too large ones.
    """
    path = Path(path)
    with _opened(path) as container:
        yield from _sample(path, container, size, resize)


def frames(path: Path | str, size: int = 224, resize: Resize = "crop") -> Iterator[Image.Image]:
    """The frames of :func:`frames_at_one_per_second`, of which the first is decoded at once.

    Raises:
        InputError: at the call: no frame can be decoded, or an argument is of another type or out
            of range; at a later frame: the clip is damaged there.
    """
    path, size = given("path", path, Path), whole_number("size", size, 1, 8192)
    rest = frames_at_one_per_second(path, size, given("resize", resize, Resize))
    return itertools.chain([next(rest)], rest)


@dataclass(frozen=True)
class ClipLength:
    """How long a clip is.

    Attributes:
        seconds: from its first frame to the end of its last one, gaps closed.
        gaps: how often its time stamps restart, jump or do not increase.
    """

    seconds: float
    gaps: int


def clip_length(path: Path) -> ClipLength:
    """Length of a clip, as its header, its index or else its packets tell it.

    Nothing is decoded: a clip that is damaged inside has a length all the same.

    Raises:
        InputError: the file is missing, no file, empty, cut short or no video.
    """
    with _opened(path) as container:
        stream = _video_stream(path, container)
        clock = Clock(stream.time_base or Fraction(1))
        entries = stream.index_entries
        if stream.frames and len(entries) == stream.frames:
            for entry in entries:
                clock.tick(entry.timestamp, None)
            told = (stream.duration or 0) * (stream.time_base or Fraction(1))
        else:
            for packet in container.demux(stream):
                if packet.size:
                    clock.tick(packet.dts, packet.duration)
            told = Fraction(0)
        seconds = clock.end()
        if not seconds:
            raise InputError(path, "has no frames", _REMEDY)
        return ClipLength(float(told if told and not clock.gaps else seconds), clock.gaps)


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    """The container of a clip; what goes wrong while it is open becomes an InputError."""
    try:
        size = file_size(path)
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", _REMEDY) from error
    try:
        # Absolute, or FFmpeg takes what is before a colon in a name for a protocol.
        name = str(path.absolute())
        options = {"format_whitelist": _CONTAINERS, "max_pixels": str(_MOST_PIXELS)}
        with av.open(name, options=options) as container:
            if _lacks_frames(path, container, size):
                raise InputError(path, "is cut short", _REMEDY)
            yield container
    # PyAV raises ValueError beside its own errors for broken headers.
    except (av.error.FFmpegError, ValueError) as error:
        if _last_box(path, size).runs_over:
            raise InputError(path, "is cut short", _REMEDY) from error
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, av.error.ArgumentError):
            reason = "it is no video, or a broken one"
        raise InputError(path, f"cannot be decoded ({reason})", _REMEDY) from error


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    """The stream that ffmpeg would take; a cover picture is none."""
    videos = [s for s in container.streams.video if not s.disposition & _PICTURES]
    if not videos:
        raise InputError(path, "has no video stream", _REMEDY)
    known = [stream for stream in videos if stream.codec_context is not None]
    if not known:
        raise InputError(path, "has a video stream of an unknown format", _REMEDY)
    return max(known, key=_worth)


def _worth(stream: VideoStream) -> tuple[bool, int]:
    """A picture that is not marked as a cover has one frame."""
    is_default = bool(stream.disposition & Disposition.default)
    area = stream.codec_context.width * stream.codec_context.height
    return stream.frames != 1, area + _DEFAULT_IS_WORTH * is_default


def _sample(
    path: Path, container: InputContainer, size: int, resize: Resize
) -> Iterator[Image.Image]:
    stream = _video_stream(path, container)
    # One thread each: clips are decoded side by side.
    stream.codec_context.thread_count = 1
    # Damage is an error; the decoder would paint over it.
    stream.codec_context.options = {"err_detect": "explode", "max_pixels": str(_MOST_PIXELS)}
    clock = FrameClock(stream.time_base or Fraction(1))
    # Of some formats 0, for unknown.
    pixel_aspect = stream.sample_aspect_ratio or Fraction(1)
    taken = 0
    for packet in container.demux(stream):
        clock.send(packet)
        for frame in packet.decode():
            assert isinstance(frame, VideoFrame)
            seconds, image = clock.tick(frame), None
            while seconds >= taken:
                image = image or _square(frame, size, resize, pixel_aspect)
                taken += 1
                yield image
    if taken == 0:
        raise InputError(path, "has no frames", _REMEDY)


def _square(frame: VideoFrame, size: int, resize: Resize, pixel_aspect: Fraction) -> Image.Image:
    # The published data sets were cut with FFmpeg's filter.
    side = size if resize == "squash" else None
    image = frame.reformat(side, side, format="rgb24", interpolation="BICUBIC").to_image()
    image = to_square(image, size, resize, Image.Resampling.BICUBIC, pixel_aspect)
    turn = _turn(frame)
    return image if turn is None else image.transpose(turn)


def _turn(frame: VideoFrame) -> Image.Transpose | None:
    """What the clip's display matrix asks for; one that is askew is taken for the nearest.

    Its numbers a, b, c, d move the pixel at (x, y), y counted downwards, to (ax + cy, bx + dy).
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return None
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    if abs(a) + abs(d) < abs(b) + abs(c):
        a = d = 0
    else:
        b = c = 0
    return _TURNS.get((_sign(a), _sign(b), _sign(c), _sign(d)))


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)


# Files that end too early.


def _lacks_frames(path: Path, container: InputContainer, size: int) -> bool:
    """Whether frames that an MP4 or QuickTime file lists lie behind its end.

    The decoder stays silent where the cut happens to fall between two frames. What other programs
    write after the last box is no matter.
    """
    if "mp4" not in container.format.name.split(","):
        return False
    entries = _video_stream(path, container).index_entries
    if any(entry.pos + entry.size > size for entry in entries):
        return True
    last = _last_box(path, size)
    # What is missing of the index may be frames.
    if last.kind == b"moov" and last.runs_over:
        return True
    # Fragments are listed one by one, each before its frames.
    return last.fragmented and (last.kind == b"moof" or last.runs_over)


@dataclass(frozen=True)
class _Box:
    """Where the walk along the boxes of an MP4 or QuickTime file ended.

    Attributes:
        kind: of the last box that holds part of the video; empty where the file has none.
        runs_over: it would end after the file does.
        fragmented: there are fragments.
    """

    kind: bytes = b""
    runs_over: bool = False
    fragmented: bool = False


def _last_box(path: Path, size: int) -> _Box:
    last, position = _Box(), 0
    with path.open("rb") as file:
        while position + 8 <= size:
            file.seek(position)
            length, kind = struct.unpack(">I4s", file.read(8))
            if position == 0 and kind not in (b"ftyp", b"wide", b"skip", b"free", *_BOXES):
                return last
            if length == 1:
                length = int.from_bytes(file.read(8), "big")
            elif length == 0:
                length = size - position
            if length < 8:
                return last
            position += length
            if kind in _BOXES:
                last = _Box(kind, position > size, last.fragmented or kind == b"moof")
    return last


_BOXES = (b"moov", b"mdat", b"moof")
