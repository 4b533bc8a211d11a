"""Checks of memory: claimed bytes are complete and within the limits."""

from __future__ import annotations

from typing import Any

import torch

from crumb.errors import InputError
from crumb.memory.capacity import CAPACITIES
from crumb.methods.base import Learner
from crumb.testing.expecting import refused
from crumb.testing.networks import Task, batch_of
from crumb.testing.runs import main_run, stream
from crumb.testing.variants import MEMORY, Variant

MANY = 40
"""Classes of a check of a small budget."""


def check_all_that_is_kept_is_claimed(variant: Variant) -> None:
    """``bytes_held`` is all that the learner would save besides one network."""
    run = main_run(variant)
    for event, (held, kept) in enumerate(zip(run.held, run.kept, strict=True)):
        claimed = held.replay + held.extra
        assert claimed == kept, f"event {event}: {kept} bytes are saved, {claimed} are claimed"
        assert 0 <= held.reading <= held.extra, f"event {event}: {held}"


def check_memory_size_is_kept_at_every_step_and_used(variant: Variant) -> None:
    """No more than so many exemplars, and about so many in the end."""
    run = main_run(variant)
    exemplars = getattr(run.learner, "exemplars", None)
    if exemplars is None:
        return
    row, most = _row_bytes(exemplars.storage), dict(variant.settings)["memory_size"]
    for event, held in enumerate(run.held):
        assert held.replay <= most * row, f"event {event}: {held.replay} bytes in {most} exemplars"
    assert run.held[-1].replay == exemplars.memory.rows.nbytes == most * row
    stored = len(exemplars.memory)
    assert stored >= most - 2, f"{stored} exemplars of {most} are stored in the end"


def _row_bytes(storage: object) -> int:
    shape, dtype = storage.row_shape, storage.dtype  # type: ignore[attr-defined]
    return torch.empty(shape, dtype=dtype, device="meta").nbytes


def check_nothing_is_kept_of_each_frame(variant: Variant) -> None:
    """The same tasks and classes in five times as many frames take no more bytes.

    There may be room for more exemplars, with a row number, a score, a label and a length each:
    four numbers of at most eight bytes.
    """
    extra: list[int] = []
    allowed = 0
    for batches in (2, 10):
        learner = variant.make()
        for number, pair in enumerate(((0, 1), (2, 3))):
            names = [f"class {label}" for label in pair]
            if learner.needs_task_boundaries:
                learner.begin_task(names)
            learner.add_classes(names)
            task = [batch_of(learner, *pair, seed=100 * number + i) for i in range(batches)]
            for batch in task:
                learner.learn(batch)
            if learner.needs_task_boundaries:
                learner.end_task(Task(task))
        extra.append(learner.bytes_held().extra)
        if hasattr(getattr(learner, "exemplars", None), "memory"):
            allowed = 32 * MEMORY
    more = extra[1] - extra[0]
    assert more <= allowed, f"{more} bytes more for more frames of a task"


def with_budget(variant: Variant) -> tuple[Learner, int]:
    """A learner with a budget in bytes that it has to keep to, and the bytes."""
    run = main_run(variant)
    exemplars = getattr(run.learner, "exemplars", None)
    if exemplars is None:
        # Half of what it holds where it may.
        budget = (run.held[-1].replay + run.held[-1].reading) // 2
    else:
        # Of the images of 192 bytes, or of what else is kept; and of what it is read with.
        each = max(_row_bytes(exemplars.storage), 192) + 12
        budget = exemplars.storage.reader_bytes + (MEMORY + 3) * each + 5
    return variant.make(budget_bytes=budget), budget


def check_a_budget_in_bytes_is_kept_at_every_step_and_used(variant: Variant) -> None:
    """Exemplars and all that they are read with, within the budget."""
    learner, budget = with_budget(variant)
    for event in stream(learner):
        used = _used(learner)
        assert used <= budget, f"event {event}: {used} bytes of {budget}"
    assert _used(learner) > budget / 3, f"{learner.bytes_held()} is little of {budget} bytes"


def check_a_budget_in_bytes_is_kept_with_many_classes(variant: Variant) -> None:
    """Counts of each class are within the budget too, where it is small for so many classes."""
    probe = variant.make(budget_bytes=1 << 20)
    storage = probe.exemplars.storage  # type: ignore[attr-defined]
    if storage.row_shape is None:
        row = storage.encode(batch_of(probe, *range(MANY))).shape[1]
    else:
        row = _row_bytes(storage)
    # What is kept beside an exemplar, and what a policy may count of a class: four numbers.
    budget = storage.reader_bytes + MANY * (row + 12 + 32)
    learner = variant.make(budget_bytes=budget)
    for first in range(0, MANY, 10):
        labels = range(first, first + 10)
        names = [f"class {label}" for label in labels]
        if learner.needs_task_boundaries:
            learner.begin_task(names)
        learner.add_classes(names)
        task = [batch_of(learner, *labels, *labels, seed=10 * i) for i in range(2)]
        for batch in task:
            learner.learn(batch)
            assert _used(learner) <= budget, f"{first + 10} classes: {_used(learner)} of {budget}"
        if learner.needs_task_boundaries:
            learner.end_task(Task(task))
            assert _used(learner) <= budget, f"{first + 10} classes: {_used(learner)} of {budget}"
    assert _used(learner) > budget / 2, f"{_used(learner)} is little of {budget} bytes"


def _used(learner: Learner) -> int:
    held = learner.bytes_held()
    return held.replay + held.reading


def check_a_budget_for_nothing_is_refused(variant: Variant) -> None:
    """Refuse a tiny budget in one line that names a sufficient one."""
    with refused(r"budget_bytes=3: .*at least \d+", InputError):
        variant.make(budget_bytes=3)


def check_a_method_without_exemplars_takes_no_budget(variant: Variant) -> None:
    """A budget that nothing keeps to would make it look as if it did."""
    for name in CAPACITIES:
        given: dict[str, Any] = {name: 10_000}
        if name in variant.kind.Config.__dataclass_fields__:
            with refused("no exemplars that a capacity could count", InputError):
                variant.make(**given)
        else:
            with refused(name, TypeError):
                variant.make(**given)


def check_holds_on_to_nothing_that_it_was_shown(variant: Variant) -> None:
    """Neither to a batch nor to a part of one, nor to a view of it, which keeps the whole."""
    run = main_run(variant)
    assert not run.alive, f"{run.alive} batches or parts of them are still referred to"
    for name, value in run.learner.state_dict().items():
        if not name.startswith("network."):
            size = value.untyped_storage().nbytes()
            small = size <= 2 * max(value.nbytes, 256) + 4096
            assert small, f"{name}, of {value.nbytes} bytes, is a view of {size}"
