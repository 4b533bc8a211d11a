"""``crumb methods``: what there is to choose from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crumb.cli.parsing import parse
from crumb.methods.registry import methods


@dataclass(frozen=True)
class Methods:
    """List the methods."""


def run(words: Sequence[str]) -> None:
    """Print one line a method."""
    parse(Methods, words, "crumb methods")
    width = max(map(len, methods()))
    for name, kind in methods().items():
        print(f"{name:{width}}  {kind.summary}")
