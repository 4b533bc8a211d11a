"""Tolerances for two float computations of the same numbers, and a simulated processor.

Processors add in different orders, depending on their vector width, the number of threads, the
batch size and the kernel that a library chooses. A test therefore expects equal bytes only if the
same computation is repeated on the same machine. If numbers are computed in two ways, or come from
another machine, it allows a rounding error: :func:`tolerance`.
"""

from __future__ import annotations

import math
import threading
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_map_only

UNIT = 2.0**-24
"""Largest relative error of one operation in float32 (round to nearest)."""


SURE = 16
"""Number of standard errors that are allowed."""


def tolerance(terms: int, magnitude: float, layers: int = 1) -> float:
    """Largest absolute difference between two float32 computations of the same sums.

    Each of the n additions of a sum has an error of at most u times the partial sum, where u is the
    unit roundoff. The errors add up to about sqrt(n) u times the magnitude of the result, with the
    tail of a normal distribution (Higham and Mary, "A New Approach to Probabilistic Rounding Error
    Analysis", SIAM J. Sci. Comput. 2019). Errors of successive layers are added.

    Args:
        terms: number of terms of the longest sum, n: inputs x kernel area of a convolution, inputs
            of a linear layer, values of a mean. Add these numbers for operations without a
            nonlinearity between them.
        magnitude: largest absolute input or output of the sums. Differences of large numbers have
            the errors of the large numbers.
        layers: number of successive sums of this length.
    """
    return SURE * UNIT * layers * math.sqrt(terms) * magnitude


def sums_of(module: nn.Module) -> tuple[int, int]:
    """``terms`` and ``layers`` of a network."""
    weights = [p for p in module.parameters() if p.ndim > 1]
    return max(p[0].numel() for p in weights), len(weights)


def assert_rounded(
    found: Any, expected: Any, terms: int, layers: int = 1, magnitude: float | None = None
) -> None:
    """Assert that two computations of the same numbers differ only by float32 rounding.

    Args:
        found: tensor, array, number, or a mapping of these.
        expected: the same type and shape; not all zeros unless ``magnitude`` is given.
        terms: see :func:`tolerance`.
        layers: see :func:`tolerance`.
        magnitude: see :func:`tolerance`. Default: the largest absolute expected value.
    """
    if isinstance(expected, Mapping):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert_rounded(found[name], value, terms, layers, magnitude)
        return
    wanted = np.asarray(_plain(expected), dtype=np.float64)
    allowed = tolerance(terms, _scale(wanted, magnitude), layers)
    np.testing.assert_allclose(_plain(found), wanted, rtol=0, atol=allowed)


def rounded(expected: Any, terms: int, layers: int = 1, magnitude: float | None = None) -> Any:
    """The same for ``==``: ``expected`` with the tolerance of :func:`assert_rounded`."""
    scale = _scale(np.asarray(expected), magnitude)
    return pytest.approx(expected, rel=0, abs=tolerance(terms, scale, layers))


def _scale(expected: np.ndarray, magnitude: float | None) -> float:
    scale = float(np.abs(expected).max()) if magnitude is None else float(magnitude)
    assert scale > 0, "zeros have no magnitude: give one"
    return scale


def _plain(value: Any) -> Any:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else value


class OtherProcessor(TorchDispatchMode):
    """A mode that changes the rounding of every kernel that adds, by operation and shapes.

    The same operation on the same shapes always rounds in the same way, for every image of a batch,
    but differently with another batch size. Real processors differ by less than this. Values with
    few binary digits (counts, halves, small sums of them) are exact on every processor, so they are
    not changed.

    Args:
        ulps: maximum change in units in the last place.
    """

    def __init__(self, ulps: int = 2) -> None:
        super().__init__()
        self.ulps = ulps
        self._noise: dict[tuple[str, torch.Size, str], Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name not in ADDING:
            return result
        shapes = [tuple(a.shape) for a in args if isinstance(a, Tensor)]
        key = f"{name} {shapes}"
        return tree_map_only(Tensor, lambda value: self._changed(key, value), result)

    def _changed(self, key: str, value: Tensor) -> Tensor:
        if value.dtype != torch.float32 or not value.numel() or value.device.type != "cpu":
            return value
        place = (key, value.shape, str(value.stride()))
        if place not in self._noise:
            generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
            # The same for each image of a batch.
            shape = (1, *value.shape[1:]) if value.ndim > 1 else tuple(value.shape)
            steps = torch.randint(-self.ulps, self.ulps + 1, shape, generator=generator)
            self._noise[place] = 1 + steps.float() * 2.0**-23
        short = value * 2.0**10
        return value.mul_(torch.where(short == short.round(), 1, self._noise[place]))


ADDING = frozenset(
    " ".join(
        (
            "mm addmm bmm baddbmm dot mv addmv mean sum var std norm linalg_vector_norm cumsum",
            "convolution convolution_backward mkldnn_convolution _linear_pointwise",
            "_scaled_dot_product_flash_attention_for_cpu",
            "native_batch_norm native_batch_norm_backward _native_batch_norm_legit",
            "_native_batch_norm_legit_no_training native_layer_norm native_group_norm",
            "_log_softmax _softmax _log_softmax_backward_data _softmax_backward_data logsumexp",
            "_adaptive_avg_pool2d avg_pool2d upsample_bilinear2d _upsample_bilinear2d_aa",
            "exp log sigmoid tanh gelu silu rsqrt nll_loss_forward",
        )
    ).split()
)
"""Operations whose last bits differ between processors."""


def enter(mode: OtherProcessor) -> None:
    """Enter this mode permanently, in this thread and in all threads started later."""
    started = threading.Thread.run

    def run(self: threading.Thread) -> None:
        with mode:
            started(self)

    exported = torch.onnx.export

    def export(*given: Any, **named: Any) -> Any:
        # The exporter cannot trace in a mode, and networks are the same on every processor.
        with _disable_current_modes():
            return exported(*given, **named)

    threading.Thread.run = run
    torch.onnx.export = export
    mode.__enter__()
