"""Frames of a clip, one per second, as ``crumb.data.video`` takes them."""

from __future__ import annotations

from collections.abc import Iterator
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

from crumb_lite.boxes import is_cut_short
from crumb_lite.clock import FrameClock, with_ahead
from crumb_lite.errors import InputError
from crumb_lite.resize import Resize, to_square
from crumb_lite.turns import turn_of

_REMEDY = "copy the clip again or remove it"
_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


def frames(path: Path, size: int, resize: Resize) -> Iterator[Image.Image]:
    """Yield the first frame of each second, as a square.

    Args:
        path: a clip in any container of FFmpeg.
        size: side of the frames in pixels.
        resize: how frames become square.

    Raises:
        InputError: the clip is damaged, cut short, or has no frames.
    """
    try:
        if is_cut_short(path, path.stat().st_size):
            raise InputError(path, "is cut short", _REMEDY)
        with av.open(str(path.absolute())) as container:
            yield from _sample(path, container, size, resize)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(path, f"cannot be decoded ({reason})", _REMEDY) from error


def _sample(
    path: Path, container: InputContainer, size: int, resize: Resize
) -> Iterator[Image.Image]:
    stream = _stream(path, container)
    stream.codec_context.options = {"err_detect": "explode"}
    jumps = bool(container.format.flags & Flags.ts_discont.value)
    clock = FrameClock(stream.time_base or Fraction(1), jumps)
    aspect = stream.sample_aspect_ratio or Fraction(1)
    taken = 0
    for packet, ahead in with_ahead(container.demux(stream)):
        clock.send(packet)
        for frame in packet.decode():
            assert isinstance(frame, VideoFrame)
            seconds, image = clock.tick(frame, ahead), None
            while seconds >= taken:
                image = image or _square(frame, size, resize, aspect)
                taken += 1
                yield image
    if not taken:
        raise InputError(path, "has no frames", _REMEDY)


def _stream(path: Path, container: InputContainer) -> VideoStream:
    """The largest video stream that is no cover picture."""
    videos = [one for one in container.streams.video if not one.disposition & _PICTURES]
    if not videos:
        raise InputError(path, "has no video stream", _REMEDY)
    return max(videos, key=lambda one: one.codec_context.width * one.codec_context.height)


def _square(frame: VideoFrame, size: int, resize: Resize, aspect: Fraction) -> Image.Image:
    side = size if resize == "squash" else None
    image = frame.reformat(side, side, format="rgb24", interpolation="BICUBIC").to_image()
    image = to_square(image, size, resize, "bicubic", aspect)
    turn = turn_of(frame.side_data.get("DISPLAYMATRIX"))
    return image if turn is None else image.transpose(turn)
