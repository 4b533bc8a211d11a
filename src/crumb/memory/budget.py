"""A budget in bytes: the number of exemplars that it holds, and which ones fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crumb.errors import InputError, setting


@dataclass(frozen=True)
class Budget:
    """A maximum number of bytes for exemplars and everything needed to decode and choose them.

    Attributes:
        total: the budget in bytes.
        each: bytes of an exemplar and of the data stored with it (of the shortest exemplar, if
            sizes differ).
        shared: bytes that are needed once, for any number of exemplars.
    """

    total: int
    each: int
    shared: int

    def exemplars(self, counted: int = 0) -> int:
        """Number of exemplars that fit in addition to ``counted`` bytes of a policy's counts.

        Raises:
            InputError: not even one does.
        """
        return capacity_in_bytes("budget_bytes", self.total, self.each, self.shared + counted)

    def room(self, counted: int = 0) -> int:
        """Bytes for exemplars and their data. Raises the errors of :meth:`exemplars`."""
        self.exemplars(counted)
        return self.total - self.shared - counted


def capacity_in_bytes(name: str, budget: int, each: int, shared: int = 0) -> int:
    """Number of exemplars that fit in a budget.

    Args:
        name: name of the setting that gave the budget.
        budget: budget in bytes.
        each: bytes of one exemplar.
        shared: bytes that are needed once, for any number of exemplars.

    Raises:
        InputError: not even one does.
    """
    if budget < shared + each:
        besides = f" and the {shared} bytes needed to decode it" if shared else ""
        raise InputError(
            setting(name, budget),
            f"holds not even one exemplar of {each} bytes{besides}",
            f"give at least {shared + each}",
        )
    return (budget - shared) // each


def fitting(costs: Sequence[int], room: int) -> list[int]:
    """Indices of the exemplars that fit if they are taken greedily in order.

    Args:
        costs: cost of each exemplar, in order.
        room: capacity for all of them.

    Returns:
        their positions, ascending. If each costs 1, these are the first ``room`` exemplars.
    """
    taken: list[int] = []
    for position, cost in enumerate(costs):
        if cost <= room:
            taken.append(position)
            room -= cost
    return taken
