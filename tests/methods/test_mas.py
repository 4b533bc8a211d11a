"""The importance of MAS against its closed form, over several tasks."""

from __future__ import annotations

import torch
from closed_form import (
    Paper,
    assert_close,
    everything,
    goes_on_to_the_bit,
    learner_of,
    task_of,
)
from networks import batch_of

from crumb.data.batches import Batch
from crumb.methods.mas import MAS


def sensitivity(learner, task):
    """Mean over frames of |gradient of the sum of squared logits|, on paper."""
    paper = Paper(learner, everything(task)[0], lambda logits: 2 * logits)
    return {name: value.abs().mean(0) for name, value in paper.gradients.items()}


def test_importance_is_the_closed_form():
    learner = learner_of(MAS, "a", "b", "c")
    task = task_of(learner, 0, 1, 2, 2)
    learner.end_task(task)
    (slot,) = learner.penalty.slots
    assert_close(slot.importances, sensitivity(learner, task))
    assert task.reads == 1
    assert learner.network.tail.training


def test_labels_are_not_used():
    one, other = (learner_of(MAS, "a", "b") for _ in range(2))
    task = task_of(one, 0, 1, 1)
    one.end_task(task)
    task.batches = [Batch(1 - batch.labels, batch.features) for batch in task.batches]
    other.end_task(task)
    for name, value in one.penalty.slots[0].importances.items():
        assert torch.equal(value, other.penalty.slots[0].importances[name])


def test_importances_of_tasks_add_up_and_the_anchor_is_the_last():
    learner = learner_of(MAS, "a", "b", dropout=0.0)
    total = {}
    for first in (0, 2):
        learner.begin_task("abcd"[first : first + 2])
        task = task_of(learner, first, first + 1, seed=first)
        for batch in task:
            learner.learn(batch)
        learner.end_task(task)
        found = sensitivity(learner, task)
        total = {name: total.get(name, 0) + value for name, value in found.items()}
    (slot,) = learner.penalty.slots
    assert_close(slot.importances, total)
    for name, p in learner.parameters().items():
        assert torch.equal(slot.anchors[name], p)


def test_saved_in_the_middle_of_a_task(tmp_path, monkeypatch):
    def step(seed, *labels):
        return lambda one: one.learn(batch_of(one, *labels, seed=seed))

    def end(*labels):
        return lambda one: one.end_task(task_of(one, *labels))

    steps = [
        step(0, 0, 1),
        end(0, 1),
        step(1, 1, 0),
        lambda one: one.add_classes("cdefg"),
        step(2, 4, 5),
    ]
    steps += [end(3, 4), step(3, 6, 6)]
    goes_on_to_the_bit(lambda: learner_of(MAS, "a", "b"), steps, tmp_path, monkeypatch)
