"""Run a method over a data set: lay out tasks, check settings, do the runs."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from crumb.data.index import Dataset
from crumb.data.protocol import TaskList
from crumb.device import cores, return_memory
from crumb.errors import DivergedError, InputError, Terminated, setting
from crumb.features.features import FeatureStore, fingerprint
from crumb.features.store import Cache
from crumb.methods.base import Learner
from crumb.methods.registry import find_method
from crumb.nets.backbones import settled
from crumb.nets.config import NetworkConfig
from crumb.nets.fronts import RefusedEngineError
from crumb.stream import tensorboard
from crumb.stream.checkpoint import Checkpoints
from crumb.stream.config import ProtocolConfig, StreamConfig
from crumb.stream.job import Job, settings_of
from crumb.stream.learner import Networks, check_memory, new_learner, of_run
from crumb.stream.loop import run_once
from crumb.stream.plan import Plan
from crumb.stream.rate import measured, seconds_per_batch, with_losses
from crumb.stream.record import RunRecord
from crumb.stream.results import Results
from crumb.stream.settings import CONFIG, ENGINE, read_settings
from crumb.stream.skipping import broken_images, leave_out
from crumb.stream.tasks import epochs_of, held_out, open_dataset, tasks_of


def stream(
    config: StreamConfig,
    network: NetworkConfig,
    method: Any,
    stores: dict[str, FeatureStore] | None = None,
) -> Results:
    """Run a method over a data set, ``config.runs`` times.

    Args:
        config: configuration of the stream.
        network: configuration of the backbone.
        method: configuration of the method.
        stores: cached features. Pass the same object to several calls to share them.

    Returns:
        the results folder.

    Raises:
        InputError: a setting, file or image is invalid; finished runs are kept.
        KeyboardInterrupt, Terminated: a signal arrived; finished work is kept, and the exception
            holds the command that resumes.
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
    """The job of :func:`stream`."""
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
    """The tasks of all runs, by run number.

    Raises:
        InputError: see :func:`tasks_of`; or lists show an image twice in strict mode.
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
class Prepared:
    """A job whose settings and files have been checked.

    Attributes:
        learner: learner of the first run.
        task_lists: tasks by run number, without skipped images.
        epochs: number of epochs of each task, by run number.
        held_out: held-out training frames of each task, by run number.
        results: results folder, not yet written.
    """

    learner: Learner
    task_lists: Mapping[int, TaskList]
    epochs: Mapping[int, Sequence[int]]
    held_out: Mapping[int, Sequence[np.ndarray]]
    results: Results


def carry_out(job: Job, stores: dict[str, FeatureStore]) -> Results:
    """Do all unfinished runs of a job. Raises the errors of :func:`stream`."""
    try:
        return _carry_out(job, stores)
    except (KeyboardInterrupt, Terminated) as signalled:
        begun = job.config.resume or Results.begun_in(job.folder)
        command = f"crumb {job.command} --resume {shlex.quote(str(job.folder))}"
        signalled.args = (f"resume with: {command}",) if begun else ()
        raise


def carry_out_all(job: Job, stores: dict[str, FeatureStore]) -> dict[int, DivergedError]:
    """Like :func:`carry_out`, but continue with later runs if a run diverges.

    Returns:
        errors of diverged runs, by run number.
    """
    diverged: dict[int, DivergedError] = {}
    _carry_out(job, stores, diverged)
    return diverged


def prepare(job: Job, networks: Networks | None = None, pretrained: bool = True) -> Prepared:
    """Check a job as far as possible before it starts. Writes nothing.

    Args:
        job: the job to check.
        networks: cache of built networks, if several jobs are only checked.
        pretrained: whether the pretrained files must exist; otherwise none is read.

    Raises:
        InputError: a setting, a file or the results folder is invalid.
    """
    config, task_lists, broken = job.config, job.task_lists, job.broken
    if config.pretrained is not None and pretrained:
        for run in task_lists:
            if not (path := of_run(config.pretrained, run)).is_file():
                problem = f"is missing, for run {run}"
                raise InputError(
                    setting("pretrained", path), problem, f"pretrain with that {setting('run')}"
                )
    own = config if pretrained else replace(config, pretrained=None, pretrained_parts="both")
    resize = job.dataset.resize
    network = with_engine_of(job.network, job.folder)
    first, complete = config.first_run, _is_complete(job)
    try:
        learner = new_learner(own, network, job.method, first, resize, networks, complete)
        learner.network.front_engine()
    except RefusedEngineError as error:
        if (job.folder / CONFIG).exists():
            raise error.for_results() from error
        raise
    if config.on_error == "skip":
        if broken is None:
            broken = broken_in(job.dataset, config, task_lists.values(), job.network)
        task_lists = {run: leave_out(tasks, broken) for run, tasks in task_lists.items()}
    least = learner.least_epochs
    epochs = {run: epochs_of(config, tasks, least) for run, tasks in task_lists.items()}
    held = {run: held_out(config, tasks, epochs[run]) for run, tasks in task_lists.items()}
    for tasks in task_lists.values():
        check_memory(learner, tasks)
    settings = settings_of(job, learner.network.config, learner.config)
    results = Results(job.folder, settings, config.resume, broken)
    if config.filelists is not None:
        _check_alike(job, results.finished())
    return Prepared(learner, task_lists, epochs, held, results)


def _check_alike(job: Job, finished: Sequence[RunRecord]) -> None:
    """Refuse runs with different classes or numbers of tasks, because they cannot be averaged.

    The lists of a finished run may be gone; its record still holds both.
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
        remedy = f"give matching lists, or another {setting('output')}"
        raise InputError(setting("filelists", job.config.filelists), problem, remedy)


def _is_complete(job: Job) -> bool:
    """Whether nothing is left to do in the folder, so that no feature will be computed."""
    if not (job.folder / CONFIG).exists() or Results.begun_runs_in(job.folder):
        return False
    files = [path for run in job.task_lists for path in (*job.models(run), *job.task_models(run))]
    # A damaged record is told when the results are read.
    with suppress(InputError):
        done = {record.run for record in Results.finished_in(job.folder)}
        return done.issuperset(job.task_lists) and all(path.exists() for path in files)
    return False


def with_engine_of(network: NetworkConfig, folder: Path) -> NetworkConfig:
    """A network whose engine is left open, with the one that the runs in a folder have."""
    if network.engine == "auto" and (folder / CONFIG).exists():
        # What is wrong with the folder is told when its settings are compared.
        with suppress(InputError):
            return replace(network, engine=read_settings(folder)[ENGINE])
    return network


def broken_in(
    dataset: Dataset,
    config: ProtocolConfig,
    task_lists: Iterable[TaskList],
    network: NetworkConfig,
) -> dict[str, str]:
    """The problem of each image that cannot be decoded."""
    size = settled(network)[0].preprocessing.size
    workers = config.machine.workers or cores()
    return broken_images(dataset.images, task_lists, size, workers)


def _carry_out(
    job: Job, stores: dict[str, FeatureStore], diverged: dict[int, DivergedError] | None = None
) -> Results:
    """Errors of diverged runs are collected if requested, else raised."""
    config = job.config
    if config.tensorboard:
        tensorboard.check_installed()
    ready = prepare(job)
    results = ready.results
    finished = results.finished()
    done = {record.run for record in finished}
    if config.tensorboard:
        tensorboard.write_missing(finished, job.folder)
    kept = job.model or job.task_model
    if not kept and done.issuperset(ready.task_lists) and not Results.begun_runs_in(job.folder):
        return results
    with results:
        for run in ready.task_lists:
            try:
                _carry_out_run(job, ready, run, run in done, stores)
            except DivergedError as error:
                error.run = run
                if diverged is None:
                    raise
                # Drop the traceback, which keeps the learner and its features alive.
                diverged[run] = error.with_traceback(None)
        if diverged:
            results.withdraw()
    return results


def _carry_out_run(
    job: Job, ready: Prepared, run: int, is_done: bool, stores: dict[str, FeatureStore]
) -> None:
    config, results, tasks = job.config, ready.results, ready.task_lists[run]
    minutes, batches = config.checkpoint_minutes, config.checkpoint_batches
    checkpoints = Checkpoints(results.checkpoints, tasks, minutes, batches, job.dataset.images)
    models, task_models = job.models(run), job.task_models(run)
    if is_done and all(path.exists() for path in (*models, *task_models)):
        checkpoints.clear()
        return
    learner = ready.learner
    if run != config.first_run:
        engine = ready.learner.network.config.engine
        network = replace(job.network, engine=engine)
        learner = new_learner(config, network, job.method, run, job.dataset.resize)
    # Keep no reference to the plan: it holds the feature store, which must be freed before the
    # next.
    record = run_once(_plan(job, ready, run, learner, checkpoints, stores))
    for model in models:
        learner.save(model)
    results.add(record)
    if config.tensorboard:
        tensorboard.write_events(record, job.folder)
    checkpoints.clear()


# Helpers that build what a run needs.


def _plan(
    job: Job,
    ready: Prepared,
    run: int,
    learner: Learner,
    checkpoints: Checkpoints,
    stores: dict[str, FeatureStore],
) -> Plan:
    """The plan of one run, with the frames that it loses if the stream has a rate."""
    config = job.config
    plan = Plan(
        ready.task_lists[run],
        ready.epochs[run],
        ready.held_out[run],
        config.batch_size,
        learner,
        open_store(learner, config, job.dataset, ready.task_lists.values(), stores),
        config,
        checkpoints,
        job.task_models(run),
    )
    if config.stream_rate is None:
        return plan

    def measure() -> float:
        network = replace(job.network, engine=learner.network.config.engine)
        scratch = new_learner(config, network, job.method, run, job.dataset.resize)
        return measured(replace(plan, learner=scratch))

    seconds = config.batch_seconds
    if seconds is None:
        seconds = seconds_per_batch(job.folder, Results.begun_in(job.folder), measure)
    return with_losses(plan, seconds)


def open_store(
    learner: Learner,
    config: ProtocolConfig,
    dataset: Dataset,
    task_lists: Iterable[TaskList],
    stores: dict[str, FeatureStore],
) -> FeatureStore:
    """Features of every training and test frame of all runs, from ``stores`` if cached there.

    Raises:
        InputError: an image is missing or broken, or the cache cannot be written.
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
        # Free the features of another feature extractor.
        stores.clear()
        workers = machine.workers or cores()
        stores[key] = FeatureStore(learner.network, dataset.images, workers, learner.form)
    store = stores[key]
    # Cut before the first layer, features are pixels in four times the memory.
    at_input = network.trainable == "all"
    if not store.covers(paths):
        features = replace(cache, kind="off") if at_input else cache
        store.hold(paths, features, store.pixels.bytes_held)
    images = learner.needs_images or learner.wants_images or at_input
    if images and not store.pixels.covers(paths):
        store.pixels.hold(paths, cache, store.bytes_held)
    return_memory()
    return store


def default_output(config: StreamConfig, network: NetworkConfig, dataset: Dataset) -> Path:
    """outputs/<data set>/<protocol>/<method>_<backbone>; in strict mode <protocol>_strict."""
    stream = config.protocol if config.mode == "paper" else f"{config.protocol}_{config.mode}"
    return Path("outputs") / dataset.name / stream / f"{config.method}_{network.backbone}"
