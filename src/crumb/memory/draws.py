"""Draws whose time does not depend on how many there are to choose from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import torch

# Numbers that are drawn at first; then twice as many each time.
_AT_FIRST = 32
FEW = 4096
"""A permutation of so few takes no time. It also gives what earlier versions drew."""


def in_random_order(limit: int, generator: torch.Generator) -> Iterator[int]:
    """The numbers below ``limit`` in random order.

    The shuffle of Fisher and Yates, of which only as much is done as is asked for.

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
    """Draw numbers below ``limit``, each once before any twice.

    Args:
        count: how many, 1 or more.
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
