"""A number measured in several runs: its mean, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crumb.reports.statistics import bootstrap_interval
from crumb.stream.metrics import mean_and_deviation

# Of the resamples: the same numbers have the same interval in every report.
_SEED = 0
# Runs from which on a bootstrap interval holds the mean in some nine of ten cases.
_MANY = 10


@dataclass(frozen=True)
class OverRuns:
    """A number measured in several runs.

    Attributes:
        mean: of the runs.
        low: lower end of the 95 % bootstrap interval of the mean; None for fewer than 3 runs.
        high: its upper end.
        runs: how many.
    """

    mean: float
    low: float | None
    high: float | None
    runs: int

    def span(self) -> tuple[float, float | None, float | None]:
        """Mean and ends of the interval, as tables have them."""
        return self.mean, self.low, self.high

    def bar(self) -> tuple[float, float]:
        """Lengths of an error bar below and above the mean; none where there is no interval."""
        if self.low is None or self.high is None:
            return 0.0, 0.0
        # The interval of very skew runs may lie beside their mean.
        return max(0.0, self.mean - self.low), max(0.0, self.high - self.mean)


def over_runs(values: Sequence[float]) -> OverRuns:
    """Mean and interval of at least one run.

    Raises:
        InputError: a value is not finite.
    """
    low, high = bootstrap_interval(values, _SEED) or (None, None)
    return OverRuns(mean_and_deviation(values)[0], low, high, len(values))


def in_words(runs: int) -> str:
    """What a mean and its bar are, for captions."""
    if runs == 1:
        return "One run, so there is no interval."
    if runs == 2:
        return "Mean of 2 runs, too few for an interval."
    few = ", which is too narrow for so few" if runs < _MANY else ""
    return f"Mean of {runs} runs; bars: its 95 % bootstrap interval over the runs{few}."
