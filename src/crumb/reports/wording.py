"""Sentences of a report: findings with their uncertainty, and descriptions of what was run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crumb.reports.drawing import slug
from crumb.reports.families import Difference, Family, Result
from crumb.reports.intervals import Estimate
from crumb.reports.reader import Experiment, Report
from crumb.reports.statistics import smallest_p
from crumb.stream.record import RunRecord

LEVEL = 0.05
_MIN_P = 0.0001
_TIE = 0.05
_UNKNOWN = "?"
PROTOCOLS = {
    "iid": "any images, in random order",
    "class_iid": "all images of a few classes, in random order",
    "instance": "a few clips of any class, each in time order",
    "class_instance": "all clips of a few classes, each in time order",
}
MODES = {
    "paper": "tasks are trained for the epochs below",
    "strict": "online: every frame is seen once",
}


def percent(known: Estimate) -> str:
    """A mean in percent, with its interval if known."""
    if known.half is None:
        return f"{known.mean:.1f} %"
    return f"{known.mean:.1f} % (95 % interval {span(known.mean, known.half, 0, 100)})"


def span(mean: float, half: float, least: float, most: float) -> str:
    """An interval around a mean, clipped to possible values."""
    return f"{_number(max(least, mean - half))} to {_number(min(most, mean + half))}"


def _number(value: float) -> str:
    """One decimal place, without a minus before zero."""
    return f"{round(value, 1) + 0.0:.1f}"


def p_value(p: float) -> str:
    """A p-value with three significant digits."""
    return f"< {_MIN_P:g}" if p < _MIN_P else f"= {p:.3g}"


def count(number: int, what: str, plural: str | None = None) -> str:
    """`1 run`, `2 runs`."""
    return f"{number:,} {what if number == 1 else plural or what + 's'}"


def summary(family: Family, most: int = 5) -> list[str]:
    """The findings about one family, in sentences.

    All numbers are in the tables; untested claims are not made.

    Args:
        family: the results.
        most: maximum number of comparisons in words, best results first.
    """
    said = [_winner(family)]
    if len({one.figures.runs for one in family.results}) > 1:
        said.append(
            "Not all results have the same number of runs; means of fewer runs are less certain."
        )
    if family.results[0].figures.runs == 1 and not family.differences:
        said.append("With one run the uncertainty is unknown.")
    if family.differences:
        said.append(_standing(family))
        told = sorted(family.differences, key=lambda one: -one.gap.mean)[:most]
        said += [compared(one, len(family.differences)) for one in told]
        if left := len(family.differences) - len(told):
            verb = "is" if left == 1 else "are"
            said.append(f"{left} more {verb} in the table of comparisons.")
        said.append(certainty(family.differences))
    if family.unpaired:
        names = ", ".join(one.name for one in family.unpaired)
        share = f"no run in common with {family.baseline.name}"
        said.append(f"Not compared, because they share no runs ({share}): {names}.")
    bounds = [one for one in family.results if one.is_bound and one not in family.ranked]
    said += [
        f"{one.name}, an upper bound that may see all earlier tasks again, reaches "
        f"{percent(one.figures.final)}."
        for one in bounds
    ]
    return said


def _winner(family: Family) -> str:
    ranked = family.ranked
    best = ranked[0]
    known = best.figures.final
    runs = count(best.figures.runs, "run")
    if len(ranked) == 1:
        return f"{best.name} ends at {percent(known)} accuracy, over {runs}."
    equal = [one for one in ranked[1:] if known.mean - one.figures.final.mean < _TIE]
    if equal:
        names = ", ".join(one.name for one in (best, *equal[:-1])) + f" and {equal[-1].name}"
        of = f"of {len(ranked)} results"
        return f"{names} share the highest final accuracy {of}: {known.mean:.1f} %."
    second = ranked[1]
    gap = known.mean - second.figures.final.mean
    return (
        f"{best.name} has the highest final accuracy of {len(ranked)} results: {percent(known)}, "
        f"over {runs}. Next is {second.name}, {gap:.1f} points below."
    )


def _standing(family: Family) -> str:
    """The rank of the baseline among the others."""
    gaps = [one.gap.mean for one in family.differences]
    ahead, behind = sum(gap <= -_TIE for gap in gaps), sum(gap >= _TIE for gap in gaps)
    level = len(gaps) - ahead - behind
    places = {"ahead of": ahead, "behind": behind, "level with": level}
    parts = [f"{place} {number}" for place, number in places.items() if number]
    name = family.baseline.name
    if len(gaps) == 1:
        return f"The other is compared with {name} ({family.why})."
    return (
        f"The others are compared with {name} ({family.why}). By mean final accuracy over paired "
        f"runs, {name} is {' and '.join(parts)} of the {len(gaps)} others."
    )


def compared(one: Difference, comparisons: int) -> str:
    """Sentence that compares the baseline with one result.

    Args:
        one: the difference of the result from the baseline.
        comparisons: number of comparisons that the p-value is corrected for.
    """
    baseline, name, runs = one.reference.name, one.result.name, len(one.runs)
    gap = -one.gap.mean
    if abs(gap) < _TIE:
        how = f"{baseline} is level with {name}"
    else:
        word = "ahead of" if gap > 0 else "behind"
        how = f"{baseline} is {word} {name} by {abs(gap):.1f} points"
    if one.gap.half is None:
        return f"{how} in the single shared run."
    # Interval of the absolute difference.
    size = gap if gap > -_TIE else -gap
    interval = span(size, one.gap.half, -100, 100)
    p = one.permutation_p
    least = f", the smallest possible with {runs} runs" if p <= smallest_p(runs) else ""
    corrected = ""
    if comparisons > 1:
        corrected = (
            f"; p {p_value(one.holm_p)} after Holm's correction over {comparisons} comparisons"
        )
    return (
        f"{how} (95 % interval {interval}, {runs} paired runs; "
        f"paired permutation p {p_value(p)}{least}{corrected})."
    )


def certainty(differences: Sequence[Difference]) -> str:
    """Sentences on what so many runs can and do show at a level of 0.05.

    Args:
        differences: differences of one family; at least one.
    """
    runs, comparisons = max(len(one.runs) for one in differences), len(differences)
    if runs == 1:
        return "With one paired run the uncertainty is unknown."
    least = min(1.0, comparisons * smallest_p(runs))
    corrected = f" and Holm's correction over {comparisons} comparisons" if comparisons > 1 else ""
    if least > LEVEL:
        bound = "p is 1" if least == 1 else f"p cannot be below {least:.3g}"
        return (
            f"With {runs} paired runs{corrected}, {bound}, so no difference can be significant at "
            f"{LEVEL}, however large. More runs are needed."
        )
    sure = sum(one.holm_p <= LEVEL for one in differences)
    after = " after Holm's correction" if comparisons > 1 else ""
    which = f"{sure} of {comparisons} differences are" if comparisons > 1 else "The difference is"
    no = "" if sure or comparisons > 1 else " not"
    return f"{which}{no} significant at {LEVEL}{after}, by the paired permutation test over runs."


def experiment_title(experiment: Experiment) -> str:
    """Data set and protocol in one line, with mode and epochs if others have different ones."""
    settings, record = experiment.results[0].settings, experiment.results[0].records[0]
    tasks = count(len(record.scores), "task")
    classes = count(len(record.classes), "class", "classes")
    names = (dataset_name(settings), settings["stream.protocol"], experiment.apart)
    return f"{', '.join(filter(None, names))}: {classes} in {tasks}"


def dataset_name(settings: Mapping[str, Any]) -> str:
    """The name of the data set's folder, the only recorded name."""
    return str(settings["stream.dataset"]).rstrip("/").rpartition("/")[2]


def file_prefixes(report: Report) -> list[str]:
    """How the names of the figures of each stream begin; empty if there is a single one."""
    if len(report.experiments) == 1:
        return [""]
    names = [dataset_name(one.results[0].settings) for one in report.experiments]
    return [f"{slug(name)}_{number}_" for number, name in enumerate(names, 1)]


def facts(experiment: Experiment) -> list[tuple[str, str]]:
    """What was run, as names and values; all values if results differ."""
    results = experiment.results
    record = results[0].records[0]
    said = {name: _said(results, f"stream.{name}") for name in ("protocol", "mode")}
    guess = 100 / len(record.classes)
    readings = f"{_said(results, 'stream.epochs_first_task')} of the first task, "
    readings += f"{_said(results, 'stream.epochs')} of each later one"
    machine = [f"{name} {_said(results, f'stream.machine.{name}')}" for name in _MACHINE]
    layout = _said(results, "stream.layout.classes_per_task")
    return [
        (
            "data set",
            f"{dataset_name(results[0].settings)} ({results[0].settings['stream.dataset']})",
        ),
        ("classes", f"{len(record.classes)}: {', '.join(sorted(record.classes))}"),
        ("protocol", _explained(said["protocol"], PROTOCOLS)),
        ("mode", _explained(said["mode"], MODES)),
        ("tasks", f"{len(record.scores)}, of {layout} new classes each"),
        ("readings", f"{readings}; batches of {_said(results, 'stream.batch_size')} images"),
        (
            "tested",
            f"after each task, on test images of all classes seen; chance level {guess:.1f} %",
        ),
        ("methods", _said(results, "stream.method")),
        (
            "backbone",
            f"{_said(results, 'network.backbone')}, cut at {_said(results, 'network.cut')}",
        ),
        (
            "weights",
            f"{_said(results, 'network.weights')}; trained: {_said(results, 'network.trainable')}",
        ),
        ("runs", _runs(results)),
        ("machine", ", ".join(machine)),
        ("made with", f"Crumb {_said(results, 'crumb')}{_dates(results)}"),
    ]


def _dates(results: Sequence[Result]) -> str:
    """On which days the runs were finished, as far as that was noted."""
    days = {when(record)[:10] for one in results for record in one.records if record.finished}
    if not days:
        return ""
    first, last = min(days), max(days)
    return f", finished {first}" if first == last else f", finished {first} to {last}"


def when(record: RunRecord) -> str:
    """Date and time of a run, in UTC; `-` where they were not noted."""
    return record.finished.replace("T", " ").removesuffix("Z")[:16] if record.finished else "-"


_MACHINE = ("device", "precision", "deterministic", "compile")


def _said(results: Sequence[Result], name: str) -> str:
    values = [result.settings.get(name, _UNKNOWN) for result in results]
    return ", ".join(dict.fromkeys(sorted(map(shown, values))))


def _explained(values: str, words: Mapping[str, str]) -> str:
    return "; ".join(f"{name} ({words.get(name, _UNKNOWN)})" for name in values.split(", "))


def _runs(results: Sequence[Result]) -> str:
    by_numbers: dict[tuple[int, ...], int] = {}
    for result in results:
        numbers = tuple(record.run for record in result.records)
        by_numbers[numbers] = by_numbers.get(numbers, 0) + 1
    parts = [
        f"{count(len(numbers), 'run')} (number {', '.join(map(str, numbers))})"
        + ("" if len(by_numbers) == 1 else f" of {count(times, 'result')}")
        for numbers, times in sorted(by_numbers.items())
    ]
    return "; ".join(parts) + ". The number of a run is its seed"


def shown(value: object) -> str:
    """The text of a setting."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value)) or "-"
    return str(value)


def remarks(report: Report) -> list[str]:
    """What the page leaves out, and why."""
    said = []
    if report.unfinished:
        names = ", ".join(report.unfinished)
        said.append(f"Not shown because they have no finished run: {names}.")
    if report.pretrained:
        folders = count(report.pretrained, "folder")
        said.append(f"Not shown: {folders} of pretraining.")
    if len(report.experiments) > 1:
        said.append(
            "Results over different streams, in different modes or with different epochs are never "
            "compared with one another."
        )
    return said


def title_of(report: Report) -> str:
    """Title of the page."""
    names = dict.fromkeys(dataset_name(result.settings) for result in report.results)
    runs = sum(len(result.records) for result in report.results)
    return f"{', '.join(names)}: {count(len(report.results), 'result')} from {count(runs, 'run')}"


@dataclass(frozen=True)
class Setting:
    """A setting that differs between results.

    Attributes:
        name: ``section.name``.
        values: values as text, with the names of the results that have each; results without the
            setting are not listed.
    """

    name: str
    values: Mapping[str, Sequence[str]]


# Paths of results and options of a call do not affect results.
_OF_CALLS = {"format", "version", "command", "stream.output", "stream.resume"}


def compare_settings(results: Sequence[Result]) -> tuple[list[Setting], dict[str, str]]:
    """Split settings into those that differ between results and those that all share.

    A setting that only some results have counts as different.
    """
    names = sorted({name for result in results for name in result.settings} - _OF_CALLS)
    differ: list[Setting] = []
    shared: dict[str, str] = {}
    for name in names:
        values: dict[str, list[str]] = {}
        for result in results:
            if name in result.settings:
                values.setdefault(shown(result.settings[name]), []).append(result.name)
        (first, having), *more = values.items()
        if not more and len(having) == len(results):
            shared[name] = first
        else:
            differ.append(Setting(name, values))
    return differ, shared
