"""CIFAR-100 as torchvision leaves it and as PNG images."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import shutil
import tarfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from class_trees import Change, add, refusal, remove
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import CIFAR100

from crumb.cli.main import main
from crumb.data.class_folders import class_index
from crumb.data.images import load_image
from crumb.data.index import Dataset, index_text, load_dataset
from crumb.data.protocol import TaskLayout, lay_out
from crumb.data.sets.base import index_source
from crumb.data.sets.cifar100 import CLASSES, IMAGES_PER_CLASS, Cifar100
from crumb.data.stats import departures
from crumb.errors import InputError

# Positions in the alphabetical list after the shuffle of runs 0, 1 and 2, the first ten.
SHUFFLED = [
    "26 86 2 55 75 93 16 73 54 95",
    "80 84 33 81 93 17 36 82 69 65",
    "83 30 56 24 16 23 2 27 28 13",
]
NAMES = ("worm", "apple", "maple_tree")


def pixels_of(half: str, label: int, number: int) -> np.ndarray:
    """A picture that tells which one it is: 3 rows of blocks."""
    values = np.array([200 * (half == "test"), 40 * label, 10 * number], dtype=np.uint8)
    return np.broadcast_to(values[:, None, None], (3, 32, 32))


def pickle_halves(folder: Path, counts: dict[str, int]) -> None:
    """Files of the published form, the classes taking turns; torchvision's sums become theirs."""
    folder.mkdir(parents=True)
    for half, count in counts.items():
        labels = [number % len(NAMES) for number in range(count * len(NAMES))]
        data = [pixels_of(half, label, n // len(NAMES) + 1) for n, label in enumerate(labels)]
        content = {"data": np.stack(data).reshape(len(data), -1), "fine_labels": labels}
        (folder / half).write_bytes(pickle.dumps(content))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [*NAMES]}))


def publish(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torchvision take the sums of these files for the published ones."""
    sums = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in FILES}
    monkeypatch.setattr(CIFAR100, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": sums["meta"]})


FILES = ("train", "test", "meta")


@pytest.fixture
def pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root whose cifar-100-python/ has 3 images to train on and 2 to test on of 3 classes."""
    root = tmp_path / "root"
    pickle_halves(root / "cifar-100-python", {"train": 3, "test": 2})
    publish(root / "cifar-100-python", monkeypatch)
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The same images as PNG."""
    root = tmp_path / "tree"
    for half, count in (("train", 3), ("test", 2)):
        for label, name in enumerate(NAMES):
            (root / half / name).mkdir(parents=True)
            for number in range(1, count + 1):
                pixels = pixels_of(half, label, number).transpose(1, 2, 0)
                Image.fromarray(pixels.copy()).save(root / half / name / f"{number:04}.png")
    return root


def index(root: Path, *more: object) -> int:
    output = root.parent / "set"
    return main(["index", "cifar100", str(root), "--output", str(output), *map(str, more)])


EXPECTED = [
    (CLASSES.index(name), 0, session, number, f"{half}/{name}/{number:04}.png")
    for name in sorted(NAMES)
    for session, (half, count) in enumerate([("train", 3), ("test", 2)])
    for number in range(1, count + 1)
]


def rows_of(dataset: Dataset) -> list[tuple]:
    return list(dataset.index.itertuples(index=False, name=None))


def test_torchvisions_files_become_a_tree(pickles: Path, tree: Path):
    assert index(pickles) == 0
    dataset = load_dataset(pickles.parent / "set")
    assert rows_of(dataset) == EXPECTED
    assert dataset.class_names == {0: "apple", 47: "maple_tree", 99: "worm"}
    assert (dataset.name, dataset.test_sessions) == ("cifar100", (1,))
    assert dataset.images == pickles.parent / "set/images"
    for path in dataset.index["im_path"]:
        with Image.open(dataset.images / path) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "RGB", (32, 32))
        assert torch.equal(load_image(dataset.images / path, 32), load_image(tree / path, 32))
    assert {p.name for p in dataset.folder.iterdir()} == {
        "images",
        "dataset.json",
        "cifar100_dirmap.csv",
    }


def test_a_tree_stays_where_it_is(tree: Path):
    before = {path: path.stat() for path in tree.rglob("*")}
    assert index(tree) == 0
    dataset = load_dataset(tree.parent / "set")
    assert rows_of(dataset) == EXPECTED
    assert dataset.images == tree
    assert {path.name for path in dataset.folder.iterdir()} == {
        "dataset.json",
        "cifar100_dirmap.csv",
    }
    assert {path: path.stat() for path in tree.rglob("*")} == before


def test_writing_again_gives_the_same(pickles: Path):
    assert index(pickles) == 0
    folder = pickles.parent / "set"
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    # An image that was lost is written anew.
    (folder / "images/test/worm/0001.png").write_bytes(b"")
    assert index(pickles) == 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files


class Bomb:
    """A pickle that makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", FILES)
def test_what_is_not_published_is_never_unpickled(pickles: Path, capsys, name: str):
    folder, harm = pickles / "cifar-100-python", pickles.parent / "harm"
    # Whichever of them is bad, none is read.
    for other in FILES:
        original = pickle.loads((folder / other).read_bytes())
        (folder / other).write_bytes(pickle.dumps([Bomb(harm), original]))
    with pytest.MonkeyPatch.context() as patch:
        publish(folder, patch)
        (folder / name).write_bytes((folder / name).read_bytes() + b"x")
        line = refusal(capsys, pickles, "cifar100")
    assert f"{folder / name}: is not the published file; " in line
    assert not harm.exists()
    pickle.loads((folder / name).read_bytes())
    assert harm.exists()


def test_the_real_sums_hold_for_no_other_file(tmp_path: Path):
    pickle_halves(tmp_path / "root/cifar-100-python", {"train": 1, "test": 1})
    with pytest.raises(InputError, match="train: is not the published file"):
        Cifar100(root=tmp_path / "root", output=tmp_path / "set").sample()
    assert not (tmp_path / "set").exists()


def archive(root: Path) -> None:
    """As it is downloaded."""
    with tarfile.open(root / "cifar-100-python.tar.gz", "w:gz") as tar:
        tar.add(root / "cifar-100-python", "cifar-100-python")
    shutil.rmtree(root / "cifar-100-python")


def test_download_unpacks_an_archive_that_is_there(pickles: Path, monkeypatch: pytest.MonkeyPatch):
    archive(pickles)
    content = (pickles / "cifar-100-python.tar.gz").read_bytes()
    monkeypatch.setattr(CIFAR100, "tgz_md5", hashlib.md5(content).hexdigest())
    assert index(pickles, "--download") == 0
    assert rows_of(load_dataset(pickles.parent / "set")) == EXPECTED


def test_download_leaves_files_that_are_there(pickles: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", None)
    assert index(pickles, "--download") == 0


@pytest.mark.parametrize(
    "error",
    [
        URLError("no route to host"),
        RuntimeError("File not found or corrupted."),
        tarfile.ReadError("bad"),
        EOFError("Compressed file ended"),
        PermissionError(13, "Permission denied"),
    ],
)
def test_a_download_that_fails(tmp_path: Path, monkeypatch, capsys, error: Exception):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", fail)
    root = tmp_path / "root"
    root.mkdir()
    line = refusal(capsys, root, "cifar100", "--download")
    assert f"{root}: CIFAR-100 cannot be fetched into it ({error}); put " in line


def add_many(root: Path) -> None:
    for number in range(498):
        add(f"train/worm/more{number}.png")(root)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (remove("cifar-100-python"), "root: holds no CIFAR-100; expected is cifar-100-python/"),
        (remove("cifar-100-python/train"), "cifar-100-python/train: is missing"),
        (remove("cifar-100-python/meta"), "cifar-100-python/meta: is missing"),
        (archive, "cifar-100-python.tar.gz: is not unpacked; unpack it, or give --download"),
        (shutil.rmtree, "root: is not a folder"),
        (lambda root: (root / "test").mkdir(), "and cifar-100-python/ is asked for"),
    ],
)
def test_bad_roots(pickles: Path, capsys, change: Change, problem: str):
    change(pickles)
    assert problem in refusal(capsys, pickles, "cifar100")


def test_the_folder_itself(pickles: Path, capsys):
    folder = pickles.rename(pickles.parent / "top") / "cifar-100-python"
    line = refusal(capsys, folder, "cifar100")
    assert f"{folder}: is the folder cifar-100-python itself; give the folder" in line


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (remove("test"), "test: cannot be listed"),
        (remove("test/worm"), "class worm: "),
        (remove("train/worm"), "class worm: "),
        (add("train/dog/0001.png"), "train/dog: is not a class of CIFAR-100"),
        (add("test/0001.png"), "test: holds 1 image in no class folder, the first is 0001.png"),
        (add("test/wolf/0001.jpg"), "test/wolf: holds no images (.png)"),
        (lambda root: (root / "train/wolf").mkdir(), "train/wolf: holds no images (.png)"),
        (add("train/worm/a\tb.png"), "holds a control character"),
        (add_many, "train/worm: holds 501 images, where CIFAR-100 has 500"),
        (
            lambda root: (root / "train/worm/no.png").symlink_to(root / "nothing"),
            "train/worm/no.png: is a link to nothing",
        ),
    ],
)
def test_bad_trees(tree: Path, capsys, change: Change, problem: str):
    change(tree)
    assert problem in refusal(capsys, tree, "cifar100")


def test_what_is_left_out_is_said(tree: Path, capsys):
    for name in ("train/worm/a.jpg", "train/worm/b.JPG", "train/notes", "readme.txt", "meta.csv"):
        add(name)(tree)
    add("train/worm/more/0001.png")(tree)
    for name in (".hidden", "train/.DS_Store", "train/worm/._0001.png"):
        add(name)(tree)
    assert index(tree) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "left out" in line]
    assert lines == [
        "left out: train images that are not there, of 500 a class: apple 3, maple_tree 3, worm 3",
        "left out: test images that are not there, of 100 a class: apple 2, maple_tree 2, worm 2",
        "left out: 97 of 100 classes that are not there: aquarium_fish, baby, bear and 94 more",
        "left out: 1 file without a suffix",
        "left out: 2 .jpg files",
        "left out: 1 folder inside a class folder",
        f"left out: other contents of {tree}: meta.csv, readme.txt",
    ]
    assert rows_of(load_dataset(tree.parent / "set")) == EXPECTED


def whole() -> Dataset:
    """The published index, from the names alone."""
    splits = {
        half: {
            name: [f"{half}/{name}/{number:04}.png" for number in range(1, count + 1)]
            for name in CLASSES
        }
        for half, count in IMAGES_PER_CLASS.items()
    }
    ids = {name: number for number, name in enumerate(CLASSES)}
    rows = class_index(Path(), splits["train"], splits["test"], ids)
    return Dataset("cifar100", Path(), Path(), rows, dict(enumerate(CLASSES)), (1,))


def test_the_published_counts():
    assert departures(whole().index, Cifar100.published) == []
    assert len(CLASSES) == 100
    assert list(CLASSES) == sorted(CLASSES)
    assert (CLASSES[26], CLASSES[86]) == ("crab", "telephone")
    text = index_text(whole().index).splitlines()
    assert text[0] == ",class,object,session,im_num,im_path"
    assert text[1] == "0,0,0,0,1,train/apple/0001.png"
    assert text[501] == "500,0,0,1,1,test/apple/0001.png"
    assert text[60_000] == "59999,99,0,1,100,test/worm/0100.png"


@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize("run", range(3))
def test_published_class_orders(run: int, offline: bool):
    dataset = whole()
    small = dataset.index[dataset.index["im_num"] <= 3].reset_index(drop=True)
    dataset = Dataset(**{**vars(dataset), "index": small})
    order = [CLASSES[int(place)] for place in SHUFFLED[run].split()]
    one_by_one = lay_out(dataset, "class_iid", run, layout=TaskLayout(classes_per_task=1))
    assert list(one_by_one.classes[:10]) == order
    # As published, five a task; within a task labels follow the shuffled images.
    tasks = lay_out(dataset, "class_iid", run, offline, TaskLayout(classes_per_task=5))
    assert len(tasks.tasks) == 20
    for number in (0, 1):
        seen = {path.split("/")[1] for path in tasks.tasks[number].paths}
        first = 0 if offline else 5 * number
        assert seen == set(order[first : 5 * number + 5])
    assert [path.split("/")[1] for path in tasks.test.paths[::3]] == list(CLASSES)


@settings(max_examples=40)
@given(st.permutations(range(12)), st.integers(1, 11))
def test_any_order_of_listing_gives_the_same_index(order: list[int], halves: int):
    names = [f"worm/{number:04}.png" for number in order]
    train, test = names[:halves], names[halves:]
    found = class_index(Path(), {"worm": train}, {"worm": test}, {"worm": 99})
    assert found["im_path"].tolist() == sorted(train) + sorted(test)
    numbers = [*range(1, len(train) + 1), *range(1, len(test) + 1)]
    assert found["im_num"].tolist() == numbers
    assert found["session"].tolist() == [0] * len(train) + [1] * len(test)
    assert found[["class", "object"]].drop_duplicates().to_numpy().tolist() == [[99, 0]]


def test_from_files_to_a_stream(pickles: Path, network_words: list[str], tmp_path: Path, capsys):
    assert index(pickles) == 0
    folder = str(tmp_path / "set")
    assert main(["data", "stats", folder]) == 0
    assert "cifar100: 15 images of 3 classes" in capsys.readouterr().out
    lists = str(tmp_path / "lists")
    layout = ["--protocol", "class_iid", "--classes-per-task", "1"]
    assert main(["tasks", folder, "--output", lists, "--runs", "1", *layout]) == 0
    assert len([*Path(lists).rglob("train_task_*_filelist.txt")]) == 3
    words = ["stream", folder, *network_words, "--method", "finetune", "--runs", "1", *layout]
    words += ["--epochs-first-task", "1", "--classes", "apple", "worm"]
    assert main([*words, "--output", str(tmp_path / "results")]) == 0
    assert [*(tmp_path / "results").rglob("metrics.json")]


def test_a_folder_that_cannot_be_written(pickles: Path):
    with pytest.raises(InputError, match="/dev/null/set/.*0001.png: cannot be written"):
        index_source(Cifar100(root=pickles, output=Path("/dev/null/set")))


def test_pixels_are_those_of_the_files(pickles: Path):
    dataset, _ = index_source(Cifar100(root=pickles, output=pickles.parent / "set"))
    with Image.open(dataset.images / "test/maple_tree/0002.png") as image:
        assert np.asarray(image)[5, 7].tolist() == [200, 80, 20]
    content = io.BytesIO((dataset.images / "train/worm/0003.png").read_bytes())
    with Image.open(content) as image:
        assert np.asarray(image)[31, 31].tolist() == [0, 0, 30]


def test_the_disk_is_waited_for_twice_and_not_for_each_image(
    pickles: Path, monkeypatch: pytest.MonkeyPatch
):
    waits = []
    monkeypatch.setattr(os, "fsync", waits.append)
    assert index(pickles) == 0
    # For the index and for dataset.json.
    assert len(waits) == 2
