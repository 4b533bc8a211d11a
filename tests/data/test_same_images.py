"""Images and videos that are trained on and tested on are pointed out, with a pair and a count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crumb.data.sets import folder_warnings
from crumb.data.sets.folder import Folder


@pytest.fixture
def notes(tmp_path: Path) -> Callable[..., list[str]]:
    """What is said of a folder about its two sides being the same."""

    def call(**flags: object) -> list[str]:
        source = Folder(root=tmp_path / "mine", output=tmp_path / "set", workers=2, **flags)  # type: ignore[arg-type]
        return [line for line in source.survey.notes if "also trained on" in line]

    return call


def photo(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Soft colours, as in photographs; the same picture for each seed."""
    colours = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC)


def save(image: Image.Image, path: Path, **flags: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **flags)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of three sessions, of which the last is tested on; all images differ."""
    for place in range(24):
        name = f"{'cup' if place < 12 else 'mug'}/s{place // 4 % 3}/{place % 4}.png"
        save(photo(place), tmp_path / "mine" / name)
    return tmp_path / "mine"


def test_images_that_differ_are_not_pointed_out(root: Path, notes):
    assert notes() == []


def test_photos_of_one_scene_are_not_the_same(root: Path, notes):
    scene = np.asarray(photo(0)).astype(int)
    for seed in range(8):
        noise = np.random.default_rng(seed).normal(0, 12, scene.shape)
        shot = Image.fromarray((scene + noise).clip(0, 255).astype(np.uint8))
        save(shot, root / f"cup/s{seed % 3}/shot{seed}.png")
    assert notes() == []


@pytest.mark.parametrize("name", ["copy.png", "copy.bmp", "copy.jpg", "copy.tif"])
def test_copies_in_any_format(root: Path, notes, name: str):
    for seed in (2, 5):
        save(photo(seed), root / f"mug/s2/{seed}{name}", quality=95)
    line = (
        f"2 of the 10 images that are tested on are also trained on (cup/s0/2.png and "
        f"mug/s2/2{name} are the same); accuracy looks better than it is"
    )
    assert notes() == [line]


def test_a_copy_of_another_size(root: Path, notes):
    save(photo(0, (960, 640)), root / "cup/s0/large.jpg", quality=95)
    save(photo(0, (960, 640)).resize((480, 320)), root / "cup/s2/small.jpg", quality=90)
    (line,) = notes()
    assert line.startswith("1 of the 9 images that are tested on is also trained on (cup/s0/")
    assert " and cup/s2/small.jpg are the same)" in line


@pytest.mark.parametrize(("side", "quality"), [(64, 75), (64, 90), (96, 50), (128, 30)])
def test_thumbnails(root: Path, notes, side: int, quality: int):
    """Photographs with fine detail, of which a thumbnail loses most."""
    for seed in range(4):
        large = np.asarray(photo(seed, (640, 480))).astype(int)
        grain = np.random.default_rng(seed).normal(0, 25, large.shape)
        large = Image.fromarray((large + grain).clip(0, 255).astype(np.uint8))
        save(large, root / f"cup/s0/large{seed}.jpg", quality=92)
        large.thumbnail((side, side))
        save(large, root / f"cup/s2/small{seed}.jpg", quality=quality)
    (line,) = notes()
    assert line.startswith("4 of the 12 images that are tested on are also trained on")


def test_neighbouring_views_of_one_size_are_not_the_same(root: Path, notes):
    """They differ by 3 levels at 16 x 16, as the nearest of devset and eth80 do."""
    view = photo(99, (640, 480))
    pixels = np.asarray(view).astype(int)
    other = Image.fromarray((pixels + np.array([3, -3, 3])).clip(0, 255).astype(np.uint8))
    save(view, root / "cup/s0/view.png")
    save(other, root / "cup/s2/view.png")
    assert notes() == []
    # Of a thumbnail that would be no difference.
    other.thumbnail((128, 128))
    save(other, root / "cup/s2/view.png")
    assert "(cup/s0/view.png and cup/s2/view.png are the same)" in notes()[0]


def test_a_copy_that_is_turned_by_its_tag(root: Path, notes):
    exif = Image.Exif()
    exif[274] = 6
    save(photo(3).rotate(90, expand=True), root / "cup/s2/turned.png", exif=exif)
    assert "(cup/s0/3.png and cup/s2/turned.png are the same)" in notes()[0]


def test_the_last_images_of_a_session(root: Path, notes):
    assert notes(split="image") == []
    save(photo(0), root / "cup/s0/9.png")
    assert "(cup/s0/0.png and cup/s0/9.png are the same)" in notes(split="image")[0]


def test_images_that_cannot_be_read_and_those_not_used_are_passed_over(root: Path, notes):
    (root / "cup/s2/0.png").write_bytes(b"no image")
    (root / "cup/s0/0.png").write_bytes(b"no image")
    save(photo(0), root / "cup/s1/9.png")
    save(photo(0), root / "cup/s2/9.png")
    assert len(notes()) == 1
    assert notes(largest=4) == []


def test_of_very_many_images_equal_files_are_looked_for(root: Path, notes, monkeypatch):
    monkeypatch.setattr(folder_warnings, "_MAX_IMAGES", 10)
    save(photo(0), root / "cup/s2/9.bmp")
    assert notes() == []
    (root / "cup/s2/9.png").write_bytes((root / "cup/s1/0.png").read_bytes())
    assert "(cup/s1/0.png and cup/s2/9.png are the same)" in notes()[0]
