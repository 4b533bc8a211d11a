"""Exemplars of different lengths: what is held, what is counted, what is saved."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crumb.errors import InputError
from crumb.memory.budget import fitting
from crumb.memory.encoded import EncodedMemory, as_bytes, as_rows, joined_rows
from crumb.memory.payload import Field, Fields


def row(size: int, mark: int = 7) -> torch.Tensor:
    """A row of one exemplar of so many bytes, with zeros at its end as others are longer."""
    return as_rows([bytes([0, mark] * size)[: size - 1] + b"\xd9", b"\1" * 40])[0]


def memory_of(
    capacity: int, overhead: int | None = 8, fields: Fields | None = None
) -> EncodedMemory:
    return EncodedMemory(capacity, overhead, 3, "a capacity", fields)


@given(st.lists(st.binary(max_size=30).map(lambda one: one + b"\xd9"), max_size=6))
def test_rows_hold_what_was_encoded(encoded: list[bytes]):
    assert [as_bytes(one) for one in as_rows(encoded)] == encoded
    halves = [as_rows(encoded[:2]), as_rows(encoded[2:])]
    if len(encoded) > 2:
        assert [as_bytes(one) for one in joined_rows(halves)] == encoded


def test_bytes_are_those_of_each_exemplar():
    memory = memory_of(100)
    memory.add(0, torch.stack([row(10), row(20)]))
    memory.add(1, row(5)[None])
    assert memory.nbytes == 35
    # A row number and a length.
    assert memory.bookkeeping_bytes == 3 * 8
    assert memory.used == 35 + 3 * 8 <= memory.capacity
    assert (memory.costs(0), memory.costs(1), memory.cost(row(12))) == ([18, 28], [13], 20)
    assert memory.fits(row(33))
    assert not memory.fits(row(34))
    memory.drop(0, 0)
    assert (memory.nbytes, memory.bookkeeping_bytes, memory.counts) == (25, 16, {0: 1, 1: 1})


def test_exemplars_may_be_counted():
    memory = memory_of(2, None)
    memory.add(0, row(30)[None])
    assert (memory.used, memory.costs(0), memory.most) == (1, [1], 2)
    assert memory.fits(row(40))
    with pytest.raises(AssertionError):
        memory.add(0, torch.stack([row(1), row(1)]))


def test_more_than_the_capacity_is_never_held():
    memory = memory_of(40)
    with pytest.raises(AssertionError):
        memory.add(0, torch.stack([row(10), row(15)]))
    with pytest.raises(InputError, match="^a capacity: has no room for an image .* 41 bytes"):
        memory.fits(row(33))


@pytest.mark.parametrize("kind", [None, torch.int32, torch.float32])
def test_saved_exemplars_come_back(kind: torch.dtype | None):
    fields = {"number": Field((), kind)} if kind else {}
    memory = memory_of(200, fields=fields)
    numbers = {"number": torch.tensor([3, 1])} if kind else {}
    memory.add(4, torch.stack([row(10, 1), row(20, 2)]), numbers)
    memory.add(1, row(5, 3)[None], {name: value[:1] for name, value in numbers.items()})
    state = memory.state_dict()
    assert (state["rows"].dtype, state["rows"].shape) == (torch.uint8, (35,))
    assert state["lengths"].tolist() == [5, 10, 20]
    again = memory_of(200, fields=fields)
    again.add(9, row(30)[None], {name: value[:1] for name, value in numbers.items()})
    again.load_state_dict(state)
    assert (again.counts, again.nbytes) == ({1: 1, 4: 2}, 35)
    assert torch.equal(again.class_rows(4), memory.class_rows(4))
    if kind:
        assert again.payload_of(4)["number"].tolist() == [3, 1]
    for name, value in again.state_dict().items():
        assert torch.equal(value, state[name])


@pytest.mark.parametrize("change", ["lengths", "labels", "capacity", "rows"])
def test_what_does_not_fit_is_refused(change: str):
    memory = memory_of(200)
    memory.add(0, torch.stack([row(10), row(20)]))
    state = memory.state_dict()
    if change == "rows":
        state = {"rows": torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "labels": state["labels"]}
    elif change != "capacity":
        state[change] = state[change][:1]
    with pytest.raises(InputError, match="the saved replay memory"):
        memory_of(45 if change == "capacity" else 200).load_state_dict(state)


@given(st.lists(st.integers(1, 9), max_size=12), st.integers(0, 40))
def test_those_that_fit_leave_no_room_for_any_other(costs: list[int], room: int):
    taken = fitting(costs, room)
    left = room - sum(costs[place] for place in taken)
    assert left >= 0
    assert taken == sorted(taken)
    assert all(costs[place] > left for place in {*range(len(costs))} - {*taken})
    assert fitting([1] * len(costs), room) == list(range(min(room, len(costs))))
