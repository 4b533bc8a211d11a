"""REMIND: the first task, the quantiser, steps with exemplars, what is kept of tasks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from networks import TERMS, Task, images_of
from remind_learners import (
    PLAIN,
    batch_of,
    codes_held,
    counted_steps,
    learner_of,
    streaming,
)
from tests.rounding import rounded
from torch import Tensor
from torch.nn.functional import cross_entropy

from crumb.codebook.initialisers import initial_blocks
from crumb.data.batches import Batch
from crumb.methods.augmentation import beta, random_resized_crops
from crumb.methods.class_rates import ClassRates
from crumb.methods.remind import Remind
from crumb.testing.expecting import assert_same

# The first task.


def test_first_task_is_learned_from_the_features_with_rates_of_its_own():
    learner = learner_of(lr=0.5, base_lr=0.1, base_weight_decay=0.01, momentum=0.0)
    batch = batch_of(learner, 0, 1, 1)
    logits = learner.network(batch.features)[:, :2]
    loss = cross_entropy(logits, batch.labels)
    current = learner.parameters()
    gradients = torch.autograd.grad(loss, list(current.values()))
    expected = {
        name: theta.detach() - 0.1 * (gradient + 0.01 * theta.detach())
        for (name, theta), gradient in zip(current.items(), gradients, strict=True)
    }
    losses = learner.learn(batch)
    assert losses.keys() == {"direct"}
    assert losses["direct"].item() == rounded(loss.item(), terms=TERMS)
    for name, theta in learner.parameters().items():
        torch.testing.assert_close(theta.detach(), expected[name])
    assert len(learner.exemplars) == 0


def test_the_first_task_has_the_rate_of_the_others_and_a_decay_of_its_own():
    learner = learner_of(lr=0.25, weight_decay=0.125)
    group = learner.optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.25, 0.0001)
    assert learner.config.base_lr == 0.25
    assert streaming(weight_decay=0.125).optimizer.param_groups[0]["weight_decay"] == 0.125


def test_rate_of_the_paper_falls_with_the_images_of_each_class():
    rates = ClassRates(0.1, 0.001, 100, 1300)
    # 0.1 * 0.01^(k / 13): the thirteenth step of a hundred images is the last.
    by_hand = {0: 0.1, 99: 0.1, 100: 0.070170, 650: 0.011938, 1299: 0.0014251, 1300: 0.001}
    for seen, rate in (by_hand | {5000: 0.001}).items():
        rates.seen[3] = seen
        assert rates.rate(3) == pytest.approx(rate, rel=1e-4)
    assert rates.rate(2) == 0.1


def test_each_step_after_the_first_task_has_the_rate_of_its_class():
    learner = streaming(schedule="class", lr=0.1, final_lr=0.025, lr_step=1, images_per_class=2)
    used, descend = [], learner.descend

    def noted() -> None:
        used.append(learner.optimizer.param_groups[0]["lr"])
        descend()

    learner.descend = noted
    learner.learn(batch_of(learner, 2, 2, 3, 2, 0))
    # Images of the first task do not count: class 0 begins like a new one.
    assert used == [0.1, 0.05, 0.1, 0.025, 0.1]
    assert learner.bytes_held().extra - streaming(lr=0.1).bytes_held().extra == 3 * 16
    again = streaming(schedule="class", lr=0.1, final_lr=0.025, lr_step=1, images_per_class=2)
    again.load_state_dict(learner.state_dict())
    learner.config = replace(learner.config, images_per_step=2)
    for one in (learner, again):
        one.learn(batch_of(one, 3, 2))
    assert used[-1] == pytest.approx((0.05 + 0.025) / 2, rel=1e-12)
    assert again.rates is not None
    assert again.rates.seen == {2: 4, 3: 2, 0: 1}


def test_first_task_has_its_own_rate_with_a_schedule():
    learner = learner_of(schedule="class", lr=0.1, base_lr=0.03)
    learner.learn(batch_of(learner, 0, 1))
    assert learner.optimizer.param_groups[0]["lr"] == 0.03


@pytest.mark.parametrize(("size", "steps"), [(None, 1), (5, 1), (9, 1), (2, 3), (1, 5)])
def test_larger_batches_are_cut_into_steps(size: int | None, steps: int):
    learner, other = learner_of(base_batch_size=size), learner_of()
    taken = counted_steps(learner)
    batch = batch_of(learner, 0, 1, 1, 0, 1)
    learner.learn(batch)
    assert len(taken) == steps
    for start in range(0, 5, size or 5):
        part = slice(start, start + (size or 5))
        other.learn(Batch(batch.labels[part], batch.features[part]))
    assert_same(learner, other, "going on")


def test_a_stream_of_one_task_is_learned_and_scored_directly():
    learner = learner_of()
    learner.add_classes(["c"])
    for seed in range(3):
        losses = learner.learn(batch_of(learner, 0, 1, 2, seed=seed))
        assert losses.keys() == {"direct"}
    features = batch_of(learner, 0, 1, 2).features
    assert torch.equal(learner.scores(features), learner.network(features)[:, :3])
    assert not learner.quantiser.ready


# The end of the first task.


def test_first_task_fills_the_memory_with_codes_in_equal_shares():
    learner = learner_of(memory_size=7, momentum=0.9, lr=0.2, base_lr=0.1)
    batches = [batch_of(learner, 0, 0, 0, 1, seed=10 * seed) for seed in range(6)]
    for batch in batches:
        learner.learn(batch)
    assert learner.optimizer.state
    task = Task(batches)
    learner.end_task(task)
    assert task.reads == 2
    assert sorted(learner.exemplars.memory.counts.values()) == [3, 4]
    made = {
        (label, code.numpy().tobytes())
        for batch in batches
        for label, code in zip(
            batch.labels.tolist(), learner.quantiser.encode(batch.features), strict=True
        )
    }
    assert set(codes_held(learner)) <= made
    assert learner.exemplars.memory.rows.dtype == torch.uint8
    # The stream begins with its own rate and no momentum.
    assert not learner.optimizer.state
    assert learner.optimizer.param_groups[0]["lr"] == 0.2


def test_few_frames_are_all_kept_and_equal_shares_need_not_be():
    learner = streaming(memory_size=100, labels=(0, 0, 1))
    assert learner.exemplars.memory.counts == {0: 6, 1: 3}
    learner = streaming(memory_size=7, labels=(0, 0, 0, 0, 1))
    assert learner.exemplars.memory.counts == {0: 4, 1: 3}


def test_any_frame_of_the_first_task_may_be_kept():
    kept = set()
    for seed in range(30):
        learner = learner_of(seed, memory_size=2)
        batches = [batch_of(learner, 0, 0, seed=10 * i) for i in range(3)]
        learner.learn(batches[0])
        learner.end_task(Task(batches))
        codes = torch.cat([learner.quantiser.encode(batch.features) for batch in batches])
        held = {code for _, code in codes_held(learner)}
        kept |= {n for n, code in enumerate(codes) if code.numpy().tobytes() in held}
    assert kept == set(range(6))


def test_later_tasks_are_not_read_again():
    learner = streaming()
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    task = Task([batch_of(learner, 2, 3)])
    learner.end_task(task)
    assert task.reads == 0
    after = learner.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_quantiser_is_that_of_the_first_task_for_good():
    learner = streaming()
    centroids = learner.quantiser.centroids.clone()
    for seed in range(5):
        learner.learn(batch_of(learner, 2, 3, seed=seed))
    learner.end_task(Task([batch_of(learner, 2, 3)]))
    assert torch.equal(learner.quantiser.centroids, centroids)


def test_centroids_may_be_the_memory_blocks_of_crumb():
    learner = learner_of(pq_centroids_source="crumb", pq_codebooks=2, pq_centroids=8)
    batches = [batch_of(learner, 0, 1, seed=seed) for seed in range(2)]
    state = learner.generators["codebook"].get_state()
    learner.learn(batches[0])
    learner.end_task(Task(batches))
    generator = torch.Generator()
    generator.set_state(state)
    name = learner.network.backbone.initialiser
    blocks = initial_blocks(name, 8, 4, batches[0].features, generator)
    assert torch.equal(learner.quantiser.centroids, blocks.expand(2, 8, 4).half())
    assert len(learner.exemplars) == 4


# Steps with exemplars.


def expected_step(learner: Remind, codes: Tensor, labels: Tensor) -> tuple[float, float, Any]:
    """Both losses and the weights after the next step, computed frame by frame."""
    config, current = learner.config, learner.parameters()
    generator = torch.Generator()
    generator.set_state(learner.generators["replay"].get_state())
    wanted = config.rehearsal_samples_per_update
    drawn = 2 * wanted if config.mixup_alpha else wanted
    rows, theirs = learner.exemplars.memory.sample(drawn, generator)
    maps = learner.quantiser.decode(torch.cat([codes, rows]))
    if config.random_resized_crops:
        maps = random_resized_crops(maps, generator)
    new, stored = maps[: len(codes)], maps[len(codes) :]

    def entropy(one: Tensor, label: Any) -> Tensor:
        # Copied, as torch takes wrong gradients of batch norm by a row of channels-last memory
        # that was given its first dimension back by indexing.
        logits = learner.network(one[None].contiguous(memory_format=torch.contiguous_format))
        seen = logits[0, : len(learner.classes)]
        return seen.logsumexp(0) - seen[int(label)]

    first = [entropy(one, label) for one, label in zip(new, labels, strict=True)]
    if config.mixup_alpha:
        share = beta(config.mixup_alpha, generator)
        second = []
        for i in range(wanted):
            j = i + wanted
            one = share * stored[i] + (1 - share) * stored[j]
            second.append(share * entropy(one, theirs[i]) + (1 - share) * entropy(one, theirs[j]))
    else:
        second = [entropy(one, label) for one, label in zip(stored, theirs, strict=True)]
    assert len(second) == wanted
    loss = torch.stack(first + second).mean()
    gradients = torch.autograd.grad(loss, list(current.values()))
    after = {
        name: theta.detach() - config.lr * (gradient + config.weight_decay * theta.detach())
        for (name, theta), gradient in zip(current.items(), gradients, strict=True)
    }
    return torch.stack(first).mean().item(), torch.stack(second).mean().item(), after


@pytest.mark.parametrize("crops", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 2.0])
@pytest.mark.parametrize("count", [1, 3])
def test_a_step_by_hand(crops: bool, alpha: float, count: int):
    learner = streaming(
        lr=0.1,
        momentum=0.0,
        weight_decay=0.01,
        mixup_alpha=alpha,
        random_resized_crops=crops,
        images_per_step=count,
        rehearsal_samples_per_update=5,
    )
    batch = batch_of(learner, *(2, 3, 2)[:count], seed=50)
    codes = learner.quantiser.encode(batch.features)
    quantised, replay, after = expected_step(learner, codes, batch.labels)
    losses = learner.learn(batch)
    assert losses["quantised"].item() == rounded(quantised, terms=TERMS, layers=2)
    assert losses["replay"].item() == rounded(replay, terms=TERMS, layers=2)
    for name, theta in learner.parameters().items():
        torch.testing.assert_close(theta.detach(), after[name])


def test_momentum_begins_anew_and_is_kept_between_steps():
    learner = streaming(momentum=0.9, **PLAIN)
    learner.learn(batch_of(learner, 2))
    state = learner.optimizer.state
    assert len(state) == len(learner.parameters())


@pytest.mark.parametrize(("size", "steps"), [(1, 5), (2, 3), (5, 1), (8, 1)])
def test_images_are_learned_in_order_so_many_at_a_time(size: int, steps: int):
    learner, other = (streaming(images_per_step=size) for _ in range(2))
    batch = batch_of(learner, 2, 3, 3, 2, 2, seed=70)
    taken = counted_steps(learner)
    losses = learner.learn(batch)
    assert len(taken) == steps
    each = []
    for start in range(0, 5, size):
        part = slice(start, start + size)
        each.append(other.learn(Batch(batch.labels[part], batch.features[part])))
    assert_same(learner, other, "going on")
    for name, value in losses.items():
        assert value.item() == rounded(sum(one[name].item() for one in each) / steps, terms=5)


def test_an_image_is_stored_after_its_step():
    learner = streaming(memory_size=100)
    sizes: list[dict[int, int]] = []
    descend = learner.descend
    learner.descend = lambda: (sizes.append(learner.exemplars.memory.counts), descend())[1]
    batch = batch_of(learner, 2, 3, 2, seed=80)
    learner.learn(batch)
    assert sizes == [{0: 6, 1: 6}, {0: 6, 1: 6, 2: 1}, {0: 6, 1: 6, 2: 1, 3: 1}]
    codes = learner.quantiser.encode(batch.features)
    assert torch.equal(learner.exemplars.memory.class_rows(2), codes[[0, 2]])
    assert torch.equal(learner.exemplars.memory.class_rows(3), codes[1:2])


def test_later_readings_store_nothing():
    learner = streaming(memory_size=100)
    held = codes_held(learner)
    learner.learn(batch_of(learner, 2, 3, first=False))
    assert codes_held(learner) == held


def test_a_full_memory_drops_an_exemplar_of_the_largest_class():
    learner = streaming(memory_size=8)
    memory = learner.exemplars.memory
    assert memory.counts == {0: 4, 1: 4}
    for seed, label in enumerate([2, 2, 2, 3, 3, 2, 2, 2, 2, 2, 0, 3]):
        before, held = memory.counts, codes_held(learner)
        batch = batch_of(learner, label, seed=seed)
        learner.learn(batch)
        new = (label, learner.quantiser.encode(batch.features)[0].numpy().tobytes())
        gone = [one for one in held if codes_held(learner).count(one) < held.count(one)]
        assert new in codes_held(learner)
        assert len(memory) == 8
        # At most one code is gone, of a class that was largest.
        assert len(set(gone)) <= 1
        after = {n: memory.count(n) - (n == label) for n in {*before, label}}
        victims = [n for n, count in before.items() if after[n] < count]
        assert len(victims) == 1
        assert before[victims[0]] == max(before.values())


def test_the_exemplar_that_is_dropped_is_a_random_one():
    lost = set()
    for seed in range(40):
        learner = streaming(seed=seed, memory_size=4, labels=(0, 0, 0, 0))
        learner.generators["memory"].manual_seed(seed)
        before = learner.exemplars.memory.class_rows(0).clone()
        assert len({row.numpy().tobytes() for row in before}) == 4
        learner.learn(batch_of(learner, 2, seed=90))
        left = {code for _, code in codes_held(learner)}
        lost |= {n for n, row in enumerate(before) if row.numpy().tobytes() not in left}
    assert lost == {0, 1, 2, 3}


def test_scores_are_of_reconstructions():
    learner = streaming()
    features = batch_of(learner, 0, 1, 2, 3).features
    rebuilt = learner.quantiser.decode(learner.quantiser.encode(features))
    assert not torch.allclose(rebuilt, features)
    with learner.evaluation():
        found = learner.scores(features)
        assert torch.equal(found, learner.network(rebuilt)[:, :4])
    assert learner.mem_scores(features) is None


def test_head_grows_in_the_middle_of_a_task():
    learner = streaming()
    for label in range(4, 40):
        learner.add_classes([f"thing {label}"])
        batch = Batch(torch.tensor([label]), batch_of(learner, label % 6, seed=label).features)
        assert all(loss.isfinite() for loss in learner.learn(batch).values())
    assert learner.network.outputs >= len(learner.classes) == 40
    assert len(learner.exemplars) == 8


def test_forgets_less_than_without_exemplars():
    right = {}
    for size in (1, 30):
        learner = learner_of(1, lr=0.05, memory_size=30, pq_centroids=32)
        batches = [batch_of(learner, *[0, 1] * 3, seed=10 * seed) for seed in range(20)]
        for batch in batches:
            learner.learn(batch)
        learner.end_task(Task(batches))
        if size == 1:
            learner.store = lambda codes, labels: None
            learner.exemplars.memory.keep(0, [0])
            learner.exemplars.memory.keep(1, [])
        learner.begin_task(["c", "d"])
        for seed in range(20):
            learner.learn(batch_of(learner, *[2, 3] * 3, seed=10 * seed))
        found = learner.predict(images_of(1, 40, 900))
        right[size] = found.count("b")
    assert right[30] >= 30 > 20 > right[1], right
