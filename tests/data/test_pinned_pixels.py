"""Pixels and inputs of fronts, pinned under the numbers that features are kept under.

Where one of these fails, features on disk would be taken for what is no longer computed: raise
``DECODING`` or ``PREPROCESSING``, and pin the new values under the new number.

The pictures are decoded alike by every processor and library: PNG is lossless, Pillow resizes in
whole numbers, and a JPEG of grey blocks of 8 x 8 pixels has but one coefficient a block.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crumb.data import pictures
from crumb.data.images import load_image
from crumb.features import features
from crumb.features.features import PixelStore
from crumb.nets import config
from crumb.nets.config import Preprocessing

SIZE = 8
NOISE = np.random.default_rng(7).integers(0, 256, (24, 16, 4), np.uint8)


def _rgb() -> Image.Image:
    return Image.fromarray(NOISE[..., :3])


def _palette() -> Image.Image:
    picture = Image.fromarray(NOISE[..., 0] % 4, "P")
    picture.putpalette([*NOISE[0, :4, :3].flatten().tolist()])
    picture.info["transparency"] = 2
    return picture


def _sixteen_bits() -> Image.Image:
    return Image.fromarray(NOISE[..., 0].astype(np.uint16) * 256 + NOISE[..., 1])


def _turned() -> Image.Image:
    picture = _rgb()
    picture.getexif()[0x0112] = 6
    return picture


def _grey_blocks() -> Image.Image:
    return Image.fromarray(NOISE[:6, :4, 0]).resize((32, 48), Image.Resampling.NEAREST)


PICTURES: dict[str, tuple[Callable[[], Image.Image], dict[str, object]]] = {
    "enlarged and reduced": (lambda: _rgb().crop((0, 0, 16, 6)), {"format": "PNG"}),
    "reduced": (_rgb, {"format": "PNG"}),
    "cropped": (_rgb, {"format": "PNG", "resize": "crop"}),
    "padded": (_rgb, {"format": "PNG", "resize": "pad"}),
    "as it is": (lambda: _rgb().crop((0, 0, SIZE, SIZE)), {"format": "PNG"}),
    "transparent": (lambda: Image.fromarray(NOISE), {"format": "PNG"}),
    "palette": (_palette, {"format": "PNG"}),
    "grey": (lambda: Image.fromarray(NOISE[..., 0]), {"format": "PNG"}),
    "grey and transparent": (lambda: Image.fromarray(NOISE[..., :2], "LA"), {"format": "PNG"}),
    "one bit": (lambda: Image.fromarray(NOISE[..., 0] > 99), {"format": "PNG"}),
    "sixteen bits": (_sixteen_bits, {"format": "PNG"}),
    "turned by its EXIF tag": (_turned, {"format": "PNG", "exif": True}),
    "decoded at a quarter": (_grey_blocks, {"format": "JPEG", "quality": 100}),
}
PINNED: dict[int, dict[str, str]] = {
    1: {
        "enlarged and reduced": "09fd5ceb9292ee20",
        "reduced": "f985f5ee7e008d96",
        "cropped": "a1f50eab5883413f",
        "padded": "da0f96125dfa6aa5",
        "as it is": "5fbaf2ca081011ca",
        "transparent": "f985f5ee7e008d96",
        "palette": "31e5ae1b106dec76",
        "grey": "09d521127918f0f1",
        "grey and transparent": "09d521127918f0f1",
        "one bit": "031f7dc3c8eea798",
        "sixteen bits": "09d521127918f0f1",
        "turned by its EXIF tag": "e7b01392e87da64e",
        "decoded at a quarter": "7bf5258791ff9a25",
    },
}
INPUTS = {1: [-2.1179039, -1.2445416, -0.3711791, 2.2489083]}


def decoded(tmp_path: Path, name: str) -> torch.Tensor:
    draw, how = PICTURES[name]
    picture, settings = draw(), dict(how)
    resize = settings.pop("resize", "squash")
    if settings.pop("exif", False):
        settings["exif"] = picture.getexif()
    content = io.BytesIO()
    picture.save(content, **settings)  # pyright: ignore[reportArgumentType]
    path = tmp_path / "picture"
    path.write_bytes(content.getvalue())
    return load_image(path, SIZE, resize)  # pyright: ignore[reportArgumentType]


def digest(pixels: torch.Tensor) -> str:
    return hashlib.sha256(pixels.numpy().tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("name", PICTURES)
def test_pixels_are_those_of_their_number(tmp_path: Path, name: str):
    assert pictures.DECODING in PINNED, "pin the pixels under the new number"
    assert digest(decoded(tmp_path, name)) == PINNED[pictures.DECODING][name]


def test_inputs_are_those_of_their_number():
    assert config.PREPROCESSING in INPUTS, "pin the inputs under the new number"
    pixels = torch.tensor([0, 51, 102, 255], dtype=torch.uint8).expand(1, 3, 1, 4)
    red = Preprocessing()(pixels)[0, 0, 0]
    # A division that is rounded otherwise is no other preprocessing.
    torch.testing.assert_close(red, torch.tensor(INPUTS[config.PREPROCESSING]), rtol=0, atol=1e-6)


def test_a_number_of_its_own_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Pixels depend on the one, features on both."""
    from crumb.nets.backbones import build_network
    from crumb.nets.config import NetworkConfig

    network = build_network(NetworkConfig("test_efficientnet", "blocks.4", "random"))
    store = PixelStore(tmp_path, SIZE, torch.device("cpu"), 1)

    def keys() -> tuple[str, str]:
        return store.fingerprint(), features.fingerprint(network)

    first = keys()
    assert keys() == first
    monkeypatch.setattr(features, "PREPROCESSING", -1)
    second = keys()
    assert (second[0] == first[0], second[1] == first[1]) == (True, False)
    monkeypatch.setattr(features, "DECODING", -1)
    third = keys()
    assert third[0] != second[0]
    assert third[1] != second[1]
