"""What a pretraining is known by: the names and sizes of its images, wherever they lie."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pandas as pd
import pytest

from crumb.data.index import Dataset
from crumb.experiments.pretraining import names_and_sizes


@pytest.fixture
def digest(tmp_path: Path):
    """Digest of images as a new call finds it, by their paths."""

    def found(*paths: str) -> str:
        index = pd.DataFrame({"im_path": paths})
        return names_and_sizes(Dataset("set", tmp_path, tmp_path, index, {}, ()))

    return found


def write_tar(path: Path, content: bytes) -> None:
    source = path.with_suffix(".png")
    source.write_bytes(content)
    with tarfile.open(path, "w") as file:
        file.add(source, "a.png")


def test_names_and_sizes_tell_images_apart(tmp_path: Path, digest):
    (tmp_path / "a.png").write_bytes(b"12345")
    first = digest("a.png")
    (tmp_path / "a.png").write_bytes(b"54321")
    assert digest("a.png") == first
    (tmp_path / "a.png").write_bytes(b"123456")
    (tmp_path / "b.png").write_bytes(b"12345")
    (tmp_path / "gone.png").unlink(missing_ok=True)
    others = [digest("a.png"), digest("b.png"), digest("gone.png"), digest("b.png", "a.png")]
    assert len({first, *others}) == 5


def test_images_in_tar_files_are_told_apart_as_well(tmp_path: Path, digest):
    sizes = []
    # Both tar files are as large.
    for content in (b"12345", b"123456"):
        write_tar(tmp_path / "set.tar", content)
        sizes.append((digest("set.tar/a.png"), (tmp_path / "set.tar").stat().st_size))
    (one, size), (other, as_large) = sizes
    assert one != other
    assert size == as_large
    (tmp_path / "set.tar").write_bytes(b"damaged")
    # That is refused where the images are read.
    assert digest("set.tar/a.png") not in (one, other)
