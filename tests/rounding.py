"""How far apart two float computations of the same numbers may lie, and a processor to try it on.

Processors add in different orders: by the width of their vectors, the number of threads, the
length of a batch, the kernel that a library picks. So a test asks for equal bytes only where the
same computation is repeated on the same machine. Where numbers are computed in two ways, or were
written down on another machine, it allows what the rounding may come to: :func:`tolerance`.
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
"""Standard errors that are allowed for."""


def tolerance(terms: int, magnitude: float, layers: int = 1) -> float:
    """The largest difference between two float32 computations of the same sums, absolute.

    Each of n additions of a sum is off by at most u times the partial sum, u the unit roundoff, up
    or down. Their errors add up to about sqrt(n) u times the size of the result, with a tail that
    falls as that of a normal distribution (Higham and Mary, "A New Approach to Probabilistic
    Rounding Error Analysis", SIAM J. Sci. Comput. 2019). Errors of layers one after another are
    taken to add up.

    Args:
        terms: n, of the longest sum: inputs x kernel area of a convolution, inputs of a linear
            layer, numbers of a mean; those added up where nothing is between them.
        magnitude: largest absolute value that enters or leaves the sums. Differences of large
            numbers are as uncertain as the large numbers.
        layers: sums of this length, one after another.
    """
    return SURE * UNIT * layers * math.sqrt(terms) * magnitude


def sums_of(module: nn.Module) -> tuple[int, int]:
    """Of a network: the terms of its longest sum, and the layers that have weights."""
    weights = [p for p in module.parameters() if p.ndim > 1]
    return max(p[0].numel() for p in weights), len(weights)


def assert_rounded(
    found: Any, expected: Any, terms: int, layers: int = 1, magnitude: float | None = None
) -> None:
    """Two computations of the same numbers differ by no more than float32 rounds.

    Args:
        found: tensor, array, number, or a mapping of such.
        expected: likewise, of the same shape; not all zeros unless ``magnitude`` is given.
        terms: see :func:`tolerance`.
        layers: see :func:`tolerance`.
        magnitude: see :func:`tolerance`; by default the largest absolute value expected.
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
    """Every kernel that adds rounds a little differently, by operation and shapes.

    The same operation on the same shapes rounds the same again, at any place of a batch; on a
    batch of another size it does not. That is what a processor may do, and more than any one does.
    Values that are short in binary (counts, halves, sums of a few of them) are exact on every
    processor, and stay.

    Args:
        ulps: by how many units in the last place, at most.
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
            # The same for each image of a batch, whatever its place in it.
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
    """Compute in this mode from now on, in this thread and in those that are started later."""
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
