"""Gradients as one vector; the momentum of parameters that grow, are saved and are loaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


def replace_parameters(
    optimizer: torch.optim.SGD, old: Sequence[nn.Parameter], new: Sequence[nn.Parameter]
) -> None:
    """Train ``new`` in the place of ``old``; momentum is carried over to the rows both have."""
    for before, after in zip(old, new, strict=True):
        for group in optimizer.param_groups:
            group["params"] = [after if p is before else p for p in group["params"]]
        state = optimizer.state.pop(before, {})
        buffer = state.get("momentum_buffer")
        if buffer is not None:
            rows = min(len(buffer), len(after))
            grown = torch.zeros_like(after)
            grown[:rows] = buffer[:rows]
            optimizer.state[after] = {"momentum_buffer": grown}


def momentum_state(
    optimizer: torch.optim.SGD, parameters: dict[str, nn.Parameter]
) -> dict[str, Tensor]:
    """The momentum of each parameter that has been trained, as ``momentum.<name>``."""
    return {
        f"momentum.{name}": buffer
        for name, parameter in parameters.items()
        if (buffer := optimizer.state.get(parameter, {}).get("momentum_buffer")) is not None
    }


def restore_momentum(
    optimizer: torch.optim.SGD, parameters: dict[str, nn.Parameter], state: dict[str, Tensor]
) -> None:
    """Take over :func:`momentum_state`."""
    optimizer.state.clear()
    for name, parameter in parameters.items():
        if (buffer := state.get(f"momentum.{name}")) is not None:
            # In the memory format of the parameter, which is what the next step is fastest with.
            kept = torch.empty_like(parameter, requires_grad=False).copy_(buffer)
            optimizer.state[parameter] = {"momentum_buffer": kept}


def flat_gradient(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The gradients as one float32 vector; zeros stand for parameters that have none."""
    return torch.cat(
        [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters]
    )


@torch.no_grad()
def set_flat_gradient(parameters: Iterable[nn.Parameter], gradient: Tensor) -> None:
    """Put back what :func:`flat_gradient` gave; parameters without gradient stay without."""
    start = 0
    for parameter in parameters:
        if parameter.grad is not None:
            part = gradient[start : start + parameter.numel()]
            parameter.grad.copy_(part.view(parameter.shape))
        start += parameter.numel()
