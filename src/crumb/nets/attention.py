"""Linear layers of attention in the tail of a network."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from crumb.nets.split import SplitNetwork

# Networks name the classes of their attention modules so: Attention, WindowAttention, ClassAttn.
_ATTENTION = re.compile("Attn|Attention")


def attention_layers(network: SplitNetwork) -> dict[str, nn.Linear]:
    """Linear layers within attention modules of the tail, by dotted name in the tail.

    Layers whose weights are used without calling the layer are left out, because an adapter beside
    them would have no effect. That is the case for ``nn.MultiheadAttention``.
    """
    inside = {
        part
        for module in network.tail.modules()
        if _ATTENTION.search(type(module).__name__)
        for part in module.modules()
    }
    found = {
        name: layer
        for name, layer in network.tail.named_modules()
        if isinstance(layer, nn.Linear) and layer in inside and name != network.head_name
    }
    called = _called(network, list(found.values()))
    return {name: layer for name, layer in found.items() if layer in called}


def _called(network: SplitNetwork, layers: list[nn.Linear]) -> set[nn.Module]:
    """The layers that a pass through the tail calls."""
    called: set[nn.Module] = set()
    hooks = [layer.register_forward_hook(lambda one, *_: called.add(one)) for layer in layers]
    mode, maps = network.training, network.maps
    device = next(network.tail.parameters()).device
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, *network.feature_shape, device=device))
    finally:
        network.train(mode)
        network.maps = maps
        for hook in hooks:
            hook.remove()
    return called
