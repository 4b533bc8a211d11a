"""What tests allow for rounding: as much as an order of sums makes, and no more."""

from __future__ import annotations

import threading

import pytest
import torch
from tests.rounding import OtherProcessor, assert_rounded, rounded, sums_of, tolerance
from torch import nn


def draw(*size: int) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("terms", [10, 1_000, 100_000])
def test_sums_in_any_order_are_within_it(terms: int):
    values = draw(20, terms)
    one_by_one = values.cumsum(1)[:, -1]
    assert_rounded(one_by_one, values.double().sum(1), terms)
    assert_rounded(values.flip(1).sum(1), one_by_one, terms)
    assert (one_by_one - values.double().sum(1)).abs().max() > 0


@pytest.mark.parametrize("terms", [10, 1_000, 100_000])
def test_one_term_that_is_missing_is_not(terms: int):
    values = draw(20, terms)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        assert_rounded(values[:, 1:].sum(1), values.sum(1), terms)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        assert_rounded({"a": values[:, 1:].sum(1)}, {"a": values.sum(1)}, terms)


def test_zeros_need_a_magnitude():
    with pytest.raises(AssertionError, match="zeros have no magnitude"):
        rounded(0.0, terms=4)
    assert tolerance(4, 100) / 2 == rounded(0.0, terms=4, magnitude=100)
    assert tolerance(4, 100) * 2 != rounded(0.0, terms=4, magnitude=100)


def test_sums_of_a_network_are_those_of_its_widest_layer():
    layers = nn.Sequential(nn.Conv2d(3, 8, 5), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 3))
    assert sums_of(layers) == (3 * 5 * 5, 2)


def test_another_processor_rounds_otherwise_and_always_alike():
    # In steps of 2**-8, so that their sums are exact: the rows of a batch do not differ by place.
    layer, values = nn.Linear(30, 7, bias=False), (draw(6, 30) * 256).round() / 256
    with torch.no_grad():
        layer.weight.copy_((layer.weight * 256).round() / 256)
    plain = layer(values)
    found = {}

    def compute() -> None:
        with OtherProcessor():
            found["six"], found["again"] = layer(values), layer(values.flip(0)).flip(0)
            found["one"] = torch.cat([layer(one) for one in values.split(1)])
            found["counts"] = torch.ones(5).sum()

    thread = threading.Thread(target=compute)
    thread.start()
    thread.join()
    assert torch.equal(found["six"], found["again"])
    assert not torch.equal(found["six"], plain)
    assert not torch.equal(found["six"], found["one"])
    assert_rounded(found["six"], plain, 30)
    assert found["counts"] == 5
