"""CRUMB's update rule, number by number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from networks import TERMS, Task, batch_of, images_of, tiny_network
from steps import VISIBLE, ByHand
from tests.rounding import rounded
from torch.nn.functional import cross_entropy

from crumb.data.batches import Batch
from crumb.errors import InputError
from crumb.methods import persistence
from crumb.methods.crumb import Crumb, CrumbConfig
from crumb.methods.registry import create


def learner_of(**settings) -> Any:
    if settings.get("storage") not in ("merec", "none"):
        settings |= {"memory_size": 8}
    learner = Crumb(tiny_network(), CrumbConfig(**settings))
    learner.start_head(4)
    learner.begin_task(["a", "b", "c", "d"])
    return learner


def test_two_steps_by_hand():
    learner = learner_of(**VISIBLE, clip=0.2)
    batch = batch_of(learner, 0, 1, 2)
    learner.statistics(batch)
    codes, clipped = learner.codebook.encode(batch.features), 0
    by_hand = ByHand(learner, clip=0.2)
    for _ in range(2):
        loss = cross_entropy(learner.network(learner.codebook.decode(codes))[:, :4], batch.labels)
        gradients = torch.autograd.grad(loss, list(learner.parameters().values()))
        clipped += sum(int((gradient.abs() > 0.2).sum()) for gradient in gradients)
        by_hand.step(gradients)
        losses = learner.learn(batch)
        assert losses["codebook"].item() == rounded(loss.item(), terms=TERMS)
    by_hand.check()
    assert clipped


@pytest.mark.parametrize(
    ("settings", "terms"),
    [
        ({}, {"codebook": 1}),
        ({"direct_loss": 1.0}, {"codebook": 1, "direct": 1}),
        ({"codebook_loss": 0.0, "direct_loss": 1.0}, {"direct": 1}),
        ({"storage": "none"}, {"codebook": 1}),
        ({"storage": "image"}, {"direct": 1}),
        ({"storage": "raw_feature"}, {"direct": 1}),
        ({"storage": "merec"}, {"direct": 1}),
    ],
)
def test_losses_are_the_intended_ones(settings, terms):
    learner = learner_of(**settings)
    batch = batch_of(learner, 0, 1, 2, 3)
    if learner.codebook is not None:
        learner.statistics(batch)
    seen = []
    step = learner.step
    learner.step = lambda loss: (seen.append(loss.item()), step(loss))
    losses = learner.learn(batch)
    assert losses.keys() == terms.keys()
    assert seen == [rounded(sum(terms[name] * losses[name].item() for name in terms), terms=2)]


def test_only_the_passes_that_a_loss_needs():
    learner = learner_of()
    calls = []
    forward = learner.network.tail.forward
    learner.network.tail.forward = lambda features: (calls.append(1), forward(features))[1]
    learner.learn(batch_of(learner, 0, 1))
    assert len(calls) == 1


def stored(learner, **counts):
    """Exemplars that are told apart by their first index."""
    batch = batch_of(learner, 0)
    learner.statistics(batch)
    code = learner.codebook.encode(batch.features)
    for label, count in counts.items():
        rows = code.repeat(count, 1)
        rows[:, 0] = int(label[1:])
        learner.exemplars.memory.add(int(label[1:]), rows)
    return learner


@pytest.mark.parametrize(
    ("counts", "labels", "drawn"),
    [
        # q = 2 absent classes, T = ceil(5 / 2) = 3 times each.
        ({"_0": 1, "_1": 2, "_2": 3}, (2, 2, 2, 2, 2), [0, 1] * 3),
        # Classes in the batch are not replayed, nor those without exemplars.
        ({"_0": 1, "_2": 2}, (0, 3), [2] * 2),
        # More absent classes than images: once each.
        ({"_0": 1, "_1": 1, "_2": 1}, (3,), [0, 1, 2]),
        # Nothing to replay.
        ({"_0": 2}, (0, 0), None),
        ({}, (0, 1), None),
    ],
)
def test_replayed_classes(counts, labels, drawn):
    learner = stored(learner_of(), **counts)
    asked = []
    draw = learner.exemplars.memory.draw
    learner.exemplars.memory.draw = lambda wanted, g: (asked.append(list(wanted)), draw(wanted, g))[
        1
    ]
    losses = learner.learn(batch_of(learner, *labels))
    assert asked == ([] if drawn is None else [drawn])
    assert ("replay" in losses) == (drawn is not None)


def test_replay_step_is_its_own_and_weighted():
    learner = stored(learner_of(replay_coefficient=5.0, replay_times=3), _0=1)
    seen = []
    step = learner.step
    learner.step = lambda loss: (seen.append(loss.item()), step(loss))
    losses = learner.learn(batch_of(learner, 2, 3))
    assert len(seen) == 4
    assert seen[-1] == rounded(5 * losses["replay"].item(), terms=1)


def test_replay_reads_old_indices_with_present_blocks():
    learner = stored(learner_of(), _1=1)
    row = learner.exemplars.memory.class_rows(1)
    with torch.no_grad():
        learner.codebook.blocks.mul_(2)
    expected = learner.codebook.blocks[row.long()].view(1, 2, 2, 8).permute(0, 3, 1, 2)
    assert torch.equal(learner.exemplars.storage.features(row), expected)


def test_memory_is_written_at_the_end_of_a_task_in_equal_shares():
    learner = learner_of()
    batches = [batch_of(learner, 0, 0, 1, 1, seed=s) for s in range(6)]
    learner.learn(batches[0])
    assert len(learner.exemplars.memory) == 0
    learner.end_task(Task(batches))
    # Four classes met, room for 8: two exemplars each, and none of classes without frames.
    assert learner.exemplars.memory.counts == {0: 2, 1: 2}


def test_later_readings_store_nothing_on_arrival():
    learner = learner_of(write_policy="on-arrival")
    batch = batch_of(learner, 0, 1)
    learner.learn(batch)
    learner.learn(Batch(batch.labels, batch.features, batch.images, first_pass=False))
    assert learner.exemplars.memory.counts == {0: 1, 1: 1}


def test_417_squeezenet_exemplars_hold_2255136_bytes_of_indices():
    learner: Any = create("crumb", backbone="squeezenet1_0", weights="random", memory_size=417)
    learner.add_classes("abcde")
    features = torch.rand(21, 512, 13, 13)
    labels = torch.arange(21) % 5
    learner.learn(Batch(labels, features))
    while len(learner.exemplars.memory) < 417:
        learner.exemplars.policy.offer(
            learner.exemplars.storage.encode(Batch(labels, features)), labels
        )
    assert learner.exemplars.memory.rows.dtype == torch.uint8
    assert learner.exemplars.memory.rows.shape == (417, 5_408)
    assert learner.exemplars.memory.rows.nbytes == learner.bytes_held().replay == 2_255_136


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"memory_size": 0}, "memory_size"),
        ({"memory_size": 5, "memory_bytes": 500}, "memory_size"),
        ({"memory_bytes": 0}, "memory_bytes"),
        ({"storage": "merec", "memory_bytes": 500}, "storage='merec'"),
        ({"storage": "none", "memory_size": 5}, "storage='none'"),
        ({"storage": "pixels"}, "storage='pixels'"),
        ({"write_policy": "never"}, "write_policy='never'"),
        ({"blocks": 0}, "blocks"),
        ({"blocks": 65_537}, "blocks"),
        ({"lr": float("nan")}, "lr"),
        ({"lr": float("inf")}, "lr"),
        ({"momentum": 1.0}, "momentum"),
        ({"clip": 0.0}, "clip"),
        ({"replay_coefficient": -1.0}, "replay_coefficient"),
        ({"codebook_loss": 0.0}, "codebook_loss"),
    ],
)
def test_impossible_settings(settings, named):
    with pytest.raises(InputError, match=named):
        CrumbConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"block_length": 3}, "block_length=3"),
        ({"initialiser": "magic"}, "initialiser='magic'"),
        ({"memory_bytes": 7}, "memory_bytes=7"),
    ],
)
def test_settings_that_do_not_fit_the_network(settings, named):
    with pytest.raises(InputError, match=named):
        Crumb(tiny_network(), CrumbConfig(**settings))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"device": "cuda:99"}, "device='cuda:99'"),
        ({"seed": -1}, "seed=-1"),
        ({"memory_bytes": "1"}, "memory_bytes='1'"),
        ({"memory": 3}, "memory: is not a setting"),
        ({"method": "nope"}, "method='nope'"),
    ],
)
def test_create_refuses_what_cannot_be(settings, named):
    with pytest.raises(InputError, match=named):
        create(**{"method": "crumb", "weights": "random", **settings})


def test_a_streamed_learner_goes_on_in_single_pass(tmp_path, monkeypatch):
    monkeypatch.setattr(persistence, "build_network", lambda *_: tiny_network())
    learner = stored(learner_of(), _0=3, _1=2)
    learner.save(tmp_path / "streamed")
    loaded: Any = persistence.load_learner(tmp_path / "streamed", write_policy="on-arrival")
    assert loaded.exemplars.memory.counts == {0: 3, 1: 2}
    loaded.observe(images_of(2, 20), "c")
    assert loaded.exemplars.memory.counts[2] > 0
    assert len(loaded.exemplars.memory) == 8
