"""The momentum of parameters that grow, are saved and are loaded."""

from __future__ import annotations

from collections.abc import Sequence

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
