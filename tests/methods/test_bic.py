"""BiC: both stages against independent forms, what is held out, and when it is corrected."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import TERMS, Task, batch_of, images_of, in_second_task, learn_task, tiny_network
from scipy.optimize import minimize
from tests.rounding import assert_rounded, rounded

from crumb.data.batches import Batch
from crumb.errors import InputError
from crumb.methods import persistence
from crumb.methods.bic import NO_CORRECTION, Bic, BicConfig, corrected, fit_correction


def learner_of(dropout: float = 0.0, **settings: Any) -> Any:
    settings = {"memory_size": 8, "bias_steps": 50} | settings
    if "budget_bytes" in settings:
        del settings["memory_size"]
    learner = Bic(tiny_network(dropout), BicConfig(**settings))
    learner.begin_task(["a", "b"])
    return learner


def second_task(**settings: Any) -> Any:
    return in_second_task(learner_of(**settings))


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def logits_of(learner: Any, weights: dict[str, torch.Tensor], features: torch.Tensor) -> np.ndarray:
    """The tiny network with these weights, without dropout."""
    norm = learner.network.tail.norm
    pooled = torch.nn.functional.batch_norm(
        features,
        norm.running_mean,
        norm.running_var,
        weights["tail.norm.weight"],
        weights["tail.norm.bias"],
    ).mean((2, 3))
    logits = pooled @ weights["tail.classifier.weight"].T + weights["tail.classifier.bias"]
    return logits.detach().double().numpy()


def shown_to(learner: Any) -> list[torch.Tensor]:
    """What passes through the network from now on."""
    seen, network = [], learner.network.forward
    learner.network.forward = lambda features, linear=False: (
        seen.append(features.clone()),
        network(features, linear),
    )[1]
    return seen


@pytest.mark.parametrize("temperature", [2.0, 5.0])
def test_stage_1_by_hand(temperature: float):
    """lambda L_d + (1 - lambda) L_c, with the corrected outputs of the old network as targets."""
    learner = second_task(temperature=temperature, momentum=0.0, lr=0.01, bias_lr=0.1)
    learn_task(learner, 2, 3, 2, 3, seed=40)
    learner.begin_task(["e"])
    alpha, beta = learner._previous_correction
    assert (alpha, beta) != NO_CORRECTION
    weights = {name: p.detach().clone() for name, p in learner.parameters().items()}
    previous = {name: value.clone() for name, value in learner.previous.weights.items()}
    batch, seen = batch_of(learner, 4, 4, 4, seed=90, first=False), shown_to(learner)
    losses = learner.learn(batch)
    # The new images, then as many exemplars to train on; once for each network.
    features = seen[0]
    assert len(features) == 6
    assert torch.equal(features[:3], batch.features)
    labels = [4, 4, 4]
    for row in features[3:]:
        (label,) = [
            n
            for n in range(4)
            for one in learner.exemplars.memory.class_rows(n)
            if torch.equal(row, learner.exemplars.storage.features(one[None])[0])
        ]
        labels.append(label)
    logits, old = (
        logits_of(learner, weights, features)[:, :5],
        logits_of(learner, previous, features),
    )
    old[:, 2:4] = alpha * old[:, 2:4] + beta
    p, target = softmax(logits), np.eye(5)[labels]
    q, r = softmax(old / temperature), softmax(logits[:, :4] / temperature)
    expected = {
        "classification": -np.log((p * target).sum(1)).mean(),
        "distillation": (q * np.log(q / r)).sum(1).mean(),
    }
    for name, value in expected.items():
        assert losses[name].item() == rounded(value, terms=TERMS, magnitude=np.abs(logits).max())
    # By the head's bias: four old classes and a new one.
    slope = 0.2 * (p - target).mean(0)
    slope[:4] += 0.8 * (r - q).mean(0) / temperature
    before = weights["tail.classifier.bias"][:5].double().numpy()
    moved = learner.network.head.bias[:5].detach().double().numpy() - before
    # A difference of weights below one.
    assert_rounded(moved, -0.01 * (slope + 1e-4 * before), 2, magnitude=1)


def test_first_task_is_plain_and_never_corrected():
    learner = learner_of(memory_size=2)
    seen = shown_to(learner)
    assert learner.learn(batch_of(learner, 0, 1)).keys() == {"classification"}
    assert len(seen) == 1
    with learner.evaluation():
        assert learner.prepared == NO_CORRECTION


def slow_cross_entropy(correction, logits, labels, first):
    """Class by class, each weighing the same."""
    outputs = np.hstack([logits[:, :first], correction[0] * logits[:, first:] + correction[1]])
    losses = -np.log(softmax(outputs)[np.arange(len(labels)), labels])
    return np.mean([losses[labels == label].mean() for label in np.unique(labels)])


@settings(max_examples=5)
@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_correction_is_that_of_another_minimiser(seed, old, new, uneven):
    random = np.random.default_rng(seed)
    labels = np.arange(old + new).repeat(12)
    logits = random.normal(size=(len(labels), old + new))
    # New classes are given too much, and the right one no more than that.
    logits[:, old:] = 1.6 * logits[:, old:] + 1.5
    if uneven:
        kept = random.random(len(labels)) < np.where(labels == 0, 0.5, 1)
        kept[::12] = True
        labels, logits = labels[kept], logits[kept]
    best = minimize(slow_cross_entropy, [1, 0], (logits, labels, old), tol=1e-10)
    found = fit_correction(torch.from_numpy(logits), torch.from_numpy(labels), old, 0.02, 2000)
    np.testing.assert_allclose(found, best.x, atol=2e-3)


def test_steps_are_those_of_adam():
    random = torch.Generator().manual_seed(4)
    logits = torch.randn(9, 5, generator=random, dtype=torch.float64)
    labels = torch.arange(9) % 5
    correction = torch.tensor(NO_CORRECTION, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([correction], lr=0.03)
    counts = labels.bincount()
    for _ in range(20):
        outputs = torch.cat([logits[:, :2], correction[0] * logits[:, 2:] + correction[1]], 1)
        optimizer.zero_grad()
        losses = torch.nn.functional.cross_entropy(outputs, labels, reduction="none")
        (losses / counts[labels] / 5).sum().backward()
        optimizer.step()
    found = fit_correction(logits, labels, 2, 0.03, 20)
    np.testing.assert_allclose(found, correction.tolist(), rtol=1e-9)


def test_correction_of_two_outputs_in_closed_form():
    """One old and one new class, all logits alike: only the difference of both can be told."""
    logits = torch.tensor([[0.0, 2.0], [0.0, 2.0]])
    alpha, beta = fit_correction(logits, torch.tensor([0, 1]), 1, 0.05, 2000)
    # Both classes are equally likely, so the corrected logits must be.
    assert 2 * alpha + beta == pytest.approx(0, abs=1e-6)
    assert fit_correction(logits, torch.tensor([0, 1]), 1, 0.05, 0) == NO_CORRECTION


def test_only_new_classes_are_corrected():
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    assert corrected(logits, 1, 2.0, -0.5).tolist() == [[1.0, 3.5, 5.5]]
    assert torch.equal(corrected(logits, 0, 1.0, 0.0), logits)


def test_scores_in_evaluation_are_corrected_also_in_the_last_task():
    learner = second_task(bias_lr=0.05, lr=0.05, dropout=0.5)
    for seed in range(20):
        learner.learn(batch_of(learner, 2, 3, 2, 3, seed=10 * seed))
    features = batch_of(learner, 0, 1, 2, 3, seed=900).features
    parts = learner.exemplars.validation(3)
    assert sorted(torch.cat([labels for _, labels in parts]).tolist()) == [0, 1, 2, 3]
    weights = learner.parameters()
    held_out = torch.cat([part for part, _ in parts])
    shown = logits_of(learner, weights, held_out)[:, :4]
    labels = torch.cat([labels for _, labels in parts])
    alpha, beta = fit_correction(torch.from_numpy(shown), labels, 2, 0.05, 50)
    assert (alpha, beta) != NO_CORRECTION
    expected = logits_of(learner, weights, features)[:, :4]
    expected[:, 2:] = alpha * expected[:, 2:] + beta
    with learner.evaluation():
        scores = learner.scores(features)
    assert_rounded(scores, expected, TERMS, layers=3)
    # The end of the task keeps just that correction, for the targets of the next one.
    learner.end_task(Task([batch_of(learner, 0)]))
    assert_rounded(np.array(learner._previous_correction), np.array([alpha, beta]), TERMS)
    assert learner._previous_from == 2
    with learner.evaluation():
        assert torch.equal(learner.scores(features), scores)


def test_a_bias_towards_new_classes_is_taken_back():
    learner = second_task(bias_lr=0.05, bias_steps=500, memory_size=40)
    learner.learn(batch_of(learner, 2, 3, *[2, 3] * 9, seed=30))
    with torch.no_grad():
        learner.network.head.bias[2:4] += 50
    with learner.evaluation():
        assert learner.prepared[1] < 0 or learner.prepared[0] < 1
        own = learner.scores(batch_of(learner, 0, 1, seed=77).features)
        raw = learner.active(learner.network(batch_of(learner, 0, 1, seed=77).features))
    assert (raw.argmax(1) >= 2).all()
    gap = raw[:, 2:].amax(1) - raw[:, :2].amax(1)
    assert (own[:, 2:].amax(1) - own[:, :2].amax(1) < gap / 2).all()


# What is held out.


def test_held_out_frames_are_not_trained_on_in_any_epoch():
    learner = learner_of(memory_size=8, lr=1e-30)
    batches = [batch_of(learner, 0, 1, 0, 1, seed=10 * i) for i in range(4)]
    seen = shown_to(learner)
    trained = []
    for epoch in range(3):
        for batch in batches:
            seen.clear()
            learner.learn(Batch(batch.labels, batch.features, batch.images, epoch == 0))
            # In the first epoch a batch is joined with its own exemplars as well.
            trained.append({row.numpy().tobytes() for row in seen[0]} if seen else set())
    held = torch.cat([features for features, _ in learner.exemplars.validation(64)])
    assert len(held) == 2
    # The last ones held out have never passed, the others are in all epochs.
    for row in held:
        assert all(row.numpy().tobytes() not in rows for rows in trained)
    shown = {row.numpy().tobytes() for batch in batches for row in batch.features}
    assert len(learner._held_out) >= 2
    assert len(shown & set().union(*trained[4:])) == 16 - len(learner._held_out)


# The rest.


@pytest.mark.parametrize("storage", ["image", "raw_feature"])
def test_goes_on_to_the_bit_from_the_middle_of_a_task(storage, tmp_path, monkeypatch):
    monkeypatch.setattr(persistence, "build_network", lambda *_: tiny_network(0.5))
    learner = second_task(dropout=0.5, storage=storage, memory_size=6)
    learn_task(learner, 2, 3, 2, 2, seed=30)
    learner.begin_task(["e"])
    learner.learn(batch_of(learner, 4, 2, 4, seed=60))
    learner.save(tmp_path / "saved")
    loaded: Any = persistence.load_learner(tmp_path / "saved")
    assert loaded._held_out == learner._held_out
    assert loaded._previous_correction == learner._previous_correction != NO_CORRECTION
    for one in (learner, loaded):
        one.learn(batch_of(one, 4, 2, 4, seed=60, first=False))
        learn_task(one, 4, 4, 2, seed=80)
        one.begin_task([f"class {n}" for n in range(20)])
        one.learn(batch_of(one, 5, 4))
    state = loaded.state_dict()
    for name, value in learner.state_dict().items():
        assert torch.equal(value, state[name]), name
    images = torch.cat([images_of(label, 2, 70) for label in range(5)])
    assert loaded.predict(images) == learner.predict(images)


def test_bytes_within_the_budget_and_all_else_counted():
    learner = learner_of(budget_bytes=5 * (192 + 4) + 10, exemplar_side=8, jpeg_quality=0)
    for labels in [(0, 1, 0, 1), (2, 3, 3)]:
        learner.begin_task(["abcd"[n] for n in labels])
        learner.learn(batch_of(learner, *labels))
        held = learner.bytes_held()
        assert held.replay + held.reading <= 5 * (192 + 4) + 10
        assert held.replay == learner.exemplars.memory.rows.nbytes
        learner.end_task(Task([batch_of(learner, 0)]))
    # The copy: batch norm 8 + 8 and the rows of four classes, float32; row numbers of four bytes;
    # labels and frames seen of four classes, four numbers and two of the correction.
    rows, held_out = len(learner.exemplars.memory.rows), len(learner._held_out)
    expected = 4 * (16 + 9 * 4) + 4 * rows + 8 * (2 * 4 + 4 + 2 + held_out)
    assert learner.bytes_held().extra == expected


def test_reads_no_task_twice():
    learner = learner_of()
    task = Task([batch_of(learner, 0, 1)])
    learner.learn(task.batches[0])
    learner.end_task(task)
    assert task.reads == 0
    assert not learner.needs_second_pass


def test_classes_without_room_have_no_exemplar():
    learner = learner_of(memory_size=1)
    learner.check_room(2)
    learner.learn(batch_of(learner, 0, 1, 1))
    assert learner.exemplars.memory.counts == {0: 1}


def test_a_task_of_old_classes_alone_is_learned():
    learner = learner_of(lr=0.1)
    learn_task(learner, 0, 1, 0, 1)
    learner.begin_task(["a", "b"])
    before = learner.network.head.weight.detach().clone()
    losses = learner.learn(batch_of(learner, 0, 1, seed=40))
    assert losses["classification"] > 0
    assert not torch.allclose(learner.network.head.weight, before)
    # Of two old classes one is shown: it counts as new.
    learner.end_task(Task([batch_of(learner, 0, 1, seed=40)]))
    learner.begin_task(["a", "b"])
    learner.learn(batch_of(learner, 1, seed=41))
    assert learner.previous.shown == {1}


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"bias_lr": 0.0}, "bias_lr"),
        ({"bias_lr": float("nan")}, "bias_lr"),
        ({"bias_steps": -1}, "bias_steps"),
        ({"storage": "feature"}, "storage='feature'"),
    ],
)
def test_impossible_settings(wrong: dict[str, Any], named: str):
    with pytest.raises(InputError, match=named):
        BicConfig(**wrong)
