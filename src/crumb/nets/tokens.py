"""Tokens as positions: find the grid of the patch tokens, and change the map that they form.

A vision transformer has tokens, [B, T, D], instead of feature maps. The first tokens may stand for
the whole image (class token, registers). The others are its patches, row by row.
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
    """Find the grid of the patch tokens of a square image, and the number of tokens before it.

    Args:
        model: the network. timm networks state the number of prefix tokens, and some add them only
            in later blocks. torchvision networks have a class token if they have an attribute of
            that name.
        tokens: number of tokens.

    Returns:
        the number of tokens before the grid, and (rows, columns) of the grid; (0, None) if the
        tokens form no grid, or if the network does not state their order.
    """
    named = 1 if hasattr(model, "class_token") else None
    stated = getattr(model, "num_prefix_tokens", named)
    for first in () if stated is None else (stated, 0):
        side = math.isqrt(max(0, tokens - first))
        if side and side * side == tokens - first:
            return first, (side, side)
    return 0, None


def check_grid(network: SplitNetwork, subject: str) -> None:
    """Check that the features of a network form a map of the image.

    Args:
        network: the network.
        subject: subject of the error message.

    Raises:
        InputError: they form no map.
    """
    if network.grid is None:
        cut = setting("cut", network.backbone.cut)
        problem = f"needs a map, and the order of the tokens at {cut} is not known"
        raise InputError(subject, problem, "choose another network, or leave it out")


def on_grid(network: SplitNetwork, maps: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Change the map that the features form. Tokens for the whole image are kept.

    Args:
        network: the network of the features. It has a grid (:func:`check_grid`).
        maps: features, float [B, C, H, W].
        change: maps [B, C, rows, columns] to the same shape.

    Returns:
        float [B, C, H, W].
    """
    assert network.grid is not None
    if maps.shape[2:] == network.grid:
        return change(maps)
    whole, patches = maps.split([network.prefix_tokens, math.prod(network.grid)], 2)
    changed = change(patches.reshape(*maps.shape[:2], *network.grid))
    return torch.cat([whole, changed.reshape(patches.shape)], 2)
