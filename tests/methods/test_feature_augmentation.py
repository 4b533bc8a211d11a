"""Crops and mixtures of feature maps, against slow forms of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rounding import assert_rounded
from torch.nn.functional import interpolate

from crumb.methods.augmentation import (
    MIN_AREA,
    beta,
    mixed,
    random_resized_crops,
    resized_crops,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def maps_of(*shape: int, seed: int = 0) -> torch.Tensor:
    maps = torch.randn(shape, generator=seeded(seed))
    return maps.contiguous(memory_format=torch.channels_last)


@settings(max_examples=60)
@given(st.data())
def test_a_crop_is_cut_out_and_scaled_up(data):
    height, width = data.draw(st.integers(1, 13)), data.draw(st.integers(1, 13))
    parts = []
    for _ in range(3):
        part = []
        for size in (height, width):
            side = data.draw(st.integers(1, size))
            part.append((data.draw(st.integers(0, size - side)), side))
        parts.append(part)
    maps = maps_of(3, 4, height, width)
    places = torch.tensor(parts, dtype=torch.float64).permute(2, 1, 0)
    found = resized_crops(maps, places[0], places[1])
    assert found.shape == maps.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    for one, crop, ((top, rows), (left, columns)) in zip(maps, found, parts, strict=True):
        cut = one[None, :, top : top + rows, left : left + columns]
        expected = interpolate(cut, (height, width), mode="bilinear", align_corners=False)
        assert_rounded(crop, expected[0], terms=2, layers=2, magnitude=float(maps.abs().max()))


def drawn_parts(count: int, height: int, width: int, monkeypatch, seed: int = 0):
    """Starts and sides of random crops, int [2, count] each."""
    parts: list[torch.Tensor] = []
    name = "crumb.methods.augmentation.resized_crops"
    monkeypatch.setattr(name, lambda maps, starts, sides: parts.extend([starts, sides]))
    random_resized_crops(torch.zeros(count, 1, height, width), seeded(seed))
    return parts[0], parts[1]


def test_random_crops_lie_within_and_are_as_large_as_they_should(monkeypatch):
    starts, sides = drawn_parts(20_000, 13, 13, monkeypatch)
    for values in (starts, sides):
        assert torch.equal(values, values.round())
    assert starts.min() == 0
    assert sides.min() >= 1
    assert (starts + sides).max() == 13
    # Rounding of both sides moves area and ratio a little.
    areas = sides.prod(0) / 169
    assert areas.min() > MIN_AREA * 0.85
    assert areas.max() == 1
    ratios = sides[1] / sides[0]
    assert ratios.min() > 3 / 4 * 0.85
    assert ratios.max() < 4 / 3 * 1.15
    # The same mean as of draws one at a time.
    rng = np.random.default_rng(1)
    slow = []
    while len(slow) < 20_000:
        area = 169 * rng.uniform(MIN_AREA, 1)
        ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        height, width = round((area / ratio) ** 0.5), round((area * ratio) ** 0.5)
        if height <= 13 and width <= 13:
            slow.append((height, width, height * width))
    means = np.mean(slow, 0)
    np.testing.assert_allclose(sides.mean(1).numpy(), means[:2], rtol=0.01)
    assert areas.mean().item() * 169 == pytest.approx(means[2], rel=0.01)
    # Both ends of the room are reached equally often.
    room = 13 - sides
    small = room[0] == 3
    counts = torch.bincount(starts[0][small].int(), minlength=4)
    assert counts.min() > 0.8 * counts.max()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (9, 1), (2, 2)])
def test_maps_into_which_no_crop_fits_stay_whole(height, width, monkeypatch):
    starts, sides = drawn_parts(200, height, width, monkeypatch)
    assert (sides >= 1).all()
    assert ((starts + sides).max(1).values <= torch.tensor([height, width])).all()
    if {height, width} == {1, 9}:
        whole = sides.prod(0) == 9
        assert whole.any()


def test_each_map_has_a_crop_of_its_own_by_the_seed_alone():
    maps = maps_of(1, 3, 13, 13).expand(6, -1, -1, -1)
    before = torch.get_rng_state()
    found = random_resized_crops(maps, seeded(4))
    assert torch.equal(found, random_resized_crops(maps, seeded(4)))
    assert torch.equal(before, torch.get_rng_state())
    assert len({row.sum().item() for row in found}) > 3


def test_mixed_by_hand():
    values = torch.tensor([[7.0], [1.0], [2.0], [11.0], [22.0]])
    assert mixed(values, 1, 0.75).flatten().tolist() == [7.0, 3.5, 7.0]
    assert mixed(values[1:], 0, 1.0).flatten().tolist() == [1.0, 2.0]
    assert mixed(values[1:], 0, 0.0).flatten().tolist() == [11.0, 22.0]


@pytest.mark.parametrize("alpha", [1e-6, 0.1, 1.0, 20.0, 1e6])
def test_shares_are_of_the_beta_distribution(alpha: float):
    generator = seeded(2)
    before = torch.get_rng_state()
    shares = np.array([beta(alpha, generator) for _ in range(1_500)])
    assert torch.equal(before, torch.get_rng_state())
    assert ((shares >= 0) & (shares <= 1)).all()
    assert shares.mean() == pytest.approx(0.5, abs=0.05)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)
