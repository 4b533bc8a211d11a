"""GRASP: distances from the class mean, draws in inverse proportion to them, cycles."""

from __future__ import annotations

import pytest
import torch
from tests.rounding import assert_rounded
from torch import Tensor

from crumb.data.batches import Batch
from crumb.memory.grasp import Grasp
from crumb.memory.replay import ReplayMemory

# Cosines with the mean direction, (1, 0, 0, 0): 1, 0.6, 0.6, 0.8 and 0.8.
FIVE = torch.tensor(
    [
        [1.0, 0.0, 0.0, 0.0],
        [0.6, 0.0, 0.0, 0.8],
        [0.6, 0.0, 0.0, -0.8],
        [0.8, 0.6, 0.0, 0.0],
        [0.8, -0.6, 0.0, 0.0],
    ]
)
DISTANCES = torch.tensor([0.0, 0.4, 0.4, 0.2, 0.2])


class Vectors:
    """Exemplars are vectors."""

    row_shape, dtype, reader_bytes = (4,), torch.float32, 0

    def encode(self, batch: Batch) -> Tensor:
        return batch.features

    def features(self, rows: Tensor) -> Tensor:
        return rows


class Measured(list):
    """An embedding that counts how often it is asked for."""

    def __call__(self, features: Tensor) -> Tensor:
        self.append(len(features))
        return features


def grasp_of(rows: Tensor = FIVE, label: int = 3) -> tuple[Grasp, ReplayMemory, Measured]:
    memory, embed = ReplayMemory(20, (4,), torch.float32, fields=Grasp.fields), Measured()
    memory.add(label, rows)
    return Grasp(memory, Vectors(), embed), memory, embed


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_distances_are_from_the_mean_and_grow_by_the_largest_with_each_draw():
    grasp, memory, _ = grasp_of()
    (slot,) = grasp.draw([3], generator())
    place = list(memory.newest(3, 5)).index(slot)
    expected = DISTANCES.clone()
    expected[place] += 0.4
    stored = memory.payload_of(3)
    assert_rounded(stored["distance"], expected, 4, layers=3, magnitude=1.0)
    assert stored["draws"].tolist() == [int(n == place) for n in range(5)]


def test_probabilities_are_in_inverse_proportion_to_the_distances():
    """Without an exemplar at the mean: 1/5, 1/5, 2/5, 2/5 of 6/5, so 1/6, 1/6, 1/3, 1/3."""
    counts = torch.zeros(4)
    for seed in range(1200):
        grasp, memory, _ = grasp_of(FIVE[1:])
        (slot,) = grasp.draw([3], generator(seed))
        counts[list(memory.newest(3, 4)).index(slot)] += 1
    expected = torch.tensor([1 / 6, 1 / 6, 1 / 3, 1 / 3])
    assert (counts / 1200 - expected).abs().max() < 4 * (0.25 / 1200) ** 0.5


def test_easy_exemplars_come_first_and_hard_ones_follow():
    grasp, memory, _ = grasp_of()
    order = list(memory.newest(3, 5))
    first = [order.index(slot) for slot in grasp.draw([3] * 5, generator(1))]
    assert first[0] == 0, "the one at the mean takes all but a share of 1e-6 of the first draw"
    assert len(set(first)) >= 4
    assert first.count(0) == 1


def test_a_class_is_measured_anew_after_as_many_draws_as_it_has_exemplars():
    grasp, memory, embed = grasp_of()
    draws = generator()
    for expected in (1, 1, 1, 2, 2):
        grasp.draw([3, 3], draws)
        assert len(embed) == expected
    assert memory.payload_of(3)["draws"].sum() == 4


def test_a_method_with_cycles_starts_each_itself():
    grasp, memory, embed = grasp_of()
    grasp.in_cycles = True
    memory.add(1, torch.eye(4)[:2])
    draws = generator()
    for expected in (1, 1, 2, 2):
        grasp.draw([3] * 9, draws)
        assert len(embed) == expected
        if memory.payload_of(3)["draws"].sum() == 18:
            grasp.restart()
            assert memory.payload_of(3)["distance"].tolist() == [-1.0] * 5
            assert memory.payload_of(1)["distance"].tolist() == [-1.0] * 2


def test_an_exemplar_stored_later_counts_as_the_mean_until_the_class_is_measured():
    grasp, memory, embed = grasp_of(FIVE[1:])
    grasp.draw([3], generator())
    known = memory.payload_of(3)["distance"].clone()
    memory.add(3, FIVE[:1])
    assert memory.payload_of(3)["distance"].tolist() == [*known.tolist(), -1.0]
    before = generator(5)
    grasp.draw([3], generator(5))
    assert len(embed) == 1
    filled = torch.cat([known, known.mean()[None]]).double()
    chance = torch.rand(1, generator=before, dtype=torch.float64)
    ends = (1 / (filled + 1e-7)).cumsum(0)
    place = int((ends < chance * ends[-1]).sum())
    filled[place] += filled.max()
    assert_rounded(memory.payload_of(3)["distance"], filled, 5, magnitude=2.0)


def test_each_class_has_distances_of_its_own_and_labels_keep_their_order():
    grasp, memory, _ = grasp_of()
    memory.add(1, torch.eye(4)[:2])
    labels = [3, 1, 3, 3, 1]
    slots = grasp.draw(labels, generator())
    owners = {slot: label for label in (1, 3) for slot in memory.newest(label, 9)}
    assert [owners[slot] for slot in slots] == labels


@pytest.mark.parametrize("saved_after", [1, 4, 7])
def test_a_loaded_memory_is_drawn_from_alike(saved_after: int):
    one, memory, _ = grasp_of()
    draws = generator(2)
    for _ in range(saved_after):
        one.draw([3], draws)
    other, loaded, _ = grasp_of()
    loaded.load_state_dict(memory.state_dict())
    again = torch.Generator()
    again.set_state(draws.get_state())
    for _ in range(6):
        found = memory.at(one.draw([3, 3], draws)), loaded.at(other.draw([3, 3], again))
        assert torch.equal(*found)


def test_what_is_dropped_takes_its_distance_along():
    grasp, memory, _ = grasp_of()
    grasp.draw([3] * 3, generator())
    before = memory.payload_of(3)["distance"].tolist()
    memory.drop(3, 1)
    assert memory.payload_of(3)["distance"].tolist() == [before[0], *before[2:]]


def test_equal_exemplars_are_drawn_too():
    grasp, _, _ = grasp_of(torch.ones(3, 4))
    slots = grasp.draw([3] * 300, generator())
    assert {slots.count(slot) for slot in set(slots)} <= set(range(60, 140))
