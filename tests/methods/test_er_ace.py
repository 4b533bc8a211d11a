"""ER-ACE: the asymmetric cross entropy and one step, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from linear_tail import batch_at, head_of, linear_learner
from tests.rounding import assert_rounded, rounded

from crumb.methods.er_ace import ErAce, cross_entropy_within

ZEROS = [[0.0, 0.0]] * 3


def test_absent_classes_take_no_part():
    logits = torch.tensor([[0.0, math.log(3.0), 9.0], [math.log(4.0), 0.0, -5.0]])
    # Over classes 0 and 1: 1 / 4 and 1 / 5.
    found = cross_entropy_within(logits, torch.tensor([0, 1]))
    assert found.item() == rounded((math.log(4) + math.log(5)) / 2, terms=4, magnitude=9)


def test_step_by_hand():
    learner = linear_learner(ErAce, ZEROS)
    learner.exemplars.on_batch(batch_at([0], (1, 0)))
    losses = learner.learn(batch_at([1, 2], (0, 2), (4, 0)))
    # New images: p = 1/2 for classes 1 and 2. Exemplars: the stored one, twice; p = 1/3 for each.
    assert losses["direct"].item() == rounded(math.log(2), terms=4)
    assert losses["replay"].item() == rounded(math.log(3), terms=4)
    # p - y of image (0, 2): (0, -1/2, 1/2); of (4, 0): (0, 1/2, -1/2); each halved by the mean.
    # p - y of the exemplar (1, 0): (-2/3, 1/3, 1/3). The learning rate is 1/2.
    weights, biases = head_of(learner)
    expected = [[1 / 3, 0], [-1 / 2 - 1 / 6, 1 / 4], [1 / 2 - 1 / 6, -1 / 4]]
    assert_rounded(weights, expected, terms=4, magnitude=4)
    assert_rounded(biases, [1 / 3, -1 / 6, -1 / 6], terms=4)


def test_all_classes_compete_while_the_memory_is_empty():
    learner = linear_learner(ErAce, ZEROS)
    losses = learner.learn(batch_at([1], (0, 2)))
    assert losses.keys() == {"direct"}
    assert losses["direct"].item() == rounded(math.log(3), terms=4)
    weights, _ = head_of(learner)
    assert_rounded(weights, [[0, -1 / 3], [0, 2 / 3], [0, -1 / 3]], terms=4)
    assert learner.exemplars.memory.counts == {1: 1}


@pytest.mark.parametrize("policy", ["reservoir", "on-arrival"])
def test_new_images_leave_the_output_of_an_absent_class_alone(policy: str):
    learner = linear_learner(ErAce, [[5.0, 0.0], [0.0, 0.0], [0.0, 0.0]], write_policy=policy)
    learner.exemplars.on_batch(batch_at([0], (0, 0)))
    learner.learn(batch_at([1, 2], (1, 0), (0, 1)))
    # The exemplar has no features, so only its bias moves.
    assert head_of(learner)[0][0] == [5.0, 0.0]


def test_default_policy_is_that_of_the_authors():
    assert ErAce.Config().write_policy == "reservoir"
