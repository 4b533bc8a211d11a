"""What a method stores with each exemplar: kept with it, counted, gone with it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from networks import batch_of, tiny_network

from crumb.errors import InputError
from crumb.memory.capacity import MemoryConfig
from crumb.memory.encoded import EncodedMemory, as_rows
from crumb.memory.exemplars import Exemplars
from crumb.memory.payload import Field, Fields, Payload
from crumb.memory.policies import NOWHERE, OnArrival, Reservoir
from crumb.memory.replay import ReplayMemory
from crumb.memory.storage import RawFeatureStorage
from crumb.seeds import generator

FIELDS: Fields = {
    "logits": Field((3,), torch.float16),
    "task": Field((), torch.int32),
    "known": Field((2, 2), torch.bool),
}
EACH = 6 + 4 + 4
CAPACITY = 6


def payload_of(numbers) -> dict[str, torch.Tensor]:
    """Of frames that are told apart by their number."""
    numbers = torch.tensor(numbers)
    return {
        "logits": numbers[:, None] + torch.tensor([0.0, 0.25, 0.5]),
        "task": numbers,
        "known": (numbers[:, None, None] % torch.tensor([[2, 3], [5, 7]])) == 0,
    }


def rows_of(numbers, encoded: bool) -> torch.Tensor:
    if encoded:
        return as_rows([bytes([number % 100 + 1] * (3 + number % 4)) for number in numbers])
    return torch.tensor(numbers)[:, None].float()


def memory_of(encoded: bool) -> ReplayMemory:
    if encoded:
        return EncodedMemory(80, 8, 3, "a capacity", FIELDS)
    return ReplayMemory(CAPACITY, (1,), torch.float32, fields=FIELDS)


def assert_in_order(memory: ReplayMemory) -> None:
    """What is stored with each exemplar is what it was stored with."""
    for label in memory.counts:
        found = memory.payload_of(label)
        expected = payload_of(found["task"].tolist())
        for name, field in FIELDS.items():
            assert found[name].dtype == field.dtype
            assert torch.equal(found[name], expected[name].to(field.dtype)), name
        assert torch.equal(
            rows_of(found["task"].tolist(), memory.rows.ndim == 2 and not memory.rows.shape[1]),
            memory.class_rows(label),
        )
    assert memory.payload.nbytes == EACH * len(memory)


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("kind", [OnArrival, Reservoir])
def test_it_goes_with_its_exemplar_and_offer_tells_where_it_is(kind, encoded):
    memory = memory_of(encoded)
    policy = kind(memory, generator(0, "memory"))
    stored = 0
    for start in range(0, 120, 8):
        numbers = [*range(start, start + 8)]
        labels = torch.tensor([number % 3 for number in numbers])
        slots = policy.offer(rows_of(numbers, encoded), labels, payload_of(numbers))
        assert_in_order(memory)
        places = [n for n, slot in enumerate(slots.tolist()) if slot != NOWHERE]
        found = memory.payload.get(slots[places].tolist())["task"].tolist()
        assert found == [numbers[place] for place in places]
        held = {int(task) for label in memory.counts for task in memory.payload_of(label)["task"]}
        assert held & {*numbers} == {*found}
        stored += len(places)
    assert 0 < len(memory) < stored < 120


@pytest.mark.parametrize("encoded", [False, True])
def test_it_is_saved_kept_in_another_order_and_dropped(encoded):
    memory = memory_of(encoded)
    memory.add(2, rows_of([5, 6, 7], encoded), payload_of([5, 6, 7]))
    memory.add(0, rows_of([9], encoded), payload_of([9]))
    memory.keep(2, [2, 0])
    assert memory.payload_of(2)["task"].tolist() == [7, 5]
    again = memory_of(encoded)
    again.load_state_dict(memory.state_dict())
    assert again.payload_of(2)["task"].tolist() == [7, 5]
    for one in (memory, again):
        one.drop(0, 0)
        assert_in_order(one)
    assert memory.payload.nbytes == 2 * EACH


def test_it_can_be_written_anew():
    memory = memory_of(False)
    slots = memory.add(1, rows_of([3, 4], False), payload_of([3, 4]))
    memory.payload.put(slots[1:], payload_of([8]))
    assert memory.payload_of(1)["task"].tolist() == [3, 8]
    assert memory.payload.nbytes == 2 * EACH


@pytest.mark.parametrize("wrong", [{}, {"task": torch.tensor([1])}, payload_of([1, 2])])
def test_only_what_was_declared_can_be_stored(wrong):
    with pytest.raises(ValueError, match="expected|declared"):
        Payload(FIELDS).put([0], wrong)


@dataclass(frozen=True)
class Config(MemoryConfig):
    """Of the exemplars below."""


def exemplars(fields: Fields, **settings) -> Exemplars:
    storage, draws = RawFeatureStorage(tiny_network()), generator(0, "memory")
    return Exemplars(Config(storage="raw_feature", **settings), storage, draws, "cpu", fields)


def test_a_budget_bounds_it():
    row = 4 * 8 * 2 * 2 + 4
    budget = 6 * (row + EACH) - 1
    held = exemplars(FIELDS, budget_bytes=budget, write_policy="on-arrival")
    assert held.memory.capacity == 5
    with pytest.raises(InputError, match=f"at least {row + EACH}"):
        exemplars(FIELDS, budget_bytes=row + EACH - 1, write_policy="on-arrival")


def test_exemplars_give_way_to_the_counts_of_new_classes():
    """Rows that are allocated go as well; payload and the order of a class stay."""
    row = 4 * 8 * 2 * 2 + 4 + EACH
    budget = 10 * row + 24 * 2
    held = exemplars(FIELDS, budget_bytes=budget, write_policy="on-arrival")
    for number, label in enumerate([0] * 20 + [1] * 20 + [2, 3, 4, 5, 6, 7]):
        held.on_batch(batch_of(_Fronted(), label, seed=number), payload_of([10 + label]))
        assert held.memory.capacity == (budget - 24 * (label + 1)) // row
        assert held.nbytes + held.reading_bytes <= budget
    assert len(held) == held.memory.capacity == len(held.memory.rows) == 9
    for label, count in held.memory.counts.items():
        assert held.memory.payload_of(label)["task"].tolist() == [10 + label] * count
    again = exemplars(FIELDS, budget_bytes=budget, write_policy="on-arrival")
    again.load_state_dict(held.state_dict())
    assert (again.nbytes, again.reading_bytes) == (held.nbytes, held.reading_bytes)
    small = exemplars(FIELDS, budget_bytes=row + 24, write_policy="on-arrival")
    small.on_batch(batch_of(_Fronted(), 0), payload_of([1]))
    with pytest.raises(InputError, match=rf"budget_bytes={row + 24}: .*at least {row + 48}"):
        small.on_batch(batch_of(_Fronted(), 1), payload_of([1]))


@pytest.mark.parametrize("policy", ["reservoir", "on-arrival"])
def test_exemplars_of_an_older_version_may_be_one_too_many(policy):
    """Its budget did not cover the counts."""
    row, labels = 4 * 8 * 2 * 2 + 4 + EACH, [0, 0, 1, 1, 1]
    larger = exemplars(FIELDS, budget_bytes=5 * row + 48, write_policy=policy)
    larger.on_batch(batch_of(_Fronted(), *labels), payload_of([10 + label for label in labels]))
    assert len(larger) == 5
    held = exemplars(FIELDS, budget_bytes=5 * row, write_policy=policy)
    held.load_state_dict(larger.state_dict())
    assert len(held) == held.memory.capacity == len(held.memory.rows) == 4
    assert held.memory.counts == {0: 2, 1: 2}
    assert held.nbytes + held.reading_bytes <= 5 * row
    with pytest.raises(InputError, match="the saved replay memory"):
        exemplars(FIELDS, budget_bytes=2 * row, write_policy=policy).load_state_dict(
            larger.state_dict()
        )


def test_exemplars_hand_it_out_with_what_is_drawn():
    held = exemplars(FIELDS, memory_size=4, write_policy="on-arrival")
    batch = batch_of(_Fronted(), 0, 1, 2)
    slots = held.on_batch(batch, payload_of([10, 11, 12]))
    assert NOWHERE not in slots.tolist()
    features, labels, payload = held.sample_with_payload(7, generator(1, "replay"))
    assert features.shape == (7, 8, 2, 2)
    assert (payload["task"] - 10).tolist() == labels.tolist()
    assert held.bookkeeping_bytes == 3 * (4 + EACH) + 24 * 3 + 4
    assert held.reading_bytes == held.bookkeeping_bytes


class _Fronted:
    """As much of a learner as batches need."""

    network = tiny_network()
