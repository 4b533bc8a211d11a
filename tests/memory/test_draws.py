from __future__ import annotations

from collections import Counter
from itertools import islice, permutations

import pytest
import torch

from crumb.memory.draws import in_random_order, without_replacement


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("limit", [0, 1, 2, 31, 32, 33, 200])
def test_order_has_each_number_once(limit: int):
    assert sorted(in_random_order(limit, seeded())) == [*range(limit)]


def test_all_orders_are_equally_likely():
    generator = seeded()
    found = Counter(tuple(in_random_order(4, generator)) for _ in range(4_800))
    assert found.keys() == {*permutations(range(4))}
    # 23 degrees of freedom: 53 has a chance of 0.0004.
    assert sum((count - 200) ** 2 / 200 for count in found.values()) < 53


def test_beginning_of_an_order_needs_no_more_draws_for_more_numbers():
    states = []
    for limit in (100, 10**12):
        generator = seeded()
        assert len({*islice(in_random_order(limit, generator), 30)}) == 30
        states.append(generator.get_state())
    assert torch.equal(*states)


@pytest.mark.parametrize(("count", "limit"), [(1, 3), (3, 3), (8, 3), (50, 5_000), (6_000, 5_000)])
def test_each_number_is_drawn_once_before_any_twice(count: int, limit: int):
    drawn = Counter(without_replacement(count, limit, seeded()))
    assert sum(drawn.values()) == count
    assert all(0 <= number < limit for number in drawn)
    assert max(drawn.values(), default=0) == -(-count // limit)
    assert count <= limit or len(drawn) == limit


def test_draws_among_many_are_uniform():
    generator, counts = seeded(), torch.zeros(10)
    for _ in range(300):
        numbers = torch.tensor(without_replacement(20, 5_000, generator))
        counts += (numbers // 500).bincount(minlength=10)
    # Nine degrees of freedom: 30 has a chance of 0.0004.
    assert ((counts - 600).square() / 600).sum() < 30
