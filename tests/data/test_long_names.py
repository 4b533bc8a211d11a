"""Names as long as file systems take them: 255 bytes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from own_folders import put
from video_clips import seconds, write_clip

from crumb.cli.learn import Learn
from crumb.data.index import load_dataset
from crumb.data.sets.base import index_source
from crumb.data.sets.folder import Folder
from crumb.errors import InputError
from crumb.files import check_new_file, remove_parts, short_name, write_text
from crumb.reports.drawing import slug


def longest(start: str, end: str = "", letter: str = "x") -> str:
    """A name of 255 bytes, or less by what is left of a letter."""
    room = 255 - len(start.encode()) - len(end.encode())
    return start + letter * (room // len(letter.encode())) + end


def test_short_names():
    assert short_name("cup") == "cup"
    assert short_name("x" * 230) == "x" * 230
    for name in (longest("a"), longest("b"), longest("b", letter="果")):
        assert len(short_name(name).encode()) <= 230
        assert short_name(name)[:70] == name[:70]
    assert short_name(longest("a") + "1") != short_name(longest("a") + "2")
    assert len(os.fsencode(short_name("\udcff" * 255))) <= 230


def test_images(tmp_path: Path):
    folders = [longest(letter) for letter in "ab"]
    root = put(
        tmp_path / longest("mine"), *(f"{f}/{longest(k, '.jpg')}" for f in folders for k in "12")
    )
    index_source(Folder(root=root, output=tmp_path / "set", split="image"))
    dataset = load_dataset(tmp_path / "set")
    assert list(dataset.class_names.values()) == folders
    assert all((dataset.images / path).is_file() for path in dataset.index["im_path"])
    # The folder that is named after it.
    assert len(Folder(root=root).folder.name) <= 255


def test_videos(tmp_path: Path):
    for start in ("1", "2"):
        write_clip(tmp_path / "mine/cup" / longest(start, ".mp4", "ü"), seconds(2))
    index_source(Folder(root=tmp_path / "mine", output=tmp_path / "set", workers=1))
    dataset = load_dataset(tmp_path / "set")
    paths = dataset.index["im_path"].tolist()
    assert len(set(paths)) == 4
    assert all((dataset.images / path).is_file() for path in paths)


def test_a_file_that_we_write(tmp_path: Path):
    path = tmp_path / longest("x", ".json", "é")
    write_text(path, "{}")
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    # What a writer that was killed leaves is found all the same.
    (tmp_path / f".{short_name(path.name)}.abcd1234.part").touch()
    remove_parts(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_model_that_is_named_after_its_folder(tmp_path: Path):
    root = tmp_path / longest("mine")
    root.mkdir()
    model = tmp_path / Learn(root=root).model
    check_new_file(model, "--output")
    # With what a lesson adds to it.
    assert len(model.name.encode()) <= 255 - len(".before.new")
    with pytest.raises(InputError, match="cannot be written .File name too long."):
        check_new_file(tmp_path / ("x" * 256), "--output")


def test_figures_of_a_result(tmp_path: Path):
    name = f"{slug(longest('result'))}_{slug(longest('set'))[:40]}_class_forgetting.csv"
    (tmp_path / name).touch()
    assert slug(longest("a") + "1") != slug(longest("a") + "2")
