"""Damaged images: the same picture, or one error; never another picture."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from crumb.data.images import load_image
from crumb.data.pictures import check_image_file
from crumb.errors import InputError

SIDE = 8
NOISE = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def quiet(capfd: pytest.CaptureFixture[str]):
    """Nothing may be written to the screen, not even by a library in C."""
    yield
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("level", [1, 9])
@pytest.mark.parametrize("bit", range(8))
def test_no_flipped_bit_of_a_png_changes_the_picture(tmp_path: Path, level: int, bit: int):
    path = tmp_path / "a.png"
    Image.fromarray(NOISE).save(path, compress_level=level)
    whole, content = load_image(path, SIDE), path.read_bytes()
    read = []
    for place in range(len(content)):
        broken = bytearray(content)
        broken[place] ^= 1 << bit
        path.write_bytes(broken)
        try:
            read.append(load_image(path, SIDE))
        except InputError:
            continue
    # The length and check sum of the last chunk, which says that it is the end.
    assert len(read) <= 12
    assert all(torch.equal(found, whole) for found in read)


KINDS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {},
    "GIF": {},
    "BMP": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "TIFF of LZW": {"compression": "tiff_lzw"},
    "TIFF of JPEG": {"compression": "jpeg"},
    "TIFF of deflate": {"compression": "tiff_adobe_deflate"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_wherever_a_file_is_cut_it_is_the_same_picture_or_refused(tmp_path: Path, kind: str):
    path = tmp_path / "a"
    Image.fromarray(NOISE).save(path, kind.split()[0], **KINDS[kind])
    whole, content = load_image(path, SIDE), path.read_bytes()
    read = []
    for end in range(len(content)):
        path.write_bytes(content[:end])
        try:
            read.append(load_image(path, SIDE))
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017
    # The end mark of a GIF; the last chunk of a PNG, which is empty.
    assert len(read) <= 12
    assert all(torch.equal(found, whole) for found in read)


class Broken(ImageFile.ImageFile):
    """Stands for a decoder that fails in its own way."""

    format = "CRUMBTEST"

    def _open(self) -> None:
        assert self.fp is not None
        if self.fp.read(8) != b"bad file":
            raise SyntaxError("not of this kind")
        self._size, self._mode = (SIDE, SIDE), "RGB"

    def load(self) -> Any:
        raise self.error

    error: Exception


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("decoder failed"), "decoder failed"),
        (NotImplementedError("flags 0"), "flags 0"),
        (AttributeError("no offset"), "no offset"),
        (struct.error("unpack requires 4 bytes"), "unpack requires"),
        (MemoryError(), "MemoryError"),
        (IndexError("two\nlines"), "two lines"),
    ],
)
def test_whatever_a_decoder_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
):
    Image.init()
    monkeypatch.setattr(Image, "ID", [*Image.ID, "CRUMBTEST"])
    monkeypatch.setattr(Image, "OPEN", Image.OPEN | {"CRUMBTEST": (Broken, None)})
    monkeypatch.setattr(Broken, "error", error, raising=False)
    (tmp_path / "a.png").write_bytes(b"bad file")
    with pytest.raises(InputError, match=rf"a.png: is a damaged image \(.*{reason}"):
        load_image(tmp_path / "a.png", SIDE)


CHECKED: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "no such image"),
    "folder": (Path.mkdir, "it is a folder, not a file"),
    "pipe": (os.mkfifo, "it is a pipe, not a file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "it is a device, not a file"),
    "dangling": (lambda path: path.symlink_to("gone"), "is a link to nothing"),
    "loop": (lambda path: path.symlink_to(path), "cannot be read as an image"),
}


@pytest.mark.parametrize("check", [check_image_file, lambda path: load_image(path, SIDE)])
@pytest.mark.parametrize("kind", CHECKED)
def test_files_that_need_not_be_opened(tmp_path: Path, check: Callable[[Path], object], kind: str):
    make, problem = CHECKED[kind]
    make(tmp_path / "a.png")
    with pytest.raises(InputError, match=f"a.png: .*{problem}"):
        check(tmp_path / "a.png")


def test_empty_file(tmp_path: Path):
    (tmp_path / "a.png").touch()
    assert check_image_file(tmp_path / "a.png") == 0
    with pytest.raises(InputError, match="a.png: .*it is empty"):
        load_image(tmp_path / "a.png", SIDE)
