"""Names of classes: one in two forms of Unicode, and several that look like one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from own_folders import put, table

from crumb.data.index import load_dataset
from crumb.data.names import alike_line, canonical
from crumb.data.sets.base import index_source
from crumb.data.sets.folder import Folder, Survey
from crumb.data.sets.folder_layout import read_tree
from crumb.data.sets.imagenet import ImageNet
from crumb.data.sets.toybox import find_clips
from crumb.errors import InputError

LETTER, PARTS = "\u00c4pfel", "A\u0308pfel"


def survey(root: Path) -> Survey:
    return Folder(root=root, output=root.parent / "set", split="image").survey


def test_forms_of_unicode_are_one_class(tmp_path: Path):
    root = put(tmp_path / "mine", f"{LETTER}/1.jpg", f"{PARTS}/2.jpg", "cup/1.jpg", "cup/2.jpg")
    found = survey(root)
    assert found.class_ids == {LETTER: 1, "cup": 2}
    assert found.sides[LETTER] == (1, 1)
    line = f"folders are called {LETTER} in two forms of Unicode; they are one class"
    assert line in found.notes


def test_forms_of_unicode_are_one_object_and_one_session(tmp_path: Path):
    put(tmp_path, f"cup/{LETTER}/s/1.jpg", f"cup/{PARTS}/s/2.jpg")
    assert {(entry.object, entry.session) for entry in read_tree(tmp_path).entries} == {
        (LETTER, "s")
    }


def test_forms_of_unicode_on_the_two_sides(tmp_path: Path):
    root = put(tmp_path / "mine", f"train/{LETTER}/1.jpg", f"test/{PARTS}/2.jpg")
    index_source(Folder(root=root, output=tmp_path / "set"))
    assert load_dataset(tmp_path / "set").class_names == {1: LETTER}


def test_forms_of_unicode_in_a_table(tmp_path: Path):
    root = put(tmp_path / "mine", f"{PARTS}.jpg", "2.jpg")
    path = table(root, "path,class", f"{LETTER}.jpg,{LETTER}", f"2.jpg,{PARTS}")
    found = survey(path)
    assert found.class_ids == {LETTER: 1}
    # The file is found though its name is written in the other form.
    assert sorted(found.clips[0].files) == sorted([f"{PARTS}.jpg", "2.jpg"])


def test_forms_of_unicode_in_published_layouts(tmp_path: Path):
    put(tmp_path / "net", f"train/{LETTER}/1.jpg", f"train/{PARTS}/2.jpg", f"val/{PARTS}/3.jpg")
    sample = ImageNet(root=tmp_path / "net", output=tmp_path / "set").sample()
    assert sample.class_names == {0: LETTER}
    assert len(sample.index) == 3
    for number, name in enumerate((LETTER, PARTS)):
        put(tmp_path / "toys", f"animals/{name}_0{number}_pivothead/x_tx.mp4")
    assert {clip.class_name for clip in find_clips(tmp_path / "toys")} == {LETTER}


def test_classes_are_chosen_by_either_form(tmp_path: Path):
    root = put(tmp_path / "mine", f"{PARTS}/1.jpg", f"{PARTS}/2.jpg", "cup/1.jpg", "cup/2.jpg")
    index_source(Folder(root=root, output=tmp_path / "set", split="image"))
    dataset = load_dataset(tmp_path / "set")
    for form in (LETTER, PARTS):
        assert list(dataset.select([form]).class_names.values()) == [LETTER]


def test_an_index_of_an_earlier_version(tmp_path: Path):
    root = put(tmp_path / "mine", f"{LETTER}/1.jpg", f"{LETTER}/2.jpg", "cup/1.jpg", "cup/2.jpg")
    index_source(Folder(root=root, output=tmp_path / "set", split="image"))
    record = tmp_path / "set/dataset.json"
    content = json.loads(record.read_text())
    content["classes"] = {PARTS: 1, "cup": 2}
    record.write_text(json.dumps(content))
    assert load_dataset(tmp_path / "set").class_names == {1: LETTER, 2: "cup"}
    content["classes"] = {PARTS: 1, LETTER: 2}
    record.write_text(json.dumps(content))
    with pytest.raises(InputError, match="has one name in two forms of Unicode"):
        load_dataset(tmp_path / "set")


def test_objects_and_sessions_that_look_like_one(tmp_path: Path):
    names = [f"{kind}/{name}/s/1.jpg" for kind in "ab" for name in ("Red", "red", "blue")]
    root = put(tmp_path / "mine", *names, "a/blue/S/1.jpg", "b/Blue/s/1.jpg")
    notes = survey(root).notes
    assert [note for note in notes if "differ in" in note] == [
        "Red and red are separate objects of a and differ in case only; if they are one object, "
        "give them one name",
        "S and s are separate sessions of a/blue and differ in case only; if they are one session, "
        "give them one name",
    ]
    rows = (f"{name},{name.replace('/', ',', 1).rsplit('/', 2)[0]}" for name in names)
    path = table(root, "path,class,object", *rows)
    assert any("Red and red are separate objects of a" in note for note in survey(path).notes)


def test_names_that_differ_in_case_only_are_pointed_out(tmp_path: Path):
    root = put(tmp_path / "mine", "Cat/1.jpg", "Cat/2.jpg", "cat/1.jpg", "cat/2.jpg")
    line = (
        "Cat and cat are separate classes and differ in case only; if they are one class, give "
        "them one name"
    )
    assert line in survey(root).notes
    path = table(root, "path,class", "Cat/1.jpg,Cat", "Cat/2.jpg,cat")
    assert line in survey(path).notes


@pytest.mark.parametrize(
    ("names", "start"),
    [
        (["Straße", "STRASSE"], "Straße and STRASSE are separate classes and differ in case only"),
        (["cup", "cup\u200b"], "cup and 'cup\\u200b' are separate classes and differ in blanks"),
        (["red cup", "red  cup"], "red cup and red  cup are separate"),
        (["ＣＵＰ", "cup"], "ＣＵＰ and cup are separate"),
        (["a", "A", "b", "B"], "a and A are separate classes and differ in case only, and 1 more"),
    ],
)
def test_names_that_look_alike(names: list[str], start: str):
    (line,) = alike_line(names)
    assert line.startswith(start)


def test_names_that_do_not_look_alike():
    assert alike_line(["cup", "cups", "Äpfel", "Apfel", "1", "01", "cup"]) == []
    assert canonical("cup") == "cup"
