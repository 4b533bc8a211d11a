"""Read results from folders and group them by stream and family."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crumb.errors import InputError
from crumb.methods.facts import facts
from crumb.reports.families import Family, Result, best_first, family_of, in_bytes
from crumb.stream.folders import ResultsFolder, survey

# Settings that define a stream: results that share them see the same frames in run r.
_STREAM = ("command", "files.index", "stream.classes", "stream.filelists", "stream.protocol")
_LAYOUT = "stream.layout."
_BUDGET = "method.budget_bytes"
EPOCHS = ("stream.mode", "stream.epochs_first_task", "stream.epochs", "stream.stream_rate")
"""Settings that say how often a learner sees an image."""
_NEEDED = ("stream.dataset", "stream.protocol", "stream.method", "files.index")


@dataclass(frozen=True)
class Experiment:
    """Results on one stream, in one mode and with one number of epochs.

    Attributes:
        results: results, best first, upper bounds last.
        families: a single family, or one per memory budget.
        apart: what sets it apart from others over the same stream, such as "strict mode"; may be
            empty.
    """

    results: Sequence[Result]
    families: Sequence[Family]
    apart: str = ""


@dataclass(frozen=True)
class Report:
    """The contents of a report.

    Attributes:
        experiments: results by stream.
        unfinished: folders without a finished run.
        pretrained: number of pretraining folders, which are not streams.
    """

    experiments: Sequence[Experiment]
    unfinished: Sequence[str]
    pretrained: int

    @property
    def results(self) -> list[Result]:
        """Results of all experiments, each once: upper bounds may be in several."""
        found = [result for experiment in self.experiments for result in experiment.results]
        return [*{one.name: one for one in found}.values()]


def gather(folders: Iterable[Path], baseline: str | None = None) -> Report:
    """Find results in folders and their subfolders, and group them.

    Args:
        folders: results folders, or folders that contain some.
        baseline: name of a result or method to compare with. If not given, or not in a family: the
            unablated run, else the only result of CRUMB, else the best.

    Raises:
        InputError: a folder holds no finished run or damaged files, or the baseline is unknown or
            ambiguous.
    """
    found: dict[Path, ResultsFolder] = {}
    for folder in folders:
        below = survey(folder)
        for problem in below.problems.values():
            raise problem
        if not below.found:
            remedy = "give folders written by crumb stream, compare or ablate"
            raise InputError(folder, "holds no results", remedy)
        found |= {one.path.resolve(): one for one in below.found}
    results: list[Result] = []
    unfinished: list[str] = []
    pretrained = 0
    for folder, name in zip(found, short_names([*found]), strict=True):
        one = found[folder]
        if one.command != "stream":
            pretrained += 1
        elif not one.records:
            unfinished.append(name)
        else:
            _check(one, folder)
            results.append(result_of(one, name, folder))
    if not results:
        problem = "has no finished run of crumb stream"
        raise InputError(" ".join(map(str, folders)), problem, "finish a run first")
    if baseline is not None and not any(baseline in (r.name, r.method) for r in results):
        names = ", ".join(result.name for result in results)
        raise InputError(
            f"--baseline {baseline}", "is not one of the results", f"name one of {names}"
        )
    streams: dict[tuple[object, ...], list[Result]] = {}
    for result in results:
        tasks = max(len(record.scores) for record in result.records)
        key = (tasks, *map(str, stream_of(result.settings).items()))
        streams.setdefault(key, []).append(result)
    experiments = [
        _experiment(group, baseline, apart)
        for of_stream in streams.values()
        for apart, group in _by_epochs(of_stream).items()
    ]
    return Report(experiments, unfinished, pretrained)


def _by_epochs(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Results of one stream by mode, epochs and rate, in words; upper bounds are in each.

    How often a learner sees an image decides how much it can learn, so no ranking mixes them.
    """
    ranked = [one for one in results if not one.is_bound] or results
    found: dict[tuple[object, ...], list[Result]] = {}
    for one in ranked:
        found.setdefault(tuple(map(one.settings.get, EPOCHS)), []).append(one)
    bounds = [one for one in results if one not in ranked]
    epochs_of: dict[object, set[object]] = {}
    for mode, first, later, _ in found:
        epochs_of.setdefault(mode, set()).add((first, later))
    rates = {rate for *_, rate in found}
    groups = {}
    for key, group in sorted(found.items(), key=lambda item: tuple(map(str, item[0]))):
        mode, first, later, rate = key
        words = [f"{mode} mode"] if len(epochs_of) > 1 else []
        if len(epochs_of[mode]) > 1:
            words.append(f"{first} epochs on the first task, then {later}")
        if len(rates) > 1:
            words.append("a stream that waits" if rate is None else f"{rate:g} frames per second")
        groups[", ".join(words)] = [*group, *bounds]
    return groups


def result_of(one: ResultsFolder, name: str, folder: Path) -> Result:
    """The result in a results folder, with a name."""
    budget = one.settings.get(_BUDGET)
    return Result(name, one.method, one.records, budget, one.settings, folder)


def stream_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that determine the images of a run and their order; None where unset."""
    names = [*_STREAM, *sorted(name for name in settings if name.startswith(_LAYOUT))]
    return {name: settings.get(name) or None for name in names}


def short_names(folders: Sequence[Path]) -> list[str]:
    """The shortest distinct suffixes of paths, as result names."""
    names = []
    for folder in folders:
        count = 1
        while sum(other.parts[-count:] == folder.parts[-count:] for other in folders) > 1:
            count += 1
        names.append("/".join(folder.parts[-count:]))
    return names


def _check(one: ResultsFolder, folder: Path) -> None:
    """Refuse settings and runs that a report cannot describe."""
    path, remedy = folder / "config.toml", "repeat the runs"
    if len({len(record.scores) for record in one.records}) > 1:
        raise InputError(folder / "runs", "have different numbers of tasks", remedy)
    for name in _NEEDED:
        if not isinstance(one.settings.get(name), str):
            raise InputError(path, f"lacks {name}", remedy)
    try:
        facts(one.method)
    except InputError as error:
        problem = f"names a method {one.method!r}: {error.parts[1]}"
        raise InputError(path, problem, error.parts[2]) from error
    budget = one.settings.get(_BUDGET)
    if budget is not None and type(budget) is not int:
        raise InputError(path, f"says {_BUDGET} = {budget!r}", remedy)


def _experiment(results: Sequence[Result], named: str | None, apart: str) -> Experiment:
    ordered = best_first(results)
    budgets = sorted({one.budget for one in ordered if one.budget is not None})
    storing = {one.method for one in ordered if one.budget is not None}
    # If a single method has several budgets, compare the budgets.
    if len(budgets) < 2 or len(storing) < 2:
        return Experiment(ordered, [family_of("All results", ordered, None, named)], apart)
    none = [one for one in ordered if one.budget is None and not one.figures.replay_bytes]
    families = []
    for budget in budgets:
        own = [one for one in ordered if one.budget == budget or one in none]
        families.append(family_of(f"Memory budget {in_bytes(budget)}", own, budget, named))
    if free := [one for one in ordered if one.budget is None and one not in none]:
        families.append(family_of("Without a memory budget in bytes", free, None, named))
    return Experiment(ordered, families, apart)
