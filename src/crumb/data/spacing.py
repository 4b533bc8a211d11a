"""Some of many things in order, evenly spaced."""

from __future__ import annotations

from typing import Literal

import numpy as np

_OFFSETS = {"start": 0, "middle": 1, "end": 2}


def evenly(count: int, most: int, at: Literal["start", "middle", "end"] = "middle") -> np.ndarray:
    """At most ``most`` of the numbers 0 to ``count`` - 1, int64, ascending, evenly spaced.

    Args:
        count: how many things there are.
        most: how many are wanted.
        at: which of each of so many equal parts is taken.
    """
    steps = min(count, most)
    places = (2 * np.arange(steps) + _OFFSETS[at]) * count // (2 * max(steps, 1))
    return places - (at == "end")
