"""AANets: levels, both branches, both steps, and what is kept of them."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from networks import SIZE, TERMS, batch_of, images_of, in_second_task, learn_task
from steps import VISIBLE, ByHand
from tests.rounding import assert_rounded, rounded, tolerance
from torch import nn
from torch.nn.functional import cross_entropy

from crumb.errors import InputError
from crumb.methods import persistence
from crumb.methods.aanets import Aanets, AanetsConfig
from crumb.nets.aggregation import aggregate, levels
from crumb.nets.backbones import build_network
from crumb.nets.config import Backbone, NetworkConfig, Preprocessing
from crumb.nets.dropout import SeededDropout
from crumb.nets.split import SplitNetwork


class TwoLevels(nn.Module):
    """From ``norm`` on: two layers on maps of 2 x 2, one that makes them 1 x 1."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.norm = nn.BatchNorm2d(8)
        self.one = nn.Conv2d(8, 8, 1, bias=False)
        self.act = nn.ReLU(inplace=True)
        self.two = nn.Conv2d(8, 6, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(6, 5)

    def forward(self, images):
        maps = self.act(self.one(self.norm(self.stem(images))))
        return self.classifier(self.pool(self.two(self.dropout(maps))).flatten(1))


SUMS = 32, 3
"""Terms of the longest sum of its tail, and layers one after another."""


def two_levels(dropout: float = 0.0, cut: str = "norm") -> SplitNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TwoLevels(dropout)
    preprocessing = Preprocessing(SIZE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    backbone = Backbone("tests", "tiny", cut, preprocessing=preprocessing)
    # A saved learner finds its network by name.
    config = NetworkConfig("crumb.testing.networks:TINY", cut, "random")
    return SplitNetwork(model, backbone, config)


def branched() -> tuple[SplitNetwork, list[Any]]:
    """With a plastic branch that is no longer the stable one."""
    network = two_levels()
    added = aggregate(network, torch.Generator())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name in ("norm", "one", "two"):
            for parameter in network.tail.get_submodule(name).parameters():
                parameter += torch.randn(parameter.shape, generator=generator)
    return network, added


MAPS = torch.rand(4, 8, 2, 2, generator=torch.Generator().manual_seed(2))


def learner_of(dropout: float = 0.0, **settings: Any) -> Any:
    settings = {"memory_size": 8} | settings
    learner = Aanets(two_levels(dropout), AanetsConfig(**settings))
    learner.begin_task(["a", "b"])
    return learner


def second_task(**settings: Any) -> Any:
    return in_second_task(learner_of(**settings))


# The network.


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [
        ("squeezenet1_0", [("features", "features_12")]),
        ("mobilenet_v2", [("features", "features_13"), ("features_13", "features_18")]),
        ("efficientnet_lite0", [("features", "bn2")]),
    ],
)
def test_levels_are_the_layers_of_one_resolution(backbone, expected):
    network = build_network(NetworkConfig(backbone, weights="random"))
    assert [(str(start), str(end)) for start, end in levels(network)] == expected


def test_levels_of_a_small_network():
    found = [(str(start), str(end)) for start, end in levels(two_levels())]
    assert found == [("features", "one"), ("one", "two")]


def test_a_tail_without_layers_before_the_head_is_refused():
    with pytest.raises(InputError, match="cut='pool'"):
        Aanets(two_levels(cut="pool"), AanetsConfig())


def test_two_equal_branches_change_nothing():
    network = two_levels()
    before, inner = network(MAPS), network.penultimate(MAPS)
    maps = MAPS.clone()
    added = aggregate(network, torch.Generator())
    assert [aggregation.alpha.tolist() for aggregation in added] == [[0.5], [0.5]]
    assert torch.equal(network(maps), before)
    assert torch.equal(network.penultimate(maps), inner)
    assert torch.equal(maps, MAPS)


def test_alpha_1_is_the_plastic_network_and_alpha_0_the_stable_one():
    network, added = branched()
    stable, plastic = two_levels(), two_levels()
    state = {name: network.state_dict()[name] for name in plastic.state_dict()}
    plastic.load_state_dict(state)
    assert not torch.allclose(plastic(MAPS), stable(MAPS), atol=0.1)
    for alpha, alone in ((1.0, plastic), (0.0, stable)):
        for aggregation in added:
            aggregation.alpha.fill_(alpha)
        assert_rounded(network(MAPS), alone(MAPS), *SUMS)


def test_levels_are_aggregated_one_after_the_other():
    network, added = branched()
    added[0].alpha.fill_(0.3)
    added[1].alpha.fill_(0.9)
    stable: Any = two_levels().tail
    tail: Any = network.tail
    with torch.no_grad():
        first = 0.3 * tail.one(tail.norm(MAPS)) + 0.7 * stable.one(stable.norm(MAPS))
        second = 0.9 * tail.two(first.relu()) + 0.1 * stable.two(first.relu())
        expected = tail.classifier(second.flatten(1))
        assert_rounded(network(MAPS), expected, *SUMS)


def test_a_scale_multiplies_one_filter_of_the_stable_branch():
    network, added = branched()
    for aggregation in added:
        aggregation.alpha.fill_(0.0)
    scales = dict(added[1].named_parameters())
    (name,) = [name for name in scales if name.endswith("scale")]
    with torch.no_grad():
        scales[name][3] = -2.0
    alone: Any = two_levels()
    with torch.no_grad():
        alone.tail.two.weight[3] *= -2.0
    assert_rounded(network(MAPS), alone(MAPS), *SUMS)


def test_what_was_compiled_is_compiled_anew(monkeypatch):
    network, times = two_levels(), []
    monkeypatch.setattr(SplitNetwork, "compile_tail", lambda own: times.append(own.tail))
    aggregate(network, torch.Generator())
    assert times == []
    network = two_levels()
    network.tail.compile(backend="eager")
    aggregate(network, torch.Generator())
    assert times == [network.tail]


# The update rule.


@pytest.mark.parametrize("temperature", [2.0, 3.0])
def test_first_step_by_independent_forms(temperature):
    learner = second_task(temperature=temperature, fusion_lr=0.0, **VISIBLE)
    learn_task(learner, 2, 3, 2, 3, seed=40)
    learner.begin_task(["e"])
    learner.learn(batch_of(learner, 4, 4, seed=70))
    generator = torch.Generator()
    generator.set_state(learner.generators["replay"].get_state())
    batch = batch_of(learner, 4, 2, 4, seed=90)
    drawn = torch.randint(4, (3,), generator=generator)
    old = learner.exemplars.draw(drawn.tolist(), generator)
    features, labels = torch.cat([batch.features, old]), torch.cat([batch.labels, drawn])
    # The network of the last task, both its branches, is a network with those weights.
    before = deepcopy(learner.network)
    with torch.no_grad():
        for name, parameter in before.named_parameters():
            if name in learner.previous.weights:
                kept = learner.previous.weights[name]
                parameter[: len(kept)] = kept
    q = (before(features)[:, :4] / temperature).softmax(1).detach()
    twin = deepcopy(learner.network)
    logits = twin(features)[:, :5]
    p = (logits[:, :4] / temperature).softmax(1)
    direct = cross_entropy(logits, labels)
    distilled = temperature**2 * (q * (q / p).log()).sum(1).mean()
    (direct + 0.25 * distilled).backward()
    by_hand = ByHand(learner)
    by_hand.step([p.grad for name, p in twin.named_parameters() if name in by_hand.start])
    losses = learner.learn(batch)
    assert losses["classification"].item() == rounded(direct.item(), terms=TERMS)
    # Both sums of logarithms are of order one, and the loss is their small difference.
    assert losses["distillation"].item() == rounded(distilled.item(), TERMS, magnitude=1)
    assert distilled.item() > 4 * tolerance(TERMS, 1)
    by_hand.check()
    way = by_hand.way()
    assert sum(name.endswith("scale") and bool(way[name].any()) for name in way) == 2
    after = dict(learner.network.named_parameters())
    for name, parameter in twin.named_parameters():
        if not (parameter.requires_grad and name.startswith("tail.")):
            assert torch.equal(after[name], parameter)


@pytest.mark.parametrize(("fusion_lr", "steps"), [(1e-8, 1), (0.1, 2)])
def test_both_steps_and_both_branches_are_counted(fusion_lr, steps):
    """Four images and four exemplars, twice: by the learner and by the network before it."""
    learner = second_task(fusion_lr=fusion_lr)
    before, maps = learner.steps, learner.network.maps
    learner.learn(batch_of(learner, 2, 3, 2, 3, seed=3))
    assert learner.steps - before == steps
    # The running means are of the four images, and the alphas see four.
    seen = 8 + 8 + 4 + (4 if steps == 2 else 0)
    assert learner.network.maps - maps == 2 * seen


def test_second_step_follows_the_finite_difference():
    learner = second_task(fusion_lr=2.0)
    learn_task(learner, 2, 3, 2, 3)
    with torch.no_grad():
        for name in ("one", "two"):
            learner.network.tail.get_submodule(name).weight.mul_(-3.0)
        learner.network.head.weight.mul_(5.0)
    labels = torch.tensor([0, 1, 2, 3])
    features = batch_of(learner, 0, 1, 2, 3, seed=33).features
    weights = {name: p.detach().clone() for name, p in learner.parameters().items()}
    slopes = []
    for aggregation in learner.aggregations:
        ends = []
        for shift in (0.02, -0.02):
            aggregation.alpha.add_(shift)
            ends.append(learner.loss(features, labels).item())
            aggregation.alpha.sub_(shift)
        slopes.append((ends[0] - ends[1]) / 0.04)
    assert min(map(abs, slopes)) > 1e-3
    starts = [aggregation.alpha.item() for aggregation in learner.aggregations]
    learner._weigh_branches(features, labels)
    moved = [a.alpha.item() - b for a, b in zip(learner.aggregations, starts, strict=True)]
    np.testing.assert_allclose(moved, -2.0 * np.array(slopes), rtol=0.02)
    # Nothing else moved, and the next step of the rest leaves the alphas alone.
    after = learner.parameters()
    for name, value in weights.items():
        assert name.endswith("alpha") or torch.equal(after[name], value)
    assert not any(aggregation.alpha.requires_grad for aggregation in learner.aggregations)


def test_balanced_set_is_of_exemplars_and_of_the_batch():
    learner = second_task(storage="raw_feature")
    batch = batch_of(learner, *[2] * 190, *[3] * 9, 0)
    features, labels = learner._balanced(batch)
    counts = labels.bincount(minlength=4)
    # 200 of four equally likely classes; six standard deviations.
    assert len(labels) == 200
    assert (counts - 50).abs().max() < 6 * (200 * 0.25 * 0.75) ** 0.5
    held = {
        label: learner.exemplars.memory.class_rows(label)
        if label < 2
        else batch.features[batch.labels == label]
        for label in range(4)
    }
    for row, label in zip(features, labels.tolist(), strict=True):
        assert any(torch.equal(row, one) for one in held[label])


def test_first_task_has_one_branch_and_the_stable_one_stays():
    learner = learner_of(lr=0.05, fusion_lr=0.5)
    plain = learner.state_dict().keys()
    assert learner.learn(batch_of(learner, 0, 1)).keys() == {"classification"}
    assert not learner.aggregations
    learn_task(learner, 0, 1, 0, 1)
    first = deepcopy(learner.network.tail.one.weight.detach())
    assert {name for name in learner.state_dict() if "aggregations" in name} - plain
    constants = [[*map(torch.clone, one.buffers())] for one in learner.aggregations]
    learner.begin_task(["c", "d"])
    learn_task(learner, 2, 3, 2, 3, seed=40)
    for one, before in zip(learner.aggregations, constants, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.buffers(), before, strict=True))
        assert one.alpha.item() != 0.5
        assert any((p != 1).any() for p in one.parameters() if p.requires_grad)
    assert any(torch.equal(first, value) for value in constants[0])
    assert not torch.equal(learner.network.tail.one.weight, first)


@pytest.mark.parametrize(("rate", "moves"), [(0.0, False), (1e-8, False), (1e-7, True)])
def test_no_step_on_alphas_that_cannot_move(rate: float, moves: bool):
    """At 0.5 float32 has steps of 3e-8 downwards: 1e-8, the authors' rate, is none."""
    learner = second_task(fusion_lr=rate)
    passes = []
    forward = learner.network.forward
    learner.network.forward = lambda *values: (passes.append(1), forward(*values))[1]
    losses = learner.learn(batch_of(learner, 2, 3))
    assert losses.keys() == {"classification", "distillation"} | ({"fusion"} if moves else set())
    # The present network and the previous one; and the set that is weighed on.
    assert len(passes) == (3 if moves else 2)
    assert AanetsConfig().fusion_lr == 1e-8


# What is kept.


@pytest.mark.parametrize("storage", ["image", "raw_feature"])
def test_goes_on_to_the_bit_from_the_middle_of_a_task(storage, tmp_path, monkeypatch):
    monkeypatch.setattr(persistence, "build_network", lambda *_: two_levels(0.5))
    learner = second_task(dropout=0.5, storage=storage, fusion_lr=0.1)
    learner.learn(batch_of(learner, 1, 2))
    learner.save(tmp_path / "saved")
    loaded: Any = persistence.load_learner(tmp_path / "saved")
    assert loaded.config == learner.config
    for one in (learner, loaded):
        learn_task(one, 3, 2, 2, seed=30)
        one.begin_task([f"class {n}" for n in range(20)])
        one.learn(batch_of(one, 5, 4))
    state = loaded.state_dict()
    for name, value in learner.state_dict().items():
        assert torch.equal(value, state[name]), name
    images = torch.cat([images_of(label, 2, 70) for label in range(5)])
    assert loaded.predict(images) == learner.predict(images)


def test_branches_are_counted():
    learner = second_task()
    # Batch norm 8 + 8 and its statistics 8 + 8 with a count of eight bytes, filters 8 x 8 and
    # 6 x 8 x 4 + 6, their scales 8 + 6, two alphas.
    branches = 4 * (32 + 64 + 192 + 6 + 14 + 2) + 8
    # The copy of the network: the same without the statistics, and two rows of the head.
    copied = 4 * (16 + 64 + 192 + 6 + 14 + 2 + 2 * 7)
    numbers = 4 * len(learner.exemplars.memory.rows)
    assert learner.bytes_held().extra == branches + copied + numbers


def test_dropout_of_a_stable_branch_draws_from_the_same_generator():
    network = two_levels(0.5)
    generator = torch.Generator()
    network.use_generator(generator)
    aggregate(network, generator)
    found = [m.generator for m in network.tail.modules() if isinstance(m, SeededDropout)]
    assert len(found) == 2
    assert all(one is generator for one in found)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"distillation": -1.0}, "distillation"),
        ({"fusion_lr": float("nan")}, "fusion_lr"),
        ({"storage": "feature"}, "storage='feature'"),
    ],
)
def test_impossible_settings(wrong, named):
    with pytest.raises(InputError, match=named):
        AanetsConfig(**wrong)
