"""``crumb index folder`` as a newcomer calls it, on the sample clips in every layout."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from crumb.cli.main import main
from crumb.data.index import load_dataset

CLASSES = {"person": "animals/person", "car": "vehicles/car"}
SESSIONS = ("rxplus", "ty", "tz")
SAMPLE = Path(str(files("crumb") / "sample/clips"))


def lay_out(root: Path, name: Callable[[str, int, int], str], objects: tuple[int, ...]) -> Path:
    """The sample clips of two classes below ``root``, called ``name(class, object, session)``."""
    for class_name, folder in CLASSES.items():
        for item in objects:
            for number, session in enumerate(SESSIONS, 1):
                source = f"{folder}_{item:02}_pivothead"
                target = root / name(class_name, item, number)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(SAMPLE / source / f"{Path(source).name}_{session}.mp4", target)
    return root


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same clips, or their frames, in every layout that is understood."""
    top = tmp_path_factory.mktemp("shapes")
    found = {
        "clips": lay_out(top / "my clips", lambda c, o, s: f"{c}/clip {s}.mp4", (1,)),
        "objects": lay_out(top / "objects", lambda c, o, s: f"{c}/{c} {o}/{c}_{s}.mp4", (1, 2)),
    }
    words = ["--output", str(top / "set"), "--largest", "3", "--workers", "1"]
    assert main(["index", "folder", str(found["clips"]), *words]) == 0
    rows = ["path,class,object,session,frame,split"]
    for path in load_dataset(top / "set").index["im_path"]:
        class_name, name = path.split("/")
        session, frame = name.removesuffix(".png").rsplit("_", 1)
        for target in (
            f"frames/{class_name}/thing/{session}/{frame}.png",
            f"photos/{class_name}/{session} {frame}.png",
            f"{'test' if session == 'clip 3' else 'train'}/{class_name}/{name}",
        ):
            target = top / ("given" if target[0] == "t" else "") / target
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(top / "set/images" / path, target)
        side = "test" if session == "clip 2" else "train"
        rows.append(
            f"photos/{class_name}/{session} {frame}.png,{class_name},x,{session},{frame},{side}"
        )
    (top / "table.csv").write_text("\n".join(rows))
    return found | {name: top / name for name in ("frames", "photos", "given", "table.csv")}


@pytest.mark.parametrize(
    ("shape", "flags", "test_count"),
    [
        ("clips", ["--largest", "3"], 6),
        ("objects", ["--split", "object", "--largest", "1"], 6),
        ("frames", [], 6),
        ("photos", ["--split", "image"], 4),
        ("given", [], 6),
        ("table.csv", [], 6),
    ],
)
def test_every_layout_streams_with_one_command_more(
    shapes: dict[str, Path],
    tmp_path: Path,
    network_words: list[str],
    capsys: pytest.CaptureFixture[str],
    shape: str,
    flags: list[str],
    test_count: int,
):
    output = str(tmp_path / "set")
    words = ["index", "folder", str(shapes[shape]), "--output", output, "--workers", "1"]
    assert main([*words, *flags]) == 0
    printed = capsys.readouterr().out
    assert f"{test_count} to test on)" in printed
    assert printed.splitlines()[-1] == f"next: crumb stream {output}"
    assert main(["data", "stats", output]) == 0
    assert main(["tasks", output, "--runs", "1", "--output", str(tmp_path / "tasks")]) == 0
    one_class = ["--classes-per-task", "1", "--epochs-first-task", "1", "--no-mem-accuracy"]
    results = ["--output", str(tmp_path / "results")]
    method = ["--method", "finetune", "--runs", "1"]
    assert main(["stream", output, *network_words, *method, *one_class, *results]) == 0
    assert (tmp_path / "results/metrics.json").is_file()


def test_it_says_what_it_understood_before_it_does_it(
    shapes: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    root = shutil.copytree(shapes["objects"], tmp_path / "mine")
    (root / "car/notes.txt").write_text("x")
    (root / "loose.mp4").write_text("x")
    assert main(["index", "folder", str(root), "--output", str(tmp_path / "set"), "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{root}: videos of 2 classes",
        "",
        "class   id  objects  sessions  seconds  to test  tested on",
        "car      1        2         6       96       32  car_3 of each object",
        "person   2        2         6       96       32  person_3 of each object",
        "all               4        12      192       64",
        "",
        "how paths are read:",
        "  car/car 1/car_1.mp4",
        "    class car, object car 1, session car_1",
        "",
        "tested on: whole sessions, 25% of each object's, evenly spread (--split session)",
        "",
        "cannot be used:",
        "  1  no video or image that Crumb reads (.txt): car/notes.txt",
        "  1  in no folder of a class: loose.mp4",
        "",
        "nothing was written because of --dry-run; run it without to index the folder",
    ]
    assert not (tmp_path / "set").exists()


def test_a_class_without_a_test_is_named_below_the_table(
    shapes: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["index", "folder", str(shapes["photos"]), "--output", str(tmp_path / "set")]
    words += ["--split", "session"]
    for more in ([], ["--dry-run"]):
        assert main([*words, *more]) == 2
        printed = capsys.readouterr()
        assert "car      1        1         1       9        0  nothing" in printed.out
        assert printed.err.splitlines() == [
            "crumb: class car and 1 more: only one session, so nothing is left to test on; add a "
            "second, take --split image, which tests on the last images of each session, or take "
            "--no-test"
        ]
    assert not (tmp_path / "set").exists()


def test_without_test_images_there_is_something_to_do_but_no_stream(
    shapes: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data = tmp_path / "set"
    words = ["index", "folder", str(shapes["photos"]), "--output", str(data)]
    assert main([*words, "--no-test"]) == 0
    printed = capsys.readouterr().out
    assert "tested on: nothing (--no-test)" in printed
    assert "(18 images to train on, 0 to test on)" in printed
    assert printed.endswith(f"next: crumb learn {shapes['photos']}\n")
    assert main(["tasks", str(data), "--runs", "1", "--protocol", "class_iid"]) == 0
    lists = data / "set_task_filelists/class_iid/run0/stream"
    assert len((lists / "train_task_00_filelist.txt").read_text().splitlines()) == 18
    assert (lists / "test_filelist.txt").read_text() == ""
    assert main(["stream", str(data)]) == 2
    assert capsys.readouterr().err == (
        f"crumb: {data}: was indexed with --no-test, so there is nothing to test on; index it "
        f"again without, or make a model with crumb learn {shapes['photos']}\n"
    )


def test_a_folder_in_the_place_of_a_name_is_answered_with_the_command(
    tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my mugs").mkdir()
    for words in (["index", "my mugs"], ["stream", "my mugs"]):
        assert main(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.endswith("for your own videos or photos: crumb index folder 'my mugs'")


def test_many_classes_and_long_names_stay_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for number in range(40):
        for session in range(12):
            path = tmp_path / f"mine/{number}/a rather long name of a session {session}/1.png"
            path.parent.mkdir(parents=True)
            path.write_bytes(b"x")
    words = ["index", "folder", str(tmp_path / "mine"), "--output", str(tmp_path / "set")]
    assert main([*words, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].endswith("a rather long name of a session 3 and 2 more")
    assert lines[27:29] == [
        "... and 16 more",
        "all             40       480     480      120",
    ]
    assert len(lines) < 40
    assert max(map(len, lines[1:])) <= 100


def test_how_paths_at_several_depths_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for path in ("cup/1.png", "cup/s 2/1.png", "mug/red/s/1.png", "mug/red/t/1.png"):
        (tmp_path / "mine" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / path).write_bytes(b"x")
    words = ["index", "folder", str(tmp_path / "mine"), "--output", str(tmp_path / "set")]
    assert main([*words, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "  cup/1.png\n    class cup, one object, one session\n" in printed
    assert "  cup/s 2/1.png\n    class cup, one object, session s 2\n" in printed
    assert "  mug/red/s/1.png\n    class mug, object red, session s\n" in printed
    assert "note: cup has files at several depths: cup/1.png, cup/s 2/1.png\n" in printed


def test_a_toybox_tree_is_sent_to_its_own_command(clips: Path, refused: Callable[..., str], output):
    line = refused("index", "folder", clips, "--output", output, names=str(clips))
    assert line.endswith(f"use `crumb index toybox {clips}`")


def test_a_clip_that_breaks_inside_is_named(tmp_path: Path, shapes: dict[str, Path], capsys):
    root = shutil.copytree(shapes["clips"], tmp_path / "mine")
    clip = root / "car/clip 2.mp4"
    whole = clip.read_bytes()
    start = whole.index(b"mdat") + len(whole) // 3
    clip.write_bytes(whole[:start] + b"\xff" * 3000 + whole[start + 3000 :])
    words = ["index", "folder", str(root), "--output", str(tmp_path / "set"), "--workers", "1"]
    assert main(words) == 2
    assert capsys.readouterr().err.startswith(f"crumb: {clip}: cannot be decoded")
    assert not (tmp_path / "set/dataset.json").exists()


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--split", "person"], "--split"),
        (["--test-share", "2"], "--test-share 2.0"),
        (["--largest", "-1"], "--largest -1"),
        (["--only", "audio"], "--only"),
        (["--split", "given"], "--split given"),
        (["--table", "none.csv"], "none.csv"),
        (["--only", "images"], "--only images"),
    ],
)
def test_bad_flags(
    shapes: dict[str, Path], output: Path, refused: Callable[..., str], words: list[str], name: str
):
    refused("index", "folder", shapes["clips"], "--output", output, *words, names=name)


def test_the_output_may_not_lie_in_the_folder(shapes: dict[str, Path], refused, monkeypatch):
    monkeypatch.chdir(shapes["clips"])
    at = shapes["clips"] / "set"
    refused("index", "folder", ".", "--output", "set", names="--output set", at=at)
