"""Run a network once to find the channel axis of its feature maps and its head.

Names and attributes of foreign networks are less reliable than their outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crumb.errors import InputError, setting

CHANNELS_FIRST, CHANNELS_LAST = 1, 3
"""Axis of the channels in [B, C, H, W] and in [B, H, W, C]."""


def run(module: nn.Module, values: Tensor, subject: str) -> object:
    """Output of a module for ``values``, without gradients.

    Args:
        module: a foreign module.
        values: its input.
        subject: subject of the error message.

    Raises:
        InputError: the module raises any exception.
    """
    try:
        with torch.no_grad():
            # A graph module prints a traceback if it is called, but not if its forward is called.
            return module.forward(values)
    # Foreign code may raise anything.
    except Exception as error:
        reason = first_line(error)
        shape = " x ".join(map(str, values.shape[1:]))
        problem = f"cannot be run on {shape} values ({reason})"
        raise InputError(subject, problem, "choose another cut or network") from error


def first_line(error: Exception) -> str:
    """Type and first sentence of an exception of foreign code."""
    said = str(error).strip().partition("\n")[0].partition(". ")[0]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def channel_axis(
    front: nn.Module, map_shape: tuple[int, ...], size: int, subject: str, stated: object
) -> int:
    """Find the axis of the channels in the feature maps of ``front``.

    Images are square, so height and width are the two axes of equal size. If all three sizes are
    equal, or none, images of twice the size are tried: only the channel axis keeps its size.

    Args:
        front: maps float [B, 3, S, S] to feature maps.
        map_shape: shape of its feature maps for images of ``size`` x ``size`` pixels, four numbers.
        size: side of the images, S.
        subject: subject of the error message.
        stated: the layout that the network states (``output_fmt`` in timm), used if it accepts no
            other size.

    Returns:
        ``CHANNELS_FIRST`` or ``CHANNELS_LAST``.

    Raises:
        InputError: the axis cannot be determined.
    """
    _, first, second, third = map_shape
    if first != second == third:
        return CHANNELS_FIRST
    if first == second != third:
        return CHANNELS_LAST
    try:
        larger = run(front, torch.zeros(1, 3, 2 * size, 2 * size), subject)
    except InputError:
        larger = None
    same = []
    if isinstance(larger, Tensor) and larger.ndim == 4:
        same = [axis for axis in (1, 2, 3) if larger.shape[axis] == map_shape[axis]]
    if same in ([CHANNELS_FIRST], [CHANNELS_LAST]):
        return same[0]
    if stated in ("NCHW", "NHWC"):
        return CHANNELS_FIRST if stated == "NCHW" else CHANNELS_LAST
    shape = ", ".join(map(str, map_shape[1:]))
    problem = f"which axis of ({shape}) holds the channels cannot be told"
    raise InputError(subject, problem, "choose another layer or network")


def find_head(module: nn.Module, values: Tensor, subject: str) -> tuple[str, object]:
    """Find the linear or convolutional layer that is computed last.

    The order in which layers are registered may be another one.

    Args:
        module: a classifier, or the tail of one.
        values: its input.
        subject: subject of the error message.

    Returns:
        the dotted name of the layer, and the output of the module.

    Raises:
        InputError: the module has no such layer, computes the last one twice, or cannot be run.
    """
    called: list[str] = []
    hooks = [
        layer.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, layer in module.named_modules()
        if isinstance(layer, (nn.Linear, nn.Conv2d))
    ]
    try:
        output = run(module, values, subject)
    finally:
        for hook in hooks:
            hook.remove()
    if not called:
        raise InputError(
            subject, "has no classifier layer after the cut", f"choose an earlier {setting('cut')}"
        )
    if called.count(called[-1]) > 1:
        problem = f"computes its last layer, {called[-1]}, more than once"
        raise InputError(subject, problem, "choose a network with one head")
    return called[-1], output
