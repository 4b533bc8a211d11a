"""GDumb: training from the initial weights by hand, and when it happens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from linear_tail import batch_at, head_of, linear_learner, vectors
from networks import batch_of, tiny_network
from tests.rounding import assert_rounded

from crumb.errors import InputError
from crumb.methods.gdumb import Gdumb, GdumbConfig

START = [[1.0, 0.0], [1.0, 0.0]]


def test_training_on_the_memory_by_hand():
    learner = linear_learner(Gdumb, START, memory_epochs=1)
    assert learner.learn(batch_at([0, 1], (1, 0), (0, 2))) == {}
    with learner.evaluation():
        trained = learner.prepared
        scores = learner.scores(vectors((1, 1)))
    # One batch with p = 1/2: (-1/2, 1/2) times (1, 0), (1/2, -1/2) times (0, 2), halved by the
    # mean. The first epoch has a tenth of the learning rate of 1/2.
    step = 0.05
    weights = [[1 + step / 4, -step / 2], [1 - step / 4, step / 2]]
    assert_rounded(trained["tail.classifier.weight"], weights, terms=4, magnitude=2)
    assert_rounded(trained["tail.classifier.bias"], [0, 0], terms=4, magnitude=1)
    assert_rounded(scores, [[1 - step / 4, 1 + step / 4]], terms=4, magnitude=2)
    assert head_of(learner) == (START, [0, 0])


def test_the_second_epoch_has_the_full_learning_rate():
    learner = linear_learner(Gdumb, START, memory_epochs=2)
    learner.learn(batch_at([0, 1], (1, 0), (0, 0)))
    with learner.evaluation():
        moved = learner.prepared["tail.classifier.weight"][0, 0].item() - 1
    # About ten elevenths of the way: p is hardly another after the first epoch.
    assert 0.05 / 4 + 0.5 / 4 * 0.97 < moved < 0.05 / 4 + 0.5 / 4


def trainings(learner: Any) -> list[int]:
    """The steps at which each training began."""
    begun: list[int] = []
    train = learner.train_on_memory
    learner.train_on_memory = lambda: (begun.append(learner.steps), train())[1]
    return begun


def test_trains_once_for_each_state_of_the_memory():
    learner = linear_learner(Gdumb, START, memory_epochs=1)
    begun = trainings(learner)
    learner.learn(batch_at([0, 1], (1, 0), (0, 2)))
    assert begun == []
    with learner.evaluation():
        first = learner.scores(vectors((1, 1)))
    learner.learn(batch_at([0, 1], (9, 9), (9, 9), first=False))
    with learner.evaluation():
        assert torch.equal(learner.scores(vectors((1, 1))), first)
    assert begun == [0]
    learner.learn(batch_at([0], (1, 0)))
    with learner.evaluation():
        assert not torch.equal(learner.scores(vectors((1, 1))), first)
    learner.add_classes(["class 2"])
    with learner.evaluation():
        assert learner.scores(vectors((1, 1))).shape == (1, 3)
    assert begun == [0, 1, 2]


def test_training_starts_anew_and_depends_on_the_memory_only():
    """With dropout, whenever it is asked for."""
    one, other = (Gdumb(tiny_network(0.5), GdumbConfig(memory_epochs=3)) for _ in range(2))
    for learner in (one, other):
        learner.add_classes(["a", "b"])
    features = batch_of(one, 0, 1, seed=90).features
    for seed in range(3):
        for learner in (one, other):
            learner.learn(batch_of(learner, 0, 1, 0, seed=seed))
        with one.evaluation():
            one.scores(features)
    scores = []
    for learner in (one, other):
        with learner.evaluation():
            scores.append(learner.scores(features))
    assert torch.equal(*scores)


def test_the_memory_is_the_authors():
    learner = Gdumb(tiny_network(), GdumbConfig(memory_size=4))
    learner.add_classes(["a", "b"])
    learner.learn(batch_of(learner, 0, 0, 0, 0, 0, 1, 1, 1))
    assert learner.exemplars.memory.counts == {0: 2, 1: 2}
    config = GdumbConfig()
    assert (config.memory_epochs, config.memory_batch_size) == (256, 16)


@pytest.mark.parametrize("name", ["memory_epochs", "memory_batch_size"])
def test_impossible_settings(name: str):
    settings: dict[str, Any] = {name: 0}
    with pytest.raises(InputError, match=f"{name}=0"):
        GdumbConfig(**settings)
