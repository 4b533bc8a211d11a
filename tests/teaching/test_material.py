"""What is held out of each class."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from crumb.data.sets.folder import Folder
from crumb.nets.config import Preprocessing
from crumb.teaching.material import Clip, clips_of, hold_back, in_turn


def clips(**counts: int) -> list[Clip]:
    return [
        Clip(name, (Path(f"{name}{number}.mp4"),))
        for name, count in counts.items()
        for number in range(count)
    ]


@pytest.mark.parametrize(
    ("count", "back"), [(2, [1]), (3, [1]), (4, [2]), (8, [2, 6]), (16, [2, 6, 10, 14])]
)
def test_a_quarter_of_the_clips_spread_evenly(count, back):
    found = hold_back(clips(cat=count))
    assert [number for number, clip in enumerate(found) if clip.share == 1] == back
    assert {clip.share for clip in found} == {0, 1}


def test_the_end_of_the_only_clip():
    alone, *several = hold_back(clips(cat=1, dog=2))
    assert alone.share == 0.25
    assert {clip.share for clip in several} == {0, 1}


@pytest.mark.parametrize(
    ("frames", "first", "back"), [(16, 12, 4), (2, 1, 1), (1, 1, 0), (3, 2, 1)]
)
def test_something_is_left_to_learn_from(tmp_path, frames, first, back):
    files = []
    for number in range(frames):
        files.append(tmp_path / f"{number}.png")
        Image.new("RGB", (8, 8), (number, 0, 0)).save(files[-1])
    one, two = Clip("cat", tuple(files), 0.25).parts(Preprocessing(8))
    assert (len(one), len(two)) == (first, back)
    assert torch.cat([one, two])[:, 0, 0, 0].tolist() == list(range(frames))


def test_photographs_are_clips_of_one_frame_and_sessions_are_clips(tmp_path):
    for name in ("cat/a.png", "cat/b.png", "dog/a.png", "dog/b.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / name)
    found = clips_of(Folder(root=tmp_path / "photos").survey)
    assert [(clip.class_name, len(clip.files)) for clip in found] == [
        ("cat", 1),
        ("cat", 1),
        ("dog", 1),
        ("dog", 1),
    ]
    for name in ("cat/one/1.png", "cat/one/2.png", "dog/two/1.png"):
        (tmp_path / "sessions" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "sessions" / name)
    found = clips_of(Folder(root=tmp_path / "sessions").survey)
    assert [(clip.class_name, len(clip.files)) for clip in found] == [("cat", 2), ("dog", 1)]


def test_classes_come_one_after_the_other():
    mixed = [*clips(cat=1), *clips(dog=1), *clips(cat=1)]
    assert [clip.class_name for clip in in_turn(mixed)] == ["cat", "cat", "dog"]
