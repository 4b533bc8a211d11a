"""Odd but good clips: the right frames with the right pixels, told by what is in them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.container import OutputContainer
from av.video.frame import PictureType
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from video_clips import MILLISECOND, STEP, seconds, write_clip

from crumb.data.video import frames_at_one_per_second

RED, GREEN, BLUE, WHITE = (200, 30, 10), (20, 180, 40), (10, 20, 220), (255, 255, 255)
EXACT: dict[str, Any] = {"preset": "ultrafast", "qp": "0", "threads": "1"}
# Flat frames count as cuts between scenes, and at a cut there is no such frame.
B_FRAMES: dict[str, Any] = {"qp": "2", "x264-params": "bframes=3:b-adapt=0:scenecut=0:threads=1"}


def grey(number: int, width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), number * STEP % 256, np.uint8)


def add_video(
    container: OutputContainer,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    size: tuple[int, int] = (32, 32),
    options: dict[str, Any] = EXACT,
    rate: int = 1,
) -> VideoStream:
    stream = container.add_stream(codec, rate=rate)
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = *size, pixels
    stream.options = options
    return stream


def write(
    path: Path,
    times: Sequence[int],
    codec: str = "libx264",
    pixels: str = "yuv420p",
    size: tuple[int, int] = (32, 32),
    options: dict[str, Any] = EXACT,
    time_base: Fraction = MILLISECOND,
) -> None:
    """A clip of one grey frame at each time, in units of ``time_base``; see ``write_clip``."""
    with av.open(str(path), "w") as container:
        stream = add_video(container, codec, pixels, size, options, rate=30)
        stream.codec_context.time_base = time_base
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(grey(number, *size), format="rgb24")
            frame.pts, frame.time_base = time, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def numbers(path: Path) -> list[int]:
    """Which frames of the clip are taken, told by their brightness."""
    return [
        round(float(np.asarray(image).mean()) / STEP)
        for image in frames_at_one_per_second(path, size=16)
    ]


def expected(times: Sequence[int]) -> list[int]:
    """The first frame whose time since the first is at least n - 1 seconds, for each n."""
    found = [time - times[0] for time in times]
    return [
        next(number for number, time in enumerate(found) if time >= 1000 * second)
        for second in range(found[-1] // 1000 + 1)
    ]


@pytest.fixture(autouse=True)
def quiet(capfd: pytest.CaptureFixture[str]):
    """Nothing may be written to the screen, not even by a library in C."""
    yield
    assert capfd.readouterr() == ("", "")


# Times.


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(1, 2500), max_size=19),
    st.integers(0, 5000),
    st.sampled_from([EXACT, B_FRAMES]),
)
def test_variable_frame_rate_with_and_without_b_frames(
    tmp_path: Path, steps: list[int], start: int, options: dict[str, Any]
):
    times = [start]
    for step in steps:
        times.append(times[-1] + step)
    write(tmp_path / "clip.mp4", times, options=options)
    assert numbers(tmp_path / "clip.mp4") == expected(times)


def test_b_frames_are_there_and_in_order(tmp_path: Path):
    times = range(0, 10_000, 500)
    write(tmp_path / "clip.mp4", times, options=B_FRAMES)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        kinds = {PictureType(frame.pict_type) for frame in container.decode(video=0)}
    assert PictureType.B in kinds
    assert numbers(tmp_path / "clip.mp4") == list(range(0, 20, 2))


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
@pytest.mark.parametrize("start", [0, 1, 999, 12_345, 3_600_000])
def test_late_start(tmp_path: Path, name: str, start: int):
    times = [start + time for time in range(0, 5000, 250)]
    write(tmp_path / name, times)
    assert numbers(tmp_path / name) == [0, 4, 8, 12, 16]


@pytest.mark.parametrize("start", [-1, -250, -1500])
def test_negative_start(tmp_path: Path, start: int):
    """Whatever a container makes of such times, each second has a frame of its own."""
    write(tmp_path / "clip.mkv", [start + time for time in range(0, 5000, 250)])
    assert numbers(tmp_path / "clip.mkv") == [0, 4, 8, 12, 16]


@pytest.mark.parametrize("time_base", [Fraction(1, 1), Fraction(1, 90_000), Fraction(1001, 30_000)])
def test_any_unit_of_time(tmp_path: Path, time_base: Fraction):
    """At least a second apart, so that every frame is taken."""
    step = -int(-1 // time_base)
    write(tmp_path / "clip.mp4", [step * number for number in range(5)], time_base=time_base)
    assert numbers(tmp_path / "clip.mp4") == [0, 1, 2, 3, 4]


def test_ntsc_rate(tmp_path: Path):
    """29.97 frames a second: frame 30 comes 1.001 seconds after frame 0."""
    write(tmp_path / "clip.mp4", range(91), time_base=Fraction(1001, 30_000))
    taken = [number * STEP % 256 / STEP for number in (0, 30, 60, 90)]
    found = numbers(tmp_path / "clip.mp4")
    assert np.abs(np.array(found) - taken).max() < 1
    assert len(found) == 4


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi", "clip.mov"])
def test_one_frame(tmp_path: Path, name: str):
    write(tmp_path / name, [0])
    assert numbers(tmp_path / name) == [0]


# Formats.


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("clip.mp4", "mpeg4"),
        ("clip.mkv", "ffv1"),
        ("clip.mov", "png"),
        ("clip.avi", "mpeg4"),
        ("clip.webm", "libvpx-vp9"),
        ("clip.ts", "libx264"),
        ("clip.flv", "libx264"),
        ("clip.mpg", "mpeg2video"),
        ("clip.nut", "ffv1"),
    ],
)
def test_containers(tmp_path: Path, name: str, codec: str):
    """25 frames a second, which all of them know."""
    options = {"libx264": EXACT, "libvpx-vp9": {"lossless": "1", "cpu-used": "8"}}
    pixels = "rgb24" if codec == "png" else "yuv420p"
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        more = options.get(codec, {})
        stream = add_video(container, codec, pixels, (64, 64), more, rate=25)
        for number in range(60):
            frame = av.VideoFrame.from_ndarray(grey(number // 5, 64, 64), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert numbers(path) == [0, 5, 10]
    # The content decides, not the name.
    assert numbers(path.rename(tmp_path / "other.mp4")) == [0, 5, 10]


@pytest.mark.parametrize("size", [(2, 2), (2, 64), (33, 17), (1, 1), (1, 99), (641, 3)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]):
    write(tmp_path / "clip.mp4", seconds(5), pixels="yuv444p", size=size)
    assert numbers(tmp_path / "clip.mp4") == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("codec", "pixels"),
    [
        ("libx264", "yuv420p10le"),
        ("libx264", "yuv422p"),
        ("libx264", "yuv444p"),
        ("libx264", "yuvj420p"),
        ("mjpeg", "yuvj420p"),
        ("png", "gray"),
        ("png", "rgba"),
        ("png", "rgb48be"),
        ("png", "gray16be"),
    ],
)
def test_pixel_formats(tmp_path: Path, codec: str, pixels: str):
    write(
        tmp_path / "clip.mov",
        seconds(6),
        codec,
        pixels,
        options={} if codec != "libx264" else EXACT,
    )
    with av.open(str(tmp_path / "clip.mov")) as container:
        assert container.streams.video[0].codec_context.pix_fmt == pixels
    assert numbers(tmp_path / "clip.mov") == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("value", [0, 60, 128, 200, 255])
def test_range_of_a_grey_clip(tmp_path: Path, value: int, wide: bool):
    """Video means 16 to 235 unless it says otherwise, also without colours."""
    stored = value if wide else round(16 + value * 219 / 255)
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = add_video(container, pixels="gray")
        if wide:
            stream.codec_context.color_range = ColorRange.JPEG
        frame = av.VideoFrame.from_ndarray(np.full((32, 32), stored, np.uint8), format="gray")
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (image,) = frames_at_one_per_second(tmp_path / "clip.mp4", 16)
    assert np.abs(np.asarray(image, dtype=int) - value).max() <= 2


# Pictures.


def quarters(size: int) -> np.ndarray:
    """Red, green; blue, white."""
    half = size // 2
    pixels = np.zeros((size, size, 3), np.uint8)
    pixels[:half, :half], pixels[:half, half:] = RED, GREEN
    pixels[half:, :half], pixels[half:, half:] = BLUE, WHITE
    return pixels


def corners(image: Any) -> list[tuple[int, int, int]]:
    """The nearest of the four colours, for each quarter row by row."""
    pixels = np.asarray(image, dtype=int)
    quarter, last = len(pixels) // 4, len(pixels) - len(pixels) // 4
    return [
        min(
            (RED, GREEN, BLUE, WHITE), key=lambda colour: np.abs(pixels[row, column] - colour).sum()
        )
        for row in (quarter, last)
        for column in (quarter, last)
    ]


@pytest.mark.parametrize(
    ("degrees", "shown"),
    [
        (0, [RED, GREEN, BLUE, WHITE]),
        # Counted against the clock, as the program that asks for them does.
        (90, [GREEN, WHITE, RED, BLUE]),
        (180, [WHITE, BLUE, GREEN, RED]),
        (270, [BLUE, RED, WHITE, GREEN]),
    ],
)
def test_turned_clips(tmp_path: Path, degrees: int, shown: list):
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = add_video(container, pixels="yuv444p", size=(64, 64))
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(quarters(64), format="rgb24")))
        container.mux(stream.encode())
    turn_header(path, degrees)
    found = [corners(image) for image in frames_at_one_per_second(path, 32)]
    assert found == [shown] * 3


def turn_header(path: Path, degrees: int) -> None:
    """Ask for a turn in the track header: the matrix that is shown, row by row."""
    one = 1 << 16
    cosine, sine = {0: (one, 0), 90: (0, one), 180: (-one, 0), 270: (0, -one)}[degrees]
    content = path.read_bytes()
    place = content.index(np.array([one, 0, 0, 0, one], ">i4").tobytes(), content.index(b"tkhd"))
    matrix = np.array([cosine, -sine, 0, sine, cosine], ">i4").tobytes()
    path.write_bytes(content[:place] + matrix + content[place + len(matrix) :])


def test_large_frames(tmp_path: Path):
    """4096 x 2304, of which little is seen."""
    write_clip(tmp_path / "clip.mp4", [0, 1000], width=4096, height=2304)
    assert numbers(tmp_path / "clip.mp4") == [0, 1]


def test_first_of_two_video_streams(tmp_path: Path):
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        streams = [add_video(container, "ffv1", options={}) for _ in range(2)]
        for number in range(3):
            for stream, more in zip(streams, (0, 9), strict=True):
                pixels = grey(number + more, 32, 32)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode())
    assert numbers(path) == [0, 1, 2]


def test_sound_beside_the_frames(tmp_path: Path):
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=8000, layout="mono")
        video = add_video(container)
        for number in range(3):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            samples.sample_rate, samples.pts = 8000, 8000 * number
            container.mux(sound.encode(samples))
            pixels = grey(number, 32, 32)
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        for stream in (sound, video):
            container.mux(stream.encode())
    assert numbers(path) == [0, 1, 2]


@pytest.mark.parametrize("name", ["a b.mp4", "ä\N{SNOWMAN}.mp4", "100%d.mp4", "a:b.mp4", "clip"])
def test_any_name(tmp_path: Path, name: str):
    """Some names mean a pattern or a protocol to FFmpeg, which must not see them so."""
    write(tmp_path / "plain.mp4", seconds(3))
    (tmp_path / "plain.mp4").rename(tmp_path / name)
    assert numbers(tmp_path / name) == [0, 1, 2]


def test_a_relative_name_that_looks_like_a_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write(tmp_path / "plain.mp4", seconds(3))
    (tmp_path / "plain.mp4").rename(tmp_path / "concat:plain.mp4")
    monkeypatch.chdir(tmp_path)
    assert numbers(Path("concat:plain.mp4")) == [0, 1, 2]
