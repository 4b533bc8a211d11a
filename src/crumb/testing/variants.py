"""Each method, with each value of its settings that changes what it keeps or when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, get_type_hints

from crumb.kinds import choices_of
from crumb.methods.base import Learner
from crumb.nets.split import SplitNetwork
from crumb.testing.networks import tiny_network

MEMORY = 6
"""Exemplars that a variant may keep."""


@dataclass(frozen=True)
class Variant:
    """A method with settings, and how learners of it are made.

    Attributes:
        kind: the method.
        settings: names and values of those that differ from the defaults.
    """

    kind: type[Learner]
    settings: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        chosen = dict(self.settings)
        parts = (chosen.get(name) for name in ("storage", "write_policy", "tail"))
        return "-".join(filter(None, (self.kind.name, *parts)))

    def make(
        self, seed: int = 0, dropout: float = 0.3, device: str = "cpu", **more: Any
    ) -> Learner:
        """A learner that has learned nothing; ``more`` are further settings."""
        chosen = {**dict(self.settings), **more}
        if "budget_bytes" in more:
            chosen.pop("memory_size", None)
        return self.kind(self.network(dropout), self.kind.Config(**chosen), seed, device)

    def network(self, dropout: float = 0.0) -> SplitNetwork:
        """A network that the method can use, with a batch norm before the cut."""
        return tiny_network(dropout, norm_in_front=True, attention=self.kind.needs_attention)

    @property
    def keeps_exemplars(self) -> bool:
        """Whether it has a capacity in exemplars."""
        return "memory_size" in dict(self.settings)

    @property
    def has_a_budget(self) -> bool:
        """Whether a budget in bytes bounds something."""
        none = dict(self.settings).get("storage") in _WITHOUT_EXEMPLARS
        return self.kind.stores_exemplars() and not none


_WITHOUT_EXEMPLARS = ("merec", "none")


def variants(kind: type[Learner], **settings: Any) -> Iterator[Variant]:
    """Variants of one method; ``settings`` apply to all of them."""
    hints = get_type_hints(kind.Config)
    options = partial(_options, hints, settings)
    for storage, policy, tail in product(*map(options, ("storage", "write_policy", "tail"))):
        chosen = {"storage": storage, "write_policy": policy, "tail": tail, **settings}
        if "memory_size" in hints and storage not in _WITHOUT_EXEMPLARS:
            chosen.setdefault("memory_size", MEMORY)
        given = {name: value for name, value in chosen.items() if value is not None}
        yield Variant(kind, tuple(given.items()))


def _options(hints: dict[str, Any], settings: dict[str, Any], name: str) -> tuple[Any, ...]:
    if name in settings:
        return (settings[name],)
    return tuple(choices_of(hints.get(name)) or (None,))
