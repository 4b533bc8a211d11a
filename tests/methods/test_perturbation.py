"""Crops, mirror images and boxes, read off from ramps and constant maps."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from crumb.methods.augmentation import WIDEST, cutmix, random_crops


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slopes(least_area: float, count: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """Of crops of a ramp to the right and one downwards: their steps between middle pixels."""
    along = torch.arange(16.0).expand(16, 16)
    maps = torch.stack([along, along.T]).expand(count, 2, 16, 16)
    views = random_crops(maps, least_area, seeded(0))
    assert views.shape == maps.shape
    assert views.is_contiguous(memory_format=torch.channels_last)
    assert views.min() >= 0
    assert views.max() <= 15
    # Crops are upright: a ramp to the right stays one.
    torch.testing.assert_close(views[:, 0], views[:, 0, :1].expand(-1, 16, -1))
    return views[:, 0, 8, 8] - views[:, 0, 8, 7], views[:, 1, 8, 8] - views[:, 1, 7, 8]


def test_crops_have_the_areas_and_shapes_asked_for_and_half_are_mirrored():
    across, down = slopes(0.25)
    areas = across.abs() * down
    assert (areas >= 0.25 - 1e-4).all()
    assert (areas <= 1 + 1e-4).all()
    assert areas.min() < 0.3
    assert areas.max() > 0.85
    ratios = across.abs() / down
    assert (ratios <= WIDEST + 1e-3).all()
    assert (ratios >= 1 / WIDEST - 1e-3).all()
    assert 0.4 < (across < 0).float().mean() < 0.6
    # Upside down is nothing.
    assert (down > 0).all()
    assert slopes(0.9)[1].min() > 0.8


def test_crops_lie_anywhere():
    place = torch.arange(16.0).expand(400, 1, 16, 16)
    middles = random_crops(place, 0.25, seeded(1))[:, 0, 8, 7:9].mean(1)
    assert middles.min() < 5
    assert middles.max() > 10
    assert abs(middles.mean() - 7.5) < 0.3


def test_each_map_has_a_crop_of_its_own_that_the_generator_decides():
    maps = torch.randn(1, 3, 5, 7, generator=seeded(2)).expand(4, -1, -1, -1)
    views = random_crops(maps, 0.25, seeded(3))
    assert torch.equal(views, random_crops(maps, 0.25, seeded(3)))
    assert not torch.equal(views, random_crops(maps, 0.25, seeded(4)))
    assert len({view.numpy().tobytes() for view in views}) == 4
    assert random_crops(maps[..., :1, :1], 0.25, seeded(3)).shape == (4, 3, 1, 1)


@given(st.integers(0, 1 << 30), st.integers(1, 6), st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_a_mixed_map_is_its_own_but_for_one_box_of_its_partner(seed, count, size):
    own = torch.arange(count).float().view(-1, 1, 1, 1).expand(count, 2, *size)
    mixed, partners, share = cutmix(own, seeded(seed))
    assert sorted(partners.tolist()) == list(range(count))
    assert 0 <= share <= 1
    boxes = set()
    for number, partner in enumerate(partners.tolist()):
        if partner == number:
            assert torch.equal(mixed[number], own[number])
            continue
        pasted = mixed[number] == partner
        assert torch.equal(pasted | (mixed[number] == number), torch.ones_like(pasted))
        assert share == 1 - int(pasted[0].sum()) / pasted[0].numel()
        rows, columns = pasted[0].any(1), pasted[0].any(0)
        assert torch.equal(pasted, (rows[:, None] & columns[None]).expand_as(pasted))
        assert all(side.diff().abs().sum() <= 2 for side in (rows.int(), columns.int()))
        boxes.add(pasted.numpy().tobytes())
    assert len(boxes) <= 1


def test_shares_of_all_sizes():
    shares = [cutmix(torch.zeros(2, 1, 32, 32), seeded(seed))[2] for seed in range(300)]
    assert min(shares) < 0.3
    assert max(shares) > 0.95
    # Of a square whose share s is uniform, at a uniform place: a side of s^0.5 is cut to
    # s^0.5 - s / 4 on average, so what is left is 1 - E[s - s^1.5 / 2 + s^2 / 16].
    assert abs(sum(shares) / 300 - (1 - (1 / 2 - 1 / 5 + 1 / 48))) < 0.03
