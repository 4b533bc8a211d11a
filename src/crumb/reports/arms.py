"""Arms of an experiment beside a reference, matched run by run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from crumb.errors import InputError
from crumb.reports.statistics import (
    Effect,
    bootstrap_interval,
    differences,
    effect_size,
    holm,
    paired_permutation,
    wilcoxon,
)
from crumb.stream.metrics import mean_and_deviation
from crumb.stream.record import FIGURES, RunRecord

Runs = Mapping[int, float]
"""One figure for each run, by the number of the run."""
Value = TypeVar("Value")


def runs_of(records: Iterable[RunRecord], figure: str = "final_accuracy") -> dict[int, float]:
    """One of the key figures (:data:`FIGURES`) of each run, by the number of the run.

    Raises:
        InputError: there is no such figure, a run comes twice or lacks the figure.
    """
    if figure not in FIGURES:
        raise InputError(figure, "is no figure of a run", f"give one of {', '.join(FIGURES)}")
    found: dict[int, float] = {}
    for record in records:
        value = record.figures()[figure]
        if record.run in found:
            raise InputError(f"run {record.run}", "is given twice", "give each run once")
        if value is None:
            raise InputError(f"run {record.run}", f"has no {figure}", "choose another figure")
        found[record.run] = value
    return found


def pair(
    one: Mapping[int, Value], other: Mapping[int, Value], names: tuple[str, str] = ("one", "other")
) -> tuple[list[Value], list[Value]]:
    """Match the runs of two arms by number.

    Args:
        one: what is known of each run of one arm, such as :func:`runs_of` gives.
        other: the same of the other arm.
        names: of the arms, for messages.

    Returns:
        two lists of [n], in the order of the numbers.

    Raises:
        InputError: an arm has no runs, or lacks runs of the other; names them.
    """
    for name, own, others, there in (
        (names[0], one, other, names[1]),
        (names[1], other, one, names[0]),
    ):
        if not own:
            raise InputError(name, "has no runs", "run it first, or leave it out")
        if missing := sorted(set(others) - set(own)):
            runs = ", ".join(map(str, missing))
            plural = "runs" if len(missing) > 1 else "run"
            problem = f"lacks {plural} {runs} of {there}"
            raise InputError(name, problem, "compare arms with the same runs")
    numbers = sorted(one)
    return [one[run] for run in numbers], [other[run] for run in numbers]


@dataclass(frozen=True)
class ArmRow:
    """An arm beside the reference.

    Attributes:
        arm: by name.
        runs: how many.
        mean: of the arm.
        interval: of that mean, :func:`bootstrap_interval`.
        difference: mean of arm minus reference; above zero where the arm has more.
        difference_interval: of the paired differences, :func:`bootstrap_interval`.
        permutation_p: :func:`paired_permutation`.
        wilcoxon_p: :func:`wilcoxon`.
        holm_p: the permutation test's, adjusted for the number of arms by :func:`holm`.
        effect: :func:`effect_size` of arm minus reference.
    """

    arm: str
    runs: int
    mean: float
    interval: tuple[float, float] | None
    difference: float
    difference_interval: tuple[float, float] | None
    permutation_p: float
    wilcoxon_p: float
    holm_p: float
    effect: Effect


def compare_arms(reference: Runs, arms: Mapping[str, Runs], seed: int) -> list[ArmRow]:
    """Compare arms with a reference, run by run.

    With n runs no p-value is below 2 / 2^n, and with m arms no smallest adjusted one below
    m times that: 5 runs cannot make any arm significant at 0.05
    (:func:`~crumb.reports.statistics.smallest_p`).

    Args:
        reference: a figure of each of its runs.
        arms: by name, the same of theirs; each with exactly the runs of the reference.
        seed: of resamples and permutations. Rows of other arms change only ``holm_p``.

    Returns:
        a row for each arm, in the order given.

    Raises:
        InputError: there are no arms, one has not the runs of the reference (named), or a value
            is not finite.
    """
    if not arms:
        raise InputError("arms", "are missing", "give at least one to compare with the reference")
    for name, runs in {"the reference": reference, **arms}.items():
        if lost := [run for run, value in runs.items() if not math.isfinite(value)]:
            raise InputError(name, f"run {lost[0]} is not finite", "run it again or leave it out")
    pairs = {name: pair(runs, reference, (name, "the reference")) for name, runs in arms.items()}
    permuted = {name: paired_permutation(*both, seed) for name, both in pairs.items()}
    adjusted = holm(permuted)
    return [_row(name, pairs[name], seed, permuted[name], adjusted[name]) for name in pairs]


def _row(
    name: str, both: tuple[list[float], list[float]], seed: int, permuted: float, adjusted: float
) -> ArmRow:
    gaps = differences(*both).tolist()
    return ArmRow(
        name,
        len(gaps),
        mean_and_deviation(both[0])[0],
        bootstrap_interval(both[0], seed),
        mean_and_deviation(gaps)[0],
        bootstrap_interval(gaps, seed),
        permuted,
        wilcoxon(*both),
        adjusted,
        effect_size(*both),
    )
