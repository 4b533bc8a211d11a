"""What is tried in tuning: ranges of settings, and draws from them."""

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
"""Number of the run that is tuned on: far above those that are compared, so in another order."""
MAX_TUNED = 3
"""Settings searched at most, the learning rate included."""
LR_FACTOR = 10.0
"""The learning rate is searched from this fraction to this multiple of the one that was given."""


def ranges_of(kind: type[Learner], method: Any) -> dict[str, tuple[float, float]]:
    """What is searched: the learning rate, if there is one, and coefficients with an effect."""
    ranges: dict[str, tuple[float, float]] = {}
    if kind.trains:
        least, most = method.lr / LR_FACTOR, method.lr * LR_FACTOR
        ranges["lr"] = max(least, method.least_lr), min(most, MAX_FLOAT)
    for name, bounds in kind.tuned.items():
        # A coefficient of a part that is not there is refused.
        with contextlib.suppress(InputError):
            for value in bounds:
                replace(method, **{name: value})
            ranges[name] = bounds
    return ranges


def draw(ranges: Ranges, count: int, kind: type[Learner]) -> list[dict[str, float]]:
    """Values drawn evenly on a logarithmic scale, to three digits.

    Trial n of every method lies at the same place of its ranges, however many there are.

    Args:
        ranges: of what is searched.
        count: of draws.
        kind: of the method, whose order of settings says which place is whose.
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
                # Rounding must not lead out of the range.
                values[name] = min(high, max(low, float(f"{low * (high / low) ** place:.3g}")))
        drawn.append(values)
    return drawn
