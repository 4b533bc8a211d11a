"""The runs that a command has to do, and the settings that affect their results."""

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
    """Runs of one method over one data set.

    Attributes:
        command: the command that resumes the job with ``--resume``.
        config: configuration of the stream.
        network: configuration of the backbone.
        method: configuration of the method.
        dataset: the opened data set.
        task_lists: tasks by run number.
        folder: results folder.
        model: file name of a run's learner, with {} for the run number; None to save none.
        more: further settings that affect results, by section.
        broken: problem of each image to skip, if known.
        task_model: file name of the learner after a task, with {} for the run number and for the
            task number (from 1); None to save none.
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
        """Files of the final learner of a run, if it is saved."""
        return [self.folder / self.model.format(run)] if self.model else []

    def task_models(self, run: int) -> list[Path]:
        """Files of the learner after each task of a run, if saved."""
        if self.task_model is None:
            return []
        count = len(self.task_lists[run].tasks)
        return [self.folder / self.task_model.format(run, 1 + task) for task in range(count)]

    def only(self, runs: Iterable[int]) -> Job:
        """The same job for some of its runs."""
        task_lists = {run: self.task_lists[run] for run in runs}
        first = min(task_lists)
        config = replace(self.config, first_run=first, runs=max(task_lists) - first + 1)
        return replace(self, config=config, task_lists=task_lists)


def settings_of(job: Job, network: NetworkConfig, method: Any) -> dict[str, Any]:
    """All settings that affect results. Files are represented by their digests.

    Args:
        job: the job.
        network: configuration with defaults filled in
        method: configuration of the method.
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
    # Absolute, so that it means the same from any working directory.
    parts["network"]["weights"] = str(weights or job.network.weights)
    return {"command": job.command, **parts, **(job.more or {}), "files": files}


def _listed(job: Job) -> dict[int, TaskList]:
    """Tasks of the requested runs, and of finished runs whose lists still exist."""
    found, config = dict(job.task_lists), job.config
    assert config.filelists is not None
    offline = find_method(config.method).offline
    for run in {record.run for record in Results.finished_in(job.folder)} - found.keys():
        if list_folder(config.filelists, config.protocol, run, offline).is_dir():
            found[run] = tasks_of(config, job.dataset, run, offline)
    return found


def check_recorded(job: Job) -> None:
    """Compare a job with the settings stored in its folder, if any, without building a network.

    Settings of network and method that are None and get filled in later are not compared.

    Raises:
        InputError: the settings differ or are damaged.
    """
    if (job.folder / CONFIG).exists():
        network, method = settled(job.network)[1], for_mode(job.config.mode, job.method)
        check_same(job.folder, settings_of(job, network, method), job.broken, left_open=True)
