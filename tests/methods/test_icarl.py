"""iCaRL: targets, losses, exemplars and the nearest mean, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from networks import TERMS, Task, batch_of, images_of, in_second_task, learn_task, tiny_network
from tests.rounding import assert_rounded, rounded

from crumb.errors import InputError
from crumb.memory.herding import herd
from crumb.methods import persistence
from crumb.methods.icarl import RECENT, Icarl, sigmoid_targets
from crumb.methods.rehearsal import RehearsalConfig


def learner_of(dropout=0.0, **settings) -> Any:
    settings.setdefault("memory_size", 8)
    learner = Icarl(tiny_network(dropout), RehearsalConfig(**settings))
    learner.begin_task(["a", "b"])
    return learner


def second_task(**settings):
    learner = in_second_task(learner_of(**settings))
    learner.learn(batch_of(learner, 2, 3, seed=100))
    return learner


def unit(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def phi(learner, features):
    """Of the tiny network: the pooled features, after batch norm, of length 1."""
    with learner.evaluation():
        return unit(learner.network.tail.norm(features).mean((2, 3)).numpy())


def test_losses_and_targets_by_hand():
    learner = second_task(momentum=0.0)
    batch = batch_of(learner, 2, 3, 3, seed=50)
    seen = []
    network = learner.network.forward
    learner.network.forward = lambda features, linear: (
        seen.append(features.clone()),
        network(features, linear),
    )[1]
    previous = {name: value.clone() for name, value in learner.previous.weights.items()}
    weights = {name: p.detach().clone() for name, p in learner.parameters().items()}
    losses = learner.learn(batch)
    # The previous network, then the present one, on the very same images: new ones, then as many
    # exemplars.
    assert len(seen) == 2
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[1][:3], batch.features)
    assert len(seen[1]) == 6
    old_maps = [
        learner.exemplars.storage.features(learner.exemplars.memory.class_rows(label))
        for label in (0, 1)
    ]
    labels = [2, 3, 3]
    for row in seen[1][3:]:
        (label,) = [n for n in (0, 1) if any(torch.equal(row, one) for one in old_maps[n])]
        labels.append(label)

    def sigmoids(held, count):
        with learner.evaluation():
            pooled = torch.nn.functional.batch_norm(
                seen[1],
                learner.network.tail.norm.running_mean,
                learner.network.tail.norm.running_var,
                held["tail.norm.weight"],
                held["tail.norm.bias"],
            ).mean((2, 3))
            logits = pooled @ held["tail.classifier.weight"].T + held["tail.classifier.bias"]
        return 1 / (1 + np.exp(-logits[:, :count].double().numpy()))

    p, q = sigmoids(weights, 4), sigmoids(previous, 2)
    target = np.eye(4)[labels]
    target[:, :2] = q
    entropy = -(target * np.log(p) + (1 - target) * np.log(1 - p))
    for name, found in (("classification", entropy[:, 2:]), ("distillation", entropy[:, :2])):
        assert losses[name].item() == rounded(found.sum() / 6, TERMS, magnitude=4), name
    # The gradient of both by the head's bias is the mean of p - target.
    moved = learner.network.head.bias[:4].detach() - weights["tail.classifier.bias"][:4]
    step = -0.001 * ((p - target).mean(0) + 1e-4 * weights["tail.classifier.bias"][:4].numpy())
    # A difference of weights below one.
    assert_rounded(moved, step, 2, magnitude=1)


def test_first_task_has_nothing_old():
    learner = learner_of()
    losses = learner.learn(batch_of(learner, 0, 1))
    assert losses["distillation"].item() == 0
    assert losses["classification"].item() > 0


def test_a_class_that_comes_back_is_learned_by_its_labels():
    learner = second_task()
    features, labels = torch.rand(2, 8, 2, 2), torch.tensor([0, 2])
    learner.learn(batch_of(learner, 1, 2))
    targets, old = sigmoid_targets(learner.previous, features, labels, 4)
    assert old.tolist() == [True, False, False, False]
    assert targets[:, 1:].tolist() == [[0, 0, 0], [0, 1, 0]]
    assert torch.equal(targets[:, 0], learner.previous.logits(features).sigmoid()[:, 0])


@pytest.mark.parametrize("storage", ["image", "raw_feature"])
def test_exemplars_are_herded_and_cut_to_their_first(storage):
    learner = learner_of(memory_size=7, storage=storage)
    read = learn_task(learner, 0, 1, 0, 1)
    memory = learner.exemplars.memory
    # Seven for two classes: three each, chosen by the network as it is now.
    assert memory.counts == {0: 3, 1: 3}
    for label in (0, 1):
        rows = torch.cat([learner.exemplars.storage.encode(b)[b.labels == label] for b in read])
        maps = torch.cat([batch.features[batch.labels == label] for batch in read])
        best = herd(torch.from_numpy(phi(learner, maps)), 3)
        assert torch.equal(memory.class_rows(label), rows[best])
    first = {label: memory.class_rows(label)[:1] for label in (0, 1)}
    learner.begin_task(["c", "d"])
    learn_task(learner, 2, 3, 3, seed=40)
    assert memory.counts == {0: 1, 1: 1, 2: 1, 3: 1}
    for label, rows in first.items():
        assert torch.equal(memory.class_rows(label), rows)
    assert memory.rows.dtype == (torch.uint8 if storage == "image" else torch.float32)


def test_a_class_that_comes_back_chooses_among_exemplars_and_frames():
    learner = learner_of(memory_size=4)
    learn_task(learner, 0, 1)
    held = learner.exemplars.memory.class_rows(0)
    read = [batch_of(learner, 0, 0, seed=70)]
    learner.learn(read[0])
    learner.end_task(Task(read))
    candidates = torch.cat([held, images_of(0, 1, 70), images_of(0, 1, 71)])
    best = herd(torch.from_numpy(phi(learner, learner.network.features(candidates))), 2)
    assert torch.equal(learner.exemplars.memory.class_rows(0), candidates[best])
    assert learner.exemplars.memory.counts == {0: 2, 1: 2}


def test_nearest_mean_by_hand():
    learner = second_task(dropout=0.5)
    batch = batch_of(learner, 2, 2, 3, seed=300)
    for _ in range(3):
        learner.learn(batch)
    maps = [
        learner.exemplars.storage.features(learner.exemplars.memory.class_rows(label))
        for label in (0, 1)
    ]
    means = [unit(phi(learner, one).mean(0)) for one in maps]
    means += [unit(learner._running[label].numpy()) for label in (2, 3)]
    features = batch_of(learner, 0, 1, 2, 3, seed=500).features
    items = phi(learner, features)
    expected = [[-np.square(item - mean).sum() for mean in means] for item in items]
    with learner.evaluation():
        scores = learner.scores(features)
    assert_rounded(scores, expected, TERMS, magnitude=4)


def test_running_means_are_of_the_frames_seen_without_dropout():
    learner = learner_of(dropout=0.5, lr=1e-30)
    first, second = batch_of(learner, 0, 0, 1), batch_of(learner, 0, seed=9)
    learner.learn(first)
    learner.learn(second)
    maps = torch.cat([first.features[:2], second.features])
    assert_rounded(learner._running[0], phi(learner, maps).mean(0), TERMS)
    # When many were seen, a new one counts as one of the most recent.
    learner._frames[0] = RECENT
    before = learner._running[0].numpy().copy()
    learner.learn(second)
    expected = before + (phi(learner, second.features)[0] - before) / RECENT
    assert_rounded(learner._running[0], expected, TERMS)
    assert learner._frames[0] == RECENT


def test_a_class_without_frames_is_never_predicted():
    learner = learner_of()
    learner.learn(batch_of(learner, 1))
    assert learner.predict(images_of(0, 3)) == ["b", "b", "b"]


def test_means_follow_the_network():
    learner = second_task()
    learn_task(learner, 2, 3)
    features = batch_of(learner, 0, 1).features
    before = learner.scores(features)
    with torch.no_grad():
        learner.network.tail.norm.weight[0] = 30.0
    with learner.evaluation():
        after = learner.scores(features)
    assert not torch.allclose(before, after)
    means = [
        unit(phi(learner, learner.network.features(learner.exemplars.memory.class_rows(n))).mean(0))
        for n in range(4)
    ]
    expected = [[-np.square(x - m).sum() for m in means] for x in phi(learner, features)]
    assert_rounded(after, expected, TERMS, magnitude=4)


def test_bytes_within_the_budget_and_all_else_counted():
    learner = learner_of(memory_bytes=5 * 192 + 10, memory_size=None, jpeg_quality=0)
    for labels in [(0, 1, 0, 1), (2, 3, 3)]:
        learner.begin_task(["abcd"[n] for n in labels])
        learner.learn(batch_of(learner, *labels))
        assert learner.bytes_held().extra >= 2 * (8 * 4 + 8)
        learner.end_task(Task([batch_of(learner, *labels)]))
        held = learner.bytes_held()
        assert held.replay == learner.exemplars.memory.rows.nbytes <= 5 * 192
    # The copy: batch norm 8 + 8 and the rows of all classes, float32; row numbers of four bytes.
    classes = len(learner.classes)
    numbers = 4 * len(learner.exemplars.memory.rows)
    assert learner.bytes_held().extra == 4 * (16 + 9 * classes) + numbers


def test_no_room_for_every_class():
    learner = learner_of(memory_size=1)
    with pytest.raises(InputError, match="memory_size=1") as error:
        learner.check_room(2)
    assert "write_policy" not in str(error.value)
    with pytest.raises(InputError, match="memory_size=1"):
        learn_task(learner, 0, 1)


@pytest.mark.parametrize("storage", ["image", "raw_feature"])
def test_goes_on_to_the_bit_from_the_middle_of_a_task(storage, tmp_path, monkeypatch):
    monkeypatch.setattr(persistence, "build_network", lambda *_: tiny_network(0.5))
    learner = second_task(dropout=0.5, storage=storage)
    learner.learn(batch_of(learner, 1, 2))
    learner.save(tmp_path / "saved")
    loaded: Any = persistence.load_learner(tmp_path / "saved")
    assert loaded._frames == learner._frames != {}
    for one in (learner, loaded):
        learn_task(one, 3, 2, 2, seed=30)
        one.begin_task([f"class {n}" for n in range(20)])
        one.learn(batch_of(one, 5, 4))
    state = loaded.state_dict()
    for name, value in learner.state_dict().items():
        assert torch.equal(value, state[name]), name


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"storage": "feature"}, "storage='feature'"),
        ({"memory_size": 0}, "memory_size"),
        ({"memory_size": 3, "memory_bytes": 3000}, "memory_size"),
        ({"memory_bytes": -1}, "memory_bytes"),
        ({"lr": float("nan")}, "lr"),
    ],
)
def test_impossible_settings(settings, named):
    with pytest.raises(InputError, match=named):
        RehearsalConfig(**settings)
