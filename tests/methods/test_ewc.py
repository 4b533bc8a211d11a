"""The Fisher information against its closed form; the penalties of several tasks."""

from __future__ import annotations

import pytest
import torch
from closed_form import (
    Paper,
    assert_close,
    everything,
    goes_on_to_the_bit,
    learner_of,
    task_of,
)
from networks import TERMS, Task, batch_of
from steps import VISIBLE, ByHand
from tests.rounding import assert_rounded, rounded
from torch.nn.functional import cross_entropy, one_hot

from crumb.data.batches import Batch
from crumb.errors import InputError
from crumb.methods.ewc import EWC, EWCConfig


def empirical(learner, task, first=0):
    """Mean over frames of the squared gradient of -log p(true label), on paper.

    Args:
        first: label of the first class whose output the task trains.
    """
    features, labels = everything(task)
    met = len(learner.classes)

    def error(logits):
        chances = torch.zeros_like(logits)
        chances[:, first:] = logits[:, first:].softmax(1)
        return chances - one_hot(labels, met)

    paper = Paper(learner, features, error)
    return {name: value.square().mean(0) for name, value in paper.gradients.items()}


def expected_fisher(learner, task):
    """The same with the label's distribution summed over, on paper."""
    features, _ = everything(task)
    met, total = len(learner.classes), {}
    probabilities = []
    for drawn in range(met):

        def error(logits, drawn=drawn):
            probabilities.append(logits.softmax(1)[:, drawn])
            return logits.softmax(1) - one_hot(torch.tensor(drawn), met)

        for name, value in Paper(learner, features, error).gradients.items():
            weight = probabilities[-1].view(-1, *[1] * (value.ndim - 1))
            total[name] = total.get(name, 0) + (weight * value.square()).mean(0)
    return total


def test_empirical_fisher_is_the_closed_form():
    learner = learner_of(EWC, "a", "b", "c", fisher="empirical")
    task = task_of(learner, 0, 1, 2, 2)
    learner.end_task(task)
    (slot,) = learner.penalty.slots
    assert_close(slot.importances, empirical(learner, task))
    assert task.reads == 1
    assert learner.network.tail.training
    assert all(p.grad is None for p in learner.parameters().values())


def test_gradients_are_squared_frame_by_frame():
    """The square of a batch's mean gradient, which the original takes, is another number."""
    learner = learner_of(EWC, "a", "b", fisher="empirical")
    task = task_of(learner, 0, 1, 0, 1)
    learner.end_task(task)
    one_by_one = [Batch(b.labels[i : i + 1], b.features[i : i + 1]) for b in task for i in range(4)]
    other = learner_of(EWC, "a", "b", fisher="empirical")
    other.end_task(Task(one_by_one))
    assert_close(other.penalty.slots[0].importances, learner.penalty.slots[0].importances)


def test_fisher_of_a_softmax_model_in_one_line():
    """With drawn labels the head's bias has F_c = mean of p_c (1 - p_c)."""
    learner = learner_of(EWC, "a", "b", "c")
    task = task_of(learner, 0, 1, 2)
    paper = expected_fisher(learner, task)["tail.classifier.bias"]
    features, _ = everything(task)
    learner.network.eval()
    p = learner.network(features)[:, :3].softmax(1).detach()
    assert_rounded(paper[:3], (p * (1 - p)).mean(0), TERMS)


def test_sampled_fisher_comes_to_its_expectation():
    learner = learner_of(EWC, "a", "b", "c", fisher="sampled")
    with torch.no_grad():
        learner.parameters()["tail.classifier.bias"][:3] = torch.tensor([0.0, 1.0, -1.0])
    task = task_of(learner, 0, 1, 2)
    many = Task(task.batches * 300)
    learner.end_task(many)
    expected = expected_fisher(learner, task)
    found = learner.penalty.slots[0].importances
    for name, value in expected.items():
        # 2,700 draws: the deviation of a mean is about 2 % of the largest values.
        difference = (found[name] - value).abs().max() / value.max()
        assert difference < 0.1, name
    # The true labels would give something else.
    bias = empirical(learner, task)["tail.classifier.bias"]
    other = expected["tail.classifier.bias"]
    assert ((bias - other).abs().max() / other.max()) > 0.2


def test_sampling_follows_the_seed_alone():
    def fisher(seed):
        learner = learner_of(EWC, "a", "b", "c", seed=seed)
        with torch.no_grad():
            for p in learner.parameters().values():
                p.fill_(0.1)
        before = torch.get_rng_state()
        learner.end_task(task_of(learner, 0, 1, 2, batches=4))
        assert torch.equal(torch.get_rng_state(), before)
        return learner.penalty.slots[0].importances["tail.classifier.bias"]

    assert torch.equal(fisher(1), fisher(1))
    assert not torch.equal(fisher(1), fisher(2))


def test_fisher_samples_are_spread_over_the_task():
    learner = learner_of(EWC, "a", "b", "c", fisher="empirical", fisher_samples=3)
    task = task_of(learner, 0, 1, 2)
    learner.end_task(task)
    features, labels = everything(task)
    few = Task([Batch(labels[2::3], features[2::3])])
    assert_close(learner.penalty.slots[0].importances, empirical(learner, few))


def two_tasks(**settings):
    """The learner, and anchors and Fisher informations of both tasks on paper."""
    settings = {"regularisation": 5.0, "dropout": 0.0, "fisher": "empirical", **settings}
    learner = learner_of(EWC, "a", "b", **(VISIBLE | settings))
    anchors, fishers = [], []
    for first in (0, 2):
        learner.begin_task("abcd"[first : first + 2])
        task = task_of(learner, first, first + 1, seed=first)
        for batch in task:
            learner.learn(batch)
        learner.end_task(task)
        fishers.append(empirical(learner, task, first))
        anchors.append({name: p.detach().clone() for name, p in learner.parameters().items()})
    return learner, anchors, fishers


def step_after(learner, anchors, importances, clip):
    """One step on a batch of an old and a new class, against the rule written out."""
    learner.begin_task(["e"])
    with torch.no_grad():
        for p in learner.parameters().values():
            p += 0.1
    batch = batch_of(learner, 3, 4, seed=50)
    theta = {name: p.detach().clone() for name, p in learner.parameters().items()}
    # Of the classes before, the task has shown the last.
    loss = cross_entropy(learner.network(batch.features)[:, 3:5], batch.labels - 3)
    gradients = torch.autograd.grad(loss, list(learner.parameters().values()))
    penalty, pull = 0.0, {name: torch.zeros_like(value) for name, value in theta.items()}
    for anchor, importance in zip(anchors, importances, strict=True):
        for name, value in theta.items():
            rows = len(anchor[name])
            away = value[:rows] - anchor[name]
            penalty += (importance[name] * away**2).sum().item()
            pull[name][:rows] += 2 * 5 * importance[name] * away
    by_hand = ByHand(learner, clip=clip)
    by_hand.step([g + pull[name] for (name, g) in zip(theta, gradients, strict=True)])
    losses = learner.learn(batch)
    assert losses["penalty"].item() == rounded(penalty, terms=TERMS)
    by_hand.check()


def test_each_task_keeps_its_own_anchor():
    learner, anchors, fishers = two_tasks(clip=5.0)
    assert len(learner.penalty.slots) == 2
    step_after(learner, anchors, fishers, clip=5.0)


def test_online_has_one_anchor_and_a_decaying_importance():
    learner, anchors, fishers = two_tasks(form="online", gamma=0.5)
    assert len(learner.penalty.slots) == 1
    # F* = 0.5 F_1 + F_2, and the penalty's factor is 0.5 F*.
    merged = {name: 0.5 * (0.5 * fishers[0][name] + fishers[1][name]) for name in fishers[0]}
    assert_close(learner.penalty.slots[0].importances, merged)
    step_after(learner, anchors[1:], [merged], clip=10.0)


@pytest.mark.parametrize("settings", [{}, {"form": "online", "gamma": 0.9}])
def test_saved_in_the_middle_of_a_task(settings, tmp_path, monkeypatch):
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
    steps += [end(3, 4), step(3, 6, 6), end(5, 6), step(4, 0, 6)]
    goes_on_to_the_bit(lambda: learner_of(EWC, "a", "b", **settings), steps, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        ({"form": "both"}, "form='both'"),
        ({"fisher": "batch"}, "fisher='batch'"),
        ({"form": "online", "gamma": 1.1}, "gamma=1.1"),
        ({"form": "online", "gamma": -0.1}, "gamma=-0.1"),
        ({"gamma": 0.9}, "gamma=0.9"),
        ({"fisher_samples": 0}, "fisher_samples=0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, flag):
    with pytest.raises(InputError, match=flag):
        EWCConfig(**settings)
