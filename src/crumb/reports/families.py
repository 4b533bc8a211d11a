"""Compare results: paired differences, and groups of results with a baseline.

Used by ``crumb compare``, ``crumb ablate``, ``crumb runs diff`` and ``crumb report``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from crumb.errors import InputError
from crumb.experiments.arms import UNABLATED
from crumb.methods.facts import facts
from crumb.reports.intervals import SEED, Estimate, bootstrap_interval, estimate
from crumb.reports.key_figures import KeyFigures, key_figures
from crumb.reports.statistics import (
    Effect,
    effect_size,
    holm,
    paired_permutation,
    wilcoxon,
)
from crumb.stream.record import FIGURES, RunRecord

OWN_METHOD = "crumb"
_SLACK = 0.01
_NAMED, _BEST = "named by --baseline", "the best by mean final accuracy"
_WHY = {UNABLATED: "the unablated run", OWN_METHOD: "the only result of CRUMB"}


@dataclass(frozen=True)
class Result:
    """Finished runs of one method with one set of settings.

    Attributes:
        name: unique name.
        method: name of the method.
        records: finished runs, by number.
        budget: memory budget in bytes; None if not set.
        settings: settings by ``section.name``; empty if its study holds them.
        folder: results folder; None likewise.
    """

    name: str
    method: str
    records: Sequence[RunRecord]
    budget: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def is_bound(self) -> bool:
        """Whether it is an upper bound rather than a streaming method."""
        return facts(self.method).offline

    @cached_property
    def figures(self) -> KeyFigures:
        """Its key figures; needs a finished run."""
        return key_figures(self.records)

    @cached_property
    def finals(self) -> dict[int, float]:
        """Final accuracy in percent, by number of the run."""
        return runs_of(self.records)


def runs_of(records: Iterable[RunRecord], figure: str = "final_accuracy") -> dict[int, float]:
    """One of the key figures (:data:`FIGURES`) of each run, by run number.

    Raises:
        InputError: the figure is unknown, or a run is duplicated or lacks it.
    """
    if figure not in FIGURES:
        raise InputError(figure, "is not a key figure", f"give one of {', '.join(FIGURES)}")
    found: dict[int, float] = {}
    for record in records:
        value = record.figures()[figure]
        if record.run in found:
            raise InputError(f"run {record.run}", "is given twice", "give each run once")
        if value is None:
            raise InputError(f"run {record.run}", f"has no {figure}", "choose another figure")
        found[record.run] = value
    return found


# Paired differences.


@dataclass(frozen=True)
class Difference:
    """A result compared with a reference over shared runs.

    Attributes:
        result: the compared result.
        reference: the reference result.
        runs: numbers of the shared runs, ascending; at least one.
        values: the figure in each shared run of the result.
        others: the same for the reference.
        permutation_p: p-value of :func:`paired_permutation`.
        holm_p: the same p-value adjusted by :func:`holm`.
    """

    result: Result
    reference: Result
    runs: Sequence[int]
    values: Sequence[float]
    others: Sequence[float]
    permutation_p: float
    holm_p: float

    @property
    def gaps(self) -> list[float]:
        """Result minus reference, per run."""
        return [one - other for one, other in zip(self.values, self.others, strict=True)]

    @cached_property
    def gap(self) -> Estimate:
        """Mean gap with its standard deviation and Student's t interval; positive if the result is
        higher.
        """
        return estimate(self.gaps)

    @cached_property
    def gap_interval(self) -> tuple[float, float] | None:
        """:func:`bootstrap_interval` of the mean gap."""
        return bootstrap_interval(self.gaps)

    @cached_property
    def wilcoxon_p(self) -> float:
        """p-value of :func:`wilcoxon`."""
        return wilcoxon(self.values, self.others)

    @cached_property
    def effect(self) -> Effect:
        """:func:`effect_size` of result minus reference."""
        return effect_size(self.values, self.others)


def compare(
    pairs: Iterable[tuple[Result, Result]], figure: str = "final_accuracy"
) -> list[Difference]:
    """Compare results with references over runs with the same number.

    With n runs no p-value is below 2 / 2^n, and with m comparisons no adjusted one is below m times
    that: 5 runs cannot reach significance at 0.05 (:func:`~crumb.reports.statistics.smallest_p`).

    Args:
        pairs: pairs of result and reference. Pairs without shared runs are left out.
        figure: one of :data:`FIGURES`; every run must have it.

    Returns:
        one difference per pair, in order, with p-values adjusted for all of them.

    Raises:
        InputError: a value is not finite (names the result), or a run lacks the figure.
    """
    found: list[Difference] = []
    for one, other in pairs:
        own, others = runs_of(one.records, figure), runs_of(other.records, figure)
        if shared := sorted(own.keys() & others.keys()):
            values, beside = ([runs[run] for run in shared] for runs in (own, others))
            _check_finite(one, shared, values)
            _check_finite(other, shared, beside)
            p = paired_permutation(values, beside, SEED)
            found.append(Difference(one, other, shared, values, beside, p, p))
    adjusted = holm({str(place): one.permutation_p for place, one in enumerate(found)})
    return [replace(one, holm_p=p) for one, p in zip(found, adjusted.values(), strict=True)]


def _check_finite(result: Result, runs: Sequence[int], values: Sequence[float]) -> None:
    for run, value in zip(runs, values, strict=True):
        if not math.isfinite(value):
            problem = f"run {run} is not finite"
            raise InputError(result.name, problem, "run it again or leave it out")


# Groups of comparable results.


@dataclass(frozen=True)
class Family:
    """A group of comparable results with a baseline.

    Attributes:
        title: what they have in common.
        budget: memory budget in bytes of the methods with exemplars; None if it is not what groups
            them.
        results: results, best first, upper bounds last; at least one.
        baseline: the result that the others are compared with.
        why: why it is the baseline, in words.
    """

    title: str
    budget: int | None
    results: Sequence[Result]
    baseline: Result
    why: str

    @property
    def ranked(self) -> list[Result]:
        """The results other than upper bounds, or all if there are only upper bounds."""
        return [one for one in self.results if not one.is_bound] or [*self.results]

    @property
    def _others(self) -> list[Result]:
        return [one for one in self.results if one is not self.baseline and not one.is_bound]

    @cached_property
    def differences(self) -> list[Difference]:
        """Differences of all results that share a run with the baseline, except upper bounds; best
        first.
        """
        return compare((one, self.baseline) for one in self._others)

    @property
    def unpaired(self) -> list[Result]:
        """The results that share no run with the baseline."""
        return [one for one in self._others if not one.finals.keys() & self.baseline.finals.keys()]


def family_of(
    title: str, results: Iterable[Result], budget: int | None = None, named: str | None = None
) -> Family:
    """Group some results; ``named`` is the requested baseline, if any.

    Raises:
        InputError: several results are of the named method.
    """
    ordered = best_first(results)
    baseline, why = _baseline(ordered, named)
    return Family(title, budget, ordered, baseline, why)


def best_first(results: Iterable[Result]) -> list[Result]:
    """Sort by mean final accuracy, upper bounds last."""
    return sorted(results, key=lambda one: (one.is_bound, -one.figures.final.mean, one.name))


def _baseline(results: Sequence[Result], named: str | None) -> tuple[Result, str]:
    """The baseline and why it was chosen."""
    if named is not None:
        meant = [one for one in results if one.name == named]
        meant = meant or [one for one in results if one.method == named]
        if len(meant) > 1:
            names = ", ".join(one.name for one in meant)
            problem = "is the method of several results"
            raise InputError(f"--baseline {named}", problem, f"name one of {names}")
        if meant:
            return meant[0], _NAMED
    whole = [one for one in results if one.name.rpartition("/")[2] == UNABLATED]
    own = [one for one in results if one.method == OWN_METHOD]
    for name, known in ((UNABLATED, whole), (OWN_METHOD, own)):
        if len(known) == 1:
            return known[0], _WHY[name]
    return results[0], _BEST


def is_over(result: Result, budget: int | None) -> bool:
    """Whether a result kept more than a budget."""
    return exceeds(result.figures.total_bytes, budget)


def exceeds(held: int, budget: int | None) -> bool:
    """Whether bytes exceed a budget; a hundredth more is left to counts of classes."""
    return budget is not None and held > budget * (1 + _SLACK)


def over_budget(results: Sequence[Result]) -> set[str]:
    """Names of the results that kept more bytes than their budget.

    A result that keeps no exemplars has no budget of its own. It is over if it kept more than the
    largest budget of the others.
    """
    largest = max((one.budget for one in results if one.budget is not None), default=None)
    limits = {
        one.name: largest if one.budget is None and not one.figures.replay_bytes else one.budget
        for one in results
    }
    return {one.name for one in results if not one.is_bound and is_over(one, limits[one.name])}


def in_bytes(budget: int | None) -> str:
    """A budget in words."""
    return "no exemplars kept" if budget is None else f"{budget:,} bytes"
