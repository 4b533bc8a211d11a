from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from own_folders import put, table
from video_clips import seconds, write_clip

from crumb.data.index import load_dataset
from crumb.data.sets.base import index_source
from crumb.data.sets.folder import Folder
from crumb.data.sets.folder_layout import read_tree
from crumb.data.video import clip_length
from crumb.errors import InputError


def readings(root: Path) -> dict[str, tuple[str, str, str, str]]:
    """Class, object, session and split by path."""
    return {
        entry.path: (entry.class_name, entry.object, entry.session, entry.split)
        for entry in read_tree(root).entries
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "mine"


@pytest.fixture
def refusal(root: Path, tmp_path: Path) -> Callable[..., str]:
    """The line that ends indexing; nothing may be written."""

    def call(at: Path | None = None, **flags) -> str:
        with pytest.raises(InputError) as caught:
            index_source(Folder(root=at or root, output=tmp_path / "set", **flags))
        assert not (tmp_path / "set" / "dataset.json").exists()
        return str(caught.value)

    return call


@pytest.fixture
def sides(tmp_path: Path) -> Callable[..., tuple[list[str], list[str]]]:
    """Paths that are trained on and tested on, in the order of the index, read back from disk."""

    def call(at: Path, **flags) -> tuple[list[str], list[str]]:
        index_source(Folder(root=at, output=tmp_path / "set", workers=1, **flags))
        dataset = load_dataset(tmp_path / "set")
        tested = dataset.index["session"].isin(dataset.test_sessions)
        return tuple(dataset.index["im_path"][side].tolist() for side in (~tested, tested))  # type: ignore

    return call


def test_every_depth_of_images(root: Path):
    put(root, "cup/1.jpg", "mug/day 1/1.png", "bowl/blue/day/1.JPG", "jar/a/b/left/1.webp")
    assert readings(root) == {
        "cup/1.jpg": ("cup", "", "", ""),
        "mug/day 1/1.png": ("mug", "", "day 1", ""),
        "bowl/blue/day/1.JPG": ("bowl", "blue", "day", ""),
        "jar/a/b/left/1.webp": ("jar", "a", "b/left", ""),
    }


def test_every_depth_of_videos(root: Path):
    put(root, "cup/a.mp4", "mug/red/b.MOV", "bowl/blue/day 2/c.v2.mkv")
    assert readings(root) == {
        "cup/a.mp4": ("cup", "", "a", ""),
        "mug/red/b.MOV": ("mug", "red", "b", ""),
        "bowl/blue/day 2/c.v2.mkv": ("bowl", "blue", "day 2/c.v2", ""),
    }


def test_train_and_test_at_the_top(root: Path):
    put(root, "Train/cup/1.jpg", "test/cup/s/1.jpg", "test/mug/m/a/2.jpg")
    assert readings(root) == {
        "Train/cup/1.jpg": ("cup", "", "", "train"),
        "test/cup/s/1.jpg": ("cup", "", "s", "test"),
        "test/mug/m/a/2.jpg": ("mug", "m", "a", "test"),
    }


def test_a_class_may_be_called_test(root: Path):
    put(root, "test/1.jpg", "cup/1.jpg")
    assert readings(root)["test/1.jpg"] == ("test", "", "", "")


def test_files_come_in_natural_order(root: Path):
    put(root, "b/s/f10.jpg", "b/s/f2.jpg", "B2/s/1.jpg", "a10/x.jpg", "a2/x.jpg", "Ä/x.jpg")
    assert [entry.path for entry in read_tree(root).entries] == [
        "Ä/x.jpg", "a2/x.jpg", "a10/x.jpg", "b/s/f2.jpg", "b/s/f10.jpg", "B2/s/1.jpg",
    ]  # fmt: skip


def test_what_cannot_be_used_is_noted_and_hidden_files_are_not(root: Path):
    put(root, "cup/1.jpg", "cup/notes.txt", "cup/README", "loose.jpg", "lamp/x.raw", "mug/ .jpg")
    put(root, ".git/x.jpg", "cup/._1.jpg", ".DS_Store", "bowl/.x.jpg", "jar/new\nline.jpg")
    (root / "cup/empty.png").touch()
    (root / "cup/gone.png").symlink_to(root / "nothing.png")
    (root / "cup/up").symlink_to(root)
    (root / "desk").mkdir()
    assert dict(read_tree(root).unused) == {
        "no video or image that Crumb reads (.txt)": ["cup/notes.txt"],
        "no video or image that Crumb reads (no ending)": ["cup/README"],
        "no video or image that Crumb reads (.raw)": ["lamp/x.raw"],
        "in no folder of a class": ["loose.jpg"],
        "a name that cannot be written down; rename it": ["'jar/new\\nline.jpg'"],
        "an empty file": ["cup/empty.png"],
        "an empty folder": ["bowl/", "desk/"],
        "a link to nothing": ["cup/gone.png"],
        "a link to a folder above it": ["cup/up/"],
        "a folder in which nothing can be used": ["jar/", "lamp/"],
    }


def test_a_name_that_is_no_utf_8_is_noted(root: Path):
    put(root, "cup/1.jpg", os.fsdecode(b"cup/\xff.jpg"))
    found = read_tree(root)
    assert [entry.path for entry in found.entries] == ["cup/1.jpg"]
    assert dict(found.unused) == {"a name that is not UTF-8; rename it": [r"'cup/\udcff.jpg'"]}


def test_links_to_folders_are_followed(root: Path, tmp_path: Path):
    put(tmp_path / "elsewhere", "1.jpg")
    put(root, "mug/1.jpg")
    (root / "cup").symlink_to(tmp_path / "elsewhere")
    assert list(readings(root)) == ["cup/1.jpg", "mug/1.jpg"]


@pytest.mark.parametrize(
    ("paths", "note"),
    [
        (["all/cup/1.jpg", "all/mug/1.jpg"], "all is the only class; if its folders are the"),
        (["cup_1/1.jpg", "cup_2/1.jpg"], "cup_1 and cup_2 differ in a number only"),
        (["cup/1.jpg", "cup/s/1.jpg", "mug/1.jpg"], "cup has files at several depths: cup/1.jpg,"),
    ],
)
def test_what_may_have_been_meant_in_another_way_is_noted(root: Path, paths: list[str], note: str):
    (line,) = read_tree(put(root, *paths)).notes
    assert line.startswith(note)


def test_usual_folders_get_no_note(root: Path):
    assert read_tree(put(root, "0/1.jpg", "1/1.jpg", "2/1.jpg")).notes == []


@pytest.mark.parametrize(
    ("paths", "line"),
    [
        (["1.jpg", "2.jpg"], "mine: holds no video or image that can be used (1.jpg: in no folder"),
        (["cup/notes.txt"], "mine: holds no video or image that can be used (cup/notes.txt: no"),
        (["households/cup_01_pivothead/x.mp4"], "mine: is laid out like Toybox (households/ holds"),
        (["train/a/1.jpg", "val/a/1.jpg"], "mine/val: lies where train/ and test/ are expected;"),
        (["train/a/1.jpg", "test/a/1.jpg", "cup/1.jpg"], "mine/cup: lies where train/ and test/"),
        (["cup/1.jpg", "cup/1.mp4"], "mine: holds videos (cup/1.mp4) and images (cup/1.jpg);"),
        (["a/1.jpg", "b/1.jpg", "b/2.jpg"], "class a: only one image in each session, so nothing"),
        (["a/s/1.jpg", "a/t/1.jpg", "b/s/1.jpg"], "class b: only one session, so nothing is left"),
        (["train/a/1.jpg", "test/b/1.jpg"], "class b: no images to train on; add some to train,"),
        (["train/a/1.jpg", "train/b/1.jpg", "test/b/1.jpg"], "class a: no images to test on; add"),
        (["a/1.mp4", "a/2.mp4"], "mine: holds no clip that can be used (a/1.mp4: cannot be"),
    ],
)
def test_refused_folders(root: Path, refusal: Callable[..., str], paths: list[str], line: str):
    put(root, *paths)
    assert line in refusal()


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ({"split": "given"}, "split='given': "),
        ({"split": "object"}, "class cup and 1 more: only one object, so nothing is left"),
        ({"test_share": 0.0}, "test_share=0.0: is out of range"),
        ({"test_share": float("nan")}, "test_share=nan: is out of range"),
        ({"test_share": 1.0}, "test_share=1.0: is out of range"),
        ({"largest": 0}, "largest=0: is out of range"),
        ({"largest": 1, "split": "image"}, "class cup and 1 more: only one image in each session"),
        ({"only": "videos"}, "only='videos': "),
        ({"workers": 0}, "workers=0: is out of range"),
        ({"table": Path("missing.csv")}, "missing.csv: cannot be read"),
    ],
)
def test_refused_flags(root: Path, refusal: Callable[..., str], flags: dict, line: str):
    put(root, *(f"{c}/s{n}/{f}.jpg" for c in ("cup", "mug") for n in (1, 2, 3) for f in (1, 2)))
    assert refusal(**flags).startswith(line)


def test_a_share_of_a_given_split_is_a_contradiction(root: Path, refusal: Callable[..., str]):
    put(root, "train/cup/1.jpg", "test/cup/2.jpg")
    assert "no meaning where train and test are given" in refusal(test_share=0.5)


def test_a_root_that_is_no_folder(root: Path, tmp_path: Path, refusal: Callable[..., str]):
    assert "mine: is not a folder; give a folder or a .csv file" in refusal()
    put(tmp_path, "clip.mp4")
    assert "clip.mp4: is a file;" in refusal(tmp_path / "clip.mp4")
    assert "needs a folder as ROOT" in refusal(tmp_path / "clip.mp4", table=tmp_path / "t.csv")


def test_sessions_are_held_out_of_every_object(root: Path, sides):
    put(root, *(f"cup/{o}/s{n}/1.jpg" for o in "ab" for n in range(1, 11)))
    put(root, *(f"mug/{o}/s1/1.jpg" for o in "abcd"))
    train, test = sides(root)
    assert test == [
        *(f"cup/{o}/s{n}/1.jpg" for o in "ab" for n in (3, 6, 10)),
        # Objects of one session are taken together.
        "mug/d/s1/1.jpg",
    ]
    assert len(train) == 14 + 3


def test_objects_are_held_out_whole(root: Path, sides):
    put(root, *(f"cup/{o}/s{n}/1.jpg" for o in "abcd" for n in (1, 2)))
    _, test = sides(root, split="object", test_share=0.5)
    assert test == [f"cup/{o}/s{n}/1.jpg" for o in "bd" for n in (1, 2)]


def test_the_last_images_are_held_out(root: Path, sides):
    put(root, *(f"cup/{n}.jpg" for n in range(1, 12)), "mug/1.jpg", "mug/2.jpg")
    train, test = sides(root, split="image")
    assert test == ["cup/9.jpg", "cup/10.jpg", "cup/11.jpg", "mug/2.jpg"]
    assert train == [*(f"cup/{n}.jpg" for n in range(1, 9)), "mug/1.jpg"]


def test_where_every_class_has_one_session_its_end_is_held_out(root: Path, sides):
    put(root, *(f"{c}/s/{n}.jpg" for c in ("cup", "mug") for n in range(1, 9)))
    train, test = sides(root)
    assert test == [f"{c}/s/{n}.jpg" for c in ("cup", "mug") for n in (7, 8)]
    assert len(train) == 12
    put(root, "cup/t/1.jpg")
    with pytest.raises(InputError, match="class mug: only one session"):
        sides(root)


def test_nothing_is_held_out_where_nothing_is_tested(root: Path, sides):
    put(root, "cup/1.jpg", "mug/s/1.jpg", "mug/t/1.jpg")
    train, test = sides(root, test=False)
    assert (len(train), test) == (3, [])
    with pytest.raises(InputError, match="split='object': has no effect with test=False"):
        sides(root, test=False, split="object")


def test_given_sides_are_kept_or_divided_anew(root: Path, sides):
    put(root, "train/cup/1.jpg", "train/cup/2.jpg", "test/cup/1.jpg")
    assert sides(root) == (["train/cup/1.jpg", "train/cup/2.jpg"], ["test/cup/1.jpg"])
    put(root, "train/cup/s/1.jpg")
    assert sides(root, split="session")[1] == ["train/cup/s/1.jpg"]


def test_only_the_first_images_of_a_session(root: Path, sides):
    put(root, *(f"cup/s{s}/{n}.jpg" for s in (1, 2) for n in (1, 2, 10)))
    train, test = sides(root, largest=2)
    assert (train, test) == (["cup/s1/1.jpg", "cup/s1/2.jpg"], ["cup/s2/1.jpg", "cup/s2/2.jpg"])


def test_numbers_of_the_index_and_what_they_stand_for(root: Path, tmp_path: Path):
    put(root, *(f"cup/b{o}/s{n}/f{f}.jpg" for o in (2, 10) for n in (1, 2) for f in (9, 10)))
    put(root, "ape/s1/1.jpg", "ape/s2/1.jpg", "ape/s3/1.jpg")
    dataset, left_out = index_source(Folder(root=root, output=tmp_path / "set"))
    assert left_out == ()
    assert dataset.class_names == {1: "ape", 2: "cup"}
    assert dataset.images == root
    # Two sessions of ape are trained on, so those tested on are 3 for all.
    assert dataset.test_sessions == (3,)
    assert list(dataset.index.itertuples(index=False, name=None)) == [
        (1, 1, 1, 1, "ape/s1/1.jpg"),
        (1, 1, 2, 1, "ape/s2/1.jpg"),
        (1, 1, 3, 1, "ape/s3/1.jpg"),
        (2, 1, 1, 1, "cup/b2/s1/f9.jpg"),
        (2, 1, 1, 2, "cup/b2/s1/f10.jpg"),
        (2, 1, 3, 1, "cup/b2/s2/f9.jpg"),
        (2, 1, 3, 2, "cup/b2/s2/f10.jpg"),
        (2, 2, 1, 1, "cup/b10/s1/f9.jpg"),
        (2, 2, 1, 2, "cup/b10/s1/f10.jpg"),
        (2, 2, 3, 1, "cup/b10/s2/f9.jpg"),
        (2, 2, 3, 2, "cup/b10/s2/f10.jpg"),
    ]
    assert (tmp_path / "set/sessions.csv").read_text().splitlines()[:5] == [
        "class,object,session,use,images,class_name,object_name,session_name",
        "1,1,1,train,1,ape,,s1",
        "1,1,2,train,1,ape,,s2",
        "1,1,3,test,1,ape,,s3",
        "2,1,1,train,2,cup,b2,s1",
    ]


def test_one_kind_where_a_folder_holds_both(root: Path, tmp_path: Path):
    put(root, "cup/s1/1.jpg", "cup/s2/1.jpg", "cup/clip.mp4")
    _, left_out = index_source(Folder(root=root, output=tmp_path / "set", only="images"))
    assert left_out == ("cup/clip.mp4: left out by --only images",)


@pytest.mark.parametrize(
    ("paths", "flags", "note"),
    [
        (["a/1.jpg", "a/2.jpg"], {}, "every class has one session, so its last images are tested"),
        (
            ["a/s/1.jpg", "a/s/2.jpg", "a/t/1.jpg"],
            {"split": "image"},
            "unless they are single photos, on unseen sessions expect less accuracy",
        ),
        (["train/a/s/1.jpg", "test/a/s/2.jpg"], {}, "a/s is in both train and test; if these"),
        (["train/a/1.jpg", "test/a/2.jpg"], {}, "a is in both train and test; if these are"),
        (["train/a/s/1.jpg", "test/a/t/2.jpg"], {}, ""),
        (["a/s/1.jpg", "a/t/2.jpg"], {}, ""),
    ],
)
def test_accuracy_that_would_look_too_good_is_warned_of(
    root: Path, tmp_path: Path, paths: list[str], flags: dict, note: str
):
    survey = Folder(root=put(root, *paths), output=tmp_path / "set", **flags).survey
    notes = [line for line in survey.notes if "only class" not in line]
    assert [line[: len(note)] for line in notes] == ([note] if note else [])


def test_the_same_video_on_both_sides_is_warned_of(root: Path, tmp_path: Path):
    for number in (1, 2, 3):
        write_clip(root / f"cup/{number}.mp4", seconds(number + 1))
        write_clip(root / f"mug/{number}.mp4", seconds(number + 1), width=48)
    before = Folder(root=root, output=tmp_path / "set")
    assert before.survey.notes == ()
    shutil.copy(root / "cup/1.mp4", root / "cup/3.mp4")
    (note,) = replace(before).survey.notes
    assert note.startswith("1 of the 2 videos that are tested on is also trained on (cup/1.mp4 and")


def test_videos_become_frames(root: Path, tmp_path: Path, sides):
    for name, count in (("clip 2", 3), ("clip 10", 2), ("Übung.v1", 4)):
        write_clip(root / f"große Tasse/{name}.mp4", seconds(count))
    assert clip_length(root / "große Tasse/clip 2.mp4").seconds == pytest.approx(3, abs=1)
    train, test = sides(root)
    assert train == [f"große Tasse/clip {n}.png" for n in ("2_1", "2_2", "2_3", "10_1", "10_2")]
    assert test == [f"große Tasse/Übung.v1_{n}.png" for n in (1, 2, 3, 4)]
    assert all((tmp_path / "set/images" / path).is_file() for path in train + test)
    # Called again it decodes nothing.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "set/images").rglob("*.png")}
    assert sides(root, split="image", largest=2)[1] == [
        "große Tasse/clip 2_2.png", "große Tasse/clip 10_2.png", "große Tasse/Übung.v1_2.png",
    ]  # fmt: skip
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_clips_that_cannot_be_opened_are_left_out_and_named(root: Path, tmp_path: Path, sides):
    for number in (1, 2, 3):
        write_clip(root / f"cup/{number}.mp4", seconds(2))
    clip = root / "cup/2.mp4"
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    put(root, "cup/4.avi")
    train, test = sides(root)
    assert (train[0], test[0]) == ("cup/1_1.png", "cup/3_1.png")
    unused = Folder(root=root, output=tmp_path / "set").survey.unused
    assert unused["is cut short"] == ("cup/2.mp4",)
    assert [paths for why, paths in unused.items() if "decoded" in why] == [("cup/4.avi",)]


def test_two_videos_of_one_name_are_refused(root: Path, refusal: Callable[..., str]):
    write_clip(root / "cup/1.mp4", seconds(2))
    shutil.copy(root / "cup/1.mp4", root / "cup/1.mov")
    line = refusal()
    assert "cup/1.mp4: has the name of 1.mov but for its ending" in line


def test_length_of_a_clip_without_a_header_that_tells_it(tmp_path: Path):
    import av

    write_clip(tmp_path / "clip.mp4", seconds(5))
    with (
        av.open(str(tmp_path / "clip.mp4")) as source,
        av.open(str(tmp_path / "clip.mkv"), "w", options={"live": "1"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    assert clip_length(tmp_path / "clip.mkv").seconds == pytest.approx(4, abs=1)


@pytest.mark.parametrize("given_as", ["root", "table"])
def test_a_table(root: Path, tmp_path: Path, sides, given_as: str):
    put(root, "x/1.jpg", "x/2.jpg", "x/3.jpg", "y/ä b.png")
    path = table(
        root,
        "session,path,class,robot,frame,object",
        "day 1,x/1.jpg,cup,r2,10,red",
        "day 1,./x/2.jpg,cup,r2,9.5,red",
        "day 2,x/3.jpg, cup ,r2,,red",
        "day 2,y/ä b.png,cup,r2,,blue",
    )
    where = (path, None) if given_as == "root" else (root, path)
    train, test = sides(where[0], table=where[1])
    assert train == ["y/ä b.png", "x/2.jpg", "x/1.jpg"]
    assert test == ["x/3.jpg"]
    notes = Folder(root=path, output=tmp_path / "set").survey.notes
    assert notes == ("columns that are not used: 'robot'",)


def test_a_table_with_its_own_split(root: Path, sides):
    put(root, "1.jpg", "2.jpg")
    path = table(root, "path,class,split", "1.jpg,cup,TEST", "2.jpg,cup,train")
    assert sides(path) == (["2.jpg"], ["1.jpg"])


def test_videos_of_a_table_are_sessions(root: Path, sides):
    for name in ("a", "b", "c/a"):
        write_clip(root / f"{name}.mp4", seconds(2))
    path = table(root, "path,class,session", "a.mp4,cup,", "b.mp4,cup,", "c/a.mp4,cup,last")
    assert sides(path)[1] == ["c/a_1.png", "c/a_2.png"]
    index = load_dataset(root.parent / "set").index
    assert index["session"].tolist() == [1, 1, 2, 2, 3, 3]
    # Videos of one session follow each other.
    path = table(root, "path,class,session", "a.mp4,cup,x", "b.mp4,cup,x", "c/a.mp4,cup,y")
    sides(path)
    index = load_dataset(root.parent / "set").index
    assert index["im_num"].tolist() == [1, 2, 3, 4, 1, 2]


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (["path,label", "1.jpg,cup"], "table.csv: has no column 'class', but 'path, label'; give"),
        (["path&class", "1.jpg&cup"], "table.csv: has no column 'path', but 'path&class'"),
        ([""], "table.csv: has no column 'path'"),
        (["path,class,path", "1.jpg,cup,2.jpg"], "table.csv: has the column 'path' twice"),
        (["path,class", "1.jpg"], "table.csv, line 2: has 1 fields, not 2"),
        (["path,class", "1.jpg,cup", "./1.jpg,mug"], "line 3: lists '1.jpg' again, after line 2"),
        (["path,class", "1.jpg, "], "line 2: has an empty class"),
        (["path,class", ",cup"], "line 2: has an empty path"),
        (["path,class", "/1.jpg,cup"], "line 2: the path '/1.jpg' is absolute"),
        (["path,class", "../1.jpg,cup"], "line 2: the path '../1.jpg' leaves the images root"),
        (["path,class", '1.jpg,"a\nb"'], "has class 'a\\nb' with a control character"),
        (["path,class,split", "1.jpg,cup,val"], "line 2: has the split 'val'; give train or test"),
        (["path,class,frame", "1.jpg,cup,one"], "line 2: has frame 'one', which is not a number"),
        (["path,class,frame", "1.jpg,cup,inf"], "line 2: has frame 'inf', which is not a number"),
        (["path,class,frame", "1.mp4,cup,1"], "line 2: has frame '1' of a video"),
        (["path,class", "gone.jpg,cup"], "lists no file that can be used (gone.jpg: no such file)"),
        (["path,class", "1.txt,cup"], "lists no file that can be used (1.txt: no video or image"),
        (["path,class", "folder.jpg,cup"], "lists no file that can be used (folder.jpg: cannot be"),
        (["path,class"], "table.csv: lists no file that can be used;"),
    ],
)
def test_refused_tables(root: Path, refusal: Callable[..., str], lines: list[str], line: str):
    put(root, "1.jpg", "1.txt", "1.mp4", "folder.jpg/x")
    assert line in refusal(table(root, *lines))


def test_what_a_table_lists_in_vain_is_named(root: Path, tmp_path: Path):
    put(root, "1.jpg", "2.jpg")
    rows = ["1.jpg,cup,a", "2.jpg,cup,b", "3.jpg,cup,c"]
    path = table(root, "path,class,session", *rows)
    _, left_out = index_source(Folder(root=path, output=tmp_path / "set"))
    assert left_out == ("3.jpg: no such file",)


def test_a_record_tells_the_images_root(root: Path, tmp_path: Path, sides):
    put(root, "cup/s1/1.jpg", "cup/s2/1.jpg")
    sides(root)
    record = json.loads((tmp_path / "set/dataset.json").read_text())
    assert (record["name"], record["images"]) == ("set", str(root))
    assert record["made_of"] == ["folder", str(root)]


# What a review found.


def test_a_session_that_lies_in_train_and_test_is_one(tmp_path: Path):
    paths = [f"{part}/{name}/s{s}/{part}{n}.png" for part in ("train", "test") for name in "ab"
             for s in (1, 2) for n in (1, 2)]  # fmt: skip
    put(tmp_path / "raw", *paths)
    source = Folder(root=tmp_path / "raw", output=tmp_path / "out", split="session")
    dataset, _ = index_source(source)
    assert dataset.index.groupby("class")["session"].nunique().tolist() == [2, 2]
    tested = dataset.index["session"].isin(dataset.test_sessions)
    folders = dataset.index["im_path"].str.extract(r"/(s\d)/")[0]
    assert set(folders[tested]) == {"s2"}
    assert set(folders[~tested]) == {"s1"}


def test_two_folders_make_two_data_sets(root: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("cups", "balls"):
        put(tmp_path / name, "a/s1/1.png", "a/s2/1.png")
        index_source(Folder(root=Path(name)))
    assert {path.name for path in tmp_path.iterdir()} >= {"cups-data", "balls-data"}


def test_another_data_set_is_not_written_over(tmp_path: Path):
    put(tmp_path / "raw", "a/s1/1.png", "a/s2/1.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dataset.json").write_text('{"name": "toybox"}')
    with pytest.raises(InputError, match="out: holds another data set; choose another output"):
        index_source(Folder(root=tmp_path / "raw", output=tmp_path / "out"))


def test_two_folders_of_one_name_do_not_share_a_data_set(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        put(tmp_path / f"{number}/videos", "a/s1/1.png", f"a/s{1 + number}/1.png")
    first, _ = index_source(Folder(root=Path("1/videos")))
    assert first.name == "videos-data"
    index_source(Folder(root=Path("1/videos"), test_share=0.5))
    before = Path("videos-data/dataset.json").read_text()
    with pytest.raises(InputError) as caught:
        index_source(Folder(root=Path("2/videos")))
    one, other = (str(tmp_path / f"{number}/videos") for number in (1, 2))
    assert str(caught.value) == (
        f"videos-data: holds the data set of {one}, not of {other}; choose another output, or "
        "remove it"
    )
    assert Path("videos-data/dataset.json").read_text() == before


def test_a_data_set_of_an_earlier_version_is_indexed_again(root: Path, tmp_path: Path):
    put(root, "a/s1/1.png", "a/s2/1.png")
    source = Folder(root=root, output=tmp_path / "set")
    index_source(source)
    record = json.loads((tmp_path / "set/dataset.json").read_text())
    del record["made_of"]
    (tmp_path / "set/dataset.json").write_text(json.dumps(record | {"name": "folder"}))
    assert load_dataset(tmp_path / "set").made_of is None
    assert index_source(source)[0].name == "set"


def test_a_table_is_not_written_over(tmp_path: Path):
    put(tmp_path / "raw", "a/1.png")
    own = table(tmp_path / "out", "path,class", "a/1.png,a")
    with pytest.raises(InputError, match=r"output=.*out"):
        Folder(root=tmp_path / "raw", output=tmp_path / "out", table=own)


@pytest.mark.parametrize("second", ["a/2.png,a,s1,", "a/2.png,a,s1,2"])
def test_a_session_is_numbered_or_not(tmp_path: Path, second: str):
    put(tmp_path, "a/1.png", "a/2.png", "a/3.png")
    first = "a/1.png,a,s1," + ("1" if second.endswith(",") else "")
    lines = ["path,class,session,frame", first, second, "a/3.png,a,s2,"]
    source = Folder(root=table(tmp_path, *lines), output=tmp_path.parent / "out")
    with pytest.raises(InputError, match="line 3: (has|lacks) a frame, unlike others"):
        _ = source.survey
