"""Base of closed-form methods on random features."""

from __future__ import annotations

from dataclasses import dataclass

from crumb.errors import require
from crumb.methods.closed_form import ClosedForm, ClosedFormConfig

USUAL, MOST = 2000, 10_000
"""Numbers of random features without and within a budget."""


@dataclass(frozen=True)
class RandomFeaturesConfig(ClosedFormConfig):
    """Settings of the random features."""

    dimensions: int | None = None
    """Number of random features. Default: 2,000, or as many as BUDGET-BYTES holds, at most
    10,000."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (count := self.dimensions) is not None:
            require("dimensions", count, 1 <= count <= 1 << 15, "from 1 to 32768")


class RandomFeatures(ClosedForm):
    """Closed-form learner whose vectors are random functions of the features.

    The functions follow from the seed, so they do not count as memory.
    """

    def most_dimensions(self) -> int:
        """Number of random features if every one fits into the budget."""
        return self.config.dimensions or (MOST if self.config.budget_bytes else USUAL)
