"""ImageNet less 100 classes."""

from __future__ import annotations

from pathlib import Path

import pytest
from class_trees import refusal, write_all, write_tar

from crumb.data.index import Dataset
from crumb.data.sets.base import index_source
from crumb.data.sets.imagenet import ImageNet900
from crumb.data.synsets import SYNSETS
from crumb.errors import InputError


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(tmp_path_factory.mktemp("thousand") / "root")


def index900(root: Path, output: Path, listed: list[str] | None) -> tuple[Dataset, tuple[str, ...]]:
    file = None
    if listed is not None:
        file = output.parent / "classes.txt"
        file.write_text("\n".join(listed) + "\n\n")
    return index_source(ImageNet900(root=root, output=output, classes_file=file))


def test_900_classes(thousand: Path, tmp_path: Path):
    held_out = SYNSETS[5::10]
    kept = [synset for synset in SYNSETS if synset not in held_out]
    for number, listed in enumerate([[*held_out], kept[::-1]]):
        dataset, lines = index900(thousand, tmp_path / f"set{number}", listed)
        assert dataset.name == "imagenet900"
        assert dataset.class_names == dict(enumerate(kept))
        assert dataset.index["class"].tolist() == [n for n in range(900) for _ in "tv"]
        first = f"100 classes: {', '.join(held_out[:3])} and 97 more"
        assert lines == (first,)
    assert (tmp_path / "set0/imagenet900_dirmap.csv").exists()


def test_900_classes_and_no_others(thousand: Path, tmp_path: Path):
    root = tmp_path / "root"
    for split in ("train", "val"):
        write_tar(root / f"{split}-0.tar", [(f"{synset}/x.JPEG", b"") for synset in SYNSETS[100:]])
    for number, listed in enumerate([None, [*SYNSETS[100:]]]):
        dataset, lines = index900(root, tmp_path / f"set{number}", listed)
        assert dataset.class_names == dict(enumerate(SYNSETS[100:]))
        assert lines == ()
    with pytest.raises(InputError, match="root: has 800 classes to keep, not 900"):
        index900(root, tmp_path / "set", [*SYNSETS[200:300]])


@pytest.mark.parametrize(
    ("listed", "problem"),
    [
        (None, "root: has 1000 classes to keep, not 900; classes_file FILE"),
        ([], "classes.txt: lists 0 classes; list the 900"),
        ([*SYNSETS[:99]], "classes.txt: lists 99 classes; list the 900 that are kept or the 100"),
        ([SYNSETS[0], "n00000000"], "classes.txt, line 2: the class 'n00000000' has no images"),
        ([*SYNSETS[:3], SYNSETS[1]], f"line 4: the class '{SYNSETS[1]}' is listed twice"),
    ],
)
def test_bad_lists_of_classes(thousand: Path, tmp_path: Path, listed, problem: str):
    with pytest.raises(InputError) as caught:
        index900(thousand, tmp_path / "set", listed)
    assert problem in str(caught.value)
    assert not (tmp_path / "set").exists()


def test_a_list_of_classes_that_is_not_there(thousand: Path, capsys, tmp_path: Path):
    line = refusal(capsys, thousand, "imagenet900", "--classes-file", tmp_path / "none.txt")
    assert "none.txt: cannot be read" in line
