"""File lists that cannot be used, and unusual ones that can."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from crumb.cli.main import main
from crumb.data.filelists import list_folder, write_task_list
from crumb.data.index import Dataset
from crumb.data.protocol import TaskLayout, TaskList, lay_out

FIRST, SECOND = "train_task_00_filelist.txt", "train_task_01_filelist.txt"
TEST = "test_filelist.txt"


@pytest.fixture
def tasks(dataset: Dataset) -> TaskList:
    return lay_out(dataset, "class_instance", 0)


@pytest.fixture
def lists(tasks: TaskList, tmp_path: Path) -> Path:
    write_task_list(tasks, tmp_path / "lists")
    return tmp_path / "lists"


@pytest.fixture
def folder(lists: Path) -> Path:
    """The folder that the lists themselves lie in."""
    return list_folder(lists, "class_instance", 0, offline=False)


def listed(lists: Path, name: str, change: Callable[[list[str]], list[str]]) -> None:
    path = lists / "class_instance" / "run0" / "stream" / name
    path.write_text("".join(f"{line}\n" for line in change(path.read_text().splitlines())))


def path_of(row: str) -> str:
    return row.rpartition(" ")[0]


# Another second line of the list of the first task, and what is said of it.
BAD_LINES = [
    (lambda row: path_of(row), "is not a path and a label"),
    (lambda row: "", "'' is not a path and a label"),
    (lambda row: row.replace(" ", "\t"), "is not a path and a label"),
    (lambda row: row.replace(" ", ","), "is not a path and a label"),
    (lambda row: row.replace(" ", "  "), "begins or ends with a blank"),
    (lambda row: f" {row}", "begins or ends with a blank"),
    (lambda row: f"{row} ", "the label '' is not an integer"),
    (lambda row: f"{row}x", "is not an integer"),
    (lambda row: f"{row}.0", "the label '0.0' is not an integer"),
    (lambda row: f"{row}\0", "the label '0\\x00' is not an integer"),
    (lambda row: f"{row} 0", "does not exist"),
    (lambda row: f"{path_of(row)} -1", "the label '-1' is negative"),
    (lambda row: f"{path_of(row)} 9", "has label 9, but no line up to this task has label 2"),
    (lambda row: f"{path_of(row)} {1 << 20}", "has label 1048576, but no line up to this task"),
    (lambda row: f"{path_of(row)} {1 << 40}", "the label '1099511627776' is too large"),
    (lambda row: f"{path_of(row)} {'9' * (1 << 20)}", "... (1048576 characters) is too large"),
    (lambda row: f"../images/{row}", "leaves the images root"),
    (lambda row: "/etc/hostname 0", "the path '/etc/hostname' is absolute"),
    (lambda row: " 0", "the path is empty"),
    (lambda row: ". 0", "the path '.' leads out of the images root"),
    (lambda row: "no_such.png 0", "no_such.png"),
    (lambda row: "no\0such.png 0", "'no\\x00such.png' holds a control character"),
    (lambda row: "no\tsuch.png 0", "'no\\tsuch.png' holds a control character"),
    (lambda row: row.replace("/", "\\"), "does not exist"),
    (lambda row: f"{path_of(row).rpartition('/')[0]} 0", "does not exist"),
    (lambda row: "x" * (1 << 20), "... (1048576 characters) is not a path and a label"),
    (lambda row: f"{'x' * (1 << 20)} 0", "cannot be looked at (File name too long)"),
]


@pytest.mark.parametrize(("change", "problem"), BAD_LINES)
def test_bad_lines(refused, stream, lists: Path, change: Callable, problem: str):
    listed(lists, FIRST, lambda rows: [rows[0], change(rows[1]), *rows[2:]])
    line = refused(*stream, "--filelists", lists, names=(f"{FIRST}, line 2", problem))
    assert len(line) < 1000


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        (TEST, lambda rows: [*rows, path_of(rows[0]) + " 4"], "gives"),
        (TEST, lambda rows: [*rows, rows[0]], "repeats"),
        (TEST, lambda rows: [path_of(rows[0]) + " 4", *rows[1:]], "has the unknown class 4"),
        (TEST, lambda rows: [row for row in rows if not row.endswith(" 1")], "no test image"),
        (FIRST, lambda rows: [*rows, path_of(rows[0]) + " 9"], "the label 9, before it was"),
        (FIRST, lambda rows: ["path label", *rows], "the label 'label' is not an integer"),
        (SECOND, lambda rows: [row.replace(" 2", " 4") for row in rows], "label 4, but no line"),
        (FIRST, lambda rows: [], "is empty"),
        (SECOND, lambda rows: ["", "", ""], "is empty"),
        (TEST, lambda rows: [], "is empty"),
    ],
)
def test_bad_lists(refused, stream, lists: Path, name: str, change: Callable, problem: str):
    listed(lists, name, change)
    where = str(lists) if problem == "no test image" else name
    refused(*stream, "--filelists", lists, names=(where, problem))


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"\xff\xfe", "is not UTF-8 text"), (bytes(5000), "is not a path and a label")],
)
@pytest.mark.parametrize("name", [FIRST, TEST])
def test_lists_of_no_text(refused, stream, lists, folder: Path, name, content: bytes, problem: str):
    (folder / name).write_bytes(content)
    line = refused(*stream, "--filelists", lists, names=(name, problem))
    assert len(line) < 1000


@pytest.mark.parametrize("name", [FIRST, SECOND, TEST])
def test_a_list_that_is_not_there(refused, stream, lists: Path, folder: Path, name: str):
    # Without the last training list there is one task less, and its classes are not known.
    (folder / name).unlink()
    refused(*stream, "--filelists", lists, names=TEST if name == SECOND else name)


def test_a_list_that_is_a_folder(refused, stream, lists: Path, folder: Path):
    (folder / TEST).unlink()
    (folder / TEST).mkdir()
    refused(*stream, "--filelists", lists, names=(TEST, "it is a folder"))


@pytest.mark.parametrize("name", ["train_task_1_filelist.txt", "train_task_002_filelist.txt"])
def test_a_list_whose_number_is_written_otherwise(refused, stream, lists, folder: Path, name: str):
    shutil.copy(folder / FIRST, folder / name)
    refused(*stream, "--filelists", lists, names=(name, "is not called train_task_0"))


def test_a_task_that_is_missing(refused, stream, lists: Path, folder: Path):
    (folder / SECOND).rename(folder / f"train_task_{10**9}_filelist.txt")
    refused(*stream, "--filelists", lists, names=f"{SECOND}: cannot be read")


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (["--filelists", "/no/such/folder"], "/no/such/folder"),
        (["--first-run", "5"], "run5"),
        (["--runs", "2"], "run1"),
        (["--protocol", "iid"], "iid"),
        (["--method", "offline"], "run0/offline"),
        (["--classes", "car", "bed"], "with the same --classes"),
    ],
)
def test_lists_of_something_else(refused, stream, lists: Path, flags: list[str], names: str):
    refused(*stream, "--filelists", lists, *flags, names=names)


@pytest.mark.parametrize("linked", ["image", "folder", "nowhere", "itself"])
def test_links_out_of_the_images(
    refused, tasks: TaskList, dataset_copy: Path, network_words, lists: Path, output: Path, linked
):
    link = dataset_copy / "images" / tasks.tasks[0].paths[0]
    outside = dataset_copy.parent / "outside"
    if linked == "folder":
        link = link.parent
    link.rename(outside)
    link.symlink_to({"nowhere": dataset_copy / "gone", "itself": link}.get(linked, outside))
    words = [dataset_copy, *network_words, "--output", output, "--filelists", lists]
    problem = "does not exist" if linked == "itself" else "leads out of"
    refused("stream", *words, names=(FIRST, link.name, problem))


def test_two_classes_with_one_label(refused, stream, dataset: Dataset, lists: Path):
    one_task = TaskLayout(classes_per_task=4)
    write_task_list(lay_out(dataset, "class_instance", 0, layout=one_task), lists)
    for name in (FIRST, TEST):
        listed(lists, name, lambda rows: [row.replace(" 3", " 2") for row in rows])
    refused(*stream, "--filelists", lists, names=(str(lists), "label 2"))


def test_a_class_with_two_labels(refused, stream, dataset: Dataset, lists: Path):
    one_task = TaskLayout(classes_per_task=4)
    write_task_list(lay_out(dataset, "class_instance", 0, layout=one_task), lists)
    for name, session in ((FIRST, "_tx_"), (TEST, "_tz_")):
        listed(
            lists,
            name,
            lambda rows, session=session: [
                row.replace(" 0", " 4") if session in row else row for row in rows
            ],
        )
    refused(*stream, "--filelists", lists, names=(str(lists), "the labels 0 and 4"))


def test_an_image_that_the_index_does_not_list(
    refused, dataset_copy: Path, network_words, lists: Path, output: Path
):
    (dataset_copy / "images" / "new image.png").touch()
    listed(lists, FIRST, lambda rows: ["new image.png 0", *rows])
    words = [dataset_copy, *network_words, "--output", output, "--filelists", lists]
    refused("stream", *words, names=(str(lists), "new image.png"))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.replace(b"\n", b"\r\n"),
        lambda content: b"\xef\xbb\xbf" + content,
        lambda content: content + b"\n\r\n\n",
        lambda content: content.removesuffix(b"\n"),
    ],
    ids=["CRLF", "BOM", "blank lines", "no line end"],
)
def test_forms_of_a_list_that_are_read(stream, lists: Path, folder: Path, change: Callable):
    for path in folder.glob("*_filelist.txt"):
        path.write_bytes(change(path.read_bytes()))
    words = [*stream, "--filelists", lists, "--method", "finetune", "--epochs-first-task", "1"]
    assert main([*map(str, words)]) == 0
