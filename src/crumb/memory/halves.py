"""Half-precision numbers with stochastic rounding for running means, and packed triangles."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

_SIGNIFICANT = 11
"""Bits of a half-precision number, the leading one included."""
_SMALLEST = -24
"""Exponent of the smallest half-precision number above zero."""

_BIAS, _FRACTION = 127, 23
"""Exponent bias and mantissa bits of float32."""


def round_randomly(values: Tensor, generator: torch.Generator) -> Tensor:
    """Half-precision numbers whose expectations are ``values``.

    The updates of a running mean become smaller and smaller. With rounding to the nearest number,
    the mean would stop changing. Stochastic rounding keeps it unbiased: it rounds up or down with
    probabilities in proportion to the distances (Gupta et al., "Deep Learning with Limited
    Numerical Precision", ICML 2015, section 3).

    Args:
        values: float32, of any shape, with absolute values up to 65,504.
        generator: generator of the choices, on the device of the values.

    Returns:
        float16 of the same shape.
    """
    _, exponents = torch.frexp(values)
    spacing = (exponents - _SIGNIFICANT).clamp_(min=_SMALLEST)
    # Set the bits of the power of two, because torch.ldexp computes it with pow.
    unit = (spacing + _BIAS).bitwise_left_shift_(_FRACTION).view(torch.float32)
    # In units of the spacing, all operations below are exact.
    steps = values / unit
    lower = steps.floor()
    draws = torch.rand(values.shape, generator=generator, device=values.device)
    chosen = lower + (draws < steps - lower)
    return (chosen * unit).to(torch.float16)


def triangle_size(side: int) -> int:
    """Number of entries on and below the diagonal of a square matrix."""
    return side * (side + 1) // 2


def pack(matrix: Tensor) -> Tensor:
    """The entries on and below the diagonal, row by row: [d, d] to [d (d + 1) / 2].

    The triangle of the leading k rows and columns is the leading part of the result.
    """
    rows, columns = _places(len(matrix), matrix.device)
    return matrix[rows, columns]


def unpack(triangle: Tensor, side: int) -> Tensor:
    """The symmetric float32 matrix [side, side] from the result of :func:`pack`."""
    rows, columns = _places(side, triangle.device)
    values = triangle.float()
    matrix = torch.empty(side, side, device=triangle.device)
    matrix[rows, columns] = values
    matrix[columns, rows] = values
    return matrix


@lru_cache(maxsize=2)
def _places(side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):
        rows, columns = torch.tril_indices(side, side, device=device)
    return rows, columns
