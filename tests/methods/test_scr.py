"""SCR: the contrastive loss by hand, the step, and the nearest mean."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from linear_tail import linear_network
from networks import TERMS, batch_of, tiny_network
from tests.rounding import assert_rounded, rounded
from torch.nn.functional import normalize

from crumb.errors import InputError
from crumb.methods.augmentation import random_crops
from crumb.methods.scr import MIN_AREA, Scr, ScrConfig, contrastive_loss

PLAIN: dict[str, Any] = {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}


def learner_of(**settings: Any) -> Any:
    learner = Scr(tiny_network(), ScrConfig(**{"memory_size": 8, "hidden_size": 4, **settings}))
    learner.add_classes(["a", "b", "c"])
    return learner


def test_loss_by_hand():
    # Two views of each of two classes, at right angles; T = 1/2.
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    found = contrastive_loss(vectors, torch.tensor([0, 1, 0, 1]), 0.5)
    # One positive with a product of 2, two negatives with 0.
    expected = math.log(math.exp(2) + 2) - 2
    assert found.item() == rounded(expected, terms=6, magnitude=3)
    # All of one class: three positives of 2, 0 and 0.
    found = contrastive_loss(vectors, torch.tensor([0, 0, 0, 0]), 0.5)
    assert found.item() == rounded(math.log(math.exp(2) + 2) - 2 / 3, terms=6, magnitude=3)


def test_gradient_of_the_loss_by_hand():
    # Three vectors, the first two of one class; T = 1, so that products are 0, 1 and 0.
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1])
    whole = torch.cat([vectors, torch.tensor([[0.0, -1.0]])])
    contrastive_loss(whole, labels, 1.0).backward()
    shares = (whole @ whole.T).fill_diagonal_(-math.inf).softmax(1).detach()
    partner = torch.eye(4)[[1, 0, 3, 2]]
    # The derivative by product (i, j) is share - [j is the positive of i], over n.
    error = (shares - partner) / 4
    expected = (error + error.T) @ whole.detach()
    assert_rounded(vectors.grad, expected[:3], terms=8, magnitude=2)


def test_step_is_on_two_views_of_new_images_and_exemplars():
    learner = learner_of(replay_size=2, **PLAIN)
    learner.exemplars.on_batch(batch_of(learner, 0, 1, 0, 1))
    batch = batch_of(learner, 2, 0, seed=30)
    generator = torch.Generator()
    generator.set_state(learner.generators["replay"].get_state())
    old, theirs = learner.exemplars.sample(2, generator)
    features = torch.cat([batch.features, old])
    views = torch.cat([features, random_crops(features, MIN_AREA, generator)])
    labels = torch.cat([batch.labels, theirs])
    layers, current = learner.projection, learner.parameters()
    hidden = layers.first(learner.network.penultimate(views)).relu()
    vectors = normalize(layers.second(hidden))
    loss = contrastive_loss(vectors, torch.cat([labels, labels]), 0.07)
    gradients = torch.autograd.grad(loss, [*current.values()])
    expected = {
        n: p.detach() - 0.1 * g for (n, p), g in zip(current.items(), gradients, strict=True)
    }
    head = learner.network.head.weight.clone()
    assert learner.learn(batch)["contrastive"].item() == rounded(loss.item(), TERMS, 3, 20)
    for name, parameter in learner.parameters().items():
        torch.testing.assert_close(parameter.detach(), expected[name])
    assert {"projection.first.weight", "tail.norm.weight"} <= expected.keys()
    assert torch.equal(learner.network.head.weight, head)


def test_predicts_the_nearest_mean_of_exemplars():
    learner = learner_of(temperature=0.5)
    learner.exemplars.on_batch(batch_of(learner, 0, 0, 1))
    features = batch_of(learner, 0, 1, 1, seed=60).features
    stored = learner.exemplars.memory
    with torch.no_grad():
        embedded = [
            learner.embed(batch_of(learner, *labels).features) for labels in ((0, 0), (0, 0, 1))
        ]
        means = normalize(torch.stack([embedded[0].mean(0), embedded[1][2]]))
        expected = learner.embed(features) @ means.T / 0.5
    with learner.evaluation():
        scores = learner.scores(features)
    assert stored.counts == {0: 2, 1: 1}
    assert_rounded(scores[:, :2], expected, TERMS, magnitude=2)
    # Class c has no exemplars.
    assert scores[:, 2].tolist() == [-math.inf] * 3


def test_the_projection_counts_as_bytes():
    few, many = learner_of(projection_size=2), learner_of(projection_size=5)
    more = many.bytes_held().extra - few.bytes_held().extra
    # Weights of a hidden layer of four, and a bias.
    assert more == 3 * 4 * (4 + 1)
    assert few.bytes_held().extra == 4 * (4 * 8 + 4 + 2 * 4 + 2) + few.exemplars.bookkeeping_bytes


def test_a_tail_that_is_only_a_head_is_refused():
    with pytest.raises(InputError, match="leaves only the head to train"):
        Scr(linear_network(), ScrConfig(memory_size=4))


@pytest.mark.parametrize(
    "settings",
    [{"replay_size": 0}, {"hidden_size": 0}, {"projection_size": 0}, {"temperature": 0.0}],
)
def test_impossible_settings(settings: dict[str, Any]):
    (name, value) = next(iter(settings.items()))
    with pytest.raises(InputError, match=f"{name}={value}"):
        ScrConfig(**settings)


def test_defaults_are_the_authors():
    config = ScrConfig()
    assert (config.replay_size, config.temperature, config.projection_size) == (100, 0.07, 128)
    assert config.write_policy == "reservoir"
