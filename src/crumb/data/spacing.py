"""Evenly spaced selection from an ordered sequence."""

from __future__ import annotations

from typing import Literal

import numpy as np

_OFFSETS = {"start": 0, "middle": 1, "end": 2}


def evenly(count: int, most: int, at: Literal["start", "middle", "end"] = "middle") -> np.ndarray:
    """At most ``most`` of the numbers 0 to ``count`` - 1, int64, ascending, evenly spaced.

    Args:
        count: number of items.
        most: maximum number to select.
        at: position of the selected item in each of the equal parts.
    """
    steps = min(count, most)
    places = (2 * np.arange(steps) + _OFFSETS[at]) * count // (2 * max(steps, 1))
    return places - (at == "end")
