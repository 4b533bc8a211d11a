"""GSS-Greedy: scores against a slow loop, the replacement by its probabilities, the step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from networks import TERMS, TinyClassifier, batch_of, images_of, tiny_network
from tests.rounding import assert_rounded, rounded, tolerance
from torch import nn
from torch.nn.functional import cross_entropy

from crumb.data.batches import Batch
from crumb.errors import InputError
from crumb.memory.storage import RawFeatureStorage
from crumb.methods import persistence
from crumb.methods.gss import MIN_SCORE, Gss, GssConfig, ScoredExemplars, score
from crumb.methods.rehearsal import RehearsalConfig
from crumb.nets.config import NetworkConfig
from crumb.nets.split import SplitNetwork
from crumb.testing.networks import TINY

PLAIN: dict[str, Any] = {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}
BYTES = 3 * 8 * 8


def learner_of(dropout: float = 0.0, seed: int = 0, **settings: Any) -> Gss:
    if "budget_bytes" not in settings:
        settings = {"memory_size": 8, "n_iter": 1} | settings
    learner = Gss(tiny_network(dropout), GssConfig(**settings), seed)
    learner.start_head(4)
    learner.begin_task(["a", "b", "c", "d"])
    return learner


def held_scores(learner: Gss) -> list[float]:
    memory = learner.exemplars
    return [value for n in memory.memory.counts for value in memory.scores_of(n).tolist()]


def slow_gradients(
    learner: Gss, features: torch.Tensor, labels: torch.Tensor, name: str
) -> np.ndarray:
    """Of each image on its own, by the parameters whose names hold ``name``, float64."""
    learner.network.eval()
    parameters = [p for key, p in learner.network.tail.named_parameters() if name in key]
    rows = []
    for place, label in enumerate(labels):
        logits = learner.network.tail(features[place : place + 1])[:, :4]
        found = torch.autograd.grad(cross_entropy(logits, label[None]), parameters)
        rows.append(np.concatenate([g.double().flatten().numpy() for g in found]))
    learner.network.train()
    return np.stack(rows)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


# Scores.


def scores_of(learner: Gss, features, labels) -> list[float]:
    """Of images that are compared with one draw, none of them stored meanwhile."""
    learner.network.eval()
    past = learner._drawn_directions()
    found = [score(direction, past) for direction in learner._directions(features, labels)]
    learner.network.train()
    return found


@pytest.mark.parametrize(("gradients", "name"), [("tail", ""), ("head", "classifier")])
@pytest.mark.parametrize("strength", [2, 20])
def test_scores_against_a_slow_loop(gradients: str, name: str, strength: int):
    learner = learner_of(0.5, gradients=gradients, memory_strength=strength, lr=0.05)
    for seed in range(4):
        learner.learn(batch_of(learner, 0, 1, 2, seed=10 * seed))
    batch = batch_of(learner, 0, 3, 2, 1, seed=90)
    # The exemplars that will be drawn, at most all.
    generator = torch.Generator()
    generator.set_state(learner.generators["memory"].get_state())
    count = min(strength, 8)
    drawn, theirs = learner.exemplars.sample(count, generator)
    dropout = learner.generators["dropout"].get_state()
    scores = scores_of(learner, batch.features, batch.labels)
    past = slow_gradients(learner, drawn, theirs, name)
    new = slow_gradients(learner, batch.features, batch.labels, name)
    assert len(past) == count
    expected = [max(cosine(one, other) for other in past) + 1 for one in new]
    assert_rounded(scores, expected, TERMS)
    # Some pull along, some against: the comparison says something.
    assert min(scores) < 1 < max(scores)
    assert learner.network.tail.training
    assert torch.equal(learner.generators["dropout"].get_state(), dropout)


class ConvolutionalHead(TinyClassifier):
    """As SqueezeNet: a convolution, a ReLU that writes into its input, the mean over places."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Sequential(nn.Conv2d(8, 5, 1), nn.ReLU(inplace=True))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.norm(self.stem(images))
        return self.pool(self.classifier(self.dropout(maps))).flatten(1)


class HeadOfTokens(TinyClassifier):
    """A linear layer at every place, then the largest value of all places."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.norm(self.stem(images)).flatten(2).transpose(1, 2)
        return self.classifier(self.dropout(tokens)).amax(1)


def with_head(model: type[nn.Module], kernel: int) -> Gss:
    """A learner whose last layer is applied at each of four places."""
    backbone = replace(TINY, head_kernel=kernel)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = SplitNetwork(model(), backbone, NetworkConfig("tiny", backbone.cut, "random"))
    learner = Gss(network, GssConfig(memory_size=8, n_iter=1, gradients="head", lr=0.05))
    learner.start_head(5)
    learner.begin_task(["a", "b", "c", "d"])
    return learner


@pytest.mark.parametrize(
    ("model", "kernel"), [(ConvolutionalHead, 1), (ConvolutionalHead, 3), (HeadOfTokens, 1)]
)
def test_directions_of_a_head_with_places_are_those_of_autograd(model: Any, kernel: int):
    learner = with_head(model, kernel)
    batch = batch_of(learner, 0, 1, 2, 3)
    learner.network.eval()
    before = learner.network.maps
    found = torch.stack([*learner._directions(batch.features, batch.labels)])
    # The tail is run once.
    assert learner.network.maps == before + 4
    slow = slow_gradients(learner, batch.features, batch.labels, learner.network.head_name)
    # Weights of five outputs, then their biases; the last class has not been met.
    assert slow.shape == (4, 5 * (8 * kernel**2 + 1))
    weights = 8 * kernel**2
    keep = [*range(4 * weights), *range(5 * weights, 5 * weights + 4)]
    expected = slow[:, keep] / np.linalg.norm(slow, axis=1, keepdims=True)
    # The layer, the mean over places, the norm.
    assert_rounded(found, expected, terms=weights + 4 + len(keep), layers=3)


def test_directions_of_a_compiled_tail_are_those_of_the_tail():
    learner = learner_of(gradients="head")
    batch = batch_of(learner, 0, 1, 2)
    wanted = torch.stack([*learner._directions(batch.features, batch.labels)])
    learner.network.tail.compile(backend="eager")
    learner.network(batch.features)
    found = torch.stack([*learner._directions(batch.features, batch.labels)])
    assert torch.equal(found, wanted)


def test_the_first_images_have_nothing_to_be_compared_with():
    learner = learner_of()
    learner.learn(batch_of(learner, 0, 0, 1))
    assert held_scores(learner).count(1) == 1
    learner.learn(batch_of(learner, 0))
    assert held_scores(learner).count(1) == 1


@pytest.mark.parametrize("gradients", ["tail", "head"])
def test_images_that_are_stored_meanwhile_are_compared_with(gradients: str):
    learner = learner_of(gradients=gradients)
    same = batch_of(learner, 0)
    images = images_of(0, 1).repeat(4, 1, 1, 1)
    learner.learn(Batch(torch.zeros(4, dtype=torch.int64), torch.cat([same.features] * 4), images))
    assert held_scores(learner) == rounded([1, 2, 2, 2], terms=TERMS)


@pytest.mark.parametrize("gradients", ["tail", "head"])
def test_a_gradient_without_direction_scores_as_at_right_angles(gradients: str):
    learner = learner_of(gradients=gradients)
    learner.learn(batch_of(learner, 0, 1))
    batch = batch_of(learner, 2, 3)
    for bias in (float("inf"), 1e4):
        with torch.no_grad():
            # The loss is not a number; then the answer is so sure that nothing is to be learned.
            learner.network.head.get_parameter("bias")[2] = bias
        features, labels = batch.features[:1], batch.labels[:1]
        assert scores_of(learner, features, labels) == [1]


def test_opposite_gradients_keep_a_least_score():
    # Two classes, one input: p - y of the one is minus that of the other.
    learner = Gss(tiny_network(), GssConfig(memory_size=4, gradients="head"))
    learner.begin_task(["a", "b"])
    batch = batch_of(learner, 0)
    learner.exemplars.offer(images_of(0, 1)[0], 0, 1.0)
    (opposed,) = scores_of(learner, batch.features, torch.tensor([1]))
    (alike,) = scores_of(learner, batch.features, torch.tensor([0]))
    # A cosine is a sum over the gradient of the head, two rows of eight weights and a bias.
    assert MIN_SCORE * 0.999 <= opposed <= MIN_SCORE + tolerance(18, 1)
    assert alike == rounded(2, terms=18)


@pytest.mark.parametrize(("size", "draws"), [(None, 1), (10, 1), (2, 3), (1, 5)])
def test_images_share_draws(size: int | None, draws: int):
    learner = learner_of(memory_size=20, n_memories=size)
    learner.learn(batch_of(learner, 0, 1))
    drawn = []
    original = learner._drawn_directions
    learner._drawn_directions = lambda: drawn.append(1) or original()
    learner.learn(batch_of(learner, 0, 1, 2, 3, 0, seed=5))
    assert len(drawn) == draws
    assert len(learner.exemplars) == 7


# What is stored.


STORAGE = RawFeatureStorage(tiny_network())
NEW = torch.full(STORAGE.row_shape, 99.0)


def memory_of(*scores: float, seed: int = 0, capacity: int | None = None) -> ScoredExemplars:
    """Exemplars of class 0, 1, 0, 1, ... whose features are their number."""
    config = RehearsalConfig(memory_size=capacity or len(scores))
    held = ScoredExemplars(config, STORAGE, torch.Generator().manual_seed(seed), "cpu")
    for number, value in enumerate(scores):
        held.offer(torch.full(STORAGE.row_shape, float(number)), number % 2, value)
    return held


def contents(held: ScoredExemplars) -> dict[int, tuple[int, float]]:
    """Label and score by number."""
    return {
        int(row.flatten()[0]): (label, float(score))
        for label in held.memory.counts
        for row, score in zip(held.memory.class_rows(label), held.scores_of(label), strict=True)
    }


def test_while_there_is_room_all_are_stored_with_their_scores():
    held = memory_of(1.0, 2.0, 0.5, capacity=4)
    held.offer(NEW, 3, 1.75)
    assert contents(held) == {0: (0, 1.0), 1: (1, 2.0), 2: (0, 0.5), 99: (3, 1.75)}


@pytest.mark.parametrize("score", [1.0, 1.5, 2.0])
def test_when_full_what_does_not_pull_against_the_drawn_is_left(score: float):
    for seed in range(20):
        held = memory_of(2.0, 2.0, 2.0, seed=seed)
        before = contents(held)
        held.offer(NEW, 1, score)
        assert contents(held) == before


def test_replacement_has_the_probabilities_of_algorithm_2():
    scores, own, trials = (0.25, 1.0, 1.5, 0.5), 0.75, 4000
    gone = np.zeros(len(scores))
    for seed in range(trials):
        held = memory_of(*scores, seed=seed)
        held.offer(NEW, 3, own)
        after = contents(held)
        missing = {0, 1, 2, 3} - after.keys()
        assert len(after) == 4
        assert len(missing) <= 1
        for number in missing:
            gone[number] += 1
            assert after[99] == (3, own)
        assert all(after[n] == (n % 2, scores[n]) for n in after.keys() - {99})
    values = np.array(scores)
    expected = values / values.sum() * values / (values + own)
    # Four standard deviations.
    error = 4 * np.sqrt(expected * (1 - expected) / trials)
    assert (np.abs(gone / trials - expected) < error).all(), (gone / trials, expected)


def test_chosen_by_two_draws_of_the_generator(monkeypatch):
    # Candidate 1 of score 0.6 against 0.4: it gives way at 0.599, not at 0.601.
    monkeypatch.setattr(torch, "multinomial", lambda *args, **kwargs: torch.tensor([1]))
    for chance, replaced in ((0.599, True), (0.601, False)):
        held = memory_of(1.0, 0.6)
        monkeypatch.setattr(torch, "rand", lambda *args, chance=chance, **kw: torch.tensor(chance))
        held.offer(NEW, 0, 0.4)
        assert (99 in contents(held)) == replaced
        assert (1 in contents(held)) != replaced


def test_later_readings_store_nothing():
    learner = learner_of()
    learner.learn(batch_of(learner, 0, 1))
    learner.learn(batch_of(learner, 2, 3, first=False))
    assert learner.exemplars.memory.counts == {0: 1, 1: 1}


# The step.


@pytest.mark.parametrize(("wanted", "count"), [(None, 3), (2, 2), (100, 5)])
def test_step_by_hand(wanted: int | None, count: int):
    learner = learner_of(n_constraints=wanted, **PLAIN)
    learner.learn(batch_of(learner, 0, 1, 0, 1, 2))
    batch = batch_of(learner, 2, 3, 2, seed=30)
    generator = torch.Generator()
    generator.set_state(learner.generators["replay"].get_state())
    old, theirs = learner.exemplars.sample(count, generator)
    current = learner.parameters()
    direct = cross_entropy(learner.network(batch.features)[:, :4], batch.labels)
    replay = cross_entropy(learner.network(old)[:, :4], theirs)
    gradients = torch.autograd.grad(direct + replay, list(current.values()))
    expected = {
        name: theta.detach() - 0.1 * gradient
        for (name, theta), gradient in zip(current.items(), gradients, strict=True)
    }
    losses = learner.learn(batch)
    assert losses["direct"].item() == rounded(direct.item(), terms=TERMS)
    assert losses["replay"].item() == rounded(replay.item(), terms=TERMS)
    for name, theta in learner.parameters().items():
        torch.testing.assert_close(theta.detach(), expected[name])


def test_several_steps_on_a_batch_and_one_choice():
    learner, other = learner_of(n_iter=3, **PLAIN), learner_of(**PLAIN)
    batch = batch_of(learner, 0, 1)
    learner.learn(batch)
    for _ in range(3):
        other.learn(Batch(batch.labels, batch.features, batch.images, first_pass=False))
    assert len(learner.exemplars) == 2
    for name, theta in learner.parameters().items():
        assert torch.equal(theta, other.parameters()[name])


# The rest of the contract.


@pytest.mark.parametrize("gradients", ["tail", "head"])
def test_saved_in_the_middle_of_a_task_it_goes_on_to_the_bit(gradients, tmp_path, monkeypatch):
    monkeypatch.setattr(persistence, "build_network", lambda *_: tiny_network(0.3))
    first = learner_of(0.3, gradients=gradients, lr=0.05)
    for seed in range(10):
        first.learn(batch_of(first, 0, 1, 2, seed=seed))
    first.save(tmp_path / "half")
    again: Any = persistence.load_learner(tmp_path / "half")
    assert held_scores(again) == held_scores(first)
    assert len(set(held_scores(again))) > 3
    for learner in (first, again):
        for seed in range(10):
            learner.learn(batch_of(learner, 2, 3, 0, seed=seed))
        learner.begin_task([f"class {n}" for n in range(9)])
        learner.learn(batch_of(learner, 5, 4))
    one, other = first.state_dict(), again.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_budget_in_bytes_bounds_exemplars_row_numbers_and_scores():
    budget = 5 * (BYTES + 8) + 3
    learner = learner_of(budget_bytes=budget, exemplar_side=8, jpeg_quality=0)
    for seed in range(12):
        learner.learn(batch_of(learner, seed % 4, (seed + 1) % 4, seed=seed))
        held = learner.bytes_held()
        assert held.replay + held.reading <= budget
        assert held.extra == held.reading == (4 + 4) * len(learner.exemplars)
    assert len(learner.exemplars) == 5


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"gradients": "front"}, "gradients='front': is not a valid choice; use tail, head"),
        ({"n_iter": 0}, "n_iter=0"),
        ({"n_constraints": 0}, "n_constraints=0"),
        ({"memory_strength": -1}, "memory_strength=-1"),
        ({"n_memories": 0}, "n_memories=0"),
        ({"memory_size": 0}, "memory_size=0"),
        ({"storage": "feature"}, "storage='feature'"),
        ({"lr": 0.0}, "lr"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], named: str):
    with pytest.raises(InputError, match=named):
        GssConfig(**settings)


def test_defaults_are_the_authors():
    """Their program and its script for CIFAR-10: plain SGD, ten steps on each batch."""
    config = GssConfig()
    assert (config.lr, config.momentum, config.weight_decay) == (0.01, 0.0, 0.0)
    assert (config.n_iter, config.memory_strength) == (10, 10)
