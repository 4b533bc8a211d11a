"""What a report is about: results found in folders, and which of them can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from crumb.errors import InputError
from crumb.experiments.arms import UNABLATED
from crumb.methods.registry import methods
from crumb.reports.arms import ArmRow, compare_arms, runs_of
from crumb.reports.comparison import Row, row_of, title
from crumb.reports.statistics import Estimate, differences, estimate, holm
from crumb.stream.folders import ResultsFolder, survey
from crumb.stream.record import RunRecord

OWN_METHOD = "crumb"
_NAMED, _BEST = "named by --baseline", "the best by mean final accuracy"
_WHY = {UNABLATED: "the run that nothing was taken from", OWN_METHOD: "the only result of CRUMB"}
# Results that share all of these are of one stream: run r of each sees the same frames.
_STREAM = ("files.index", "stream.protocol", "stream.filelists")
_LAYOUT = "stream.layout."
_BUDGET = "method.budget_bytes"
_NEEDED = ("stream.dataset", "stream.protocol", "stream.method", "files.index")
# Of resamples and permutations; any would do, and always the same gives the same page.
_SEED = 0


@dataclass(frozen=True)
class Result:
    """A results folder with finished runs.

    Attributes:
        name: the end of its path that no other result of the report has.
        folder: of the results.
        settings: by ``section.name``.
        records: of the finished runs, by number; at least one.
    """

    name: str
    folder: Path
    settings: Mapping[str, Any]
    records: Sequence[RunRecord]

    @property
    def method(self) -> str:
        """By name."""
        return str(self.settings["stream.method"])

    @property
    def is_bound(self) -> bool:
        """Whether it is an upper bound, which is no method for a stream."""
        return methods()[self.method].offline

    @property
    def budget(self) -> int | None:
        """Bytes that exemplars were given in all; None where nothing was said."""
        return self.settings.get(_BUDGET)

    @cached_property
    def row(self) -> Row:
        """Its figures."""
        return row_of(self.name, self.records, {})

    @cached_property
    def finals(self) -> dict[int, float]:
        """Final accuracy in percent, by number of the run."""
        return runs_of(self.records)


@dataclass(frozen=True)
class Difference:
    """A result beside the baseline, over the runs that both have.

    Attributes:
        result: that is compared.
        gaps: final accuracy of the baseline minus that of the result, of each shared run, points.
        estimate: of the gaps, with the interval of Student's t.
        row: tests of result minus baseline.
    """

    result: Result
    gaps: Sequence[float]
    estimate: Estimate
    row: ArmRow

    @property
    def runs(self) -> int:
        """How many are paired."""
        return len(self.gaps)


@dataclass(frozen=True)
class Family:
    """Results that are compared with one another.

    Attributes:
        title: what they have in common.
        budget: in bytes, of those that keep exemplars; None where that tells none apart.
        results: best first, upper bounds last.
        baseline: that the others are compared with.
        why: it is the baseline, in words.
        differences: of all but the baseline and upper bounds that share a run with it; best first.
        unpaired: those that share none.
    """

    title: str
    budget: int | None
    results: Sequence[Result]
    baseline: Result
    why: str
    differences: Sequence[Difference]
    unpaired: Sequence[Result]

    @property
    def ranked(self) -> list[Result]:
        """The results that are no upper bounds; all where there is nothing else."""
        return [one for one in self.results if not one.is_bound] or [*self.results]


@dataclass(frozen=True)
class Experiment:
    """Results over one stream.

    Attributes:
        results: best first, upper bounds last.
        families: one, or one for each budget in bytes.
    """

    results: Sequence[Result]
    families: Sequence[Family]


@dataclass(frozen=True)
class Report:
    """All that a report is about.

    Attributes:
        experiments: streams and their results.
        unfinished: folders without a finished run.
        pretrained: how many folders of pretraining there are, which is no stream.
    """

    experiments: Sequence[Experiment]
    unfinished: Sequence[str]
    pretrained: int

    @property
    def results(self) -> list[Result]:
        """Of all experiments."""
        return [result for experiment in self.experiments for result in experiment.results]


def gather(folders: Iterable[Path], baseline: str | None = None) -> Report:
    """Find results in folders and below, and sort them.

    Args:
        folders: of results, or that contain such.
        baseline: name of a result or method to compare the others with; where it is not among the
            results of a family, or not given, the run that nothing was taken from, the only one of
            CRUMB, or the best.

    Raises:
        InputError: a folder holds no finished run or damaged files; there is no such baseline, or
            it is not clear which is meant.
    """
    found: dict[Path, ResultsFolder] = {}
    for folder in folders:
        below = survey(folder)
        for problem in below.problems.values():
            raise problem
        if not below.found:
            remedy = "give folders that crumb stream, compare or ablate have written"
            raise InputError(folder, "holds no results", remedy)
        found |= {one.path.resolve(): one for one in below.found}
    results, unfinished, pretrained = [], [], 0
    for folder, name in zip(found, short_names([*found]), strict=True):
        settings, records = found[folder].settings, found[folder].records
        if settings["command"] != "stream":
            pretrained += 1
        elif not records:
            unfinished.append(name)
        else:
            _check(folder, settings, records)
            results.append(Result(name, folder, settings, records))
    if not results:
        problem = "has no finished run of crumb stream"
        raise InputError(" ".join(map(str, folders)), problem, "run one to its end")
    if baseline is not None and not any(baseline in (r.name, r.method) for r in results):
        names = ", ".join(result.name for result in results)
        raise InputError(f"--baseline {baseline}", "is none of the results", f"name one of {names}")
    streams: dict[tuple[object, ...], list[Result]] = {}
    for result in results:
        streams.setdefault(_stream_of(result), []).append(result)
    return Report(
        [_experiment(group, baseline) for group in streams.values()], unfinished, pretrained
    )


def short_names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of these paths that tell them apart, as names of results."""
    names = []
    for folder in folders:
        count = 1
        while sum(other.parts[-count:] == folder.parts[-count:] for other in folders) > 1:
            count += 1
        names.append("/".join(folder.parts[-count:]))
    return names


def _check(folder: Path, settings: Mapping[str, Any], records: Sequence[RunRecord]) -> None:
    """Refuse settings and runs that a report can say nothing of."""
    path, remedy = folder / "config.toml", "make the results again"
    if len({len(record.scores) for record in records}) > 1:
        raise InputError(folder / "runs", "are of unequal numbers of tasks", remedy)
    for name in _NEEDED:
        if not isinstance(settings.get(name), str):
            raise InputError(path, f"does not say {name}", remedy)
    if (method := settings["stream.method"]) not in methods():
        raise InputError(path, f"names a method {method!r}", f"know of {', '.join(methods())}")
    budget = settings.get(_BUDGET)
    if budget is not None and type(budget) is not int:
        raise InputError(path, f"says {_BUDGET} = {budget!r}", remedy)


def _stream_of(result: Result) -> tuple[object, ...]:
    """What is equal for results over one stream."""
    names = [*_STREAM, *sorted(name for name in result.settings if name.startswith(_LAYOUT))]
    tasks = max(len(record.scores) for record in result.records)
    return (tasks, *[f"{name} {result.settings.get(name)}" for name in names])


def _experiment(results: Sequence[Result], baseline: str | None) -> Experiment:
    ordered = sorted(results, key=lambda one: (one.is_bound, -one.row.final.mean, one.name))
    budgets = sorted({one.budget for one in ordered if one.budget is not None})
    storing = {one.method for one in ordered if one.budget is not None}
    # Where one method alone has several budgets, they are what is studied.
    if len(budgets) < 2 or len(storing) < 2:
        return Experiment(ordered, [_family("All results", ordered, None, baseline)])
    none = [one for one in ordered if one.budget is None and not one.row.replay_bytes]
    families = [
        _family(
            f"In {title(budget)} of exemplars",
            [one for one in ordered if one.budget == budget or one in none],
            budget,
            baseline,
        )
        for budget in budgets
    ]
    if free := [one for one in ordered if one.budget is None and one not in none]:
        families.append(_family("Without a budget in bytes", free, None, baseline))
    return Experiment(ordered, families)


def _family(title: str, results: Sequence[Result], budget: int | None, named: str | None) -> Family:
    baseline, why = _baseline(results, named)
    others = [one for one in results if one is not baseline and not one.is_bound]
    shared = {one.name: sorted(one.finals.keys() & baseline.finals.keys()) for one in others}
    compared = [_difference(one, baseline, shared[one.name]) for one in others if shared[one.name]]
    adjusted = holm({one.result.name: one.row.permutation_p for one in compared})
    corrected = [
        replace(one, row=replace(one.row, holm_p=adjusted[one.result.name])) for one in compared
    ]
    unpaired = [one for one in others if not shared[one.name]]
    return Family(title, budget, results, baseline, why, corrected, unpaired)


def _difference(one: Result, baseline: Result, runs: Sequence[int]) -> Difference:
    """One result beside the baseline; its correction for the number of results is still to come."""
    own, others = ({run: result.finals[run] for run in runs} for result in (one, baseline))
    (row,) = compare_arms(others, {one.name: own}, _SEED)
    gaps = differences([*others.values()], [*own.values()]).tolist()
    return Difference(one, gaps, estimate(gaps), row)


def _baseline(results: Sequence[Result], named: str | None) -> tuple[Result, str]:
    """What the others are compared with, and why.

    Raises:
        InputError: several results are of the method that was named.
    """
    if named is not None:
        meant = [one for one in results if one.name == named]
        meant = meant or [one for one in results if one.method == named]
        if len(meant) > 1:
            names = ", ".join(one.name for one in meant)
            problem = "is the method of several results"
            raise InputError(f"--baseline {named}", problem, f"name one of {names}")
        if meant:
            return meant[0], _NAMED
    whole = [one for one in results if one.folder.name == UNABLATED]
    own = [one for one in results if one.method == OWN_METHOD]
    for name, known in ((UNABLATED, whole), (OWN_METHOD, own)):
        if len(known) == 1:
            return known[0], _WHY[name]
    return results[0], _BEST
