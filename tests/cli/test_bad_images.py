"""Images that cannot be used: one line that names the file; of a command, and nothing written."""

from __future__ import annotations

import io
import os
import resource
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save

from crumb.data.images import load_image
from crumb.data.index import Dataset
from crumb.data.protocol import lay_out
from crumb.errors import InputError

Damage = Callable[[Path], object]

pytestmark = pytest.mark.usefixtures("in_time")

PNG_START = b"\x89PNG\r\n\x1a\n"


def encoded(kind: str, **options: Any) -> bytes:
    """A picture that does not compress to nothing."""
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind, **options)
    return content.getvalue()


def holding(content: bytes) -> Damage:
    return lambda path: path.write_bytes(content)


def half(content: bytes) -> Damage:
    return holding(content[: len(content) // 2])


def saved(pixels: np.ndarray) -> Damage:
    return lambda path: Image.fromarray(pixels).save(path, "TIFF")


def flipped(content: bytes, place: int) -> Damage:
    return holding(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])


def chunk(name: bytes, body: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(name + body))
    return struct.pack(">I", len(body)) + name + body + check


def png(width: int, height: int) -> bytes:
    """A PNG file that declares so many RGB pixels and holds 30,000 bytes of black ones."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(30_000))
    return PNG_START + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def bmp(side: int) -> bytes:
    start = struct.pack("<2sIHHI", b"BM", 1054, 0, 0, 54)
    return start + struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(999)


def tiff(side: int) -> bytes:
    entries = [(256, side), (257, side), (258, 8), (259, 1), (262, 1), (273, 8), (279, side * side)]
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + fields + bytes(4)


def gif(side: int) -> bytes:
    screen = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(6)
    return screen + b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x02\x44\x01\x00;"


PNG = encoded("PNG")
IN_PIXELS = PNG.index(b"IDAT") + 1000
LAST_OF_PIXELS = PNG.index(b"IEND") - 13

CONTENTS: dict[str, Damage] = {
    "half a PNG": half(PNG),
    "half a JPEG": half(encoded("JPEG")),
    "half a progressive JPEG": half(encoded("JPEG", progressive=True)),
    "half a GIF": half(encoded("GIF")),
    "half a WebP": half(encoded("WEBP")),
    "half a lossless WebP": half(encoded("WEBP", lossless=True)),
    "half a TIFF": half(encoded("TIFF")),
    "half a compressed TIFF": half(encoded("TIFF", compression="tiff_lzw")),
    "half a BMP": half(encoded("BMP")),
    "half a JPEG 2000": half(encoded("JPEG2000")),
    "the first bytes of a PNG": holding(PNG[:20]),
    "the first bytes of a JPEG": holding(encoded("JPEG")[:20]),
    "no end of the pixels of a PNG": holding(PNG[: LAST_OF_PIXELS - 40]),
    "nothing": holding(b""),
    "one zero byte": holding(b"\0"),
    "zeros": holding(bytes(100_000)),
    "text": holding(b"This is not the picture you are looking for.\n" * 100),
    "PDF": holding(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<</Type/Catalog>>\nendobj\n"),
    "HTML": holding(b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n"),
    "SVG": holding(b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'),
    "PostScript": holding(encoded("EPS")),
    "safetensors": holding(save({"weight": np.zeros((9, 9), np.float32)})),
    "a start of PNG, then text": holding(PNG_START + b"no chunks, but words" * 20),
    "wrong check sum of the header": flipped(PNG, 30),
    "wrong width in the header": flipped(PNG, 19),
    "wrong byte among the pixels": flipped(PNG, IN_PIXELS),
    "wrong check sum of the pixels": flipped(PNG, LAST_OF_PIXELS),
    "PNG of no width": holding(png(0, 100)),
    "PNG of no height": holding(png(100, 0)),
    "PNG of too few rows": holding(png(100, 101)),
    "BMP of no width": holding(bmp(0)),
    "TIFF of 32-bit integers": saved(np.full((8, 8), 70_000, np.int32)),
    "TIFF of floats": saved(np.full((8, 8), 0.5, np.float32)),
}
HUGE: dict[str, Damage] = {
    "PNG": holding(png(20_000, 20_000)),
    "one row": holding(png(2**31 - 1, 1)),
    "BMP": holding(bmp(20_000)),
    "TIFF": holding(tiff(20_000)),
    "GIF": holding(gif(65_535)),
}


def nothing(path: Path) -> None:
    """The file is gone already."""


def large(path: Path) -> None:
    """More than any image has; the file system need not keep the zeros."""
    path.write_bytes(PNG)
    os.truncate(path, 3 * 2**30)


FILES: dict[str, tuple[Damage, str]] = {
    "missing": (nothing, "no such image"),
    "folder": (Path.mkdir, "it is a folder"),
    "link to nothing": (lambda path: path.symlink_to(path.with_name("gone")), "link to nothing"),
    "link to itself": (lambda path: path.symlink_to(path), "cannot be read"),
    "link to a folder": (lambda path: path.symlink_to(path.parent), "it is a folder"),
    "pipe": (os.mkfifo, "it is a pipe"),
    "link to a pipe": (
        lambda path: (os.mkfifo(path.with_name("pipe")), path.symlink_to(path.with_name("pipe"))),
        "it is a pipe",
    ),
    "endless device": (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
    "empty device": (lambda path: path.symlink_to("/dev/null"), "it is a device"),
    "3 GiB": (large, "it has 3221225472 bytes"),
}


@pytest.fixture
def image(dataset: Dataset, dataset_copy: Path) -> Path:
    """An image of the first task of run 0, in a copy of the data set."""
    return dataset_copy / "images" / lay_out(dataset, "class_instance", 0).tasks[0].paths[0]


@pytest.fixture
def words(dataset_copy: Path, network_words: list[str], output: Path) -> list[object]:
    """The data set to be damaged, the tiny network, and where results would go."""
    return [dataset_copy, *network_words, "--output", output, "--epochs-first-task", "1"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where an image would be; nothing is there."""
    return tmp_path / "image.png"


def refusal(path: Path) -> str:
    """The line that the reader ends in."""
    with pytest.raises(InputError) as error:
        load_image(path, 160)
    line = str(error.value)
    assert "\n" not in line
    assert line.count(path.name) == 1
    return line


# The reader.


@pytest.mark.parametrize("content", CONTENTS)
def test_content(path: Path, content: str):
    CONTENTS[content](path)
    refusal(path)


def test_video(path: Path, clips: Path):
    path.write_bytes(min(clips.rglob("*.mp4")).read_bytes())
    assert "unknown format" in refusal(path)


@pytest.mark.parametrize("kind", HUGE)
def test_declared_size(path: Path, kind: str):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    HUGE[kind](path)
    assert "exceeds limit" in refusal(path)
    # The pixels would take 400 MB and more.
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert kibibytes < 300_000


@pytest.mark.parametrize("kind", FILES)
def test_file(path: Path, kind: str):
    damage, problem = FILES[kind]
    damage(path)
    assert problem in refusal(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="to the superuser all files are readable")
def test_forbidden_file(path: Path):
    path.write_bytes(PNG)
    path.chmod(0)
    assert "cannot be read" in refusal(path)


# The commands.

EVERYWHERE: dict[str, Damage] = {
    "half a PNG": half(PNG),
    "declared huge": HUGE["PNG"],
    "TIFF of floats": CONTENTS["TIFF of floats"],
    "missing": nothing,
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "endless device": lambda path: path.symlink_to("/dev/zero"),
}
WAYS = {
    "no cache": ["--feature-cache", "off"],
    "cache in memory": ["--feature-cache", "memory"],
    "cache on the disk": ["--feature-cache", "disk"],
    "images kept": ["--storage", "image"],
    "features kept": ["--storage", "raw_feature"],
}


@pytest.mark.parametrize("kind", EVERYWHERE)
def test_a_stream_of_it(refused: Callable[..., str], words: list, image: Path, kind: str):
    image.unlink()
    EVERYWHERE[kind](image)
    line = refused("stream", *words, names=image.name)
    assert line.count(image.name) == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["half a PNG", "missing"])
def test_every_way(refused: Callable[..., str], words: list, image: Path, kind: str, way: str):
    image.unlink()
    EVERYWHERE[kind](image)
    refused("stream", *words, *WAYS[way], names=image.name)


@pytest.mark.parametrize("kind", ["half a PNG", "missing", "pipe"])
def test_pretraining(refused: Callable[..., str], words: list, image: Path, kind: str):
    image.unlink()
    EVERYWHERE[kind](image)
    refused("pretrain", *words[:-2], "--epochs", "1", names=image.name)
