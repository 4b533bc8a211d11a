"""Pictures that are not square: cropped, squashed or padded, everywhere in the same way."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from crumb.data.decode import ClipFile, Decoded, decode_clips
from crumb.data.images import as_images, load_image
from crumb.data.index import load_dataset, write_dataset
from crumb.data.resize import RESIZES, Resize, to_square
from crumb.data.sets.base import index_source
from crumb.data.sets.folder import Folder
from crumb.data.video import frames_at_one_per_second
from crumb.errors import InputError
from crumb.features.features import PixelStore

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def thirds(width: int = 90, height: int = 30) -> Image.Image:
    """Red, green and blue along the longer side."""
    image = Image.new("RGB", (width, height), GREEN)
    if width > height:
        image.paste(RED, (0, 0, width // 3, height))
        image.paste(BLUE, (width - width // 3, 0, width, height))
    else:
        image.paste(RED, (0, 0, width, height // 3))
        image.paste(BLUE, (0, height - height // 3, width, height))
    return image


SHOWN: dict[Resize, list[str]] = {
    "crop": ["green", "green", "green"],
    "squash": ["red", "green", "blue"],
    # The picture is a band of a third of the height.
    "pad": ["black", "black", "black"],
}


def colours(pixels: Any) -> list[str]:
    """Along the upper edge of [H, W, 3]: the colour at the left, in the middle and at the right."""
    row = np.asarray(pixels)[1].astype(int)
    names = {"red": RED, "green": GREEN, "blue": BLUE, "black": (0, 0, 0)}
    return [
        min(names, key=lambda name: np.abs(row[place] - names[name]).sum())
        for place in (1, len(row) // 2, len(row) - 2)
    ]


@pytest.mark.parametrize("resize", RESIZES)
def test_a_wide_picture(resize: Resize):
    assert colours(to_square(thirds(), 30, resize)) == SHOWN[resize]


@pytest.mark.parametrize("resize", RESIZES)
def test_a_tall_picture(resize: Resize):
    square = to_square(thirds(30, 90), 30, resize).transpose(Image.Transpose.ROTATE_90)
    assert colours(square) == SHOWN[resize]


def test_pad_puts_the_picture_in_the_middle():
    square = np.asarray(to_square(thirds(), 30, "pad"))
    assert colours(square[10:20]) == ["red", "green", "blue"]
    assert not square[:10].any()
    assert not square[20:].any()


@pytest.mark.parametrize("size", [(64, 48), (48, 64), (101, 37), (37, 101), (33, 32), (500, 3)])
@pytest.mark.parametrize("side", [8, 31, 32])
def test_crop_is_what_torchvision_does(size: tuple[int, int], side: int):
    """Rounding once instead of twice is a difference of one step of 255."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    theirs = v2.CenterCrop(side)(v2.Resize(side)(image))
    ours = to_square(image, side, "crop")
    difference = np.asarray(ours, dtype=int) - np.asarray(theirs, dtype=int)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1), (2, 3)])
def test_any_shape(resize: Resize, size: tuple[int, int]):
    assert to_square(Image.new("RGB", size, RED), 8, resize).size == (8, 8)


@pytest.mark.parametrize("resize", RESIZES)
def test_a_square_of_the_size_is_left_as_it_is(resize: Resize):
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(to_square(Image.fromarray(noise), 8, resize)), noise)


def test_pixels_that_are_not_square():
    """30 pixels three times as wide as high are as wide as 90."""
    narrow = thirds(90, 30).resize((30, 30), Image.Resampling.NEAREST)
    square = to_square(narrow, 30, "crop", pixel_aspect=Fraction(3))
    assert colours(square) == ["green"] * 3


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_files_and_pictures_in_memory_are_treated_alike(
    tmp_path: Path, resize: Resize, ending: str
):
    """A JPEG is decoded at an eighth of its size, of which the shorter side is still enough."""
    image = thirds(900, 300)
    image.save(tmp_path / f"a.{ending}")
    for pixels in (
        load_image(tmp_path / f"a.{ending}", 30, resize),
        as_images(image, 30, resize)[0],
    ):
        assert colours(pixels.permute(1, 2, 0)) == SHOWN[resize]


def test_an_upright_photo_is_turned_before_it_is_cropped(tmp_path: Path):
    exif = Image.Exif()
    exif[274] = 6
    thirds(90, 30).save(tmp_path / "a.png", exif=exif)
    pixels = load_image(tmp_path / "a.png", 30, "pad").permute(1, 2, 0).numpy()
    assert not pixels[:, :10].any()
    assert pixels[:, 10:20].any(axis=2).all()


def write_wide_clip(path: Path, turned: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=1)
        stream.width, stream.height, stream.pix_fmt = 96, 32, "yuv444p"
        stream.options = {"qp": "0", "preset": "ultrafast"}
        if turned:
            stream.set_display_rotation(90)
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_image(thirds(96, 32))))
        container.mux(stream.encode())


@pytest.mark.parametrize("resize", RESIZES)
def test_clips(tmp_path: Path, resize: Resize):
    write_wide_clip(tmp_path / "clip.mp4")
    for image in frames_at_one_per_second(tmp_path / "clip.mp4", 30, resize):
        assert colours(image) == SHOWN[resize]


def test_frames_are_cropped_unless_asked_otherwise(tmp_path: Path):
    write_wide_clip(tmp_path / "clip.mp4")
    assert colours(next(frames_at_one_per_second(tmp_path / "clip.mp4", 30))) == SHOWN["crop"]


def test_clips_are_decoded_again_for_another_form(tmp_path: Path):
    write_wide_clip(tmp_path / "clip.mp4")
    clip = ClipFile("clip", tmp_path / "clip.mp4", tmp_path / "frames/clip")
    for resize in ("squash", "crop", "pad"):
        assert decode_clips([clip], tmp_path / "frames.json", 1, resize) == {"clip": Decoded(2, 0)}
        with Image.open(clip.frame(1)) as image:
            assert colours(image) == SHOWN[resize]


@pytest.mark.parametrize("decoding", [None, 1])
def test_clips_that_an_older_version_decoded_are_decoded_again(
    tmp_path: Path, decoding: int | None
):
    write_wide_clip(tmp_path / "clip.mp4")
    clip = ClipFile("clip", tmp_path / "clip.mp4", tmp_path / "frames/clip")
    decode_clips([clip], tmp_path / "frames.json", 1)
    good = clip.frame(1).read_bytes()
    record = json.loads((tmp_path / "frames.json").read_text())
    record["clips"]["clip"].pop("decoding")
    if decoding is not None:
        record["clips"]["clip"]["decoding"] = decoding
    (tmp_path / "frames.json").write_text(json.dumps(record))
    Image.new("RGB", (224, 224)).save(clip.frame(1))
    decode_clips([clip], tmp_path / "frames.json", 1)
    assert clip.frame(1).read_bytes() == good


# Data sets.


def own_images(tmp_path: Path) -> Path:
    for session in ("1", "2"):
        path = tmp_path / "mine/cup" / session / "1.png"
        path.parent.mkdir(parents=True)
        thirds().save(path)
    return tmp_path / "mine"


@pytest.mark.parametrize("resize", [None, *RESIZES])
def test_the_choice_is_in_the_index_and_is_followed(tmp_path: Path, resize: Resize | None):
    flags: dict[str, Any] = {} if resize is None else {"resize": resize}
    index_source(Folder(root=own_images(tmp_path), output=tmp_path / "set", **flags))
    dataset = load_dataset(tmp_path / "set")
    assert dataset.resize == (resize or "crop")
    store = PixelStore(dataset.images, 30, torch.device("cpu"), 1, dataset.resize)
    (pixels,) = store.get(dataset.index["im_path"].tolist()[:1])
    assert colours(pixels.permute(1, 2, 0)) == SHOWN[resize or "crop"]


def test_pixels_of_different_forms_are_kept_apart(tmp_path: Path):
    stores = [PixelStore(tmp_path, 30, torch.device("cpu"), 1, resize) for resize in RESIZES]
    assert len({store.fingerprint() for store in stores}) == 3


def test_data_sets_of_different_forms_are_different(tmp_path: Path):
    dataset, _ = index_source(Folder(root=own_images(tmp_path), output=tmp_path / "set"))
    assert len({replace(dataset, resize=resize).digest for resize in RESIZES}) == 3


def test_an_older_index_is_of_squashed_images(tmp_path: Path):
    dataset, _ = index_source(Folder(root=own_images(tmp_path), output=tmp_path / "set"))
    write_dataset(dataset)
    path = tmp_path / "set/dataset.json"
    record = json.loads(path.read_text())
    assert record.pop("resize") == "crop"
    path.write_text(json.dumps(record))
    assert load_dataset(tmp_path / "set").resize == "squash"
    path.write_text(json.dumps(record | {"resize": "stretch"}))
    with pytest.raises(InputError, match="'resize' is not one of crop, squash, pad"):
        load_dataset(tmp_path / "set")
