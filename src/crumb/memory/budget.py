"""A budget in bytes: how many exemplars it holds, and which of them fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crumb.errors import InputError, setting


@dataclass(frozen=True)
class Budget:
    """A number of bytes that bounds exemplars and all that is kept to read and to choose them.

    Attributes:
        total: the budget in bytes.
        each: bytes of an exemplar and of what is kept beside it; of the shortest, if they differ.
        shared: bytes that any number of exemplars needs once.
    """

    total: int
    each: int
    shared: int

    def exemplars(self, counted: int = 0) -> int:
        """Number of exemplars that fit beside ``counted`` bytes of a policy's counts.

        Raises:
            InputError: not even one does.
        """
        return capacity_in_bytes("budget_bytes", self.total, self.each, self.shared + counted)

    def room(self, counted: int = 0) -> int:
        """Bytes of exemplars and of what is kept beside them; errors as :meth:`exemplars`."""
        self.exemplars(counted)
        return self.total - self.shared - counted


def capacity_in_bytes(name: str, budget: int, each: int, shared: int = 0) -> int:
    """Number of exemplars that fit into a budget.

    Args:
        name: name of the setting that gave the budget.
        budget: in bytes.
        each: bytes of an exemplar.
        shared: bytes that any number of exemplars needs once.

    Raises:
        InputError: not even one does.
    """
    if budget < shared + each:
        besides = f" and the {shared} bytes that it is read with" if shared else ""
        raise InputError(
            setting(name, budget),
            f"holds not even one exemplar of {each} bytes{besides}",
            f"give at least {shared + each}",
        )
    return (budget - shared) // each


def fitting(costs: Sequence[int], room: int) -> list[int]:
    """Indices of exemplars that fit when taken greedily in order.

    Args:
        costs: costs of exemplars, in the order in which they come.
        room: for all of them.

    Returns:
        their positions, ascending; the first ``room`` of them where each costs 1.
    """
    taken: list[int] = []
    for position, cost in enumerate(costs):
        if cost <= room:
            taken.append(position)
            room -= cost
    return taken
