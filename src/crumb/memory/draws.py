"""Random draws that take the same time for any number of candidates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import torch

# Numbers drawn at first. Each further batch is twice as large.
_AT_FIRST = 32
FEW = 4096
"""Up to this number, a full permutation is fast, and gives the draws of earlier versions."""


def in_random_order(limit: int, generator: torch.Generator) -> Iterator[int]:
    """Yield the numbers below ``limit`` in random order.

    A Fisher-Yates shuffle that runs only as far as numbers are requested.

    Args:
        limit: 0 or more.
        generator: generator of the order (CPU).
    """
    moved: dict[int, int] = {}
    left, count = limit, _AT_FIRST
    while left:
        chances = torch.rand(min(count, left), generator=generator, dtype=torch.float64)
        for chance in chances.tolist():
            place = int(chance * left)
            left -= 1
            last = moved.pop(left, left)
            if place == left:
                yield last
            else:
                yield moved.get(place, place)
                moved[place] = last
        count *= 2


def without_replacement(count: int, limit: int, generator: torch.Generator) -> list[int]:
    """Draw numbers below ``limit``. No number is drawn twice before all are drawn once.

    Args:
        count: number of draws, 1 or more.
        limit: 1 or more.
        generator: generator of the draws (CPU).
    """
    if limit > FEW and count <= limit:
        return list(islice(in_random_order(limit, generator), count))
    rounds = [torch.randperm(limit, generator=generator) for _ in range(-(-count // limit))]
    return torch.cat(rounds)[:count].tolist()


def balanced(labels: Sequence[int], count: int, generator: torch.Generator) -> list[int]:
    """Draw labels so that each occurs equally often, give or take one, in random order.

    Args:
        labels: different labels, at least one.
        count: how many, 1 or more.
        generator: generator of the draws (CPU).
    """
    return [labels[place] for place in without_replacement(count, len(labels), generator)]
