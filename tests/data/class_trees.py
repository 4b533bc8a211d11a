"""Trees of class folders and tar files to be indexed, and what is wrong with them."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from PIL import Image

from crumb.cli.main import main
from crumb.data.synsets import SYNSETS

Change = Callable[[Path], object]


def picture(grey: int, size: tuple[int, int] = (20, 12), kind: str = "JPEG") -> bytes:
    """An image file of one grey."""
    content = io.BytesIO()
    Image.new("RGB", size, (grey, grey, grey)).save(content, kind)
    return content.getvalue()


def write_tar(
    path: Path, files: Iterable[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT
) -> Path:
    """A tar file of some names and contents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:", format=form) as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def write_all(root: Path) -> Path:
    """A tar file each to train and to test on, of one empty image of each class of ImageNet."""
    for split in ("train", "val"):
        write_tar(root / f"{split}-000.tar", [(f"{synset}/x.JPEG", b"") for synset in SYNSETS])
    return root


def add(name: str, content: bytes = b"") -> Change:
    """A change that writes a file."""

    def change(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)

    return change


def remove(name: str) -> Change:
    """A change that removes a file or a folder."""

    def change(root: Path) -> None:
        if (root / name).is_dir():
            shutil.rmtree(root / name)
        else:
            (root / name).unlink()

    return change


def refusal(capsys: pytest.CaptureFixture[str], root: Path, *words: object) -> str:
    """The one line that ``crumb index`` ends in; nothing is written."""
    output = root.parent / "set"
    name, *more = map(str, words)
    assert main(["index", name, str(root), "--output", str(output), *more]) == 2
    captured = capsys.readouterr()
    (line,) = [line for line in captured.err.splitlines() if line.strip()]
    assert line.startswith("crumb: ")
    assert "; " in line
    assert "unexpected error" not in line
    assert captured.out == ""
    assert not output.exists()
    return line
