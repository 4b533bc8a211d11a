"""The contact sheet: which frames it shows, and what of them can be seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from crumb.data.index import COLUMNS, Dataset
from crumb.errors import InputError
from crumb.reports import contact_sheet as module
from crumb.reports.contact_sheet import choose_frames, contact_sheet

TEST_SESSION = 3


def index_of(objects: int, sessions: int, frames: int, number: int = 1) -> pd.DataFrame:
    rows = [
        (number, item, session, frame, f"{number}/{item}_{session}_{frame}.png")
        for item in range(1, objects + 1)
        for session in range(1, sessions + 1)
        for frame in range(1, frames + 1)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


# Which frames.


@given(
    objects=st.integers(1, 30),
    sessions=st.integers(1, 11),
    frames=st.integers(1, 4),
    most=st.integers(1, 30),
    seed=st.integers(0, 99),
)
def test_frames_are_spread_over_objects_and_sessions(
    objects: int, sessions: int, frames: int, most: int, seed: int
):
    index = index_of(objects, sessions, frames)
    shuffled = index.sample(frac=1, random_state=seed).reset_index(drop=True)
    places = choose_frames(shuffled, most)
    assert 1 <= len(places) <= most
    assert len(set(places.tolist())) == len(places)
    chosen = shuffled.iloc[places]
    keys = chosen[["object", "session", "im_num"]].to_numpy().tolist()
    assert keys == sorted(keys)
    of_object = chosen.groupby("object").size()
    assert len(of_object) == min(objects, most)
    if frames * sessions * objects >= most and frames >= most:
        assert len(places) == most
    # Order of the rows is of no matter.
    assert (
        keys
        == index.iloc[choose_frames(index, most)][["object", "session", "im_num"]]
        .to_numpy()
        .tolist()
    )


@given(objects=st.integers(10, 40), sessions=st.integers(2, 10))
def test_objects_with_one_frame_each_show_every_session(objects: int, sessions: int):
    """As many objects as sessions would else show the same session of each."""
    chosen = index_of(objects, sessions, 5).iloc[choose_frames(index_of(objects, sessions, 5), 10)]
    assert chosen["object"].nunique() == 10
    assert chosen["session"].nunique() == sessions


def test_a_class_with_two_long_sessions_shows_both():
    """As of image data sets: one object, session 0 to train on, session 1 to test on."""
    index = index_of(1, 2, 500)
    chosen = index.iloc[choose_frames(index, 12)]
    assert chosen["session"].value_counts().to_dict() == {1: 6, 2: 6}
    gaps = np.diff(chosen.loc[(chosen["session"] == 1).to_numpy(), "im_num"])
    assert gaps.max() - gaps.min() <= 1


# The picture.


def paint(folder: Path, classes: int, sessions: int = 4) -> Dataset:
    """Frames of one grey each, 8 x 8, so that every other colour is the sheet's."""
    index = pd.concat(
        [index_of(1, sessions, 2, number) for number in range(1, classes + 1)], ignore_index=True
    )
    for path in index["im_path"]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (90, 90, 90)).save(folder / path)
    names = {number: f"class {number}" for number in range(1, classes + 1)}
    return Dataset("painted", folder, folder, index, names, (TEST_SESSION,))


def colours(path: Path) -> dict[str, int]:
    """How many pixels have each colour that counts."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    known = {"frame": (90, 90, 90), "test": (0xD5, 0x5E, 0x00)}
    return {name: int((pixels == colour).all(1).sum()) for name, colour in known.items()}


def test_every_frame_is_drawn_and_those_of_test_sessions_are_ringed(tmp_path: Path):
    dataset = paint(tmp_path / "images", 2)
    path = tmp_path / "sheet.png"
    sheet = contact_sheet(dataset, path, columns=4)
    assert (sheet.shown, sheet.classes, sheet.left_out) == (("class 1", "class 2"), 2, None)
    found = colours(path)
    # Two classes of four frames each, one of them tested on, 112 pixels a side.
    assert 0.85 < found["frame"] / (2 * 4 * 112**2) < 1
    ring = 4 * 4 * 112
    assert 0.8 < found["test"] / (2 * ring) < 2
    untested = dataset.index[(dataset.index["session"] != TEST_SESSION).to_numpy()]
    contact_sheet(replace(dataset, index=untested.reset_index(drop=True)), path, columns=4)
    # What is left is the legend.
    assert colours(path)["test"] < ring / 2


@pytest.fixture
def painted(tmp_path: Path) -> Dataset:
    return paint(tmp_path / "images", 7, sessions=3)


def test_rows_are_bounded_and_stepped_over_all_classes(
    painted: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "MAX_ROWS", 3)
    sheet = contact_sheet(painted, tmp_path / "sheet.png", columns=2)
    assert sheet.shown == ("class 2", "class 4", "class 6")
    assert sheet.left_out == "3 of 7 classes are shown, evenly spaced"
    with Image.open(tmp_path / "sheet.png") as image:
        bounded = image.height
    names = ["class 7", "class 1", "class 2"]
    sheet = contact_sheet(painted, tmp_path / "sheet.png", columns=2, classes=names)
    assert (sheet.shown, sheet.left_out) == (("class 7", "class 1", "class 2"), None)
    with Image.open(tmp_path / "sheet.png") as image:
        # The line about what is left out is gone.
        assert image.height < bounded


@pytest.mark.parametrize("form", ["\u00c4", "A\u0308"])
def test_classes_are_named_in_either_form(painted: Dataset, tmp_path: Path, form: str):
    painted = replace(painted, class_names={**painted.class_names, 1: "\u00c4"})
    sheet = contact_sheet(painted, tmp_path / "sheet.png", columns=2, classes=["class 2", form])
    assert sheet.shown == ("class 2", "\u00c4")


def test_a_picture_that_would_be_too_large_is_refused(
    painted: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "MAX_FRAMES", 10)
    with pytest.raises(InputError, match=r"--classes: makes 14 frames"):
        contact_sheet(painted, tmp_path / "sheet.png", columns=2)
    assert not (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize("columns", [0, 101])
def test_columns_out_of_range(painted: Dataset, tmp_path: Path, columns: int):
    with pytest.raises(InputError, match="columns"):
        contact_sheet(painted, tmp_path / "sheet.png", columns=columns)


def test_the_same_picture_to_the_byte(painted: Dataset, tmp_path: Path):
    for name in ("a.png", "b.png"):
        contact_sheet(painted, tmp_path / name, columns=3)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_long_name_is_cut_and_the_picture_no_wider(painted: Dataset, tmp_path: Path):
    contact_sheet(painted, tmp_path / "a.png", columns=3)
    painted.class_names[1] = "a name of a class that goes on and on and on"
    contact_sheet(painted, tmp_path / "b.png", columns=3)
    with Image.open(tmp_path / "a.png") as first, Image.open(tmp_path / "b.png") as second:
        assert first.size == second.size
        assert first.tobytes() != second.tobytes()
        # Only the name has changed; no letter of it lies over a frame.
        left = module._MARGIN + module._LABEL
        box = (left, 0, first.width, first.height)
        assert first.crop(box).tobytes() == second.crop(box).tobytes()
