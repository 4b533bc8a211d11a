"""Clips that cannot be used: one line that names the file, exit code 2, and no data set."""

from __future__ import annotations

import itertools
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from crumb.cli.main import main

Damage = Callable[[Path], object]

pytestmark = pytest.mark.usefixtures("in_time")


def cut(fraction: float) -> Damage:
    return lambda path: os.truncate(path, int(path.stat().st_size * fraction))


def cut_by(count: int) -> Damage:
    return lambda path: os.truncate(path, path.stat().st_size - count)


def holding(content: bytes) -> Damage:
    return lambda path: path.write_bytes(content)


def picture(kind: str) -> Damage:
    return lambda path: Image.new("RGB", (64, 48), (200, 30, 10)).save(path, kind)


def noise(start: float, count: int) -> Damage:
    """Random bytes from a fraction of the clip on."""

    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        first = int(len(content) * start)
        content[first : first + count] = np.random.default_rng(0).bytes(count)
        path.write_bytes(content)

    return damage


def sound_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())


def no_frames(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        container.start_encoding()


def declared_huge(path: Path) -> None:
    """A clip of tiny PNG pictures whose headers declare 20,000 x 20,000 pixels."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "rgb24"
        for _ in range(10):
            grey = np.full((32, 32, 3), 99, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
    content = bytearray(path.read_bytes())
    place = content.find(b"IHDR")
    while place >= 0:
        content[place + 4 : place + 12] = struct.pack(">II", 20_000, 20_000)
        check = zlib.crc32(content[place : place + 17])
        content[place + 17 : place + 21] = struct.pack(">I", check)
        place = content.find(b"IHDR", place + 1)
    path.write_bytes(content)


def list_of_clips(path: Path) -> None:
    """FFmpeg would read the other clip in its place."""
    other = path.rename(path.with_suffix(".other"))
    path.write_text(f"ffconcat version 1.0\nfile {other.name}\n")


def three_frames(path: Path) -> None:
    whole = path.rename(path.with_suffix(".whole"))
    with av.open(str(whole)) as given, av.open(str(path), "w") as made:
        target = made.add_stream_from_template(given.streams.video[0])
        for packet in itertools.islice(given.demux(given.streams.video[0]), 3):
            packet.stream = target
            made.mux(packet)
    whole.unlink()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def link(target: str) -> Damage:
    def damage(path: Path) -> None:
        path.unlink()
        path.symlink_to(target.format(path.name))

    return damage


DAMAGES: dict[str, tuple[Damage, str]] = {
    "empty": (holding(b""), "cannot be decoded"),
    "one byte": (holding(b"\0"), "cannot be decoded"),
    "zeros": (holding(bytes(50_000)), "cannot be decoded"),
    "text": (holding(b"These are not the frames you are looking for.\n" * 99), "cannot be decoded"),
    "HTML": (holding(b"<!DOCTYPE html><html>404 Not Found</html>"), "cannot be decoded"),
    "subtitles": (holding(b"1\n00:00:00,000 --> 00:00:09,000\nhello\n"), "cannot be decoded"),
    "a playlist": (
        holding(b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\na.ts\n#EXT-X-ENDLIST\n"),
        "cannot be decoded",
    ),
    "a list of clips": (list_of_clips, "is not a video"),
    "a PNG": (picture("PNG"), "is not a video"),
    "a JPEG": (picture("JPEG"), "is not a video"),
    "a BMP": (picture("BMP"), "is not a video"),
    "a WebP": (picture("WEBP"), "is not a video"),
    "a TIFF": (picture("TIFF"), "is not a video"),
    "sound only": (sound_only, "has no video stream"),
    "no frames": (no_frames, ""),
    "frames declared huge": (declared_huge, "cannot be decoded"),
    "0.1 %": (cut(0.001), ""),
    "1 %": (cut(0.01), ""),
    "10 %": (cut(0.1), "is cut short"),
    "half": (cut(0.5), "is cut short"),
    "90 %": (cut(0.9), "is cut short"),
    "99 %": (cut(0.99), "is cut short"),
    "noise at the start": (noise(0, 64), "cannot be decoded"),
    "noise all over": (noise(0, 10**6), "cannot be decoded"),
    "a folder": (folder, "it is a folder"),
    "a pipe": (pipe, "it is a pipe"),
    "an endless device": (link("/dev/zero"), "it is a device"),
    "an empty device": (link("/dev/null"), "it is a device"),
    "a link to nothing": (link("gone.mp4"), "cannot be read"),
    "a link to itself": (link("{}"), "cannot be read"),
}


@pytest.fixture
def words(tree: Path, output: Path) -> list[object]:
    """Decoding in this process."""
    return ["index", "toybox", tree, "--output", output, "--workers", "1"]


@pytest.mark.parametrize("kind", DAMAGES)
def test_clip(refused: Callable[..., str], words: list, first_clip: Path, kind: str):
    damage, problem = DAMAGES[kind]
    damage(first_clip)
    line = refused(*words, names=(str(first_clip), problem))
    assert line.count(first_clip.name) == 1


@pytest.mark.parametrize("kind", ["empty", "a PNG", "half", "a folder", "a pipe"])
def test_clip_in_another_process(
    refused: Callable[..., str], words: list, first_clip: Path, kind: str
):
    """Every clip is bad, so it does not matter which is decoded first."""
    damage, problem = DAMAGES[kind]
    for clip in first_clip.parent.glob("*.mp4"):
        damage(clip)
    refused(*words[:-1], "2", names=(first_clip.parent.name, problem))


LATE: dict[str, tuple[Damage, str]] = {
    "noise at a quarter": (noise(0.25, 3000), "cannot be decoded"),
    "noise in the middle": (noise(0.5, 3000), "cannot be decoded"),
    "three frames": (three_frames, "has 3 frames"),
}


@pytest.mark.parametrize("kind", LATE)
def test_clip_that_is_found_bad_late(
    capsys: pytest.CaptureFixture[str], words: list, first_clip: Path, output: Path, kind: str
):
    """Frames are kept for the next call, but there is no data set."""
    damage, problem = LATE[kind]
    damage(first_clip)
    assert main([*map(str, words)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert problem in line
    assert first_clip.stem in line
    assert {path.name for path in output.iterdir()} <= {"images", "frames.json"}


def test_nothing_else_is_written_to_the_screen(
    capfd: pytest.CaptureFixture[str], words: list, first_clip: Path
):
    """By the libraries in C that decode."""
    noise(0.5, 3000)(first_clip)
    assert main([*map(str, words)]) == 2
    out, err = capfd.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
