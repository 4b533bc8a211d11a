"""L2's update rule, number by number."""

from __future__ import annotations

import torch
from closed_form import goes_on_to_the_bit, learner_of, task_of
from test_conformance import batch_of
from test_crumb import sgd
from torch.nn.functional import cross_entropy

from crumb.methods.l2 import L2


def test_two_steps_by_hand():
    learner = learner_of(L2, "a", "b", dropout=0.0, regularisation=20.0, clip=0.05)
    for batch in task_of(learner, 0, 1):
        learner.learn(batch)
    learner.optimizer.state.clear()
    learner.end_task(task_of(learner, 0, 1))
    learner.begin_task(["c"])
    anchors = {name: p.detach().clone() for name, p in learner.parameters().items()}
    expected, velocity = dict(anchors), dict.fromkeys(anchors)
    clipped = 0
    for seed in (5, 6):
        batch = batch_of(learner, 2, 2, seed=seed)
        current = learner.parameters()
        loss = cross_entropy(learner.network(batch.features)[:, :3], batch.labels)
        gradients = torch.autograd.grad(loss, list(current.values()))
        learner.learn(batch)
        for (name, theta), gradient in zip(expected.items(), gradients, strict=True):
            pull = 2 * 20.0 * (theta - anchors[name])
            if name.startswith("tail.classifier"):
                pull[2:] = 0
            total = gradient + pull
            clipped += int((total.abs() > 0.05).sum())
            expected[name], velocity[name] = sgd(theta, total, velocity[name], clip=0.05)
            torch.testing.assert_close(current[name].detach(), expected[name])
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
    steps += [lambda one: one.meet("cdefg"), step(2, 4, 5), step(3, 6, 6)]
    goes_on_to_the_bit(lambda: learner_of(L2, "a", "b"), steps, tmp_path, monkeypatch)
