"""Odd but good images become the right picture, without a word on the screen."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from crumb.data.images import as_images, load_image, pil_to_tensor
from crumb.errors import InputError

SIDE = 8
RED, GREEN, BLUE = (200, 30, 10), (20, 180, 40), (10, 20, 220)
GREY = np.linspace(0, 255, SIDE * SIDE).round().astype(np.uint8).reshape(SIDE, SIDE)


def tensor(pixels: np.ndarray) -> torch.Tensor:
    """Pixels [H, W] or [H, W, 3] as an image [3, H, W]."""
    colours = np.dstack([pixels] * 3) if pixels.ndim == 2 else pixels
    return torch.from_numpy(np.ascontiguousarray(colours)).permute(2, 0, 1)


def halves(left: tuple[int, ...], right: tuple[int, ...], mode: str = "RGB") -> Image.Image:
    """Two colours side by side."""
    image = Image.new(mode, (SIDE, SIDE), left)
    image.paste(right, (SIDE // 2, 0, SIDE, SIDE))
    return image


def assert_halves(found: torch.Tensor, left: Any, right: Any, tolerance: int = 0) -> None:
    """Also compares the columns where the colours meet."""
    for columns, colour in ((found[:, :, : SIDE // 2], left), (found[:, :, SIDE // 2 :], right)):
        difference = columns.int() - torch.tensor(colour).view(3, 1, 1)
        assert difference.abs().max() <= tolerance


@pytest.fixture
def quiet(capfd: pytest.CaptureFixture[str]):
    """Nothing may be written to the screen, not even by a library in C."""
    yield
    assert capfd.readouterr() == ("", "")


pytestmark = pytest.mark.usefixtures("quiet")


# Shapes.


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 3), (1, 20_000)])
def test_one_colour_stays_one_colour_in_any_shape(tmp_path: Path, size: tuple[int, int]):
    Image.new("RGB", size, RED).save(tmp_path / "a.png")
    found = load_image(tmp_path / "a.png", SIDE)
    assert_halves(found, RED, RED)


def test_a_column_is_stretched_over_the_width(tmp_path: Path):
    column = np.repeat(np.arange(SIDE, dtype=np.uint8) * 30, 50)[:, None]
    Image.fromarray(column).save(tmp_path / "a.png")
    found = load_image(tmp_path / "a.png", SIDE).int()
    assert (found == found[:, :, :1]).all()
    assert (found[0, :, 0] - torch.arange(SIDE) * 30).abs().max() <= 4


# Bits a channel.


def png(header: tuple[int, int], rows: np.ndarray, width: int, *more: bytes) -> bytes:
    """A PNG file by hand: bit depth and colour type, and bytes [H, n] of its rows."""

    def chunk(name: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + check

    start = struct.pack(">IIBBBBB", width, len(rows), *header, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    others = b"".join(chunk(body[:4], body[4:]) for body in more)
    body = chunk(b"IHDR", start) + others + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("channels", [1, 2, 3, 4], ids=["grey", "grey+alpha", "RGB", "RGBA"])
def test_16_bit_png_keeps_the_upper_bits(tmp_path: Path, channels: int):
    fine = np.random.default_rng(0).integers(0, 2**16, (SIDE, SIDE, channels)).astype(">u2")
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    (tmp_path / "a.png").write_bytes(png((16, kind), fine.reshape(SIDE, -1), SIDE))
    upper = (fine >> 8).astype(np.uint8)
    expected = upper[:, :, :3] if channels > 2 else upper[:, :, 0]
    assert torch.equal(load_image(tmp_path / "a.png", SIDE), tensor(expected))


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_16_bit_tiff_keeps_the_upper_bits(tmp_path: Path, order: str):
    fine = np.random.default_rng(0).integers(0, 2**16, (SIDE, SIDE)).astype(order)
    Image.fromarray(fine).save(tmp_path / "a.tif")
    assert torch.equal(load_image(tmp_path / "a.tif", SIDE), tensor((fine >> 8).astype(np.uint8)))


def test_16_bit_pgm_keeps_the_upper_bits(tmp_path: Path):
    fine = np.random.default_rng(0).integers(0, 2**16, (SIDE, SIDE)).astype(">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5 8 8 65535\n" + fine.tobytes())
    assert torch.equal(load_image(tmp_path / "a.pgm", SIDE), tensor((fine >> 8).astype(np.uint8)))


def test_10_bit_pgm_is_stretched_over_the_range(tmp_path: Path):
    fine = np.linspace(0, 1023, SIDE * SIDE).round().astype(">u2").reshape(SIDE, SIDE)
    (tmp_path / "a.pgm").write_bytes(b"P5 8 8 1023\n" + fine.tobytes())
    found = load_image(tmp_path / "a.pgm", SIDE).int()
    assert (found - tensor(GREY).int()).abs().max() <= 1


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_of_grey_are_stretched_over_the_range(tmp_path: Path, bits: int):
    levels = np.random.default_rng(0).integers(0, 2**bits, (SIDE, SIDE)).astype(np.uint8)
    spread = (levels[:, :, None] >> np.arange(bits - 1, -1, -1)) & 1
    rows = np.packbits(spread.reshape(SIDE, -1).astype(np.uint8), axis=1)
    (tmp_path / "a.png").write_bytes(png((bits, 0), rows, SIDE))
    expected = (levels * (255 // (2**bits - 1))).astype(np.uint8)
    assert torch.equal(load_image(tmp_path / "a.png", SIDE), tensor(expected))


@pytest.mark.parametrize(
    ("pixels", "kind"),
    [
        (GREY.astype(np.int32) * 1000, "32-bit integers"),
        (GREY.astype(np.int32), "32-bit integers"),
        (GREY.astype(np.float32) / 255, "floating-point numbers"),
        (GREY.astype(np.float32), "floating-point numbers"),
        (np.full((SIDE, SIDE), np.nan, np.float32), "floating-point numbers"),
    ],
)
def test_pixels_of_unknown_range_are_refused(tmp_path: Path, pixels: np.ndarray, kind: str):
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=f"a.tif: has pixels that are {kind}.*8 or 16 bits"):
        load_image(tmp_path / "a.tif", SIDE)
    with pytest.raises(InputError, match=f"^images: has pixels that are {kind}"):
        as_images(Image.fromarray(pixels), SIDE)


# Colours.


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_cmyk(tmp_path: Path, name: str):
    inks = halves((0, 255, 255, 0), (255, 0, 0, 128), "CMYK")
    options: dict[str, Any] = {"quality": 100} if name == "a.jpg" else {}
    inks.save(tmp_path / name, **options)
    assert_halves(load_image(tmp_path / name, SIDE), (255, 0, 0), (0, 127, 127), tolerance=3)


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "RGBX", "RGBa", "RGBA"])
def test_other_colour_spaces_of_a_pillow_image(mode: str):
    image = halves(RED, BLUE).convert("RGBA" if mode == "RGBa" else mode).convert(mode)
    assert_halves(
        pil_to_tensor(image, SIDE), RED, BLUE, tolerance={"HSV": 6, "YCbCr": 3}.get(mode, 0)
    )


@pytest.mark.parametrize("mode", ["L", "LA", "La", "PA"])
def test_grey_modes_of_a_pillow_image(mode: str):
    image = Image.fromarray(GREY).convert("LA" if mode == "La" else mode).convert(mode)
    assert torch.equal(pil_to_tensor(image, SIDE), tensor(GREY))


def test_1_bit(tmp_path: Path):
    Image.fromarray(GREY > 127).save(tmp_path / "a.png")
    expected = np.where(GREY > 127, 255, 0).astype(np.uint8)
    assert torch.equal(load_image(tmp_path / "a.png", SIDE), tensor(expected))


def test_1_bit_fax(tmp_path: Path):
    Image.fromarray(GREY > 127).save(tmp_path / "a.tif", compression="group4")
    expected = np.where(GREY > 127, 255, 0).astype(np.uint8)
    assert torch.equal(load_image(tmp_path / "a.tif", SIDE), tensor(expected))


# Transparent pixels have the colour that is stored for them.


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp", "a.tga"])
def test_colours_below_transparency(tmp_path: Path, name: str):
    exact: dict[str, Any] = {"lossless": True, "exact": True} if name == "a.webp" else {}
    halves((*RED, 0), (*BLUE, 128), "RGBA").save(tmp_path / name, **exact)
    assert_halves(load_image(tmp_path / name, SIDE), RED, BLUE)


def test_grey_below_transparency(tmp_path: Path):
    clear = Image.fromarray(255 - GREY)
    Image.merge("LA", (Image.fromarray(GREY), clear)).save(tmp_path / "a.png")
    assert torch.equal(load_image(tmp_path / "a.png", SIDE), tensor(GREY))


@pytest.mark.parametrize("transparency", [0, b"\0\x80", b"\xff\0"])
@pytest.mark.parametrize("name", ["a.png", "a.gif"])
def test_palette_with_transparency(tmp_path: Path, transparency: Any, name: str):
    if name == "a.gif" and transparency != 0:
        transparency = 1
    image = halves((0,), (1,), "P")
    image.putpalette([*RED, *BLUE])
    image.save(tmp_path / name, transparency=transparency)
    assert_halves(load_image(tmp_path / name, SIDE), RED, BLUE)


@pytest.mark.parametrize(
    ("mode", "left", "right", "transparency"),
    [("RGB", RED, BLUE, RED), ("L", (9,) * 3, (99,) * 3, 9), ("1", (0,) * 3, (255,) * 3, 0)],
)
def test_a_colour_that_is_declared_transparent(
    tmp_path: Path, mode: str, left: Any, right: Any, transparency: Any
):
    halves(left, right).convert(mode).save(tmp_path / "a.png", transparency=transparency)
    assert_halves(load_image(tmp_path / "a.png", SIDE), left, right)


# Which way is up.


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
def test_exif_orientation(tmp_path: Path, tag: int, name: str):
    """Four corners of the upright picture: red, green, blue, white, as the published tags say."""
    upright = np.zeros((SIDE * 4, SIDE * 4, 3), np.uint8)
    middle = SIDE * 2
    upright[:middle, :middle], upright[:middle, middle:] = RED, GREEN
    upright[middle:, :middle], upright[middle:, middle:] = BLUE, (255, 255, 255)
    # Where row 0 and column 0 of the stored picture are in the upright one.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[tag]
    exif = Image.Exif()
    exif[0x112] = tag
    options: dict[str, Any] = {
        "a.jpg": {"quality": 100, "subsampling": 0},
        "a.webp": {"lossless": True},
    }
    image = Image.fromarray(np.ascontiguousarray(stored))
    image.save(tmp_path / name, exif=exif, **options.get(name, {}))
    found = load_image(tmp_path / name, SIDE * 4).int()
    expected = tensor(upright).int()
    assert (found - expected).abs().max() <= (9 if name == "a.jpg" else 0)


@pytest.mark.parametrize("value", [0, 9, 60_000])
def test_an_orientation_that_there_is_not(tmp_path: Path, value: int):
    exif = Image.Exif()
    exif[0x112] = value
    halves(RED, BLUE).save(tmp_path / "a.png", exif=exif)
    assert_halves(load_image(tmp_path / "a.png", SIDE), RED, BLUE)


def test_an_image_that_was_given_is_not_turned_itself():
    image = Image.fromarray(GREY)
    image.getexif()[0x112] = 3
    before = np.array(image)
    assert torch.equal(as_images(image, SIDE)[0], tensor(GREY[::-1, ::-1]))
    assert np.array_equal(np.array(image), before)
    assert image.getexif()[0x112] == 3


# Kinds of files.


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_first_of_several_pictures(tmp_path: Path, name: str):
    first, *others = halves(RED, BLUE), Image.new("RGB", (SIDE, SIDE), GREEN), halves(BLUE, RED)
    options: dict[str, Any] = {"lossless": True} if name == "a.webp" else {}
    first.save(tmp_path / name, save_all=True, append_images=others, duration=100, **options)
    with Image.open(tmp_path / name) as image:
        assert getattr(image, "n_frames", 1) == 3
    assert_halves(load_image(tmp_path / name, SIDE), RED, BLUE)


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "TGA"])
def test_the_content_decides_not_the_name(tmp_path: Path, kind: str):
    path = tmp_path / "a.png"
    exact: dict[str, Any] = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    halves(RED, BLUE).save(path, kind, **exact.get(kind, {}))
    assert_halves(load_image(path, SIDE), RED, BLUE, tolerance=4 if kind == "JPEG" else 0)


@pytest.mark.parametrize("name", ["picture", "a.PNG", "a.txt", "a b.png", "ä\N{SNOWMAN}.png"])
def test_any_name(tmp_path: Path, name: str):
    halves(RED, BLUE).save(tmp_path / name, "PNG")
    assert_halves(load_image(tmp_path / name, SIDE), RED, BLUE)


@pytest.mark.parametrize("options", [{"progressive": True}, {"optimize": True}, {"subsampling": 2}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_kinds_of_jpeg(tmp_path: Path, options: dict[str, Any], mode: str):
    rows = np.linspace(0, 255, 64).round().astype(np.uint8)[:, None].repeat(64, 1)
    image = Image.fromarray(rows).convert(mode)
    image.save(tmp_path / "a.jpg", quality=95, **options)
    found = load_image(tmp_path / "a.jpg", 64).int()
    assert (found - tensor(rows).int()).abs().max() <= 6


def test_interlaced_png(tmp_path: Path):
    """One pixel alone is the first of the seven passes, and the only one."""
    content = bytearray(png((8, 2), np.array([RED], np.uint8), 1))
    place = content.index(b"IHDR")
    content[place + 16] = 1
    content[place + 17 : place + 21] = struct.pack(">I", zlib.crc32(content[place : place + 17]))
    (tmp_path / "a.png").write_bytes(content)
    assert_halves(load_image(tmp_path / "a.png", SIDE), RED, RED)


def test_words_after_the_end_of_a_png(tmp_path: Path):
    halves(RED, BLUE).save(tmp_path / "a.png")
    with (tmp_path / "a.png").open("ab") as file:
        file.write(b"these words are no part of the picture")
    assert_halves(load_image(tmp_path / "a.png", SIDE), RED, BLUE)


def test_link_to_an_image(tmp_path: Path):
    halves(RED, BLUE).save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("a.png")
    assert_halves(load_image(tmp_path / "b.png", SIDE), RED, BLUE)
