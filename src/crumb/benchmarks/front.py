"""Row ``front``: time of the front with torch, divided by the time with an engine.

Both include preprocessing. Torch uses its fastest batch size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from crumb.benchmarks.report import Comparison, Figure
from crumb.benchmarks.timing import interleaved, seconds, threads
from crumb.benchmarks.workplace import Workplace
from crumb.nets import engines
from crumb.nets.backbones import build_network
from crumb.nets.config import NetworkConfig
from crumb.nets.engines import ENGINES
from crumb.nets.fronts import Unusable, open_engine, use_engine
from crumb.nets.split import SplitNetwork

# The time does not depend on the weights, and one of these networks has no package of weights.
NETWORKS = (
    NetworkConfig("efficientnet_lite0", weights="random"),
    NetworkConfig("squeezenet1_0", weights="random"),
)
_IMAGES = 16
# Batch sizes of torch.
_TORCH_PART = 4


def measure(place: Workplace) -> list[Comparison]:
    """Ratio of torch's seconds per image to those of the engine of ``auto``, on one thread."""
    return [measure_front(config, place.setting.repeats) for config in NETWORKS]


def measure_front(config: NetworkConfig, repeats: int) -> Comparison:
    """The same for one network.

    Args:
        config: configuration of the network. Its engine is replaced by ``auto``.
        repeats: number of turns. The median counts.
    """
    what, there = f"{config.backbone}, one thread", [*filter(engines.is_installed, ENGINES)]
    none = Comparison("front", what, note="no engine can be used here: see docs/engines.md")
    if not there:
        return none
    network = build_network(config)
    use_engine(network, config.engine)
    chosen = network.front_engine()
    ways: dict[str, Callable[[Tensor], object]] = {"torch": _by_torch(network)}
    for name in there:
        try:
            ways[name] = _by_engine(network, name)
        except Unusable:
            continue
    if len(ways) == 1:
        return none
    side = network.preprocessing.size
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (_IMAGES, 3, side, side), generator=generator, dtype=torch.uint8)
    with threads(1):
        turns = {n: lambda way=way: seconds(lambda: way(images), "cpu") for n, way in ways.items()}
        taken = interleaved(turns, repeats, f"front of {config.backbone}")
    each = {name: value / _IMAGES for name, value in taken.items()}
    others = [name for name in each if name != "torch"]
    best = min(others, key=each.__getitem__) if chosen is None else chosen.name
    return Comparison(
        "front",
        what,
        (Figure("torch", each["torch"]), Figure(best, each[best])),
        details={"chosen": network.config.engine, "seconds_per_image": each},
        note="" if chosen is not None else f"auto uses torch for {config.backbone}",
    )


def _by_torch(network: SplitNetwork) -> Callable[[Tensor], object]:
    def compute(images: Tensor) -> None:
        with torch.no_grad():
            for part in images.split(_TORCH_PART):
                network.front(network.preprocessing(part))

    return compute


def _by_engine(network: SplitNetwork, name: str) -> Callable[[Tensor], object]:
    engine = open_engine(network, name)

    def compute(images: Tensor) -> None:
        for image in images.split(1):
            engine(network.preprocessing(image))

    return compute
