"""Tokens as places: which stand for patches, in which order, and changing the map they form.

A vision transformer has [B, T, D] in the place of maps. The first tokens may stand for the whole
image (class token, registers); the others are its patches, row by row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from crumb.errors import InputError, setting

if TYPE_CHECKING:
    from crumb.nets.split import SplitNetwork


def grid_of_tokens(model: nn.Module, tokens: int) -> tuple[int, tuple[int, int] | None]:
    """How the tokens of square images are ordered: those of the whole image first, then a grid.

    Args:
        model: those of timm state how many tokens come first, and some add them only in later
            blocks; those of torchvision have a class token if they have one of that name.
        tokens: how many there are.

    Returns:
        how many come before the grid, and (rows, columns) of the grid; (0, None) where tokens form
        none, or where the network does not say in which order they are.
    """
    named = 1 if hasattr(model, "class_token") else None
    stated = getattr(model, "num_prefix_tokens", named)
    for first in () if stated is None else (stated, 0):
        side = math.isqrt(max(0, tokens - first))
        if side and side * side == tokens - first:
            return first, (side, side)
    return 0, None


def check_grid(network: SplitNetwork, subject: str) -> None:
    """See that the features of a network form a map of the image.

    Args:
        network: whose features are wanted as a map.
        subject: what wants it.

    Raises:
        InputError: they do not.
    """
    if network.grid is None:
        cut = setting("cut", network.backbone.cut)
        problem = f"needs a map, and the order of the tokens at {cut} is not known"
        raise InputError(subject, problem, "choose another network, or leave it out")


def on_grid(network: SplitNetwork, maps: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Change the map that the places of the image form; tokens of the whole image stay.

    Args:
        network: that the features are of; it has a grid (:func:`check_grid`).
        maps: float [B, C, H, W], what crosses its cut.
        change: of [B, C, rows, columns] into the same shape.

    Returns:
        float [B, C, H, W].
    """
    assert network.grid is not None
    if maps.shape[2:] == network.grid:
        return change(maps)
    whole, patches = maps.split([network.prefix_tokens, math.prod(network.grid)], 2)
    changed = change(patches.reshape(*maps.shape[:2], *network.grid))
    return torch.cat([whole, changed.reshape(patches.shape)], 2)
