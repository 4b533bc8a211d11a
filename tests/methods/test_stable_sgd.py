"""Stable SGD: the rates by hand, and that they are what a step takes."""

from __future__ import annotations

import pytest
import torch
from networks import images_of, tiny_network

from crumb.data.batches import Batch
from crumb.errors import InputError
from crumb.methods import persistence
from crumb.methods.stable_sgd import StableSgd, StableSgdConfig


def learner_of(**settings):
    return StableSgd(tiny_network(), StableSgdConfig(**settings))


def rate_of(learner):
    return learner.optimizer.param_groups[0]["lr"]


def batch_of(learner, *labels):
    pixels = torch.cat([images_of(label, 1, i) for i, label in enumerate(labels)])
    return Batch(torch.tensor(labels), learner.network.features(pixels))


def test_rates_by_hand():
    learner = learner_of(lr=0.8, gamma=0.5, lr_floor=0.15)
    rates = []
    for task in range(4):
        learner.begin_task([f"class {task}"])
        rates.append(rate_of(learner))
    assert rates == pytest.approx([0.4, 0.2, 0.15, 0.15])


def test_a_step_takes_the_rate_of_its_task():
    plain = {"momentum": 0.0, "weight_decay": 0.0, "head_dropout": 0.0}
    learner = learner_of(lr=0.8, gamma=0.5, lr_floor=0.0, **plain)
    for rate in (0.4, 0.2):
        learner.begin_task(["a", "b"])
        batch = batch_of(learner, 0, 1)
        loss = learner.loss(batch.features, batch.labels)
        (gradient,) = torch.autograd.grad(loss, [learner.network.head.weight])
        before = learner.network.head.weight.detach().clone()
        learner.learn(batch)
        moved = learner.network.head.weight.detach() - before
        torch.testing.assert_close(moved, -rate * gradient)


def test_the_rate_is_saved_in_the_middle_of_a_task(tmp_path, monkeypatch):
    monkeypatch.setattr(persistence, "build_network", lambda *_: tiny_network())
    learner = learner_of(lr=0.8, gamma=0.5)
    for task in range(3):
        learner.begin_task([f"class {task}"])
    learner.learn(batch_of(learner, 0, 1, 2))
    learner.save(tmp_path / "saved")
    loaded = persistence.load_learner(tmp_path / "saved")
    assert rate_of(loaded) == rate_of(learner) == pytest.approx(0.1)
    for one in (loaded, learner):
        one.learn(batch_of(one, 2, 0))
    for name, value in learner.parameters().items():
        assert torch.equal(value, loaded.parameters()[name])
    loaded.begin_task(["class 3"])
    assert rate_of(loaded) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"gamma": 0.0}, "gamma"),
        ({"gamma": 1.1}, "gamma"),
        ({"gamma": float("nan")}, "gamma"),
        ({"lr_floor": -1.0}, "lr_floor"),
        ({"lr": 1e-5}, "lr_floor=5e-05"),
        ({"lr": -1.0}, "lr"),
    ],
)
def test_impossible_settings(settings, named):
    with pytest.raises(InputError, match=named):
        StableSgdConfig(**settings)


def test_a_tail_without_dropout_is_given_one_before_its_last_layer():
    learner = learner_of(head_dropout=0.5)
    assert learner.network.head_name == "classifier.1"
    assert isinstance(learner.network.head, torch.nn.Linear)
    learner.begin_task(["a", "b"])
    batch = batch_of(learner, 0, 1)
    one, other = (learner.network(batch.features) for _ in range(2))
    assert not torch.equal(one, other)
    with learner.evaluation():
        one, other = (learner.network(batch.features) for _ in range(2))
    assert torch.equal(one, other)
    learner.reserve(100)
    assert learner.network(batch.features).shape == (2, 100)


def test_a_tail_with_dropout_keeps_its_own():
    learner = StableSgd(tiny_network(0.3), StableSgdConfig())
    assert learner.network.head_name == "classifier"
