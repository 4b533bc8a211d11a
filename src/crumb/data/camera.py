"""Camera frames, one per second."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import av
import av.error
from av.container import InputContainer
from PIL import Image

from crumb.errors import InputError

_FORMATS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}


def frames_of_camera(name: str) -> Iterator[Image.Image]:
    """Yield one picture for each second that a camera films, until the caller stops asking.

    Args:
        name: ``camera:N``, N from 0.

    Yields:
        RGB images of the camera's own size.

    Raises:
        InputError: no such camera, it is in use, or it has stopped.
    """
    number = name.partition(":")[2]
    if not (number.isascii() and number.isdigit()):
        raise InputError(name, "is not a camera", "give camera:0 for the first one")
    if sys.platform not in _FORMATS:
        raise InputError(name, f"cannot be read on {sys.platform}", "save a clip and give its path")
    kind, place = _FORMATS[sys.platform]
    device = place.format(number)
    try:
        with av.open(device, format=kind) as container:
            if not container.streams.video:
                raise InputError(name, "delivers no frames", "give another camera")
            yield from one_a_second(container)
    except (av.error.FFmpegError, OSError) as error:
        reason = error.strerror or str(error)
        problem = f"cannot be read from {device} ({reason})"
        raise InputError(name, problem, "connect it or close other programs that use it") from error


def one_a_second(container: InputContainer) -> Iterator[Image.Image]:
    """The first picture of each second of an open video source."""
    due: float | None = None
    for frame in container.decode(video=0):
        time = frame.time
        if time is not None and (due is None or time >= due):
            due = (time if due is None else due) + 1
            # Frames missed while the caller was busy are skipped.
            due = max(due, time)
            yield frame.to_image()
