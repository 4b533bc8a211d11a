"""Runs of a learner over three tasks, shared by read-only checks."""

from __future__ import annotations

import gc
import random
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crumb.data.batches import Batch
from crumb.methods.base import BytesHeld, Learner
from crumb.methods.persistence import load_learner
from crumb.methods.registry import methods
from crumb.testing.networks import Task, batch_of, tiny_network
from crumb.testing.variants import Variant

TASKS = ((0, 1), (2, 3), (4, 5))
BATCHES = 3
# A task is so many batches, then its end: events are counted through all tasks.
_A_TASK = BATCHES + 1
EVENTS = len(TASKS) * _A_TASK
END_OF_FIRST, LAST = BATCHES, EVENTS - 1
SAVED = (1, 6, 7, 10, LAST)
"""Events after which the main run is saved: within each task, after one, and at the end."""
NOT_MEMORY = {
    "codebook.initialised": "one bit: whether the blocks that are counted hold anything yet",
    "quantiser.ready": "one bit: whether the centroids that are counted hold anything yet",
    "directions": "follow from the pretrained network, like its weights",
}
"""What a learner's file holds besides network, generators, optimizer and what is claimed, and why
that is not held against the past. Nothing that tells of a frame may be listed here."""
_NOT_PAST = ("generator.", "momentum.", "optimizer.", "start.")


def batch(learner: Learner, event: int, again: bool = False) -> Batch:
    """One batch of the stream, with images only where the learner says that it needs them.

    Args:
        learner: the learner that it is for.
        event: number of its place in the stream.
        again: it is read once more, at the end of the task.
    """
    task, place = divmod(event, _A_TASK)
    made = batch_of(learner, *TASKS[task], *TASKS[task], seed=10 * task + place, first=not again)
    stores = learner.needs_images and (again or not learner.needs_second_pass)
    images = made.images if stores or learner.wants_images else None
    return Batch(made.labels, made.features, images, made.first_pass)


def begin(learner: Learner, task: int) -> None:
    """Begin a task, as a stream does."""
    names = [f"class {label}" for label in TASKS[task]]
    if learner.needs_task_boundaries:
        learner.expect_task(BATCHES)
        learner.begin_task(names)
    learner.add_classes(names)


def end(learner: Learner, task: int) -> Task:
    """End a task; which is returned, and knows whether it was read again."""
    first = task * _A_TASK
    read = Task([batch(learner, first + place, again=True) for place in range(BATCHES)])
    learner.end_task(read)
    return read


def stream(
    learner: Learner,
    start: int = 0,
    stop: int = EVENTS,
    shown: list[weakref.ref[Any]] | None = None,
) -> Iterator[int]:
    """Learn the events from ``start`` to before ``stop``; yields the number of each after it.

    References to all that the learner is shown are added to ``shown``.
    """
    for event in range(start, stop):
        task, place = divmod(event, _A_TASK)
        if place == 0:
            begin(learner, task)
        if place < BATCHES:
            _learn(learner, event, shown)
        elif learner.needs_task_boundaries:
            end(learner, task)
        yield event


def _learn(learner: Learner, event: int, shown: list[weakref.ref[Any]] | None) -> None:
    one = batch(learner, event)
    if shown is not None:
        parts = (one, one.features, one.images, one.labels)
        shown.extend(weakref.ref(part) for part in parts if part is not None)
    learner.learn(one)


def finish(learner: Learner, start: int = 0, stop: int = EVENTS) -> Learner:
    """The learner, after these events."""
    for _ in stream(learner, start, stop):
        pass
    return learner


@dataclass
class MainRun:
    """What was seen of a learner with seed 0 in the whole stream.

    Attributes:
        learner: at the end; to be looked at, not to be changed.
        held: what it claimed to hold, after each event.
        kept: bytes that it would save besides one network, after each event.
        files: what it was saved as, by number of the event.
        states: the tensors that were saved, by number of the event.
        alive: what it was shown and is still referred to at the end.
        untouched: the global random state was left as it was.
    """

    learner: Learner
    held: list[BytesHeld] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    files: dict[int, bytes] = field(default_factory=dict)
    states: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    alive: int = 0
    untouched: bool = False

    def copy(self, event: int = LAST) -> Learner:
        """The learner as it was after an event, from the file that it was saved as."""
        return loaded(self.files[event])


@lru_cache(maxsize=2)
def main_run(variant: Variant) -> MainRun:
    """One run for all checks of a variant."""
    torch.manual_seed(1)
    before = global_random_state()
    run, shown = MainRun(variant.make()), []
    learner = run.learner
    for event in stream(learner, shown=shown):
        run.held.append(learner.bytes_held())
        run.kept.append(kept_beyond_one_network(learner))
        if event in (END_OF_FIRST, *SAVED):
            run.states[event] = {n: v.detach().clone() for n, v in learner.state_dict().items()}
        if event in SAVED:
            run.files[event] = saved(learner)
    run.untouched = global_random_state() == before
    if any(one() is not None for one in shown):
        # What refers to itself goes when it is collected, which takes long.
        gc.collect()
    run.alive = sum(one() is not None for one in shown)
    return run


def other_run(variant: Variant) -> Learner:
    """The same run without checks, with another global random state."""
    torch.manual_seed(2)
    random.seed(2)
    np.random.seed(2)  # noqa: NPY002
    return finish(variant.make())


def global_random_state() -> tuple[Any, ...]:
    """Global random states of torch, Python and NumPy."""
    return torch.get_rng_state().tolist(), random.getstate(), repr(np.random.get_state())  # noqa: NPY002


def kept_beyond_one_network(learner: Learner) -> int:
    """Bytes of all that a learner's file holds besides one network, generators and optimizer.

    A replay memory is one tensor, as long as ``allocated`` says, and four bytes for each row of
    it: the number of the row, in the list of its class or of those that are free. Its file holds
    the rows in use and their labels.
    """
    total, state = 0, learner.state_dict()
    network = _names_of_a_network()
    for name, value in state.items():
        stem, _, part = name.rpartition(".")
        rows = state.get(f"{stem}.allocated")
        if name.startswith(_NOT_PAST) or name in {*network, *NOT_MEMORY}:
            continue
        if rows is None or part not in ("rows", "labels", "allocated"):
            total += value.nbytes
        elif part == "rows":
            total += int(rows) * (value[0].nbytes if len(value) else 0) + 4 * int(rows)
    return total


@cache
def _names_of_a_network() -> frozenset[str]:
    networks = (tiny_network(norm_in_front=True), tiny_network(attention=True))
    return frozenset(f"network.{name}" for one in networks for name in one.state_dict())


def saved(learner: Learner) -> bytes:
    """The file that a learner is saved as."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "learner.crumb"
        learner.save(path)
        return path.read_bytes()


def loaded(content: bytes) -> Learner:
    """The learner that a file holds.

    Raises:
        InputError: the file is damaged.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "learner.crumb"
        path.write_bytes(content)
        return load_learner(path, "cpu")


@contextmanager
def known(kind: type[Learner]) -> Iterator[None]:
    """A context in which files of a method can be loaded, whether it is registered or not."""
    before = methods().get(kind.name)
    methods()[kind.name] = kind
    try:
        yield
    finally:
        if before is None:
            del methods()[kind.name]
        else:
            methods()[kind.name] = before
