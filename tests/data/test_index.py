from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from damaged import damaged
from hypothesis import given, settings
from hypothesis import strategies as st

from crumb.data import index as index_module
from crumb.data import usual_index
from crumb.data.index import (
    COLUMNS,
    Dataset,
    index_text,
    load_dataset,
    path_problem,
    read_carefully,
    read_index,
    write_dataset,
)
from crumb.data.usual_index import read_usual
from crumb.errors import InputError
from crumb.files import write_text

HEADER = "class,object,session,im_num,im_path\n"


def small(folder: Path, images: Path | None = None) -> Dataset:
    rows = [(c, 1, s, n, f"c{c}/s{s}_{n}.png") for c in (4, 2) for s in (1, 3) for n in (1, 2)]
    index = pd.DataFrame(rows, columns=list(COLUMNS))
    names = {4: "ball", 2: "mug"}
    return Dataset("tiny", folder, images or folder / "images", index, names, (3,))


def edit_record(folder: Path, **changes: object) -> None:
    path = folder / "dataset.json"
    record = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: item for key, item in record.items() if item is not None}))


def test_dataset_survives_writing_and_reading(tmp_path: Path):
    dataset = small(tmp_path)
    write_dataset(dataset)
    again = load_dataset(tmp_path)
    pd.testing.assert_frame_equal(again.index, dataset.index, check_dtype=False)
    assert (again.name, again.class_names, again.test_sessions) == (
        "tiny",
        dataset.class_names,
        (3,),
    )
    assert again.images == tmp_path / "images"
    assert json.loads((tmp_path / "dataset.json").read_text())["images"] == "images"


def test_images_may_lie_elsewhere(tmp_path: Path):
    write_dataset(small(tmp_path / "set", images=tmp_path / "elsewhere"))
    assert load_dataset(tmp_path / "set").images == (tmp_path / "elsewhere").resolve()


def test_index_has_the_published_first_column(tmp_path: Path):
    write_dataset(small(tmp_path))
    lines = (tmp_path / "tiny_dirmap.csv").read_text().splitlines()
    assert lines[:2] == [",class,object,session,im_num,im_path", "0,4,1,1,1,c4/s1_1.png"]


PATHS = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1).filter(
    lambda path: path_problem(path) is None
)


@st.composite
def indexes(draw: st.DrawFn) -> pd.DataFrame:
    """Any good index: clips with any numbers, images with any names; a clip may repeat its own."""
    numbers = st.integers(0, 10**18 - 1)
    clips = draw(st.lists(st.tuples(numbers, numbers, numbers), min_size=1, unique=True))
    rows = []
    for number, clip in enumerate(clips):
        frames = draw(st.dictionaries(numbers, PATHS, min_size=1, max_size=4))
        rows += [(*clip, frame, f"{number}/{path}") for frame, path in frames.items()]
    return pd.DataFrame(draw(st.permutations(rows)), columns=list(COLUMNS))


@given(indexes())
def test_any_index_is_read_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, index: pd.DataFrame
):
    path = tmp_path_factory.mktemp("index") / "index.csv"
    write_text(path, index_text(index))
    pd.testing.assert_frame_equal(read_index(path), index, check_dtype=False)


GOOD = index_text(
    pd.DataFrame(
        [(1, 1, s, n, f"a{s}/{n}.png") for s in (1, 2) for n in (1, 2)], columns=list(COLUMNS)
    )
).encode()


@settings(max_examples=300)
@given(st.binary() | damaged(GOOD))
def test_any_bytes_are_an_index_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
):
    path = tmp_path_factory.mktemp("index") / "index.csv"
    path.write_bytes(content)
    index, refusal = None, ""
    try:
        index = read_index(path)
    except InputError as error:
        refusal = str(error)
    if index is None:
        assert refusal.startswith(str(path))
        assert len(refusal.splitlines()) == 1
        return
    assert list(index.columns) == list(COLUMNS)
    assert len(index) > 0
    assert (index.drop(columns="im_path") >= 0).all(axis=None)
    assert not index.duplicated(list(COLUMNS[:-1])).any()
    assert [*map(path_problem, index["im_path"])] == [None] * len(index)


@settings(max_examples=60)
@given(indexes().map(lambda index: index_text(index).encode()) | damaged(GOOD), st.integers(1, 3))
def test_quick_way_reads_what_the_careful_way_reads(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, rows: int
):
    path = tmp_path_factory.mktemp("index") / "index.csv"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(usual_index, "_ROWS", rows)
        found = read_usual(path)
    if found is not None:
        pd.testing.assert_frame_equal(found, read_carefully(path))


@pytest.mark.parametrize(
    ("rows", "quick"),
    [
        ("1,1,1,1,a\n1,1,1,2,a\n", True),
        ('007,0,0,999999999999999999,"x, ""y"" z.png"\n', True),
        ("1,1,1,1,a..b/c\n", True),
        ("1,1,1,1,\u00e9/\u3042.png\n1,1,1,2,\u00a0x\n", False),
        ("1,1,1,1,a\n\n1,1,1,2,b\n", False),
        ("1,1,1,1,a\n1,1,2,2,a\n", False),
        ("1,1,1,1,a\n1,1,1,1,b\n", False),
        ("\u0661,1,1,1,a\n", False),
    ],
)
def test_quick_way_is_for_usual_rows(tmp_path: Path, rows: str, quick: bool):
    path = tmp_path / "index.csv"
    path.write_text(HEADER + rows)
    found = read_usual(path)
    assert (found is not None) == quick
    if found is not None:
        pd.testing.assert_frame_equal(found, read_carefully(path))


@settings(max_examples=40)
@given(indexes(), st.integers(1, 3))
def test_index_is_written_as_pandas_writes_it(index: pd.DataFrame, rows: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "_ROWS", rows)
        assert index_text(index) == index.to_csv(lineterminator="\n")


def test_windows_files_and_further_columns_are_read(tmp_path: Path):
    path = tmp_path / "index.csv"
    text = "Unnamed: 0,im_path,im_num,class_str,session,object,class\r\n5,a/b.png,3,boat,7,2,1\r\n"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_index(path).to_dict("records") == [
        {"class": 1, "object": 2, "session": 7, "im_num": 3, "im_path": "a/b.png"}
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty"),
        (HEADER, "lists no images"),
        (HEADER.replace("session", "clip") + "1,1,1,1,a\n", "no column 'session'"),
        (HEADER + "1,1,1,1,a\n1,1,x,1,b\n", "line 3: session 'x' is not an integer"),
        (HEADER + "1,1,1.0,1,a\n", "line 2: session '1.0' is not an integer"),
        (HEADER + ",1,1,1,a\n", "class '' is not an integer"),
        (HEADER + "1,-1,1,1,a\n", "object '-1' is negative"),
        (HEADER + "1,1,1,1,a\tb\n", "holds a control character"),
        (HEADER + "1,1,1,1,a \n", "'a ' begins or ends with a blank"),
        (HEADER + f"1,1,1,{10**18},a\n", "line 2: im_num '1000000000000000000' is too large"),
        (HEADER + "1,1,1,1,a\n2,1,1,1,a\n", "line 3: the image 'a' is of another clip"),
        (HEADER + "1,1,1,1,a\n1,1,2,2,a\n", "line 3: the image 'a' is of another clip"),
        (HEADER.replace("object", "class") + "1,1,1,1,a\n", "no column 'object'"),
        ("class," + HEADER + "1,1,1,1,1,a\n", "has the column 'class' twice"),
        (HEADER + "1,1,1,1,\n", "path is empty"),
        (HEADER + "1,1,1,1,/etc/a\n", "absolute"),
        (HEADER + "1,1,1,1,a/../../b\n", "leaves the images root"),
        (HEADER + "1,1,1,1,a\n1,1,1,1,b\n", "line 3: has the class, object"),
        (HEADER + "1,1,1,1\n", "line 2: has 4 fields, not 5"),
        (HEADER + '1,1,1,1,"a\n', "is not a CSV"),
    ],
)
def test_bad_index(tmp_path: Path, text: str, complaint: str):
    path = tmp_path / "index.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_index(path)
    assert str(path) in str(caught.value)
    assert complaint in str(caught.value)


def test_missing_and_binary_index(tmp_path: Path):
    with pytest.raises(InputError, match=r"nothing\.csv: cannot be read"):
        read_index(tmp_path / "nothing.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        read_index(tmp_path / "binary.csv")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"format": "other"}, "format"),
        ({"version": 2}, "version 2"),
        ({"index": "lost.csv"}, "lost.csv: cannot be read"),
        ({"name": None}, "'name'"),
        ({"images": 3}, "'images'"),
        ({"test_sessions": ["3"]}, "'test_sessions'"),
        ({"classes": {"ball": True}}, "'classes'"),
        ({"classes": {"ball": 4}}, "no name for class id 2"),
        ({"classes": {"ball": 4, "mug": 4}}, "one id to two names"),
    ],
)
def test_bad_record(tmp_path: Path, changes: dict[str, object], complaint: str):
    write_dataset(small(tmp_path))
    edit_record(tmp_path, **changes)
    with pytest.raises(InputError) as caught:
        load_dataset(tmp_path)
    assert complaint in str(caught.value)


def test_no_dataset(tmp_path: Path):
    with pytest.raises(InputError, match="not a folder"):
        load_dataset(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"holds no dataset\.json; .*crumb index folder"):
        load_dataset(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        load_dataset(tmp_path)


def test_select_keeps_the_named_classes_only(tmp_path: Path):
    mugs = small(tmp_path).select(["mug"])
    assert mugs.class_names == {2: "mug"}
    assert mugs.index["class"].tolist() == [2] * 4
    assert mugs.index.index.tolist() == [0, 1, 2, 3]


def test_select_keeps_the_order_of_the_index(tmp_path: Path):
    dataset = small(tmp_path)
    pd.testing.assert_frame_equal(dataset.select(["mug", "ball"]).index, dataset.index)


@pytest.mark.parametrize(
    ("classes", "complaint"),
    [(["cat"], "no class 'cat'"), (["mug", "mug"], "'mug' twice"), ([], "is empty")],
)
def test_bad_selection(tmp_path: Path, classes: list[str], complaint: str):
    with pytest.raises(InputError, match=rf"classes: .*{complaint}.*") as caught:
        small(tmp_path).select(classes)
    assert "ball, mug" in str(caught.value) or "twice" in complaint
