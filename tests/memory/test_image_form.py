"""The form of stored images: what JPEG makes of them, and what it costs."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from crumb.memory.encoded import as_bytes
from crumb.memory.images import ImageForm, scaled, usual_side


def pictures(count: int, side: int) -> Tensor:
    """Smooth pictures with some noise, as photographs have: uint8 [n, 3, side, side]."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (count, 3, 5, 5), dtype=torch.uint8, generator=generator)
    noise = torch.randint(-8, 9, (count, 3, side, side), generator=generator)
    return (scaled(coarse, side) + noise).clamp(0, 255).byte()


@pytest.mark.parametrize("quality", [1, 50, 75, 95])
@pytest.mark.parametrize("side", [8, 20, 32])
def test_a_row_is_a_jpeg_file_without_what_all_have_in_common(quality: int, side: int):
    form, images = ImageForm(48, side, quality), pictures(3, 48)
    small = scaled(images, side)
    for row, pixels, back in zip(form.encode(images), small, form(images), strict=True):
        file = BytesIO()
        array = pixels.permute(1, 2, 0).numpy()
        Image.fromarray(array).save(file, "JPEG", quality=quality)
        assert form.header + as_bytes(row) == file.getvalue()
        decoded = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)
        assert torch.equal(back, scaled(decoded[None], 48)[0])
    assert len(form.header) == 623
    assert min(len(as_bytes(row)) for row in form.encode(images)) >= form.least_bytes


def test_images_come_back_nearly_as_they_were():
    images = pictures(2, 32)
    errors = [
        (ImageForm(32, 32, quality)(images).float() - images.float()).abs().mean()
        for quality in (95, 75, 10)
    ]
    assert errors[0] < errors[1] < errors[2]
    assert errors[1] < 8


def test_pixels_come_back_as_they_were():
    images, form = pictures(2, 16), ImageForm(16, 16)
    assert form.lossless
    assert form.header == b""
    assert form.least_bytes == 3 * 16 * 16
    assert torch.equal(form.encode(images), images)
    assert torch.equal(form(images), images)
    assert not ImageForm(16, 8).lossless
    assert not ImageForm(16, 16, 95).lossless


def test_no_image_is_shorter_than_one_of_a_single_colour():
    form = ImageForm(32, 32, 75)
    for value in (0, 128, 255):
        image = torch.full((1, 3, 32, 32), value, dtype=torch.uint8)
        assert len(as_bytes(form.encode(image)[0])) >= form.least_bytes


@pytest.mark.parametrize(
    ("budget", "side"),
    [(1, 32), (50_000, 32), (250_000, 128), (500_000, 208), (2_257_920, 224), (1 << 50, 224)],
)
def test_side_by_budget(budget: int, side: int):
    assert usual_side(budget, 224) == side
    assert usual_side(budget, 20) == min(side, 20)
