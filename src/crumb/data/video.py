"""Frames of a video clip, one per second."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error
from av.container import InputContainer
from av.format import Flags
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from crumb.data.boxes import is_cut_short, runs_over
from crumb.data.clock import AHEAD, Clock, FrameClock, Times, clock_of, with_ahead
from crumb.data.resize import Resize, to_square
from crumb.data.turns import turn_of
from crumb.errors import InputError
from crumb.files import file_size
from crumb.kinds import given, whole_number

_REMEDY = "download the clip again or remove it from the folder"
_MAX_PIXELS = 2**26
# Without image formats, and without playlists, which make FFmpeg open other files.
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
_OPTIONS = {"format_whitelist": _CONTAINERS, "max_pixels": str(_MAX_PIXELS)}
# A stream with a single packet is a picture if another one has more packets than this.
_MAX_COUNTED = 250
# First bytes of formats that can be joined. FFmpeg reads the first file (MP4, FLV, ASF, NUT) or
# the first two (Matroska).
_JOINED = (b"ftyp", b"FLV\x01", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", b"nut/", b"\x1aE\xdf\xa3")
_BEGINNING = 12


def frames_at_one_per_second(
    path: Path | str, size: int = 224, resize: Resize = "crop"
) -> Iterator[Image.Image]:
    """Yield one frame for each second of a clip, as a square.

    Frame n (n from 1) is the first frame at least n - 1 seconds after the first frame, by the time
    stamps of the clip. If more than a second passes without a new frame, the next frame is
    repeated. If time stamps restart (joined clips), jump or do not increase, the gap is closed
    (:mod:`crumb.data.clock`), so no frame is lost or repeated. ffmpeg at one frame per second
    rounds times: it takes another frame of the same second, and may return one frame fewer if a
    clip ends in the first half of a second.

    Args:
        path: A video in a common container (MP4, QuickTime, Matroska, WebM, AVI, MPEG, ...) or a
            plain H.264, HEVC, MPEG or Motion JPEG stream, recognised by its content, with at most
            67,108,864 pixels per frame (8192 x 8192). If there are several video streams, the
            stream that ffmpeg would take: the default one, or else the largest. Cover pictures do
            not count.
        size: Width and height of the frames in pixels. Frames are resized with bicubic filtering.
        resize: How frames become square (:func:`crumb.data.resize.to_square`).

    Yields:
        RGB images of ``size`` x ``size`` pixels, rotated and mirrored as the clip requires.

    Raises:
        InputError: the file is missing, not a file, empty, cut short, damaged or not a video, or
            its frames are missing or too large.
    """
    path = Path(path)
    with _opened(path) as container:
        yield from _sample(path, container, size, resize)


def frames(path: Path | str, size: int = 224, resize: Resize = "crop") -> Iterator[Image.Image]:
    """The frames of :func:`frames_at_one_per_second`. The first one is decoded immediately.

    Raises:
        InputError: at the call if no frame can be decoded, or an argument has the wrong type or is
            out of range; at a later frame if the clip is damaged there.
    """
    path, size = given("path", path, Path), whole_number("size", size, 1, 8192)
    rest = frames_at_one_per_second(path, size, given("resize", resize, Resize))
    return itertools.chain([next(rest)], rest)


@dataclass(frozen=True)
class ClipLength:
    """Duration of a clip.

    Attributes:
        seconds: seconds from the start of the first frame to the end of the last, gaps closed.
        gaps: number of restarts or jumps of its time stamps.
        is_joined: whether another file is appended, which FFmpeg does not read.
    """

    seconds: float
    gaps: int
    is_joined: bool = False


def clip_length(path: Path) -> ClipLength:
    """Length of a clip from its header, its index or else its packets.

    Nothing is decoded, so a clip with damaged frames still has a length.

    Raises:
        InputError: the file is missing, not a file, empty, cut short or not a video.
    """
    with _opened(path) as container:
        stream = _video_stream(path, container)
        unit, jumps = stream.time_base or Fraction(1), _jumps(container)
        entries, told = stream.index_entries, Fraction(0)
        # The indexes of other formats do not list joined files.
        if "mp4" in container.format.name and stream.frames and len(entries) == stream.frames:
            clock = Clock(unit, jumps)
            stamps = [entry.timestamp for entry in entries]
            for place, stamp in enumerate(stamps, 1):
                clock.tick(stamp, None, stamps[place : place + AHEAD])
            told = (stream.duration or 0) * unit
            end = max(entry.pos + entry.size for entry in entries)
        else:
            times, end = [], 0
            for packet in container.demux(stream):
                if packet.size:
                    times.append(Times(packet.pts, packet.dts, packet.duration, packet.is_keyframe))
                    end = max(end, (packet.pos or 0) + packet.size)
            clock = clock_of(times, unit, jumps)
        seconds = clock.end()
        if not seconds:
            raise InputError(path, "has no frames", _REMEDY)
        seconds = told if told and not clock.gaps else seconds
        return ClipLength(float(seconds), clock.gaps, _is_joined(path, end))


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    """Open the container of a clip, and turn errors while it is open into an InputError."""
    try:
        size = file_size(path)
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", _REMEDY) from error
    try:
        # In a relative path FFmpeg would take the text before a colon for a protocol.
        name = str(path.absolute())
        with av.open(name, options=_OPTIONS) as container:
            if "mp4" in container.format.name and _lacks_frames(path, container, size):
                raise InputError(path, "is cut short", _REMEDY)
            yield container
    # For broken headers PyAV also raises ValueError.
    except (av.error.FFmpegError, ValueError) as error:
        if runs_over(path, size):
            raise InputError(path, "is cut short", _REMEDY) from error
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, av.error.ArgumentError):
            reason = "it is not a video, or it is damaged"
        raise InputError(path, f"cannot be decoded ({reason})", _REMEDY) from error


def _lacks_frames(path: Path, container: InputContainer, size: int) -> bool:
    """Whether an MP4 or QuickTime file lists frames beyond its end.

    The decoder reports nothing if the cut falls between two frames.
    """
    entries = _video_stream(path, container).index_entries
    return any(entry.pos + entry.size > size for entry in entries) or is_cut_short(path, size)


def _is_joined(path: Path, end: int) -> bool:
    """Whether another file of the same format follows the last frame that FFmpeg finds.

    ``cat`` makes such a file from two MP4, FLV or WMV files, or from three Matroska files.
    """
    with path.open("rb") as file:
        first = file.read(_BEGINNING)
        # In MP4 the size of the first box comes before its name.
        place = 4 if first[4:8] == b"ftyp" else 0
        if not first.startswith(_JOINED, place):
            return False
        file.seek(end)
        kept = b""
        while part := file.read(1 << 20):
            if first[place:] in kept + part:
                return True
            kept = part[-_BEGINNING:]
    return False


def _jumps(container: InputContainer) -> bool:
    return bool(container.format.flags & Flags.ts_discont.value)


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    """The stream that ffmpeg would take. Cover pictures do not count."""
    videos = [s for s in container.streams.video if not s.disposition & _PICTURES]
    if not videos:
        raise InputError(path, "has no video stream", _REMEDY)
    known = [stream for stream in videos if stream.codec_context is not None]
    if not known:
        raise InputError(path, "has a video stream of an unknown format", _REMEDY)
    # An unmarked cover picture has one frame. Only MP4 tells the number of frames.
    counted = "mp4" in container.format.name and all(s.frames > 1 for s in known)
    if not counted and len(known) + len(container.streams.audio) > 1:
        moving = _moving(container.name, [stream.index for stream in known])
        known = [stream for stream in known if stream.index in moving] or known
        if not moving and container.streams.audio:
            raise InputError(path, "has no video stream", _REMEDY)
    return max(known, key=_worth)


def _moving(name: str, streams: Sequence[int]) -> set[int]:
    """The streams with more than one packet near the beginning of the file."""
    counted: Counter[int] = Counter()
    with av.open(name, options=_OPTIONS) as container:
        for packet in container.demux([container.streams[index] for index in streams]):
            counted[packet.stream_index] += bool(packet.size)
            if counted[packet.stream_index] > _MAX_COUNTED:
                break
            if all(counted[index] > 1 for index in streams):
                break
    return {index for index, count in counted.items() if count > 1}


def _worth(stream: VideoStream) -> int:
    is_default = bool(stream.disposition & Disposition.default)
    area = stream.codec_context.width * stream.codec_context.height
    return area + _DEFAULT_IS_WORTH * is_default


def _sample(
    path: Path, container: InputContainer, size: int, resize: Resize
) -> Iterator[Image.Image]:
    stream = _video_stream(path, container)
    # One thread per clip: several clips are decoded in parallel.
    stream.codec_context.thread_count = 1
    # By default the decoder would conceal damage.
    stream.codec_context.options = {"err_detect": "explode", "max_pixels": str(_MAX_PIXELS)}
    clock = FrameClock(stream.time_base or Fraction(1), _jumps(container))
    # Some formats give 0 for unknown.
    pixel_aspect = stream.sample_aspect_ratio or Fraction(1)
    taken = 0
    for packet, ahead in with_ahead(container.demux(stream)):
        clock.send(packet)
        for frame in packet.decode():
            assert isinstance(frame, VideoFrame)
            seconds, image = clock.tick(frame, ahead), None
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
    image = to_square(image, size, resize, "bicubic", pixel_aspect)
    turn = turn_of(frame.side_data.get("DISPLAYMATRIX"))
    return image if turn is None else image.transpose(turn)
