"""L2's update rule, number by number."""

from __future__ import annotations

import torch
from closed_form import goes_on_to_the_bit, learner_of, task_of
from networks import batch_of
from steps import VISIBLE, ByHand
from torch.nn.functional import cross_entropy

from crumb.methods.l2 import L2


def test_two_steps_by_hand():
    learner = learner_of(L2, "a", "b", dropout=0.0, regularisation=2.0, clip=0.05, **VISIBLE)
    for batch in task_of(learner, 0, 1):
        learner.learn(batch)
    learner.end_task(task_of(learner, 0, 1))
    learner.begin_task(["c", "d"])
    anchors = {name: p.detach().clone() for name, p in learner.parameters().items()}
    by_hand, clipped = ByHand(learner, clip=0.05), 0
    for seed in (5, 6):
        batch = batch_of(learner, 2, 3, seed=seed)
        current = learner.parameters()
        # Over the outputs of the present task.
        loss = cross_entropy(learner.network(batch.features)[:, 2:4], batch.labels - 2)
        gradients = torch.autograd.grad(loss, list(current.values()))
        totals = []
        for (name, p), gradient in zip(current.items(), gradients, strict=True):
            pull = 2 * 2.0 * (p.detach() - anchors[name])
            if name.startswith("tail.classifier"):
                pull[2:] = 0
            totals.append(gradient + pull)
        clipped += sum(int((total.abs() > 0.05).sum()) for total in totals)
        by_hand.step(totals)
        learner.learn(batch)
    by_hand.check()
    assert clipped


def test_only_the_last_task_is_an_anchor():
    learner = learner_of(L2, "a", "b")
    for _ in range(2):
        for batch in task_of(learner, 0, 1):
            learner.learn(batch)
        task = task_of(learner, 0, 1)
        learner.end_task(task)
        assert task.reads == 0
    (slot,) = learner.penalty.slots
    for name, p in learner.parameters().items():
        assert torch.equal(slot.anchors[name], p)


def test_saved_in_the_middle_of_a_task(tmp_path, monkeypatch):
    def step(seed, *labels):
        return lambda one: one.learn(batch_of(one, *labels, seed=seed))

    steps = [step(0, 0, 1), lambda one: one.end_task(task_of(one, 0, 1)), step(1, 1, 0)]
    steps += [lambda one: one.add_classes("cdefg"), step(2, 4, 5), step(3, 6, 6)]
    goes_on_to_the_bit(lambda: learner_of(L2, "a", "b"), steps, tmp_path, monkeypatch)
