"""Resize images of any shape to squares."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, get_args

from PIL import Image

Resize = Literal["crop", "squash", "pad"]
RESIZES: tuple[Resize, ...] = get_args(Resize)
Interpolation = Literal["bilinear", "bicubic"]
FILTERS: dict[Interpolation, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
"""Filters of Pillow, all antialiased."""


def to_square(
    image: Image.Image,
    size: int,
    resize: Resize,
    interpolation: Interpolation = "bilinear",
    pixel_aspect: Fraction = Fraction(1),
) -> Image.Image:
    """Resize an image to ``size`` x ``size`` pixels.

    * crop: the shorter side becomes ``size`` and the centre is kept, as with ``Resize`` and
      ``CenterCrop`` of torchvision, with which the backbones were trained.
    * squash: both sides become ``size``, as in the paper.
    * pad: the longer side becomes ``size``, and the rest is black.

    Args:
        image: image of mode RGB, or any other mode that Pillow can resize.
        size: size of the result.
        resize: one of the three rules.
        interpolation: name of the filter.
        pixel_aspect: width of a pixel divided by its height. ``squash`` ignores it.
    """
    resample = FILTERS[interpolation]
    # Pixels that are not square make the image wider or narrower.
    width, height = image.width * pixel_aspect, Fraction(image.height)
    if resize == "squash" or width == height:
        if image.size == (size, size):
            return image
        return image.resize((size, size), resample)
    if resize == "pad":
        longer = max(width, height)
        shape = (max(1, round(size * width / longer)), max(1, round(size * height / longer)))
        square = Image.new(image.mode, (size, size))
        place = ((size - shape[0]) // 2, (size - shape[1]) // 2)
        square.paste(image.resize(shape, resample), place)
        return square
    shorter = min(width, height)
    (left, right), (top, bottom) = (
        _kept(length, int(size * side / shorter), size)
        for length, side in ((image.width, width), (image.height, height))
    )
    # Resize only the part that is kept: an image one pixel high would become huge.
    return image.resize((size, size), resample, box=(left, top, right, bottom))


def _kept(length: int, scaled: int, size: int) -> tuple[float, float]:
    """The range of ``length`` source pixels for the central ``size`` of ``scaled`` pixels."""
    start = round((scaled - size) / 2)
    return start * length / scaled, min(length, (start + size) * length / scaled)
