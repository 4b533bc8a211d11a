"""How the frames of a clip are turned upright."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

# Transpositions by the signs of the four numbers of a display matrix.
_TURNS = {
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}


def turn_of(matrix: Any) -> Image.Transpose | None:
    """The transposition of a clip's display matrix, rounded to the nearest one.

    Its numbers a, b, c, d move the pixel at (x, y), with y downwards, to (ax + cy, bx + dy).

    Args:
        matrix: side data of a frame (nine 32-bit integers), or None.
    """
    if matrix is None:
        return None
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    if abs(a) + abs(d) < abs(b) + abs(c):
        a = d = 0
    else:
        b = c = 0
    return _TURNS.get((_sign(a), _sign(b), _sign(c), _sign(d)))


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)
