"""Numbers in two bytes: unbiased rounding, packed triangles."""

from __future__ import annotations

import pytest
import torch

from crumb.memory.halves import pack, round_randomly, triangle_size, unpack


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_numbers_that_two_bytes_hold_stay_as_they_are():
    values = torch.tensor([0.0, 1.0, -2.5, 1024.0, 2.0**-14, -(2.0**-24), 65504.0])
    assert torch.equal(round_randomly(values, generator()).float(), values)


@pytest.mark.parametrize("value", [1.0001, -3.3337, 0.1, 2.0**-15 * 1.3, 2.0**-24 * 0.25, 777.77])
def test_the_mean_of_many_roundings_is_the_number(value):
    count = 100_000
    rounded = round_randomly(torch.full((count,), value), generator()).double()
    lower, upper = rounded.min().item(), rounded.max().item()
    assert lower <= value <= upper
    assert len(rounded.unique()) == 2
    share = (value - lower) / (upper - lower)
    # Six standard deviations of a share of so many draws.
    slack = 6 * (share * (1 - share) / count) ** 0.5
    assert rounded.mean().item() == pytest.approx(value, abs=slack * (upper - lower))


def test_a_triangle_holds_a_symmetric_matrix_in_order_of_its_leading_parts():
    matrix = torch.arange(25.0).view(5, 5)
    matrix = matrix + matrix.T
    packed = pack(matrix)
    assert packed.shape == (triangle_size(5),) == (15,)
    assert torch.equal(unpack(packed, 5), matrix)
    assert torch.equal(unpack(packed[: triangle_size(3)], 3), matrix[:3, :3])
