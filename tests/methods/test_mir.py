"""MIR: the virtual step, the choice and the real step, by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from linear_tail import batch_at, head_of, linear_learner, vectors
from tests.rounding import assert_rounded, rounded

from crumb.errors import InputError
from crumb.methods.mir import Mir, MirConfig

ZEROS = [[0.0, 0.0]] * 2
STORED = ((1.0, 0.0), (0.0, 1.0), (-2.0, 0.0))


def learner_of(**settings: Any) -> Any:
    """Three exemplars of class 0. The weights are zero, so each has a loss of log 2."""
    learner = linear_learner(Mir, ZEROS, **settings)
    learner.exemplars.on_batch(batch_at([0, 0, 0], *STORED))
    return learner


def test_interference_by_hand():
    learner = learner_of()
    learner.backward(learner.loss(vectors((2, 0)), torch.tensor([1])))
    before = head_of(learner)
    found = learner.interference(vectors(*STORED), torch.tensor([0, 0, 0]))
    # p - y is (1/2, -1/2): the step of 1/2 gives weights (-1/2, 0), (1/2, 0), biases -1/4, 1/4.
    # Logit 0 minus logit 1 is then -x - 1/2 for the first feature x.
    margins = (-1.5, -0.5, 1.5)
    expected = [math.log1p(math.exp(-margin)) - math.log(2) for margin in margins]
    assert_rounded(found, expected, terms=6, magnitude=2)
    # The weights are what they were, and so is the gradient that the real step adds to.
    assert head_of(learner) == before
    assert_rounded(learner.network.head.bias.grad, [0.5, -0.5], terms=4)


def test_step_by_hand_is_on_the_most_interfered_exemplar():
    learner = learner_of(candidates=3)
    losses = learner.learn(batch_at([1], (2, 0)))
    assert losses["direct"].item() == losses["replay"].item() == rounded(math.log(2), terms=4)
    # New: (1/2, -1/2) times (2, 0). Of the exemplars (1, 0): (-1/2, 1/2) times (1, 0). lr is 1/2.
    weights, biases = head_of(learner)
    assert_rounded(weights, [[-0.25, 0], [0.25, 0]], terms=4, magnitude=2)
    assert_rounded(biases, [0, 0], terms=4, magnitude=1)


def test_only_candidates_are_replayed():
    """With one candidate, each of the exemplars is replayed at times."""
    generators = (torch.Generator().manual_seed(seed) for seed in range(30))
    moved = set()
    for generator in generators:
        learner = learner_of(candidates=1)
        learner.generators["replay"] = generator
        learner.learn(batch_at([1], (2, 0)))
        moved.add(tuple(round(value, 3) for value in head_of(learner)[0][0]))
    # The gradient of (2, 0) and that of each exemplar.
    assert moved == {(-0.25, 0.0), (-0.5, 0.25), (-1.0, 0.0)}


def test_as_many_as_the_batch_has_images_are_replayed():
    learner = learner_of()
    seen = []
    loss = learner.loss
    learner.loss = lambda features, labels: (seen.append(len(features)), loss(features, labels))[1]
    learner.learn(batch_at([1, 1], (2, 0), (2, 0)))
    learner.learn(batch_at([1] * 7, *[(2, 0)] * 7))
    assert seen == [2, 2, 7, 5]


def test_the_virtual_step_is_clipped():
    learner = learner_of(clip=0.25)
    learner.backward(learner.loss(vectors((2, 0)), torch.tensor([1])))
    found = learner.interference(vectors((1, 0)), torch.tensor([0]))
    # Weights (-1/8, 0), (1/8, 0), biases -1/8, 1/8.
    assert_rounded(found, [math.log1p(math.exp(0.5)) - math.log(2)], terms=6, magnitude=2)


def test_impossible_settings():
    with pytest.raises(InputError, match="candidates=0"):
        MirConfig(candidates=0)
    assert (MirConfig().candidates, MirConfig().write_policy) == (50, "reservoir")
