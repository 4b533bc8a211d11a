"""A workaround for a bug of oneDNN in 1 x 1 convolutions with a stride."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

_SAFE_CHANNELS = 16
"""With at least this many input channels, the bug was never seen."""


class ThinnedConv(nn.Conv2d):
    """A 1 x 1 convolution with a stride, computed without a stride on the kept positions.

    For the gradient of the weights, in channels-last memory and with fewer than 16 input channels,
    oneDNN writes beyond its memory and the process crashes (torch 2.15, AVX-512).

    Args:
        layer: the convolution whose weights it uses.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        with torch.device("meta"):
            super().__init__(layer.in_channels, layer.out_channels, 1, layer.stride)  # pyright: ignore[reportArgumentType]
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, input: Tensor) -> Tensor:
        """Float [B, C, H, W] to [B, outputs, H / stride, W / stride], rounded up."""
        down, right = self.stride
        return conv2d(input[..., ::down, ::right], self.weight, self.bias)


def replace_strided(tail: nn.Module) -> None:
    """Replace each convolution that is affected by the bug by a :class:`ThinnedConv`."""
    for parent in list(tail.modules()):
        for name, layer in parent.named_children():
            if type(layer) is nn.Conv2d and _is_affected(layer):
                setattr(parent, name, ThinnedConv(layer))


def _is_affected(layer: nn.Conv2d) -> bool:
    thin = layer.kernel_size == (1, 1) and max(layer.stride) > 1 and layer.padding == (0, 0)
    return thin and layer.groups == 1 and layer.in_channels < _SAFE_CHANNELS
