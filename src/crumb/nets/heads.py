"""The last layer of a network, whose outputs are the classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Head = nn.Linear | nn.Conv2d


def averaged(head: Head, values: Tensor) -> Tensor:
    """Over the places of a map or of tokens, [B, D]; what has no places stays as it is."""
    if isinstance(head, nn.Conv2d):
        return values.mean((2, 3))
    return values if values.ndim == 2 else values.flatten(1, -2).mean(1)


def fresh_head(
    template: Head,
    outputs: int,
    kernel: int,
    generator: torch.Generator,
) -> Head:
    """A layer of the kind and input of another, with torch's default initialisation.

    Args:
        template: the layer that it replaces.
        outputs: number of classes.
        kernel: side of the kernel of a convolution.
        generator: of the values (CPU).
    """
    head: Head
    # The constructors draw from the global generator; on the meta device they draw nothing.
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
