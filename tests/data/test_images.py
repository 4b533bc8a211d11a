from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import InterpolationMode, Resize

from crumb.data.images import as_images, load_image, load_images, pil_to_tensor
from crumb.errors import InputError

GREY = np.linspace(0, 255, 6 * 8).round().astype(np.uint8).reshape(6, 8)


def picture(height: int = 6, width: int = 8, seed: int = 0) -> np.ndarray:
    """uint8 [height, width, 3] with large smooth areas and some noise."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    base = np.stack([rows * 255 / height, columns * 255 / width, (rows + columns) * 2], 2)
    return (base + generator.integers(0, 40, base.shape)).clip(0, 255).astype(np.uint8)


def antialiased(array: np.ndarray, size: int) -> torch.Tensor:
    """What torchvision makes of a Pillow image."""
    image = Resize((size, size), InterpolationMode.BILINEAR)(Image.fromarray(array))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.mark.parametrize("shape", [(6, 8), (300, 500), (224, 300), (17, 224), (1, 1)])
@pytest.mark.parametrize("size", [8, 224])
def test_resizes_like_torchvision(shape: tuple[int, int], size: int, tmp_path: Path):
    array = picture(*shape)
    Image.fromarray(array).save(tmp_path / "a.png")
    found = load_image(tmp_path / "a.png", size)
    assert found.dtype == torch.uint8
    assert found.is_contiguous()
    assert torch.equal(found, antialiased(array, size))


def test_image_of_the_right_size_is_kept(tmp_path: Path):
    array = picture(224, 224)
    Image.fromarray(array).save(tmp_path / "a.png")
    assert torch.equal(
        load_image(tmp_path / "a.png", 224).permute(1, 2, 0), torch.from_numpy(array)
    )


def test_large_jpeg_is_what_full_decoding_gives(tmp_path: Path):
    Image.fromarray(picture(900, 1200)).save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as image:
        expected = antialiased(np.array(image), 224)
    found = load_image(tmp_path / "a.jpg", 224)
    assert (found.int() - expected.int()).abs().float().mean() < 2


CONVERT: dict[str, Callable[[], Image.Image]] = {
    "1": lambda: Image.fromarray(GREY > 127),
    "L": lambda: Image.fromarray(GREY),
    "LA": lambda: Image.merge("LA", (Image.fromarray(GREY), Image.new("L", (8, 6), 9))),
    "I;16": lambda: Image.fromarray(GREY.astype(np.uint16) * 256 + 37),
    "RGBA": lambda: Image.fromarray(np.dstack([picture(), GREY])),
    "P": lambda: Image.fromarray(picture()).quantize(200),
    "CMYK": lambda: Image.fromarray(picture()).convert("CMYK"),
}


@pytest.mark.parametrize("mode", CONVERT)
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path):
    image = CONVERT[mode]()
    assert image.mode == mode
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    found = load_image(path, 8)
    grey = np.dstack([GREY] * 3)
    expected = {"1": (grey > 127).astype(np.uint8) * 255, "L": grey, "LA": grey, "I;16": grey}
    difference = found.int() - antialiased(expected.get(mode, picture()), 8).int()
    # A palette of 200 colours and the way over CMYK cost a little.
    tolerance = 12 if mode in ("P", "CMYK") else 1
    assert difference.abs().max() <= tolerance
    assert torch.equal(as_images(image, 8)[0], found)


def test_palette_with_transparency_keeps_its_colours_without_a_word(tmp_path: Path):
    image = Image.fromarray(picture()).quantize(200)
    image.save(tmp_path / "plain.png")
    image.save(tmp_path / "clear.png", transparency=bytes(range(200)))
    plain, clear = (load_image(tmp_path / name, 8) for name in ("plain.png", "clear.png"))
    assert torch.equal(plain, clear)


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize(
    ("tag", "undo"),
    [
        (1, lambda array: array),
        (2, lambda array: array[:, ::-1]),
        (3, lambda array: array[::-1, ::-1]),
        (4, lambda array: array[::-1]),
        (5, lambda array: array.transpose(1, 0, 2)),
        (6, lambda array: np.rot90(array)),
        (7, lambda array: array[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda array: np.rot90(array, -1)),
    ],
)
def test_exif_turns_the_image_upright(
    tag: int, undo: Callable[[np.ndarray], np.ndarray], suffix: str, tmp_path: Path
):
    upright = picture(16, 16)
    exif = Image.Exif()
    exif[0x112] = tag
    stored = np.ascontiguousarray(undo(upright))
    path = tmp_path / f"a.{suffix}"
    more: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(stored).save(path, exif=exif, **more)
    assert torch.equal(load_image(path, 16), torch.from_numpy(upright).permute(2, 0, 1))


def png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0"))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "no such image"),
        (b"", "cannot be read as an image"),
        (b"not an image\nat all", "cannot be read as an image"),
        (png_header(20_000, 20_000), "cannot be read as an image"),
        (png_header(4, 4), "cannot be read as an image"),
    ],
    ids=["missing", "empty", "text", "bomb", "no pixels"],
)
def test_unusable_file_is_one_line(content: bytes | None, problem: str, tmp_path: Path):
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=problem) as caught:
        load_image(path, 8)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "index again" in message
    assert "\n" not in message


def test_folder_instead_of_an_image(tmp_path: Path):
    with pytest.raises(InputError, match="cannot be read"):
        load_image(tmp_path, 8)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "tif"])
def test_truncated_file_is_one_line(suffix: str, tmp_path: Path):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(picture(60, 80)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=f"a.{suffix}: "):
        load_image(path, 8)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "WEBP"]), st.data())
def test_damaged_file_is_one_error_or_an_image(tmp_path: Path, kind: str, data: st.DataObject):
    path = tmp_path / "a"
    Image.fromarray(picture(20, 20)).save(path, kind)
    content = bytearray(path.read_bytes())
    places = st.integers(0, len(content) - 1)
    for place in data.draw(st.lists(places, min_size=1, max_size=5)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        image = load_image(path, 8)
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert image.shape == (3, 8, 8)


def test_several_files_keep_their_order(tmp_path: Path):
    for value in (10, 20, 30):
        Image.new("RGB", (9, 9), (value, 0, 0)).save(tmp_path / f"{value}.png")
    batch = load_images(tmp_path, ["30.png", "10.png", "20.png", "30.png"], 4)
    assert batch.shape == (4, 3, 4, 4)
    assert batch[:, 0, 0, 0].tolist() == [30, 10, 20, 30]


ARRAY = picture(10, 14)
TENSOR = torch.from_numpy(ARRAY).permute(2, 0, 1)
SAME: dict[str, Any] = {
    "image": Image.fromarray(ARRAY),
    "images": [Image.fromarray(ARRAY)],
    "array": ARRAY,
    "arrays": [ARRAY],
    "batch of arrays": ARRAY[None],
    "strided array": np.ascontiguousarray(ARRAY[::-1])[::-1],
    "tensor": TENSOR,
    "tensors": (TENSOR,),
    "batch of tensors": TENSOR[None],
    "float tensor": TENSOR / 255,
    "double tensor": TENSOR.double() / 255,
    "tensor with a gradient": (TENSOR / 255).requires_grad_(),
}


@pytest.mark.parametrize("form", SAME)
def test_all_forms_of_an_image_are_the_same(form: str):
    found = as_images(SAME[form], 12)
    assert found.shape == (1, 3, 12, 12)
    assert found.dtype == torch.uint8
    assert torch.equal(found[0], pil_to_tensor(Image.fromarray(ARRAY), 12))


def test_forms_and_sizes_may_be_mixed():
    batch = as_images([ARRAY, torch.zeros(3, 5, 5), Image.new("L", (2, 2), 7)], 6)
    assert batch.shape == (3, 3, 6, 6)
    assert batch[2].unique().tolist() == [7]


@given(st.integers(0, 255))
def test_every_byte_survives_the_way_over_floats(value: int):
    image = torch.full((3, 1, 1), value / 255)
    assert as_images(image, 1).flatten().tolist() == [value] * 3


def test_floats_are_rounded():
    assert as_images(torch.full((3, 1, 1), 100.6 / 255), 1).unique().tolist() == [101]


def test_images_of_the_right_size_are_kept():
    array = picture(8, 8)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    for form in (array, tensor, tensor / 255, Image.fromarray(array)):
        assert torch.equal(as_images(form, 8)[0], tensor)


def test_an_array_of_the_right_size_may_be_read_only_or_turned():
    array = picture(8, 8)[::-1, ::-1]
    array.flags.writeable = False
    turned = Image.fromarray(array.copy())
    assert torch.equal(as_images(array, 8)[0], pil_to_tensor(turned, 8))


def test_images_are_copied():
    array = picture(8, 8)
    batch = as_images(array, 8)
    before = batch.clone()
    array[:] = 0
    assert torch.equal(batch, before)


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        (torch.full((3, 4, 4), 1.01), "outside"),
        (torch.full((3, 4, 4), -0.01), "outside"),
        (torch.full((3, 4, 4), float("nan")), "outside"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "torch.int64"),
        (torch.zeros(3, 4, 4, dtype=torch.bool), "torch.bool"),
        (torch.zeros(4, 4, 3), r"shape \(4, 4, 3\)"),
        (torch.zeros(4, 4), r"shape \(4, 4\)"),
        (torch.tensor(0.5), r"shape \(\)"),
        (torch.zeros(3, 0, 4), "at least one pixel"),
        (np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
        (Image.new("RGB", (0, 4)), "at least one pixel"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((3, 4, 4), np.uint8), r"\(3, 4, 4\)"),
        (np.zeros((4, 4), np.uint8), r"\(4, 4\)"),
        ([], "empty batch"),
        (np.zeros((0, 4, 4, 3), np.uint8), "empty batch|at least one pixel"),
        ("a.png", "a str"),
        (Path("a.png"), "Path"),
        ([None], "NoneType"),
        (None, "NoneType"),
        (3, "a int"),
    ],
)
def test_unusable_input_is_one_line(inputs: Any, problem: str):
    with pytest.raises(InputError, match=f"^images: .*{problem}") as caught:
        as_images(inputs, 8)
    assert "\n" not in str(caught.value)
