"""CoPE: the loss by hand and against a slow loop, prototypes, replay and prediction."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import TERMS, batch_of, images_of, tiny_network
from tests.rounding import assert_rounded, rounded
from torch import Tensor
from torch.nn.functional import normalize

from crumb.errors import InputError
from crumb.methods import persistence
from crumb.methods.cope import Cope, CopeConfig, pseudo_prototypical_loss

PLAIN: dict[str, Any] = {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}


def learner_of(dropout: float = 0.0, seed: int = 0, **settings: Any) -> Cope:
    if settings.get("storage") != "none" and "budget_bytes" not in settings:
        settings = {"memory_size": 8} | settings
    learner = Cope(tiny_network(dropout), CopeConfig(**settings), seed)
    learner.start_head(4)
    learner.begin_task(["a", "b", "c", "d"])
    return learner


def embed(learner: Cope, features: Tensor) -> Tensor:
    """Of the tiny network: the pooled features, after batch norm, of length 1."""
    pooled = learner.network.tail.get_submodule("norm")(features).mean((2, 3))
    return pooled / pooled.norm(dim=1, keepdim=True)


def slow_loss(embedded, classes, prototypes, temperature):
    """The two sums item by item, as the formulas have them."""

    def chance(reference, c, x):
        own = torch.exp(reference @ x / temperature)
        others = [torch.exp(p @ x / temperature) for k, p in enumerate(prototypes) if k != c]
        return own / (own + torch.stack(others).sum())

    size = len(embedded)
    attraction = repulsion = torch.zeros((), dtype=embedded.dtype)
    for i in range(size):
        c = classes[i]
        chances = [chance(prototypes[c], c, embedded[i])]
        chances += [
            chance(embedded[j].detach(), c, embedded[i])
            for j in range(size)
            if j != i and classes[j] == c
        ]
        attraction = attraction - torch.stack(chances).mean().log()
        for j in range(size):
            if classes[j] != c:
                pair = chance(embedded[i], c, embedded[j]), chance(prototypes[c], c, embedded[j])
                repulsion = repulsion - torch.log(1 - (pair[0] + pair[1]) / 2)
    return attraction / size, repulsion / size


# The loss.


def test_loss_of_three_items_by_hand():
    # Inner products with the prototypes: 1, 0; 0.6, 0.8; 0, 1. Among themselves: 0.6, 0, 0.8.
    embedded = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    attraction, repulsion = pseudo_prototypical_loss(
        embedded, torch.tensor([0, 0, 1]), torch.eye(2), 1.0
    )
    # With s(z) = 1 / (1 + exp(-z)): s(0.2) = 0.549834, s(0.6) = 0.645656, s(1) = 0.731059.
    # (s(1) + s(0.6)) / 2 = 0.688357, (s(-0.2) + s(-0.2)) / 2 = 0.450166, s(1) = 0.731059
    assert attraction.item() == pytest.approx((0.373447 + 0.798139 + 0.313262) / 3, abs=2e-6)
    # 1 - s(-1) = 0.731059, 1 - (s(-0.2) + s(-1)) / 2 = 0.640447, 1 - s(-1), 1 - s(0.2) = 0.450166
    sum_of_four = 0.313262 + 0.445589 + 0.313262 + 0.798139
    assert repulsion.item() == pytest.approx(sum_of_four / 3, abs=2e-6)


@given(
    st.integers(0, 10_000),
    st.lists(st.integers(0, 3), min_size=1, max_size=7),
    st.sampled_from([0.1, 1.0, 5.0]),
)
def test_loss_and_gradient_against_a_slow_loop(seed: int, classes: list[int], temperature: float):
    generator = torch.Generator().manual_seed(seed)
    draw = {"generator": generator, "dtype": torch.float64}
    embedded = normalize(torch.randn(len(classes), 5, **draw)).requires_grad_()
    prototypes = normalize(torch.randn(4, 5, **draw))
    expected = slow_loss(embedded, classes, prototypes, temperature)
    found = pseudo_prototypical_loss(embedded, torch.tensor(classes), prototypes, temperature)
    torch.testing.assert_close(found, expected)
    (wanted,) = torch.autograd.grad(expected[0] + 3 * expected[1], embedded)
    (gradient,) = torch.autograd.grad(found[0] + 3 * found[1], embedded)
    torch.testing.assert_close(gradient, wanted)


def test_loss_stays_finite_at_the_lowest_temperature():
    embedded = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    prototypes = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    parts = pseudo_prototypical_loss(embedded, torch.tensor([1, 0, 0]), prototypes, 0.001)
    # The first two are where the other's prototype is. An item that is drawn by one of two has a
    # mean of one half.
    half = math.log(2)
    assert parts[0].item() == rounded((2000 + 2000 + half) / 3, terms=8)
    # The third repels the first, and its prototype does, from the same place: both are sure of it
    # by 1000 against the third prototype. In two pairs one of both is sure, in one it is even.
    assert parts[1].item() == rounded(
        (1000 + 2 * half - math.log(0.75)) / 3, terms=8, magnitude=2000
    )
    (gradient,) = torch.autograd.grad(parts[0] + parts[1], embedded)
    assert gradient.isfinite().all()
    assert gradient[0, 0] > 0


# The step.


def test_step_and_prototypes_by_hand():
    learner = learner_of(storage="raw_feature", temperature=0.5, prototype_momentum=0.75, **PLAIN)
    learner.learn(batch_of(learner, 0, 1, 0, 1))
    batch = batch_of(learner, 2, 1, 2, seed=40)
    before = dict(zip(learner.prototypes.labels, learner.prototypes.values, strict=True))
    generator = torch.Generator()
    generator.set_state(learner.generators["replay"].get_state())
    stored = list(learner.exemplars.memory.counts)
    drawn = [stored[n] for n in torch.randint(len(stored), (3,), generator=generator).tolist()]
    old = learner.exemplars.draw(drawn, generator)

    labels = [2, 1, 2, *drawn]
    embedded = embed(learner, torch.cat([batch.features, old]))
    start = embedded.detach()
    means = {n: start[[i for i, one in enumerate(labels) if one == n]].mean(0) for n in {*labels}}
    before[2] = means[2] / means[2].norm()
    prototypes = torch.stack([before[n] for n in range(3)])
    parts = slow_loss(embedded, labels, prototypes, 0.5)
    current = learner.parameters()
    gradients = torch.autograd.grad(parts[0] + parts[1], list(current.values()))
    expected = {
        name: theta.detach() - 0.1 * gradient
        for (name, theta), gradient in zip(current.items(), gradients, strict=True)
    }
    head = [p.detach().clone() for p in learner.network.head.parameters()]
    losses = learner.learn(batch)
    for name, part in zip(("attraction", "repulsion"), parts, strict=True):
        assert losses[name].item() == rounded(part.item(), terms=TERMS, magnitude=1 / 0.1)
    for name, theta in learner.parameters().items():
        torch.testing.assert_close(theta.detach(), expected[name])
    assert learner.parameters().keys() == {"tail.norm.weight", "tail.norm.bias"}
    for old_value, p in zip(head, learner.network.head.parameters(), strict=True):
        assert torch.equal(old_value, p)
    after = dict(zip(learner.prototypes.labels, learner.prototypes.values, strict=True))
    assert after.keys() == {0, 1, 2}
    for label, value in after.items():
        moved = before[label]
        if label in means:
            moved = 0.75 * before[label] + 0.25 * means[label]
        torch.testing.assert_close(value, moved / moved.norm())


def test_a_single_class_takes_no_step_and_gets_its_mean():
    learner = learner_of(weight_decay=0.1)
    weights = {name: p.detach().clone() for name, p in learner.parameters().items()}
    batch = batch_of(learner, 1, 1)
    losses = learner.learn(batch)
    assert [value.item() for value in losses.values()] == [0, 0]
    assert all(torch.equal(p, weights[name]) for name, p in learner.parameters().items())
    mean = embed(learner, batch.features).mean(0).detach()
    torch.testing.assert_close(learner.prototypes.values, normalize(mean, dim=0)[None])
    assert learner.prototypes.labels == (1,)


def test_several_steps_on_a_batch_move_the_prototypes_once():
    after = {}
    for steps in (1, 3):
        # Steps so small that the network stays.
        learner = learner_of(storage="none", n_iter=steps, lr=1e-30, prototype_momentum=0.5)
        learner.learn(batch_of(learner, 0, 1, 2))
        before, taken, descend = learner.prototypes.values, [], learner.descend
        learner.descend = lambda taken=taken, go=descend: (taken.append(1), go())[1]
        learner.learn(batch_of(learner, 2, 1, 3, seed=20))
        assert len(taken) == steps
        after[steps] = learner.prototypes.values
        assert not torch.equal(before[1:], after[steps][1:3])
    torch.testing.assert_close(after[1], after[3])


def test_classes_are_replayed_equally_often():
    learner = learner_of(storage="raw_feature", memory_size=40)
    batch = batch_of(learner, *[0] * 19, 1)
    learner.exemplars.on_batch(batch)
    _, labels = learner.exemplars.sample_by_class(2000, learner.generators["replay"])
    assert labels.shape == (2000,)
    # Four standard deviations.
    assert abs(int(labels.sum()) - 1000) < 90


def test_a_prototype_never_seen_again_stays():
    learner = learner_of(storage="none")
    learner.learn(batch_of(learner, 0, 1))
    before = learner.prototypes.values[:2].clone()
    learner.learn(batch_of(learner, 2, 3))
    assert torch.equal(learner.prototypes.values[:2], before)
    lengths = learner.prototypes.values.norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(4))


def test_a_loss_that_is_not_finite_leaves_the_prototypes():
    learner = learner_of()
    learner.observe(torch.cat([images_of(0, 2), images_of(1, 2)]), ["a", "a", "b", "b"])
    before = learner.prototypes
    with torch.no_grad():
        learner.network.tail.get_parameter("norm.weight")[0] = float("nan")
    with pytest.raises(InputError, match="no longer finite"):
        learner.observe(images_of(2, 2), "c")
    assert learner.prototypes is before


# Prediction.


def test_nearest_prototype_by_hand():
    learner = learner_of(0.5, temperature=0.2)
    for seed in range(3):
        learner.learn(batch_of(learner, 3, 1, 3, seed=seed))
    features = batch_of(learner, 0, 1, 3, seed=60).features
    with learner.evaluation():
        scores = learner.scores(features)
        items = embed(learner, features).double().numpy()
    values = dict(zip(learner.prototypes.labels, learner.prototypes.values, strict=True))
    for label in (1, 3):
        expected = items @ values[label].double().numpy() / 0.2
        # A product of unit vectors of eight numbers, divided by the temperature.
        assert_rounded(scores[:, label], expected, TERMS, layers=2, magnitude=1 / 0.2)
    # Classes that were met and not seen.
    assert scores[:, [0, 2]].tolist() == [[-np.inf, -np.inf]] * 3
    assert set(learner.predict(images_of(0, 5))) <= {"b", "d"}


def test_scores_before_anything_was_learned():
    learner = learner_of()
    scores = learner.scores(batch_of(learner, 0, 1).features)
    assert scores.shape == (2, 4)
    assert not scores.isnan().any()


# What is held.


def test_prototypes_are_extra_bytes():
    # A policy counts 24 bytes of each class.
    budget = 4 * (192 + 4 + 24) + 1
    learner = learner_of(budget_bytes=budget, exemplar_side=8, jpeg_quality=0)
    for seed in range(6):
        learner.learn(batch_of(learner, seed % 4, (seed + 1) % 4, seed=seed))
        held, known = learner.bytes_held(), len(learner.prototypes.labels)
        assert held.replay + held.reading <= budget
        assert held.reading == held.replay // 192 * 4 + 24 * known
        # Eight channels in float32 and a label.
        assert held.extra == held.reading + known * (4 * 8 + 8)
    assert len(learner.exemplars) == 4
    # Class-balanced: one of each.
    assert learner.exemplars.memory.counts == {0: 1, 1: 1, 2: 1, 3: 1}


def test_without_exemplars_nothing_is_stored():
    learner = learner_of(storage="none", write_policy="end-of-task")
    assert not learner.needs_task_boundaries
    assert not learner.needs_images
    # The memory that there is not has no room to lack.
    learner.check_room(1000)
    for seed in range(3):
        learner.learn(batch_of(learner, 0, 1, 2, seed=seed))
    held = learner.bytes_held()
    assert (held.replay, held.reading, held.extra) == (0, 0, 3 * (4 * 8 + 8))
    for capacity in ("memory_size", "memory_bytes", "budget_bytes"):
        with pytest.raises(InputError, match="storage='none'"):
            CopeConfig(**{"storage": "none", capacity: 1000})


@pytest.mark.parametrize("storage", ["image", "raw_feature", "none"])
def test_saved_in_the_middle_of_a_task_it_goes_on_to_the_bit(storage, tmp_path, monkeypatch):
    monkeypatch.setattr(persistence, "build_network", lambda *_: tiny_network(0.3))
    first = learner_of(0.3, storage=storage)
    for seed in range(6):
        first.learn(batch_of(first, 0, 2, seed=seed))
    first.save(tmp_path / "half")
    again: Any = persistence.load_learner(tmp_path / "half")
    assert again.prototypes.labels == (0, 2)
    for learner in (first, again):
        for seed in range(6):
            learner.learn(batch_of(learner, 2, 3, 1, seed=seed))
        learner.begin_task([f"class {n}" for n in range(9)])
        learner.learn(batch_of(learner, 5, 4))
    one, other = first.state_dict(), again.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_cut_before_the_head_leaves_nothing_to_train(monkeypatch):
    network = tiny_network()
    monkeypatch.setattr(Cope, "parameters", lambda self: {})
    with pytest.raises(InputError, match="cut='norm': leaves only the head to train"):
        Cope(network, CopeConfig(memory_size=8))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"prototype_momentum": 1.0}, "prototype_momentum=1.0"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"n_iter": 0}, "n_iter=0"),
        ({"memory_size": 0}, "memory_size=0"),
        ({"storage": "feature"}, "storage='feature'"),
        ({"storage": "none", "exemplar_side": 4}, "exemplar_side=4"),
        ({"write_policy": "never"}, "write_policy='never'"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], named: str):
    with pytest.raises(InputError, match=named):
        CopeConfig(**settings)


def test_defaults_are_the_authors():
    """Their script for CIFAR-10: plain SGD; the rest as in the paper."""
    config = CopeConfig()
    assert (config.lr, config.momentum, config.weight_decay) == (0.005, 0.0, 0.0)
    assert (config.temperature, config.prototype_momentum, config.n_iter) == (0.1, 0.99, 1)
