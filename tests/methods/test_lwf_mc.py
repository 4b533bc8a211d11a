"""LwF-MC: its losses and its step by hand, and what it predicts from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from networks import batch_of, images_of, in_second_task, tiny_network
from tests.rounding import assert_rounded, rounded

from crumb.methods import persistence
from crumb.methods.lwf_mc import LwfMc

TERMS = 8
"""Inputs of the last layer."""


def learner_of(dropout: float = 0.0, **settings: Any) -> Any:
    learner = LwfMc(tiny_network(dropout), LwfMc.Config(**settings))
    learner.begin_task(["a", "b"])
    return learner


def second_task(**settings: Any) -> Any:
    learner = in_second_task(learner_of(**settings))
    learner.learn(batch_of(learner, 2, 3, seed=100))
    return learner


def sigmoid(values: torch.Tensor) -> np.ndarray:
    return 1 / (1 + np.exp(-values.double().numpy()))


def test_losses_and_the_step_by_hand():
    learner = second_task(lr=0.1, momentum=0.0, weight_decay=0.0)
    batch = batch_of(learner, 2, 3, 3, seed=50)
    with torch.no_grad():
        pooled = learner.network.penultimate(batch.features)
        p = sigmoid(learner.network(batch.features)[:, :4])
        q = sigmoid(learner.previous.logits(batch.features))
    assert q.shape == (3, 2)
    target = np.eye(4)[[2, 3, 3]]
    target[:, :2] = q
    entropy = -(target * np.log(p) + (1 - target) * np.log(1 - p))
    head = learner.network.head
    before = head.weight[:4].detach().clone(), head.bias[:4].detach().clone()
    losses = learner.learn(batch)
    # The sum over classes, the mean over images.
    assert losses["classification"].item() == rounded(entropy[:, 2:].sum() / 3, TERMS, 2, 4)
    assert losses["distillation"].item() == rounded(entropy[:, :2].sum() / 3, TERMS, 2, 4)
    # The gradient of an output is p - target.
    error = (p - target) / 3
    moved = [old - new[:4].detach() for old, new in zip(before, head.parameters(), strict=True)]
    assert_rounded(moved[0], 0.1 * error.T @ pooled.double().numpy(), TERMS, 2, 4)
    assert_rounded(moved[1], 0.1 * error.sum(0), TERMS, 2, 4)


def test_nothing_is_old_in_the_first_task():
    learner = learner_of()
    losses = learner.learn(batch_of(learner, 0, 1))
    assert losses["distillation"].item() == 0
    assert losses["classification"].item() > 0


def test_predicts_by_the_outputs_before_a_rectifier():
    """SqueezeNet's are rectified: of two negative ones the larger would be lost."""
    learner = second_task()
    features = batch_of(learner, 0, 1, 2, 3, seed=70).features
    with learner.evaluation():
        expected = learner.network(features, linear=True)[:, :4]
        assert torch.equal(learner.scores(features), expected)
    assert set(learner.predict(images_of(0, 3))) <= {"a", "b", "c", "d"}


def test_goes_on_to_the_bit_from_the_middle_of_a_task(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
):
    """Which classes have come back is part of it."""
    monkeypatch.setattr(persistence, "build_network", lambda *_: tiny_network(0.5))
    learner = second_task(dropout=0.5)
    learner.learn(batch_of(learner, 1, 2))
    learner.save(tmp_path / "saved")
    loaded: Any = persistence.load_learner(tmp_path / "saved")
    for one in (learner, loaded):
        one.learn(batch_of(one, 3, 2, 2, seed=30))
    state = loaded.state_dict()
    for name, value in learner.state_dict().items():
        assert torch.equal(value, state[name]), name
