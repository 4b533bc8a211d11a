"""Results folders side by side: their key figures, and how two of them differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crumb.reports.arms import ArmRow, compare_arms, runs_of
from crumb.reports.comparison import row_of
from crumb.reports.statistics import Estimate, smallest_p
from crumb.stream.folders import ResultsFolder, Survey
from crumb.stream.metrics import mean_and_deviation
from crumb.stream.settings import has_effect

HEAD = (
    "folder",
    "method",
    "data set",
    "protocol",
    "runs",
    "unfinished",
    "final accuracy, %",
    "average accuracy, %",
    "forgetting, points",
    "replay bytes",
    "seconds a run",
)
LONG_HEAD = (
    "folder",
    "command",
    "method",
    "dataset",
    "protocol",
    "runs_finished",
    "runs",
    "unfinished",
    "final_accuracy",
    "final_accuracy_half",
    "average_accuracy",
    "average_accuracy_half",
    "forgetting",
    "forgetting_half",
    "replay_bytes",
    "seconds",
    "problem",
)
"""Of the CSV: ``..._half`` is half the 95 % interval of the mean over runs."""
_FIGURES = {"final_accuracy": "final accuracy, %", "average_accuracy": "average accuracy, %"}
# What decides which images a run shows, in which order.
_OF_STREAM = ("command", "files.index", "stream.classes", "stream.filelists", "stream.protocol")
_OF_LAYOUT = "stream.layout."
# Of resamples; there is nothing to choose.
_SEED = 0


def table(survey: Survey) -> list[list[str]]:
    """One row a folder that can be read, under :data:`HEAD`.

    The column of what is unfinished is left out where nothing is.
    """
    rows = [list(HEAD), *[_cells(survey, one) for one in survey.found]]
    column = HEAD.index("unfinished")
    if any(row[column] for row in rows[1:]):
        return rows
    return [row[:column] + row[column + 1 :] for row in rows]


def _cells(survey: Survey, one: ResultsFolder) -> list[str]:
    method = one.method if one.command == "stream" else f"{one.method} ({one.command})"
    runs = f"{len(one.records)} of {one.runs}"
    about = [survey.name(one.path), method, one.dataset, one.protocol, runs, unfinished(one)]
    if not one.records:
        return [*about, *["-"] * (len(HEAD) - len(about))]
    row = row_of(one.method, one.records, {})
    figures = [row.final, row.average, "-" if row.forgetting is None else row.forgetting]
    return [*about, *map(str, figures), f"{row.replay_bytes:,}", f"{row.seconds:.0f}"]


def long_table(survey: Survey) -> list[list[object]]:
    """One row a folder, under :data:`LONG_HEAD`; those that cannot be read have a problem."""
    rows = {one.path: _values(survey, one) for one in survey.found}
    for path, error in survey.problems.items():
        blanks = [""] * (len(LONG_HEAD) - 2)
        rows[path] = [survey.name(path), *blanks, error.in_flags()]
    return [rows[path] for path in sorted(rows)]


def _values(survey: Survey, one: ResultsFolder) -> list[object]:
    about = [survey.name(one.path), one.command, one.method, one.dataset, one.protocol]
    counts = [len(one.records), one.runs, unfinished(one)]
    if not one.records:
        return [*about, *counts, *[""] * (len(LONG_HEAD) - len(about) - len(counts))]
    row = row_of(one.method, one.records, {})
    pairs = [*_pair(row.final), *_pair(row.average), *_pair(row.forgetting)]
    return [*about, *counts, *pairs, row.replay_bytes, row.seconds, ""]


def _pair(value: Estimate | None) -> tuple[object, object]:
    return (None, None) if value is None else (value.mean, value.half)


def unfinished(one: ResultsFolder) -> str:
    """Which runs are not finished, and where each of them stands; empty if none."""
    # A checkpoint may not say how many tasks there are; all runs have equally many.
    known = len(one.records[0].scores) if one.records else None
    parts = []
    for run, place in one.places.items():
        tasks = place.tasks or known
        if tasks is not None and place.task >= tasks:
            parts.append(f"run {run}: after its last task")
        else:
            parts.append(f"run {run}: task {place.task + 1}{f' of {tasks}' if tasks else ''}")
    if one.waiting:
        parts.append(f"{named(one.waiting)} not begun")
    return "; ".join(parts)


def named(runs: Sequence[int]) -> str:
    """Runs in words: ``run 4``, or ``runs 0 to 2, 5, 6``; they must ascend."""
    parts = [
        f"{low} to {high}" if high - low > 1 else ", ".join(map(str, range(low, high + 1)))
        for low, high in spans(runs)
    ]
    return f"{'run' if len(runs) == 1 else 'runs'} {', '.join(parts)}"


def spans(runs: Sequence[int]) -> list[list[int]]:
    """First and last number of each stretch without a gap; the numbers must ascend."""
    found: list[list[int]] = []
    for run in runs:
        if found and run == found[-1][1] + 1:
            found[-1][1] = run
        else:
            found.append([run, run])
    return found


# How two folders differ.


def setting_rows(one: ResultsFolder, other: ResultsFolder, effect: bool) -> list[list[str]]:
    """The settings that differ: name, value in one, value in the other.

    Args:
        one: a results folder.
        other: another.
        effect: whether to give those that results depend on, or the others.
    """
    rows = []
    for name in sorted(one.settings.keys() | other.settings.keys()):
        values = one.settings.get(name), other.settings.get(name)
        matters = any(has_effect(name, folder.command) for folder in (one, other))
        if values[0] != values[1] and matters == effect:
            digest = name.startswith("files.")
            rows.append([name, *[_shown(value, digest) for value in values]])
    return rows


def _shown(value: Any, digest: bool) -> str:
    if value is None:
        return "-"
    # Of digests the beginning tells that they differ.
    return str(value)[:12] if digest else str(value)


@dataclass(frozen=True)
class Paired:
    """The runs that two folders share, compared.

    Attributes:
        runs: their numbers.
        only: numbers of those that only the one and only the other has.
        means: of the one, by figure.
        rows: the other beside the one, by figure; empty without shared runs.
        other_streams: by what the runs of a number differ, so that they are no pairs.
    """

    runs: list[int]
    only: tuple[list[int], list[int]]
    means: dict[str, float]
    rows: dict[str, ArmRow]
    other_streams: list[str]


def paired(one: ResultsFolder, other: ResultsFolder) -> Paired:
    """Compare the runs that two results folders share, by number; the difference is other - one.

    Raises:
        InputError: an accuracy is not finite.
    """
    numbers = [{record.run for record in folder.records} for folder in (one, other)]
    shared = numbers[0] & numbers[1]
    means: dict[str, float] = {}
    rows: dict[str, ArmRow] = {}
    for figure in _FIGURES if shared else ():
        reference, arm = (
            runs_of((record for record in folder.records if record.run in shared), figure)
            for folder in (one, other)
        )
        (rows[figure],) = compare_arms(reference, {str(other.path): arm}, _SEED)
        means[figure] = mean_and_deviation([*reference.values()])[0]
    only = sorted(numbers[0] - shared), sorted(numbers[1] - shared)
    return Paired(sorted(shared), only, means, rows, _other_streams(one, other, shared))


def _other_streams(one: ResultsFolder, other: ResultsFolder, shared: set[int]) -> list[str]:
    """Names of what makes runs of the same number different streams."""
    names = sorted(one.settings.keys() | other.settings.keys())
    found = [
        name
        for name in names
        if (name in _OF_STREAM or name.startswith(_OF_LAYOUT))
        and one.settings.get(name) != other.settings.get(name)
    ]
    pairs = [
        [record for record in folder.records if record.run in shared] for folder in (one, other)
    ]
    for mine, theirs in zip(*pairs, strict=True):
        if mine.classes != theirs.classes:
            found.append(f"classes of run {mine.run}")
        if len(mine.scores) != len(theirs.scores):
            found.append(f"number of tasks of run {mine.run}")
    return found


def paired_table(result: Paired) -> list[list[str]]:
    """A column a figure, a row each statistic, the head first; empty without shared runs."""
    if not result.rows:
        return []
    columns = [_column(result.means[figure], row) for figure, row in result.rows.items()]
    names = ["A, mean", "B, mean", "B - A, points", "  95 % interval", "  median of the runs"]
    names += ["  effect size, d_z", "permutation test, p", "Wilcoxon test, p"]
    head = ["", *[_FIGURES[figure] for figure in result.rows]]
    return [head, *[list(row) for row in zip(names, *columns, strict=True)]]


def _column(mean: float, row: ArmRow) -> list[str]:
    interval, effect = row.difference_interval, row.effect.standardised
    return [
        f"{mean:.1f}",
        f"{row.mean:.1f}",
        f"{row.difference:+.1f}",
        "-" if interval is None else f"{interval[0]:+.1f} to {interval[1]:+.1f}",
        f"{row.effect.median:+.1f}",
        "-" if effect is None else f"{effect:+.2f}",
        f"{row.permutation_p:.3g}",
        f"{row.wilcoxon_p:.3g}",
    ]


def notes(result: Paired) -> list[str]:
    """What is to be said below the table, each in a line."""
    lines = [
        f"only in {name}: {named(runs)}"
        for name, runs in zip("AB", result.only, strict=True)
        if runs
    ]
    count = len(result.runs)
    if count:
        lines.append(f"no p can be below {smallest_p(count):.2g} with {_counted(count)}")
    if 0 < count < 3:
        lines.append("an interval and an effect size need 3 runs")
    if result.other_streams:
        differ = ", ".join(result.other_streams)
        lines.append(f"the runs of a number are not the same stream ({differ}): pairs mean little")
    return lines


def _counted(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
