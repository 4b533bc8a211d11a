from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from damaged import damaged
from hypothesis import given, settings
from hypothesis import strategies as st

from crumb.data.filelists import list_folder, read_task_list, write_task_list
from crumb.data.index import COLUMNS, Dataset, path_problem
from crumb.data.protocol import PROTOCOLS, Frames, TaskLayout, TaskList, lay_out
from crumb.errors import InputError

NAMES = {1: "cup", 2: "mug", 3: "spoon", 4: "ball"}


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    keys = itertools.product(NAMES, (1, 2), (1, 2, 3), (1, 2))
    rows = [(*key, "c{}/o{}/s{}_{}.png".format(*key)) for key in keys]
    images = tmp_path / "images"
    for *_, path in rows:
        (images / path).parent.mkdir(parents=True, exist_ok=True)
        (images / path).touch()
    index = pd.DataFrame(rows, columns=list(COLUMNS))
    return Dataset("tiny", tmp_path, images, index, NAMES, (3,))


@pytest.fixture
def lists(dataset: Dataset, tmp_path: Path) -> Path:
    """Folder of the lists of class_iid, run 0, stream."""
    write_task_list(lay_out(dataset, "class_iid", 0), tmp_path / "lists")
    return list_folder(tmp_path / "lists", "class_iid", 0, offline=False)


def read(dataset: Dataset, names: list[str] | None = None) -> TaskList:
    return read_task_list(dataset.folder / "lists", "class_iid", 0, False, dataset.images, names)


def same(first: Frames, second: Frames) -> bool:
    return first.paths == second.paths and np.array_equal(first.labels, second.labels)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("offline", [False, True])
def test_lists_are_read_back_as_written(
    dataset: Dataset, tmp_path: Path, protocol: str, offline: bool
):
    tasks = lay_out(dataset, protocol, 7, offline)
    write_task_list(tasks, tmp_path / "lists")
    again = read_task_list(
        tmp_path / "lists", protocol, 7, offline, dataset.images, list(tasks.classes)
    )
    assert (again.protocol, again.run, again.offline) == (protocol, 7, offline)
    assert again.classes == tasks.classes
    assert all(map(same, again.tasks, tasks.tasks))
    assert len(again.tasks) == len(tasks.tasks)
    assert same(again.test, tasks.test)


def test_published_format(dataset: Dataset, lists: Path):
    assert lists == dataset.folder / "lists/class_iid/run0/stream"
    assert sorted(path.name for path in lists.iterdir()) == [
        "test_filelist.txt",
        "train_all.txt",
        "train_task_00_filelist.txt",
        "train_task_01_filelist.txt",
    ]
    tasks = lay_out(dataset, "class_iid", 0)
    text = (lists / "train_task_01_filelist.txt").read_bytes()
    first = tasks.tasks[1]
    assert text.startswith(f"{first.paths[0]} {first.labels[0]}\n".encode())
    assert text.count(b"\n") == len(first.paths)
    table = (lists / "train_all.txt").read_text().splitlines()
    assert table[0] == ",Unnamed: 0,class,object,session,im_num,im_path,task,label"
    row = dataset.index["im_path"].tolist().index(tasks.tasks[0].paths[0])
    assert table[1].startswith(f"0,{row},")
    assert table[1].endswith(f"{tasks.tasks[0].paths[0]},0,0")
    assert table[-1].split(",")[0] == str(len(table) - 2)
    assert table[-1].split(",")[-2] == "1"


def test_lists_of_an_earlier_layout_are_removed(dataset: Dataset, lists: Path):
    one_task = lay_out(dataset, "class_iid", 0, layout=TaskLayout(classes_per_task=4))
    write_task_list(one_task, dataset.folder / "lists")
    assert not (lists / "train_task_01_filelist.txt").exists()
    assert len(read(dataset).tasks) == 1


def test_classes_are_named_by_label_without_names(dataset: Dataset, lists: Path):
    assert read(dataset).classes == ("0", "1", "2", "3")


def test_windows_line_ends_and_byte_order_mark(dataset: Dataset, lists: Path):
    plain = read(dataset)
    for path in lists.glob("*_filelist.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    again = read(dataset)
    assert all(map(same, (*again.tasks, again.test), (*plain.tasks, plain.test)))


def test_a_last_line_without_line_end_counts(dataset: Dataset, lists: Path):
    path = lists / "test_filelist.txt"
    path.write_text(path.read_text().rstrip("\n"))
    assert len(read(dataset).test.paths) == 16


def change(name: str, line: int, new: Callable[[str], str]) -> Callable[[Path], None]:
    """A change of one line (from 1) of a list."""

    def apply(lists: Path) -> None:
        lines = (lists / name).read_text().splitlines()
        lines[line - 1] = new(lines[line - 1])
        (lists / name).write_text("\n".join(lines) + "\n")

    return apply


FIRST, SECOND = "train_task_00_filelist.txt", "train_task_01_filelist.txt"
TEST = "test_filelist.txt"


def relabel(label: str) -> Callable[[str], str]:
    return lambda line: f"{line.split()[0]} {label}"


def move(path: str) -> Callable[[str], str]:
    return lambda line: f"{path} {line.split()[1]}"


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda lists: (lists / FIRST).unlink(), f"{FIRST}: cannot be read"),
        (lambda lists: (lists / TEST).unlink(), f"{TEST}: cannot be read"),
        (lambda lists: (lists / SECOND).write_text(""), f"{SECOND}: is empty"),
        (change(FIRST, 3, lambda _: "nonsense"), f"{FIRST}, line 3: 'nonsense' is not a path"),
        (change(FIRST, 3, lambda _: ""), f"{FIRST}, line 3: '' is not a path"),
        (change(FIRST, 2, lambda line: f"my {line}"), f"{FIRST}, line 2: the image"),
        (change(FIRST, 2, lambda line: line.replace(" ", "  ")), f"{FIRST}, line 2: the path"),
        (change(FIRST, 2, lambda line: f" {line[-1]}"), f"{FIRST}, line 2: the path is empty"),
        (change(FIRST, 4, relabel("-1")), f"{FIRST}, line 4: the label '-1' is negative"),
        (change(FIRST, 4, relabel("1.0")), f"{FIRST}, line 4: the label '1.0'"),
        (change(FIRST, 4, relabel("1" * 10)), f"{FIRST}, line 4: the label '1111111111' is too"),
        (change(FIRST, 4, relabel("one")), f"{FIRST}, line 4: the label 'one'"),
        (change(FIRST, 4, relabel("7")), f"{FIRST}, line 4: has label 7, but no line"),
        (change(SECOND, 5, relabel("5")), f"{SECOND}, line 5: has label 5, but no line"),
        (change(TEST, 6, relabel("4")), f"{TEST}, line 6: has the unknown class 4"),
        (change(FIRST, 1, move("/etc/passwd")), f"{FIRST}, line 1: the path '/etc/passwd' is abs"),
        (change(TEST, 1, move("c1/../../x.png")), f"{TEST}, line 1: the path"),
        (change(TEST, 2, move("c1/none.png")), f"{TEST}, line 2: the image"),
        (change(TEST, 2, move("c1/o1")), f"{TEST}, line 2: the image"),
        (change(TEST, 2, move("c1/o1/s3_1.png")), f"{TEST}, line 2: repeats c1/o1/s3_1.png"),
    ],
)
def test_bad_lists(dataset: Dataset, lists: Path, damage: Callable[[Path], object], complaint: str):
    damage(lists)
    with pytest.raises(InputError) as caught:
        read(dataset)
    assert str(lists / complaint) in str(caught.value)


def test_a_gap_that_later_tasks_fill_is_still_a_gap(dataset: Dataset, lists: Path):
    first, second = (lists / FIRST).read_text(), (lists / SECOND).read_text()
    (lists / FIRST).write_text(second)
    (lists / SECOND).write_text(first)
    with pytest.raises(InputError, match=r"train_task_00_filelist\.txt, line \d+: has label [23]"):
        read(dataset)


def test_one_image_with_two_labels(dataset: Dataset, lists: Path):
    image = lay_out(dataset, "class_iid", 0).tasks[0].paths[0]
    change(SECOND, 1, move(image))(lists)
    with pytest.raises(InputError, match=f"{SECOND}, line 1: gives {image} the label"):
        read(dataset)


def test_repeats_apart_in_the_test_list(dataset: Dataset, lists: Path):
    lines = (lists / TEST).read_text().splitlines()
    (lists / TEST).write_text("\n".join([*lines, lines[0]]) + "\n")
    with pytest.raises(InputError, match=rf"line {len(lines) + 1}: repeats .* of line 1;"):
        read(dataset)


def test_a_clip_continued_backwards_is_no_repeat(dataset: Dataset, lists: Path):
    lines = (lists / TEST).read_text().splitlines()
    (lists / TEST).write_text("\n".join([*lines, lines[-2]]) + "\n")
    assert read(dataset).test.paths[-3:] == tuple(
        line.split()[0] for line in [*lines, lines[-2]][-3:]
    )


@pytest.mark.parametrize("of", ["file", "folder"])
def test_links_out_of_the_images_root(dataset: Dataset, lists: Path, tmp_path: Path, of: str):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x.png").touch()
    link, target = (
        (dataset.images / "x.png", outside / "x.png")
        if of == "file"
        else (dataset.images / "linked", outside)
    )
    link.symlink_to(target)
    change(TEST, 1, move("x.png" if of == "file" else "linked/x.png"))(lists)
    with pytest.raises(InputError, match=r"test_filelist\.txt, line 1: .* leads out"):
        read(dataset)


def test_links_within_the_images_root_are_read(dataset: Dataset, lists: Path):
    (dataset.images / "linked").symlink_to(dataset.images / "c1")
    change(TEST, 1, move("linked/o1/s3_1.png"))(lists)
    assert read(dataset).test.paths[0] == "linked/o1/s3_1.png"


def test_bad_arguments(dataset: Dataset, lists: Path):
    with pytest.raises(InputError, match="have 4 classes where 1 names"):
        read(dataset, ["cup"])
    with pytest.raises(InputError, match="protocol"):
        read_task_list(dataset.folder, "../x", 0, False, dataset.images, None)
    with pytest.raises(InputError, match="run5/stream: is not a folder"):
        read_task_list(dataset.folder / "lists", "class_iid", 5, False, dataset.images, None)


NAMES_OF_FILES = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters="/"),
    min_size=1,
    max_size=20,
).filter(lambda name: path_problem(name) is None and name != ".")


@settings(max_examples=50)
@given(
    st.lists(NAMES_OF_FILES, min_size=1, max_size=12, unique=True),
    st.lists(st.integers(1, 3), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
)
def test_any_lists_are_read_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], sizes: list[int], run: int
):
    """Each task has some classes, each class every image name in a folder of its own."""
    folder = tmp_path_factory.mktemp("lists")
    labels, tasks = iter(range(sum(sizes))), []
    for size in sizes:
        pairs = [
            (f"c {label}/{name}", label)
            for label in itertools.islice(labels, size)
            for name in names
        ]
        tasks.append(Frames(tuple(p for p, _ in pairs), np.array([n for _, n in pairs])))
    test = Frames(tasks[0].paths[::-1], tasks[0].labels[::-1])
    images = folder / "images"
    for path in {path for task in tasks for path in task.paths}:
        (images / path).parent.mkdir(parents=True, exist_ok=True)
        (images / path).touch()
    classes = tuple(f"class {label}" for label in range(sum(sizes)))
    write_task_list(TaskList("iid", run, False, tuple(tasks), test, classes), folder)
    again = read_task_list(folder, "iid", run, False, images, classes)
    assert (again.run, again.classes) == (run, classes)
    assert len(again.tasks) == len(tasks)
    assert all(map(same, (*again.tasks, again.test), (*tasks, test)))


GOOD = b"a/1.png 0\na/2 x.png 0\nb/1.png 1\n"


@settings(max_examples=300)
@given(st.binary() | damaged(GOOD), st.sampled_from([FIRST, TEST]))
def test_any_bytes_are_a_list_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, damaged_name: str
):
    folder = tmp_path_factory.mktemp("lists")
    lists = list_folder(folder, "iid", 0, offline=False)
    lists.mkdir(parents=True)
    for path in ("a/1.png", "a/2 x.png", "b/1.png"):
        (folder / "images" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "images" / path).touch()
    for name in (FIRST, TEST):
        (lists / name).write_bytes(content if name == damaged_name else GOOD)
    tasks, refusal = None, ""
    try:
        tasks = read_task_list(folder, "iid", 0, False, folder / "images", None)
    except InputError as error:
        refusal = str(error)
    if tasks is None:
        assert refusal.startswith(str(lists))
        assert len(refusal.splitlines()) == 1
        return
    trained = set(tasks.tasks[0].labels.tolist())
    assert trained == set(range(len(tasks.classes))) >= set(tasks.test.labels.tolist())
    for frames in (*tasks.tasks, tasks.test):
        assert len(frames.paths) == len(frames.labels) > 0
        assert all((folder / "images" / path).is_file() for path in frames.paths)
