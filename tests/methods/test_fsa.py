"""First Session Adaptation: fine-tuning in the first task, then streaming LDA of the tuned tail."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from networks import Task, batch_of, images_of, learn_task, tiny_network

from crumb.errors import InputError
from crumb.methods.finetune import Finetune
from crumb.methods.fsa import FirstSessionAdaptation, FsaConfig
from crumb.methods.slda import StreamingLda
from crumb.nets.config import NetworkConfig
from crumb.nets.split import SplitNetwork
from crumb.testing.networks import TINY, classifier

RATE: dict[str, Any] = {"lr": 0.1}


def make(**settings: Any) -> FirstSessionAdaptation:
    learner = FirstSessionAdaptation(tiny_network(0.3), FsaConfig(**RATE | settings))
    learner.begin_task(["a", "b"])
    return learner


def test_the_tail_is_tuned_as_finetune_would_on_the_shuffled_frames():
    learner = make(tuning_epochs=2)
    other = Finetune(tiny_network(0.3), Finetune.Config(**RATE))
    other.begin_task(["a", "b"])
    draws = torch.Generator()
    draws.set_state(learner.generators["replay"].get_state())
    read = learn_task(learner, 0, 1, 0, 1)
    for _ in range(2):
        for batch in Task(read).shuffled(draws):
            other.learn(batch)
    tuned = learner.parameters()
    assert tuned.keys() == other.parameters().keys()
    assert all(torch.equal(value, tuned[name]) for name, value in other.parameters().items())


def test_until_then_it_is_slda_on_the_pretrained_features():
    learner, other = make(), StreamingLda(tiny_network(0.3), StreamingLda.Config())
    other.add_classes(["a", "b"])
    batch = batch_of(learner, 0, 1, 0, 1)
    assert learner.learn(batch) == other.learn(batch) == {}
    with learner.evaluation(), other.evaluation():
        assert torch.equal(learner.scores(batch.features), other.scores(batch.features))


def test_from_its_end_on_it_is_slda_on_the_features_of_the_tuned_tail():
    learner = make()
    read = learn_task(learner, 0, 1, 0, 1)
    other = StreamingLda(tiny_network(0.3), StreamingLda.Config())
    # The head is another, but no feature depends on it.
    tuned = {n: v for n, v in learner.network.tail.state_dict().items() if "classifier" not in n}
    other.network.tail.load_state_dict(tuned, strict=False)
    other.add_classes(["a", "b"])
    # It draws as often as the learner that saw the frames before.
    for _ in range(2):
        other.clear()
        for batch in read:
            other.learn(batch)
    later = batch_of(learner, 2, 3, 2, 3)
    for one in (learner, other):
        one.add_classes(["c", "d"])
        assert one.learn(later) == {}
    found = learner.moments.state_dict()
    for name, value in other.moments.state_dict().items():
        assert torch.equal(found[name], value), name
    assert learner.frames_seen() == 16
    with learner.evaluation(), other.evaluation():
        assert torch.equal(learner.scores(later.features), other.scores(later.features))


def test_statistics_are_of_the_tuned_tail_and_not_of_the_one_that_saw_the_frames():
    learner = make()
    frozen = StreamingLda(tiny_network(0.3), StreamingLda.Config())
    frozen.add_classes(["a", "b"])
    for batch in learn_task(learner, 0, 1, 0, 1):
        frozen.learn(batch)
    difference = learner.moments.mean_vectors() - frozen.moments.mean_vectors()
    assert difference.abs().max() > 0.01


def test_nothing_is_trained_after_the_first_task():
    learner = make()
    learn_task(learner, 0, 1)
    before = {name: value.detach().clone() for name, value in learner.parameters().items()}
    learner.begin_task(["c", "d"])
    learn_task(learner, 2, 3)
    assert all(torch.equal(value, before[name]) for name, value in learner.parameters().items())
    assert learner.frames_seen() == 12
    assert not learner.optimizer.state


def test_a_repeated_epoch_of_a_later_task_adds_nothing():
    learner = make()
    learn_task(learner, 0, 1)
    learner.begin_task(["c"])
    for first in (True, False):
        learner.learn(batch_of(learner, 2, first=first))
    assert learner.moments.counts.tolist() == [3, 3, 1]


def test_the_whole_network_can_be_tuned():
    config = NetworkConfig("tiny", None, "random", trainable="all")
    learner = FirstSessionAdaptation(
        SplitNetwork(classifier("tiny", False), TINY, config), FsaConfig(**RATE)
    )
    learner.begin_task(["a", "b"])
    before = learner.parameters()["tail.stem.weight"].detach().clone()
    learn_task(learner, 0, 1)
    assert not torch.equal(learner.parameters()["tail.stem.weight"], before)
    assert learner.predict(torch.cat([images_of(0, 1), images_of(1, 1)])) == ["a", "b"]


@pytest.mark.parametrize(
    ("setting", "value"), [("lr", 0.0), ("shrinkage", 0.0), ("tuning_epochs", 0)]
)
def test_settings_of_both_parts_are_checked(setting: str, value: float):
    with pytest.raises(InputError, match=f"{setting}={value}"):
        make(**{setting: value})
