from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own_folders import put

from crumb.data.sets.folder_layout import Entry, natural, read_tree
from crumb.data.sets.folder_split import (
    Part,
    check_sides,
    divide,
    group,
    held_out,
    numbered,
    spread,
)
from crumb.errors import InputError

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), max_size=12)


@given(st.lists(NAMES, max_size=6))
def test_natural_order_is_an_order(names: list[str]):
    ordered = sorted(names, key=natural)
    assert sorted({*names}, key=natural) == list(dict.fromkeys(ordered))
    assert sorted(ordered, key=natural) == ordered


@given(st.lists(st.integers(0, 10**30), unique=True), NAMES.filter(lambda n: not n[-1:].isdigit()))
def test_natural_order_counts(numbers: list[int], name: str):
    ordered = sorted((f"{name}{number}" for number in numbers), key=natural)
    assert ordered == [f"{name}{number}" for number in sorted(numbers)]


@given(st.integers(0, 300), st.floats(0.001, 0.999))
def test_a_share_is_spread(count: int, share: float):
    places = spread(count, share)
    assert len(places) == (0 if count < 2 else min(max(1, int(count * share + 0.5)), count - 1))
    assert places == sorted(set(places))
    if places:
        assert places[0] >= 0
        assert places[-1] == count - 1
        gaps = [b - a for a, b in itertools.pairwise([-1, *places])]
        assert max(gaps) - min(gaps) <= 1


WORDS = st.sampled_from(["a", "b 2", "b 10", "ü"])


@settings(max_examples=60)
@given(
    st.sets(st.tuples(WORDS, WORDS, WORDS, WORDS), min_size=1, max_size=25),
    st.sampled_from(["session", "object", "image"]),
    st.floats(0.05, 0.95),
)
def test_any_folder_is_divided_soundly(files: set[tuple[str, ...]], split, share: float):
    with tempfile.TemporaryDirectory() as name:
        entries = read_tree(put(Path(name), *("/".join(f) + ".jpg" for f in files))).entries
    clips = group(entries)
    assert {(c.class_name, c.object, c.session) for c in clips} == {f[:3] for f in files}
    parts = [
        part
        for clip, is_test in zip(clips, held_out(clips, split, share), strict=True)
        for part in divide(clip, clip.files, is_test, share if split == "image" else None)
    ]
    assert sorted(image for part in parts for image in part.images) == sorted(
        entry.path for entry in entries
    )
    class_ids = {name: n for n, name in enumerate(sorted({c.class_name for c in clips}), 1)}
    keys = numbered(parts, class_ids)
    assert len(set(keys)) == len(parts)
    for is_test in (False, True):
        others = {key[2] for key, part in zip(keys, parts, strict=True) if part.is_test != is_test}
        mine = {key[2] for key, part in zip(keys, parts, strict=True) if part.is_test == is_test}
        assert not mine & others
    for class_name in class_ids:
        check_class(class_name, parts, split)


def check_class(class_name: str, parts: list[Part], split: str) -> None:
    """A class has both sides as soon as it has two of what is divided."""
    mine = [part for part in parts if part.clip.class_name == class_name]
    tested = [part for part in mine if part.is_test]
    trained = [part for part in mine if not part.is_test]
    assert trained
    if split == "session":
        assert bool(tested) == (len(mine) > 1)
    elif split == "object":
        objects = [{part.clip.object for part in side} for side in (trained, tested)]
        assert not objects[0] & objects[1]
        assert bool(tested) == (len(objects[0] | objects[1]) > 1)
    else:
        assert bool(tested) == any(len(part.clip.files) > 1 for part in mine)


def test_frames_order_a_session_before_paths():
    entries = [Entry("a/2", "a", frame=2.0), Entry("a/9", "a", frame=1.0), Entry("a/1", "a")]
    assert group(entries)[0].files == ("a/1", "a/9", "a/2")


def test_classes_that_lack_a_side():
    check_sides({"a": (1, 1)}, "session")
    with pytest.raises(InputError, match="class b and 2 more: only one object"):
        check_sides({"a": (1, 1), "b": (1, 0), "c": (1, 0), "d": (2, 0)}, "object")
