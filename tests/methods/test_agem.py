"""A-GEM: the projection, and the step along it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import TERMS, Task, batch_of, tiny_network
from tests.rounding import tolerance
from torch import Tensor
from torch.nn.functional import cross_entropy

from crumb.data.batches import Batch
from crumb.errors import InputError
from crumb.methods.agem import Agem, AgemConfig, AgemR, AgemRConfig, project
from crumb.methods.finetune import Finetune
from crumb.methods.optimisation import flat_gradient, set_flat_gradient
from crumb.methods.registry import create

PLAIN = {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}
VECTORS = st.lists(st.integers(-999, 999).map(lambda n: n / 64), min_size=3, max_size=3)


def learner_of(**settings: Any) -> AgemR:
    """The step is the same for both; a reservoir can be filled by hand."""
    chosen: dict[str, Any] = {"memory_size": 8, **PLAIN, **settings}
    learner = AgemR(tiny_network(), AgemRConfig(**chosen))
    learner.start_head(4)
    learner.begin_task(["a", "b", "c", "d"])
    return learner


def test_projection_by_hand():
    # g.r = -2, r.r = 4: g + r / 2.
    projected = project(torch.tensor([-1.0, 3.0]), torch.tensor([2.0, 0.0]))
    assert projected.tolist() == [0.0, 3.0]
    # g.r = -5, r.r = 25: g + r / 5.
    projected = project(torch.tensor([1.0, -2.0]), torch.tensor([3.0, 4.0]))
    torch.testing.assert_close(projected, torch.tensor([1.6, -1.2]))


@given(VECTORS, VECTORS)
def test_no_product_is_negative_and_what_fits_is_unchanged(one: list[float], other: list[float]):
    gradient, reference = torch.tensor(one), torch.tensor(other)
    projected = project(gradient, reference)
    if torch.dot(gradient, reference) >= 0:
        assert torch.equal(projected, gradient)
    else:
        scale = gradient.norm() * reference.norm()
        assert abs(torch.dot(projected, reference)) <= 1e-5 * scale
        assert projected.norm() <= gradient.norm() * (1 + 1e-5)


def test_a_reference_of_zeros_changes_nothing():
    gradient = torch.tensor([1.0, -2.0])
    assert torch.equal(project(gradient, torch.zeros(2)), gradient)


def test_gradients_as_one_vector_and_back():
    learner = learner_of()
    parameters = [*learner.parameters().values()]
    learner.backward(learner.loss(**loss_of(batch_of(learner, 0, 1))))
    parameters[1].grad = None
    flat = flat_gradient(parameters)
    assert flat.shape == (sum(p.numel() for p in parameters),)
    assert flat.dtype == torch.float32
    start = parameters[0].numel()
    assert not flat[start : start + parameters[1].numel()].any()
    set_flat_gradient(parameters, 2 * flat)
    assert parameters[1].grad is None
    assert torch.equal(flat_gradient(parameters), 2 * flat)


def loss_of(batch: Batch) -> dict[str, Tensor]:
    return {"features": batch.features, "labels": batch.labels}


def flat(learner: Agem, features: Tensor, labels: Tensor) -> Tensor:
    """An independent gradient."""
    loss = cross_entropy(learner.network(features)[:, :4], labels)
    parts = torch.autograd.grad(loss, [*learner.parameters().values()])
    return torch.cat([part.reshape(-1) for part in parts])


def weights(learner: Any) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in learner.parameters().values()])


def stepped(learner: Agem, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """One step: the gradient, the reference it is to be compared with, the update made."""
    generator = torch.Generator()
    generator.set_state(learner.generators["replay"].get_state())
    count = learner.config.reference_size or len(batch)
    reference = flat(learner, *learner.exemplars.sample(count, generator))
    gradient, before = flat(learner, batch.features, batch.labels), weights(learner)
    losses = learner.learn(batch)
    assert losses.keys() == {"direct", "replay"}
    return gradient, reference, (before - weights(learner)) / 0.1


@pytest.mark.parametrize("size", [None, 1, 3])
def test_step_on_a_conflict_by_hand(size: int | None):
    learner = learner_of(reference_size=size)
    stored = batch_of(learner, 0, 0, 0, seed=20)
    learner.exemplars.on_batch(stored)
    # The same images under another label pull the other way.
    batch = Batch(torch.tensor([1, 1]), stored.features[:2], first_pass=False)
    gradient, reference, update = stepped(learner, batch)
    product = torch.dot(gradient, reference)
    assert product < 0
    expected = gradient - product / torch.dot(reference, reference) * reference
    # A difference of weights, divided by the rate.
    allowed = tolerance(TERMS, max(1.0, weights(learner).abs().max().item()) / 0.1)
    torch.testing.assert_close(update, expected, atol=allowed, rtol=0)
    assert expected.abs().max() > 100 * allowed
    assert abs(torch.dot(update, reference)) < 1e-3 * abs(product)


def test_step_without_conflict_is_that_of_fine_tuning():
    learner = learner_of()
    plain = Finetune(tiny_network(), Finetune.Config(**PLAIN))
    plain.start_head(4)
    plain.begin_task(["a", "b", "c", "d"])
    batch = batch_of(learner, 0, 0)
    learner.exemplars.on_batch(batch)
    gradient, reference, _ = stepped(learner, batch)
    assert torch.dot(gradient, reference) > 0
    plain.learn(batch)
    assert torch.equal(weights(learner), weights(plain))


def test_memory_is_written_at_the_end_of_a_task():
    learner = Agem(tiny_network(), AgemConfig(memory_size=8))
    assert learner.needs_task_boundaries
    learner.begin_task(["a", "b"])
    batch = batch_of(learner, 0, 1, 0, 1)
    assert learner.learn(batch).keys() == {"direct"}
    learner.end_task(Task([batch]))
    assert learner.exemplars.memory.counts == {0: 2, 1: 2}
    # A reference batch is never larger than the memory.
    assert learner.learn(batch_of(learner, *[0, 1] * 6)).keys() == {"direct", "replay"}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"reference_size": 0}, "reference_size=0"),
        ({"storage": "merec"}, "storage='merec'"),
        ({"write_policy": "ring"}, "write_policy='ring'"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], named: str):
    with pytest.raises(InputError, match=named):
        AgemConfig(**settings)


def references(learner: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Labels of all reference batches from now on."""
    labels: list[int] = []
    sample = learner.exemplars.sample

    def noted(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        drawn = sample(count, generator)
        labels.extend(drawn[1].tolist())
        return drawn

    monkeypatch.setattr(learner.exemplars, "sample", noted)
    return labels


def test_no_reference_is_of_the_present_task(monkeypatch: pytest.MonkeyPatch):
    """Not even in its second epoch; A-GEM-R has no other rule but that."""
    past: dict[str, set[int]] = {}
    for kind in (Agem, AgemR):
        learner = kind(tiny_network(), kind.Config(memory_size=8))
        labels = references(learner, monkeypatch)
        for task in ((0, 1), (2, 3)):
            learner.begin_task([f"class {label}" for label in task])
            labels.clear()
            read = [batch_of(learner, *task, *task, seed=seed) for seed in range(4)]
            for epoch in range(2):
                for batch in read:
                    learner.learn(Batch(batch.labels, batch.features, batch.images, epoch == 0))
            if learner.needs_task_boundaries:
                learner.end_task(Task(read))
        past[kind.name] = {*labels}
    assert past == {"agem": {0, 1}, "agem_r": {0, 1, 2, 3}}


def test_only_the_reservoir_observes_a_single_pass():
    kinds: dict[str, Any] = {"weights": "random", "backbone": "squeezenet1_0"}
    learner: Any = create("agem_r", **kinds)
    assert learner.config.write_policy == "reservoir"
    assert not learner.needs_task_boundaries
    learner = create("agem", **kinds)
    assert learner.config.write_policy == "end-of-task"
    assert learner.needs_task_boundaries
    assert not Agem.strict()
    assert AgemR.strict()
