"""Row ``tail``: parts of a training step compared with the plain way to compute them."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, embedding

from crumb.benchmarks.assignment import BLOCKS
from crumb.benchmarks.report import Comparison, Figure
from crumb.benchmarks.timing import in_words, interleaved, threads, timed
from crumb.benchmarks.workplace import BATCH_SIZE, Workplace
from crumb.codebook.codebook import Codebook
from crumb.nets.backbones import build_network
from crumb.nets.norms import unfold_norms
from crumb.nets.split import SplitNetwork


def measure(place: Workplace) -> list[Comparison]:
    """Ratios for a training step with folded batch norms, and for the gradient of the memory
    blocks.

    Uses one thread, so waiting for a second one is not measured.
    """
    network = build_network(place.setting.network).to(place.setting.device)
    with threads(1):
        return [_norms(network, place), _gradient(network, place)]


def step(network: SplitNetwork) -> Callable[[], None]:
    """One SGD step on random feature maps."""
    generator = torch.Generator().manual_seed(0)
    network.train().use_generator(None)
    parameters = list(network.tail.parameters())
    optimizer = torch.optim.SGD(parameters, lr=0.001, momentum=0.9)
    maps = torch.randn(BATCH_SIZE, *network.feature_shape, generator=generator).relu()
    maps = maps.to(parameters[0].device).contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(BATCH_SIZE, dtype=torch.long, device=maps.device)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        cross_entropy(network(maps), labels).backward()
        optimizer.step()

    return run


def _norms(network: SplitNetwork, place: Workplace) -> Comparison:
    plain = deepcopy(network)
    unfold_norms(plain.tail)
    calls = {"norms apart": step(plain), "crumb": step(network)}
    return _compare("training step, batch norms computed by convolutions", calls, place)


def _gradient(network: SplitNetwork, place: Workplace) -> Comparison:
    generator, shape = torch.Generator().manual_seed(0), network.feature_shape
    length = network.backbone.block_length
    blocks = torch.randn(BLOCKS, length, generator=generator)
    codebook = Codebook(blocks, shape).to(place.setting.device)
    codes = torch.randint(BLOCKS, (BATCH_SIZE, codebook.code_length), generator=generator)
    codes = codes.to(codebook.blocks.device, codebook.dtype)
    gradient = torch.randn(BATCH_SIZE, *shape, generator=generator).to(codes.device)
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    channels, height, width = shape

    def plain() -> None:
        rows: Tensor = embedding(codes.int(), codebook.blocks)
        maps = rows.view(BATCH_SIZE, height, width, channels).permute(0, 3, 1, 2)
        maps.backward(gradient)

    calls = {"embedding": plain, "crumb": lambda: codebook.decode(codes).backward(gradient)}
    return _compare("decoding, and the gradient of the memory blocks", calls, place)


def _compare(what: str, calls: dict[str, Callable[[], None]], place: Workplace) -> Comparison:
    taken = interleaved(timed(calls, place.setting.device), place.setting.repeats, f"tail, {what}")
    figures = [Figure(name, taken[name]) for name in calls]
    return Comparison("tail", f"{what}, {in_words(1)}", figures)
