"""Random crops, flips and mixtures of feature maps or images, from a generator that is given."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from crumb.memory.replay import take

WIDEST = 4 / 3
"""Crops are at most so much wider than high, or higher than wide."""


def random_crops(maps: Tensor, least_area: float, generator: torch.Generator) -> Tensor:
    """Of each map a random crop, resized to the whole, mirrored half of the time.

    Args:
        maps: float [B, C, H, W].
        least_area: of a crop, as a share of the map; areas are uniform above it.
        generator: of the choices (CPU).

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
        generator: of the box and of the partners (CPU).

    Returns:
        the mixed maps; the partner of each, int64 [B], on the CPU; and the share of a map that is
        still its own.
    """
    partners = torch.randperm(len(features), generator=generator)
    chances = torch.rand(3, generator=generator).tolist()
    # The share meant to be pasted is uniform: a Beta distribution with both parameters 1.
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
