"""Pictures of reconstructions: energy of feature maps and of the reconstruction error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from crumb.reports.panels import Panel, blank


@dataclass(frozen=True)
class Shown:
    """A test image with its maps.

    Attributes:
        name: name of its class.
        path: path of the image.
        pixels: uint8 [S, S, 3].
        energy: energy of its feature map, [H, W].
        rebuilt: rebuilt of its reconstruction, [H, W].
        error: error of their difference, [H, W].
    """

    name: str
    path: str
    pixels: np.ndarray
    energy: np.ndarray
    rebuilt: np.ndarray
    error: np.ndarray

    @property
    def maps(self) -> tuple[np.ndarray, ...]:
        """The three."""
        return self.energy, self.rebuilt, self.error


def energy(maps: Tensor) -> np.ndarray:
    """Length of the channels at each position: float [B, C, H, W] to [B, H, W]."""
    return maps.square().sum(1).sqrt().cpu().numpy()


def maps_panel(shown: Sequence[Shown]) -> Panel:
    """A row for each image: the frame, the energies of map and reconstruction, and of the error.

    Args:
        shown: at least one.
    """
    figure = blank(9.6, 0.5 + 2.15 * len(shown))
    grid = figure.subplots(len(shown), 4, squeeze=False)
    heads = ("frame", "feature map", "reconstruction", "error")
    for axes, image in zip(grid, shown, strict=True):
        axes[0].imshow(image.pixels)
        axes[0].set_ylabel(f"{image.name}\nrow of pixels", fontsize=9)
        most = max(values.max() for values in image.maps)
        for place, values in enumerate(image.maps, 1):
            axes[place].imshow(values, cmap="viridis", vmin=0, vmax=most)
            axes[place].set_ylabel("row of positions", fontsize=8)
        bar = figure.colorbar(axes[1].images[0], ax=axes[1:], shrink=0.85)
        bar.set_label("activation, length over channels", fontsize=8)
        for one in axes:
            one.tick_params(labelsize=7)
    for one, head in zip(grid[0], heads, strict=True):
        one.set_title(head, fontsize=10)
    for place, one in enumerate(grid[-1]):
        one.set_xlabel("column of positions" if place else "column of pixels", fontsize=8)
    rows = [
        [image.path, image.name, *place, *(float(values[place]) for values in image.maps)]
        for image in shown
        for place in np.ndindex(image.energy.shape)
    ]
    caption = (
        "Test frames, the energy of their feature maps (length of the vector of channels at each "
        "position), that of the reconstruction from memory blocks, and that of their difference. "
        "One scale for the three maps of a row."
    )
    header = ["image", "class", "row", "column", "feature map", "reconstruction", "error"]
    return Panel("reconstructions", "Reconstructions", caption, figure, header, rows)
