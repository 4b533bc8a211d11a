"""Running a method over a data set, and building what a run needs."""

from __future__ import annotations

import hashlib
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from crumb.data.filelists import list_folder
from crumb.data.index import Dataset, load_dataset
from crumb.data.protocol import TaskList
from crumb.data.resize import Resize
from crumb.device import choose_device, cores, return_memory
from crumb.errors import DivergedError, InputError, Terminated, setting
from crumb.features.features import FeatureStore, fingerprint
from crumb.features.store import Cache
from crumb.memory.capacity import END_OF_TASK, ON_ARRIVAL, with_policy
from crumb.methods.base import Learner
from crumb.methods.persistence import load_pretrained
from crumb.methods.registry import find_method
from crumb.nets.backbones import build_network
from crumb.nets.config import NetworkConfig
from crumb.stream import tensorboard
from crumb.stream.checkpoint import Checkpoints, data_digest
from crumb.stream.config import Mode, ProtocolConfig, StreamConfig
from crumb.stream.loop import Plan, run_once
from crumb.stream.record import RunRecord
from crumb.stream.results import FILELISTS_RUN, PRETRAINED_RUN, Results
from crumb.stream.skipping import broken_images, leave_out
from crumb.stream.tasks import epochs_of, held_out, tasks_of

OF_RUN = "{run}"
"""Stands for the number of the run in the name of a pretrained file."""


def stream(
    config: StreamConfig,
    network: NetworkConfig,
    method: Any,
    stores: dict[str, FeatureStore] | None = None,
) -> Results:
    """Run a method over a data set, ``config.runs`` times.

    Args:
        config: of the stream.
        network: which backbone.
        method: the method's own configuration.
        stores: features computed so far; hand the same one to several calls to share them.

    Returns:
        the results folder, written.

    Raises:
        InputError: anything that the user gave and that cannot be used; finished runs are kept.
        KeyboardInterrupt, Terminated: a signal came; what is done is kept, and the exception says
            with which command it goes on.
    """
    dataset = open_dataset(config.dataset, config.classes)
    task_lists = lay_out_runs(config, dataset, find_method(config.method).offline)
    job = stream_job(config, network, method, dataset, task_lists)
    return carry_out(job, {} if stores is None else stores)


def stream_job(
    config: StreamConfig,
    network: NetworkConfig,
    method: Any,
    dataset: Dataset,
    task_lists: Mapping[int, TaskList],
    broken: Mapping[str, str] | None = None,
) -> Job:
    """What :func:`stream` has to do; see :class:`Job`."""
    folder = config.output or default_output(config, network, dataset)
    model = "learner_run{}.safetensors" if config.save_model else None
    of_task = "learner_run{}_task{:02}.safetensors" if config.save_tasks else None
    return Job(
        "stream",
        config,
        network,
        method,
        dataset,
        task_lists,
        folder,
        model,
        broken=broken,
        task_model=of_task,
    )


def lay_out_runs(config: ProtocolConfig, dataset: Dataset, offline: bool) -> dict[int, TaskList]:
    """The tasks of all runs, by number.

    Raises:
        InputError: see :func:`tasks_of`; lists that show an image twice in strict mode.
    """
    runs = range(config.first_run, config.first_run + config.runs)
    task_lists = {run: tasks_of(config, dataset, run, offline) for run in runs}
    if config.mode == "strict" and config.filelists is not None:
        for run, tasks in task_lists.items():
            counted = Counter(path for frames in tasks.tasks for path in frames.paths)
            path, times = max(counted.items(), key=lambda pair: pair[1])
            if times > 1:
                problem = f"show {path} {times} times in run {run}"
                raise InputError(
                    config.filelists, problem, f"use {setting('mode', 'paper')}, or other lists"
                )
    return task_lists


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
        without: numbers of runs that are not done now.
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
    without: frozenset[int] = frozenset()

    def models(self, run: int) -> list[Path]:
        """Files of the learner of a run: at its end, if it is kept."""
        return [self.folder / self.model.format(run)] if self.model else []

    def task_models(self, run: int) -> list[Path]:
        """Files of the learner of a run after each task, if they are kept."""
        if self.task_model is None:
            return []
        count = len(self.task_lists[run].tasks)
        return [self.folder / self.task_model.format(run, 1 + task) for task in range(count)]


@dataclass(frozen=True)
class Prepared:
    """A job of which all that can be checked beforehand has been checked.

    Attributes:
        learner: of the first run.
        task_lists: by number of the run, without images that are left out.
        epochs: readings of each task, by number of the run.
        held_out: which frames of each task are kept back, by number of the run.
        results: the folder, not yet written.
    """

    learner: Learner
    task_lists: Mapping[int, TaskList]
    epochs: Mapping[int, Sequence[int]]
    held_out: Mapping[int, Sequence[np.ndarray]]
    results: Results


def carry_out(job: Job, stores: dict[str, FeatureStore]) -> Results:
    """Do all runs of a job that are not finished; see :func:`stream` for what is raised."""
    try:
        return _carry_out(job, stores)
    except (KeyboardInterrupt, Terminated) as signalled:
        begun = job.config.resume or Results.begun_in(job.folder)
        command = f"crumb {job.command} --resume {shlex.quote(str(job.folder))}"
        signalled.args = (f"go on with: {command}",) if begun else ()
        raise


def carry_out_all(job: Job, stores: dict[str, FeatureStore]) -> dict[int, DivergedError]:
    """The same, but a run that diverges does not keep the later ones from being done.

    Returns:
        why runs diverged, by number.
    """
    diverged: dict[int, DivergedError] = {}
    while True:
        try:
            carry_out(replace(job, without=frozenset(diverged)), stores)
            return diverged
        except DivergedError as error:
            # Without what it was raised in: the learner and its features.
            diverged[error.run] = error.with_traceback(None)


def prepare(job: Job) -> Prepared:
    """Check all of a job that can be checked before it is begun; nothing is written.

    Raises:
        InputError: a setting, a file or the results folder cannot be used.
    """
    config, task_lists, broken = job.config, job.task_lists, job.broken
    if config.pretrained is not None:
        for run in task_lists:
            if not (path := of_run(config.pretrained, run)).is_file():
                problem = f"is missing, for run {run}"
                raise InputError(
                    setting("pretrained", path), problem, f"pretrain with that {setting('run')}"
                )
    learner = new_learner(config, job.network, job.method, config.first_run, job.dataset.resize)
    if config.on_error == "skip":
        if broken is None:
            broken = broken_in(job.dataset, config, task_lists.values(), learner)
        task_lists = {run: leave_out(tasks, broken) for run, tasks in task_lists.items()}
    least = learner.least_epochs
    epochs = {run: epochs_of(config, tasks, least) for run, tasks in task_lists.items()}
    held = {run: held_out(config, tasks, epochs[run]) for run, tasks in task_lists.items()}
    for tasks in task_lists.values():
        check_memory(learner, tasks)
    results = Results(job.folder, settings_of(job, learner), config.resume, broken)
    if config.filelists is not None:
        _check_alike(job, results.finished())
    return Prepared(learner, task_lists, epochs, held, results)


def broken_in(
    dataset: Dataset, config: ProtocolConfig, task_lists: Iterable[TaskList], learner: Learner
) -> dict[str, str]:
    """What is wrong with each image that cannot be decoded."""
    size, workers = learner.network.preprocessing.size, config.machine.workers or cores()
    return broken_images(dataset.images, task_lists, size, workers)


def _carry_out(job: Job, stores: dict[str, FeatureStore]) -> Results:
    config, images = job.config, job.dataset.images
    if config.tensorboard:
        tensorboard.check_installed()
    ready = prepare(job)
    learner, task_lists, results = ready.learner, ready.task_lists, ready.results
    finished = results.finished()
    done = {record.run for record in finished}
    if config.tensorboard:
        tensorboard.write_missing(finished, job.folder)
    kept = job.model or job.task_model
    wanted = {run: tasks for run, tasks in task_lists.items() if run not in job.without}
    if not kept and done.issuperset(wanted) and not results.begun_runs():
        return results
    with results:
        for run, tasks in wanted.items():
            minutes, batches = config.checkpoint_minutes, config.checkpoint_batches
            checkpoints = Checkpoints(results.checkpoints, tasks, minutes, batches, images)
            models, task_models = job.models(run), job.task_models(run)
            if run in done and all(path.exists() for path in (*models, *task_models)):
                checkpoints.clear()
                continue
            if run != config.first_run:
                learner = new_learner(config, job.network, job.method, run, job.dataset.resize)
            # No name for the store: when the next front needs another, nothing holds this one.
            plan = Plan(
                tasks,
                ready.epochs[run],
                ready.held_out[run],
                config.batch_size,
                learner,
                open_store(learner, config, job.dataset, task_lists.values(), stores),
                config,
                checkpoints,
                task_models,
            )
            try:
                record = run_once(plan)
            except DivergedError as error:
                error.run = run
                raise
            del plan
            for model in models:
                learner.save(model)
            results.add(record)
            if config.tensorboard:
                tensorboard.write_events(record, job.folder)
            checkpoints.clear()
    return results


def settings_of(job: Job, learner: Learner) -> dict[str, Any]:
    """All that the results depend on; of files their digests, as their names say little."""
    sections = {"stream": job.config, "network": learner.network.config, "method": learner.config}
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


def _check_alike(job: Job, finished: Sequence[RunRecord]) -> None:
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


# Building what a run needs.


def open_dataset(folder: Path, classes: Sequence[str]) -> Dataset:
    """The data set, or only some of its classes; errors as its parts."""
    dataset = load_dataset(folder)
    return dataset.select(classes) if classes else dataset


def new_learner(
    config: StreamConfig,
    network: NetworkConfig,
    method: Any,
    seed: int,
    resize: Resize = "squash",
) -> Learner:
    """A fresh learner, from pretrained tail and codebook if asked for.

    It makes images square as the data set does: ``resize`` is that of the data set.
    """
    machine = config.machine
    device = choose_device(machine.device, machine.precision, machine.deterministic)
    built = build_network(network, seed)
    built.preprocessing = replace(built.preprocessing, resize=resize)
    built.bf16 = machine.precision == "bf16"
    kind = find_method(config.method)
    if config.mode == "strict" and not kind.strict():
        problem = f"is not for {kind.name}, which reads frames more than once"
        raise InputError(
            setting("mode", "strict"),
            problem,
            f"see crumb methods, or use {setting('mode', 'paper')}",
        )
    learner = kind(built, for_mode(config.mode, method), seed, device)
    if config.evaluation.select_best_epoch and not kind.goes_back:
        problem = f"is not for {kind.name}, which keeps more of an epoch than its weights"
        raise InputError(setting("select_best_epoch"), problem, "leave it out")
    if machine.compile:
        built.compile_tail()
    if config.pretrained is not None:
        load_pretrained(learner, of_run(config.pretrained, seed), config.pretrained_parts)
    return learner


def of_run(path: Path, run: int) -> Path:
    """The file that one run starts from."""
    return Path(str(path).replace(OF_RUN, str(run)))


def for_mode(mode: Mode, method: Any) -> Any:
    """The settings of a method with which exemplars are stored when the mode lets them.

    Raises:
        InputError: they are to be stored at the end of a task, and the mode is strict.
    """
    if mode == "strict" and getattr(method, "write_policy", None) == END_OF_TASK:
        problem = f"contradicts {setting('mode', 'strict')}, which stores on arrival"
        raise InputError(setting("write_policy", END_OF_TASK), problem, "leave one of them out")
    return with_policy(method, END_OF_TASK if mode == "paper" else ON_ARRIVAL)


def check_memory(learner: Learner, tasks: TaskList) -> None:
    """Refuse at the start what the last write of the memory would refuse."""
    written = tasks.tasks if learner.tested_after_task_end else tasks.tasks[:-1]
    learner.check_tasks(len(written))
    learner.check_room(len({label for frames in written for label in frames.labels.tolist()}))


def open_store(
    learner: Learner,
    config: ProtocolConfig,
    dataset: Dataset,
    task_lists: Iterable[TaskList],
    stores: dict[str, FeatureStore],
) -> FeatureStore:
    """Features of every frame that some run trains or tests on; from ``stores`` if they are there.

    Raises:
        InputError: an image is missing or broken; the cache cannot be written.
    """
    paths = [
        path
        for tasks in task_lists
        for frames in (*tasks.tasks, tasks.test)
        for path in frames.paths
    ]
    machine, network = config.machine, learner.network.config
    folder = machine.feature_cache_folder or dataset.folder / "features"
    cache = Cache(machine.feature_cache, machine.feature_cache_bytes, folder)
    computed = fingerprint(learner.network, learner.form)
    key = f"{dataset.images.resolve()} {learner.device} {computed} {cache}"
    if key not in stores:
        # Another front has other features: the old ones only fill memory.
        stores.clear()
        workers = machine.workers or cores()
        stores[key] = FeatureStore(learner.network, dataset.images, workers, learner.form)
    store = stores[key]
    # Before the first layer, features are pixels in four times the room.
    at_input = network.trainable == "all"
    if not store.covers(paths):
        features = replace(cache, kind="off") if at_input else cache
        store.hold(paths, features, store.pixels.bytes_held)
    if (learner.needs_images or at_input) and not store.pixels.covers(paths):
        store.pixels.hold(paths, cache, store.bytes_held)
    return_memory()
    return store


def default_output(config: StreamConfig, network: NetworkConfig, dataset: Dataset) -> Path:
    """outputs/<data set>/<protocol>/<method>_<backbone>."""
    name = f"{config.method}_{network.backbone}"
    return Path("outputs") / dataset.name / config.protocol / name
