"""Positions in images that choose a memory block, for the images that use it most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from crumb.reports.panels import COLOURS, Panel, blank


@dataclass(frozen=True)
class BlockImage:
    """A test image in which a block is chosen.

    Attributes:
        block: its number.
        name: name of the image's class.
        path: path of the image.
        pixels: uint8 [S, S, 3].
        uses: number of slices per position that choose the block, int64 [H, W].
    """

    block: int
    name: str
    path: str
    pixels: np.ndarray
    uses: np.ndarray


def uses_of(codes: Tensor, block: int, shape: tuple[int, int]) -> np.ndarray:
    """How many slices of each position choose a block.

    Args:
        codes: integers [B, N], ordered by row, column, slice.
        block: its number.
        shape: rows and columns of positions.

    Returns:
        int64 [B, H, W].
    """
    chosen = codes.cpu().numpy().reshape(len(codes), *shape, -1) == block
    return chosen.sum(-1)


def block_images_panel(shown: Sequence[Sequence[BlockImage]], run: int) -> Panel:
    """A row for each block: the images that use it most, its positions in colour.

    Args:
        shown: shown of each block its images, most uses first; at least one of one.
        run: whose codebook it is.
    """
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    columns = max(map(len, shown))
    figure = blank(1.2 + 1.55 * columns, 0.4 + 1.85 * len(shown))
    grid = figure.subplots(len(shown), columns, squeeze=False)
    most = max(image.uses.max() for images in shown for image in images)
    # From nothing to a colour that covers.
    ends = [to_rgba(COLOURS[0], alpha) for alpha in (0.0, 0.9)]
    tint = LinearSegmentedColormap.from_list("tint", ends)
    for axes, images in zip(grid, shown, strict=True):
        for one, image in zip(axes, images, strict=False):
            side = len(image.pixels)
            one.imshow(image.pixels)
            whole = (-0.5, side - 0.5, side - 0.5, -0.5)
            one.imshow(image.uses, cmap=tint, vmin=0, vmax=most, extent=whole)
            one.set_title(image.name, fontsize=8, pad=2)
        for one in axes:
            one.set_xticks([])
            one.set_yticks([])
        axes[0].set_ylabel(f"block {images[0].block}", fontsize=9)
        bar = figure.colorbar(axes[0].images[1], ax=axes, shrink=0.8)
        bar.set_label("slices", fontsize=8)
    rows = [
        [image.block, image.path, image.name, *place, int(uses)]
        for images in shown
        for image in images
        for place, uses in np.ndenumerate(image.uses)
        if uses
    ]
    caption = (
        "The memory blocks that say most about the class (rows) and the test images in which each "
        f"is chosen most often (run {run}); in colour how many slices of the channels choose it at "
        "a position. The table has the positions with at least one."
    )
    header = ["block", "image", "class", "row", "column", "slices"]
    return Panel("block_images", "Where blocks are chosen", caption, figure, header, rows)
