"""The gradient of the last layer for each image of a batch, in one pass."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class Seen:
    """What passed a layer in one forward pass.

    Attributes:
        entered: float [B, ...], without gradient.
        left: float [B, ...], of which derivatives can be taken.
    """

    entered: Tensor
    left: Tensor


@contextmanager
def seen_at(layer: nn.Module) -> Iterator[Seen]:
    """Context in which a forward pass notes what enters and leaves a layer.

    No gradient reaches what lies before the layer.
    """
    seen = Seen(torch.empty(0), torch.empty(0))

    def note(_: nn.Module, entered: tuple[Tensor, ...], left: Tensor) -> Tensor:
        seen.entered, seen.left = entered[0].detach(), left.detach().requires_grad_()
        # What follows may write into its input.
        return seen.left.clone()

    hook = layer.register_forward_hook(note)
    # Compiled code does not call the hook. Without its compiler, nothing is compiled.
    compiled = "torch._dynamo" in sys.modules
    try:
        with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
            yield seen
    finally:
        hook.remove()


def layer_gradient(
    layer: nn.Linear | nn.Conv2d, entered: Tensor, error: Tensor, outputs: int
) -> Tensor:
    """Gradient by weights and bias of a layer's first outputs, float [outputs * (D + 1)].

    Args:
        layer: applied at each place on its own, where there are several.
        entered: what entered it, [B, C, H, W] of a convolution and [B, ..., D] of a linear layer.
        error: derivative of the loss by what left it, of the same form.
        outputs: number of outputs.
    """
    entered, error = entered.float(), error.float()
    if isinstance(layer, nn.Conv2d):
        error, shape = error[:, :outputs], (outputs, *layer.weight.shape[1:])
        assert not isinstance(layer.padding, str)
        weights = torch.nn.grad.conv2d_weight(
            entered, shape, error, layer.stride, layer.padding, layer.dilation
        )
        return torch.cat([weights.flatten(), error.sum((0, 2, 3))])
    error = error.flatten(0, -2)[:, :outputs]
    return torch.cat([(error.T @ entered.flatten(0, -2)).flatten(), error.sum(0)])
