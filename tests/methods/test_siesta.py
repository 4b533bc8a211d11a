"""SIESTA: the cosine classifier, means while awake, steps during sleep."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from networks import TERMS, Task, batch_of, learn_task, tiny_network
from remind_learners import counted_steps
from steps import ByHand
from tests.rounding import assert_rounded, rounded
from torch import Tensor

from crumb.data.batches import Batch
from crumb.errors import InputError
from crumb.memory.draws import balanced
from crumb.methods.siesta import Siesta, SiestaConfig
from crumb.testing import variants
from crumb.testing.resuming_checks import check_saved_and_loaded_it_goes_on_to_the_bit


def learner_of(**settings: Any) -> Siesta:
    usual: dict[str, Any] = {"pq_codebooks": 2, "pq_centroids": 8, "memory_size": 8}
    usual |= {"sleep_steps": 2, "sleep_batch_size": 4}
    learner = Siesta(tiny_network(), SiestaConfig(**usual | settings))
    learner.begin_task(["a", "b"])
    return learner


def streaming(**settings: Any) -> Siesta:
    """A learner whose first task, six frames of each of two classes, is over."""
    learner = learner_of(**settings)
    learn_task(learner, 0, 1, 0, 1)
    learner.begin_task(["c", "d"])
    return learner


def unit(values: Tensor) -> Tensor:
    return values / values.square().sum(-1, keepdim=True).sqrt()


def vectors(learner: Siesta, batch: Batch) -> Tensor:
    """Unit vectors of the reconstructions of a batch."""
    rebuilt = learner.quantiser.decode(learner.quantiser.encode(batch.features))
    with learner.inference():
        return unit(learner.network.penultimate(rebuilt)).clone()


def test_awake_the_weights_of_a_new_class_are_the_mean_of_its_vectors():
    learner = streaming()
    before = {name: value.clone() for name, value in learner.network.state_dict().items()}
    head = f"tail.{learner.network.head_name}.weight"
    taken = counted_steps(learner)
    batches = [batch_of(learner, 2, 3, 2, seed=5), batch_of(learner, 2, seed=40)]
    each = [vectors(learner, batch) for batch in batches]
    for batch in batches:
        assert learner.learn(batch).keys() == {"quantised"}
    assert not taken
    after = learner.network.state_dict()
    assert_rounded(after[head][2], (each[0][0] + each[0][2] + each[1][0]) / 3, 8, layers=2)
    assert_rounded(after[head][3], each[0][1], 8, layers=2)
    assert torch.equal(after[head][:2], before[head][:2])
    assert all(torch.equal(after[name], before[name]) for name in before if name != head)
    assert learner.seen.tolist() == [6, 6, 3, 1]


def test_a_class_that_returns_goes_on_from_its_trained_weights():
    learner = streaming()
    weight = learner.network.head.weight
    old = weight[0].detach().clone()
    batch = batch_of(learner, 0, seed=70)
    vector = vectors(learner, batch)[0]
    learner.learn(batch)
    assert_rounded(weight[0].detach(), (6 * old + vector) / 7, 8, layers=2)


def test_later_readings_change_nothing():
    learner = streaming(memory_size=100, sleep_every=1)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    losses = learner.learn(batch_of(learner, 2, 3, first=False))
    after = learner.state_dict()
    assert losses.keys() == {"quantised"}
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_logits_are_cosines_over_the_temperature():
    learner = streaming(temperature=0.25)
    batch = batch_of(learner, 0, 1, 2)
    learner.learn(batch)
    own, weight = vectors(learner, batch), unit(learner.network.head.weight.detach()[:4])
    expected = torch.stack([torch.stack([v @ w for w in weight]) for v in own]) / 0.25
    with learner.evaluation():
        assert_rounded(learner.scores(batch.features), expected, 8, layers=2, magnitude=4.0)


def test_a_sleep_by_hand():
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}
    learner = streaming(**settings, sleep_steps=2, sleep_batch_size=4, memory_size=100)
    learner.learn(batch_of(learner, 2, 2, 3, seed=30))
    generator = torch.Generator()
    generator.set_state(learner.generators["replay"].get_state())
    other = streaming(**settings, memory_size=100)
    other.load_state_dict(learner.state_dict())
    by_hand = ByHand(other)
    names = list(by_hand.start)
    assert f"tail.{other.network.head_name}.bias" not in names
    for _ in range(2):
        labels = balanced([0, 1, 2, 3], 4, generator)
        assert sorted(labels) == [0, 1, 2, 3]
        maps = other.exemplars.draw(labels, generator)
        cosines = unit(other.network.penultimate(maps)) @ unit(other.network.head.weight[:4]).T
        logits = cosines / 0.1
        right = logits[torch.arange(4), torch.tensor(labels)]
        loss = (logits.logsumexp(1) - right).mean()
        trained = [p for n, p in other.parameters().items() if n in names]
        by_hand.step(torch.autograd.grad(loss, trained))
        with torch.no_grad():
            for name, way in by_hand.way().items():
                other.parameters()[name].copy_(by_hand.start[name] + way)
    learner.end_task(Task([batch_of(learner, 2, 3)]))
    head = f"tail.{other.network.head_name}.weight"
    for name, p in learner.parameters().items():
        expected = other.parameters()[name].detach().clone()
        if name == head:
            expected[:4] = unit(expected[:4])
        assert_rounded(p.detach(), expected, TERMS, layers=4, magnitude=10.0)
    assert not learner.optimizer.state


@pytest.mark.parametrize(("every", "sleeps"), [(None, 0), (3, 2), (4, 1), (7, 0)])
def test_sleeps_come_after_tasks_or_after_so_many_images(every: int | None, sleeps: int):
    learner = streaming(sleep_every=every)
    taken = counted_steps(learner)
    for seed in range(3):
        learner.learn(batch_of(learner, 2, 3, seed=seed))
    assert len(taken) == 2 * sleeps
    learner.end_task(Task([batch_of(learner, 2, 3)]))
    assert len(taken) == 2 * sleeps + (2 if every is None else 0)


def test_with_sleeps_after_images_it_resumes_exactly():
    (variant,) = variants(Siesta, sleep_every=5, sleep_steps=2)
    check_saved_and_loaded_it_goes_on_to_the_bit(variant)


def test_the_first_task_is_learned_with_the_cosine_classifier():
    learner = learner_of(lr=0.1, temperature=0.5)
    batch = batch_of(learner, 0, 1)
    own = unit(learner.network.penultimate(batch.features))
    logits = own @ unit(learner.network.head.weight[:2]).T / 0.5
    expected = (logits.logsumexp(1) - logits.diagonal()).mean().item()
    assert learner.learn(batch)["direct"].item() == rounded(expected, terms=TERMS, layers=2)


def test_a_kernel_counts_as_its_sum():
    learner = streaming()
    values = torch.rand(4, 8, generator=torch.Generator().manual_seed(0))
    learner.network.tail.classifier = torch.nn.Conv2d(8, 16, 3)
    with torch.no_grad():
        learner._set_weights(torch.arange(4), values)
    assert_rounded(learner._weights().detach(), values, 9)
    assert (learner.network.head.weight[1, 2] == learner.network.head.weight[1, 2, 0, 0]).all()


@pytest.mark.parametrize("name", ["temperature", "sleep_steps", "sleep_batch_size", "sleep_every"])
def test_impossible_settings(name: str):
    impossible: dict[str, Any] = {name: 0}
    with pytest.raises(InputError, match=f"^{name}=0.*from"):
        SiestaConfig(**impossible)
    with pytest.raises(TypeError, match="mixup_alpha"):
        SiestaConfig(mixup_alpha=0.1)  # type: ignore[call-arg]
