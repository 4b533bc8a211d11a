"""Search ranges of tuning, and evenly spread draws from them."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

from crumb.errors import InputError
from crumb.methods.base import Learner
from crumb.methods.described import Bounds, Ranges
from crumb.methods.training import MAX_FLOAT

HELD_ASIDE = 1_000_000
"""Run number for tuning, far above compared runs, so its order of classes is different."""
MAX_TUNED = 3
"""Maximum number of searched settings, including the learning rate."""
LR_FACTOR = 10.0
"""The learning rate is searched from this fraction to this multiple of the given one."""


def ranges_of(kind: type[Learner], method: Any) -> dict[str, Bounds]:
    """The searched settings: the learning rate, if any, and other settings with an effect.

    The learning rate is searched in two decades around the given one.
    """
    ranges: dict[str, Bounds] = {}
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


def draw(ranges: Ranges, count: int, kind: type[Learner]) -> list[dict[str, Any]]:
    """Draw settings from a Sobol sequence, which covers the ranges more evenly than chance does.

    Numbers are log-uniform. Floats are rounded to three digits. Trial n lies at the same relative
    position of the ranges for every method and count. The sequence is fixed: it has no seed.

    Args:
        ranges: range of each searched setting.
        count: number of draws.
        kind: class of the method, whose order of settings assigns dimensions.
    """
    import torch
    from torch.quasirandom import SobolEngine

    names = ["lr", *kind.tuned]
    assert len(names) <= MAX_TUNED, f"{kind.name} has too many settings to search"
    if not count:
        return []
    # The first two points are a corner and the centre; the trial with the given settings is there.
    places = SobolEngine(MAX_TUNED).fast_forward(2).draw(count, dtype=torch.float64)
    return [
        {
            name: _at(ranges[name], place)
            for name, place in zip(names, row, strict=False)
            if name in ranges
        }
        for row in places.tolist()
    ]


def _at(bounds: Bounds, place: float) -> float | str:
    """The value at a relative position, at least 0 and below 1, of a range."""
    if isinstance(bounds[0], str):
        return bounds[int(place * len(bounds))]
    low, high = map(float, bounds)
    if all(isinstance(end, int) for end in bounds):
        # Each whole number stands for the interval that is rounded to it.
        first, last = low - 0.5, high + 0.5
        return min(int(high), max(int(low), round(first * (last / first) ** place)))
    # Rounding must not leave the range.
    return min(high, max(low, float(f"{low * (high / low) ** place:.3g}")))
