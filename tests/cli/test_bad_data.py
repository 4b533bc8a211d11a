"""Data sets and indexes that cannot be used, and unusual ones that can."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from damage import empty

from crumb.cli.main import main
from crumb.data.index import load_dataset
from crumb.errors import InputError

Change = Callable[[str], str | bytes]
INDEX = "toybox_dirmap.csv"


@pytest.fixture(params=["stream", "tasks"])
def usual(request, dataset_copy: Path, network_words: list[str], output: Path) -> list[object]:
    """A command on the copy of the data set that would work."""
    network = {"stream": network_words, "tasks": []}[request.param]
    return [request.param, dataset_copy, *network, "--output", output]


@pytest.mark.parametrize("command", ["stream", "pretrain", "tasks"])
def test_no_dataset(refused, tmp_path: Path, output: Path, command: str):
    refused(command, tmp_path / "gone", "--output", output, names=str(tmp_path / "gone"))


def test_no_dataset_to_look_at(refused, tmp_path: Path):
    refused("data", "stats", tmp_path / "gone", names=str(tmp_path / "gone"))


def test_a_folder_without_data_set(refused, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    refused("data", "stats", tmp_path / "empty", names="dataset.json")


# dataset.json.


def entry(**changes: object) -> Change:
    """Other values of some entries; None takes one out."""

    def change(text: str) -> str:
        record = json.loads(text) | changes
        return json.dumps({key: value for key, value in record.items() if value is not None})

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda text: text[:50], "is not valid JSON"),
        (lambda text: "", "is not valid JSON"),
        (lambda text: "[]", "does not hold a JSON object"),
        (lambda text: b"\xff\xfe", "is not UTF-8 text"),
        (lambda text: "{" + "[" * 100_000, "is not valid JSON"),
        (entry(version=2), "has version 2"),
        (entry(version=None), "has version None"),
        (entry(format="x"), "is not of the format"),
        (entry(name=None), "'name' is missing"),
        (entry(name="../elsewhere"), "'name' '../elsewhere' is not a name of a folder"),
        (entry(name=".."), "'name' '..' is not a name of a folder"),
        (entry(index=3), "'index' is missing or not a string"),
        (entry(index="a\0b"), "'index' is missing or not a string"),
        (entry(images=""), "'images' is missing or not a string"),
        (entry(test_sessions=None), "'test_sessions' is not a list"),
        (entry(test_sessions=[-3]), "'test_sessions' is not a list"),
        (entry(test_sessions=[10**30]), "'test_sessions' is not a list"),
        (entry(classes=["car"]), "'classes' does not map names to ids"),
        (entry(classes={"car": "9"}), "'classes' does not map names to ids"),
        (entry(classes={"": 9}), "'classes' has an empty name"),
        (entry(classes={"car": 9, "bed": 9}), "'classes' gives one id to two names"),
        (entry(classes={"car": 9}), "has no name for class id"),
    ],
)
def test_broken_record(dataset_copy: Path, change: Change, problem: str):
    alter(dataset_copy / "dataset.json", change)
    line = refusal(dataset_copy)
    assert "dataset.json" in line
    assert problem in line


def test_a_command_on_a_broken_record(refused, usual, dataset_copy: Path):
    alter(dataset_copy / "dataset.json", entry(version=2))
    refused(*usual, names=("dataset.json", "has version 2"))


def refusal(folder: Path) -> str:
    """The line that reading the data set ends in."""
    with pytest.raises(InputError) as error:
        load_dataset(folder)
    line = str(error.value)
    assert "\n" not in line
    return line


def alter(path: Path, change: Change) -> None:
    content = change(path.read_text())
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize("sessions", [[77], [*range(11)]])
def test_sessions_that_are_missing(refused, usual, dataset_copy: Path, sessions: list[int]):
    alter(dataset_copy / "dataset.json", entry(test_sessions=sessions))
    refused(*usual, names=(str(dataset_copy), "no session to", "the test sessions are"))


def test_a_class_without_test_images(refused, dataset_copy: Path, network_words, output: Path):
    alter(dataset_copy / "dataset.json", entry(test_sessions=[33, 6, 9]))
    kept = ("_rxplus_", "_tx_")
    rows = (dataset_copy / INDEX).read_text().splitlines()
    lines = [row for row in rows if "person" not in row or any(name in row for name in kept)]
    (dataset_copy / INDEX).write_text("\n".join(lines) + "\n")
    refused("stream", dataset_copy, *network_words, "--output", output, names="'person'")


# The index.


def table(text: str) -> list[list[str]]:
    return [*csv.reader(io.StringIO(text))]


def written(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def cell(column: str, value: str) -> Change:
    """Another value on line 3."""

    def change(text: str) -> str:
        rows = table(text)
        rows[2][rows[0].index(column)] = value
        return written(rows)

    return change


def without_column(text: str) -> str:
    return written([row[:3] + row[4:] for row in table(text)])


def one_image_of_two_classes(text: str) -> str:
    rows = table(text)
    return written([*rows[:-1], [*rows[-1][:-1], rows[1][-1]]])


BAD_CELLS = [
    ("class", "six", "line 3: class 'six' is not an integer"),
    ("session", "1.0", "line 3: session '1.0' is not an integer"),
    ("object", "", "line 3: object '' is not an integer"),
    ("im_num", "nan", "line 3: im_num 'nan' is not an integer"),
    ("im_num", " 1", "line 3: im_num ' 1' is not an integer"),
    ("class", "-1", "line 3: class '-1' is negative"),
    ("class", "9" * 19, "is too large"),
    ("class", "1099511627776", "has no name for class id 1099511627776"),
    ("class", "x" * 100_000, "... (100000 characters) is not an integer"),
    ("im_path", "", "line 3: the path is empty"),
    ("im_path", "/etc/hostname", "line 3: the path '/etc/hostname' is absolute"),
    ("im_path", "../x.png", "line 3: the path '../x.png' leaves the images root"),
    ("im_path", "a/../../x.png", "line 3: the path 'a/../../x.png' leaves the images root"),
    ("im_path", "a\tb.png", "line 3: the path 'a\\tb.png' holds a control character"),
    ("im_path", "a\0b.png", "line 3: the path 'a\\x00b.png' holds a control character"),
    ("im_path", "a\nb.png", "line 4: the path 'a\\nb.png' holds a control character"),
    ("im_path", " a.png", "line 3: the path ' a.png' begins or ends with a blank"),
    ("im_path", "a.png ", "line 3: the path 'a.png ' begins or ends with a blank"),
    ("im_path", "/" * 100_000, "... (100000 characters) is absolute"),
]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        *((cell(column, value), problem) for column, value, problem in BAD_CELLS),
        (lambda text: "", "is empty"),
        (lambda text: "\n\n", "is empty"),
        (lambda text: text.splitlines()[0] + "\n", "lists no images"),
        (lambda text: text.partition("\n")[2], "has no column"),
        (without_column, "has no column 'session'"),
        (lambda text: text.replace(",object,", ",class,", 1), "has no column 'object'"),
        (lambda text: written([["class", *row[1:], row[1]] for row in table(text)]), "twice"),
        (lambda text: text + text.splitlines()[4] + "\n", "has the class, object, session and"),
        (one_image_of_two_classes, "is of another clip in an earlier row"),
        (lambda text: text.replace(",1,", ",", 1), "line 2: has 5 fields, not 6"),
        (lambda text: text.replace(",1,", ",1,1,", 1), "line 2: has 7 fields, not 6"),
        (lambda text: text.replace(",", ";"), "has no column 'class'"),
        (lambda text: text + '200,1,1,1,1,"a\n', "is not a CSV"),
        (lambda text: text + "x" * (1 << 20), "is not a CSV"),
        (lambda text: text + "1," * (1 << 19), "fields, not 6"),
        (lambda text: text.encode() + b"\xff\n", "is not UTF-8 text"),
        (lambda text: text.encode("utf-16"), "is not UTF-8 text"),
        (lambda text: bytes(5000), "has no column 'class'"),
    ],
)
def test_broken_index(dataset_copy: Path, change: Change, problem: str):
    alter(dataset_copy / INDEX, change)
    line = refusal(dataset_copy)
    assert (INDEX if "class id" not in problem else "dataset.json") in line
    assert problem in line
    assert len(line) < 1000


def test_a_command_on_a_broken_index(refused, usual, dataset_copy: Path):
    alter(dataset_copy / INDEX, cell("im_path", "../x.png"))
    refused(*usual, names=(INDEX, "line 3: the path '../x.png' leaves the images root"))


@pytest.mark.parametrize("damage", [Path.unlink, empty])
def test_an_index_that_is_not_there(refused, usual, dataset_copy: Path, damage: Callable):
    damage(dataset_copy / INDEX)
    refused(*usual, names=INDEX)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text + "\n\n\n",
        lambda text: text.rstrip("\n"),
        lambda text: written([row[::-1] for row in table(text)]),
        lambda text: written([[*row, "further"] for row in table(text)]),
        lambda text: written([[*row, 'two\nlines, "quoted"'] for row in table(text)]),
    ],
    ids=["CRLF", "BOM", "blank lines", "no line end", "order", "column", "quoted"],
)
def test_forms_of_an_index_that_are_read(dataset_copy: Path, output: Path, change: Change):
    alter(dataset_copy / INDEX, change)
    words = ["tasks", str(dataset_copy), "--runs", "1", "--output", str(output)]
    assert main([*words, "--protocol", "class_iid"]) == 0
    lists = [*(output / "class_iid").rglob("*_filelist.txt")]
    assert sum(len(path.read_text().splitlines()) for path in lists) == 120


NAMES = ["my image.png", "двѣ картины.png", "a\\b.png", "50%,a;b.png", '"a".png', "a\u00a0b.png"]


def test_names_that_are_read(dataset_copy: Path, network_words: list[str], output: Path):
    """Through the index, the file lists and back to the image."""
    rows = table((dataset_copy / INDEX).read_text())
    for row, name in zip(rows[1:], NAMES, strict=False):
        old = Path(row[-1])
        row[-1] = str(old.with_name(name))
        (dataset_copy / "images" / old).rename(dataset_copy / "images" / row[-1])
    (dataset_copy / INDEX).write_text(written(rows))
    lists = str(output / "lists")
    few = [str(dataset_copy), "--protocol", "class_iid"]
    assert main(["tasks", *few, "--runs", "1", "--output", lists]) == 0
    words = [*few, *network_words, "--method", "finetune", "--epochs-first-task", "1"]
    words += ["--feature-cache", "off", "--filelists", lists, "--output", str(output / "results")]
    assert main(["stream", *words]) == 0
    listed = "".join(path.read_text() for path in output.rglob("*_filelist.txt"))
    assert all(f"{row[-1]} " in listed for row in rows[1 : len(NAMES) + 1])
