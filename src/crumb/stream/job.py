"""What a command has to do, and the settings that its results depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from crumb.data.filelists import list_folder
from crumb.data.index import Dataset
from crumb.data.protocol import TaskList
from crumb.methods.registry import find_method
from crumb.nets.backbones import settled
from crumb.nets.config import NetworkConfig
from crumb.stream.checkpoint import data_digest
from crumb.stream.config import StreamConfig
from crumb.stream.learner import OF_RUN, for_mode, of_run
from crumb.stream.results import Results
from crumb.stream.settings import CONFIG, FILELISTS_RUN, PRETRAINED_RUN, check_same
from crumb.stream.tasks import tasks_of


@dataclass(frozen=True)
class Job:
    """What a command has to do: runs of one method over one data set.

    Attributes:
        command: that goes on with it when it is given ``--resume``.
        config: of the stream.
        network: which backbone.
        method: the method's own configuration.
        dataset: opened.
        task_lists: by number of the run.
        folder: of the results.
        model: name of the file of a run's learner, with {} for the number of the run; None to keep
            none.
        more: further settings that the results depend on, by section, if there are any.
        broken: what is wrong with each image that is to be left out, if that is known.
        task_model: name of the file of the learner after a task, with {} for the number of the run
            and for that of the task, counted from 1; None to keep none.
    """

    command: str
    config: StreamConfig
    network: NetworkConfig
    method: Any
    dataset: Dataset
    task_lists: Mapping[int, TaskList]
    folder: Path
    model: str | None
    more: Mapping[str, Any] | None = None
    broken: Mapping[str, str] | None = None
    task_model: str | None = None

    def models(self, run: int) -> list[Path]:
        """Files of the learner of a run: at its end, if it is kept."""
        return [self.folder / self.model.format(run)] if self.model else []

    def task_models(self, run: int) -> list[Path]:
        """Files of the learner of a run after each task, if they are kept."""
        if self.task_model is None:
            return []
        count = len(self.task_lists[run].tasks)
        return [self.folder / self.task_model.format(run, 1 + task) for task in range(count)]

    def only(self, runs: Iterable[int]) -> Job:
        """The job, of some of its runs."""
        task_lists = {run: self.task_lists[run] for run in runs}
        first = min(task_lists)
        config = replace(self.config, first_run=first, runs=max(task_lists) - first + 1)
        return replace(self, config=config, task_lists=task_lists)


def settings_of(job: Job, network: NetworkConfig, method: Any) -> dict[str, Any]:
    """All that the results depend on; of files their digests, as their names say little.

    Args:
        job: whose results they are.
        network: with what was left open filled in, and likewise
        method: the method's own configuration.
    """
    sections = {"stream": job.config, "network": network, "method": method}
    files = {"index": job.dataset.digest}
    weights = job.network.weights_file
    given = {} if weights is None else {"weights": weights}
    if (path := job.config.pretrained) is not None:
        each = {f"{PRETRAINED_RUN}{run}": of_run(path, run) for run in job.task_lists}
        given |= each if OF_RUN in str(path) else {"pretrained": path}
    if job.config.filelists is not None:
        files |= {f"{FILELISTS_RUN}{r}": data_digest(t) for r, t in _listed(job).items()}
    for name, path in given.items():
        if path.is_file():
            with path.open("rb") as file:
                files[name] = hashlib.file_digest(file, "sha256").hexdigest()
    parts = {name: asdict(part) for name, part in sections.items()}
    parts["stream"]["epochs_first_task"] = job.config.readings[0]
    # So that it means the same wherever the next call is made.
    parts["network"]["weights"] = str(weights or job.network.weights)
    return {"command": job.command, **parts, **(job.more or {}), "files": files}


def _listed(job: Job) -> dict[int, TaskList]:
    """The tasks of runs that are asked for, and of finished ones whose lists are still there."""
    found, config = dict(job.task_lists), job.config
    assert config.filelists is not None
    offline = find_method(config.method).offline
    for run in {record.run for record in Results.finished_in(job.folder)} - found.keys():
        if list_folder(config.filelists, config.protocol, run, offline).is_dir():
            found[run] = tasks_of(config, job.dataset, run, offline)
    return found


def check_recorded(job: Job) -> None:
    """Compare the settings in the folder of a job, if there are any; nothing is built.

    Settings that network and method fill in where they are left open are not compared.

    Raises:
        InputError: they differ, or are damaged.
    """
    if (job.folder / CONFIG).exists():
        network, method = settled(job.network)[1], for_mode(job.config.mode, job.method)
        check_same(job.folder, settings_of(job, network, method), job.broken, left_open=True)
