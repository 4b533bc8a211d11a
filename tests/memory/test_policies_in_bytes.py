"""Write policies where exemplars differ in length and the capacity is in bytes."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crumb.data.batches import Batch
from crumb.errors import InputError
from crumb.memory import policies, tasks
from crumb.memory.capacity import CapacityConfig
from crumb.memory.encoded import EncodedMemory, as_bytes, as_rows
from crumb.memory.end_of_task import EndOfTask
from crumb.memory.held_out import SplitExemplars, validating
from crumb.memory.herding import herd
from crumb.memory.images import ImageForm
from crumb.memory.payload import Field
from crumb.memory.policies import OnArrival, Reservoir
from crumb.memory.replay import ReplayMemory
from crumb.memory.tasks import TaskExemplars
from crumb.methods.gss import ScoredExemplars

RUNS, FRAMES = 400, 40
CAPACITY = 130
"""For about ten exemplars of 13 bytes, those beside them included."""
LABEL = Field((), torch.int32)


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

    def memory(self, storage, device, fields=None, counted=0) -> EncodedMemory:
        return EncodedMemory(CAPACITY, 8, 3, "a capacity", fields)


def memory_of(capacity: int = CAPACITY) -> EncodedMemory:
    return EncodedMemory(capacity, 8, 3, "a capacity")


def held(memory: ReplayMemory, label: int) -> list[int]:
    return [as_bytes(row)[0] for row in memory.class_rows(label)]


def frames(numbers: list[int], labels: list[int]) -> Batch:
    return Batch(torch.tensor(labels), torch.tensor(numbers).view(-1, 1, 1, 1).float())


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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


@pytest.mark.parametrize("keep", [on_arrival, split, end_of_task])
@pytest.mark.usefixtures("few")
def test_every_frame_is_equally_likely_to_be_held(keep: Callable[[int], list[int]]):
    counts = np.zeros(FRAMES)
    for seed in range(RUNS):
        counts[keep(seed)] += 1
    share = counts.sum() / RUNS / FRAMES
    # Those of a tenth of the stream together; five standard deviations.
    tenths = counts.reshape(10, -1).sum(1)
    each = RUNS * FRAMES / 10
    assert np.abs(tenths - each * share).max() < 5 * np.sqrt(each * share)


# What is held is the beginning of a random order of all frames.


SIZES = (4, 9, 5, 7, 3)
"""Of five frames, which cost 8 bytes more each; two to four of them fit into ``FEW`` bytes."""
FEW = 44

Keep = Callable[[EncodedMemory, Tensor], ReplayMemory]


def in_reservoir(memory: EncodedMemory, rows: Tensor) -> ReplayMemory:
    Reservoir(memory, seeded(0)).offer(rows, torch.zeros(len(rows)).long())
    return memory


def in_class(memory: EncodedMemory, rows: Tensor) -> ReplayMemory:
    OnArrival(memory, seeded(0)).offer(rows, torch.zeros(len(rows)).long())
    return memory


def in_task(memory: EncodedMemory, rows: Tensor) -> ReplayMemory:
    exemplars = TaskExemplars(InBytes(), Encoded(0), seeded(0), "cpu")
    exemplars.memory = EncodedMemory(memory.capacity, 8, 3, "", {"label": LABEL})
    exemplars.storage = Given(rows)
    exemplars.offer(frames([*range(len(rows))], [0] * len(rows)))
    return exemplars.memory


class Given(Encoded):
    """Rows that are given."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__(0)
        self.rows = rows

    def encode(self, batch: Batch) -> Tensor:
        return self.rows


def sized(sizes: Sequence[int]) -> Tensor:
    """Rows of these lengths, which begin with their number."""
    return as_rows([bytes([n, *[1] * (size - 2), 217]) for n, size in enumerate(sizes)])


def outcomes(monkeypatch, draw: Callable[[], frozenset[int]]) -> dict[frozenset[int], Fraction]:
    """What comes out with which probability, over all values of all draws."""
    found: dict[frozenset[int], Fraction] = defaultdict(Fraction)
    pending: list[tuple[int, ...]] = [()]
    while pending:
        values, limits = pending.pop(), []

        def below(limit: int, _: torch.Generator, values=values, limits=limits) -> int:
            limits.append(limit)
            return values[len(limits) - 1] if len(limits) <= len(values) else 0

        for module in (policies, tasks):
            monkeypatch.setattr(module, "random_below", below)
        found[draw()] += Fraction(1, math.prod(limits))
        for place in range(len(values), len(limits)):
            path = values + (0,) * (place - len(values))
            pending += [(*path, n) for n in range(1, limits[place])]
    return found


def beginning(order: Sequence[int]) -> frozenset[int]:
    """Those of an order that come before the first that does not fit."""
    ends = itertools.accumulate(SIZES[n] + 8 for n in order)
    return frozenset(n for n, end in zip(order, ends, strict=True) if end <= FEW)


@pytest.mark.parametrize("keep", [in_reservoir, in_class, in_task])
def test_frames_held_are_the_beginning_of_a_random_order(keep: Keep, monkeypatch):
    """Exactly: by all values of all draws, against all orders."""
    expected: dict[frozenset[int], Fraction] = defaultdict(Fraction)
    orders = [*itertools.permutations(range(len(SIZES)))]
    for order in orders:
        expected[beginning(order)] += Fraction(1, len(orders))

    def draw() -> frozenset[int]:
        memory = keep(memory_of(FEW), sized(SIZES))
        return frozenset(held(memory, 0))

    assert outcomes(monkeypatch, draw) == expected
    assert len({len(some) for some in expected}) > 1


# Room that is left over is used.


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(3, 40), st.integers(0, 3)), min_size=1, max_size=80),
    st.integers(60, 300),
    st.integers(0, 99),
)
@pytest.mark.parametrize("kind", [Reservoir, OnArrival])
def test_less_than_the_longest_is_free_once_a_frame_was_left_out(
    kind: type[Reservoir] | type[OnArrival],
    offered: list[tuple[int, int]],
    capacity: int,
    seed: int,
):
    policy = kind(memory_of(capacity), seeded(seed))
    for number, (size, label) in enumerate(offered, 1):
        policy.offer(sized([size]), torch.tensor([label]))
        memory = policy.memory
        assert memory.used <= capacity
        if len(memory) < number:
            assert memory.used > capacity - max(size for size, _ in offered[:number]) - 8


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(3, 40), st.floats(0.01, 1.99)), max_size=60))
def test_scored_exemplars_leave_less_than_the_longest_free(offered: list[tuple[int, float]]):
    exemplars = ScoredExemplars(InBytes(), Encoded(0), seeded(0), "cpu")
    for number, (size, score) in enumerate(offered, 1):
        exemplars.offer(sized([size])[0], 0, score)
        assert exemplars.memory.used <= CAPACITY
        if len(exemplars) < number:
            assert exemplars.memory.used > CAPACITY - 48


@pytest.mark.parametrize("keep", [of_task, split])
def test_less_than_the_longest_of_a_share_is_free(keep: Callable[[int], list[int]], monkeypatch):
    """A share is all that there is for the first class, and half of it after the first task."""
    used: list[int] = []
    monkeypatch.setitem(globals(), "check", lambda memory, labels: used.append(used_of(memory)))
    for seed in range(30):
        keep(seed)
    share = CAPACITY if keep is split else CAPACITY // 2
    assert max(used) <= share
    assert min(used) > share - 16


def used_of(memory: ReplayMemory) -> int:
    """Of the first task, or of the only class: what it is trained and validated on."""
    return sum(sum(memory.costs(label)) for label in {0, *memory.counts} if label <= 0)


def test_classes_share_what_there_is_on_arrival():
    policy = OnArrival(memory_of(600), seeded(0))
    for label in range(4):
        numbers = [50 * label + n for n in range(50)]
        policy.offer(rows_of(numbers, 0), torch.full((50,), label))
        check(policy.memory, [*range(4)])
    counts = policy.memory.counts
    assert counts.keys() == {0, 1, 2, 3}
    assert max(counts.values()) - min(counts.values()) <= 2
    assert policy.memory.used > 600 - 17


@pytest.mark.usefixtures("few")
def test_shares_are_bytes_at_the_end_of_a_task():
    policy = EndOfTask(memory_of(600), seeded(0))
    for task in range(3):
        policy.begin(task + 1, 1, 50)
        policy.offer(rows_of([*range(50 * task, 50 * task + 50)], 0), torch.full((50,), task))
        for label in range(task + 1):
            used = sum(policy.memory.costs(label))
            assert 600 // (task + 1) - 12 < used <= 600 // (task + 1)


@pytest.mark.usefixtures("few")
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
