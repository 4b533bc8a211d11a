"""Search ranges of tuning, and random draws from them."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import numpy as np

from crumb.errors import InputError
from crumb.methods.base import Learner
from crumb.methods.described import Ranges
from crumb.methods.training import MAX_FLOAT
from crumb.seeds import derive

HELD_ASIDE = 1_000_000
"""Run number for tuning, far above compared runs, so its order of classes is different."""
MAX_TUNED = 3
"""Maximum number of searched settings, including the learning rate."""
LR_FACTOR = 10.0
"""The learning rate is searched from this fraction to this multiple of the given one."""


def ranges_of(kind: type[Learner], method: Any) -> dict[str, tuple[float, float]]:
    """The searched settings: the learning rate, if any, and coefficients with an effect."""
    ranges: dict[str, tuple[float, float]] = {}
    if kind.trains:
        least, most = method.lr / LR_FACTOR, method.lr * LR_FACTOR
        ranges["lr"] = max(least, method.least_lr), min(most, MAX_FLOAT)
    for name, bounds in kind.tuned.items():
        # Coefficients of unused components are refused by the configuration.
        with contextlib.suppress(InputError):
            for value in bounds:
                replace(method, **{name: value})
            ranges[name] = bounds
    return ranges


def draw(ranges: Ranges, count: int, kind: type[Learner]) -> list[dict[str, float]]:
    """Draw values evenly on a logarithmic scale, rounded to three digits.

    Trial n lies at the same relative position of the ranges for every method and count.

    Args:
        ranges: range of each searched setting.
        count: number of draws.
        kind: class of the method, whose order of settings assigns dimensions.
    """
    names = ["lr", *kind.tuned]
    assert len(names) <= MAX_TUNED, f"{kind.name} has too many settings to search"
    places = np.random.default_rng(derive(HELD_ASIDE, "tune")).random((count, MAX_TUNED))
    drawn = []
    for row in places.tolist():
        values = {}
        for name, place in zip(names, row, strict=False):
            if name in ranges:
                low, high = ranges[name]
                # Rounding must not leave the range.
                values[name] = min(high, max(low, float(f"{low * (high / low) ** place:.3g}")))
        drawn.append(values)
    return drawn
