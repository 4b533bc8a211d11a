"""Folders of NAS boxes, Windows, macOS and programs are never data, in any layout."""

from __future__ import annotations

from pathlib import Path

import pytest
from class_trees import picture, write_tar
from own_folders import put, table
from test_core50 import FRAMES, add_objects, sampled
from test_icub import add_clip
from test_icub import tree as icub_tree  # noqa: F401 (a fixture)

from crumb.data.sets.folder import Folder
from crumb.data.sets.folder_layout import read_tree
from crumb.data.sets.icub import IcubWorld
from crumb.data.sets.imagenet import ImageNet
from crumb.data.sets.toybox import find_clips, left_out
from crumb.data.shards import members
from crumb.data.system_folders import REASON, is_system_folder


@pytest.mark.parametrize(
    "name",
    [
        *("@eaDir", "@EADIR", "#recycle", "#snapshot", "@Recycle", ".@__thumb", "lost+found"),
        *("$RECYCLE.BIN", "$Recycle.Bin", "RECYCLER", "System Volume Information", "found.000"),
        *("__MACOSX", ".Trashes", ".Trash-1000", ".Spotlight-V100", ".fseventsd", ".AppleDouble"),
        *(".thumbnails", "LOST.DIR", "~snapshot", ".ipynb_checkpoints", "THMBNL"),
        *("Network Recycle Bin", "Network Recycle Bin 1", "Recycle Bin", "trashbox", "RecycleBin$"),
        *("iPod Photo Cache", "DfsrPrivate", "_vti_cnf", "$INPLACE.~TR", "$GetCurrent"),
        *("$Windows.~BT", "$WINDOWS.~Q", "$NewOfTomorrow.~ZZ", "iPhoto Library"),
        *("My.photoslibrary", "Catalog Previews.lrdata", "@GMT-2024.01.01-00.00.00"),
    ],
)
def test_known_system_folders(name: str):
    assert is_system_folder(name)


@pytest.mark.parametrize(
    "name",
    [
        "recycled",
        "recycler",
        "eaDir",
        "#1",
        "@home",
        "lost",
        "thumbnails",
        "found",
        "trash",
        "$1 coin",
        "recycle",
    ],
)
def test_names_that_a_class_may_have(name: str):
    assert not is_system_folder(name)


def test_a_stick_and_a_synology_share(tmp_path: Path):
    root = tmp_path / "usb"
    for name in ("apple", "ball", "cup"):
        for photo in range(4):
            put(root, f"{name}/p{photo}.jpg", f"{name}/@eaDir/p{photo}.jpg/SYNOPHOTO_THUMB_XL.jpg")
    put(root, "$RECYCLE.BIN/S-1-5-21-1/$R0ABCDE.jpg", "System Volume Information/x/1.jpg")
    put(root, "__MACOSX/apple/._p0.jpg", "cup/.thumbnails/p0.jpg")
    survey = Folder(root=root, output=tmp_path / "set", split="image").survey
    assert list(survey.class_ids) == ["apple", "ball", "cup"]
    assert [clip.files for clip in survey.clips] == [
        tuple(f"{name}/p{photo}.jpg" for photo in range(4)) for name in ("apple", "ball", "cup")
    ]
    assert survey.unused == {
        REASON: (
            *("$RECYCLE.BIN/", "System Volume Information/", "__MACOSX/"),
            *("apple/@eaDir/", "ball/@eaDir/", "cup/.thumbnails/", "cup/@eaDir/"),
        )
    }


def test_folders_that_begin_as_those_of_windows_are_pointed_out(tmp_path: Path):
    for name in ("cup", "mug", "$Odd"):
        put(tmp_path / "mine", f"{name}/1.jpg")
    (note,) = [note for note in read_tree(tmp_path / "mine").notes if "$" in note]
    assert note == "$Odd has a name like a Windows system folder; if you did not make it, remove it"


def test_a_table_that_lists_them(tmp_path: Path):
    root = put(tmp_path / "mine", "cup/1.jpg", "cup/2.jpg", "cup/@eaDir/1.jpg/XL.jpg")
    path = table(root, "path,class", "cup/1.jpg,cup", "cup/@eaDir/1.jpg/XL.jpg,cup")
    found = Folder(root=path, output=tmp_path / "set")._found()
    assert [entry.path for entry in found.entries] == ["cup/1.jpg"]
    assert found.unused == {REASON: ["cup/@eaDir/1.jpg/XL.jpg"]}


def test_a_file_of_such_a_name_is_none(tmp_path: Path):
    put(tmp_path, "cup/1.jpg")
    (tmp_path / "lost+found").write_text("x")
    assert read_tree(tmp_path).unused == {"in no folder of a class": ["lost+found"]}


def test_imagenet_takes_them_for_no_classes(tmp_path: Path):
    root = tmp_path / "tree"
    for split in ("train", "val"):
        put(root, f"{split}/n01/1.jpg", f"{split}/n01/@eaDir/1.jpg/S.jpg")
        put(root, f"{split}/@eaDir/n01/S.jpg")
    sample = ImageNet(root=root, output=tmp_path / "set").sample()
    assert sample.class_names == {0: "n01"}
    assert sample.index["im_path"].tolist() == ["train/n01/1.jpg", "val/n01/1.jpg"]
    assert "2 folders of the system, never data" in sample.left_out
    assert "2 folders inside class folders" in sample.left_out


def test_tar_files_made_on_a_mac_or_a_nas(tmp_path: Path):
    names = ("n01/1.jpg", "__MACOSX/n01/1.jpg", "n01/@eaDir/1.jpg/S.jpg")
    tar = write_tar(tmp_path / "train-0.tar", [(name, picture(9)) for name in names])
    assert list(members(tar)) == ["n01/1.jpg"]


def test_core50_ignores_and_names_them(tmp_path: Path):
    images = tmp_path / "tree/core50_128x128"
    add_objects(images, [1], [*FRAMES])
    plain = sampled(tmp_path / "tree", tmp_path)
    put(images, "@eaDir/s1/x.png", "s2/@eaDir/x.png", "s3/o1/@eaDir/x.png")
    with_them = sampled(tmp_path / "tree", tmp_path)
    assert with_them.index.equals(plain.index)
    line = "3 folders of the system, never data, the first is @eaDir"
    assert with_them.left_out == (*plain.left_out, line)


def test_icub_ignores_and_counts_them(icub_tree: Path):  # noqa: F811
    source = IcubWorld(root=icub_tree, output=icub_tree.parent / "set", instances=2)
    plain = source.sample()
    day = "part3/mug/mug2/MIX/day3"
    # Named so that it would be the first day.
    for path in ("@eaDir", "part3/@eaDir", "part3/mug/mug2/MIX/@eaDir", f"{day}/left/@eaDir"):
        add_clip(icub_tree / path, 1)
    with_them = source.sample()
    assert with_them.index.equals(plain.index)
    assert "folders of the system, never data: 4" in with_them.left_out


def test_toybox_ignores_and_names_them(tmp_path: Path):
    thing = "households/cup_01_pivothead"
    put(tmp_path, f"{thing}/cup_01_pivothead_tx.mp4", "@eaDir/cup_01_pivothead/x.mp4")
    put(tmp_path, f"{thing}/@eaDir/x.mp4", "households/#recycle/cup_02_pivothead/x.mp4")
    assert len(find_clips(tmp_path)) == 1
    line = "3 folders of the system, never data, the first is @eaDir"
    assert left_out(tmp_path)[-1] == line
