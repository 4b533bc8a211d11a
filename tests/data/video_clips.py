"""Tiny real video clips whose brightness tells the number of the frame."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

STEP = 12
MILLISECOND = Fraction(1, 1000)


def write_clip(path: Path, milliseconds: Sequence[int], width: int = 32, height: int = 32) -> None:
    """An MP4 clip, one grey frame at each time; frame k (from 0) has the brightness k * STEP."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = MILLISECOND
        stream.options = {"preset": "ultrafast", "qp": "0", "threads": "1"}
        for number, time in enumerate(milliseconds):
            grey = np.full((height, width, 3), number * STEP % 256, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts, frame.time_base = time, MILLISECOND
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def seconds(count: int) -> list[int]:
    """Times in milliseconds of ``count`` frames at one a second."""
    return [1000 * number for number in range(count)]
