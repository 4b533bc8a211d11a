"""Images as they are found: metadata that cannot be read, endings of other programs, HEIC."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from crumb.data import heic
from crumb.data.images import load_image
from crumb.data.metadata import with_less_metadata
from crumb.data.sets.folder import Folder
from crumb.errors import InputError

CASES = Path(__file__).parent / "cases"
SIDE = 8
NOISE = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
PIXELS = torch.from_numpy(NOISE).permute(2, 0, 1)


@pytest.fixture(autouse=True)
def quiet(capfd: pytest.CaptureFixture[str]):
    yield
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("path", sorted(CASES.glob("*.png")), ids=lambda path: path.stem)
def test_metadata_of_the_report(path: Path):
    """Six files that hold one picture, each with something else beside it that is broken."""
    *_, good = with_less_metadata(path.read_bytes())
    expected = Image.open(io.BytesIO(good)).convert("RGB").resize((SIDE, SIDE), 2)
    assert torch.equal(load_image(path, SIDE).permute(1, 2, 0), torch.tensor(np.array(expected)))


def png(*extra: tuple[bytes, bytes], damage: bytes = b"") -> bytes:
    """A picture with chunks before its pixels; the check sum of ``damage`` is wrong."""
    stream = io.BytesIO()
    Image.fromarray(NOISE).save(stream, "PNG")
    content = stream.getvalue()
    chunks = [
        struct.pack(">I", len(data))
        + kind
        + data
        + struct.pack(">I", zlib.crc32(kind + data) ^ (kind == damage))
        for kind, data in extra
    ]
    place = content.index(b"IDAT") - 4
    return content[:place] + b"".join(chunks) + content[place:]


@pytest.mark.parametrize(
    "chunk",
    [
        (b"eXIf", b"II*\0garbage"),
        (b"eXIf", b""),
        (b"tEXt", b""),
        (b"zTXt", b"comment\0\1not deflate"),
        (b"zTXt", b"comment\0\0" + zlib.compress(bytes(1 << 21))),
        (b"iTXt", b"a\0\1\0\0\0not deflate"),
        (b"iCCP", b"profile\0\0not deflate"),
        (b"iCCP", b"profile\0\7"),
        (b"gAMA", b"\0"),
        (b"cHRM", b"\0\0\0"),
        (b"sRGB", b""),
        (b"pHYs", b"\0\0"),
        (b"tEXt", b"Raw profile type exif\0\nexif\n 4\nzzzz"),
    ],
)
@pytest.mark.parametrize("damaged", [False, True])
def test_broken_chunks_of_a_png(tmp_path: Path, chunk: tuple[bytes, bytes], damaged: bool):
    path = tmp_path / "a.png"
    path.write_bytes(png(chunk, damage=chunk[0] if damaged else b""))
    assert torch.equal(load_image(path, SIDE), PIXELS)


def test_damage_to_pixels_is_noticed_beside_broken_metadata(tmp_path: Path):
    content = bytearray(png((b"gAMA", b"\0")))
    content[content.index(b"IDAT") + 40] ^= 1
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match="is a damaged image"):
        load_image(tmp_path / "a.png", SIDE)


def test_an_orientation_survives_a_broken_profile(tmp_path: Path):
    """Only what cannot be read is left alone."""
    exif = Image.Exif()
    exif[274] = 2
    Image.fromarray(NOISE).save(tmp_path / "a.png", exif=exif, icc_profile=b"no profile")
    assert torch.equal(load_image(tmp_path / "a.png", SIDE), PIXELS.flip(2))


def up(value: int) -> bytes:
    """EXIF of an orientation, as it lies in a PNG."""
    exif = Image.Exif()
    exif[274] = value
    return exif.tobytes().removeprefix(b"Exif\0\0")


XMP = b'<rdf:Description tiff:Orientation="2"/>'
CARRIERS = {
    "exif": (b"eXIf", up(2)),
    "xmp": (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
    "text": (
        b"zTXt",
        b"Raw profile type exif\0\0"
        + zlib.compress(b"\nexif\n%8d\n" % (len(up(2)) + 6) + (b"Exif\0\0" + up(2)).hex().encode()),
    ),
}


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize(
    ("broken", "damage"),
    [
        ((b"gAMA", b"\0"), b""),
        ((b"iCCP", b"profile\0\7"), b""),
        ((b"tEXt", b"a\0b"), b"tEXt"),
        ((b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 21))), b""),
        ((b"caBX", b"credentials"), b"caBX"),
    ],
    ids=lambda value: str(value[:4]),
)
def test_an_orientation_is_read_beside_what_is_broken(
    tmp_path: Path, carrier: str, broken: tuple[bytes, bytes], damage: bytes
):
    path = tmp_path / "a.png"
    path.write_bytes(png(CARRIERS[carrier], broken, damage=damage))
    assert torch.equal(load_image(path, SIDE), PIXELS.flip(2))


def test_an_orientation_is_read_beside_another_that_is_broken(tmp_path: Path):
    path = tmp_path / "a.png"
    path.write_bytes(png(CARRIERS["exif"], CARRIERS["xmp"], damage=b"iTXt"))
    assert torch.equal(load_image(path, SIDE), PIXELS.flip(2))


@pytest.mark.parametrize("kind", [b"caBX", b"iDOT", b"vpAg", b"sTER", b"dSIG", b"acTL", b"zzZZ"])
def test_any_optional_chunk_of_a_png(tmp_path: Path, kind: bytes):
    path = tmp_path / "a.png"
    path.write_bytes(png((kind, b"abcd"), damage=kind))
    assert torch.equal(load_image(path, SIDE), PIXELS)


def test_chunks_that_tell_colours_are_not_optional(tmp_path: Path):
    path = tmp_path / "a.png"
    path.write_bytes(png((b"tRNS", b"abcdef"), (b"gAMA", b"\0"), damage=b"tRNS"))
    with pytest.raises(InputError, match="unknown format|damaged"):
        load_image(path, SIDE)


def with_segment(whole: bytes, marker: int, content: bytes) -> bytes:
    """A JPEG file with one more segment, before all others."""
    segment = bytes([0xFF, marker]) + struct.pack(">H", 2 + len(content)) + content
    return whole[:2] + segment + whole[2:]


@pytest.mark.parametrize("content", [b"ICC_PROFILE\0", b"ICC_PROFILE\0\1"])
@pytest.mark.parametrize("turns", [b"Exif\0\0" + up(2), b"http://ns.adobe.com/xap/1.0/\0" + XMP])
def test_an_orientation_of_a_jpeg_beside_a_broken_profile(
    tmp_path: Path, content: bytes, turns: bytes
):
    image, path = Image.fromarray(NOISE), tmp_path / "a.jpg"
    image.save(path, quality=90)
    plain, whole = load_image(path, SIDE), path.read_bytes()
    path.write_bytes(with_segment(with_segment(whole, 0xE1, turns), 0xE2, content))
    assert torch.equal(load_image(path, SIDE), plain.flip(2))


@pytest.mark.parametrize(
    ("marker", "content"), [(0xE0, b"JFIF\0"), (0xE0, b"JFIF\0\1"), (0xEE, b"Adobe\0")]
)
def test_segments_that_are_too_short_to_tell_colours(tmp_path: Path, marker: int, content: bytes):
    image, path = Image.fromarray(NOISE), tmp_path / "a.jpg"
    image.save(path, quality=90)
    plain = load_image(path, SIDE)
    path.write_bytes(with_segment(path.read_bytes(), marker, content))
    assert torch.equal(load_image(path, SIDE), plain)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"]
)
def test_unreadable_exif_of_other_formats(tmp_path: Path, kind: str, exif: bytes):
    image, path = Image.fromarray(NOISE), tmp_path / "a"
    image.save(path, kind, quality=90)
    plain = load_image(path, SIDE)
    image.save(path, kind, quality=90, exif=exif)
    assert torch.equal(load_image(path, SIDE), plain)


@pytest.mark.parametrize("marker", [0xE1, 0xE2, 0xED, 0xFE])
@pytest.mark.parametrize(
    "content", [b"", b"MPF\0garbage", b"ICC_PROFILE\0\\9\0", b"Photoshop 3.0\0008BIM\4"]
)
def test_broken_segments_of_a_jpeg(tmp_path: Path, marker: int, content: bytes):
    image, path = Image.fromarray(NOISE), tmp_path / "a.jpg"
    image.save(path, quality=90)
    plain = load_image(path, SIDE)
    path.write_bytes(with_segment(path.read_bytes(), marker, content))
    assert torch.equal(load_image(path, SIDE), plain)


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        *((".jfif", "JPEG"), (".jpe", "JPEG"), (".avif", "AVIF"), (".apng", "PNG")),
        *((".pnm", "PPM"), (".JFIF", "JPEG")),
    ],
)
def test_images_of_other_names(tmp_path: Path, ending: str, kind: str):
    options: dict[str, Any] = {"AVIF": {"quality": 100, "subsampling": "4:4:4"}}
    root = tmp_path / "mine"
    for number in (1, 2):
        path = root / f"cup/{number}/1{ending}"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (SIDE, SIDE), (200, 30, 10)).save(path, kind, **options.get(kind, {}))
        assert (load_image(path, SIDE)[:, 4, 4] - torch.tensor([200, 30, 10])).abs().max() <= 3
    assert Folder(root=root, output=tmp_path / "set").survey.sides == {"cup": (1, 1)}


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A red HEIC photo, and one of another session."""
    pillow_heif = pytest.importorskip("pillow_heif")
    pixels = np.full((16, 16, 3), (200, 30, 10), np.uint8)
    paths = [tmp_path / "mine/cup" / number / "1.HEIC" for number in "12"]
    for path in paths:
        path.parent.mkdir(parents=True)
        pillow_heif.from_bytes("RGB", (16, 16), pixels.tobytes()).save(path, quality=90)
    return paths[0]


def test_heic(photo: Path, tmp_path: Path):
    pixels = load_image(photo, SIDE).int()
    assert (pixels - torch.tensor([200, 30, 10]).view(3, 1, 1)).abs().max() <= 6
    survey = Folder(root=tmp_path / "mine", output=tmp_path / "set").survey
    assert survey.sides == {"cup": (1, 1)}


def test_heic_without_its_extra(photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])
    heic.reads_heic.cache_clear()
    try:
        with pytest.raises(InputError, match=r"1.HEIC: is a HEIC image; .*crumb-learn\[heic\]"):
            load_image(photo, SIDE)
        with pytest.raises(InputError, match=r"a HEIC image; .*crumb-learn\[heic\]"):
            _ = Folder(root=tmp_path / "mine", output=tmp_path / "set").survey
    finally:
        heic.reads_heic.cache_clear()
