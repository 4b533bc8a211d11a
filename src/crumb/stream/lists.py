"""Runs whose tasks come from lists: what of them is compared before another call goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from crumb.data.filelists import list_folder
from crumb.data.protocol import TaskList
from crumb.errors import InputError, setting
from crumb.methods.registry import find_method
from crumb.stream.record import RunRecord
from crumb.stream.results import Results
from crumb.stream.tasks import tasks_of

if TYPE_CHECKING:
    from crumb.stream.job import Job


def listed(job: Job) -> dict[int, TaskList]:
    """The tasks of runs that are asked for, and of finished ones whose lists are still there."""
    found, config = dict(job.task_lists), job.config
    assert config.filelists is not None
    offline = find_method(config.method).offline
    for run in {record.run for record in Results.finished_in(job.folder)} - found.keys():
        if list_folder(config.filelists, config.protocol, run, offline).is_dir():
            found[run] = tasks_of(config, job.dataset, run, offline)
    return found


def check_alike(job: Job, finished: Sequence[RunRecord]) -> None:
    """Refuse runs of different classes or numbers of tasks, over which no mean can be taken.

    The lists of a finished run may be gone; its record still tells these.
    """
    shapes = {record.run: (set(record.classes), len(record.scores)) for record in finished}
    shapes |= {run: (set(t.classes), len(t.tasks)) for run, t in job.task_lists.items()}
    (first, (classes, count)), *others = sorted(shapes.items())
    for run, (names, tasks) in others:
        if tasks != count:
            problem = f"have {tasks} tasks in run {run}, and {count} in run {first}"
        elif names != classes:
            problem = f"have {min(names ^ classes)} in only one of runs {first} and {run}"
        else:
            continue
        remedy = f"give lists of one kind, or another {setting('output')}"
        raise InputError(setting("filelists", job.config.filelists), problem, remedy)
