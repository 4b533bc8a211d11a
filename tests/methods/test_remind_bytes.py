"""REMIND: bytes, what is saved and loaded, settings."""

from __future__ import annotations

from typing import Any

import pytest
from networks import Task, tiny_network
from remind_learners import CODE, batch_of, learner_of

from crumb.errors import InputError
from crumb.methods import persistence
from crumb.methods.remind import Remind, RemindConfig
from crumb.testing.expecting import assert_same

# Bytes.


@pytest.mark.parametrize("flag", ["memory_bytes", "budget_bytes"])
def test_bytes_are_kept_at_every_step(flag: str):
    reading = 2 * 8 * 8
    budget = 5 * CODE + 2 if flag == "memory_bytes" else reading + 5 * (CODE + 4) + 2
    learner = learner_of(**{flag: budget})
    assert learner.exemplars.memory.capacity == 5

    def check():
        held = learner.bytes_held()
        assert held.replay == learner.exemplars.memory.rows.nbytes
        assert learner.quantiser.centroids.nbytes == reading
        bookkeeping = learner.exemplars.memory.bookkeeping_bytes
        assert held.extra == held.reading == bookkeeping + reading
        counted = held.replay if flag == "memory_bytes" else held.replay + held.reading
        assert counted <= budget

    read = [batch_of(learner, 0, 1, 0, 0, seed=10 * seed) for seed in range(4)]
    for batch in read:
        learner.learn(batch)
        check()
    learner.end_task(Task(read))
    check()
    assert len(learner.exemplars) == 5
    learner.begin_task(["c", "d"])
    for seed in range(8):
        learner.learn(batch_of(learner, 2, 3, seed=seed))
        check()


def test_default_memory_and_quantiser_are_the_papers():
    network = tiny_network()
    network.feature_shape = (512, 13, 13)
    learner = Remind(network, RemindConfig())
    config = learner.config
    assert (config.memory_size, config.pq_codebooks, config.pq_centroids) == (417, 32, 256)
    assert (config.rehearsal_samples_per_update, config.images_per_step) == (50, 1)
    assert learner.exemplars.storage.row_shape == (5_408,)
    assert learner.bytes_held().extra == learner.quantiser.nbytes == 262_144
    assert (config.weight_decay, config.base_weight_decay) == (1e-5, 1e-4)


@pytest.mark.parametrize(
    ("budget", "centroids"),
    [
        (1 << 40, 256),
        (2 * 262_144, 256),
        (2 * 262_144 - 1, 128),
        (2 * 131_072, 128),
        (150_000, 64),
        (4_096, 2),
        (2_500, 2),
    ],
)
def test_under_a_budget_the_quantiser_takes_at_most_half(budget: int, centroids: int):
    config = RemindConfig(budget_bytes=budget).resolved(512)
    assert config.pq_centroids == centroids
    assert config.memory_size is None
    assert RemindConfig(budget_bytes=budget, pq_centroids=200).resolved(512).pq_centroids == 200
    assert RemindConfig(memory_bytes=budget).resolved(512).pq_centroids == 256
    # What was resolved stays as it is.
    assert config.resolved(512) == config


@pytest.mark.parametrize(
    ("channels", "codebooks"), [(512, 32), (64, 4), (192, 12), (8, 1), (31, 1), (88, 4), (40, 2)]
)
def test_sub_vectors_are_of_16_channels_or_a_little_more(channels: int, codebooks: int):
    assert RemindConfig().resolved(channels).pq_codebooks == codebooks
    assert RemindConfig(pq_codebooks=1).resolved(channels).pq_codebooks == 1


def test_a_budget_for_not_even_one_code():
    with pytest.raises(InputError, match=r"budget_bytes=20: .*6 bytes and the 32 bytes.*38"):
        Remind(tiny_network(), RemindConfig(budget_bytes=20, pq_codebooks=4))


# Saved and loaded.


@pytest.mark.parametrize("batches_before", [2, 5, 7])
def test_saved_in_the_middle_of_a_task_it_goes_on_to_the_bit(
    batches_before: int, tmp_path, monkeypatch
):
    monkeypatch.setattr(persistence, "build_network", lambda *_: tiny_network(0.3))

    def go_on(learner: Any, start: int, stop: int) -> Any:
        tasks = [(0, 1), (2, 3), (0, 4)]
        for number in range(start, stop):
            task = tasks[number // 4]
            read = [batch_of(learner, *task, *task, seed=40 * (number // 4) + i) for i in range(4)]
            if number % 4 == 0:
                learner.begin_task([f"class {label}" for label in task])
            learner.learn(read[number % 4])
            if number % 4 == 3:
                learner.end_task(Task(read))
        return learner

    def fresh() -> Remind:
        config = RemindConfig(memory_size=5, pq_codebooks=2, pq_centroids=4, base_lr=0.05)
        learner = Remind(tiny_network(0.3), config, 3)
        # Labels of the batches are those of five classes in order.
        learner.add_classes([f"class {label}" for label in range(5)])
        return learner

    undisturbed = go_on(fresh(), 0, 12)
    go_on(half := fresh(), 0, batches_before).save(tmp_path / "half")
    loaded = persistence.load_learner(tmp_path / "half")
    assert_same(loaded, half, "going on")
    rates = [learner.optimizer.param_groups[0]["lr"] for learner in (loaded, half)]
    assert rates[0] == rates[1] == (0.05 if batches_before < 4 else 0.001)
    assert_same(go_on(loaded, batches_before, 12), undisturbed, "going on")


def test_back_in_the_first_task_it_has_no_quantiser_and_the_first_rates():
    learner = learner_of(base_lr=0.5)
    batches = [batch_of(learner, 0, 1)]
    learner.learn(batches[0])
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    learner.end_task(Task(batches))
    learner.load_state_dict(before)
    assert not learner.quantiser.ready
    assert learner.optimizer.param_groups[0]["lr"] == 0.5
    assert learner.learn(batches[0]).keys() == {"direct"}


@pytest.mark.parametrize(
    ("setting", "value", "range_"),
    [
        ("base_lr", 0.0, "above 0"),
        ("base_lr", float("nan"), "above 0"),
        ("base_weight_decay", -1.0, "at least 0"),
        ("base_batch_size", 0, "from 1 to 65536"),
        ("images_per_step", 0, "from 1 to 65536"),
        ("rehearsal_samples_per_update", 0, "from 1 to 65536"),
        ("mixup_alpha", -0.1, "from 1e-6 to 1e6, or 0"),
        ("mixup_alpha", 1e-9, "from 1e-6 to 1e6, or 0"),
        ("mixup_alpha", float("inf"), "from 1e-6 to 1e6, or 0"),
        ("pq_codebooks", 0, "from 1 to 65536"),
        ("pq_centroids", 1, "from 2 to 256"),
        ("pq_centroids", 257, "from 2 to 256"),
        ("lr", 0.0, "above 0"),
        ("memory_size", 0, "from 1"),
        ("lr_step", 0, "from 1"),
        ("images_per_class", 0, "from 1"),
        ("final_lr", 0.0, "above 0"),
    ],
)
def test_impossible_settings(setting: str, value: Any, range_: str):
    with pytest.raises(InputError, match=f"^{setting}=.*{range_}"):
        RemindConfig(**{setting: value})


@pytest.mark.parametrize(
    "settings", [{"storage": "image"}, {"pq_centroids_source": "random"}, {"schedule": "cos"}]
)
def test_there_are_no_other_choices(settings: dict[str, Any]):
    with pytest.raises(InputError, match="is not a valid choice"):
        RemindConfig(**settings)


def test_a_rate_falls_to_a_smaller_one():
    with pytest.raises(InputError, match=r"^final_lr=0.1: is above lr=0.05"):
        RemindConfig(lr=0.05, final_lr=0.1, schedule="class")
    assert RemindConfig(lr=0.05, final_lr=0.01, schedule="class").least_lr == 0.01


def test_sub_vectors_must_divide_the_channels():
    with pytest.raises(InputError, match="pq_codebooks=3: does not divide the 8 channels"):
        learner_of(pq_codebooks=3)
