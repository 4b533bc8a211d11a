"""Clips and images that cannot be used: one line, exit code 2, and nothing written."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from damage import empty, half, text
from tests.complaints import complaints

from crumb.cli.main import main
from crumb.data.index import Dataset
from crumb.data.protocol import lay_out

Refused = Callable[..., str]


def noise_in_the_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(range(250)) * 12
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [half, empty, text])
def test_broken_clip(
    refused: Refused, tree: Path, first_clip: Path, output: Path, damage: Callable
):
    damage(first_clip)
    refused("index", "toybox", tree, "--output", output, "--workers", "1", names=str(first_clip))


def shorten(path: Path) -> None:
    """Leave a clip three of its frames."""
    whole = path.rename(path.with_suffix(".whole"))
    with av.open(str(whole)) as given, av.open(str(path), "w") as made:
        target = made.add_stream_from_template(given.streams.video[0])
        for packet in itertools.islice(given.demux(given.streams.video[0]), 3):
            packet.stream = target
            made.mux(packet)
    whole.unlink()


@pytest.mark.parametrize(
    ("damage", "problem"), [(noise_in_the_middle, "decoded"), (shorten, "has 3 frames")]
)
def test_a_clip_that_is_found_unusable_late(
    capsys, tree: Path, first_clip: Path, output: Path, damage: Callable, problem: str
):
    damage(first_clip)
    assert main(["index", "toybox", str(tree), "--output", str(output), "--workers", "1"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert problem in line
    assert first_clip.stem in line
    # Frames are kept for the next call, but there is no data set.
    assert {path.name for path in output.iterdir()} <= {"images", "frames.json"}


def no_folders(tree: Path) -> None:
    shutil.rmtree(tree / "households")


def strange_folder(tree: Path) -> None:
    (tree / "households" / "bed").mkdir()


def strange_category(tree: Path) -> None:
    (tree / "households").rename(tree / "furniture")


def strange_session(tree: Path) -> None:
    clip = min(tree.rglob("*.mp4"))
    clip.rename(clip.with_name("bed_01_pivothead_upsidedown.mp4"))


@pytest.mark.parametrize("change", [no_folders, strange_folder, strange_category, strange_session])
def test_wrong_layout(refused: Refused, tree: Path, output: Path, change: Callable):
    change(tree)
    refused("index", "toybox", tree, "--output", output, names=str(tree))


@pytest.mark.parametrize("output", ["tree", "tree/set", "."])
def test_an_output_in_the_way_of_the_clips(refused: Refused, tree: Path, output: str):
    target = tree.parent / output
    words = ["index", "toybox", tree, "--output", target]
    refused(*words, names=(f"--output {target}", str(tree)), at=tree.parent)


def test_a_roundabout_way_to_the_clips(refused: Refused, tree: Path, monkeypatch):
    monkeypatch.chdir(tree.parent)
    refused("index", "toybox", "tree", "--output", "tree/../tree/set", names="--output", at=tree)


def test_a_link_to_the_clips(refused: Refused, tree: Path, monkeypatch):
    monkeypatch.chdir(tree.parent)
    (tree.parent / "toybox-data").symlink_to(tree)
    refused("index", "toybox", "tree", names="--output toybox-data", at=tree)


@pytest.mark.parametrize(
    ("layout", "name", "names"),
    [("toybox", "gone", "gone"), ("toybox", "file", "file"), ("imagenet", ".", "imagenet")],
)
def test_no_tree(refused: Refused, tmp_path: Path, output: Path, layout, name, names: str):
    (tmp_path / "file").touch()
    refused("index", layout, tmp_path / name, "--output", output, names=names)


@pytest.mark.parametrize("command", ["stream", "pretrain"])
@pytest.mark.parametrize("cache", ["4000000000", "0"])
def test_missing_image(
    refused: Refused, dataset_copy: Path, network_words: list[str], output: Path, command, cache
):
    image = max(dataset_copy.rglob("*.png"))
    image.unlink()
    words = [dataset_copy, *network_words, "--output", output, "--feature-cache-bytes", cache]
    refused(command, *words, names=image.name)


@pytest.mark.parametrize(
    ("damage", "cache"), [(half, "1000000"), (empty, "1000000"), (text, "1000000"), (half, "0")]
)
def test_damaged_image(
    refused: Refused,
    dataset: Dataset,
    dataset_copy: Path,
    network_words: list[str],
    output: Path,
    damage: Callable,
    cache: str,
):
    image = dataset_copy / "images" / lay_out(dataset, "class_instance", 0).tasks[0].paths[0]
    damage(image)
    words = [dataset_copy, *network_words, "--output", output, "--epochs-first-task", "1"]
    refused("stream", *words, "--feature-cache-bytes", cache, names=image.name)


def test_an_image_found_damaged_in_a_later_task(
    dataset: Dataset, dataset_copy: Path, network_words: list[str], output: Path, capsys
):
    """Without a cache it is found only when it is needed; what was learned before is kept."""
    image = dataset_copy / "images" / lay_out(dataset, "class_instance", 0).tasks[1].paths[0]
    content = image.read_bytes()
    half(image)
    words = [str(dataset_copy), *network_words, "--epochs-first-task", "1"]
    assert main(["stream", *words, "--feature-cache", "off", "--output", str(output)]) == 2
    (line,) = complaints(capsys.readouterr().err)
    assert image.name in line
    assert list((output / "checkpoints").iterdir())
    image.write_bytes(content)
    assert main(["stream", "--resume", str(output)]) == 0
    assert complaints(capsys.readouterr().err) == [
        "run 0 resumes from run0_000000.safetensors: task 2 of 2, epoch 1, first batch"
    ]
