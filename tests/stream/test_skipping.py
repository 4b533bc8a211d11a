"""``--on-error skip``: broken images are left out, counted and listed; nothing else changes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from crumb.cli.main import main
from crumb.data import pictures
from crumb.data.index import Dataset, load_dataset
from crumb.data.pictures import load_picture
from crumb.data.protocol import Frames, TaskList, lay_out
from crumb.errors import InputError
from crumb.stream import skipping
from crumb.stream.skipping import broken_images, leave_out

SKIP = ["--on-error", "skip", "--method", "finetune", "--epochs-first-task", "1"]


@pytest.fixture
def tasks(dataset: Dataset) -> TaskList:
    return lay_out(dataset, "class_instance", 0)


@pytest.fixture
def broken(dataset_copy: Path, tasks: TaskList) -> dict[str, str]:
    """A truncated and a missing training image, and a test image that is none; with words of
    what is wrong with them."""
    truncated, gone, text = tasks.tasks[0].paths[3], tasks.tasks[1].paths[0], tasks.test.paths[7]
    images = dataset_copy / "images"
    content = (images / truncated).read_bytes()
    (images / truncated).write_bytes(content[: len(content) // 2])
    (images / gone).unlink()
    (images / text).write_text("no image")
    return {truncated: "truncated", gone: "no such image", text: "cannot be read"}


def rows(path: Path) -> list[list[str]]:
    with path.open() as file:
        return list(csv.reader(file))


@pytest.fixture
def skipped(
    dataset_copy: Path, broken: dict[str, str], network_words: list[str], tmp_path: Path, capsys
) -> Path:
    """The results of a stream around broken images."""
    folder = tmp_path / "out"
    words = ["stream", str(dataset_copy), *network_words, *SKIP, "--output", str(folder)]
    assert main(words) == 0
    assert f"broken images skipped: 3, listed in {folder}/skipped.csv" in capsys.readouterr().out
    return folder


def test_they_are_listed_and_counted(skipped: Path, broken: dict[str, str]):
    header, *listed = rows(skipped / "skipped.csv")
    assert header == ["im_path", "problem"]
    assert [path for path, _ in listed] == sorted(broken)
    assert all(broken[path] in problem for path, problem in listed)
    assert json.loads((skipped / "metrics.json").read_text())["skipped_images"] == 3
    # 84 images to train on, of which two are broken.
    run = json.loads((skipped / "runs" / "run0.json").read_text())
    assert run["images"] == 82


def test_the_same_as_a_stream_of_lists_without_them(
    skipped: Path, broken: dict[str, str], dataset: Dataset, network_words: list[str], tmp_path
):
    """Of the undamaged data set."""
    lists = tmp_path / "lists"
    assert main(["tasks", str(dataset.folder), "--output", str(lists)]) == 0
    for path in lists.rglob("*filelist.txt"):
        kept = [x for x in path.read_text().splitlines() if x.rpartition(" ")[0] not in broken]
        path.write_text("".join(f"{line}\n" for line in kept))
    words = ["stream", str(dataset.folder), *network_words, *SKIP, "--filelists", str(lists)]
    assert main([*words, "--output", str(tmp_path / "other")]) == 0
    assert rows(tmp_path / "other" / "skipped.csv") == [["im_path", "problem"]]
    for path in skipped.rglob("*.csv"):
        if path.name not in ("hyperparams.csv", "skipped.csv"):
            other = tmp_path / "other" / path.relative_to(skipped)
            assert path.read_bytes() == other.read_bytes()


def test_resumed(skipped: Path, dataset_copy: Path, broken: dict[str, str], capsys):
    assert main(["stream", "--resume", str(skipped), "--runs", "2"]) == 0
    capsys.readouterr()
    (dataset_copy / "images" / max(broken)).unlink(missing_ok=True)
    sound = next(
        path
        for path in (dataset_copy / "images").rglob("*.png")
        if str(path.relative_to(dataset_copy / "images")) not in broken
    )
    sound.write_bytes(b"")
    assert main(["stream", "--resume", str(skipped), "--runs", "3"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert sound.name in line
    assert "skipped.csv" in line


@pytest.mark.parametrize("flags", [[], ["--on-error", "stop"]])
def test_not_without_being_asked(
    dataset_copy: Path,
    broken: dict[str, str],
    network_words: list[str],
    tmp_path: Path,
    flags: list[str],
    capsys,
):
    words = [str(dataset_copy), *network_words, "--output", str(tmp_path / "out"), *flags]
    assert main(["stream", *words]) == 2
    assert ".png: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_pretraining(
    dataset_copy: Path, broken: dict[str, str], network_words: list[str], tmp_path: Path
):
    words = [str(dataset_copy), *network_words, "--epochs", "1", "--on-error", "skip"]
    assert main(["pretrain", *words, "--output", str(tmp_path / "out")]) == 0
    assert len(rows(tmp_path / "out" / "skipped.csv")) == 4


def test_every_image_is_read_once(
    dataset_copy: Path, broken: dict[str, str], tasks: TaskList, monkeypatch: pytest.MonkeyPatch
):
    read: list[Path] = []

    def load(path: Path, size: int) -> object:
        read.append(path)
        return load_picture(path, size)

    monkeypatch.setattr(skipping, "load_picture", load)
    dataset = load_dataset(dataset_copy)
    found = broken_images(dataset.images, [tasks, lay_out(dataset, "iid", 1)], 32, 2)
    assert found.keys() == broken.keys()
    assert len(read) == len(set(read)) == len(dataset.index)


def test_short_memory_is_no_reason_to_leave_an_image_out(
    dataset: Dataset, tasks: TaskList, monkeypatch: pytest.MonkeyPatch
):
    def convert(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(pictures, "pil_to_square", convert)
    with pytest.raises(InputError, match="MemoryError"):
        broken_images(dataset.images, [tasks], 32, 1)


def frames(*pairs: tuple[str, int]) -> Frames:
    return Frames(tuple(p for p, _ in pairs), np.array([label for _, label in pairs]))


def test_labels_count_classes_as_they_appear():
    tasks = TaskList(
        "instance",
        0,
        False,
        (frames(("a", 0), ("b", 1), ("c", 2)), frames(("d", 0), ("e", 2), ("f", 1))),
        frames(("x", 0), ("y", 1), ("z", 2)),
        ("cup", "ball", "car"),
    )
    kept = leave_out(tasks, {"a"})
    assert kept.classes == ("ball", "car", "cup")
    assert [f.labels.tolist() for f in (*kept.tasks, kept.test)] == [[0, 1], [2, 1, 0], [2, 0, 1]]
    assert leave_out(tasks, set()).classes == tasks.classes


def test_nothing_to_learn_from_or_be_tested_on():
    tasks = TaskList(
        "iid",
        0,
        False,
        (frames(("a", 0), ("b", 0)), frames(("c", 1), ("d", 0))),
        frames(("x", 0), ("y", 1), ("z", 1)),
        ("cup", "ball"),
    )
    kept = leave_out(tasks, {"b", "z"})
    assert [f.paths for f in (*kept.tasks, kept.test)] == [("a",), ("c", "d"), ("x", "y")]
    assert [f.labels.tolist() for f in (*kept.tasks, kept.test)] == [[0], [1, 0], [0, 1]]
    for broken, words in (
        ({"a", "b"}, "leaves no image in task 0 of run 0"),
        ({"c"}, "leaves class 'ball' no image to learn from"),
        ({"x"}, "leaves class 'cup' no image to be tested on"),
    ):
        with pytest.raises(InputError, match=words) as error:
            leave_out(tasks, broken)
        assert "on_error='skip'" in str(error.value)
