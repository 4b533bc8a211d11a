"""The form of stored images: what JPEG makes of them, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from crumb.data.batches import Batch
from crumb.memory.capacity import ImageConfig, MemoryConfig
from crumb.memory.encoded import as_bytes
from crumb.memory.exemplars import Exemplars
from crumb.memory.images import ImageForm, scaled, usual_side
from crumb.memory.storage import ImageStorage
from crumb.testing.networks import tiny_network


@dataclass(frozen=True)
class MemoryImages(ImageConfig, MemoryConfig):
    """Images that a policy chooses."""

    storage: Literal["image"] = "image"


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


def photographs(budget: int, side: int) -> bool:
    """Whether 128 of 1.2 s^1.5 + 8 bytes fit into a budget, in whole numbers."""
    room = 5 * (budget - 128 * 8)
    return room >= 0 and room**2 >= 128**2 * 36 * side**3


@given(st.integers(1, 2_000_000), st.integers(1, 500))
@example(1_229_824, 448)
def test_side_is_the_largest_in_steps_at_which_so_many_fit(budget: int, shown: int):
    side = usual_side(budget, shown)
    assert side == shown or (side < shown and side % 16 == 0)
    assert side >= min(32, shown)
    # Of two steps, the smaller one decides for an image as it is shown.
    step = -(-side // 16) * 16
    assert step <= 32 or photographs(budget, step)
    assert side == shown or not photographs(budget, side + 16)


@given(st.integers(1, 2_000_000), st.integers(1, 300))
def test_side_of_pixels_is_the_largest_at_which_so_many_fit(budget: int, shown: int):
    config = ImageConfig(storage="image", budget_bytes=budget, jpeg_quality=0).with_form(shown)
    side = config.exemplar_side
    assert side is not None
    assert min(32, shown) <= side <= shown
    assert side <= 32 or 64 * (3 * side**2 + 12) <= budget
    assert side == shown or 64 * (3 * (side + 1) ** 2 + 12) > budget


@pytest.mark.parametrize("budget", [3_000, 20_000, 30_000])
@pytest.mark.parametrize("quality", [0, 75])
def test_a_small_budget_is_kept(budget: int, quality: int):
    """At the smallest side: more than a hundred photographs are offered, and do not all fit."""
    if quality == 0:
        budget += 3 * 32 * 32
    config = MemoryImages(budget_bytes=budget, jpeg_quality=quality, write_policy="reservoir")
    form = config.with_form(48).form(48)
    assert form.side == 32
    storage = ImageStorage(tiny_network(), form)
    exemplars = Exemplars(config, storage, torch.Generator().manual_seed(0), "cpu")
    images, labels = pictures(150, 48), torch.zeros(150, dtype=torch.int64)
    exemplars.on_batch(Batch(labels, torch.zeros(150, 1, 1, 1), images))
    held = exemplars.nbytes + exemplars.reading_bytes
    longest = form.encode(images).flatten(1).shape[1] + 8
    assert budget - longest < held <= budget
