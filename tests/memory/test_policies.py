from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crumb.errors import InputError
from crumb.memory.end_of_task import EndOfTask
from crumb.memory.policies import OnArrival, Reservoir, check_share
from crumb.memory.replay import ReplayMemory

CORE50 = (2, 1_200, 21)
TOYBOX = (2, 6_090, 21)
ILAB = (2, 5_040, 21)
CIFAR = (5, 2_500, 128)
CIFAR_SHARES = [500, 278, 185, 139, 111, 92, 79, 69, 61, 55, 50, 46, 42, 39, 37, 34, 32, 30, 29]
# Classes per task, images per task, batch; capacity; skip; exemplars of a class after each task.
# The first share of CIFAR is 556, but a class has only 500 images.
TABLE = [
    (CORE50, 417, 2, [208, 104, 69, 52]),
    (CORE50, 200, 5, [100, 50, 33, 25]),
    (TOYBOX, 417, 14, [208, 104, 69, 52, 41]),
    (TOYBOX, 200, 30, [100, 50, 33, 25, 20]),
    (ILAB, 417, 12, [208, 104, 69, 52, 41, 34]),
    (ILAB, 200, 25, [100, 50, 33, 25, 20, 16]),
    (CIFAR, 2_782, 1, CIFAR_SHARES),
]
IDS = [f"{task[1]} images, {capacity}" for task, capacity, _, _ in TABLE]


def end_of_task(capacity: int, seed: int = 0) -> EndOfTask:
    memory = ReplayMemory(capacity, (2,), torch.int32)
    return EndOfTask(memory, torch.Generator().manual_seed(seed))


def on_arrival(capacity: int, seed: int = 0) -> OnArrival:
    memory = ReplayMemory(capacity, (2,), torch.int32)
    return OnArrival(memory, torch.Generator().manual_seed(seed))


def reservoir(capacity: int, seed: int = 0) -> Reservoir:
    memory = ReplayMemory(capacity, (2,), torch.int32)
    return Reservoir(memory, torch.Generator().manual_seed(seed))


def frames(labels: Tensor, start: int = 0) -> Tensor:
    """One row per frame: its class and its place in the stream."""
    places = torch.arange(start, start + len(labels))
    return torch.stack([labels, places], 1).int()


def check_rows(memory: ReplayMemory) -> None:
    """Every exemplar is listed under its own class, and none twice."""
    assert len(memory) <= memory.capacity
    places = []
    for label in memory.counts:
        rows = memory.class_rows(label)
        assert (rows[:, 0] == label).all()
        places += rows[:, 1].tolist()
    assert len(places) == len(set(places)) == len(memory)


def serials(memory: ReplayMemory, label: int) -> list[int]:
    return memory.class_rows(label)[:, 1].tolist()


def write_task(writer: EndOfTask, task: int, size: tuple[int, int, int]) -> int:
    """Second reading of a task whose classes come in random order; the batches that were read."""
    classes, images, batch = size
    generator = torch.Generator().manual_seed(task)
    labels = torch.arange(task * classes, (task + 1) * classes).repeat(images // classes)
    labels = labels[torch.randperm(images, generator=generator)]
    pieces = list(zip(frames(labels, task * images).split(batch), labels.split(batch), strict=True))
    writer.begin((task + 1) * classes, len(pieces), batch)
    for number, (rows, label) in enumerate(pieces, 1):
        full = writer.offer(rows, label)
        assert len(writer.memory) <= writer.memory.capacity
        if full:
            return number
    return len(pieces)


@pytest.mark.parametrize(("size", "capacity", "skip", "shares"), TABLE, ids=IDS)
@pytest.mark.usefixtures("few")
def test_published_shares(size: tuple[int, int, int], capacity: int, skip: int, shares: list[int]):
    writer = end_of_task(capacity)
    for task, share in enumerate(shares):
        write_task(writer, task, size)
        classes = (task + 1) * size[0]
        assert writer.memory.counts == dict.fromkeys(range(classes), share)
    check_rows(writer.memory)


@pytest.mark.parametrize(("size", "capacity", "skip", "shares"), TABLE, ids=IDS)
def test_published_skips(size: tuple[int, int, int], capacity: int, skip: int, shares: list[int]):
    _, images, batch = size
    writer = end_of_task(capacity)
    writer.begin(1, -(-images // batch), batch)
    labels = torch.zeros(batch, dtype=torch.int64)
    writer.offer(frames(labels), labels)
    assert serials(writer.memory, 0) == list(range(0, batch, skip))


def test_skip_is_one_for_a_memory_larger_than_the_task():
    writer = end_of_task(278_342)
    writer.begin(100, 1_001, 128)
    labels = torch.zeros(128, dtype=torch.int64)
    writer.offer(frames(labels), labels)
    assert writer.memory.count(0) == 128


def test_positions_count_within_the_class_and_start_anew_in_each_batch():
    writer = end_of_task(100)
    writer.begin(classes=2, batches=31, batch_size=10)  # (31 - 1) * 10 // 100 = 3
    labels = torch.tensor([0, 1, 0, 0, 1, 0, 0, 1, 0, 1])
    #        of class 0:   0  .  1  2  .  3  4  .  5  .
    assert not writer.offer(frames(labels), labels)
    assert serials(writer.memory, 0) == [0, 5]
    assert serials(writer.memory, 1) == [1, 9]
    assert not writer.offer(frames(labels, 10), labels)
    assert serials(writer.memory, 0) == [0, 5, 10, 15]
    assert serials(writer.memory, 1) == [1, 9, 11, 19]


@pytest.mark.usefixtures("few")
def test_reading_stops_when_every_class_has_its_share():
    writer = end_of_task(10)
    writer.begin(classes=2, batches=5, batch_size=4)
    for number, batch in enumerate(([0, 0, 0, 1], [0, 0, 0, 1], [0, 1, 1, 1])):
        labels = torch.tensor(batch)
        full = writer.offer(frames(labels, 4 * number), labels)
        assert full == (number == 2)
    assert writer.memory.counts == {0: 5, 1: 5}


@pytest.mark.parametrize("size", [CORE50, CIFAR])
def test_end_of_a_task_may_never_be_read(size: tuple[int, int, int]):
    writer = end_of_task(417)
    batches = write_task(writer, 0, size)
    assert batches < -(-size[1] // size[2])
    newest = max(max(serials(writer.memory, label)) for label in writer.memory.counts)
    assert newest < batches * size[2]


@pytest.mark.usefixtures("few")
def test_thinning_keeps_every_item_equally_often():
    counts = torch.zeros(10)
    labels = torch.zeros(10, dtype=torch.int64)
    for seed in range(600):
        writer = end_of_task(4, seed)
        writer.begin(classes=1, batches=1, batch_size=10)
        assert writer.offer(frames(labels), labels)
        counts[serials(writer.memory, 0)] += 1
    assert counts.sum() == 2_400
    # Without replacement the deviation is below that of nine degrees of freedom.
    assert ((counts - 240).square() / 240).sum() < 27


@pytest.mark.usefixtures("few")
def test_old_classes_are_thinned_to_some_of_what_they_were():
    writer = end_of_task(40)
    write_task(writer, 0, (2, 200, 20))
    before = {label: set(serials(writer.memory, label)) for label in (0, 1)}
    write_task(writer, 1, (2, 200, 20))
    for label in (0, 1):
        assert set(serials(writer.memory, label)) < before[label]
    check_rows(writer.memory)


def test_each_class_is_thinned_once_and_then_only_if_it_is_shown():
    writer = end_of_task(6_000)
    for label in (0, 1):
        writer.memory.add(label, frames(torch.full((3_000,), label), 3_000 * label))
    writer.begin(classes=3, batches=9, batch_size=10)
    labels = torch.full((10,), 2)
    writer.offer(frames(labels, 6_000), labels)
    assert writer.memory.counts == {0: 2_000, 1: 2_000, 2: 10}
    before = {label: serials(writer.memory, label) for label in (0, 1)}
    drawn = writer._generator.get_state()
    writer.offer(frames(labels, 6_010), labels)
    assert writer.memory.counts == {0: 2_000, 1: 2_000, 2: 20}
    assert {label: serials(writer.memory, label) for label in (0, 1)} == before
    assert torch.equal(writer._generator.get_state(), drawn)
    labels[:5] = 0
    writer.offer(frames(labels, 6_020), labels)
    assert writer.memory.counts == {0: 2_000, 1: 2_000, 2: 25}
    assert serials(writer.memory, 1) == before[1]
    assert len({*before[0]} - {*serials(writer.memory, 0)}) <= 5


def test_writing_follows_the_generator():
    memories = []
    for seed in (0, 0, 1):
        writer = end_of_task(30, seed)
        for task in range(3):
            write_task(writer, task, (2, 100, 10))
        memories.append(writer.memory.state_dict()["rows"])
    assert torch.equal(memories[0], memories[1])
    assert not torch.equal(memories[0], memories[2])


@given(
    st.integers(6, 40),
    st.lists(
        st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=12), max_size=4), max_size=4
    ),
)
def test_never_more_than_the_capacity_or_the_share(capacity: int, tasks: list[list[list[int]]]):
    writer, start = end_of_task(capacity), 0
    for number, batches in enumerate(tasks, 1):
        classes = min(6, 2 * number)
        writer.begin(classes, len(batches), 12)
        for batch in batches:
            labels = torch.tensor(batch) % classes
            full = writer.offer(frames(labels, start), labels)
            start += len(batch)
            counts = writer.memory.counts
            assert all(count <= capacity // classes for count in counts.values())
            assert full == (counts == dict.fromkeys(range(classes), capacity // classes))
            check_rows(writer.memory)


def test_fewer_exemplars_than_classes():
    with pytest.raises(InputError, match="memory_size=3: .* 4 classes; .*at least 4"):
        end_of_task(3).begin(4, 10, 10)
    check_share(4, 4)


def stream(policy: OnArrival | Reservoir, labels: list[int], batch: int = 7) -> None:
    whole = torch.tensor(labels)
    for rows, piece in zip(frames(whole).split(batch), whole.split(batch), strict=True):
        policy.offer(rows, piece)


@given(st.integers(1, 25), st.lists(st.integers(0, 4), max_size=80), st.integers(1, 9))
def test_on_arrival_uses_the_whole_capacity(capacity: int, labels: list[int], batch: int):
    policy = on_arrival(capacity)
    for start in range(0, len(labels), batch):
        piece = torch.tensor(labels[start : start + batch])
        policy.offer(frames(piece, start), piece)
        assert len(policy.memory) == min(capacity, start + len(piece))
        check_rows(policy.memory)


@given(st.integers(2, 30), st.integers(1, 6), st.integers(0, 20), st.integers(0, 99))
def test_on_arrival_balances_a_stream_of_one_class_after_the_other(
    capacity: int, classes: int, more: int, seed: int
):
    policy = on_arrival(capacity, seed)
    classes = min(classes, capacity)
    stream(policy, [label for label in range(classes) for _ in range(capacity + more)])
    counts = policy.memory.counts
    assert len(counts) == classes
    assert max(counts.values()) - min(counts.values()) <= 1
    assert sum(counts.values()) == capacity


@pytest.mark.parametrize("seed", range(3))
def test_on_arrival_keeps_all_of_a_rare_class(seed: int):
    policy = on_arrival(20, seed)
    stream(policy, [0] * 100 + [1] * 3 + [2] * 100)
    assert policy.memory.counts[1] == 3
    assert serials(policy.memory, 1) == [100, 101, 102]


def test_on_arrival_does_not_depend_on_the_batches():
    labels = [0] * 30 + [1] * 20 + [0, 1, 2] * 10
    memories = []
    for batch in (1, 7, 80):
        policy = on_arrival(10)
        stream(policy, labels, batch)
        memories.append(policy.memory.state_dict()["rows"])
    assert torch.equal(memories[0], memories[1])
    assert torch.equal(memories[0], memories[2])


def test_on_arrival_includes_every_frame_of_a_class_equally_often():
    counts = torch.zeros(60)
    runs = 400
    for seed in range(runs):
        policy = on_arrival(6, seed)
        stream(policy, [0] * 20 + [1] * 20 + [0] * 10 + [1] * 10)
        assert policy.memory.counts == {0: 3, 1: 3}
        for label in (0, 1):
            counts[serials(policy.memory, label)] += 1
    # Each class has 30 frames and 3 exemplars, so each frame is kept in a tenth of the runs.
    for places in ([*range(20), *range(40, 50)], [*range(20, 40), *range(50, 60)]):
        found, expected = counts[places], runs / 10
        assert found.sum() == 30 * expected
        # 29 degrees of freedom: 60 has a chance of 0.0006.
        assert ((found - expected).square() / expected).sum() < 60


def restarted(policy: OnArrival) -> OnArrival:
    generator = torch.Generator()
    again = OnArrival(ReplayMemory(policy.memory.capacity, (2,), torch.int32), generator)
    again.load_state_dict(policy.state_dict())
    again.memory.load_state_dict(policy.memory.state_dict())
    generator.set_state(policy._generator.get_state())
    return again


def assert_goes_on_after_a_restart(before: list[int], after: list[int], capacity: int) -> None:
    first = on_arrival(capacity)
    stream(first, before)
    again = restarted(first)
    rest = torch.tensor(after)
    for policy in (first, again):
        policy.offer(frames(rest, len(before)), rest)
    for mine, theirs in (
        (first.state_dict(), again.state_dict()),
        (first.memory.state_dict(), again.memory.state_dict()),
    ):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=60), st.integers(1, 59))
def test_on_arrival_goes_on_after_a_restart(labels: list[int], cut: int):
    cut = min(cut, len(labels) - 1)
    assert_goes_on_after_a_restart(labels[:cut], labels[cut:], 8)


def test_on_arrival_remembers_who_was_largest_after_a_restart():
    assert_goes_on_after_a_restart([0] * 50 + [1] * 50, [0, 1, 1], 3)


@pytest.mark.parametrize("seed", range(5))
def test_on_arrival_leaves_the_shares_of_classes_that_had_theirs(seed: int):
    policy = on_arrival(3, seed)
    stream(policy, [0] * 50 + [1] * 50)
    before = policy.memory.counts
    assert sorted(before.values()) == [1, 2]
    for label in [0, 1] * 20:
        policy.offer(frames(torch.tensor([label]), 100), torch.tensor([label]))
        assert policy.memory.counts == before


def test_on_arrival_follows_the_generator():
    memories = []
    for seed in (0, 0, 1):
        policy = on_arrival(5, seed)
        before = torch.get_rng_state()
        stream(policy, [0, 1] * 40)
        assert torch.equal(torch.get_rng_state(), before)
        memories.append(policy.memory.state_dict()["rows"])
    assert torch.equal(memories[0], memories[1])
    assert not torch.equal(memories[0], memories[2])


@given(st.integers(1, 25), st.lists(st.integers(0, 4), max_size=80), st.integers(1, 9))
def test_reservoir_uses_the_whole_capacity(capacity: int, labels: list[int], batch: int):
    policy = reservoir(capacity)
    for start in range(0, len(labels), batch):
        piece = torch.tensor(labels[start : start + batch])
        policy.offer(frames(piece, start), piece)
        assert len(policy.memory) == min(capacity, start + len(piece))
        check_rows(policy.memory)


def test_reservoir_holds_every_frame_of_any_class_equally_often():
    counts, runs = torch.zeros(60), 600
    for seed in range(runs):
        policy = reservoir(6, seed)
        # Classes one after the other, of very different size.
        stream(policy, [0] * 40 + [1] * 3 + [2] * 17)
        for label in policy.memory.counts:
            counts[serials(policy.memory, label)] += 1
    assert counts.sum() == 6 * runs
    expected = runs / 10
    # 59 degrees of freedom: 99 has a chance of 0.0009.
    assert ((counts - expected).square() / expected).sum() < 99


def test_reservoir_does_not_depend_on_the_batches():
    labels = [0] * 30 + [1] * 20 + [0, 1, 2] * 10
    memories = []
    for batch in (1, 7, 80):
        policy = reservoir(10)
        stream(policy, labels, batch)
        memories.append(policy.memory.state_dict()["rows"])
    assert torch.equal(memories[0], memories[1])
    assert torch.equal(memories[0], memories[2])


def after_a_restart(before: Reservoir, after: Reservoir, labels: Tensor) -> list[Tensor]:
    """Both offered the same from where ``before`` stands."""
    after.memory.load_state_dict(before.memory.state_dict())
    after.load_state_dict(before.state_dict())
    after._generator.set_state(before._generator.get_state())
    for policy in (before, after):
        policy.offer(frames(labels, 1_000), labels)
    return [policy.memory.state_dict()["rows"] for policy in (before, after)]


def test_reservoir_goes_on_after_a_restart():
    policy = reservoir(8)
    stream(policy, [0, 1, 2] * 20)
    one, other = after_a_restart(policy, reservoir(8), torch.tensor([3] * 40))
    assert torch.equal(one, other)
    assert (one[:, 0] == 3).any()


def test_exemplars_of_another_policy_count_as_all_that_was_offered():
    balanced, policy = on_arrival(4), reservoir(4)
    stream(balanced, [0] * 1_000)
    policy.memory.load_state_dict(balanced.memory.state_dict())
    policy.load_state_dict(balanced.state_dict())
    stream(policy, [1] * 4)
    assert policy.state_dict()["offered"] == 8
