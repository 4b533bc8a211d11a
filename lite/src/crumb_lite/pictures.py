"""Clips, image files, Pillow images and arrays as square pixels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from crumb_lite.errors import InputError
from crumb_lite.resize import to_square

_IMAGES = frozenset(
    [
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".webp", ".avif"),
        *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2"),
    ]
)
_REMEDY = "repair or remove it"
Square = tuple[int, Any, Any]
"""Side in pixels, what becomes of the aspect ratio, and the filter (:func:`to_square`)."""


def frames_of(what: Any, square: Square) -> np.ndarray:
    """The frames of a clip, one per second, or one image.

    Args:
        what: path of a clip or an image, a Pillow image, or an array, uint8 [H, W, 3], in RGB.
        square: the form that the model expects.

    Returns:
        uint8 [n, S, S, 3].

    Raises:
        InputError: a file is missing or broken, or the array has another shape or type.
    """
    if isinstance(what, (str, os.PathLike)):
        path = Path(what)
        if not path.is_file():
            raise InputError(path, "no such file", "check the path")
        if path.suffix.lower() not in _IMAGES:
            return _clip(path, square)
        return _file(path, square)[None]
    if isinstance(what, Image.Image):
        return _pixels(what, square)[None]
    if not isinstance(what, np.ndarray) or what.dtype != np.uint8 or what.shape[2:] != (3,):
        raise InputError("images", "are of an unknown kind", "give paths or uint8 [H, W, 3]")
    return _pixels(Image.fromarray(what), square)[None]


def several(what: Any) -> Sequence[Any]:
    """Inputs as a list, also a single one.

    Raises:
        InputError: the list is empty.
    """
    found = what if isinstance(what, (list, tuple)) else [what]
    if not found:
        raise InputError("images", "are none", "give at least one")
    return found


def _file(path: Path, square: Square) -> np.ndarray:
    try:
        with Image.open(path) as image:
            # A large JPEG is decoded at a fraction of its resolution.
            image.draft("RGB", (square[0], square[0]))
            return _pixels(image, square)
    except InputError:
        raise
    # Each decoder of Pillow has its own ways to fail on a damaged file.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise InputError(path, f"cannot be read as an image ({reason})", _REMEDY) from error


def _pixels(image: Image.Image, square: Square) -> np.ndarray:
    size, resize, interpolation = square
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if not image.width or not image.height:
        raise InputError("an image", "has no pixels", "give one of at least 1 x 1")
    if image.mode in ("I", "F"):
        raise InputError("an image", "has pixels of unknown range", "convert it to 8 bits")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return np.array(to_square(image.convert("RGB"), size, resize, interpolation))


def _clip(path: Path, square: Square) -> np.ndarray:
    try:
        import av  # noqa: F401
    except ImportError as error:
        remedy = "pip install 'crumb-lite[video]'"
        raise InputError(path, "needs PyAV to be read as a clip", remedy) from error
    from crumb_lite.video import frames

    size, resize, _ = square
    return np.stack([np.asarray(frame) for frame in frames(path, size, resize)])
