"""ImageNet as folders and as tar files, and images of very different sizes in a stream."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from class_trees import Change, add, picture, refusal, remove, write_all, write_tar
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.data.imagenet_info import ImageNetInfo

from crumb.cli.main import main
from crumb.data.class_folders import class_index
from crumb.data.index import Dataset, load_dataset
from crumb.data.protocol import TaskLayout, lay_out
from crumb.data.sets.base import index_source
from crumb.data.sets.imagenet import ImageNet, ImageNet900
from crumb.data.stats import departures
from crumb.data.synsets import SYNSETS
from crumb.features.features import PixelStore
from crumb.features.store import Cache

# Positions in the sorted synsets after the shuffle of runs 0, 1 and 2, the first ten.
SHUFFLED = [
    "993 859 298 553 672 971 27 231 306 706",
    "507 818 452 368 242 929 262 810 318 49",
    "37 726 846 295 924 658 682 286 880 272",
]
DOG, FISH = "n02084071", "n01440764"
# Suffixes of every kind that is taken; sorted by name, capitals first.
FILES = {
    f"train/{DOG}": ["a.JPEG", "b.jpg", "c.png"],
    f"train/{FISH}": ["Z.JPEG", "a.jpeg"],
    f"val/{DOG}": ["ILSVRC2012_val_00000002.JPEG"],
    f"val/{FISH}": ["ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000007.JPEG"],
}
ROWS = [
    (number, 0, session, place, f"{half}/{synset}/{name}")
    for number, synset in enumerate((FISH, DOG))
    for session, half in enumerate(("train", "val"))
    for place, name in enumerate(FILES[f"{half}/{synset}"], 1)
]


def content(path: str) -> bytes:
    """An image of its own grey."""
    kind = "PNG" if path.endswith(".png") else "JPEG"
    grey = 20 + 25 * [row[-1] for row in ROWS].index(path)
    return picture(grey, (30, 20), kind)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for *_, path in ROWS:
        add(path, content(path))(tmp_path / "tree")
    return tmp_path / "tree"


def shard_of(path: str) -> str:
    """The images are spread over two tar files a split."""
    split, _, name = path.split("/")
    return f"{split}-{int(name.lower()[0] != 'a'):03}.tar"


def tar_of(path: str) -> str:
    """Path of an image of the tree, in the tar files."""
    return f"{shard_of(path)}/{path.partition('/')[2]}"


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    """The tree as tar files."""
    contents: dict[str, list[tuple[str, bytes]]] = {}
    for *_, path in ROWS:
        name = path.partition("/")[2]
        contents.setdefault(shard_of(path), []).append((name, content(path)))
    for name, files in contents.items():
        write_tar(tmp_path / "tars" / name, files)
    return tmp_path / "tars"


def index(root: Path, *more: object) -> Dataset:
    output = root.parent / "set"
    assert main(["index", "imagenet", str(root), "--output", str(output), *map(str, more)]) == 0
    return load_dataset(output)


def rows_of(dataset: Dataset) -> list[tuple]:
    return list(dataset.index.itertuples(index=False, name=None))


def left_out(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().out.splitlines()
    return [line.removeprefix("left out: ") for line in lines if line.startswith("left out: ")]


def test_the_synsets():
    assert list(SYNSETS) == sorted(set(SYNSETS))
    assert len(SYNSETS) == 1000
    assert list(SYNSETS) == ImageNetInfo("imagenet-1k").label_names()


def test_a_tree(tree: Path, capsys):
    before = {path: path.stat().st_mtime_ns for path in tree.rglob("*")}
    dataset = index(tree)
    assert rows_of(dataset) == ROWS
    assert dataset.class_names == {0: FISH, 1: DOG}
    assert (dataset.name, dataset.test_sessions) == ("imagenet", (1,))
    assert dataset.images == tree
    assert left_out(capsys) == []
    assert {path.name for path in dataset.folder.iterdir()} == {
        "dataset.json",
        "imagenet_dirmap.csv",
    }
    assert {path: path.stat().st_mtime_ns for path in tree.rglob("*")} == before


def test_tar_files(tars: Path, capsys):
    dataset = index(tars)
    expected = [(*row[:2], row[2], tar_of(row[-1])) for row in ROWS]
    found = [(*row[:2], row[2], row[-1]) for row in rows_of(dataset)]
    assert sorted(found) == sorted(expected)
    assert dataset.class_names == {0: FISH, 1: DOG}
    # Numbered in the order of the paths, which is by tar file first.
    of_dog = [row[3:] for row in rows_of(dataset) if row[:3] == (1, 0, 0)]
    assert of_dog == [
        (1, f"train-000.tar/{DOG}/a.JPEG"),
        (2, f"train-001.tar/{DOG}/b.jpg"),
        (3, f"train-001.tar/{DOG}/c.png"),
    ]
    assert left_out(capsys) == []


def webdataset(root: Path, texts: Callable[[str], str]) -> None:
    for half in ("train", "val"):
        files = []
        for number, path in enumerate(row[-1] for row in ROWS if f"{half}/" in row[-1]):
            key, kind = f"{number:05}", path.rpartition(".")[2].lower()
            files += [(f"{key}.{kind}", content(path)), (f"{key}.json", b"{}")]
            files += [(f"{key}.cls", texts(path.split("/")[1]).encode())]
        write_tar(root / f"{half}-000.tar", files)


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        ({FISH: FISH, DOG: f"{DOG}\n"}, [FISH, DOG]),
        # By value, not by their letters.
        ({FISH: "9", DOG: "10"}, ["9", "10"]),
    ],
)
def test_tar_files_as_webdataset_writes_them(
    tmp_path: Path, capsys, texts: dict[str, str], names: list[str]
):
    webdataset(tmp_path / "root", texts.__getitem__)
    dataset = index(tmp_path / "root")
    assert list(dataset.class_names.items()) == [*enumerate(names)]
    assert [row[:4] for row in rows_of(dataset)] == [row[:4] for row in ROWS]
    assert rows_of(dataset)[0][-1] == "train-000.tar/00000.jpeg"
    assert left_out(capsys) == ["8 .json files"]


def test_a_class_text_without_an_image(tmp_path: Path, capsys):
    webdataset(tmp_path / "root", str)
    write_tar(tmp_path / "root/val-001.tar", [("1.cls", b"x"), ("1.webp", b""), ("no", b"")])
    assert rows_of(index(tmp_path / "root")) != []
    lines = left_out(capsys)
    assert lines == ["1 file without a suffix", "1 .cls file", "8 .json files", "1 .webp file"]


def test_one_split_as_folders_and_one_as_tar_files(tree: Path, tars: Path):
    for tar in tars.glob("val-*.tar"):
        tar.rename(tree / tar.name)
    remove("val")(tree)
    dataset = index(tree)
    assert [row[:4] for row in rows_of(dataset)] == [row[:4] for row in ROWS]
    assert {row[-1].split("/")[0] for row in rows_of(dataset)} == {"train", "val-001.tar"}


def test_what_is_left_out_is_said(tree: Path, capsys):
    for name in ("a.txt", "b.TXT", "c.webp", "d", "more/e.JPEG", ".f", "._a.JPEG"):
        add(f"train/{DOG}/{name}")(tree)
    for name in ("val/list.csv", "val/.hidden", "LOC_synset_mapping.txt", "test/x.JPEG", ".git"):
        add(name)(tree)
    (tree / "train-0.tar").mkdir()
    assert rows_of(index(tree)) == ROWS
    assert left_out(capsys) == [
        "1 file without a suffix",
        "1 .csv file",
        "2 .txt files",
        "1 .webp file",
        "1 folder inside a class folder",
        f"other contents of {tree}: LOC_synset_mapping.txt, test, train-0.tar",
    ]


def test_links_to_images_and_classes_are_followed(tree: Path):
    elsewhere = tree.parent / "elsewhere"
    (tree / f"train/{DOG}").rename(elsewhere)
    (tree / f"train/{DOG}").symlink_to(elsewhere)
    (tree / f"val/{FISH}/ILSVRC2012_val_00000007.JPEG").unlink()
    (tree / f"val/{FISH}/ILSVRC2012_val_00000007.JPEG").symlink_to(elsewhere / "a.JPEG")
    assert rows_of(index(tree)) == ROWS


def flat(tree: Path) -> None:
    for path in (tree / "val").glob("*/*"):
        path.rename(tree / "val" / path.name)
    for path in (tree / "val").glob("n*"):
        path.rmdir()


def rename(old: str, new: str | bytes) -> Change:
    return lambda root: (root / old).rename(root / os.fsdecode(new))


def everything(root: Path) -> None:
    for path in [*root.iterdir()]:
        remove(path.name)(root)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda tree: tree.rename(tree.parent / "away"), "tree: is not a folder"),
        (everything, "tree: has no folder train and no train-*.tar; expected are"),
        (remove("val"), "tree: has no folder val and no val-*.tar; expected are"),
        (remove(f"val/{DOG}"), f"class {DOG}: "),
        (remove(f"train/{FISH}"), f"class {FISH}: "),
        (lambda tree: (tree / "train/n09").mkdir(), "train/n09: holds no images (.jpeg, .jpg,"),
        (add("val/n09/x.webp"), "val/n09: holds no images (.jpeg, .jpg, .png)"),
        (
            flat,
            "tree/val: holds 3 images in no class folder, the first is "
            "ILSVRC2012_val_00000001.JPEG; move them into val/<synset>/, as LOC_val_solution.csv",
        ),
        (add("train/x.JPEG"), "train: holds 1 image in no class folder, the first is x.JPEG; move"),
        (add("train-000.tar"), "train: exists twice, as a folder and as train-000.tar; keep one"),
        (add("val-0.tar.gz"), "val-0.tar.gz: is a compressed tar file; uncompress it"),
        (add("train-0.tgz"), "train-0.tgz: is a compressed tar file; uncompress it"),
        (rename(f"train/{DOG}/a.JPEG", f"train/{DOG}/a\n.JPEG"), "holds a control character"),
        (rename(f"train/{DOG}/a.JPEG", b"train/n02084071/\xe9.JPEG"), "a name that is not UTF-8"),
        (rename(f"train/{DOG}", f"train/ {DOG}"), f"class {DOG}: "),
        (
            lambda tree: (tree / f"val/{DOG}/x.JPEG").symlink_to("nothing"),
            f"val/{DOG}/x.JPEG: is a link to nothing",
        ),
        (lambda tree: os.mkfifo(tree / f"val/{DOG}/x.JPEG"), f"val/{DOG}/x.JPEG: is not a file"),
    ],
)
def test_bad_trees(tree: Path, capsys, change: Change, problem: str):
    change(tree)
    line = refusal(capsys, tree, "imagenet")
    assert problem in line


def test_the_archives_as_downloaded(tmp_path: Path, capsys):
    add("ILSVRC2012_img_train.tar")(tmp_path / "root")
    line = refusal(capsys, tmp_path / "root", "imagenet")
    assert "ILSVRC2012_img_train.tar: is a tar file as downloaded" in line
    assert "unpack it into train/<synset>/" in line


def shard(*files: tuple[str, bytes]) -> Change:
    return lambda root: write_tar(root / "train-000.tar", files)


def link(root: Path) -> None:
    with tarfile.open(root / "train-000.tar", "w:") as tar:
        member = tarfile.TarInfo(f"{DOG}/x.JPEG")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)


def cut(root: Path) -> None:
    os.truncate(root / "train-001.tar", 2000)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (shard(("x.JPEG", b"")), "has the member 'x.JPEG' of unknown class; name members"),
        (shard((f"train/{DOG}/x.JPEG", b"")), f"'train/{DOG}/x.JPEG' of unknown class"),
        (shard((f"{DOG}.tar", b"")), f"holds the tar file {DOG}.tar, which is not read in place"),
        (shard(("1.jpg", b""), ("1.cls", b"")), "has the member '1.cls', which is not a name"),
        (shard(("1.jpg", b""), ("1.cls", b"a\nb")), "has the member '1.cls', which is not a name"),
        (shard(("1.jpg", b""), ("1.cls", b"\xff")), "has the member '1.cls', which is not a name"),
        (
            shard(("1.jpg", b""), ("1.cls", b"x" * 300)),
            "has the member '1.cls', which is not a name",
        ),
        (shard(("1.jpg", b""), ("1.cls", b"unknown")), "class unknown: "),
        (shard((f"{DOG}/../../x.JPEG", b"")), "leaves the images root"),
        (shard((f"/{DOG}/x.JPEG", b"")), "is absolute"),
        (link, f"has the member '{DOG}/x.JPEG', which is not a regular file"),
        (cut, "train-001.tar: is cut short"),
        (add("train-001.tar", b"what?" * 300), "train-001.tar: is cut short, damaged or no tar"),
        (add("train-002.tar", b"\x1f\x8b" + bytes(99)), "train-002.tar: is compressed with gzip"),
        (lambda root: [tar.unlink() for tar in root.glob("val-*")], "no folder val and no val-*"),
        (lambda root: write_tar(root / "val-001.tar", []), "val-*.tar: hold no images"),
    ],
)
def test_bad_tar_files(tars: Path, capsys, change: Change, problem: str):
    change(tars)
    assert problem in refusal(capsys, tars, "imagenet")


def test_the_published_counts(tmp_path: Path):
    thousand = write_all(tmp_path / "root")
    dataset, _ = index_source(ImageNet(root=thousand, output=tmp_path / "set"))
    assert tuple(dataset.class_names.values()) == ImageNet.published_classes
    assert departures(dataset.index, ImageNet.published) == ["images"]
    assert ImageNet900.published == {}


# The published orders.


@pytest.fixture(scope="module")
def names_alone() -> Dataset:
    """Two images of each class, from their names."""
    train, test = (
        {synset: [f"{split}/{synset}/{n}.JPEG" for n in "ab"] for synset in SYNSETS}
        for split in ("train", "val")
    )
    rows = class_index(Path(), train, test, {synset: n for n, synset in enumerate(SYNSETS)})
    return Dataset("imagenet", Path(), Path(), rows, dict(enumerate(SYNSETS)), (1,))


@pytest.mark.parametrize("run", range(3))
def test_published_class_orders(names_alone: Dataset, run: int):
    order = [SYNSETS[int(place)] for place in SHUFFLED[run].split()]
    one_by_one = lay_out(names_alone, "class_iid", run, layout=TaskLayout(classes_per_task=1))
    assert list(one_by_one.classes[:10]) == order
    # As published, 100 a task.
    tasks = lay_out(names_alone, "class_iid", run, layout=TaskLayout(classes_per_task=100)).tasks
    assert [len(task.paths) for task in tasks] == [200] * 10
    assert {path.split("/")[1] for path in tasks[0].paths} == set(one_by_one.classes[:100])


# Streams.


@pytest.mark.parametrize("kind", ["tree", "tars"])
def test_from_images_to_a_stream(
    request: pytest.FixtureRequest, kind: str, network_words: list[str], tmp_path: Path, capsys
):
    index(request.getfixturevalue(kind))
    folder = str(tmp_path / "set")
    assert main(["data", "stats", folder]) == 0
    assert "imagenet: 8 images of 2 classes" in capsys.readouterr().out
    layout = ["--protocol", "class_iid", "--classes-per-task", "1", "--runs", "1"]
    assert main(["tasks", folder, "--output", str(tmp_path / "lists"), *layout]) == 0
    assert len([*(tmp_path / "lists").rglob("train_task_*_filelist.txt")]) == 2
    words = ["stream", folder, *network_words, "--method", "finetune", *layout]
    words += ["--epochs-first-task", "1", "--output", str(tmp_path / "results")]
    assert main([*words, "--on-error", "skip"]) == 0
    assert [*(tmp_path / "results").rglob("metrics.json")]


def test_features_are_those_of_the_tree(tree: Path, tars: Path, tmp_path: Path):
    of_tree, of_tars = (PixelStore(root, 16, torch.device("cpu"), 2) for root in (tree, tars))
    paths = [row[-1] for row in ROWS]
    of_tars.hold([*map(tar_of, paths)], Cache("memory", 1 << 20, tmp_path))
    assert torch.equal(of_tars.get([*map(tar_of, paths)]), of_tree.get(paths))


IMAGES = st.sets(
    st.from_regex(r"[a-zA-Z_]{1,4}\.(JPEG|jpg|PNG)", fullmatch=True), min_size=1, max_size=4
)
CLASSES = st.dictionaries(
    st.from_regex("n[0-9]{3}", fullmatch=True), st.tuples(IMAGES, IMAGES), min_size=1, max_size=5
)


@settings(max_examples=20)
@given(CLASSES)
def test_any_tree_and_its_tar_files_have_equal_rows(tmp_path_factory, classes):
    top = tmp_path_factory.mktemp("any")
    for half, split in enumerate(("train", "val")):
        files = [
            (f"{name}/{image}", b"") for name, halves in classes.items() for image in halves[half]
        ]
        write_tar(top / "tars" / f"{split}-0.tar", files)
        for name, _ in files:
            add(f"{split}/{name}")(top / "tree")
    found = [
        index_source(ImageNet(root=top / kind, output=top / f"{kind}-set"))[0]
        for kind in ("tree", "tars")
    ]
    assert found[0].class_names == found[1].class_names == dict(enumerate(sorted(classes)))
    expected = [
        (number, 0, session, place, f"{split}{{}}/{name}/{image}")
        for number, name in enumerate(sorted(classes))
        for session, split in enumerate(("train", "val"))
        for place, image in enumerate(sorted(classes[name][session]), 1)
    ]
    for dataset, kind in zip(found, ("", "-0.tar"), strict=True):
        assert rows_of(dataset) == [(*row[:4], row[4].format(kind)) for row in expected]
