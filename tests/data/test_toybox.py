from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from video_clips import seconds, write_clip

from crumb.data import decode
from crumb.data.decode import DECODING
from crumb.data.index import COLUMNS, load_dataset, read_index
from crumb.data.resize import Resize
from crumb.data.sets.base import index_source
from crumb.data.sets.toybox import (
    CLASSES,
    DROPPED_SESSIONS,
    SESSIONS,
    TEST_SESSIONS,
    Toybox,
    balance,
    index_toybox,
    left_out,
)
from crumb.errors import InputError

CUP = "households/cup_01_pivothead"
DOG = "animals/hot_dog_03_pivothead"
CUP_TX = f"{CUP}/cup_01_pivothead_tx"


def add_object(root: Path, folder: str, clip: Path) -> None:
    """An object folder with a copy of ``clip`` for each of the ten sessions."""
    target = root / folder
    target.mkdir(parents=True)
    for session in SESSIONS:
        shutil.copy(clip, target / f"{target.name}_{session}.mp4")


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_clip(path, seconds(16))
    return path


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory, clip: Path) -> Path:
    """A tree and its data set: cup object 1 and hot_dog object 3; one cup clip has 9 frames."""
    top = tmp_path_factory.mktemp("pristine")
    add_object(top / "tree", CUP, clip)
    add_object(top / "tree", DOG, clip)
    write_clip(top / "tree" / f"{CUP_TX}.mp4", seconds(9))
    shutil.copy(clip, top / "tree" / CUP / "cup_01_pivothead_present.mp4")
    (top / "tree" / CUP / ".hidden").touch()
    (top / "tree" / "households" / ".DS_Store").touch()
    (top / "tree" / "readme.txt").touch()
    index_toybox(top / "tree", top / "set", workers=1)
    return top


@pytest.fixture
def indexed(pristine: Path, tmp_path: Path) -> Path:
    """A copy of the tree (``tree``) and its data set (``set``) to work on."""
    shutil.copytree(pristine, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def tree(tmp_path: Path, clip: Path) -> Path:
    """A tree with one object."""
    add_object(tmp_path / "tree", CUP, clip)
    return tmp_path / "tree"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the clips that are decoded from now on."""
    names: list[str] = []
    original = decode.frames_at_one_per_second

    def count(path: Path, resize: Resize):
        names.append(path.stem)
        return original(path, resize=resize)

    monkeypatch.setattr(decode, "frames_at_one_per_second", count)
    return names


def test_published_tables():
    assert (CLASSES["cup"], CLASSES["helicopter"], len(CLASSES)) == (1, 12, 12)
    assert [SESSIONS[name] for name in ("rxplus", "rzplus", "rzminus", "tz", "hodgepodge")] == [
        1, 3, 6, 9, 10,
    ]  # fmt: skip
    assert TEST_SESSIONS == (3, 6, 9)
    assert DROPPED_SESSIONS == ("present", "absent")


def test_index_of_a_tree(pristine: Path):
    dataset = load_dataset(pristine / "set")
    assert (dataset.name, dataset.test_sessions) == ("toybox", (3, 6, 9))
    assert dataset.class_names == {1: "cup", 13: "hot_dog"}
    assert dataset.images == pristine / "set/images"
    assert len(dataset.index) == 2 * 10 * 15
    first = dataset.index.iloc[0].to_dict()
    assert first == {
        "class": 1, "object": 1, "session": 1, "im_num": 1,
        "im_path": f"{CUP}/cup_01_pivothead_rxplus_1.png",
    }  # fmt: skip
    # Object 3 is the only hot dog left, so it is counted as object 1.
    assert dataset.index["object"].unique().tolist() == [1]
    assert set(dataset.index["session"]) == set(SESSIONS.values())
    assert (pristine / "set/toybox_classes.csv").read_text() == "class,index\ncup,1\nhot_dog,13\n"


def test_every_frame_is_written_and_in_the_unbalanced_index(pristine: Path):
    frames = read_index(pristine / "set/toybox_dirmap_unbalanced.csv")
    assert len(frames) == 19 * 16 + 9
    listed = {pristine / "set/images" / path for path in frames["im_path"]}
    assert listed == set((pristine / "set/images").rglob("*.*"))
    assert frames["object"].unique().tolist() == [1, 3]
    with Image.open(min(listed)) as image:
        assert (image.size, image.mode, image.format) == ((224, 224), "RGB", "PNG")


def test_a_clip_of_nine_frames_is_continued_backwards(pristine: Path):
    index = load_dataset(pristine / "set").index
    clip = index[(index["class"] == 1) & (index["session"] == SESSIONS["tx"])]
    numbers = [*range(1, 10), 8, 7, 6, 5, 4, 3]
    assert clip["im_path"].tolist() == [f"{CUP_TX}_{number}.png" for number in numbers]
    assert clip["im_num"].tolist() == list(range(1, 16))


def test_a_second_run_decodes_nothing(indexed: Path, decoded: list[str]):
    before = {path: path.stat().st_mtime_ns for path in (indexed / "set/images").rglob("*.png")}
    again = index_toybox(indexed / "tree", indexed / "set", workers=1)
    assert decoded == []
    assert {path: path.stat().st_mtime_ns for path in before} == before
    pd.testing.assert_frame_equal(again.index, load_dataset(indexed / "set").index)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [cut, Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_damaged_frame_is_decoded_again(
    indexed: Path, decoded: list[str], damage: Callable[[Path], object]
):
    frame = indexed / "set/images" / f"{CUP_TX}_4.png"
    whole = frame.read_bytes()
    damage(frame)
    index_toybox(indexed / "tree", indexed / "set", workers=1)
    assert decoded == ["cup_01_pivothead_tx"]
    assert frame.read_bytes() == whole


def test_a_changed_clip_is_decoded_again(indexed: Path, decoded: list[str]):
    write_clip(indexed / "tree" / f"{CUP_TX}.mp4", seconds(11))
    dataset = index_toybox(indexed / "tree", indexed / "set", workers=1)
    assert decoded == ["cup_01_pivothead_tx"]
    assert f"{CUP_TX}_11.png" in dataset.index["im_path"].tolist()


def test_an_interruption_keeps_what_is_decoded(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    original, names = decode.frames_at_one_per_second, []

    def interrupted(path: Path, resize: Resize):
        if len(names) == 4:
            raise KeyboardInterrupt
        names.append(path.stem)
        return original(path, resize=resize)

    monkeypatch.setattr(decode, "frames_at_one_per_second", interrupted)
    with pytest.raises(KeyboardInterrupt):
        index_toybox(tree, tmp_path / "set", workers=1)
    assert not (tmp_path / "set/dataset.json").exists()
    record = json.loads((tmp_path / "set/frames.json").read_text())
    assert len(record["clips"]) == 4
    status = (tree / CUP / f"{names[0]}.mp4").stat()
    assert record["clips"][f"{CUP}/{names[0]}.mp4"] == {
        "bytes": status.st_size,
        "modified": status.st_mtime_ns,
        "frames": 16,
        "decoding": DECODING,
        "resize": "squash",
        "gaps": 0,
    }
    monkeypatch.setattr(decode, "frames_at_one_per_second", original)
    assert len(index_toybox(tree, tmp_path / "set", workers=1).index) == 150


def test_frames_of_a_clip_that_was_replaced_for_a_while_are_not_kept(tree: Path, tmp_path: Path):
    """The record must not take the damaged clip's frames for those of the clip."""
    index_toybox(tree, tmp_path / "set", workers=1)
    clip, frame = tree / f"{CUP_TX}.mp4", tmp_path / "set/images" / f"{CUP_TX}_3.png"
    before, good, status = clip.read_bytes(), frame.read_bytes(), clip.stat()
    clip.write_bytes(before[: len(before) // 2])
    with pytest.raises(InputError):
        index_toybox(tree, tmp_path / "set", workers=1)
    frame.write_bytes(good.replace(good[40:60], good[60:80]))
    clip.write_bytes(before)
    os.utime(clip, ns=(status.st_atime_ns, status.st_mtime_ns))
    index_toybox(tree, tmp_path / "set", workers=1)
    assert frame.read_bytes() == good


def test_a_clip_of_the_same_size_is_another_clip(tree: Path, tmp_path: Path, decoded: list[str]):
    index_toybox(tree, tmp_path / "set", workers=1)
    decoded.clear()
    clip = tree / f"{CUP_TX}.mp4"
    os.utime(clip, ns=(0, 1))
    index_toybox(tree, tmp_path / "set", workers=1)
    assert decoded == [clip.stem]


def test_a_short_clip_of_an_object_that_is_left_out_does_no_harm():
    frames = frames_of({(1, 1): 10, (1, 2): 9}, c1_o2_s4=3)
    assert balance(frames, {1: "cup"})["object"].unique().tolist() == [1]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_broken_clip_is_named_and_no_index_written(tree: Path, tmp_path: Path, workers: int):
    broken = tree / f"{CUP_TX}.mp4"
    cut(broken)
    with pytest.raises(InputError) as caught:
        index_toybox(tree, tmp_path / "set", workers=workers)
    assert str(caught.value).startswith(f"{broken}: is cut short;")
    written = {path.name for path in (tmp_path / "set").iterdir()}
    assert written == {"images", "frames.json"}


@pytest.mark.parametrize("again", [False, True])
def test_a_clip_whose_clock_jumps_is_named(tree: Path, tmp_path: Path, again: bool):
    write_clip(tree / f"{CUP_TX}.mp4", [*seconds(9), *(600_000 + time for time in seconds(7))])
    source = Toybox(root=tree, output=tmp_path / "set", workers=1)
    if again:
        index_source(source)
    dataset, lines = index_source(source)
    assert lines == (f"1 gap in the time stamps of {CUP_TX}.mp4",)
    assert len(dataset.index) == 150


def test_processes_decode_the_same(pristine: Path, tmp_path: Path):
    dataset = index_toybox(pristine / "tree", tmp_path / "set", workers=2)
    expected = load_dataset(pristine / "set")
    pd.testing.assert_frame_equal(dataset.index, expected.index)
    for path in expected.index["im_path"]:
        assert (dataset.images / path).read_bytes() == (expected.images / path).read_bytes()


@pytest.mark.parametrize("error", [OSError(30, "x"), ImportError("x")])
def test_without_shared_memory_threads_decode_the_same(
    pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    def refuse(*words: object, **flags: object) -> None:
        raise error

    # As where /dev/shm is read-only or missing.
    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", refuse)
    dataset = index_toybox(pristine / "tree", tmp_path / "set", workers=2)
    expected = load_dataset(pristine / "set")
    pd.testing.assert_frame_equal(dataset.index, expected.index)
    for path in expected.index["im_path"]:
        assert (dataset.images / path).read_bytes() == (expected.images / path).read_bytes()


def test_the_class_table_of_the_tree_decides(indexed: Path):
    (indexed / "tree/toybox_classes.csv").write_bytes(
        b"\xef\xbb\xbfclass,index\r\nhot_dog,0\r\ncup,70\r\nmug,2\r\n"
    )
    dataset = index_toybox(indexed / "tree", indexed / "set", workers=1)
    assert dataset.class_names == {0: "hot_dog", 70: "cup"}
    assert dataset.index["class"].unique().tolist() == [0, 70]


def test_new_classes_are_numbered_alphabetically_from_13(indexed: Path, clip: Path):
    for folder in ("vehicles/bike_01_pivothead", "animals/zebra_01_pivothead"):
        add_object(indexed / "tree", folder, clip)
    dataset = index_toybox(indexed / "tree", indexed / "set", workers=1)
    assert dataset.class_names == {1: "cup", 13: "bike", 14: "hot_dog", 15: "zebra"}


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ("", "no header class,index"),
        ("name,id\ncup,1\n", "no header class,index"),
        ("class,index\nmug,1\n", "does not list the class 'cup'"),
        ("class,index\ncup,1\nmug,1\n", "line 3: repeats"),
        ("class,index\ncup,1\ncup,2\n", "line 3: repeats"),
        ("class,index\ncup,one\n", "line 2: is not a name and number"),
        ("class,index\ncup,-1\n", "line 2: is not a name and number"),
        ("class,index\ncup\n", "line 2: is not a name and number"),
    ],
)
def test_bad_class_table(tree: Path, tmp_path: Path, table: str, complaint: str):
    (tree / "toybox_classes.csv").write_text(table)
    with pytest.raises(InputError, match=rf"toybox_classes\.csv.*{complaint}"):
        index_toybox(tree, tmp_path / "set", workers=1)


def remove_all(tree: Path) -> None:
    shutil.rmtree(tree / CUP)


def copy_object(target: str) -> Callable[[Path], object]:
    return lambda tree: shutil.copytree(tree / CUP, tree / target)


def copy_clip(name: str) -> Callable[[Path], object]:
    return lambda tree: shutil.copy(tree / f"{CUP_TX}.mp4", tree / CUP / name)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (shutil.rmtree, "tree: is not a folder"),
        (
            lambda tree: shutil.rmtree(tree / "households"),
            "tree: has none of the folders animals, households, vehicles;",
        ),
        (remove_all, "tree: holds no clips; expected are clips animals"),
        (copy_object("households/cup_1_pivothead"), "cup_1_pivothead: is not a folder <class>"),
        (copy_object("households/cups"), "cups: is not a folder <class>"),
        (
            lambda tree: (tree / "households/notes.txt").touch(),
            "notes.txt: is not a folder <class>",
        ),
        (copy_object("plants/cup_02_pivothead"), "plants: is not a known super-category"),
        (copy_object("animals/cup_01_pivothead"), "is the same class, object and session as"),
        (copy_clip("cup_01_pivothead_spin.mp4"), "_spin.mp4: has the unknown transformation"),
        (copy_clip("cup_01_again_tx.mp4"), "is the same class, object and session as"),
        (copy_object("households/tea\tcup_02_pivothead"), "holds a control character"),
        (
            lambda tree: write_clip(tree / f"{CUP_TX}.mp4", seconds(7)),
            "class cup, object 1, session 7: has 7 frames",
        ),
    ],
)
def test_bad_trees(tree: Path, tmp_path: Path, change: Callable[[Path], object], complaint: str):
    change(tree)
    with pytest.raises(InputError) as caught:
        index_toybox(tree, tmp_path / "set", workers=1)
    assert complaint in str(caught.value)
    assert not (tmp_path / "set/dataset.json").exists()


def test_a_class_without_a_whole_object_is_found_before_decoding(tree: Path, tmp_path: Path):
    shutil.copytree(tree / CUP, tree / "households/cup_02_pivothead")
    (tree / "households/cup_02_pivothead/cup_01_pivothead_rxplus.mp4").unlink()
    (tree / f"{CUP_TX}.mp4").unlink()
    (tree / CUP / "cup_01_pivothead_tz.mp4").unlink()
    with pytest.raises(InputError) as caught:
        index_toybox(tree, tmp_path / "set", workers=1)
    assert str(caught.value).startswith(
        "class cup: has no object with 10 sessions, object 2 has no rxplus;"
    )
    assert not (tmp_path / "set").exists()


def test_what_is_left_out_is_said(pristine: Path, indexed: Path):
    assert left_out(pristine / "tree") == ["1 clip named present or absent"]
    tree = indexed / "tree"
    for item in range(2, 31):
        folder = tree / f"households/cup_{item:02}_pivothead"
        shutil.copytree(tree / CUP, folder)
    (tree / "animals/hot_dog_30_pivothead").mkdir()
    shutil.copy(tree / f"{CUP_TX}.mp4", tree / "animals/hot_dog_30_pivothead/dog_ty.MP4")
    (tree / DOG / "notes.txt").touch()
    (tree / DOG / "more").mkdir()
    lines = left_out(tree)
    assert lines == [
        "cup object 30 (30 objects; the published sample has 29)",
        "hot_dog object 30 "
        "(no rxplus, ryplus, rzplus, rxminus, ryminus, rzminus, tx, tz, hodgepodge)",
        "30 clips named present or absent",
        "2 files that are no .mp4",
    ]
    (tree / "households/cup_06_pivothead/cup_01_pivothead_tx.mp4").unlink()
    # 29 whole objects are left, so object 30 stays.
    assert left_out(tree) == ["cup object 6 (no tx)", *lines[1:]]


def test_a_link_to_a_missing_clip(tree: Path, tmp_path: Path):
    (tree / f"{CUP_TX}.mp4").unlink()
    (tree / f"{CUP_TX}.mp4").symlink_to(tree / "nothing.mp4")
    with pytest.raises(InputError, match=r"_tx\.mp4: cannot be read"):
        index_toybox(tree, tmp_path / "set", workers=1)


def test_bad_arguments(tree: Path, tmp_path: Path):
    with pytest.raises(InputError, match="workers=0: is out of range"):
        index_toybox(tree, tmp_path / "set", workers=0)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        index_toybox(tree, tmp_path / "file", workers=1)


@pytest.mark.parametrize(
    "record",
    [
        "{",
        '{"format": "other", "version": 1, "clips": {}}',
        '{"format": "crumb-frames", "version": 1}',
        '{"format": "crumb-frames", "version": 1, "clips": {"a": {"bytes": 1}}}',
    ],
)
def test_bad_record_of_frames(indexed: Path, record: str):
    (indexed / "set/frames.json").write_text(record)
    with pytest.raises(InputError, match=r"frames\.json: .*; delete it"):
        index_toybox(indexed / "tree", indexed / "set", workers=1)


def frames_of(
    objects: dict[tuple[int, int], int], frames: int = 15, **lengths: int
) -> pd.DataFrame:
    """An index of (class, object) with a number of sessions; lengths: c1_o2_s3=9."""
    rows = []
    for (number, item), sessions in objects.items():
        for session in range(1, sessions + 1):
            length = lengths.get(f"c{number}_o{item}_s{session}", frames)
            rows += [
                (number, item, session, n, f"{number}/{item}/{session}/{n}")
                for n in range(1, length + 1)
            ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def originals(index: pd.DataFrame, number: int) -> list[int]:
    """The objects' numbers before renumbering, which the paths tell."""
    paths = index.loc[index["class"] == number, "im_path"]
    return list(dict.fromkeys(int(path.split("/")[1]) for path in paths))


def test_thirty_objects_lose_the_last_and_others_the_incomplete():
    objects = {(1, n): 10 for n in range(1, 31)} | {(2, n): 10 for n in range(1, 31)}
    objects[2, 6] = 9
    index = balance(frames_of(objects))
    assert originals(index, 1) == list(range(1, 30))
    # Class 2 has 29 objects once object 6 is dropped, so its object 30 stays.
    assert originals(index, 2) == [*range(1, 6), *range(7, 31)]
    for number in (1, 2):
        objects_of_class = index["object"][index["class"] == number].tolist()
        assert list(dict.fromkeys(objects_of_class)) == list(range(1, 30))
        assert len(objects_of_class) == 4350


def test_frames_after_the_fifteenth_are_dropped():
    index = balance(frames_of({(1, 1): 10}, frames=20))
    assert index["im_num"].tolist() == list(range(1, 16)) * 10


@pytest.mark.parametrize(
    ("length", "numbers"),
    [
        (8, [*range(1, 9), *range(7, 0, -1)]),
        (9, [*range(1, 10), *range(8, 2, -1)]),
        (14, [*range(1, 15), 13]),
        (15, list(range(1, 16))),
    ],
)
def test_short_clips_are_continued_backwards(length: int, numbers: list[int]):
    index = balance(frames_of({(1, 1): 10, (1, 2): 10}, c1_o2_s4=length))
    clip = index[(index["object"] == 2) & (index["session"] == 4)]
    assert clip["im_path"].tolist() == [f"1/2/4/{number}" for number in numbers]
    assert clip["im_num"].tolist() == list(range(1, 16))


@pytest.mark.parametrize("length", [1, 7])
def test_clips_too_short(length: int):
    frames = frames_of({(1, 1): 10, (5, 2): 10}, c5_o2_s4=length)
    with pytest.raises(InputError, match=rf"class duck, object 2, session 4: has {length} frames"):
        balance(frames, {1: "cup", 5: "duck"})
    with pytest.raises(InputError, match="class 5, object 2"):
        balance(frames)


def test_a_class_that_would_vanish():
    with pytest.raises(InputError, match="class duck: has no object with 10 sessions"):
        balance(frames_of({(1, 1): 10, (5, 2): 9, (5, 3): 4}), {1: "cup", 5: "duck"})
    with pytest.raises(InputError, match="has no frames"):
        balance(frames_of({}))


def test_repeated_rows_count_once():
    frames = frames_of({(1, 1): 10})
    pd.testing.assert_frame_equal(
        balance(pd.concat([frames, frames.iloc[:40]])), balance(frames), check_dtype=False
    )


@settings(max_examples=30)
@given(
    st.dictionaries(
        st.tuples(st.integers(1, 3), st.integers(1, 6)), st.integers(9, 10), min_size=1, max_size=8
    ),
    st.integers(8, 17),
    st.randoms(use_true_random=False),
)
def test_any_balanced_index_is_balanced(objects, frames: int, random):
    rows = list(frames_of(objects, frames).itertuples(index=False, name=None))
    random.shuffle(rows)
    shuffled = pd.DataFrame(rows, columns=list(COLUMNS))
    complete = {key for key, sessions in objects.items() if sessions == 10}
    if {number for number, _ in complete} != {number for number, _ in objects}:
        with pytest.raises(InputError, match="has no object"):
            balance(shuffled)
        return
    index = balance(shuffled)
    keys = list(index[["class", "object", "session", "im_num"]].itertuples(index=False, name=None))
    expected = [
        (number, place, session, n)
        for number, group in itertools.groupby(sorted(complete), key=lambda key: key[0])
        for place, _ in enumerate(group, 1)
        for session in range(1, 11)
        for n in range(1, 16)
    ]
    assert keys == expected
