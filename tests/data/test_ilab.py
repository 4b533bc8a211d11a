"""iLab-2M-Light: names become an index, against the published procedure spelled out."""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_protocol import LABEL_ORDERS

from crumb.cli.main import main
from crumb.data.index import COLUMNS, Dataset, load_dataset
from crumb.data.protocol import lay_out
from crumb.data.sets import ilab
from crumb.data.sets.base import index_source
from crumb.data.sets.ilab import (
    CLASSES,
    TEST_SESSIONS,
    Balance,
    Ilab2mLight,
    balance,
    link_images,
    parse_names,
)
from crumb.data.stats import departures
from crumb.errors import InputError

# What Python's generator with seed 0 gives for sessions of 15, 16, ..., 24 images.
FIRST_STARTS = [1, 2, 1, 3, 5, 4, 4, 5, 8, 6]

MINIATURE = ["--objects", "1", "--sessions", "4", "--images", "3"]
SMALL = Balance(objects=1, sessions=4, images=3)


class Key(NamedTuple):
    """What a name tells."""

    kind: str
    instance: int
    background: int
    camera: int
    rotation: int
    lighting: int

    @property
    def name(self) -> str:
        return (
            f"{self.kind}-i{self.instance:04}-b{self.background:04}-c{self.camera:02}"
            f"-r{self.rotation:02}-l{self.lighting}-f2.jpg"
        )


def session(kind: str, instance: int, background: int, images: int) -> list[str]:
    """Names of so many images before one background, in the published order."""
    views = itertools.product(range(11), range(8), range(5))
    return [Key(kind, instance, background, *view).name for view in itertools.islice(views, images)]


def tree(root: Path, names: Sequence[str]) -> Path:
    """A root with small real images, each of another colour."""
    folder = root / "train_img"
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        colour = (number * 7 % 256, number * 31 % 256, number * 91 % 256)
        Image.new("RGB", (32, 24), colour).save(folder / name, "JPEG")
    return root


def miniature_names() -> list[str]:
    """Two classes with an object of four sessions; more of car than is used; and semi."""
    names = [
        name
        for kind in ("van", "car")
        for background in (2, 5, 11, 30)
        for name in session(kind, 3, background, 4)
    ]
    names += session("car", 3, 40, 3) + session("car", 7, 1, 2) + session("semi", 1, 1, 4)
    random.Random(1).shuffle(names)
    return names


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree(tmp_path_factory.mktemp("ilab") / "raw", miniature_names())


@pytest.fixture
def raw(pristine: Path, tmp_path: Path) -> Path:
    """A copy of the miniature to damage."""
    return shutil.copytree(pristine, tmp_path / "raw")


def small_source(
    root: Path, output: Path, layout: Literal["flat", "nested"] = "flat"
) -> Ilab2mLight:
    return Ilab2mLight(root=root, output=output, layout=layout, objects=1, sessions=4, images=3)


def whole_names(seed: int = 0) -> list[str]:
    """About 60,000 names of which the published rules keep 47,040, and all kinds that they drop."""
    generator = random.Random(seed)
    names: list[str] = []
    for kind in CLASSES:
        # Instances and backgrounds are not counted from 1 and have gaps, as in the data set.
        instances = generator.sample(range(200), 28 if kind == "boat" else 31)
        for number, instance in enumerate(sorted(instances)):
            backgrounds = generator.sample(range(100), 10)
            images = [generator.randint(15, 20) for _ in range(8)] + [14, generator.randint(1, 3)]
            if kind != "boat" and number % 10 == 3:
                images = images[1:]
            generator.shuffle(images)
            for background, count in zip(backgrounds, images, strict=False):
                names += session(kind, instance, background, count)
    generator.shuffle(names)
    return names


@pytest.fixture(scope="module")
def names() -> list[str]:
    return whole_names()


@pytest.fixture(scope="module")
def whole(names: list[str]) -> Dataset:
    index, _ = balance(parse_names(names))
    numbers = [CLASSES[name] for name in index["class"]]
    index = index.assign(**{"class": numbers})
    class_names = {number: str(number) for number in CLASSES.values()}
    return Dataset("ilab2mlight", Path(), Path(), index, class_names, TEST_SESSIONS)


def reindexed(keys: list[Key]) -> list[tuple[Key, int, int, int]]:
    """Object, session and image numbers of each image, by counting in a plain loop."""
    numbered: list[tuple[Key, int, int, int]] = []
    for key in sorted(keys):
        item, clip, number = 1, 1, 1
        if numbered and numbered[-1][0].kind == key.kind:
            last, item, clip, number = numbered[-1]
            if last.instance != key.instance:
                item, clip, number = item + 1, 1, 1
            elif last.background != key.background:
                clip, number = clip + 1, 1
            else:
                number += 1
        numbered.append((key, item, clip, number))
    return numbered


def by_the_rules(keys: list[Key], size: Balance, draw: random.Random) -> list[tuple]:
    """The six published steps one after the other, each on the whole list."""
    rows = reindexed([key for key in keys if key.kind != "semi"])
    images = Counter((key.kind, item, clip) for key, item, clip, _ in rows)
    rows = [row for row in rows if images[row[0].kind, row[1], row[2]] >= size.images]
    rows = reindexed([key for key, *_ in rows])
    clips = {(key.kind, item, clip) for key, item, clip, _ in rows}
    sessions = Counter((kind, item) for kind, item, _ in clips)
    rows = [row for row in rows if sessions[row[0].kind, row[1]] >= size.sessions]
    rows = reindexed([key for key, *_ in rows])
    rows = [row for row in rows if row[2] <= size.sessions]
    rows = [row for row in rows if row[1] <= size.objects]
    images = Counter((key.kind, item, clip) for key, item, clip, _ in rows)
    starts = {clip: draw.randint(1, images[clip] - size.images + 1) for clip in sorted(images)}
    kept = []
    for key, item, clip, number in rows:
        start = starts[key.kind, item, clip]
        if start <= number < start + size.images:
            kept.append(key)
    return [(key.kind, item, clip, number, key.name) for key, item, clip, number in reindexed(kept)]


def rows_of(index: pd.DataFrame) -> list[tuple]:
    assert list(index.columns) == list(COLUMNS)
    return list(index.itertuples(index=False, name=None))


# The published index and its balance


def test_published_tables():
    assert list(CLASSES) == sorted(CLASSES)
    assert list(CLASSES.values()) == list(range(1, 16))
    assert (CLASSES["semi"], CLASSES["tank"], TEST_SESSIONS) == (11, 12, (4, 8))
    assert len(Ilab2mLight.published_classes) == 14
    assert "semi" not in Ilab2mLight.published_classes


def test_sixty_thousand_names_are_balanced_as_published(names: list[str], whole: Dataset):
    assert len(names) > 60_000
    assert len(whole.index) == 47_040
    assert departures(whole.index, Ilab2mLight.published) == []
    assert set(whole.index["class"]) == set(CLASSES.values()) - {11}
    split = whole.index["session"].isin(whole.test_sessions).value_counts()
    assert (split[False], split[True]) == (35_280, 11_760)


def test_sixty_thousand_names_by_a_plain_loop(names: list[str]):
    keys = [key_of(name) for name in names]
    index, _ = balance(parse_names(names))
    assert rows_of(index) == by_the_rules(keys, Balance(), random.Random(0))


def key_of(name: str) -> Key:
    """Read by the published cuts of the name, which need no pattern."""
    numbers = [int(name.split(f"-{letter}")[1].split("-")[0]) for letter in "ibcrl"]
    return Key(name.split("-")[0], *numbers)


@pytest.mark.parametrize("run", range(10))
def test_label_orders(whole: Dataset, run: int):
    for protocol in ("class_iid", "class_instance"):
        tasks = lay_out(whole, protocol, run)
        assert " ".join(tasks.classes) == LABEL_ORDERS["ilab2mlight", protocol][run]
        assert [len(task.paths) for task in tasks.tasks] == [5040] * 7


def test_windows_are_those_of_the_random_module_seeded_with_0():
    lengths = range(15, 25)
    photographs = parse_names(
        name for number, n in enumerate(lengths) for name in session("bus", number, 1, n)
    )
    state = random.getstate()
    try:
        random.seed(0)
        starts = [random.randint(1, n - 14) for n in lengths]
        assert starts == FIRST_STARTS
        random.seed(1)
        index, _ = balance(photographs, Balance(objects=10, sessions=1))
        after = random.random()
        random.seed(1)
        assert random.random() == after
    finally:
        random.setstate(state)
    for number, start in enumerate(starts):
        images = session("bus", number, 1, lengths[number])[start - 1 : start + 14]
        of_object = index[index["object"] == number + 1]
        assert of_object["im_path"].tolist() == images
        assert of_object["im_num"].tolist() == list(range(1, 16))


KEYS = st.builds(
    Key,
    st.sampled_from(["car", "semi", "van", "car2", "Zeppelin"]),
    st.integers(0, 12),
    st.integers(8, 11),
    st.integers(0, 1),
    st.integers(0, 1),
    st.integers(0, 1),
)


@settings(max_examples=150)
@given(
    st.lists(KEYS, min_size=1, max_size=120, unique=True),
    st.builds(Balance, st.integers(1, 2), st.integers(1, 2), st.integers(1, 3)),
)
def test_any_names_by_a_plain_loop(keys: list[Key], size: Balance):
    expected = by_the_rules(keys, size, random.Random(0))
    objects = Counter(kind for kind, item in {row[:2] for row in expected})
    kinds = {key.kind for key in keys} - {"semi"}
    photographs = parse_names(key.name for key in keys)
    if not kinds or any(objects[kind] < size.objects for kind in kinds):
        with pytest.raises(InputError, match=r"^train_img: ha|^train_img: holds no class but semi"):
            balance(photographs, size)
        return
    index, lines = balance(photographs, size)
    assert rows_of(index) == expected
    told = [int(line.split(" of ")[0].split()[-1]) for line in lines]
    assert sum(told) == len(keys) - len(expected)


@settings(max_examples=50)
@given(st.lists(KEYS, min_size=1, max_size=40, unique=True), st.randoms(use_true_random=False))
def test_the_order_of_the_folder_does_not_matter(keys: list[Key], shuffler: random.Random):
    listed = [key.name for key in keys]
    first = parse_names(listed)
    shuffler.shuffle(listed)
    again = parse_names(listed)
    assert first.names == again.names == [key.name for key in sorted(keys)]
    np.testing.assert_array_equal(first.taken, again.taken)
    assert [(first.classes[place], *numbers) for place, *numbers in first.taken.tolist()] == sorted(
        keys
    )


def test_numbers_are_compared_as_numbers():
    names = [f"car-i{i}-b1-c0-r0-l0.jpg" for i in (10, 9, 100)]
    assert parse_names(names).names == [names[1], names[0], names[2]]


def test_images_that_differ_in_the_focus_alone_follow_their_names():
    stem = "car-i0001-b0001-c00-r00-l0"
    names = [f"{stem}-f3.jpg", f"{stem}.jpg", f"{stem}-f1-x2.jpg", f"{stem}-f1.JPG"]
    index, _ = balance(parse_names(names), Balance(1, 1, 4))
    assert index["im_path"].tolist() == sorted(names)


# From a tree to a stream


def test_from_raw_data_to_a_stream(
    pristine: Path, tmp_path: Path, network_words: list[str], capsys: pytest.CaptureFixture[str]
):
    output = tmp_path / "set"
    assert main(["index", "ilab2mlight", str(pristine), "--output", str(output), *MINIATURE]) == 0
    printed = capsys.readouterr().out
    assert "left out: class semi: 4 of 4 images (not in the published sample)\n" in printed
    assert (
        "left out: class car: 9 of 21 images (sessions of fewer than 3 images: 1, "
        "objects of fewer than 4 such sessions: 1)\n"
    ) in printed
    assert "left out: class van: 4 of 16 images\n" in printed
    assert "ilab2mlight: 24 images of 2 classes" in printed

    dataset = load_dataset(output)
    assert dataset.class_names == {3: "car", 15: "van"}
    assert dataset.test_sessions == (4,)
    keys = [key_of(name) for name in miniature_names()]
    expected = by_the_rules(keys, SMALL, random.Random(0))
    assert rows_of(dataset.index) == [
        (CLASSES[kind], *numbers, f"train_img/{name}") for kind, *numbers, name in expected
    ]
    for path in dataset.index["im_path"]:
        assert (dataset.images / path).is_file()

    assert main(["data", "stats", str(output)]) == 0
    assert "sessions in all: 8" in capsys.readouterr().out
    lists = ["--classes-per-task", "1", "--runs", "1"]
    assert main(["tasks", str(output), *lists]) == 0
    words = [*network_words, "--method", "finetune", "--epochs-first-task", "1", *lists]
    words += ["--output", str(tmp_path / "results")]
    assert main(["stream", str(output), *words]) == 0
    assert (tmp_path / "results").is_dir()


def test_published_counts_are_checked_for_the_published_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "raw/train_img"
    folder.mkdir(parents=True)
    for kind in Ilab2mLight.published_classes:
        for background in range(4):
            (folder / session(kind, 1, background, 1)[0]).touch()
    words = [str(tmp_path / "raw"), "--output", str(tmp_path / "set"), "--images", "1"]
    words += ["--objects", "1", "--sessions", "4"]
    assert main(["index", "ilab2mlight", *words]) == 0
    printed = capsys.readouterr().out
    assert "left out" not in printed
    assert "the published counts do not hold: images per class" in printed


def test_new_classes_follow_from_16(tmp_path: Path):
    names = [
        name
        for kind in ("zeppelin", "van", "Bike", "ätna_2")
        for background in range(4)
        for name in session(kind, 1, background, 3)
    ]
    source = small_source(tree(tmp_path / "raw", names), tmp_path / "set")
    dataset, left_out = index_source(source)
    assert dataset.class_names == {15: "van", 16: "Bike", 17: "zeppelin", 18: "ätna_2"}
    # The published order of rows is that of names, not of ids.
    assert dataset.index["class"].unique().tolist() == [16, 15, 17, 18]
    assert left_out == ()


def test_what_else_is_there_is_said(raw: Path, tmp_path: Path):
    before = index_source(small_source(raw, tmp_path / "before"))[1]
    (raw / "train_img/.DS_Store").touch()
    (raw / "train_img/._car-i0001.jpg").touch()
    (raw / "train_img/notes.txt").touch()
    (raw / ".cache").mkdir()
    (raw / "readme.txt").touch()
    assert index_source(small_source(raw, tmp_path / "one"))[1] == (
        "1 entry that is no .jpg in train_img, such as 'notes.txt'",
        *before,
    )
    (raw / "train_img/more").mkdir()
    (raw / "test_img").mkdir()
    assert index_source(small_source(raw, tmp_path / "two"))[1] == (
        "folder 'test_img' (the published sample is of train_img)",
        "2 entries that are no .jpg in train_img, such as 'more'",
        *before,
    )


CAR = session("car", 3, 2, 1)[0]


def add(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).touch()


def twice(old: str, new: str) -> Callable[[Path], object]:
    return lambda folder: shutil.copy(folder / CAR, folder / CAR.replace(old, new))


def only(keep: Callable[[str], bool]) -> Callable[[Path], object]:
    return lambda folder: [path.unlink() for path in folder.iterdir() if not keep(path.name)]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (shutil.rmtree, "raw: has no folder train_img; expected are images train_img/<class>-i"),
        (lambda folder: shutil.move(folder, folder.parent / "train"), "has no folder train_img"),
        (only(lambda name: False), "train_img: holds no .jpg images; expected"),
        (lambda folder: (folder / "a.jpg").mkdir(), "train_img: holds 'a.jpg', no file; expected"),
        (lambda folder: (folder / "a.jpg").symlink_to("b"), "holds 'a.jpg', no file; expected"),
        (add("car.jpg"), "names cannot be parsed: 'car.jpg'; remove them"),
        (add(f"{CAR[:-4]} (1).jpg"), "cannot be parsed: 'car-i0003-b0002-c00-r00-l0-f2 (1).jpg';"),
        (add(CAR.replace("-c00", "")), "cannot be parsed: 'car-i0003-b0002-r00-l0-f2.jpg';"),
        (add(CAR.replace("-i0003", "-i")), "cannot be parsed: 'car-i-b0002"),
        (add(CAR.replace("-i0003", "-i3x")), "cannot be parsed: 'car-i3x-b0002"),
        (add(CAR.replace("-i0003", "-i9999999999")), "cannot be parsed: 'car-i9999999999-"),
        (add(CAR.replace("-i0003", "-i٣")), "cannot be parsed: 'car-i٣-"),
        (add(CAR.replace("car", "fire truck")), "cannot be parsed: 'fire truck-"),
        (add(CAR.removeprefix("car")), "cannot be parsed: '-i0003"),
        (add("car\n-i1-b1-c1-r1-l1.jpg"), r"cannot be parsed: 'car\n-i1"),
        (add(os.fsdecode(b"car\xff-i1-b1-c1-r1-l1.jpg")), r"cannot be parsed: 'car\udcff-i1"),
        (lambda folder: [add(name)(folder) for name in ("b.jpg", "a.jpg")], "'a.jpg' and 1 more;"),
        (twice("i0003", "i3"), f"-f2.jpg: tells the same as {CAR}; keep one of the two"),
        (twice(".jpg", ".JPG"), f"train_img/{CAR}: tells the same as {CAR[:-4]}.JPG; keep"),
        (twice("-f2", "-F2"), f"train_img/{CAR}: tells the same as {CAR[:-7]}-F2.jpg; keep"),
        (
            only(lambda name: name.startswith("semi")),
            "train_img: holds no class but semi; expected",
        ),
        (
            only(lambda name: "van" not in name or "-b0030" not in name),
            "has classes of fewer than 1 objects with 4 sessions of 3 images, "
            "with van 0 (at most 3 such sessions, and 4 images in one); add their images",
        ),
    ],
)
def test_odd_trees(
    raw: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], object],
    complaint: str,
):
    change(raw / "train_img")
    output = tmp_path / "set"
    words = ["index", "ilab2mlight", str(raw), "--output", str(output), *MINIATURE]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("crumb: ")
    assert complaint in line
    assert not output.exists()


def test_all_short_classes_are_named_with_their_counts(raw: Path, tmp_path: Path):
    with pytest.raises(InputError) as caught:
        index_source(
            Ilab2mLight(root=raw, output=tmp_path / "set", objects=2, sessions=4, images=3)
        )
    assert "fewer than 2 objects with 4 sessions of 3 images, with car 1, van 1;" in str(
        caught.value
    )
    with pytest.raises(InputError) as caught:
        index_source(Ilab2mLight(root=raw, output=tmp_path / "set"))
    none = "0 (at most 0 such sessions, and 4 images in one)"
    assert f"with car {none}, van {none}; add" in str(caught.value)
    assert "objects, sessions and images" in str(caught.value)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("flag", "value", "complaint"),
    [
        ("--objects", "0", "--objects 0: is out of range; give a finite number from 1 to"),
        ("--sessions", "3", "--sessions 3: is out of range; give a finite number from 4 to"),
        ("--images", "0", "--images 0: is out of range"),
        ("--images", "1000000001", "--images 1000000001: is out of range"),
        ("--layout", "deep", "layout"),
    ],
)
def test_bad_flags(
    raw: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flag: str,
    value: str,
    complaint: str,
):
    output = tmp_path / "set"
    assert main(["index", "ilab2mlight", str(raw), "--output", str(output), flag, value]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line
    assert not output.exists()


def test_a_folder_that_cannot_be_read(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(path: object):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(ilab.os, "scandir", fail)
    with pytest.raises(InputError, match=r"train_img: cannot be read \(Permission denied\)"):
        small_source(raw, tmp_path / "set").sample()


# The nested layout


def linked(dataset: Dataset, raw: Path) -> list[tuple[Path, Path]]:
    """Where each image of a nested data set lies, and the one of the raw data."""
    paths = [dataset.images / path for path in dataset.index["im_path"]]
    return [(path, raw / "train_img" / path.name) for path in paths]


def test_nested_images_are_hard_links(raw: Path, tmp_path: Path):
    flat, _ = index_source(small_source(raw, tmp_path / "flat"))
    dataset, _ = index_source(small_source(raw, tmp_path / "set", "nested"))
    assert load_dataset(tmp_path / "set").images == dataset.images == tmp_path / "set/images"
    assert [row[:4] for row in rows_of(dataset.index)] == [row[:4] for row in rows_of(flat.index)]
    names = [path.removeprefix("train_img/") for path in flat.index["im_path"]]
    assert dataset.index["im_path"].tolist() == [
        f"{dataset.class_names[number]}/obj_{item}/sess_{clip}/{name}"
        for (number, item, clip, _, _), name in zip(rows_of(flat.index), names, strict=True)
    ]
    assert all(new.samefile(old) and not new.is_symlink() for new, old in linked(dataset, raw))
    everything = [path for path in (tmp_path / "set/images").rglob("*") if not path.is_dir()]
    assert len(everything) == len(dataset.index)


def refuse(*_: object) -> None:
    raise OSError(18, "Invalid cross-device link")


def test_nested_images_are_symbolic_links_where_hard_ones_cannot_be(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ilab.os, "link", refuse)
    # A root that is given relative to where the command is called.
    monkeypatch.chdir(tmp_path)
    dataset, _ = index_source(small_source(Path("raw"), Path("set"), "nested"))
    monkeypatch.chdir("/")
    dataset = load_dataset(tmp_path / "set")
    assert all(new.is_symlink() and new.samefile(old) for new, old in linked(dataset, raw))


def test_nested_images_are_copies_where_links_cannot_be(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("link", "symlink"):
        monkeypatch.setattr(ilab.os, name, refuse)
    source = small_source(raw, tmp_path / "set", "nested")
    dataset, _ = index_source(source)
    pairs = linked(dataset, raw)
    for new, old in pairs:
        assert not new.is_symlink()
        assert not new.samefile(old)
        assert new.read_bytes() == old.read_bytes()
    before = [new.stat().st_ino for new, _ in pairs]
    pairs[2][0].write_bytes(b"half")
    index_source(source)
    after = [new.stat().st_ino for new, _ in pairs]
    assert [place for place in range(len(pairs)) if before[place] != after[place]] == [2]
    assert pairs[2][0].read_bytes() == pairs[2][1].read_bytes()


def test_a_hard_link_is_never_one_to_a_symbolic_link(raw: Path, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    shutil.move(raw / "train_img", elsewhere)
    (raw / "train_img").mkdir()
    for path in elsewhere.iterdir():
        (raw / "train_img" / path.name).symlink_to(Path("../../elsewhere") / path.name)
    dataset, _ = index_source(small_source(raw, tmp_path / "set", "nested"))
    for new, old in linked(dataset, raw):
        assert new.samefile(old)
        assert not new.is_symlink()


def test_an_interrupted_call_is_repeated(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    place, placed = os.link, []

    def interrupted(*words: Path) -> None:
        place(*words)
        placed.append(words)
        if len(placed) == 5:
            raise KeyboardInterrupt

    source = small_source(raw, tmp_path / "set", "nested")
    with monkeypatch.context() as patch:
        patch.setattr(ilab.os, "link", interrupted)
        with pytest.raises(KeyboardInterrupt):
            index_source(source)
    assert not (tmp_path / "set/dataset.json").exists()
    links = [path for path in (tmp_path / "set").rglob("*") if path.is_file()]
    assert len(links) == 4
    # What a killed process leaves behind.
    left = links[0].with_name(".car.jpg.part")
    left.touch()
    with monkeypatch.context() as patch:
        patch.setattr(ilab.os, "link", lambda *words: (placed.append(words), place(*words)))
        dataset, _ = index_source(source)
    assert len(placed) == 5 + 24 - 4
    assert not left.exists()
    assert all(new.samefile(old) for new, old in linked(dataset, raw))


def test_a_changed_image_is_linked_again(raw: Path, tmp_path: Path):
    source = small_source(raw, tmp_path / "set", "nested")
    new, old = linked(index_source(source)[0], raw)[0]
    old.unlink()
    Image.new("RGB", (8, 8), "red").save(old)
    assert not new.samefile(old)
    index_source(source)
    assert new.samefile(old)


def test_an_image_that_cannot_be_made_is_named(raw: Path, tmp_path: Path):
    source = small_source(raw, tmp_path / "set", "nested")
    (tmp_path / "set/images/car/obj_1").mkdir(parents=True)
    (tmp_path / "set/images/car/obj_1/sess_1").touch()
    with pytest.raises(InputError, match=r"sess_1/car-.*: cannot be made from .*; choose another"):
        index_source(source)
    assert not (tmp_path / "set/dataset.json").exists()


def test_nothing_to_link(tmp_path: Path):
    link_images(tmp_path, [], tmp_path / "new", [])
    assert not (tmp_path / "new").exists()
