"""Gradients as one vector; the state of optimizers whose parameters grow, are saved and loaded."""

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
    """Train ``new`` in the place of ``old``; state is carried over to the rows both have."""
    for before, after in zip(old, new, strict=True):
        for group in optimizer.param_groups:
            group["params"] = [after if p is before else p for p in group["params"]]
        state = optimizer.state.pop(before, {})
        if any(value is not None for value in state.values()):
            optimizer.state[after] = {
                key: _with_rows(value, before, after) for key, value in state.items()
            }


def _with_rows(value: Any, before: nn.Parameter, after: nn.Parameter) -> Any:
    """What is kept of each element of a parameter, for one with other rows; all else as it is."""
    if not isinstance(value, Tensor) or value.shape != before.shape:
        return value
    rows = min(len(before), len(after))
    grown = torch.zeros_like(after, dtype=value.dtype, requires_grad=False)
    grown[:rows] = value[:rows]
    return grown


def optimizer_state(optimizer: Optimizer, parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """All that an optimizer keeps between steps.

    Returns:
        of each parameter that has been trained ``momentum.<name>`` (of SGD) or
        ``optimizer.<key>.<name>``; and ``optimizer.group.<number>.<key>``, float64 scalars, for
        the numbers of groups that are not those that the optimizer was made with.

    Raises:
        TypeError: the optimizer keeps what is neither a tensor nor a number.
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
    """Take over :func:`optimizer_state`; other entries of ``state`` are left alone."""
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
    """A tensor of a file where the optimizer expects it."""
    if value.shape == parameter.shape:
        # In the memory format of the parameter, which is what the next step is fastest with.
        like = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False)
        return like.copy_(value)
    # As torch itself does: counts of steps stay on the CPU, unless they were asked to be elsewhere.
    there = any(group.get("capturable") or group.get("fused") for group in optimizer.param_groups)
    return value.clone() if key == "step" and not there else value.to(parameter.device, copy=True)


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
