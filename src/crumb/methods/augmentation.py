"""Random crops and mixtures of feature maps or images, with an explicit generator.

There are two kinds of crops, because two published methods draw them differently: Rainbow's have
any position and are mirrored half of the time, REMIND's are aligned to positions of the map.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from crumb.memory.replay import take

WIDEST = 4 / 3
"""Largest ratio of width to height of a crop, and of height to width."""
MIN_AREA = 4 / 13
"""Smallest area of an aligned crop as a share of the map (the original REMIND's, on maps of 13 x
13)."""
_TRIES = 10


def random_crops(maps: Tensor, least_area: float, generator: torch.Generator) -> Tensor:
    """Take a random crop of each map, resize it to the full size and mirror it half of the time.

    Args:
        maps: float [B, C, H, W].
        least_area: smallest crop area as a share of the map; areas are uniform above it.
        generator: random generator (CPU).

    Returns:
        float [B, C, H, W] in channels-last memory, bilinear.
    """
    chances = torch.rand(5, len(maps), generator=generator)
    area = least_area + (1 - least_area) * chances[0]
    ratio = torch.exp((2 * chances[1] - 1) * math.log(WIDEST))
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    where = torch.zeros(len(maps), 2, 3)
    where[:, 0, 0] = torch.where(chances[4] < 0.5, width, -width)
    where[:, 1, 1] = height
    where[:, 0, 2] = (2 * chances[2] - 1) * (1 - width)
    where[:, 1, 2] = (2 * chances[3] - 1) * (1 - height)
    places = affine_grid(where, list(maps.shape), align_corners=False).to(maps.device)
    cropped = grid_sample(maps, places, padding_mode="border", align_corners=False)
    return cropped.contiguous(memory_format=torch.channels_last)


def cutmix(features: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
    """Paste one random box of each map's partner into it.

    Yun, Han, Oh, Chun, Choe, Yoo, "CutMix: Regularization Strategy to Train Strong Classifiers
    with Localizable Features", ICCV 2019; there the box is cut from images.

    Args:
        features: float [B, C, H, W].
        generator: random generator of the box and the partners (CPU).

    Returns:
        the mixed maps; the partner of each, int64 [B], on the CPU; and the remaining share of each
            original map.
    """
    partners = torch.randperm(len(features), generator=generator)
    chances = torch.rand(3, generator=generator).tolist()
    # The pasted share is uniform: Beta(1, 1).
    side = chances[0] ** 0.5
    (top, bottom), (left, right) = (
        _span(size, size * chance, size * side)
        for size, chance in zip(features.shape[2:], chances[1:], strict=True)
    )
    mixed = features.clone()
    mixed[:, :, top:bottom, left:right] = take(features[:, :, top:bottom, left:right], partners)
    pasted = (bottom - top) * (right - left) / features[0, 0].numel()
    return mixed, partners, 1 - pasted


def _span(size: int, centre: float, length: float) -> tuple[int, int]:
    return round(max(0.0, centre - length / 2)), round(min(float(size), centre + length / 2))


def random_resized_crops(maps: Tensor, generator: torch.Generator) -> Tensor:
    """Take a random aligned crop of each map and resize it to the full size (bilinear).

    Areas are uniform from 4/13 of the map to all of it; the logarithm of width to height is uniform
    from log 3/4 to log 4/3 (both before rounding to integer positions). A crop that does not fit is
    drawn again; after ten failures the full map is used.

    Args:
        maps: float32 [B, C, H, W].
        generator: random generator (CPU).

    Returns:
        float32 [B, C, H, W] in channels-last memory.
    """
    count, _, height, width = maps.shape
    drawn = torch.rand(2, count, _TRIES, generator=generator, dtype=torch.float64)
    areas = height * width * (MIN_AREA + (1 - MIN_AREA) * drawn[0])
    ratios = (math.log(WIDEST) * (2 * drawn[1] - 1)).exp()
    sides = torch.stack([(areas / ratios).sqrt().round(), (areas * ratios).sqrt().round()])
    whole = torch.tensor([height, width], dtype=torch.float64).view(2, 1, 1)
    fits = ((sides >= 1) & (sides <= whole)).all(0)
    # The full map is the last candidate, because it always fits.
    sides = torch.cat([sides, whole.expand(2, count, 1)], 2)
    first = torch.cat([fits, fits.new_ones(count, 1)], 1).int().argmax(1)
    sides = sides[:, torch.arange(count), first]
    room = whole[:, :, 0] - sides + 1
    starts = (torch.rand(2, count, generator=generator, dtype=torch.float64) * room).floor()
    return resized_crops(maps, starts, sides)


def resized_crops(maps: Tensor, starts: Tensor, sides: Tensor) -> Tensor:
    """Resize a given crop of each map to the full size (bilinear).

    Args:
        maps: float32 [B, C, H, W].
        starts: top rows and left columns, float64 [2, B] of whole numbers, on the CPU.
        sides: heights and widths, likewise; at least 1, at most those of the map.

    Returns:
        float32 [B, C, H, W] in channels-last memory.
    """
    height, width = maps.shape[2:]
    rows = _interpolation(starts[0], sides[0], height).to(maps.device)
    columns = _interpolation(starts[1], sides[1], width).to(maps.device)
    places = maps.permute(0, 2, 3, 1)
    scaled = (rows @ places.flatten(2)).view(places.shape)
    return (columns[:, None] @ scaled).permute(0, 3, 1, 2)


def _interpolation(starts: Tensor, sides: Tensor, size: int) -> Tensor:
    """Interpolation weights of each input position for each output position, float32 [B, size,
    size].

    Pixel centres are aligned, and positions at the edge of the crop have no neighbour outside it.
    """
    centres = (torch.arange(size) + 0.5) * (sides / size)[:, None] - 0.5
    wanted = centres.clamp(min=0).minimum(sides[:, None] - 1) + starts[:, None]
    return (1 - (wanted[:, :, None] - torch.arange(size)).abs()).clamp(min=0).float()


def mixed(values: Tensor, first: int, share: float) -> Tensor:
    """Mix values in pairs: of the values from ``first`` on, each of the first half with one of the
    second.

    Zhang, Cisse, Dauphin, Lopez-Paz, "mixup: Beyond Empirical Risk Minimization", ICLR 2018.

    Args:
        values: float [first + 2 n, ...]; those before ``first`` are unchanged.
        first: index of the first mixed value.
        share: weight of the first value of each pair.

    Returns:
        float [first + n, ...].
    """
    one, other = values[first:].chunk(2)
    return torch.cat([values[:first], torch.lerp(other, one, share)])


def beta(alpha: float, generator: torch.Generator) -> float:
    """One number from Beta(alpha, alpha)."""
    # Torch's Beta distribution uses only the global generator.
    seed = int(torch.randint(1 << 62, (), generator=generator))
    return float(np.random.default_rng(seed).beta(alpha, alpha))
