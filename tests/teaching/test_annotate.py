"""Answers drawn into a clip, in the letters of their names."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from crumb.methods.answers import Verdict
from crumb.teaching.annotate import SIDE, draw


def line(name: str) -> np.ndarray:
    """What is written of a name, bool [height, SIDE]."""
    frame = Image.new("RGB", (SIDE, SIDE), (0, 0, 0))
    drawn = np.asarray(draw(frame, Verdict(name, 0.5, "", 0.0)).convert("L"))
    return drawn[SIDE * 13 // 15 :] > 100


@pytest.mark.parametrize(
    "letters", ["\u00c4\u00d6", "\u043a\u0448", "\u03b3\u03ac", "\u0105\u0119"]
)
def test_letters_are_no_boxes(letters: str):
    """Two different letters are two different pictures; boxes are the same."""
    first, second = (line(letter) for letter in letters)
    assert first.any()
    assert not np.array_equal(first, second)
    # A letter that no typeface has.
    assert not np.array_equal(first, line("\U0010fffd"))
