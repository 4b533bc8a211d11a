"""The gradient of the last layer for each image of a batch, in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from crumb.nets.split import SplitNetwork


@dataclass
class Seen:
    """What passed the last layer in one forward pass.

    Attributes:
        entered: float [B, ...], without gradient.
        left: float [B, ...], of which derivatives can be taken.
    """

    entered: Tensor
    left: Tensor


@contextmanager
def seen_at_head(network: SplitNetwork) -> Iterator[Seen]:
    """Context in which a forward pass notes what enters and leaves the last layer.

    No gradient reaches what lies before the layer.
    """
    seen = Seen(torch.empty(0), torch.empty(0))

    def note(_: nn.Module, entered: tuple[Tensor, ...], left: Tensor) -> Tensor:
        seen.entered, seen.left = entered[0].detach(), left.detach().requires_grad_()
        # What follows may write into its input.
        return seen.left.clone()

    hook, tail = network.head.register_forward_hook(note), network.tail
    # Compiled code does not call the hook.
    compiled, tail._compiled_call_impl = tail._compiled_call_impl, None
    try:
        yield seen
    finally:
        tail._compiled_call_impl = compiled
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
        weights = conv2d_weight(
            entered, shape, error, layer.stride[0], layer.padding[0], layer.dilation[0]
        )
        return torch.cat([weights.flatten(), error.sum((0, 2, 3))])
    error = error.flatten(0, -2)[:, :outputs]
    return torch.cat([(error.T @ entered.flatten(0, -2)).flatten(), error.sum(0)])
