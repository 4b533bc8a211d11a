"""Time of the front of a backbone per image."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from crumb.benchmarks.timing import interleaved, threads, timed
from crumb.nets.split import SplitNetwork

_BATCH, _REPEATS = 4, 5


def milliseconds_per_image(networks: Mapping[str, SplitNetwork]) -> dict[str, float]:
    """Milliseconds of each front per image on one thread, without reading the image.

    Args:
        networks: networks on the CPU, by name. They take turns of four images each.

    Returns:
        the median of five turns, by name.
    """
    calls = {}
    for name, network in networks.items():
        side = network.preprocessing.size
        images = torch.zeros(_BATCH, 3, side, side, dtype=torch.uint8)
        calls[name] = lambda network=network, images=images: network.features(images)
    with threads(1):
        seconds = interleaved(timed(calls, "cpu"), _REPEATS, "backbones")
    return {name: 1000 * taken / _BATCH for name, taken in seconds.items()}
