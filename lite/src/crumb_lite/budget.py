"""How many feature directions and stored vectors a number of bytes holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from crumb_lite.errors import InputError
from crumb_lite.halves import triangle_size
from crumb_lite.sample import SLICE

_SHARE = 7 / 8
"""Share of the budget for the statistics if features are stored."""


class Budget:
    """The division of the budget in Crumb.

    Args:
        settings: settings of the method.
        covariance: whether the method keeps a covariance.
    """

    def __init__(self, settings: Mapping[str, Any], covariance: bool) -> None:
        self._bytes: int | None = settings["budget_bytes"]
        self._crumbs: int = settings.get("crumbs", 0)
        self._expected: int = settings["classes_expected"]
        self._covariance = covariance

    def _statistics(self, classes: int, dimensions: int) -> int:
        """Bytes of the statistics, and of what stored features are decoded with."""
        entries = triangle_size(dimensions) if self._covariance else 0
        count = classes * (2 * dimensions + 4) + 2 * (dimensions + entries) + 8
        return count + (2 * classes + 4 * dimensions if self._crumbs else 0)

    def directions(self, classes: int, most: int) -> int:
        """Number of directions that fit for so many classes, at most ``most``.

        Raises:
            InputError: not a single one fits.
        """
        if self._bytes is None:
            return most
        share = _SHARE if self._crumbs else 1.0
        for count in range(most, 0, -1):
            if self._statistics(classes, count) <= self._bytes * share:
                return count
        problem = f"of {self._bytes} bytes does not hold one direction for {classes} classes"
        enough = math.ceil(self._statistics(classes, 1) / share)
        raise InputError("the budget", problem, f"learn a model with at least {enough}")

    def vectors(self, classes: int, dimensions: int) -> int:
        """Number of stored vectors per class that fit."""
        if self._bytes is None:
            return self._crumbs
        classes = max(classes, self._expected)
        left = self._bytes - self._statistics(classes, dimensions)
        return min(self._crumbs, left // (classes * -(-dimensions // SLICE)))
