"""Frames of clips, pinned under the number that decoded clips are kept under.

Where one of these fails, frames on disk would be taken for what is no longer made of their clips:
raise ``DECODING``, and pin the new values under the new number.

The clips are lossless. FFmpeg's filters round in other ways on other processors, by a level or two;
another filter or order of steps changes these pixels by more.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from crumb.data import decode
from crumb.data.resize import RESIZES
from crumb.data.video import frames_at_one_per_second

SIDE, WIDTH, HEIGHT, FRAMES = 4, 24, 16, 3
NOISE = np.random.default_rng(7).integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), np.uint8)
ROUNDING = 3
PINNED: dict[int, dict[str, list[list[int]]]] = {
    3: {
        "crop": [
            [124, 106, 104, 106, 133, 140, 131, 121, 110, 120, 123, 129, 139, 136, 138, 133],
            [113, 131, 145, 125, 164, 159, 103, 105, 144, 171, 125, 127, 141, 138, 157, 120],
        ],
        "squash": [
            [126, 111, 105, 116, 132, 139, 125, 125, 100, 116, 127, 120, 111, 136, 135, 144],
            [126, 122, 137, 137, 133, 161, 103, 119, 134, 162, 126, 136, 137, 140, 141, 135],
        ],
        "pad": [
            [133, 120, 112, 119, 116, 127, 125, 125, 108, 132, 135, 130, 0, 0, 0, 0],
            [130, 133, 128, 132, 130, 165, 112, 128, 138, 146, 142, 131, 0, 0, 0, 0],
        ],
    }
}


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Three frames, half a second each."""
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("ffv1", rate=2)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "bgr0"
        for number, pixels in enumerate(NOISE):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 2)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


@pytest.mark.parametrize("resize", RESIZES)
def test_frames_are_those_of_their_number(clip: Path, resize: Any):
    assert decode.DECODING in PINNED, "pin the frames under the new number"
    frames = [np.asarray(image) for image in frames_at_one_per_second(clip, SIDE, resize)]
    # The first and the third, of each the green of all pixels.
    found = [frame[..., 1].flatten().tolist() for frame in frames]
    expected = PINNED[decode.DECODING][resize]
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=ROUNDING)
