"""The head: the last layer of a network, with one output per class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Head = nn.Linear | nn.Conv2d


def averaged(head: Head, values: Tensor) -> Tensor:
    """Average over the positions of a feature map or of tokens: [B, D]. Vectors are unchanged."""
    if isinstance(head, nn.Conv2d):
        return values.mean((2, 3))
    return values if values.ndim == 2 else values.flatten(1, -2).mean(1)


def fresh_head(
    template: Head,
    outputs: int,
    kernel: int,
    generator: torch.Generator,
) -> Head:
    """A new layer with the type and input size of another one, and torch's default initialisation.

    Args:
        template: the layer that it replaces.
        outputs: number of classes.
        kernel: kernel size of a convolution.
        generator: generator of the initial values (CPU).
    """
    head: Head
    # The constructors draw from the global generator, except on the meta device.
    with torch.device("meta"):
        if isinstance(template, nn.Linear):
            head = nn.Linear(template.in_features, outputs)
        else:
            head = nn.Conv2d(template.in_channels, outputs, kernel, padding=kernel // 2)
    head = head.to_empty(device="cpu")
    assert head.bias is not None
    bound = head.weight[0].numel() ** -0.5
    with torch.no_grad():
        head.weight.uniform_(-bound, bound, generator=generator)
        head.bias.uniform_(-bound, bound, generator=generator)
    return head.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
