"""Measure on a few steps whether a compiled tail is faster than the same tail uncompiled."""

from __future__ import annotations

import time

import torch

from crumb.nets.dropout import same_draws
from crumb.nets.split import SplitNetwork
from crumb.progress import announce

_ROUNDS = 4
_FASTER = 0.97
"""A compiled step must take at most this share of the time. Less is within the noise."""


def keep_if_faster(network: SplitNetwork, batch_size: int) -> float:
    """Undo the compilation unless compiled steps are faster, and print one line about it.

    The measurement changes no weights, no gradients and no later dropout masks. The choice changes
    results only by rounding.

    Args:
        network: a network with a compiled tail; see :meth:`SplitNetwork.compile_tail`.
        batch_size: number of feature maps in a step.

    Returns:
        the time of a compiled step divided by the time of an uncompiled one.
    """
    tail, maps, training = network.tail, network.maps, network.training
    ways = {"compiled": tail._compiled_call_impl, "plain": None}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    network.train()
    with same_draws(tail), torch.enable_grad():
        # They take turns, so that other work on the machine slows both down equally.
        for _ in range(_ROUNDS + 1):
            for name, call in ways.items():
                tail._compiled_call_impl = call
                taken[name].append(_seconds_of_step(network, batch_size))
    network.train(training).maps = maps
    # The first round warms up.
    compiled, plain = (min(taken[name][1:]) for name in ways)
    if (ratio := compiled / plain) > _FASTER:
        announce(
            f"compile: a compiled step takes {ratio:.2f} times as long as a plain one, "
            "so the tail is not compiled"
        )
    else:
        tail._compiled_call_impl = ways["compiled"]
    return ratio


def _seconds_of_step(network: SplitNetwork, batch_size: int) -> float:
    """Seconds of a forward and a backward pass. Gradients are removed afterwards."""
    weight = next(network.tail.parameters())
    features = torch.zeros(batch_size, *network.feature_shape, device=weight.device)
    started = time.perf_counter()
    network(features.contiguous(memory_format=torch.channels_last)).sum().backward()
    # This waits for a GPU to finish.
    weight.flatten()[0].item()
    seconds = time.perf_counter() - started
    network.zero_grad(set_to_none=True)
    return seconds
