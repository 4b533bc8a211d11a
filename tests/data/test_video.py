from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from video_clips import STEP, seconds, write_clip

from crumb.data.video import frames_at_one_per_second
from crumb.errors import InputError


def numbers(path: Path) -> list[int]:
    """Which frames of the clip are taken, told by their brightness."""
    return [
        round(float(np.asarray(image).mean()) / STEP)
        for image in frames_at_one_per_second(path, size=16)
    ]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (seconds(5), [0, 1, 2, 3, 4]),
        (range(0, 3000, 250), [0, 4, 8]),
        (range(0, 3001, 300), [0, 4, 7, 10]),
        ([0], [0]),
        ([0, 999], [0]),
        ([0, 1000], [0, 1]),
        ([500, 1400, 1500, 2499, 2600], [0, 2, 4]),
        # Stands still for three seconds.
        ([0, 400, 3100, 3500, 4000], [0, 2, 2, 2, 4]),
    ],
)
def test_first_frame_of_each_second(tmp_path: Path, times: list[int], expected: list[int]):
    write_clip(tmp_path / "clip.mp4", times)
    assert numbers(tmp_path / "clip.mp4") == expected


def test_frames_are_square_whatever_the_clip(tmp_path: Path):
    write_clip(tmp_path / "clip.mp4", seconds(1), width=64, height=32)
    (image,) = frames_at_one_per_second(tmp_path / "clip.mp4")
    assert (image.size, image.mode) == ((224, 224), "RGB")


def test_squash_keeps_the_whole_picture(tmp_path: Path):
    path = tmp_path / "clip.mp4"
    write_half_white(path)
    (image,) = frames_at_one_per_second(path, size=40, resize="squash")
    pixels = np.asarray(image)
    assert pixels[:, :15].min() > 220
    assert pixels[:, 25:].max() < 35


def write_half_white(path: Path) -> None:
    """A clip of one frame, 64 x 32 pixels, the left half white."""
    grey = np.zeros((32, 64, 3), dtype=np.uint8)
    grey[:, :32] = 255
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())


def test_a_turned_clip_is_shown_upright(tmp_path: Path):
    path = tmp_path / "clip.mp4"
    write_half_white(path)
    content = path.read_bytes()
    # The display matrix in the track header: a quarter turn clockwise, so left becomes top.
    straight = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    place = content.index(straight, content.index(b"tkhd"))
    path.write_bytes(content[:place] + turned + content[place + len(turned) :])
    (image,) = frames_at_one_per_second(path, size=40)
    pixels: np.ndarray = np.asarray(image)
    assert pixels[:15].min() > 220
    assert pixels[25:].max() < 35


def write_audio(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())


def write_picture(path: Path) -> None:
    Image.new("L", (8, 8)).save(path, "BMP")


def write_without_frames(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        container.start_encoding()


def damaged(path: Path) -> None:
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(4):
            noise = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode())
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 1500
    content[start : start + 400] = bytes(byte ^ 255 for byte in content[start : start + 400])
    path.write_bytes(content)


def cut_at(fraction: float):
    def write(path: Path) -> None:
        write_clip(path, seconds(6))
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * fraction)])

    return write


def index_first_and_cut(path: Path) -> None:
    """Index at the front, cut exactly between two frames: the decoder would see nothing wrong."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=1)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.options = {"preset": "ultrafast", "tune": "zerolatency"}
        for _ in range(5):
            grey = np.full((32, 32, 3), 99, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: places[3]])


@pytest.mark.parametrize(
    ("write", "complaint"),
    [
        (lambda path: None, "cannot be read"),
        (lambda path: path.mkdir(), "cannot be read"),
        (lambda path: path.write_bytes(b""), "cannot be decoded"),
        (lambda path: path.write_text("hello, I am no video"), "cannot be decoded"),
        (cut_at(0.9), "is cut short"),
        (cut_at(0.5), "is cut short"),
        (cut_at(0.01), ""),
        (index_first_and_cut, "is cut short"),
        (damaged, "cannot be decoded"),
        (write_audio, "has no video stream"),
        (write_without_frames, ""),
    ],
)
def test_bad_clips_end_in_one_error(tmp_path: Path, capfd, write, complaint: str):
    path = tmp_path / "clip.mp4"
    write(path)
    capfd.readouterr()
    with pytest.raises(InputError) as caught:
        list(frames_at_one_per_second(path))
    assert str(caught.value).startswith(f"{path}: {complaint}")
    assert capfd.readouterr() == ("", "")
