"""Half-precision numbers with stochastic rounding, and packed triangles."""

from __future__ import annotations

import numpy as np

_SIGNIFICANT = 11
"""Bits of a half-precision number, the leading one included."""
_SMALLEST = -24
"""Exponent of the smallest half-precision number above zero."""


def round_randomly(values: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """Half-precision numbers whose expectations are ``values``.

    Each value is rounded up or down with probabilities in proportion to the distances (Gupta et
    al., "Deep Learning with Limited Numerical Precision", ICML 2015, section 3).

    Args:
        values: float32, of any shape, at most 65,504 in size.
        draws: generator of the choices.

    Returns:
        float16, of the same shape.
    """
    _, exponents = np.frexp(values)
    unit = np.ldexp(np.float32(1), np.maximum(exponents - _SIGNIFICANT, _SMALLEST))
    steps = values / unit
    lower = np.floor(steps)
    chosen = lower + (draws.random(values.shape, np.float32) < steps - lower)
    return (chosen * unit).astype(np.float16)


def triangle_size(side: int) -> int:
    """Entries on and below the diagonal of a square matrix."""
    return side * (side + 1) // 2


def pack(matrix: np.ndarray) -> np.ndarray:
    """The entries on and below the diagonal, row by row: [d, d] to [d (d + 1) / 2]."""
    return matrix[np.tril_indices(len(matrix))]


def unpack(triangle: np.ndarray, side: int) -> np.ndarray:
    """The symmetric float32 matrix [side, side] of what :func:`pack` gave."""
    rows, columns = np.tril_indices(side)
    matrix = np.empty((side, side), np.float32)
    matrix[rows, columns] = matrix[columns, rows] = triangle
    return matrix
