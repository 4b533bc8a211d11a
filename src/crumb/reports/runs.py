"""List results folders with their key figures, and compare two of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crumb.reports.families import Difference, compare
from crumb.reports.key_figures import KeyFigures, columns, key_figures
from crumb.reports.reader import result_of, stream_of
from crumb.reports.statistics import smallest_p
from crumb.reports.table import Cell, Column, Table, plain
from crumb.reports.wording import count
from crumb.stream.folders import ResultsFolder, Survey
from crumb.stream.metrics import mean_and_deviation
from crumb.stream.settings import has_effect

_ABOUT = ("folder", "method", "data set", "protocol", "runs", "unfinished")
_FIGURES = ("final", "average", "forgetting", "replay_bytes", "seconds")
_LONG_ABOUT = (
    *("folder", "command", "method", "dataset", "protocol"),
    *("runs_finished", "runs", "unfinished"),
)
_LONG_FIGURES = {
    "final": Column("final_accuracy", spread=True),
    "average": Column("average_accuracy", spread=True),
    "forgetting": Column("forgetting", spread=True),
    "replay_bytes": Column("replay_bytes"),
    "seconds": Column("seconds"),
}
_COMPARED = {"final_accuracy": "final accuracy, %", "average_accuracy": "average accuracy, %"}


def _figures(one: ResultsFolder) -> KeyFigures | None:
    return key_figures(one.records) if one.records else None


def table(survey: Survey) -> Table:
    """One row per readable folder.

    The column of unfinished runs is left out if there are none.
    """
    rows: list[list[Cell]] = []
    for one in survey.found:
        method = one.method if one.command == "stream" else f"{one.method} ({one.command})"
        runs = f"{len(one.records)} of {one.runs}"
        about = [survey.name(one.path), method, one.dataset, one.protocol, runs, unfinished(one)]
        known = _figures(one)
        rows.append([*about, *(known.cells(_FIGURES) if known else [None] * len(_FIGURES))])
    place = _ABOUT.index("unfinished")
    head = [*map(Column, _ABOUT), *columns(_FIGURES)]
    if not any(row[place] for row in rows):
        for cells in (head, *rows):
            del cells[place]
    return Table(head, rows)


def long_table(survey: Survey) -> Table:
    """One row per folder in full precision; unreadable folders have a problem."""
    rows: dict[Path, list[Cell]] = {}
    for one in survey.found:
        about = [survey.name(one.path), one.command, one.method, one.dataset, one.protocol]
        counts = [len(one.records), one.runs, unfinished(one)]
        known = _figures(one)
        figures = known.cells(list(_LONG_FIGURES)) if known else [""] * len(_LONG_FIGURES)
        rows[one.path] = [*about, *counts, *figures, ""]
    for path, error in survey.problems.items():
        blanks = [""] * (len(_LONG_ABOUT) - 1 + len(_LONG_FIGURES))
        rows[path] = [survey.name(path), *blanks, error.in_flags()]
    head = [*map(Column, _LONG_ABOUT), *_LONG_FIGURES.values(), Column("problem")]
    return Table(head, [rows[path] for path in sorted(rows)])


def unfinished(one: ResultsFolder) -> str:
    """The unfinished runs and their progress; empty if none."""
    # A checkpoint may lack the number of tasks; it is the same for all runs.
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
    """Runs in words, such as ``run 4`` or ``runs 0 to 2, 5, 6``. Numbers must ascend."""
    parts = [
        f"{low} to {high}" if high - low > 1 else ", ".join(map(str, range(low, high + 1)))
        for low, high in spans(runs)
    ]
    return f"{'run' if len(runs) == 1 else 'runs'} {', '.join(parts)}"


def spans(runs: Sequence[int]) -> list[list[int]]:
    """First and last number of each contiguous range. Numbers must ascend."""
    found: list[list[int]] = []
    for run in runs:
        if found and run == found[-1][1] + 1:
            found[-1][1] = run
        else:
            found.append([run, run])
    return found


# Comparison of two folders.


def setting_table(one: ResultsFolder, other: ResultsFolder, effect: bool, title: str = "") -> Table:
    """Table of differing settings: name, value in A, value in B.

    Args:
        one: results folder A.
        other: results folder B.
        effect: whether to list settings that affect results, or the others.
        title: header of the name column.
    """
    rows = []
    for name in sorted(one.settings.keys() | other.settings.keys()):
        values = one.settings.get(name), other.settings.get(name)
        matters = any(has_effect(name, folder.command) for folder in (one, other))
        if values[0] != values[1] and matters == effect:
            digest = name.startswith("files.")
            rows.append([name, *[_shown(value, digest) for value in values]])
    return plain([title, "A", "B"], rows, numbers=False)


def _shown(value: Any, digest: bool) -> str:
    if value is None:
        return "-"
    # The first digits of a digest show the difference.
    return str(value)[:12] if digest else str(value)


@dataclass(frozen=True)
class Paired:
    """Comparison of the runs that two folders share.

    Attributes:
        only: run numbers that only A has, and only B has.
        differences: B compared with A, by figure; empty without shared runs.
        other_streams: differences that make runs with the same number different streams, so not
            pairs.
    """

    only: tuple[list[int], list[int]]
    differences: dict[str, Difference]
    other_streams: list[str]

    @property
    def runs(self) -> Sequence[int]:
        """Numbers of the shared runs."""
        return next((one.runs for one in self.differences.values()), ())


def paired(one: ResultsFolder, other: ResultsFolder) -> Paired:
    """Compare the shared runs of two results folders; differences are other - one.

    Raises:
        InputError: an accuracy is not finite.
    """
    reference, result = (result_of(x, str(x.path), x.path) for x in (one, other))
    known = [{record.run for record in folder.records} for folder in (one, other)]
    only = sorted(known[0] - known[1]), sorted(known[1] - known[0])
    shared = known[0] & known[1]
    differences = {
        figure: difference
        for figure in _COMPARED
        for difference in compare([(result, reference)], figure)
    }
    return Paired(only, differences, _other_streams(one, other, shared))


def _other_streams(one: ResultsFolder, other: ResultsFolder, shared: set[int]) -> list[str]:
    """Reasons why runs with the same number are different streams."""
    streams = stream_of(one.settings), stream_of(other.settings)
    names = sorted(streams[0].keys() | streams[1].keys())
    found = [name for name in names if streams[0].get(name) != streams[1].get(name)]
    pairs = [
        [record for record in folder.records if record.run in shared] for folder in (one, other)
    ]
    for mine, theirs in zip(*pairs, strict=True):
        if mine.classes != theirs.classes:
            found.append(f"classes of run {mine.run}")
        if len(mine.scores) != len(theirs.scores):
            found.append(f"number of tasks of run {mine.run}")
    return found


def paired_table(result: Paired) -> Table:
    """One column per figure, one row per statistic. Needs shared runs."""
    columns = [_column(difference) for difference in result.differences.values()]
    names = ["A, mean", "B, mean", "B - A, points", "  95 % interval", "  median of the runs"]
    names += ["  effect size, d_z", "permutation test, p", "Wilcoxon test, p"]
    head = [named(result.runs), *[_COMPARED[figure] for figure in result.differences]]
    return plain(head, [list(row) for row in zip(names, *columns, strict=True)])


def _column(one: Difference) -> list[str]:
    interval, effect = one.gap_interval, one.effect.standardised
    return [
        f"{mean_and_deviation(one.others)[0]:.1f}",
        f"{mean_and_deviation(one.values)[0]:.1f}",
        f"{one.gap.mean:+.1f}",
        "-" if interval is None else f"{interval[0]:+.1f} to {interval[1]:+.1f}",
        f"{one.effect.median:+.1f}",
        "-" if effect is None else f"{effect:+.2f}",
        f"{one.permutation_p:.3g}",
        f"{one.wilcoxon_p:.3g}",
    ]


def notes(result: Paired) -> list[str]:
    """Notes below the table."""
    lines = [
        f"only in {name}: {named(runs)}"
        for name, runs in zip("AB", result.only, strict=True)
        if runs
    ]
    if runs := len(result.runs):
        lines.append(f"no p can be below {smallest_p(runs):.2g} with {count(runs, 'run')}")
        if runs < 3:
            lines.append("an interval and an effect size need 3 runs")
    if result.other_streams:
        differ = ", ".join(result.other_streams)
        lines.append(
            f"runs with the same number are different streams ({differ}), so pairs mean little"
        )
    return lines
