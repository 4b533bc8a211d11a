"""Rainbow Memory: votes, steps, shares and the training on the memory, by hand."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import TERMS, Task, batch_of, learn_task, tiny_network
from tests.rounding import rounded
from torch.nn.functional import cross_entropy

from crumb.errors import InputError
from crumb.methods import persistence, rainbow
from crumb.methods.rainbow import Rainbow, RainbowConfig, even_steps, rate, uncertainty


def learner_of(dropout=0.0, **settings) -> Any:
    if "memory_bytes" not in settings and "budget_bytes" not in settings:
        settings.setdefault("memory_size", 7)
    # 256 by default.
    settings.setdefault("memory_only_epochs", 2)
    learner = Rainbow(tiny_network(dropout), RainbowConfig(**settings))
    learner.begin_task(["a", "b"])
    return learner


def weights_of(learner):
    return {name: p.detach().clone() for name, p in learner.parameters().items()}


# The memory.


def test_uncertainty_by_hand():
    votes = torch.tensor([[0, 1, 2, 3], [0, 1, 1, 2], [0, 0, 2, 1], [0, 1, 0, 0]])
    assert uncertainty(votes).tolist() == [0, 0.25, 0.5, 0.75]


def test_even_steps_by_hand():
    uncertainties = torch.tensor([0.5, 0, 0.25, 0, 0.75, 0.25])
    # In order: 1, 3 (equal, so the earlier first), 2, 5, 0, 4.
    assert even_steps(uncertainties, 3) == [1, 2, 0]
    assert even_steps(uncertainties, 4) == [1, 3, 5, 0]
    assert even_steps(uncertainties, 6) == even_steps(uncertainties, 9) == [1, 3, 2, 5, 0, 4]
    assert even_steps(uncertainties, 1) == [1]
    # Not the first 100 of 150, as steps of a whole number would have it.
    assert even_steps(torch.arange(150.0), 100)[-1] == 148


@given(st.lists(st.integers(0, 11), min_size=1, max_size=60), st.integers(1, 70))
def test_steps_are_even(levels, count):
    chosen = even_steps(torch.tensor(levels) / 12, count)
    count = min(count, len(levels))
    assert len(chosen) == len(set(chosen)) == count
    ranked = sorted(range(len(levels)), key=lambda place: (levels[place], place))
    ranks = [ranked.index(place) for place in chosen]
    assert ranks[0] == 0
    steps = {after - before for before, after in pairwise(ranks)}
    assert steps <= {len(levels) // count, -(-len(levels) // count)}


def forced(learner, monkeypatch, views):
    """What each view is taken for, by the brightness of what it shows: brighter is less sure.

    Returns the uncertainty of a feature map or an image, by hand.
    """
    calls = iter(range(10**6))

    def level(shown):
        return shown.flatten(1).double().mean(1).mul(1000).long().abs() % views

    def vote(shown):
        # An image of level n is taken for another class in n of the views.
        return (next(calls) % views < level(shown)).long()

    monkeypatch.setattr(learner, "_vote", vote)
    return lambda shown: torch.stack([1 - max(n, views - n) / views for n in level(shown)])


@pytest.mark.parametrize("storage", ["image", "raw_feature"])
def test_memory_by_hand(monkeypatch, storage):
    learner = learner_of(storage=storage, memory_only_epochs=0, views=5)
    by_hand = forced(learner, monkeypatch, 5)
    memory, store = learner.exemplars.memory, learner.exemplars.storage
    held: dict[int, Any] = {}
    for labels, share, seed in [((0, 1, 0, 1), 3, 0), ((2, 3, 3, 0), 1, 50)]:
        learner.begin_task(["abcd"[label] for label in labels])
        candidates = dict(held)
        read = learn_task(learner, *labels, seed=seed)
        for batch in read:
            for label, row in zip(batch.labels.tolist(), store.encode(batch), strict=True):
                candidates[label] = torch.cat([candidates.get(label, row[None][:0]), row[None]])
        assert len(memory) == 7
        assert all(count >= share for count in memory.counts.values())
        for label, rows in candidates.items():
            expected = rows[even_steps(by_hand(store.features(rows)), share)]
            now = memory.class_rows(label)
            assert torch.equal(now[:share], expected)
            # What is beyond the share is of the candidates as well, none of them twice.
            keys = [row.numpy().tobytes() for row in now]
            assert len({*keys}) == len(keys)
            assert {*keys} <= {row.numpy().tobytes() for row in rows}
        held = {label: memory.class_rows(label) for label in memory.counts}
    assert memory.counts.keys() == {0, 1, 2, 3}


def test_places_that_no_class_fills_go_to_candidates_at_random():
    learner = learner_of(memory_size=8)
    levels = {0: torch.zeros(1), 1: torch.arange(20.0)}
    seen = set()
    for _ in range(20):
        chosen = learner._choose(levels, {0: [1], 1: [1] * 20})
        assert chosen[0] == [0]
        assert chosen[1][:4] == [0, 5, 10, 15]
        assert len({*chosen[1]}) == 7
        seen.add(tuple(chosen[1][4:]))
    assert len(seen) > 10
    # Fewer candidates than places: all are kept.
    few = {label: torch.zeros(2) for label in (0, 1)}
    assert learner._choose(few, {0: [1, 1], 1: [1, 1]}) == {0: [0, 1], 1: [0, 1]}


def test_a_class_without_new_frames_is_thinned_by_its_uncertainty(monkeypatch):
    learner = learner_of(memory_size=8, memory_only_epochs=0, views=5)
    by_hand = forced(learner, monkeypatch, 5)
    learn_task(learner, 0, 1, 0, 1)
    held = learner.exemplars.memory.class_rows(0)
    assert len(held) == 4
    learner.begin_task(["c", "d"])
    learn_task(learner, 2, 3, 2, 3, seed=50)
    kept = even_steps(by_hand(learner.exemplars.storage.features(held)), 2)
    assert torch.equal(learner.exemplars.memory.class_rows(0), held[kept])


def test_votes_are_those_of_the_network_on_views_without_dropout(monkeypatch):
    learner = learner_of(dropout=0.9, storage="raw_feature", memory_only_epochs=0, views=4)
    monkeypatch.setattr(rainbow, "random_crops", lambda maps, area, generator: maps + 1)
    votes = []
    monkeypatch.setattr(
        rainbow, "uncertainty", lambda each: votes.append(each) or torch.zeros(each.shape[1])
    )
    read = [batch_of(learner, 0, 1, 1)]
    before = learner.generators["dropout"].get_state()
    learner.end_task(Task(read))
    assert torch.equal(learner.generators["dropout"].get_state(), before)
    learner.network.eval()
    expected = learner.network(read[0].features + 1)[:, :2].argmax(1)
    assert len(votes) == 1
    assert votes[0].tolist() == [expected.tolist()] * 4


@pytest.mark.parametrize("perturb", ["feature", "image"])
def test_views_are_of_features_or_of_pixels(monkeypatch, perturb):
    learner = learner_of(perturb=perturb, exemplar_side=4, memory_only_epochs=0, views=3)
    learn_task(learner, 0, 1, batches=1)
    passed, shown = [], []
    front, crops = learner.network.features, rainbow.random_crops

    def spy(maps, least_area, generator):
        shown.append(maps)
        return crops(maps, least_area, generator)

    monkeypatch.setattr(rainbow, "random_crops", spy)
    read = [batch_of(learner, 1, 1, 0, seed=60)]
    monkeypatch.setattr(learner.network, "features", lambda x: passed.append(x) or front(x))
    learner.end_task(Task(read))
    # Three views of the exemplar of each class and of the three frames.
    sizes = [1] * 3 + [1] * 3 + [3] * 3
    assert [len(maps) for maps in shown] == sizes
    assert all(
        maps.shape[1:] == ((8, 2, 2) if perturb == "feature" else (3, 8, 8)) for maps in shown
    )
    if perturb == "image":
        assert [len(pixels) for pixels in passed] == sizes
        assert all(pixels.dtype == torch.uint8 for pixels in passed)
    else:
        # The front's, of exemplars; they are remembered from the step before.
        assert sum(map(len, passed)) <= 2
        assert torch.equal(shown[-1], read[0].features)


# Training.


def test_a_step_is_on_the_batch_and_as_many_exemplars():
    learner = learner_of(momentum=0.0, weight_decay=0.0, lr=0.1)
    first = learner.learn(batch_of(learner, 0, 1))
    assert first.keys() == {"direct"}
    learn_task(learner, 0, 1, 0, 1)
    learner.begin_task(["c"])
    batch = batch_of(learner, 2, 2, 2, seed=70)
    before, state = weights_of(learner), learner.generators["replay"].get_state()
    generator = torch.Generator()
    generator.set_state(state)
    stored, labels = learner.exemplars.sample(3, generator)
    logits = learner.network(torch.cat([batch.features, stored]))[:, :3]
    each = cross_entropy(logits, torch.cat([batch.labels, labels]), reduction="none")
    gradients = torch.autograd.grad(each.mean(), [*learner.parameters().values()])
    losses = learner.learn(batch)
    assert losses["direct"] == rounded(each[:3].mean().item(), terms=TERMS)
    assert losses["replay"] == rounded(each[3:].mean().item(), terms=TERMS)
    for (name, after), gradient in zip(learner.parameters().items(), gradients, strict=True):
        torch.testing.assert_close(after, before[name] - 0.1 * gradient, msg=name)


def test_rates_of_the_schedule():
    half, quarter = 0.505, 0.01 + 0.99 * (1 + math.sqrt(0.5)) / 2
    expected = [0.1, 1, 1, half, 1, quarter, half, 0.01 + 0.99 * (1 - math.sqrt(0.5)) / 2, 1]
    assert [rate(epoch) for epoch in range(9)] == pytest.approx(expected)
    assert rate((1 << 40) - 1) == pytest.approx(0.01)


@pytest.mark.parametrize("schedule", ["constant", "cos"])
def test_training_on_the_memory_shows_every_exemplar_once_in_an_epoch(monkeypatch, schedule):
    learner = learner_of(memory_only_epochs=4, schedule=schedule, lr=0.01)
    steps = []
    losses = learner._losses

    def spy(features, labels):
        steps.append((features, labels, learner.optimizer.param_groups[0]["lr"]))
        assert learner.network.training
        return losses(features, labels)

    read = [batch_of(learner, 0, 1, 0, 1, seed=10 * n) for n in range(3)]
    monkeypatch.setattr(learner, "_losses", spy)
    learner.end_task(Task(read))
    # Seven exemplars in batches of four, as the stream's.
    assert [len(labels) for _, labels, _ in steps] == [4, 3] * 4
    rates = [0.1, 1, 1, 0.505] if schedule == "cos" else [1] * 4
    assert [lr for *_, lr in steps] == pytest.approx([0.01 * r for r in rates for _ in range(2)])
    assert learner.optimizer.param_groups[0]["lr"] == 0.01
    memory, store = learner.exemplars.memory, learner.exemplars.storage
    held = {
        (label, row.numpy().tobytes())
        for label in memory.counts
        for row in store.features(memory.class_rows(label))
    }
    orders = set()
    for epoch in range(4):
        shown = [
            (label, row.numpy().tobytes())
            for features, labels, _ in steps[2 * epoch : 2 * epoch + 2]
            for label, row in zip(labels.tolist(), features, strict=True)
        ]
        assert {*shown} == held
        assert len(shown) == 7
        orders.add(tuple(shown))
    assert len(orders) == 4


def test_effect_of_training_on_the_memory_by_hand():
    settings: Any = {"momentum": 0.0, "weight_decay": 0.0, "lr": 0.5, "schedule": "constant"}
    learner = learner_of(memory_only_epochs=1, **settings)
    other = learner_of(memory_only_epochs=0, **settings)
    for one in (learner, other):
        learn_task(one, *[0, 1] * 4)
    memory = other.exemplars.memory
    assert torch.equal(memory.class_rows(1), learner.exemplars.memory.class_rows(1))
    maps = [other.exemplars.storage.features(memory.class_rows(label)) for label in (0, 1)]
    labels = torch.tensor([label for label in (0, 1) for _ in maps[label]])
    loss = cross_entropy(other.network(torch.cat(maps))[:, :2], labels)
    gradients = torch.autograd.grad(loss, [*other.parameters().values()])
    after = weights_of(learner)
    for (name, before), gradient in zip(other.parameters().items(), gradients, strict=True):
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(after[name], before - 0.5 * gradient, msg=name)


def test_labels_are_mixed_as_maps_are(monkeypatch):
    learner = learner_of(cutmix_probability=1.0)
    batch = batch_of(learner, 0, 1, 1)
    mixed, partners = batch.features * 0.5 + 1, torch.tensor([1, 2, 0])
    monkeypatch.setattr(rainbow, "cutmix", lambda features, generator: (mixed, partners, 0.75))
    logits = learner.network(mixed)[:, :2].log_softmax(1).detach()
    own, theirs = [0, 1, 1], [1, 1, 0]
    expected = [-0.75 * logits[n, own[n]] - 0.25 * logits[n, theirs[n]] for n in range(3)]
    assert learner.learn(batch)["direct"] == rounded(float(sum(expected)) / 3, terms=TERMS)


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.5, 25, 75), (1.0, 100, 100)])
def test_share_of_mixed_steps(monkeypatch, share, least, most):
    learner = learner_of(cutmix_probability=share)
    calls, mix = [], rainbow.cutmix
    monkeypatch.setattr(rainbow, "cutmix", lambda *given: calls.append(0) or mix(*given))
    batch = batch_of(learner, 0, 1)
    for _ in range(100):
        learner.learn(batch)
    assert least <= len(calls) <= most


# The rest of the contract.


@pytest.mark.parametrize("cutmix_probability", [0.0, 0.5])
@pytest.mark.parametrize(
    ("storage", "perturb"), [("image", "feature"), ("image", "image"), ("raw_feature", "feature")]
)
def test_goes_on_to_the_bit_from_the_middle_of_a_task(
    storage, perturb, cutmix_probability, tmp_path, monkeypatch
):
    monkeypatch.setattr(persistence, "build_network", lambda *_: tiny_network(0.5))
    settings: Any = {"storage": storage, "perturb": perturb}
    learner = learner_of(0.5, cutmix_probability=cutmix_probability, **settings)
    learn_task(learner, 0, 1, 0, 1)
    learner.begin_task(["c", "d"])
    learner.learn(batch_of(learner, 2, 1, seed=90))
    learner.save(tmp_path / "saved")
    loaded: Any = persistence.load_learner(tmp_path / "saved")
    for one in (learner, loaded):
        learn_task(one, 3, 2, 2, 0, seed=30)
        one.begin_task([f"class {n}" for n in range(20)])
        one.learn(batch_of(one, 5, 4))
    state = loaded.state_dict()
    for name, value in learner.state_dict().items():
        assert torch.equal(value, state[name]), name


@pytest.mark.parametrize("budget", [True, False])
def test_bytes(budget):
    # An image of 4 x 4 takes 48 bytes, its row number 4.
    room: Any = {"budget_bytes": 6 * 52 + 20} if budget else {"memory_bytes": 6 * 48 + 20}
    learner = learner_of(exemplar_side=4, jpeg_quality=0, **room)
    for labels in [(0, 1, 0, 1), (2, 3, 3)]:
        learner.begin_task(["abcd"[n] for n in labels])
        learn_task(learner, *labels)
        held = learner.bytes_held()
        assert (held.replay, held.extra, held.reading) == (6 * 48, 6 * 4, 6 * 4)
        assert held.replay == learner.exemplars.memory.rows.nbytes


def test_no_room_for_every_class():
    learner = learner_of(memory_size=1)
    with pytest.raises(InputError, match="memory_size=1"):
        learner.check_room(2)
    with pytest.raises(InputError, match="memory_size=1"):
        learn_task(learner, 0, 1)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"storage": "feature"}, "storage='feature'"),
        ({"memory_only_epochs": -1}, "memory_only_epochs"),
        ({"schedule": "linear"}, "schedule='linear'"),
        ({"perturb": "both"}, "perturb='both'"),
        ({"perturb": "image", "storage": "raw_feature"}, "perturb='image'"),
        ({"views": 1}, "views"),
        ({"cutmix_probability": 1.5}, "cutmix_probability"),
        ({"cutmix_probability": float("nan")}, "cutmix_probability"),
        ({"lr": 0.0}, "lr"),
    ],
)
def test_impossible_settings(settings, named):
    with pytest.raises(InputError, match=named):
        RainbowConfig(**settings)
