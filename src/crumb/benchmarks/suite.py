"""The rows of the suite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from crumb.benchmarks import (
    assignment,
    avalanche,
    front,
    index,
    large,
    lesson,
    memory,
    step,
    tail,
    waiting,
)
from crumb.benchmarks.report import Comparison
from crumb.benchmarks.runs import WholeRuns, measure_checkpoint, measure_experiment, measure_store
from crumb.benchmarks.workplace import Setting, workplace

Row = Literal[
    "front",
    "step",
    "tail",
    "waiting",
    "assignment",
    "store",
    "experiment",
    "checkpoint",
    "memory",
    "large",
    "index",
    "slda",
    "avalanche",
]
ROWS: tuple[Row, ...] = get_args(Row)


def measure(rows: Sequence[Row], setting: Setting) -> list[Comparison]:
    """Measure some rows. Work that several rows share is done once.

    Raises:
        InputError: a data set, image or network cannot be used.
    """
    with workplace(setting) as place:
        runs = WholeRuns(place)
        measures = {
            "front": lambda: front.measure(place),
            "step": lambda: step.measure(place),
            "tail": lambda: tail.measure(place),
            "waiting": lambda: waiting.measure(place),
            "assignment": lambda: assignment.measure(place),
            "store": lambda: measure_store(runs),
            "experiment": lambda: measure_experiment(runs),
            "checkpoint": lambda: measure_checkpoint(runs),
            "memory": lambda: memory.measure(place),
            "large": lambda: large.measure(place),
            "index": lambda: index.measure(place),
            "slda": lambda: lesson.measure(place),
            "avalanche": lambda: avalanche.measure(place),
        }
        return [comparison for row in dict.fromkeys(rows) for comparison in measures[row]()]
