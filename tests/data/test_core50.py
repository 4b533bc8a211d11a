"""CORe50: the scan, the pattern of names, and what is refused."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_protocol import CORE50
from whole_chain import command, follow

from crumb.cli.main import main
from crumb.data.index import load_dataset
from crumb.data.sets.base import index_source
from crumb.data.sets.core50 import CLASS_NAMES, Core50, core50_index
from crumb.errors import InputError

FRAMES = range(10, 300, 20)


def frame(session: int, item: int, number: int) -> str:
    return f"s{session}/o{item}/C_{session:02}_{item:02}_{number:03}.png"


def add_objects(images: Path, objects: list[int], frames: list[int]) -> None:
    """Empty files in the place of frames; their names are all that an index needs."""
    for session in range(1, 12):
        for item in objects:
            (images / f"s{session}/o{item}").mkdir(parents=True)
            for number in frames:
                (images / frame(session, item, number)).touch()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every sampled frame of CORe50 by name."""
    root = tmp_path_factory.mktemp("whole")
    add_objects(root / "core50_128x128", [*range(1, 51)], [*FRAMES])
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Objects 1 and 7, with two frames a clip more than are used."""
    add_objects(tmp_path / "tree/core50_128x128", [1, 7], [9, *FRAMES, 299])
    return tmp_path / "tree"


def sampled(root: Path, tmp_path: Path, **flags: object):
    return Core50(root=root, output=tmp_path / "set", **flags).sample()  # type: ignore[arg-type]


def test_a_whole_scan_equals_the_pattern(whole: Path, tmp_path: Path):
    scan = sampled(whole, tmp_path)
    pattern = sampled(tmp_path / "nothing", tmp_path, from_names=True)
    pd.testing.assert_frame_equal(scan.index, pattern.index)
    pd.testing.assert_frame_equal(scan.index, core50_index())
    assert scan.class_names == pattern.class_names == CLASS_NAMES
    assert scan.left_out == pattern.left_out == ()
    # The rows in figures.
    assert len(scan.index) == 8250
    assert scan.index["object"].unique().tolist() == [*range(1, 51)]
    assert ((scan.index["object"] + 4) // 5).tolist() == scan.index["class"].tolist()
    assert scan.index["im_num"].unique().tolist() == [10 + 20 * n for n in range(15)]
    assert scan.index["im_path"].tolist()[0] == "s1/o1/C_01_01_010.png"


@pytest.mark.parametrize("flag", [[], ["--from-names"]])
def test_the_whole_index_has_the_published_counts(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: list[str]
):
    text = command(capsys, "index", "core50", whole, "--output", tmp_path / "set", *flag)
    assert "the published counts hold" in text
    assert "left out" not in text
    dataset = load_dataset(tmp_path / "set")
    assert (dataset.name, dataset.test_sessions) == ("core50", (3, 7, 10))
    assert dataset.images == whole / "core50_128x128"


@pytest.mark.parametrize("protocol", ["class_iid", "class_instance", "iid"])
def test_lists_written_from_names_are_the_published_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], protocol: str
):
    root, folder, lists = tmp_path / "none", tmp_path / "set", tmp_path / "lists"
    command(capsys, "index", "core50", root, "--from-names", "--output", folder)
    assert load_dataset(folder).images == root / "core50_128x128"
    command(
        capsys, "tasks", folder, "--protocol", protocol, "--output", lists,
        *(["--images-per-task", 1200] if protocol == "iid" else []),
    )  # fmt: skip
    for run, expected in enumerate(CORE50):
        parts = [
            (lists / protocol / f"run{run}/stream/train_task_{task:02}_filelist.txt").read_bytes()
            for task in range(5)
        ]
        if protocol == "iid":
            # The published tasks are one row too long: the first of the next task.
            firsts = [part.splitlines(keepends=True)[0] for part in parts[1:]]
            parts = [part + first for part, first in zip(parts, [*firsts, b""], strict=True)]
        test = (lists / protocol / f"run{run}/stream/test_filelist.txt").read_bytes()
        digest = hashlib.sha256(b"".join([*parts, test])).hexdigest()[:16]
        assert digest == expected[{"class_iid": 1, "class_instance": 3, "iid": 4}[protocol]]


@settings(max_examples=8)
@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=3, unique=True),
    st.sets(st.integers(0, 299), max_size=4),
)
def test_any_objects_have_their_rows_of_the_pattern(
    tmp_path_factory: pytest.TempPathFactory, objects: list[int], more: set[int]
):
    top = tmp_path_factory.mktemp("any")
    add_objects(top / "core50_128x128", objects, sorted({*FRAMES, *more}))
    sample = sampled(top, top.parent / "none")
    pattern = core50_index()
    expected = pattern.loc[pattern["object"].isin(objects)].reset_index(drop=True)
    pd.testing.assert_frame_equal(sample.index, expected)
    assert sorted(sample.class_names) == expected["class"].unique().tolist()
    unused = len(more - {*FRAMES}) * 11 * len(objects)
    frames = f"frames other than 10, 30, ..., 290 of a clip: {unused}"
    assert (frames in sample.left_out) == bool(unused)
    shutil.rmtree(top)


def test_what_is_left_out_is_said(tree: Path, tmp_path: Path):
    images = tree / "core50_128x128"
    for name in ("labels.pkl", "s1/readme.txt", "s1/o1/notes.TXT", ".DS_Store", "s1/o1/.hidden"):
        (images / name).touch()
    # What lies beside the folder of images is none of it.
    (tree / "core50_128x128.zip").touch()
    assert sampled(tree, tmp_path).left_out == (
        "objects that are not in the tree: 2, 3, 4, 5, 6, "
        + ", ".join(str(item) for item in range(8, 51)),
        "frames other than 10, 30, ..., 290 of a clip: 44",
        "files that are not .png: 3",
    )


@pytest.mark.parametrize("root", ["tree", "tree/core50_128x128", "link"])
def test_the_root_is_the_folder_or_its_parent(tree: Path, tmp_path: Path, root: str):
    (tmp_path / "link").symlink_to(tree / "core50_128x128")
    dataset, _ = index_source(Core50(root=tmp_path / root, output=tmp_path / "set"))
    assert load_dataset(tmp_path / "set").images == tree / "core50_128x128"
    assert dataset.class_names == {1: "plug_adapter", 2: "mobile_phone"}


def test_the_large_images(tree: Path, tmp_path: Path):
    (tree / "core50_128x128").rename(tree / "core50_350x350")
    assert sampled(tree, tmp_path, side=350).images == tree / "core50_350x350"
    for flags in ({"side": 350}, {"side": 350, "from_names": True}):
        assert sampled(tree / "core50_350x350", tmp_path, **flags).images.parent == tree
    for flags in ({}, {"from_names": True}):
        with pytest.raises(InputError, match="side=128: does not fit the folder"):
            sampled(tree / "core50_350x350", tmp_path, **flags)
    with pytest.raises(InputError, match="neither is nor holds a folder core50_128x128; .*side"):
        sampled(tree, tmp_path)


def empty(images: Path) -> None:
    shutil.rmtree(images)
    (images / "s1/o1").mkdir(parents=True)


def remove(name: str) -> Callable[[Path], object]:
    def change(images: Path) -> None:
        path = images / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def remove_two(images: Path) -> None:
    remove(frame(4, 7, 10))(images)
    remove(frame(4, 7, 290))(images)
    remove("s9/o1")(images)
    remove("s10")(images)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (shutil.rmtree, "tree: neither is nor holds a folder core50_128x128; unpack"),
        (empty, "core50_128x128: holds no frames; expected are images s<1-11>"),
        (remove("s5"), "core50_128x128/s5: is missing or holds no object; unpack"),
        (remove("s11/o7"), "s11/o7: is missing, though other sessions have the object; unpack"),
        (remove(frame(2, 1, 30)), "s2/o1: lacks the frames 30; unpack"),
        (remove_two, "s4/o7: lacks the frames 10, 290 (and 2 more folders are not whole); unpack"),
        (lambda images: (images / "s12").mkdir(), "s12: is not one of the folders s1 to s11;"),
        (lambda images: (images / "s01").mkdir(), "s01: is not one of the folders s1 to s11;"),
        (
            lambda images: (images / "s2/o51").mkdir(),
            "s2/o51: is not one of the folders o1 to o50;",
        ),
        (
            lambda images: (images / "s2/a.png").touch(),
            "a.png: is not one of the folders o1 to o50;",
        ),
        (
            lambda images: (images / "s2/o1" / "C_02_01_010.PNG").touch(),
            "C_02_01_010.PNG: is not a frame C_02_01_<3 digits>.png;",
        ),
        (
            lambda images: (images / "s2/o1" / "C_02_07_010.png").touch(),
            "C_02_07_010.png: is not a frame C_02_01_<3 digits>.png;",
        ),
        (
            lambda images: (images / "s2/o1" / "C_02_01_10.png").touch(),
            "C_02_01_10.png: is not a frame",
        ),
        (lambda images: (images / "s2/o1" / "more").mkdir(), "s2/o1/more: is not a frame"),
        (lambda images: (images / "s2/o1" / "D_02_01_010.png").touch(), "is not a frame"),
    ],
)
def test_bad_trees(tree: Path, tmp_path: Path, change: Callable[[Path], object], complaint: str):
    change(tree / "core50_128x128")
    with pytest.raises(InputError) as caught:
        sampled(tree, tmp_path)
    assert complaint in str(caught.value)


def test_a_bad_tree_is_one_line_and_writes_nothing(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    remove("s5")(tree / "core50_128x128")
    assert main(["index", "core50", str(tree), "--output", str(tmp_path / "set")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "set").exists()


@settings(max_examples=12)
@given(st.integers(1, 11), st.sampled_from([1, 7]), st.sampled_from(FRAMES))
def test_any_frame_that_is_missing_is_named(
    tmp_path_factory: pytest.TempPathFactory, session: int, item: int, number: int
):
    top = tmp_path_factory.mktemp("lost")
    add_objects(top / "core50_128x128", [1, 7], [*FRAMES])
    (top / "core50_128x128" / frame(session, item, number)).unlink()
    with pytest.raises(InputError) as caught:
        sampled(top, top.parent / "none")
    assert f"s{session}/o{item}: lacks the frames {number};" in str(caught.value)
    shutil.rmtree(top)


def test_from_images_to_a_stream(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], network_words: list[str]
):
    images = tmp_path / "tree/core50_128x128"
    add_objects(images, [5, 6], [*FRAMES])
    for number, path in enumerate(sorted(images.rglob("*.png"))):
        shade = 40 if path.parent.name == "o5" else 200
        Image.new("RGB", (16, 16), (shade, number % 256, 0)).save(path)
    folder = tmp_path / "set"
    text = command(capsys, "index", "core50", tmp_path / "tree", "--output", folder)
    assert "left out: objects that are not in the tree: 1, 2, 3, 4, 7" in text
    stats = follow(capsys, folder, network_words, ["plug_adapter", "mobile_phone"])
    assert "core50: 330 images of 2 classes" in stats
    assert "sessions of at least 15 images: 22" in stats
