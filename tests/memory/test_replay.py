from __future__ import annotations

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from torch import Tensor

from crumb.errors import InputError
from crumb.memory.budget import capacity_in_bytes
from crumb.memory.replay import ReplayMemory

CAPACITY = 11


def rows_of(label: int, serials: range | list[int], dtype: torch.dtype = torch.int32) -> Tensor:
    """Rows that say which class and which frame they are."""
    return torch.tensor([[label, serial] for serial in serials]).view(-1, 2).to(dtype)


class Memory(RuleBasedStateMachine):
    """Against a plain dictionary of lists."""

    dtype = torch.int32

    def __init__(self) -> None:
        super().__init__()
        self.memory = ReplayMemory(CAPACITY, (2,), self.dtype)
        self.expected: dict[int, list[int]] = {}
        self.serial = 0

    def new(self, count: int) -> range:
        self.serial += count
        return range(self.serial - count, self.serial)

    @property
    def held(self) -> int:
        return sum(map(len, self.expected.values()))

    @rule(label=st.integers(0, 3), data=st.data())
    def add(self, label: int, data: st.DataObject) -> None:
        serials = self.new(data.draw(st.integers(0, CAPACITY - self.held)))
        self.memory.add(label, rows_of(label, serials, self.dtype))
        if serials:
            self.expected.setdefault(label, []).extend(serials)

    @rule(label=st.integers(0, 3), data=st.data())
    def keep(self, label: int, data: st.DataObject) -> None:
        held = self.expected.get(label, [])
        order = data.draw(st.permutations(range(len(held))))
        kept = order[: data.draw(st.integers(0, len(held)))]
        self.memory.keep(label, kept)
        self.expected[label] = [held[position] for position in kept]
        if not kept:
            del self.expected[label]

    @precondition(lambda self: self.expected)
    @rule(data=st.data())
    def drop_all(self, data: st.DataObject) -> None:
        label = data.draw(st.sampled_from(sorted(self.expected)))
        own = self.expected[label]
        gone = data.draw(st.lists(st.integers(0, len(own) - 1), unique=True))
        self.memory.drop_all(label, gone)
        self.expected[label] = [n for place, n in enumerate(own) if place not in gone]
        if not self.expected[label]:
            del self.expected[label]

    @precondition(lambda self: self.expected)
    @rule(new=st.integers(0, 3), data=st.data())
    def overwrite(self, new: int, data: st.DataObject) -> None:
        old = data.draw(st.sampled_from(sorted(self.expected)))
        position = data.draw(st.integers(0, len(self.expected[old]) - 1))
        (serial,) = self.new(1)
        self.memory.overwrite(old, position, new, rows_of(new, [serial], self.dtype)[0])
        del self.expected[old][position]
        if not self.expected[old]:
            del self.expected[old]
        self.expected.setdefault(new, []).append(serial)

    @precondition(lambda self: self.expected)
    @rule(data=st.data(), seed=st.integers(0, 99))
    def draw(self, data: st.DataObject, seed: int) -> None:
        labels = data.draw(st.lists(st.sampled_from(sorted(self.expected)), max_size=6))
        drawn = self.memory.draw(labels, torch.Generator().manual_seed(seed))
        assert drawn.dtype == self.dtype
        assert len(drawn) == len(labels)
        for label, (found, serial) in zip(labels, drawn.tolist(), strict=True):
            assert found == label
            assert serial in self.expected[label]

    @rule(seed=st.integers(0, 99))
    def save_and_load(self, seed: int) -> None:
        again = ReplayMemory(CAPACITY, (2,), self.dtype)
        again.add(7, rows_of(7, range(3), self.dtype))
        again.load_state_dict(self.memory.state_dict())
        labels = sorted(self.expected) * 3
        first, second = (
            memory.draw(labels, torch.Generator().manual_seed(seed))
            for memory in (self.memory, again)
        )
        assert torch.equal(first, second)
        self.memory = again

    @invariant()
    def holds_what_it_should(self) -> None:
        counts = {label: len(self.expected[label]) for label in sorted(self.expected)}
        assert self.memory.counts == counts
        assert len(self.memory) == sum(counts.values())
        for label in range(5):
            expected = rows_of(label, self.expected.get(label, []), self.dtype)
            assert torch.equal(self.memory.class_rows(label), expected)
            assert self.memory.count(label) == len(expected)

    @invariant()
    def stays_within_its_bytes(self) -> None:
        row = 2 * self.dtype.itemsize
        assert self.memory.rows.untyped_storage().nbytes() == self.memory.nbytes
        assert len(self.memory) * row <= self.memory.nbytes <= CAPACITY * row
        assert self.memory.bookkeeping_bytes == 4 * len(self.memory.rows)


class MemoryOfShortCodes(Memory):
    dtype = torch.uint16


TestMemory = Memory.TestCase
TestMemoryOfShortCodes = MemoryOfShortCodes.TestCase
TestMemory.settings = TestMemoryOfShortCodes.settings = settings(
    max_examples=60, stateful_step_count=20
)


def test_417_codes_hold_the_published_bytes():
    memory = ReplayMemory(417, (5_408,), torch.uint8)
    for start in range(0, 417, 21):
        memory.add(start % 5, torch.zeros(min(21, 417 - start), 5_408, dtype=torch.uint8))
    assert len(memory) == 417
    assert memory.nbytes == memory.rows.untyped_storage().nbytes() == 2_255_136
    assert memory.bookkeeping_bytes == 417 * 4


def test_nothing_is_allocated_before_the_first_exemplar():
    assert ReplayMemory(278_342, (5_408,), torch.uint8).nbytes == 0


def test_rows_are_copied():
    memory = ReplayMemory(4, (2,), torch.int32)
    batch = rows_of(0, [5, 6, 7])
    memory.add(0, batch[:2])
    memory.overwrite(0, 0, 1, batch[2])
    batch.zero_()
    assert memory.class_rows(0).tolist() == [[0, 6]]
    assert memory.class_rows(1).tolist() == [[0, 7]]


def test_drawn_rows_are_no_view_of_the_memory():
    memory = ReplayMemory(4, (2,), torch.int32)
    memory.add(0, rows_of(0, [5]))
    memory.draw([0], torch.Generator()).zero_()
    assert memory.class_rows(0).tolist() == [[0, 5]]


def test_largest_index_of_short_codes_survives():
    memory = ReplayMemory(2, (3,), torch.uint16)
    row = torch.tensor([[65_535, 32_768, 0]]).to(torch.uint16)
    memory.add(0, row)
    assert torch.equal(memory.draw([0], torch.Generator()), row)


def test_draw_is_uniform_within_the_class():
    memory = ReplayMemory(12, (2,), torch.int32)
    memory.add(0, rows_of(0, range(3)))
    memory.add(1, rows_of(1, range(8)))
    memory.keep(1, [7, 0, 3, 5])
    memory.add(2, rows_of(2, range(2)))
    drawn = memory.draw([1] * 8_000, torch.Generator().manual_seed(0))
    assert (drawn[:, 0] == 1).all()
    counts = drawn[:, 1].bincount(minlength=8)
    assert counts[[1, 2, 4, 6]].sum() == 0
    # Four equally likely exemplars: three degrees of freedom, so 20 has a chance of 0.0002.
    assert ((counts[[0, 3, 5, 7]] - 2_000).square() / 2_000).sum() < 20


def test_drawing_is_with_replacement_and_follows_the_generator():
    memory = ReplayMemory(12, (2,), torch.int32)
    memory.add(0, rows_of(0, range(12)))
    before = torch.get_rng_state()
    first, again, other = (
        memory.draw([0] * 12, torch.Generator().manual_seed(seed))[:, 1] for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(first.unique()) < 12
    assert torch.equal(torch.get_rng_state(), before)


def test_bytes_do_not_depend_on_the_steps_of_filling():
    whole, steps = (ReplayMemory(1_000, (2,), torch.int32) for _ in range(2))
    whole.add(0, rows_of(0, range(300)))
    for start in range(0, 300, 7):
        steps.add(0, rows_of(0, range(start, min(300, start + 7))))
    loaded = ReplayMemory(1_000, (2,), torch.int32)
    loaded.load_state_dict(steps.state_dict())
    assert whole.nbytes == steps.nbytes == loaded.nbytes


def test_writing_beyond_the_capacity_is_a_bug_of_the_policy():
    memory = ReplayMemory(3, (2,), torch.int32)
    memory.add(0, rows_of(0, range(2)))
    with pytest.raises(AssertionError):
        memory.add(1, rows_of(1, range(2)))
    assert len(memory) == 2


@pytest.mark.parametrize(
    "saved",
    [
        {"rows": torch.zeros(4, 2, dtype=torch.int32), "labels": torch.zeros(4)},
        {"rows": torch.zeros(2, 3, dtype=torch.int32), "labels": torch.zeros(2)},
        {"rows": torch.zeros(2, 2, dtype=torch.uint8), "labels": torch.zeros(2)},
        {"rows": torch.zeros(2, 2, dtype=torch.int32), "labels": torch.zeros(3)},
    ],
    ids=["too many", "shape", "type", "labels"],
)
def test_saved_exemplars_that_do_not_fit(saved: dict[str, Tensor]):
    memory = ReplayMemory(3, (2,), torch.int32)
    memory.add(0, rows_of(0, [1]))
    with pytest.raises(InputError, match="saved replay memory"):
        memory.load_state_dict(saved)
    assert memory.class_rows(0).tolist() == [[0, 1]]


@pytest.mark.parametrize("capacity", [0, -5])
def test_capacity_below_one(capacity: int):
    with pytest.raises(InputError, match=f"memory_size={capacity}: .*at least 1"):
        ReplayMemory(capacity, (2,), torch.uint8)


@pytest.mark.parametrize(
    ("budget", "row", "capacity"),
    [
        (15 * 150_528, 5_408, 417),
        (100 * 150_528, 5_408, 2_783),
        (10_000 * 150_528, 10_816, 139_171),
        (5_408, 5_408, 1),
    ],
)
def test_capacity_of_a_budget(budget: int, row: int, capacity: int):
    assert capacity_in_bytes("memory_bytes", budget, row) == capacity


def test_budget_below_one_exemplar():
    with pytest.raises(InputError, match="memory_bytes=5407: .*at least 5408"):
        capacity_in_bytes("memory_bytes", 5_407, 5_408)


def test_sample_takes_each_exemplar_once_before_any_twice():
    memory = ReplayMemory(10, (2,), torch.int32)
    for label, count in ((4, 2), (1, 5), (7, 1)):
        memory.add(label, rows_of(label, range(count)))
    generator = torch.Generator().manual_seed(0)
    for count, least in ((3, 0), (8, 1), (20, 2)):
        rows, labels = memory.sample(count, generator)
        assert torch.equal(rows[:, 0].long(), labels)
        _, times = rows.unique(dim=0, return_counts=True)
        assert times.sum() == count
        assert times.max() <= least + 1
        assert least == 0 or (len(times) == 8 and times.min() >= least)


def test_sample_is_uniform_over_exemplars_of_all_classes():
    memory = ReplayMemory(10, (2,), torch.int32)
    memory.add(0, rows_of(0, range(1)))
    memory.add(1, rows_of(1, range(1, 10)))
    generator, counts = torch.Generator().manual_seed(0), torch.zeros(10)
    for _ in range(1_000):
        counts[memory.sample(3, generator)[0][:, 1]] += 1
    # Without replacement the deviation is below that of nine degrees of freedom.
    assert ((counts - 300).square() / 300).sum() < 27


def test_sample_of_a_large_memory_takes_each_exemplar_once():
    memory = ReplayMemory(9_000, (2,), torch.int32)
    memory.add(0, rows_of(0, range(5_000)))
    memory.add(1, rows_of(1, range(4_000)))
    for count in (40, 9_000):
        rows, labels = memory.sample(count, torch.Generator().manual_seed(0))
        assert torch.equal(rows[:, 0].long(), labels)
        assert len(rows.unique(dim=0)) == count


def test_newest_rows_of_a_class():
    memory = ReplayMemory(9, (2,), torch.int32)
    memory.add(0, rows_of(0, range(3)))
    memory.add(1, rows_of(1, range(2)))
    memory.overwrite(0, 1, 0, rows_of(0, [7])[0])
    assert memory.at(memory.newest(0, 2)).tolist() == [[0, 2], [0, 7]]
    assert len(memory.newest(0, 9)) == 3
    assert len(memory.newest(5, 9)) == 0


def test_locate_counts_through_class_by_class():
    memory = ReplayMemory(10, (2,), torch.int32)
    for label, count in ((4, 2), (1, 3)):
        memory.add(label, rows_of(label, range(count)))
    expected = [(1, 0), (1, 1), (1, 2), (4, 0), (4, 1)]
    assert memory.locate(range(5)) == expected
    assert memory.locate([4, 0]) == [(4, 1), (1, 0)]


def test_what_all_exemplars_share_is_taken_off_a_budget():
    assert capacity_in_bytes("budget_bytes", 1_000, 100, 300) == 7
    assert capacity_in_bytes("budget_bytes", 400, 100, 300) == 1
    with pytest.raises(InputError, match="budget_bytes=399: .*300 bytes.*at least 400"):
        capacity_in_bytes("budget_bytes", 399, 100, 300)
