"""Some of many things, evenly spaced."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crumb.data.spacing import evenly


@given(count=st.integers(0, 5000), most=st.integers(1, 100))
def test_in_the_middle_of_equal_parts(count: int, most: int):
    steps = evenly(count, most)
    assert len(steps) == min(count, most)
    if len(steps):
        assert steps.min() >= 0
        assert steps.max() < count
        # As near to the first as to the last.
        assert abs(steps[0] - (count - 1 - steps[-1])) <= 1
    if len(steps) > 1:
        gaps = np.diff(steps)
        assert gaps.min() >= 1
        assert gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize(
    ("at", "expected"),
    [("start", [0, 3, 6]), ("middle", [1, 5, 8]), ("end", [2, 5, 9])],
)
def test_which_of_each_part(at, expected):
    assert evenly(10, 3, at).tolist() == expected
    assert evenly(2, 5, at).tolist() == [0, 1]
    assert evenly(0, 5, at).tolist() == []
