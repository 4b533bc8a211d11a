"""Flat gradients, and the state of optimizers whose parameters grow, are saved and loaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

_MOMENTUM = "momentum_buffer"


def replace_parameters(
    optimizer: Optimizer, old: Sequence[nn.Parameter], new: Sequence[nn.Parameter]
) -> None:
    """Replace the parameter ``old`` by ``new`` and copy the state of the rows that both have."""
    for before, after in zip(old, new, strict=True):
        for group in optimizer.param_groups:
            group["params"] = [after if p is before else p for p in group["params"]]
        state = optimizer.state.pop(before, {})
        if any(value is not None for value in state.values()):
            optimizer.state[after] = {
                key: _with_rows(value, before, after) for key, value in state.items()
            }


def _with_rows(value: Any, before: nn.Parameter, after: nn.Parameter) -> Any:
    """Resize per-element state to a parameter with other rows; other state is unchanged."""
    if not isinstance(value, Tensor) or value.shape != before.shape:
        return value
    rows = min(len(before), len(after))
    grown = torch.zeros_like(after, dtype=value.dtype, requires_grad=False)
    grown[:rows] = value[:rows]
    return grown


def optimizer_state(optimizer: Optimizer, parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """The state that an optimizer keeps between steps.

    Returns:
        ``momentum.<name>`` (SGD) or ``optimizer.<key>.<name>`` for each trained parameter; and
            ``optimizer.group.<number>.<key>``, float64 scalars, for group settings that differ from
            the optimizer's initial ones.

    Raises:
        TypeError: the optimizer's state holds something other than tensors and numbers.
    """
    state: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                state[_name_of(key, name, value)] = _as_tensor(optimizer, key, value)
    for number, group in enumerate(optimizer.param_groups):
        for key, value in group.items():
            if _is_number(value) and value != optimizer.defaults.get(key):
                state[f"{_OF_GROUP}{number}.{key}"] = torch.tensor(value, dtype=torch.float64)
    return state


_OF_GROUP, _NUMBER = "optimizer.group.", "optimizer.number."


def _name_of(key: str, name: str, value: Any) -> str:
    if key == _MOMENTUM:
        return f"momentum.{name}"
    return f"{_NUMBER}{key}.{name}" if _is_number(value) else f"optimizer.{key}.{name}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _as_tensor(optimizer: Optimizer, key: str, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if not _is_number(value):
        kind = type(optimizer).__name__
        raise TypeError(f"{kind} keeps {key}, a {type(value).__name__}, which cannot be saved")
    return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else torch.int64)


def restore_optimizer(
    optimizer: Optimizer, parameters: dict[str, nn.Parameter], state: dict[str, Tensor]
) -> None:
    """Load the :func:`optimizer_state`; other entries of ``state`` are ignored."""
    optimizer.state.clear()
    for entry, value in state.items():
        kind, _, rest = entry.partition(".")
        if kind == "momentum":
            key, name = _MOMENTUM, rest
        elif entry.startswith(_OF_GROUP) or kind != "optimizer":
            continue
        else:
            key, _, name = entry.removeprefix(_NUMBER).removeprefix("optimizer.").partition(".")
        if name in parameters:
            kept = _placed(optimizer, key, parameters[name], value)
            number = entry.startswith(_NUMBER)
            optimizer.state[parameters[name]][key] = kept.item() if number else kept
    for number, group in enumerate(optimizer.param_groups):
        for key, usual in group.items():
            if (value := state.get(f"{_OF_GROUP}{number}.{key}")) is not None:
                group[key] = type(usual)(value.item())


def _placed(optimizer: Optimizer, key: str, parameter: nn.Parameter, value: Tensor) -> Tensor:
    """Move a loaded tensor to where the optimizer expects it."""
    if value.shape == parameter.shape:
        # Use the memory format of the parameter, the fastest for the next step.
        like = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False)
        return like.copy_(value)
    # As in torch, step counts stay on the CPU unless requested otherwise.
    there = any(group.get("capturable") or group.get("fused") for group in optimizer.param_groups)
    return value.clone() if key == "step" and not there else value.to(parameter.device, copy=True)


def flat_gradient(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The gradients as one float32 vector, with zeros for parameters without gradient."""
    return torch.cat(
        [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters]
    )


@torch.no_grad()
def set_flat_gradient(parameters: Iterable[nn.Parameter], gradient: Tensor) -> None:
    """Set gradients from the vector of :func:`flat_gradient`; parameters without gradient stay
    without.
    """
    start = 0
    for parameter in parameters:
        if parameter.grad is not None:
            part = gradient[start : start + parameter.numel()]
            parameter.grad.copy_(part.view(parameter.shape))
        start += parameter.numel()
