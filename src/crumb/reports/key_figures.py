"""The key figures of finished runs, and how tables show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crumb.reports.intervals import Estimate, estimate
from crumb.reports.table import Cell, Column, Table
from crumb.stream.record import FIGURES, RunRecord

COLUMNS = {
    "final": Column("final accuracy, %", ".1f"),
    "average": Column("average accuracy, %", ".1f"),
    "forgetting": Column("forgetting, points", ".1f"),
    "replay_bytes": Column("replay bytes", ","),
    "extra_bytes": Column("extra bytes", ","),
    "total_bytes": Column("all extra bytes", ","),
    "seconds": Column("seconds a run", ".0f"),
    "time": Column("seconds a run", ",.1f"),
    "gradient_steps": Column("gradient steps", ",.0f"),
    "tail_maps": Column("maps through the tail", ",.0f"),
    "image_passes": Column("passes over an image", ".2f"),
    "runs": Column("runs"),
}
"""Table columns of the :class:`KeyFigures`, by name."""
WORK = ("gradient_steps", "tail_maps", "image_passes")
# Peak memory belongs to the process, which may have run other cells before.
_NOT_OF_A_CELL = "peak_memory_bytes"


@dataclass(frozen=True)
class KeyFigures:
    """Key figures of the finished runs of one result.

    Attributes:
        final: accuracy on all classes after the last task, in percent.
        average: mean of the accuracies after each task, in percent.
        forgetting: forgetting in percentage points; None for a single task.
        replay_bytes: bytes of exemplars, maximum over runs.
        extra_bytes: other bytes kept besides one copy of the network, maximum over runs.
        total_bytes: sum of both, maximum over runs.
        time: time of learning and storing, in seconds per run.
        gradient_steps: gradient steps per run. None, here and below, if no run counted them.
        tail_maps: feature maps through the tail per run.
        image_passes: mean number of times that the stream showed an image.
        runs: number of runs.
    """

    final: Estimate
    average: Estimate
    forgetting: Estimate | None
    replay_bytes: int
    extra_bytes: int
    total_bytes: int
    time: Estimate
    gradient_steps: float | None
    tail_maps: float | None
    image_passes: float | None
    runs: int

    @property
    def seconds(self) -> float:
        """Mean time in seconds."""
        return self.time.mean

    def cells(self, names: Sequence[str]) -> list[Cell]:
        """Table cells of the named figures (names of :data:`COLUMNS`)."""
        return [getattr(self, name) for name in names]


def columns(names: Sequence[str]) -> list[Column]:
    """The columns of these figures."""
    return [COLUMNS[name] for name in names]


def key_figures(records: Sequence[RunRecord]) -> KeyFigures:
    """Compute the key figures of at least one finished run."""
    return over_runs([record.figures() for record in records])


def over_runs(runs: Sequence[Mapping[str, float | None]]) -> KeyFigures:
    """Compute the key figures from those of at least one run, named as in :data:`FIGURES`."""
    held = [(int(run["replay_bytes"] or 0), int(run["extra_bytes"] or 0)) for run in runs]
    known = {name: [v for run in runs if (v := run.get(name)) is not None] for name in FIGURES}
    return KeyFigures(
        estimate(known["final_accuracy"]),
        estimate(known["average_accuracy"]),
        estimate(known["forgetting"]) if known["forgetting"] else None,
        max(replay for replay, _ in held),
        max(extra for _, extra in held),
        max(replay + extra for replay, extra in held),
        estimate(known["seconds"]),
        _mean(known["gradient_steps"]),
        _mean(known["tail_maps"]),
        _mean(known["image_passes"]),
        len(runs),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def runs_table(head: Sequence[str], runs: Sequence[tuple[Sequence[Cell], RunRecord]]) -> Table:
    """One row per run: its key figures and the accuracy after each task.

    Args:
        head: names of the columns that identify a run, its number last.
        runs: identifying cells (without the number) and record of each run.
    """
    figures = [name for name in FIGURES if name != _NOT_OF_A_CELL]
    rows: list[list[Cell]] = [
        [*names, record.run, *map(record.figures().get, figures), *record.curve()]
        for names, record in runs
    ]
    known = len(head) + len(figures)
    width = max([known, *map(len, rows)])
    curve = [f"accuracy_after_task_{number + 1}" for number in range(width - known)]
    whole = [[*row, *[None] * (width - len(row))] for row in rows]
    return Table([Column(name) for name in [*head, *figures, *curve]], whole)
