"""Write policies where exemplars differ in length and the capacity is in bytes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from crumb.data.batches import Batch
from crumb.errors import InputError
from crumb.memory.capacity import CapacityConfig
from crumb.memory.encoded import EncodedMemory, as_bytes, as_rows
from crumb.memory.held_out import SplitExemplars, validating
from crumb.memory.herding import herd
from crumb.memory.images import ImageForm
from crumb.memory.policies import EndOfTask, OnArrival, Reservoir
from crumb.memory.replay import ReplayMemory
from crumb.memory.tasks import TaskExemplars

RUNS, FRAMES = 400, 40
CAPACITY = 130
"""For about ten exemplars of 13 bytes, those beside them included."""


def rows_of(numbers: list[int], seed: int) -> Tensor:
    """A row for each frame, with its number, of 4 to 12 bytes by chance."""
    sizes = torch.randint(3, 9, (1000,), generator=torch.Generator().manual_seed(seed)).tolist()
    return as_rows([bytes([n, *[1] * (sizes[n] - 2), 217]) for n in numbers])


class Encoded:
    """What looks to a memory like images: a frame is its number, which stands in its features."""

    row_shape, dtype, reader_bytes = None, torch.uint8, 0

    def __init__(self, seed: int) -> None:
        self.seed, self.form = seed, ImageForm(8, 8, 75)

    def encode(self, batch: Batch) -> Tensor:
        return rows_of(batch.features.flatten().int().tolist(), self.seed)

    def features(self, rows: Tensor) -> Tensor:
        return rows[:, :1].float()


class InBytes(CapacityConfig):
    """A configuration whose memory takes the rows above."""

    def memory(self, storage, device, fields=None) -> EncodedMemory:
        return EncodedMemory(CAPACITY, 8, 3, "a capacity", fields)


def memory_of(capacity: int = CAPACITY) -> EncodedMemory:
    return EncodedMemory(capacity, 8, 3, "a capacity")


def held(memory: ReplayMemory, label: int) -> list[int]:
    return [as_bytes(row)[0] for row in memory.class_rows(label)]


def frames(numbers: list[int], labels: list[int]) -> Batch:
    return Batch(torch.tensor(labels), torch.tensor(numbers).view(-1, 1, 1, 1).float())


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def reservoir(seed: int) -> list[int]:
    policy = Reservoir(memory_of(), seeded(seed))
    policy.offer(rows_of([*range(FRAMES)], seed), torch.zeros(FRAMES).long())
    return check(policy.memory, [0])


def on_arrival(seed: int) -> list[int]:
    """Of class 0, beside a class that is smaller until the end."""
    policy = OnArrival(memory_of(), seeded(seed))
    policy.offer(rows_of([*range(FRAMES)], seed), torch.zeros(FRAMES).long())
    policy.offer(rows_of([*range(60, 63)], seed), torch.ones(3).long())
    assert held(policy.memory, 1) == [60, 61, 62]
    return check(policy.memory, [0])


def of_task(seed: int) -> list[int]:
    exemplars = TaskExemplars(InBytes(), Encoded(seed), seeded(seed), "cpu")
    exemplars.offer(frames([*range(FRAMES)], [5] * FRAMES))
    exemplars.finish_task()
    exemplars.offer(frames([100, 101], [5, 6]))
    return check(exemplars.memory, [0])


def split(seed: int) -> list[int]:
    exemplars = SplitExemplars(InBytes(), Encoded(seed), seeded(seed), "cpu")
    for start in range(0, FRAMES, 10):
        exemplars.offer(frames([*range(start, start + 10)], [0] * 10), 1)
    return check(exemplars.memory, [0, validating(0)])


def end_of_task(seed: int) -> list[int]:
    policy = EndOfTask(memory_of(), seeded(seed))
    policy.begin(1, 1, FRAMES)
    assert policy.offer(rows_of([*range(FRAMES)], seed), torch.zeros(FRAMES).long())
    return check(policy.memory, [0])


def check(memory: ReplayMemory, labels: list[int]) -> list[int]:
    """The frames held; none twice, and not more than the capacity."""
    found = [number for label in labels for number in held(memory, label)]
    assert len({*found}) == len(found)
    assert memory.used <= memory.capacity
    assert memory.nbytes + memory.bookkeeping_bytes <= memory.capacity
    return found


@pytest.mark.parametrize("keep", [reservoir, on_arrival, of_task, split, end_of_task])
def test_every_frame_is_equally_likely_to_be_held(keep: Callable[[int], list[int]]):
    counts = np.zeros(FRAMES)
    for seed in range(RUNS):
        counts[keep(seed)] += 1
    share = counts.sum() / RUNS / FRAMES
    # Those of a tenth of the stream together; five standard deviations.
    tenths = counts.reshape(10, -1).sum(1)
    each = RUNS * FRAMES / 10
    assert np.abs(tenths - each * share).max() < 5 * np.sqrt(each * share)


@pytest.mark.parametrize("keep", [reservoir, on_arrival, split, end_of_task])
def test_the_room_is_used(keep: Callable[[int], list[int]]):
    """An exemplar takes 12 to 16 bytes."""
    sizes = [len(keep(seed)) for seed in range(50)]
    assert min(sizes) >= 3
    assert np.mean(sizes) >= 5


def test_classes_share_what_there_is_on_arrival():
    policy = OnArrival(memory_of(600), seeded(0))
    for label in range(4):
        numbers = [50 * label + n for n in range(50)]
        policy.offer(rows_of(numbers, 0), torch.full((50,), label))
        check(policy.memory, [*range(4)])
    counts = policy.memory.counts
    assert counts.keys() == {0, 1, 2, 3}
    assert max(counts.values()) - min(counts.values()) <= 2
    assert policy.memory.used > 600 - 2 * 17


def test_shares_are_bytes_at_the_end_of_a_task():
    policy = EndOfTask(memory_of(600), seeded(0))
    for task in range(3):
        policy.begin(task + 1, 1, 50)
        policy.offer(rows_of([*range(50 * task, 50 * task + 50)], 0), torch.full((50,), task))
        for label in range(task + 1):
            used = sum(policy.memory.costs(label))
            assert 600 // (task + 1) - 12 < used <= 600 // (task + 1)


def test_a_share_without_room_for_any_image():
    policy = EndOfTask(memory_of(23), seeded(0))
    policy.begin(2, 1, 9)
    with pytest.raises(InputError, match="a capacity: leaves no exemplar for each of 2 classes"):
        policy.offer(as_rows([b"\1" * 9] * 4), torch.tensor([0, 0, 1, 1]))


def test_an_image_that_is_larger_than_the_memory():
    policy = OnArrival(memory_of(30), seeded(0))
    with pytest.raises(InputError, match="a capacity: has no room for an image that takes 38"):
        policy.offer(as_rows([b"\1" * 30]), torch.tensor([0]))


def test_herding_goes_on_with_those_that_fit():
    features = torch.tensor([[0.0], [2.0], [4.0], [6.0]])
    # As without costs: 2, 4, 0. With room for two, the dear one is passed over.
    assert herd(features, 30, [10, 10, 10, 10]) == [1, 2, 0]
    assert herd(features, 25, [10, 30, 10, 10]) == [2, 0]
