"""The path integral of SI: exact on a quadratic, and a plain loop on the network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from closed_form import goes_on_to_the_bit, learner_of, task_of
from networks import TERMS, batch_of
from steps import VISIBLE, sgd
from tests.rounding import assert_rounded
from torch.nn.functional import cross_entropy

from crumb.errors import InputError
from crumb.methods.si import SI, SIConfig


class Bowl(SI):
    """SI on the sum over weights of 0.5 * steepness * (theta - 1)^2 in the place of the loss."""

    steepness = 3.0

    def direct_loss(self, batch):
        parts = [(p - 1).square().sum() for p in self.parameters().values()]
        return 0.5 * self.steepness * torch.stack(parts).sum()


def path_error(steps):
    """How far omega is from the exact integral after the same time in this many steps."""
    lr = 0.2 / steps
    learner = learner_of(Bowl, "a", lr=lr, momentum=0.0, weight_decay=0.0, clip=1e6)
    start = {name: p.detach().clone() for name, p in learner.parameters().items()}
    batch = batch_of(learner, 0)
    for _ in range(steps):
        learner.learn(batch)
    worst = 0.0
    for name, p in learner.parameters().items():
        # Each weight's own part of the fall of the loss, since the loss is a sum over weights.
        fall = 1.5 * ((start[name] - 1).square() - (p.detach() - 1).square())
        worst = max(worst, ((learner.path[name] - fall).abs() / (fall + 1e-3)).max().item())
    return worst


def test_path_integral_of_a_quadratic_in_the_limit_of_small_steps():
    coarse, fine = path_error(20), path_error(200)
    assert fine < 0.01
    # The error of a sum of rectangles falls with the step.
    assert coarse / fine == pytest.approx(10, rel=0.2)


class Plain:
    """SI written out: cross entropy, penalty, clipped SGD, path, importance."""

    def __init__(self, learner, c, damping, clip):
        self.theta = {name: p.detach().clone() for name, p in learner.parameters().items()}
        self.c, self.damping, self.clip = c, damping, clip
        self.anchor = dict(self.theta)
        self.path = {name: torch.zeros_like(p) for name, p in self.theta.items()}
        self.importance = {name: torch.zeros_like(p) for name, p in self.theta.items()}
        self.velocity = dict.fromkeys(self.theta)
        self.steepest = 0.0

    def step(self, learner, batch, first):
        """The gradient of the network at these very weights, for the outputs from ``first`` on."""
        met, current = len(learner.classes), learner.parameters()
        logits = learner.network(batch.features)[:, first:met]
        loss = cross_entropy(logits, batch.labels - first)
        gradients = torch.autograd.grad(loss, list(current.values()))
        for name, gradient in zip(current, gradients, strict=True):
            before = self.theta[name]
            pull = 2 * self.c * self.importance[name] * (before - self.anchor[name])
            after, self.velocity[name] = sgd(
                before, gradient + pull, self.velocity[name], lr=0.01, clip=self.clip
            )
            self.steepest = max(self.steepest, float(gradient.abs().max()))
            self.path[name] = self.path[name] - gradient * (after - before)
            self.theta[name] = after

    def end(self):
        for name, theta in self.theta.items():
            change = (theta - self.anchor[name]) ** 2
            total = self.importance[name] + self.path[name] / (change + self.damping)
            self.importance[name] = torch.maximum(total, torch.zeros_like(total))
            self.anchor[name] = theta
            self.path[name] = torch.zeros_like(theta)


def test_three_tasks_against_a_plain_loop():
    settings: dict[str, Any] = VISIBLE | {
        "lr": 0.01,
        "regularisation": 50.0,
        "damping": 0.02,
        "clip": 0.2,
    }
    learner = learner_of(SI, "a", "b", outputs=6, dropout=0, **settings)
    plain, steps = Plain(learner, 50.0, 0.02, 0.2), 0
    for first in (0, 2, 4):
        learner.begin_task("abcdef"[first : first + 2])
        task = task_of(learner, first, first + 1, first, seed=first)
        # Two readings of the task: the path goes on from one to the next.
        for batch in [*task, *task]:
            plain.step(learner, batch, first)
            steps += 1
            losses = learner.learn(batch)
            assert ("penalty" in losses) == (first > 0)
            for name, p in learner.parameters().items():
                assert_rounded(p, plain.theta[name], TERMS, steps, magnitude=1)
        # The path is of differences of weights, which are about 1, times gradients.
        assert_rounded(learner.path, plain.path, TERMS, steps, plain.steepest)
        reads = task.reads
        learner.end_task(task)
        plain.end()
        assert task.reads == reads
        (slot,) = learner.penalty.slots
        assert_rounded(slot.importances, plain.importance, TERMS, steps, plain.steepest / 0.02)
        assert all(value.count_nonzero() == 0 for value in learner.path.values())
        assert all(value.min() >= 0 for value in slot.importances.values())


def test_path_takes_the_loss_without_penalty_and_the_step_with_it():
    """One weight, by hand: at 2 with anchor 1, importance 4, c = 0.5, lr = 0.1."""
    learner = learner_of(Bowl, "a", lr=0.1, momentum=0.0, weight_decay=0.0, regularisation=0.5)
    with torch.no_grad():
        for p in learner.parameters().values():
            p.fill_(1.0)
    learner.end_task(task_of(learner, 0))
    (slot,) = learner.penalty.slots
    for value in slot.importances.values():
        value.fill_(4.0)
    with torch.no_grad():
        for p in learner.parameters().values():
            p.fill_(2.0)
    learner.learn(batch_of(learner, 0))
    # Gradient of the loss 3 * (2 - 1) = 3; of the penalty 0.5 * 2 * 4 * (2 - 1) = 4.
    for name, p in learner.parameters().items():
        assert_rounded(p, torch.full_like(p, 2 - 0.1 * 7), 4)
        assert_rounded(learner.path[name], torch.full_like(p, 3 * 0.1 * 7), 4)


def test_importance_by_hand_is_never_negative():
    learner = learner_of(SI, "a", damping=0.1)
    learner.learn(batch_of(learner, 0))
    (slot,) = learner.penalty.slots
    with torch.no_grad():
        for name, p in learner.parameters().items():
            p.copy_(slot.anchors[name] + 0.2)
            learner.path[name].fill_(0.7)
            learner.path[name].view(-1)[0] = -0.7
    learner.end_task(task_of(learner, 0))
    for value in learner.penalty.slots[0].importances.values():
        flat = value.reshape(-1)
        # 0.7 / (0.2^2 + 0.1), and max(0, -0.7 / 0.14).
        assert_rounded(flat[1:], torch.full_like(flat[1:], 5.0), 4)
        assert flat[0] == 0


def test_path_of_old_classes_goes_on_when_the_head_grows():
    learner = learner_of(SI, "a", "b", outputs=2)
    for batch in task_of(learner, 0, 1, 0):
        learner.learn(batch)
    before = {name: value.clone() for name, value in learner.path.items()}
    learner.add_classes(["c"])
    for name, value in learner.path.items():
        assert torch.equal(value[: len(before[name])], before[name])
        assert value.shape == learner.parameters()[name].shape
    assert learner.path["tail.classifier.weight"][2:].count_nonzero() == 0
    # The new rows' way is counted from their first values, not from zero.
    (slot,) = learner.penalty.slots
    assert torch.equal(slot.anchors["tail.classifier.weight"][2:], learner.network.head.weight[2:])


def test_one_pass_backwards_through_the_network():
    learner = learner_of(SI, "a", "b")
    learner.learn(batch_of(learner, 0, 1))
    learner.end_task(task_of(learner, 0))
    passes, forward = [], learner.network.tail.forward

    def watched(features):
        logits = forward(features)
        logits.register_hook(lambda gradient: passes.append(len(gradient)))
        return logits

    learner.network.tail.forward = watched
    assert learner.learn(batch_of(learner, 0, 1)).keys() == {"direct", "penalty"}
    assert passes == [2]


def test_saved_in_the_middle_of_a_task(tmp_path, monkeypatch):
    def step(seed, *labels):
        return lambda one: one.learn(batch_of(one, *labels, seed=seed))

    def end(one):
        return one.end_task(task_of(one, 0))

    steps = [step(0, 0, 1), step(1, 0, 1), end, step(2, 1, 0), lambda one: one.add_classes("cdefg")]
    steps += [step(3, 4, 5), end, step(4, 6, 6)]
    goes_on_to_the_bit(lambda: learner_of(SI, "a", "b"), steps, tmp_path, monkeypatch)


def test_damping_must_be_above_zero():
    for value in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="damping"):
            SIConfig(damping=value)
