"""What a network shows when it is run once: where its maps have their channels, what its head is.

Names and attributes of foreign networks are not relied on where running them tells the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crumb.errors import InputError, setting

CHANNELS_FIRST, CHANNELS_LAST = 1, 3
"""The axis of the channels in [B, C, H, W] and in [B, H, W, C]."""


def run(module: nn.Module, values: Tensor, subject: str) -> object:
    """What a module makes of ``values``, without gradients.

    Args:
        module: code that is not ours.
        values: its input.
        subject: what is to blame where it fails.

    Raises:
        InputError: it raises anything.
    """
    try:
        with torch.no_grad():
            # A graph module prints a traceback when it is called, but not when its forward is.
            return module.forward(values)
    # What is raised depends on whose code it is.
    except Exception as error:
        reason = first_line(error)
        shape = " x ".join(map(str, values.shape[1:]))
        problem = f"cannot be run on {shape} values ({reason})"
        raise InputError(subject, problem, "choose another cut or network") from error


def first_line(error: Exception) -> str:
    """What foreign code says of its failure, without details: its kind and its first sentence."""
    said = str(error).strip().partition("\n")[0].partition(". ")[0]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def channel_axis(
    front: nn.Module, map_shape: tuple[int, ...], size: int, subject: str, stated: object
) -> int:
    """Which axis of the maps of ``front`` holds the channels.

    Images are square, so height and width are the two axes that are equal. Where all three are,
    or none, images of twice the size tell: the channels are the axis that stays.

    Args:
        front: float [B, 3, S, S] to maps.
        map_shape: of what it makes of images of ``size`` x ``size`` pixels: four numbers.
        size: S.
        subject: what is to blame where it cannot be told.
        stated: what the network says itself (``output_fmt`` in timm), for one that takes no
            other size.

    Returns:
        ``CHANNELS_FIRST`` or ``CHANNELS_LAST``.

    Raises:
        InputError: it cannot be told.
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
    """The linear or convolutional layer that is computed last.

    The order in which layers are registered does not tell.

    Args:
        module: a classifier, or the tail of one.
        values: its input.
        subject: what is to blame where it cannot be run.

    Returns:
        the dotted name of the layer, and what the module puts out.

    Raises:
        InputError: it has no such layer, computes the last one twice, or cannot be run.
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
