"""The moving average of the weights: by hand, in predictions, saved and counted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from linear_tail import batch_at, head_of, linear_learner, vectors
from networks import batch_of, images_of, tiny_network
from tests.rounding import assert_rounded

from crumb.errors import InputError
from crumb.methods.er import ErConfig, ExperienceReplay
from crumb.methods.finetune import Finetune
from crumb.methods.gdumb import GdumbConfig
from crumb.methods.registry import methods
from crumb.methods.rehearsal import Rehearsal
from crumb.testing import Variant, checks_of, variants
from crumb.testing.conformance import Check, run_check

ZEROS = [[0.0, 0.0]] * 2
WITHOUT = {"gdumb"}
# With the usual rate, the average would be late for the test of two easy classes.
SETTINGS: dict[str, Any] = {"teacher": "ema", "lr": 0.02}
(ER,) = variants(ExperienceReplay, storage="raw_feature", write_policy="reservoir", **SETTINGS)


@pytest.mark.parametrize(("name", "check"), checks_of(ER).items())
def test_conforms(name: str, check: Check):
    run_check(ER, name, check)


def test_average_of_two_steps_by_hand():
    learner = linear_learner(ExperienceReplay, ZEROS, teacher="ema", teacher_decay=0.75)
    learner.exemplars.on_batch = lambda batch: None
    learner.learn(batch_at([0], (0, 0)))
    # p = 1/2: the step of 1/2 moves the biases to 1/4 and -1/4, of which a quarter is taken.
    bias = learner.teacher.weights["tail.classifier.bias"]
    assert_rounded(bias, [1 / 16, -1 / 16], terms=4)
    learner.learn(batch_at([0], (0, 0)))
    moved = learner.network.head.bias.detach()
    assert_rounded(bias, (3 / 64 + moved[0] / 4, -3 / 64 + moved[1] / 4), terms=4)


def test_the_average_predicts_and_the_weights_return():
    learner = linear_learner(ExperienceReplay, ZEROS, teacher="ema", teacher_decay=0.75)
    learner.learn(batch_at([0], (0, 0)))
    before, momentum = head_of(learner), learner.network.head.bias.data_ptr()
    with learner.evaluation():
        scores = learner.scores(vectors((5, 5)))
        with learner.evaluation():
            assert torch.equal(learner.scores(vectors((5, 5))), scores)
    assert_rounded(scores, [[1 / 16, -1 / 16]], terms=4)
    assert head_of(learner) == before
    assert learner.network.head.bias.data_ptr() == momentum


def test_training_is_as_without_a_teacher():
    learners: list[Any] = [
        ExperienceReplay(tiny_network(0.3), ErConfig(memory_size=4, teacher=teacher))
        for teacher in ("none", "ema")
    ]
    for learner in learners:
        learner.add_classes(["a", "b"])
        for seed in range(4):
            learner.learn(batch_of(learner, 0, 1, seed=seed))
            learner.predict(images_of(0, 1))
    one, other = (learner.state_dict() for learner in learners)
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    extra = sum(value.nbytes for value in learners[1].teacher.weights.values())
    assert extra == sum(p.nbytes for p in learners[1].network.tail.parameters())
    assert learners[1].bytes_held().extra == learners[0].bytes_held().extra + extra


def test_a_new_output_starts_as_that_of_the_network():
    learner = linear_learner(ExperienceReplay, ZEROS, teacher="ema")
    learner.learn(batch_at([0], (1, 0)))
    before = learner.teacher.weights["tail.classifier.weight"].clone()
    learner.add_classes(["class 2"])
    after = learner.teacher.weights["tail.classifier.weight"]
    assert torch.equal(after[:2], before)
    assert torch.equal(after[2:], learner.network.head.weight[2:])
    assert not torch.equal(before, learner.network.head.weight[:2])


@pytest.mark.parametrize(
    "name", [n for n, kind in methods().items() if issubclass(kind, Rehearsal) and n not in WITHOUT]
)
def test_every_replay_method_has_one(name: str):
    kind = methods()[name]
    learner: Any = Variant(kind, (("teacher", "ema"), ("memory_size", 8))).make(dropout=0.0)
    learner.begin_task(["a", "b"])
    for seed in range(3):
        learner.learn(batch_of(learner, 0, 1, seed=seed))
    assert learner.teacher.weights.keys() == learner.network.trained().keys()
    live = {n: p.detach().clone() for n, p in learner.network.trained().items()}
    assert any(not torch.equal(v, live[n]) for n, v in learner.teacher.weights.items())
    with learner.evaluation():
        assert learner.scores(batch_of(learner, 0, 1).features).shape == (2, 2)
    assert all(torch.equal(p, live[n]) for n, p in learner.network.trained().items())


def test_impossible_settings():
    with pytest.raises(InputError, match="teacher_decay=1"):
        ErConfig(teacher="ema", teacher_decay=1.0)
    with pytest.raises(InputError, match="teacher_decay=0.5: has no effect with teacher='none'"):
        ErConfig(teacher_decay=0.5)
    with pytest.raises(InputError, match="teacher='ema'"):
        GdumbConfig(teacher="ema")  # type: ignore[arg-type]
    assert not issubclass(Finetune, Rehearsal)
