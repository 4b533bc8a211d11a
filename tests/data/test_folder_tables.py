"""Tables as Excel and Windows write them: read as meant, or refused with the cause."""

from __future__ import annotations

from pathlib import Path

import pytest
from own_folders import put

from crumb.data.sets.folder import Folder
from crumb.data.sets.folder_layout import Entry
from crumb.errors import InputError

FILES = ("a/p0.jpg", "a/p1.jpg", "b/p0.jpg", "b/p1.jpg")
PLAIN = "path,class\n" + "".join(f"{path},{path[0]}\n" for path in FILES)


def entries(root: Path, content: bytes, name: str = "table.csv") -> list[Entry]:
    put(root, *FILES)
    (root / name).write_bytes(content)
    return Folder(root=root / name, output=root.parent / "set")._found().entries


def refusal(root: Path, content: bytes) -> str:
    with pytest.raises(InputError) as caught:
        entries(root, content)
    return str(caught.value)


def windows(text: str) -> bytes:
    return text.replace("/", "\\").replace("\n", "\r\n").encode("utf-8-sig")


TABLES = {
    "semicolons": PLAIN.replace(",", ";").encode(),
    "tabs": PLAIN.replace(",", "\t").encode(),
    "bars": PLAIN.replace(",", "|").encode(),
    "UTF-16, tabs": PLAIN.replace(",", "\t").replace("\n", "\r\n").encode("utf-16"),
    "UTF-16 of the other end": b"\xfe\xff" + PLAIN.encode("utf-16-be"),
    "backslashes, mark, line ends": windows(PLAIN),
    "a dot before backslashes": windows(PLAIN.replace("a/", "./a/")),
    "old Macs": PLAIN.replace("\n", "\r").encode(),
    "capital headings": PLAIN.replace("path,class", "Path,CLASS").encode(),
    "blanks": PLAIN.replace(",", " , ").encode(),
    "row numbers": ("," + PLAIN.replace("\n", "\n7,").removesuffix("7,")).encode(),
    "rows of nothing": PLAIN.encode() + b"\n,\n\n",
    "filled rows": PLAIN.replace("\n", ",,\n").encode(),
    "Excel's own line": b"sep=;\r\n" + windows(PLAIN.replace(",", ";"))[3:],
    "quoted": PLAIN.replace("path,class", '"path";"class"').replace(",", ";").encode(),
    "case of Windows": PLAIN.replace("a/p0.jpg", "A/P0.JPG").encode(),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_of_windows_are_read(tmp_path: Path, kind: str):
    found = entries(tmp_path / "mine", TABLES[kind])
    assert [(entry.path, entry.class_name) for entry in found] == [
        (path, path[0]) for path in FILES
    ]


def test_every_column_may_be_capitalised(tmp_path: Path):
    content = b"Split;Frame;Session;Object;Class;Path\nTest;2;s;o;c;a\\p0.jpg\n"
    (entry,) = entries(tmp_path / "mine", content)
    assert entry == Entry("a/p0.jpg", "c", "o", "s", "test", 2.0)


@pytest.mark.parametrize("name", ["table.tsv", "table.txt", "TABLE.CSV"])
def test_endings_of_tables(tmp_path: Path, name: str):
    assert len(entries(tmp_path / "mine", PLAIN.replace(",", "\t").encode(), name)) == 4


def test_a_name_with_a_backslash_is_found_as_it_is(tmp_path: Path):
    put(tmp_path / "mine", "x\\y.jpg")
    (entry,) = entries(tmp_path / "mine", b"path,class\nx\\y.jpg,a\n")
    assert entry.path == "x\\y.jpg"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("path,class\nKäse.jpg,a\n".encode("latin-1"), "table.csv: is not UTF-8 text; save it as"),
        (PLAIN.encode("utf-16-le"), "table.csv: holds bytes of value 0, as UTF-16 without a mark"),
        (PLAIN.encode("utf-32"), "table.csv: is not UTF-8 text"),
        (b"PK\x03\x04 and more", "table.csv: is a workbook or another archive, not text; save it"),
        (
            b"path,class\nC:\\photos\\a\\p0.jpg,a\n",
            "line 2: the path 'C:\\\\photos\\\\a\\\\p0.jpg' begins with a drive or a server; give",
        ),
        (b"path,class\nd:/photos/a.jpg,a\n", "the path 'd:/photos/a.jpg' begins with a drive"),
        (b"path,class\n\\\\nas\\a\\p0.jpg,a\n", "begins with a drive or a server"),
        (b"path,class\n..\\p0.jpg,a\n", "the path '../p0.jpg' leaves the images root"),
        (b"#mylist\n" + PLAIN.encode(), "has no column 'path', but '#mylist'"),
        (PLAIN.replace("path,class", "filename,label").encode(), "but 'filename, label'"),
        (b"Path,path,class\na/p0.jpg,x,a\n", "has the column 'path' twice"),
        (b"path,class\na\\p0.jpg,a\na/p0.jpg,b\n", "line 3: lists 'a/p0.jpg' again, after line 2"),
        (b"path;class\na/p0.jpg,a\n", "line 2: has 1 fields, not 2"),
        (b"path,class\na/p0.jpg,a,b\n", "line 2: has 3 fields, not 2"),
    ],
)
def test_what_is_not_read_names_the_cause(tmp_path: Path, content: bytes, line: str):
    assert line in refusal(tmp_path / "mine", content)


def test_files_that_differ_in_case_only_are_not_guessed(tmp_path: Path):
    put(tmp_path / "mine", "c/p.jpg", "c/P.jpg")
    line = refusal(tmp_path / "mine", b"path,class\nc/p.JPG,a\n")
    assert "lists no file that can be used (c/p.JPG: no such file)" in line
