"""LwF's loss by hand, and whose answers it keeps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from networks import TERMS, Task, images_of, tiny_network
from tests.rounding import rounded, tolerance
from torch.nn.functional import cross_entropy

from crumb.data.batches import Batch
from crumb.errors import InputError
from crumb.methods import persistence
from crumb.methods.lwf import Lwf, LwfConfig, distillation


def learner_of(dropout=0.0, **settings):
    learner = Lwf(tiny_network(dropout), LwfConfig(**settings))
    learner.begin_task(["a", "b"])
    return learner


def batch_of(learner, *labels, seed=0):
    pixels = torch.cat([images_of(label, 1, seed + i) for i, label in enumerate(labels)])
    return Batch(torch.tensor(labels), learner.network.features(pixels))


def second_task(learner):
    """The first task is learned; the network has moved on from it."""
    for seed in range(3):
        learner.learn(batch_of(learner, 0, 1, 0, seed=seed))
    learner.end_task([])
    learner.begin_task(["c", "d"])
    learner.learn(batch_of(learner, 2, 3, seed=9))
    return learner


def test_distillation_by_hand():
    # T = 2: softmax(0, ln 9) = (1/10, 9/10) is learned from, softmax(0, 0) = (1/2, 1/2) learns.
    targets = torch.tensor([[0.0, 2 * math.log(9)], [3.0, 3.0]])
    loss = distillation(torch.zeros(2, 2), targets, 2.0)
    divergence = 0.1 * math.log(0.1 / 0.5) + 0.9 * math.log(0.9 / 0.5)
    # Of logarithms up to ln 10, summed over two classes and two images.
    largest = 4 * math.log(10)
    assert loss.item() == rounded(4 * (divergence + 0) / 2, terms=4, magnitude=largest)
    assert distillation(targets, targets, 2.0).item() == rounded(0, terms=4, magnitude=largest)


def by_hand(new, old, labels, temperature):
    """Cross entropy over the new outputs and the tempered divergence, image by image."""

    def softmax(values):
        powers = np.exp(values - values.max())
        return powers / powers.sum()

    pairs, count = [], old.shape[1]
    for logits, before, label in zip(new, old, labels, strict=True):
        p = softmax(before / temperature)
        q = softmax(logits[:count] / temperature)
        new_outputs = softmax(logits[count:])
        pairs.append((-np.log(new_outputs[label - count]), (p * np.log(p / q)).sum()))
    entropy, divergence = np.mean(pairs, axis=0)
    return entropy, temperature**2 * divergence


def test_losses_and_the_step_by_hand():
    learner = second_task(learner_of(lr=0.1, distillation=3.0, temperature=1.5, momentum=0.0))
    with torch.no_grad():
        learner.network.head.weight[0] += 1
    batch = batch_of(learner, 2, 3, 2, seed=20)
    old = learner.previous.logits(batch.features)
    assert old.shape == (3, 2)
    logits = learner.network(batch.features)[:, :4]
    entropy, divergence = by_hand(
        logits.detach().double().numpy(), old.double().numpy(), batch.labels.tolist(), 1.5
    )
    loss = cross_entropy(logits[:, 2:], batch.labels - 2)
    loss = loss + 3 * distillation(logits[:, :2], old, 1.5)
    gradients = torch.autograd.grad(loss, list(learner.parameters().values()))
    before = {name: p.detach().clone() for name, p in learner.parameters().items()}
    losses = learner.learn(batch)
    largest = float(torch.cat([logits.detach(), old], 1).abs().max())
    assert losses["classification"].item() == rounded(entropy, TERMS, magnitude=largest)
    # Differences of logarithms, times the square of the temperature.
    allowed = tolerance(TERMS, 1.5**2 * largest)
    assert losses["distillation"].item() == pytest.approx(divergence, rel=0, abs=allowed)
    assert divergence > 20 * allowed
    for (name, p), gradient in zip(before.items(), gradients, strict=True):
        expected = p - 0.1 * (gradient + 1e-4 * p)
        torch.testing.assert_close(learner.parameters()[name].detach(), expected)


def test_new_images_say_nothing_of_classes_that_the_task_does_not_show():
    """Equation 1 is over the new task's outputs: no step of it moves those of the old ones."""
    learner = second_task(learner_of(distillation=0.0, weight_decay=0.0, momentum=0.0, lr=0.1))
    head = learner.network.head
    assert head.bias is not None
    before = head.weight.detach().clone(), head.bias.detach().clone()
    learner.learn(batch_of(learner, 2, 3, 2, seed=20))
    for old, new in zip(before, (head.weight.detach(), head.bias.detach()), strict=True):
        assert torch.equal(old[:2], new[:2])
        assert not torch.equal(old[2:4], new[2:4])


def test_a_class_that_comes_back_is_learned_from_its_labels_again():
    learner = second_task(learner_of(momentum=0.0))
    learner.learn(batch_of(learner, 1, 2, seed=20))
    # From now on, in batches that do not show it as well.
    batch = batch_of(learner, 2, 3, seed=30)
    logits = learner.network(batch.features)[:, [1, 2, 3]]
    expected = cross_entropy(logits, batch.labels - 1).item()
    assert learner.learn(batch)["classification"].item() == rounded(expected, terms=8, magnitude=4)
    # The next task begins without it.
    learner.end_task(Task([batch]))
    learner.begin_task(["e", "f"])
    batch = batch_of(learner, 4, 5, seed=40)
    logits = learner.network(batch.features)[:, [4, 5]]
    expected = cross_entropy(logits, batch.labels - 4).item()
    assert learner.learn(batch)["classification"].item() == rounded(expected, terms=8, magnitude=4)


def test_a_class_that_comes_back_is_not_distilled():
    learner = second_task(learner_of(momentum=0.0))
    learner.learn(batch_of(learner, 1, 2, seed=20))
    batch = batch_of(learner, 2, 3, seed=30)
    # Of the old classes one is left, and a softmax of one is always 1.
    assert learner.learn(batch)["distillation"].item() == 0
    learner.learn(batch_of(learner, 0, 2, seed=40))
    assert learner.learn(batch).keys() == {"classification"}


def test_no_distillation_in_the_first_task():
    learner = learner_of()
    assert learner.learn(batch_of(learner, 0, 1)).keys() == {"classification"}
    # Two labels that the task has shown, eight bytes each.
    assert learner.bytes_held().extra == 16


def test_the_copy_stays_while_the_network_moves_and_the_head_grows():
    learner = second_task(learner_of(dropout=0.5))
    features = batch_of(learner, 0, 1, 2).features
    before = learner.previous.logits(features)
    learner.add_classes([f"class {n}" for n in range(40)])
    for seed in range(5):
        learner.learn(batch_of(learner, 2, 3, seed=seed))
    assert torch.equal(learner.previous.logits(features), before)
    assert not torch.allclose(learner.network(features)[:, :2], before)
    assert learner.network.tail.training


def test_the_copy_is_the_network_of_the_end_of_the_last_task():
    learner = learner_of(dropout=0.5)
    for names in (["c"], ["d", "e"]):
        learner.learn(batch_of(learner, 0, 1))
        learner.end_task([])  # pyright: ignore[reportArgumentType]
        features = batch_of(learner, 0, 1, 2).features
        with learner.evaluation():
            torch.testing.assert_close(learner.previous.logits(features), learner.scores(features))
        learner.begin_task(names)


def test_bytes_are_those_of_the_copy():
    learner = second_task(learner_of())
    # Batch norm 8 + 8, of the head two rows of 8 and two biases, float32; two labels shown.
    assert learner.bytes_held().extra == 4 * (16 + 2 * 8 + 2) + 16
    assert learner.bytes_held().replay == 0


def test_goes_on_to_the_bit_from_the_middle_of_a_task(tmp_path, monkeypatch):
    monkeypatch.setattr(persistence, "build_network", lambda *_: tiny_network(0.5))
    learner = second_task(learner_of(dropout=0.5))
    learner.save(tmp_path / "saved")
    loaded = persistence.load_learner(tmp_path / "saved")
    for one in (learner, loaded):
        one.learn(batch_of(one, 3, 2, 2, seed=30))
    state = loaded.state_dict()
    assert any(name.startswith("previous.") for name in state)
    for name, value in learner.state_dict().items():
        assert torch.equal(value, state[name]), name


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"distillation": -1.0}, "distillation"),
        ({"distillation": float("inf")}, "distillation"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"lr": 0.0}, "lr"),
    ],
)
def test_impossible_settings(settings, named):
    with pytest.raises(InputError, match=named):
        LwfConfig(**settings)
