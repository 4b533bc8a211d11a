"""iCubWorld Transformations: layout, sampling, what is refused, and that zeros do no harm."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from whole_chain import command, follow

from crumb.cli.main import main
from crumb.data.index import load_dataset
from crumb.data.protocol import TaskLayout, lay_out
from crumb.data.sets.base import Sample, index_source
from crumb.data.sets.icub import CLASSES, SESSIONS, IcubWorld
from crumb.errors import InputError

MUG = "part3/mug/mug2"
BOOK = "part1/book/book1"


def add_clip(folder: Path, frames: int, first: int = 0) -> None:
    """Empty files in the place of frames."""
    folder.mkdir(parents=True)
    for number in range(first, first + frames):
        (folder / f"{number:08}.jpg").touch()


def add_instance(root: Path, name: str, frames: int = 21) -> None:
    """An object with two days and two cameras; only the left one of the first day has frames."""
    for session in SESSIONS:
        add_clip(root / name / session / "day3/left", frames, first=95)
        for other in ("day3/right", "day4/left", "day4/right"):
            add_clip(root / name / session / other, 1)
        (root / name / session / "day3/img_info_LR.txt").touch()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two classes of two instances each."""
    for name in ("part3/mug/mug1", MUG, BOOK, "part1/book/book2"):
        add_instance(tmp_path / "tree", name)
    return tmp_path / "tree"


def sampled(root: Path, **flags: Any) -> Sample:
    settings: dict[str, Any] = {"instances": 2, **flags}
    return IcubWorld(root=root, output=root.parent / "set", **settings).sample()


def test_index_of_a_tree(tree: Path):
    sample = sampled(tree)
    assert sample.images == tree
    assert sample.class_names == {0: "book", 1: "mug"}
    assert sample.test_sessions == (0,)
    keys = sample.index[["class", "object", "session", "im_num"]].to_numpy().tolist()
    assert keys == [
        [number, item, session, place]
        for number in range(2) for item in range(2) for session in range(5) for place in range(3)
    ]  # fmt: skip
    assert sample.index["im_path"][:4].tolist() == [
        f"{BOOK}/MIX/day3/left/00000095.jpg", f"{BOOK}/MIX/day3/left/00000105.jpg",
        f"{BOOK}/MIX/day3/left/00000115.jpg", f"{BOOK}/ROT2D/day3/left/00000095.jpg",
    ]  # fmt: skip
    assert SESSIONS == {"MIX": 0, "ROT2D": 1, "ROT3D": 2, "SCALE": 3, "TRANSL": 4}


def test_what_is_left_out_is_said(tree: Path):
    add_instance(tree, "part1/book/book3")
    for name in ("part1.tar.gz", "part1_cropped.tar.gz", ".hidden"):
        (tree / name).touch()
    for name in ("readme.txt", "book/readme.txt", "book/book1/.DS_Store"):
        (tree / "part1" / name).touch()
    (tree / MUG / "MIX/day3/left/index.TXT").touch()
    lines = sampled(tree).left_out
    assert set(lines) == {
        "part2 (not in the tree)",
        "part4 (not in the tree)",
        "entries of the root other than part1 to part4: 2",
        # Beside what is added here, a list of images for each clip.
        "files that are not frames of a clip: 23",
        "instances above 2: 1",
        "folders of other days: 20",
        "folders of the other camera: 20",
        "frames between those used (one in 10): 360",
    }
    assert lines[0] == "part2 (not in the tree)"


def test_flags(tree: Path):
    shutil.copytree(tree / MUG / "MIX/day4", tree / MUG / "MIX/day10")

    def paths(**flags: Any) -> list[str]:
        return [path for path in sampled(tree, **flags).index["im_path"] if MUG in path]

    assert len(paths(step=1)) == 1 + 4 * 21
    assert [path[-7:] for path in paths(step=20)[1:3]] == ["095.jpg", "115.jpg"]
    assert paths(camera="right")[0] == f"{MUG}/MIX/day10/right/00000000.jpg"
    # Alphabetically, day10 comes before day3.
    days = [[path.split("/")[4] for path in paths(day=day, step=100)] for day in (1, 2)]
    assert days == [["day10", *["day3"] * 4], ["day3", *["day4"] * 4]]
    assert sampled(tree, instances=1).index["object"].unique().tolist() == [0]


def test_classes_are_numbered_alphabetically_whatever_the_part(tree: Path):
    for name in ("part4/cup/cup", "part2/zebra/zebra", "part3/Apple/Apple"):
        add_instance(tree, f"{name}1")
        add_instance(tree, f"{name}2")
    names = sampled(tree).class_names
    assert list(names.values()) == ["Apple", "book", "cup", "mug", "zebra"]
    assert list(names) == [0, 1, 2, 3, 4]
    assert list(CLASSES) == sorted(CLASSES)


def test_a_class_may_lie_in_two_parts(tree: Path):
    (tree / "part4/mug").mkdir(parents=True)
    (tree / MUG).rename(tree / "part4/mug/mug2")
    index = sampled(tree).index
    assert index["im_path"].iloc[-1].startswith("part4/mug/mug2/TRANSL/")
    assert sorted(index["class"].unique().tolist()) == [0, 1]


def test_numbers_of_unequal_length_are_in_order_of_time(tree: Path):
    clip = tree / MUG / "MIX/day3/left"
    shutil.rmtree(clip)
    clip.mkdir()
    for number in range(8, 13):
        (clip / f"{number}.jpg").touch()
    paths = [Path(path) for path in sampled(tree, step=1).index["im_path"]]
    names = [path.name for path in paths if path.is_relative_to(f"{MUG}/MIX")]
    assert names == ["8.jpg", "9.jpg", "10.jpg", "11.jpg", "12.jpg"]


@settings(max_examples=10)
@given(st.lists(st.integers(1, 25), min_size=5, max_size=5), st.integers(1, 30))
def test_every_stepth_frame_is_used(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], step: int
):
    root = tmp_path_factory.mktemp("tree")
    for session, frames in zip(SESSIONS, lengths, strict=True):
        add_clip(root / "part1/mug/mug1" / session / "day/left", frames)
    sample = sampled(root, instances=1, step=step)
    for session, frames in enumerate(lengths):
        clip = sample.index[sample.index["session"] == session]
        used = list(range(0, frames, step))
        assert [int(Path(path).stem) for path in clip["im_path"]] == used
        assert clip["im_num"].tolist() == list(range(len(used)))
    shutil.rmtree(root)


def remove(name: str) -> Callable[[Path], object]:
    return lambda tree: shutil.rmtree(tree / name)


def make(name: str) -> Callable[[Path], object]:
    return lambda tree: (tree / name).mkdir(parents=True)


def empty_clip(tree: Path) -> None:
    for path in (tree / MUG / "ROT2D/day3/left").iterdir():
        path.rename(path.with_suffix(".jpeg"))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (shutil.rmtree, "tree: has none of the folders part1, part2, part3, part4; expected are"),
        (lambda tree: (remove("part1")(tree), remove("part3/mug")(tree)), "tree: holds no classes"),
        (remove(MUG), "class mug: has no folder mug2; unpack the parts again, or lower"),
        (make("part2/wallet"), "class wallet: has no folder wallet1, wallet2; unpack"),
        (make("part1/book/mug3"), "part1/book/mug3: is not a folder book<number from 1>;"),
        (make("part1/book/book03"), "book03: is not a folder book<number from 1>;"),
        (make("part1/book/book0"), "book0: is not a folder book<number from 1>;"),
        (make("part4/mug/mug2"), "part4/mug/mug2: is the same object as part3/mug/mug2;"),
        (remove(f"{MUG}/SCALE"), "mug2: has no folder SCALE; unpack"),
        (make(f"{MUG}/ROT4D"), "mug2/ROT4D: is not a known transformation; known are MIX, ROT2D"),
        (
            lambda tree: (shutil.rmtree(tree / MUG / "MIX"), (tree / MUG / "MIX").mkdir()),
            "mug2/MIX: has 0 day folders, so none for day=1;",
        ),
        (remove(f"{MUG}/MIX/day3/left"), "MIX/day3: has no folder left; unpack"),
        (make(f"{MUG}/MIX/day3/middle"), "MIX/day3/middle: is not a camera folder;"),
        (make(f"{MUG}/MIX/day3/left/more"), "left/more: is a folder among the frames of a clip;"),
        (empty_clip, "mug2/ROT2D/day3/left: holds no .jpg; unpack"),
        (
            lambda tree: (tree / MUG / "MIX/day3/left/0000000\t.jpg").touch(),
            "holds a control character; rename it",
        ),
    ],
)
def test_bad_trees(tree: Path, change: Callable[[Path], object], complaint: str):
    change(tree)
    with pytest.raises(InputError) as caught:
        sampled(tree)
    assert complaint in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_bad_flags(tree: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("day", "step", "instances"):
        for value in (0, 10000):
            with pytest.raises(InputError, match=f"{name}={value}: is out of range"):
                sampled(tree, **{name: value})
    with pytest.raises(InputError, match="MIX: has 2 day folders, so none for day=3;"):
        sampled(tree, day=3)
    with pytest.raises(InputError, match="class book: has no folder book3, book4, .*, book10;"):
        sampled(tree, instances=10)
    with pytest.raises(InputError, match=r"book12, \.\.\.; unpack"):
        sampled(tree, instances=99)
    assert main(["index", "icubworldtransf", str(tree), "--camera", "middle"]) == 2
    assert "--camera" in capsys.readouterr().err


def test_the_whole_data_set_has_the_published_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """By names, with one frame a clip."""
    for place, name in enumerate(CLASSES):
        for instance in range(1, 11):
            for session in SESSIONS:
                folder = f"part{place % 4 + 1}/{name}/{name}{instance}/{session}/day1/left"
                add_clip(tmp_path / "tree" / folder, 1)
    text = command(
        capsys, "index", "icubworldtransf", tmp_path / "tree", "--output", tmp_path / "set"
    )
    assert "the published counts hold" in text
    assert "left out" not in text
    dataset = load_dataset(tmp_path / "set")
    assert dataset.class_names == dict(enumerate(CLASSES))
    assert dataset.index["object"].unique().tolist() == list(range(10))
    # Tasks are consecutive pairs of the shuffled ids, which are positions in the alphabet.
    tasks = lay_out(dataset, "class_iid", 0, layout=TaskLayout(classes_per_task=1))
    shuffled = np.random.RandomState(0).permutation(20)
    assert tasks.classes == tuple(CLASSES[number] for number in shuffled)


def test_from_images_to_a_stream_with_all_numbers_from_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], network_words: list[str]
):
    for part, name, shade in ((1, "book", 40), (3, "mug", 200)):
        for session in SESSIONS:
            folder = tmp_path / f"tree/part{part}/{name}/{name}1/{session}/day5/left"
            add_clip(folder, 15)
            for path in folder.iterdir():
                Image.new("RGB", (16, 12), (shade, int(path.stem), 0)).save(path)
    folder = tmp_path / "set"
    text = command(
        capsys, "index", "icubworldtransf", tmp_path / "tree", "--output", folder,
        "--instances", 1, "--step", 1,
    )  # fmt: skip
    assert "left out: part2 (not in the tree)" in text
    dataset = load_dataset(folder)
    assert dataset.index.iloc[0].tolist() == [
        0,
        0,
        0,
        0,
        "part1/book/book1/MIX/day5/left/00000000.jpg",
    ]
    assert dataset.index.iloc[0]["class"] in dataset.class_names
    stats = follow(capsys, folder, network_words, ["book", "mug"])
    assert "icubworldtransf: 150 images of 2 classes" in stats
    # A clip of frames 0 to 14 has 15 images.
    assert "sessions of at least 15 images: 10" in stats


def test_clips_stay_in_order_of_time_from_0(tree: Path, tmp_path: Path):
    dataset, _ = index_source(IcubWorld(root=tree, output=tmp_path / "set", instances=2))
    tasks = lay_out(dataset, "class_instance", 0)
    assert len(tasks.test.paths) == 4 * 3
    assert all("/MIX/" in path for path in tasks.test.paths)
    (frames,) = [task.paths for task in tasks.tasks]
    assert len(frames) == 4 * 4 * 3
    for place in range(0, len(frames), 3):
        numbers = [int(Path(path).stem) for path in frames[place : place + 3]]
        assert numbers == [95, 105, 115]
        assert len({Path(path).parent for path in frames[place : place + 3]}) == 1
