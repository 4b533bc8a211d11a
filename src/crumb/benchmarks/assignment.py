"""Row ``assignment``: encoding compared with the plain form and with bare matrix products.

The plain form is ``argmax(x @ normalize(blocks).T)`` with the whole matrix in memory. The bare form
computes the same products in pieces, without a maximum. No encoder that is built on a matrix
product can be faster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from crumb.benchmarks.report import Comparison, Figure
from crumb.benchmarks.timing import (
    in_words,
    interleaved,
    peak_bytes,
    thread_counts,
    threads,
    timed,
)
from crumb.benchmarks.workplace import Workplace
from crumb.codebook.codebook import Codebook

BLOCKS = 256
# Numbers of slices per bare product. The fastest one counts.
_PIECES = (512, 1024, 4096)


@dataclass(frozen=True)
class Case:
    """Feature maps of one backbone.

    Attributes:
        batch: number of feature maps.
        shape: shape of a feature map, (C, H, W).
        block_length: number of channels of a memory block.
    """

    batch: int
    shape: tuple[int, int, int]
    block_length: int = 16


CASES = {
    "squeezenet1_0, batch 21": Case(21, (512, 13, 13)),
    "squeezenet1_0, batch 128": Case(128, (512, 13, 13)),
    "efficientnet_lite0, batch 21": Case(21, (192, 7, 7)),
    "mobilenet_v2, batch 21": Case(21, (64, 14, 14), 8),
}


def plain(codebook: Codebook, features: Tensor) -> Tensor:
    """Encode with the whole similarity matrix, int64 [B, N]."""
    slices = features.permute(0, 2, 3, 1).reshape(-1, codebook.blocks.shape[1])
    return (slices @ normalize(codebook.blocks, dim=1).T).argmax(1).view(len(features), -1)


def bare(codebook: Codebook, features: Tensor, rows: int) -> Callable[[], None]:
    """Multiply all slices by all blocks, ``rows`` slices at a time, and discard the products."""
    slices = features.permute(0, 2, 3, 1).reshape(-1, codebook.blocks.shape[1])
    directions = normalize(codebook.blocks, dim=1).T.contiguous()
    similarity = slices.new_empty(rows, len(codebook.blocks))

    def products() -> None:
        for start in range(0, len(slices), rows):
            piece = slices[start : start + rows]
            torch.mm(piece, directions, out=similarity[: len(piece)])

    return products


def measure(place: Workplace) -> list[Comparison]:
    """Measure every case with one thread and with all threads."""
    found = []
    for name, case in CASES.items():
        codebook, features = _inputs(case, place.setting.device)
        with torch.inference_mode():
            found.append(_bytes(name, codebook, features, place.setting.device))
            for count in thread_counts():
                with threads(count):
                    found += _times(f"{name}, {in_words(count)}", codebook, features, place)
    return found


def _inputs(case: Case, device: str) -> tuple[Codebook, Tensor]:
    """A codebook, and feature maps in channels-last memory, half of them zeros as after a ReLU."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(case.batch, *case.shape, generator=generator).relu()
    blocks = torch.randn(BLOCKS, case.block_length, generator=generator)
    codebook = Codebook(blocks, case.shape).to(device)
    return codebook, features.to(device).contiguous(memory_format=torch.channels_last)


def _times(
    name: str, codebook: Codebook, features: Tensor, place: Workplace
) -> tuple[Comparison, Comparison]:
    calls: dict[str, Callable[[], object]] = {
        "plain": lambda: plain(codebook, features),
        "crumb": lambda: codebook.encode(features),
    }
    pieces = {f"bare{rows}": bare(codebook, features, rows) for rows in _PIECES}
    device, repeats = place.setting.device, place.setting.repeats
    taken = interleaved(timed(calls | pieces, device), repeats, f"assignment, {name}")
    ours = Figure("crumb", taken["crumb"])
    fastest = min(pieces, key=lambda piece: taken[piece])
    same = (codebook.encode(features).long() == plain(codebook, features)).double().mean().item()
    return (
        Comparison(
            "assignment",
            f"time, {name}",
            (Figure("plain", taken["plain"]), ours),
            details={"share_of_equal_indices": same},
        ),
        Comparison(
            "assignment",
            f"over bare products, {name}",
            (ours, Figure("bare", taken[fastest])),
            details={"slices_at_a_time": int(fastest.removeprefix("bare"))},
        ),
    )


def _bytes(name: str, codebook: Codebook, features: Tensor, device: str) -> Comparison:
    figures = (
        Figure("plain", peak_bytes(lambda: plain(codebook, features), device) / 1e6, "MB"),
        Figure("crumb", peak_bytes(lambda: codebook.encode(features), device) / 1e6, "MB"),
    )
    return Comparison("assignment", f"peak extra bytes, {name}", figures)
