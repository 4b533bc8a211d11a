"""What the frozen front of a backbone takes of an image."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from crumb.benchmarks.timing import interleaved, threads, timed
from crumb.nets.split import SplitNetwork

_BATCH, _REPEATS = 4, 5


def milliseconds_per_image(networks: Mapping[str, SplitNetwork]) -> dict[str, float]:
    """Milliseconds that each front takes of an image on one thread, without reading the image.

    Args:
        networks: by name, on the CPU; they take turns, four images each.

    Returns:
        by name: the median of five turns.
    """
    calls = {}
    for name, network in networks.items():
        side = network.preprocessing.size
        images = torch.zeros(_BATCH, 3, side, side, dtype=torch.uint8)
        calls[name] = lambda network=network, images=images: network.features(images)
    with threads(1):
        seconds = interleaved(timed(calls, "cpu"), _REPEATS, "backbones")
    return {name: 1000 * taken / _BATCH for name, taken in seconds.items()}
