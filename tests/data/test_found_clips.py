"""Clips as they are found: joined, mirrored, with covers, trailers and time stamps that lie."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from PIL import Image
from video_clips import STEP, seconds, write_clip

from crumb.data.sets.folder import Folder
from crumb.data.video import ClipLength, clip_length, frames_at_one_per_second
from crumb.errors import InputError

CASES = Path(__file__).parent / "cases"
COLOURS = {"R": (200, 30, 10), "G": (20, 180, 40), "B": (10, 20, 220), "W": (255, 255, 255)}
B_FRAMES: dict[str, str] = {"x264-params": "bframes=3:b-adapt=0:scenecut=0:threads=1", "qp": "2"}


def numbers(path: Path) -> list[int]:
    """Which frames are taken, by their brightness."""
    return [
        round(float(np.asarray(image).mean()) / STEP)
        for image in frames_at_one_per_second(path, size=16)
    ]


def brightness(path: Path) -> list[float]:
    return [float(np.asarray(image).mean()) for image in frames_at_one_per_second(path, 16)]


def corners(image: Image.Image) -> str:
    """The nearest colour of each quarter, row by row."""
    pixels = np.asarray(image, dtype=int)
    quarter, last = len(pixels) // 4, len(pixels) - len(pixels) // 4
    return "".join(
        min(COLOURS, key=lambda name: np.abs(pixels[row, column] - COLOURS[name]).sum())
        for row in (quarter, last)
        for column in (quarter, last)
    )


def write(
    path: Path,
    count: int,
    rate: int,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    container: str | None = None,
    start: int = 0,
) -> None:
    """Grey frames; frame k, from ``start``, has the brightness k * STEP."""
    with av.open(str(path), "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=rate)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.options = options or {}
        for number in range(start, start + count):
            grey = np.full((32, 32, 3), number * STEP % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts, frame.time_base = number - start, Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())


# Time stamps.


def test_joined_transport_streams(tmp_path: Path):
    """Two parts of six seconds; each is a sixth part of a slow ramp from dark to bright."""
    parts = [CASES / "part1.ts", CASES / "part2.ts"]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    expected = [level for part in parts for level in brightness(part)]
    assert (len(expected), brightness(joined)) == (12, expected)
    assert clip_length(joined) == ClipLength(12.0, gaps=1)
    assert clip_length(parts[0]).gaps == 0


@pytest.mark.parametrize(
    ("name", "codec", "rate", "options"),
    [
        ("ts", "libx264", 4, {"preset": "ultrafast", "qp": "0"}),
        ("ts", "libx264", 4, B_FRAMES),
        ("ts", "libx264", 1, B_FRAMES),
        ("mpg", "mpeg2video", 25, {"bf": "2"}),
        ("mkv", "libx264", 4, B_FRAMES),
        ("avi", "libx264", 4, B_FRAMES),
    ],
)
def test_joined_clips_of_any_kind(
    tmp_path: Path, name: str, codec: str, rate: int, options: dict[str, str]
):
    # Of Matroska FFmpeg reads two.
    starts = (0, 2) if name == "mkv" else (0, 2, 1)
    paths = [tmp_path / f"{number}.{name}" for number in range(len(starts))]
    for start, path in zip(starts, paths, strict=True):
        write(path, 3 * rate, rate, codec, options, start=start)
    joined = tmp_path / f"joined.{name}"
    joined.write_bytes(b"".join(path.read_bytes() for path in paths))
    expected = [level for path in paths for level in brightness(path)]
    assert len(expected) == 3 * len(starts)
    assert brightness(joined) == pytest.approx(expected, abs=2)
    assert clip_length(joined) == ClipLength(
        3.0 * len(starts), gaps=0 if name == "avi" else len(starts) - 1
    )


@pytest.mark.parametrize(
    ("name", "jump"),
    [
        *(("clip.ts", 10_001), ("clip.ts", 300_000), ("clip.ts", 7_200_000)),
        *(("clip.mp4", 61_000), ("clip.mkv", 61_000), ("clip.mkv", 300_000)),
        *(("clip.mp4", 300_000), ("clip.mp4", 7_200_000)),
    ],
)
def test_a_jump_is_closed_and_counted(tmp_path: Path, name: str, jump: int):
    """The frame after it comes a second after the one before it, like all others."""
    write_clip(tmp_path / name, [0, 1000, 2000, 2000 + jump, 3000 + jump])
    assert numbers(tmp_path / name) == [0, 1, 2, 3, 4]
    found = clip_length(tmp_path / name)
    assert (found.seconds, found.gaps) == (pytest.approx(5), 1)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
@pytest.mark.parametrize("step", [12, 60])
def test_a_time_lapse_loses_no_picture(tmp_path: Path, name: str, step: int):
    write_clip(tmp_path / name, [1000 * step * number for number in range(4)])
    found = numbers(tmp_path / name)
    assert (len(found), sorted(set(found))) == (3 * step + 1, [0, 1, 2, 3])
    # The last picture is as long as the container says.
    length = clip_length(tmp_path / name)
    assert (3 * step <= length.seconds < 4 * step + 1, length.gaps) == (True, 0)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_a_recorded_screen_stands_still(tmp_path: Path, name: str):
    write_clip(tmp_path / name, [0, 500, 20_500, 21_000, 61_000])
    assert [numbers(tmp_path / name).count(number) for number in range(5)] == [1, 0, 20, 1, 40]
    assert clip_length(tmp_path / name).gaps == 0


@pytest.mark.parametrize("name", ["clip.mkv", "clip.flv"])
@pytest.mark.parametrize("bframes", [0, 2])
def test_a_clock_of_whole_seconds(tmp_path: Path, name: str, bframes: int):
    """Of four frames a second; each second has the number of its first frame."""
    path = tmp_path / name
    options = {"x264-params": f"bframes={bframes}:b-adapt=0:scenecut=0:threads=1", "qp": "2"}
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("libx264", rate=4)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.options = options
        packets = []
        for number in range(20):
            grey = np.full((32, 32, 3), number * STEP, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 4)
            packets += stream.encode(frame)
        for packet in [*packets, *stream.encode()]:
            # Of the order of decoding a second earlier, as frames are not shown before it.
            packet.dts = packet.dts // 4 * 4 - 4
            packet.pts = packet.pts // 4 * 4
            output.mux(packet)
    assert numbers(path) == [0, 4, 8, 12, 16]
    found = clip_length(path)
    assert (found.seconds, found.gaps) == (pytest.approx(5, abs=0.6), 0)


@pytest.mark.parametrize("rate", [1, 2, 5])
@pytest.mark.parametrize("bframes", [1, 2, 3, 7])
def test_b_frames_in_avi(tmp_path: Path, rate: int, bframes: int):
    """AVI has no time stamps of presentation: those of packets are in the order of decoding."""
    path = tmp_path / "clip.avi"
    options = {"x264-params": f"bframes={bframes}:b-adapt=0:scenecut=0:threads=1", "qp": "2"}
    write(path, 20, rate, options=options)
    with av.open(str(path)) as container:
        kinds = {PictureType(frame.pict_type) for frame in container.decode(video=0)}
    assert PictureType.B in kinds
    assert numbers(path) == list(range(0, 20, rate))
    assert clip_length(path).gaps == 0


def test_the_clip_of_the_report():
    """Frame k of 30 at 5 a second has the brightness of k, from 0 to 58."""
    levels = brightness(CASES / "b_frames.avi")
    assert len(levels) == 6
    assert np.diff(levels) == pytest.approx(np.full(5, np.diff(levels).mean()), abs=1)


@pytest.mark.parametrize(
    ("name", "codec", "container"),
    [
        ("a.h264", "libx264", "h264"),
        ("a.mjpeg", "mjpeg", "mjpeg"),
        ("a.m2v", "mpeg2video", "mpeg2video"),
        ("a.3g2", "libx264", "3g2"),
        ("a.f4v", "libx264", "f4v"),
        ("a.insv", "libx264", "mp4"),
    ],
)
def test_clips_of_other_names(tmp_path: Path, name: str, codec: str, container: str):
    """At 25 frames a second, which is what a stream without a clock is taken for."""
    for folder, number in (("cup", 1), ("cup", 2)):
        (tmp_path / "mine" / folder).mkdir(parents=True, exist_ok=True)
        path = tmp_path / "mine" / folder / f"{number}{name[1:]}"
        write(path, 60, 25, codec, container=container)
        assert numbers(path) == [0, *(round(k * STEP % 256 / STEP) for k in (25, 50))]
    survey = Folder(root=tmp_path / "mine", output=tmp_path / "set").survey
    assert (len(survey.clips), survey.unused) == (2, {})


def test_a_plain_stream_is_as_fast_as_it_says(tmp_path: Path):
    write(tmp_path / "clip.h264", 20, 5, options=B_FRAMES, container="h264")
    assert numbers(tmp_path / "clip.h264") == [0, 5, 10, 15]


def test_the_survey_names_joined_clips(tmp_path: Path):
    root = tmp_path / "mine"
    (root / "cat").mkdir(parents=True)
    joined = (CASES / "part1.ts").read_bytes() + (CASES / "part2.ts").read_bytes()
    for name in ("a.ts", "b.ts"):
        (root / "cat" / name).write_bytes(joined)
    (root / "cat/c.ts").write_bytes((CASES / "part1.ts").read_bytes())
    survey = Folder(root=root, output=tmp_path / "set").survey
    assert sum(survey.sides["cat"]) == 30
    (note,) = [note for note in survey.notes if "gaps" in note]
    assert note.startswith("2 gaps in time stamps")
    assert note.endswith("cat/a.ts (1), cat/b.ts (1)")


@pytest.mark.parametrize("name", ["mp4", "mov", "flv", "wmv", "mkv"])
def test_the_survey_names_files_that_are_read_in_part(tmp_path: Path, name: str):
    """FFmpeg stops at the end of the first or second of these; of AVI and MPEG it reads all."""
    root = tmp_path / "mine"
    (root / "cat").mkdir(parents=True)
    codec = "mpeg4" if name == "wmv" else "libx264"
    for number in (1, 2):
        write(root / f"cat/{number}.{name}", 8, 4, codec)
    several = b"".join((root / f"cat/{number}.{name}").read_bytes() for number in (1, 2, 2))
    assert not clip_length(root / f"cat/1.{name}").is_joined
    (root / f"cat/3.{name}").write_bytes(several)
    survey = Folder(root=root, output=tmp_path / "set").survey
    (note,) = [note for note in survey.notes if "joined" in note]
    assert note.endswith(f": cat/3.{name}")


# Orientation.


@pytest.mark.parametrize(
    ("name", "shown"),
    [("straight", "RGBW"), ("hflip", "GRWB"), ("vflip", "BWRG"), ("rot180", "WBGR")],
)
def test_mirrored_clips_of_the_report(name: str, shown: str):
    found = [corners(image) for image in frames_at_one_per_second(CASES / f"{name}.mp4", 32)]
    assert found == [shown] * 2


# Where ffmpeg's filters take red green / blue white for each matrix: a, b, c and d send the pixel
# at (x, y) to (ax + cy, bx + dy).
MATRICES = {
    (1, 0, 0, 1): "RGBW",
    (-1, 0, 0, 1): "GRWB",  # hflip
    (1, 0, 0, -1): "BWRG",  # vflip
    (-1, 0, 0, -1): "WBGR",  # hflip, vflip
    (0, 1, -1, 0): "BRWG",  # transpose=clock
    (0, -1, 1, 0): "GWRB",  # transpose=cclock
    (0, 1, 1, 0): "RBGW",  # transpose=cclock_flip
    (0, -1, -1, 0): "WGBR",  # transpose=clock_flip
}


@pytest.mark.parametrize("matrix", [*MATRICES, (0, 0, 0, 0)])
@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_all_forms_of_the_display_matrix(
    tmp_path: Path, matrix: tuple[int, int, int, int], scale: float
):
    content = (CASES / "straight.mp4").read_bytes()
    straight = struct.pack(">5i", 1 << 16, 0, 0, 0, 1 << 16)
    a, b, c, d = (round(number * scale * 65536) for number in matrix)
    place = content.index(straight, content.index(b"tkhd"))
    turned = struct.pack(">5i", a, b, 0, c, d)
    path = tmp_path / "clip.mp4"
    path.write_bytes(content[:place] + turned + content[place + len(turned) :])
    image = next(iter(frames_at_one_per_second(path, 32)))
    assert corners(image) == MATRICES.get(matrix, "RGBW")


# Streams.


def test_a_cover_before_the_video(tmp_path: Path):
    levels = brightness(CASES / "cover.mp4")
    assert len(levels) == 6
    assert clip_length(CASES / "cover.mp4").seconds == 6


@pytest.mark.parametrize("read", [clip_length, lambda path: list(frames_at_one_per_second(path))])
def test_sound_and_a_cover_are_no_video(read):
    with pytest.raises(InputError, match=r"song\.mp4: has no video stream"):
        read(CASES / "song.mp4")


def test_a_file_without_video_is_left_out(tmp_path: Path):
    root = tmp_path / "mine"
    for name in ("cat/1.mp4", "cat/2.mp4"):
        write_clip(root / name, seconds(2))
    (root / "cat/song.mp4").write_bytes((CASES / "song.mp4").read_bytes())
    survey = Folder(root=root, output=tmp_path / "set").survey
    assert survey.unused == {"has no video stream": ("cat/song.mp4",)}


@pytest.mark.parametrize("sizes", [(16, 64), (64, 16)])
def test_the_larger_stream_is_the_video(tmp_path: Path, sizes: tuple[int, int]):
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        streams: list[Any] = [container.add_stream("ffv1", rate=1) for _ in sizes]
        for stream, size in zip(streams, sizes, strict=True):
            stream.width = stream.height = size
            stream.pix_fmt = "yuv420p"
        for _ in range(2):
            for stream, size in zip(streams, sizes, strict=True):
                grey = np.full((size, size, 3), 3 * size, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode())
    assert brightness(path) == pytest.approx([192, 192], abs=2)


def with_picture(path: Path, video: bool, first: bool, sound: bool) -> None:
    """A file with a large picture that is not marked as a cover."""
    grey = np.full((64, 64, 3), 250, np.uint8)
    with av.open(str(path), "w") as container:
        streams: dict[bool, Any] = {}
        for moves in [not first, first] if video else [False]:
            size, codec = (32, "libx264") if moves else (64, "mjpeg")
            streams[moves] = container.add_stream(codec, rate=4 if moves else 1)
            streams[moves].width = streams[moves].height = size
            streams[moves].pix_fmt = "yuv420p" if moves else "yuvj420p"
        tone = container.add_stream("aac", rate=8000) if sound else None
        picture = av.VideoFrame.from_ndarray(grey, format="rgb24")
        container.mux([*streams[False].encode(picture), *streams[False].encode()])
        for number in range(12 * video):
            dark = np.full((32, 32, 3), number // 4 * STEP, np.uint8)
            frame = av.VideoFrame.from_ndarray(dark, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 4)
            container.mux(streams[True].encode(frame))
        if video:
            container.mux(streams[True].encode())
        if tone is not None:
            silence = np.zeros((1, 24_000), np.float32)
            heard = av.AudioFrame.from_ndarray(silence, "fltp", layout="mono")
            heard.sample_rate, heard.pts = 8000, 0
            container.mux([*tone.encode(heard), *tone.encode()])


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.wmv"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("sound", [True, False])
def test_a_picture_that_is_not_marked_as_a_cover(
    tmp_path: Path, name: str, first: bool, sound: bool
):
    with_picture(tmp_path / name, True, first, sound)
    assert numbers(tmp_path / name) == [0, 1, 2]
    assert clip_length(tmp_path / name).seconds == pytest.approx(3)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.wmv"])
def test_sound_and_a_picture_are_no_video(tmp_path: Path, name: str):
    with_picture(tmp_path / name, False, True, True)
    with pytest.raises(InputError, match="has no video stream"):
        clip_length(tmp_path / name)
    # A clip of one frame is one.
    with_picture(tmp_path / f"of_one_frame_{name}", False, True, False)
    assert clip_length(tmp_path / f"of_one_frame_{name}").seconds > 0


# What comes after the video.


def test_a_trailer_of_an_app():
    levels = brightness(CASES / "insta.mp4")
    assert len(levels) == 6
    assert clip_length(CASES / "insta.mp4").seconds == 6


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov", "clip.mkv", "clip.avi", "clip.ts"])
@pytest.mark.parametrize("trailer", [bytes(7), bytes(600), b"8db42d694ccc418790edff439fe026bf" * 9])
def test_any_trailer_of_any_container(tmp_path: Path, name: str, trailer: bytes):
    path = tmp_path / name
    write(path, 12, 4, options={"preset": "ultrafast", "qp": "0"})
    expected = numbers(path)
    with path.open("ab") as file:
        file.write(trailer)
    assert (expected, numbers(path)) == ([0, 4, 8], [0, 4, 8])


def test_a_media_box_that_claims_more_than_it_holds(tmp_path: Path):
    """A recorder that reserved more than it used: every listed frame is there."""
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as output:
        stream: Any = output.add_stream("libx264", rate=1)
        stream.width = stream.height = 32
        stream.pix_fmt, stream.options = "yuv420p", {"preset": "ultrafast", "qp": "0"}
        for number in range(3):
            grey = np.full((32, 32, 3), number * STEP, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        output.mux(stream.encode())
    content = path.read_bytes()
    place = content.index(b"mdat") - 4
    (length,) = struct.unpack_from(">I", content, place)
    claims = struct.pack(">I", length + 10_000)
    path.write_bytes(content[:place] + claims + content[place + 4 :])
    assert numbers(path) == [0, 1, 2]


@pytest.mark.parametrize("missing", [1, 40])
def test_fragments_that_are_cut_short(tmp_path: Path, missing: int):
    path = tmp_path / "clip.mp4"
    options = {"movflags": "+frag_keyframe+empty_moov+default_base_moof"}
    with av.open(str(path), "w", options=options) as output:
        stream: Any = output.add_stream("libx264", rate=1)
        stream.width = stream.height = 32
        stream.pix_fmt, stream.options = "yuv420p", {"qp": "0", "g": "1", "tune": "zerolatency"}
        for number in range(4):
            grey = np.full((32, 32, 3), number * STEP, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        output.mux(stream.encode())
    assert numbers(path) == [0, 1, 2, 3]
    content = path.read_bytes()
    last = content.rindex(b"moof")
    end = content.index(b"mdat", last) + 4
    end += struct.unpack_from(">I", content, end - 8)[0] - 8
    path.write_bytes(content[: end - missing])
    with pytest.raises(InputError, match=r"clip\.mp4: is cut short"):
        numbers(path)


@pytest.mark.parametrize("missing", [1, 5, 60])
def test_an_index_whose_texts_are_cut(tmp_path: Path, missing: int):
    path = tmp_path / "clip.mp4"
    write(path, 12, 4)
    content = path.read_bytes()
    assert content.rindex(b"stbl") < content.rindex(b"udta") < len(content) - missing
    path.write_bytes(content[:-missing])
    assert numbers(path) == [0, 4, 8]


def test_an_index_that_is_cut(tmp_path: Path):
    path = tmp_path / "clip.mp4"
    write(path, 12, 4)
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"udta") - 8])
    with pytest.raises(InputError, match="is cut short"):
        numbers(path)


@pytest.mark.parametrize("flags", ["", "+default_base_moof", "+omit_tfhd_offset"])
@pytest.mark.parametrize("codec", ["libx264", "mjpeg"])
def test_fragments_and_what_looks_like_one(tmp_path: Path, flags: str, codec: str):
    path = tmp_path / "clip.mp4"
    with av.open(
        str(path), "w", container_options={"movflags": f"frag_keyframe+empty_moov{flags}"}
    ) as output:
        stream: Any = output.add_stream(codec, rate=4)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = 4
        for number in range(12):
            grey = np.full((32, 32, 3), number * STEP, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        output.mux(stream.encode())
    content = path.read_bytes()
    for trailer in (
        *(b"", b"\0\0\xff\xffmdat" + b"z" * 50, b"\0\0\0\x10moof" + b"z" * 8),
        *(b"\0\0\xff\xffmoof" + b"z" * 50, b"text of an app"),
    ):
        path.write_bytes(content + trailer)
        assert numbers(path) == [0, 4, 8]
    # The list of fragments is last; before it lie the frames.
    end = content.rfind(b"mfra") - 4 if b"mfra" in content else len(content)
    for cut in (end - 1, content.rindex(b"moof") + 30):
        path.write_bytes(content[:cut])
        with pytest.raises(InputError, match="is cut short"):
            numbers(path)
