"""The stream loop: tasks in order, batches in order, a test after every epoch."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from crumb.data.index import Dataset, load_dataset
from crumb.data.protocol import Frames, TaskList
from crumb.device import choose_device, cores, return_memory
from crumb.errors import InputError
from crumb.methods.base import Learner
from crumb.methods.persistence import load_pretrained
from crumb.methods.registry import find_method
from crumb.nets.backbones import build_network
from crumb.nets.config import NetworkConfig
from crumb.stream.config import StreamConfig
from crumb.stream.evaluate import evaluate
from crumb.stream.features import FeatureStore, fingerprint
from crumb.stream.feed import Reading, choose
from crumb.stream.results import Results, RunRecord
from crumb.stream.store import Cache
from crumb.stream.tasks import epochs_of, held_out, tasks_of

# Losses are looked at, and memory is returned, this often: not at every step, as a GPU would have
# to be waited for.
_CHECK_EVERY = 50


@dataclass(frozen=True)
class Plan:
    """A run before it starts: what is streamed, by whom.

    Attributes:
        tasks: with training and test frames.
        epochs: readings of each task.
        held_out: for each task which frames are kept back, bool (n,).
        batch_size: of the stream.
        learner: fresh.
        store: of the features of all frames.
        config: of the stream.
    """

    tasks: TaskList
    epochs: Sequence[int]
    held_out: Sequence[np.ndarray]
    batch_size: int
    learner: Learner
    store: FeatureStore
    config: StreamConfig


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
    """
    dataset = open_dataset(config.dataset, config.classes)
    kind = find_method(config.method)
    runs = range(config.first_run, config.first_run + config.runs)
    task_lists = {run: tasks_of(config, dataset, run, kind.offline) for run in runs}
    epochs = {run: epochs_of(config, tasks) for run, tasks in task_lists.items()}
    held = {run: held_out(config, tasks, epochs[run]) for run, tasks in task_lists.items()}
    learner = new_learner(config, network, method, config.first_run)
    for tasks in task_lists.values():
        check_memory(learner, tasks)
    folder = config.output or default_output(config, network, dataset)
    sections = {"stream": config, "network": learner.network.config, "method": learner.config}
    results = Results(folder, {k: asdict(v) for k, v in sections.items()}, config.resume)
    done = {record.run for record in results.finished()}
    stores = {} if stores is None else stores
    with results:
        for run, tasks in task_lists.items():
            model = folder / f"learner_run{run}.safetensors"
            if run in done and (model.exists() or not config.save_model):
                continue
            if run != config.first_run:
                learner = new_learner(config, network, method, run)
            # No name for the store: when the next front needs another, nothing holds this one.
            record = run_once(
                Plan(
                    tasks,
                    epochs[run],
                    held[run],
                    config.batch_size,
                    learner,
                    open_store(learner, config, dataset, task_lists.values(), stores),
                    config,
                )
            )
            if config.save_model:
                learner.save(model)
            results.add(record)
    return results


def run_once(plan: Plan) -> RunRecord:
    """One run over all tasks."""
    learner, tasks = plan.learner, plan.tasks
    learner.start_head(len(tasks.classes))
    record = RunRecord(tasks.run, list(tasks.classes))
    groups: list[list[int]] = []
    record.feature_seconds = plan.store.seconds
    if learner.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(learner.device)
    total = sum(
        len(Reading(frames, plan.store, plan.batch_size)) * epochs
        for frames, epochs in zip(tasks.tasks, plan.epochs, strict=True)
    )
    with tqdm(total=total, unit="batch", disable=None) as progress:
        for task, frames in enumerate(tasks.tasks):
            progress.set_description(f"{learner.name} run {tasks.run} task {task + 1}")
            known = {label for group in groups for label in group}
            groups.append(sorted(set(frames.labels.tolist()) - known))
            _run_task(plan, task, groups, record, progress)
            return_memory()
    record.peak_memory_bytes = _peak_memory(learner.device)
    return record


def _run_task(
    plan: Plan, task: int, groups: list[list[int]], record: RunRecord, progress: tqdm
) -> None:
    """Learn one task, test after each epoch, write the memory (never after the last task)."""
    learner, evaluation = plan.learner, plan.config.evaluation
    top_k, mem = evaluation.top_k, evaluation.mem_accuracy
    frames = choose(plan.tasks.tasks[task], ~plan.held_out[task])
    validation = choose(plan.tasks.tasks[task], plan.held_out[task])
    seen = sum(len(group) for group in groups)
    test = _test_reading(plan, plan.tasks.test, seen)
    if learner.needs_task_boundaries:
        learner.begin_task(plan.tasks.classes[:seen])
    best: tuple[float, int, dict[str, Tensor]] = (-1.0, plan.epochs[task] - 1, {})
    record.scores.append([])
    for epoch in range(plan.epochs[task]):
        # Pixels are for storage: on arrival, or in the second reading of the task.
        pixels = learner.needs_images and not learner.needs_task_boundaries and epoch == 0
        reading = Reading(frames, plan.store, plan.batch_size, pixels, first_pass=epoch == 0)
        with _Clock() as clock:
            learn_epoch(plan, reading, record, (task, epoch), progress)
        record.seconds += clock.seconds
        with _Clock() as clock:
            record.scores[task].append(evaluate(learner, test, groups, top_k, mem))
        record.test_seconds += clock.seconds
        return_memory()
        accuracy = record.scores[task][-1].accuracy[1, "all", "direct"]
        progress.set_postfix(accuracy=f"{accuracy:.1f}%")
        if validation.paths:
            score = evaluate(learner, _test_reading(plan, validation, seen), groups, (1,), False)
            if (accuracy := score.accuracy[1, "all", "direct"]) > best[0]:
                best = (accuracy, epoch, _snapshot(learner))
    record.reported.append(best[1])
    if best[2]:
        _restore(learner, best[2])
    if learner.needs_task_boundaries and task < len(plan.tasks.tasks) - 1:
        images = learner.needs_images
        with _Clock() as clock:
            learner.end_task(Reading(frames, plan.store, plan.batch_size, images, False))
        record.seconds += clock.seconds
    held = learner.bytes_held()
    if held.replay >= record.replay_bytes:
        record.replay_bytes, record.extra_bytes = held.replay, held.extra


def learn_epoch(
    plan: Plan, reading: Reading, record: RunRecord, place: tuple[int, int], progress: tqdm
) -> None:
    """One reading of a task; the codebook's figures are taken before its first and last step."""
    learner = plan.learner
    losses: list[dict[str, Tensor]] = []
    ends = {0, len(reading) - 1}
    for number, batch in enumerate(reading):
        newest = int(batch.labels.max())
        if newest >= len(learner.classes):
            learner.meet(plan.tasks.classes[: newest + 1])
        if number in ends and (figures := learner.statistics(batch)) is not None:
            at = {"run": plan.tasks.run, "task": place[0], "epoch": place[1]}
            record.statistics.append(at | figures)
        losses.append(learner.learn(batch))
        record.images += len(batch)
        progress.update()
        if len(losses) == _CHECK_EVERY or number == len(reading) - 1:
            _check_finite(losses, reading, number - len(losses) + 1, place)
            losses.clear()
            return_memory()
    _check_weights(learner, place)


def _check_weights(learner: Learner, place: tuple[int, int]) -> None:
    """The last step of a reading has no later loss that would show what it did."""
    for name, value in learner.parameters().items():
        if not value.isfinite().all():
            raise InputError(
                f"--lr: task {place[0]}, epoch {place[1]}, last batch",
                f"{name} is no longer finite",
                "use a smaller --lr; finished runs are kept",
            )


def _check_finite(
    losses: Sequence[dict[str, Tensor]], reading: Reading, start: int, place: tuple[int, int]
) -> None:
    finite = [torch.stack(list(parts.values())).isfinite().all() for parts in losses]
    bad = (~torch.stack(finite)).nonzero().flatten().tolist()
    if bad:
        number = start + bad[0]
        names = [name for name, value in losses[bad[0]].items() if not value.isfinite()]
        raise InputError(
            f"--lr: task {place[0]}, epoch {place[1]}, batch {number} "
            f"({reading.paths(number)[0]} ...)",
            f"the {' and '.join(names)} loss is not finite",
            "use a smaller --lr; finished runs are kept",
        )


def _test_reading(plan: Plan, frames: Frames, seen: int) -> Reading:
    known = choose(frames, frames.labels < seen)
    return Reading(known, plan.store, plan.config.evaluation.test_batch_size)


class _Clock:
    """Seconds spent in a with block."""

    def __enter__(self) -> _Clock:
        self._started = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds = time.perf_counter() - self._started


def _snapshot(learner: Learner) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in learner.parameters().items()}


def _restore(learner: Learner, snapshot: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in learner.parameters().items():
            value.copy_(snapshot[name])


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes everywhere but on macOS.
    return peak if sys.platform == "darwin" else peak * 1024


# Building what a run needs.


def open_dataset(folder: Path, classes: Sequence[str]) -> Dataset:
    """The data set, or only some of its classes; errors as its parts."""
    dataset = load_dataset(folder)
    return dataset.select(classes) if classes else dataset


def new_learner(config: StreamConfig, network: NetworkConfig, method: Any, seed: int) -> Learner:
    """A fresh learner, from pretrained tail and codebook if asked for."""
    machine = config.machine
    device = choose_device(machine.device, machine.precision, machine.deterministic)
    built = build_network(network, seed)
    built.bf16 = machine.precision == "bf16"
    learner = find_method(config.method)(built, method, seed, device)
    if machine.compile:
        built.compile_tail()
    if config.pretrained is not None:
        load_pretrained(learner, config.pretrained)
    return learner


def check_memory(learner: Learner, tasks: TaskList) -> None:
    """Refuse at the start what the last write of the memory would refuse."""
    earlier = {label for frames in tasks.tasks[:-1] for label in frames.labels.tolist()}
    learner.check_room(len(earlier))


def open_store(
    learner: Learner,
    config: StreamConfig,
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
    machine = config.machine
    folder = machine.feature_cache_folder or dataset.folder / "features"
    cache = Cache(machine.feature_cache, machine.feature_cache_bytes, folder)
    key = f"{dataset.images.resolve()} {learner.device} {fingerprint(learner.network)} {cache}"
    if key not in stores:
        # Another front has other features: the old ones only fill memory.
        stores.clear()
        workers = machine.workers or cores()
        stores[key] = FeatureStore(learner.network, dataset.images, workers)
    store = stores[key]
    if not store.covers(paths):
        store.hold(paths, cache, store.pixels.bytes_held)
    if learner.needs_images and not store.pixels.covers(paths):
        store.pixels.hold(paths, cache, store.bytes_held)
    return_memory()
    return store


def default_output(config: StreamConfig, network: NetworkConfig, dataset: Dataset) -> Path:
    """outputs/<data set>/<protocol>/<method>_<backbone>."""
    name = f"{config.method}_{network.backbone}"
    return Path("outputs") / dataset.name / config.protocol / name
