"""Experience replay: the joint step, and what is kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from networks import TERMS, Task, batch_of, images_of, tiny_network
from tests.rounding import rounded
from torch.nn.functional import cross_entropy

from crumb.errors import InputError
from crumb.methods import persistence
from crumb.methods.er import ErConfig, ExperienceReplay
from crumb.methods.registry import create

ROW = {"image": 3 * 8 * 8, "raw_feature": 4 * 8 * 2 * 2}


def learner_of(seed: int = 0, **settings: Any) -> ExperienceReplay:
    if "memory_bytes" not in settings:
        settings = {"memory_size": 8} | settings
    learner = ExperienceReplay(tiny_network(), ErConfig(**settings), seed)
    learner.start_head(4)
    learner.begin_task(["a", "b", "c", "d"])
    return learner


@pytest.mark.parametrize("storage", ["image", "raw_feature"])
@pytest.mark.parametrize(("stored", "weight"), [(2, 1.0), (6, 1.0), (6, 5.0), (6, 0.0)])
def test_joint_step_by_hand(storage: str, stored: int, weight: float):
    plain: dict[str, Any] = {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}
    learner = learner_of(storage=storage, replay_coefficient=weight, **plain)
    learner.exemplars.on_batch(batch_of(learner, *[0, 1] * (stored // 2), seed=40))
    batch = batch_of(learner, 2, 3, 2, 3)
    # The exemplars that will be drawn: as many as the batch has images.
    generator = torch.Generator()
    generator.set_state(learner.generators["replay"].get_state())
    old, old_labels = learner.exemplars.sample(4, generator)
    assert len(old) == len(old_labels) == 4
    assert set(old_labels.tolist()) <= {0, 1}

    current = learner.parameters()
    direct = cross_entropy(learner.network(batch.features)[:, :4], batch.labels)
    replay = cross_entropy(learner.network(old)[:, :4], old_labels)
    gradients = torch.autograd.grad((direct + weight * replay) / 2, list(current.values()))
    expected = {
        name: theta.detach() - 0.1 * gradient
        for (name, theta), gradient in zip(current.items(), gradients, strict=True)
    }
    steps = []
    descend = learner.descend
    learner.descend = lambda: (steps.append(1), descend())[1]
    losses = learner.learn(batch)
    assert steps == [1]
    assert losses["direct"].item() == rounded(direct.item(), terms=TERMS)
    assert losses["replay"].item() == rounded(replay.item(), terms=TERMS)
    for name, theta in learner.parameters().items():
        torch.testing.assert_close(theta.detach(), expected[name])


def test_first_step_is_plain_and_fills_the_memory_afterwards():
    learner = learner_of()
    batch = batch_of(learner, 0, 1, 1)
    assert learner.learn(batch).keys() == {"direct"}
    assert learner.exemplars.memory.counts == {0: 1, 1: 2}
    assert learner.learn(batch_of(learner, 2)).keys() == {"direct", "replay"}


@pytest.mark.parametrize("policy", ["reservoir", "on-arrival"])
def test_later_readings_store_nothing(policy: str):
    learner = learner_of(write_policy=policy)
    learner.learn(batch_of(learner, 0, 1))
    learner.learn(batch_of(learner, 0, 1, first=False))
    assert len(learner.exemplars) == 2


@pytest.mark.parametrize("storage", ["image", "raw_feature"])
@pytest.mark.parametrize("policy", ["reservoir", "on-arrival"])
def test_budget_in_bytes_is_kept_at_every_step(storage: str, policy: str):
    budget = 5 * ROW[storage] + 3
    pixels = {"jpeg_quality": 0} if storage == "image" else {}
    learner = learner_of(memory_bytes=budget, storage=storage, write_policy=policy, **pixels)
    for seed in range(12):
        learner.learn(batch_of(learner, seed % 4, (seed + 1) % 4, seed=seed))
        held = learner.bytes_held()
        assert held.replay == learner.exemplars.memory.rows.nbytes <= budget
        assert held.replay >= len(learner.exemplars) * ROW[storage]
        assert held.extra > 0
    assert len(learner.exemplars) == 5


def test_pixels_are_kept_as_they_came():
    learner = learner_of()
    batch = batch_of(learner, 1, 1)
    learner.learn(batch)
    assert learner.exemplars.memory.rows.dtype == torch.uint8
    assert batch.images is not None
    assert torch.equal(learner.exemplars.memory.class_rows(1), batch.images)


def test_end_of_task_writes_equal_shares():
    learner = learner_of(write_policy="end-of-task")
    assert learner.needs_task_boundaries
    batches = [batch_of(learner, 0, 0, 1, 1, seed=seed) for seed in range(6)]
    learner.learn(batches[0])
    assert len(learner.exemplars) == 0
    learner.end_task(Task(batches))
    assert learner.exemplars.memory.counts == {0: 2, 1: 2}
    assert "replay" in learner.learn(batch_of(learner, 2, 3))


def test_herding_keeps_the_exemplars_whose_mean_is_nearest():
    learner = learner_of(write_policy="herding", memory_size=8, storage="raw_feature")
    assert learner.needs_second_pass
    batches = [batch_of(learner, 0, 0, 0, 1, 1, seed=seed) for seed in (0, 50)]
    learner.end_task(Task(batches))
    assert learner.exemplars.memory.counts == {0: 2, 1: 2}
    features = torch.cat([batch.features[batch.labels == 0] for batch in batches])
    with torch.no_grad():
        vectors = learner.embed(features).double()
    distances = {
        (first, second): (vectors[[first, second]].mean(0) - vectors.mean(0)).norm().item()
        for first in range(6)
        for second in range(6)
        if first != second
    }
    first = int((vectors - vectors.mean(0)).norm(dim=1).argmin())
    second = min(
        (other for one, other in distances if one == first), key=lambda n: distances[first, n]
    )
    assert torch.equal(learner.exemplars.memory.class_rows(0), features[[first, second]])


def test_default_memory_has_the_room_of_15_images():
    learner = ExperienceReplay(tiny_network(), ErConfig())
    assert learner.config.memory_bytes == learner.exemplars.memory.capacity == 2_257_920
    pixels = ExperienceReplay(tiny_network(), ErConfig(jpeg_quality=0))
    assert pixels.exemplars.memory.capacity == 2_257_920 // ROW["image"]


def test_forgets_less_than_without_replay():
    learners = {name: learner_of(1, lr=0.05, memory_size=20) for name in ("er", "finetune")}
    learners["finetune"].exemplars.on_batch = lambda batch, payload=None: torch.zeros(0)
    right = {}
    for name, learner in learners.items():
        for labels in ((0, 1), (2, 3)):
            for seed in range(40):
                learner.learn(batch_of(learner, *labels * 3, seed=10 * seed))
        found = learner.predict(torch.cat([images_of(0, 20, 900), images_of(1, 20, 901)]))
        right[name] = sum(a == b for a, b in zip(found, ["a"] * 20 + ["b"] * 20, strict=True))
    assert right["finetune"] <= 10
    assert right["er"] >= 30, right


def test_saved_in_the_middle_of_a_task_it_goes_on_to_the_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(persistence, "build_network", lambda *_: tiny_network())
    first = learner_of(storage="raw_feature")
    for seed in range(10):
        first.learn(batch_of(first, 0, 1, seed=seed))
    first.save(tmp_path / "half")
    again: Any = persistence.load_learner(tmp_path / "half")
    for learner in (first, again):
        for seed in range(10):
            learner.learn(batch_of(learner, 2, 3, seed=seed))
    one, other = first.state_dict(), again.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (
            {"storage": "feature"},
            "storage='feature': is not a valid choice; use image, raw_feature",
        ),
        (
            {"write_policy": "never"},
            "write_policy='never': .*end-of-task, herding, on-arrival, reservoir, greedy",
        ),
        ({"memory_size": 0}, "memory_size"),
        ({"memory_size": 5, "memory_bytes": 500}, "memory_size"),
        ({"lr": 0.0}, "lr"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], named: str):
    with pytest.raises(InputError, match=named):
        ErConfig(**settings)


def test_bytes_for_not_even_one_exemplar():
    with pytest.raises(InputError, match="memory_bytes=191: .*192 bytes"):
        learner_of(memory_bytes=191, jpeg_quality=0)


def test_created_with_its_own_policy():
    learner: Any = create("er", weights="random", backbone="squeezenet1_0")
    assert learner.config.write_policy == "on-arrival"
    assert learner.exemplars.memory.capacity == 15 * 3 * 224 * 224
    assert (learner.config.jpeg_quality, learner.config.exemplar_side) == (75, 224)
