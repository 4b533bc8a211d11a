"""Which classes the present task shows, for methods that train its outputs alone."""

from __future__ import annotations

import torch
from torch import Tensor

SHOWN, KNOWN = "shown", "known"


class PresentTask:
    """The classes of the tasks before and those that the present task has shown so far.

    Attributes:
        known: how many classes had been met when the last task ended; 0 in the first.
        shown: labels that the present task has shown.
    """

    def __init__(self) -> None:
        self.known = 0
        self.shown: set[int] = set()

    def show(self, labels: Tensor) -> None:
        """Note which classes the present task shows; int64 [B], on the CPU."""
        self.shown.update(labels.tolist())

    def old(self, classes: int) -> Tensor:
        """Of so many classes those that are known and not shown by the task, bool [classes].

        All others are the task's own: a class that comes back is learned from its images again.
        """
        return torch.tensor([n < self.known and n not in self.shown for n in range(classes)])

    def without_old(self, logits: Tensor) -> Tensor:
        """Logits, float [B, classes], with minus infinity for those of :meth:`old`."""
        return logits.masked_fill(self.old(logits.shape[1]).to(logits.device), -torch.inf)

    def finish(self, classes: int) -> None:
        """The task is over, and so many classes have been met."""
        self.known = classes
        self.shown.clear()

    @property
    def nbytes(self) -> int:
        """Bytes of :meth:`state_dict`."""
        return 8 * (1 + len(self.shown))

    def state_dict(self) -> dict[str, Tensor]:
        """How many classes are known, and which the task has shown."""
        shown = torch.tensor(sorted(self.shown), dtype=torch.int64)
        return {KNOWN: torch.tensor(self.known), SHOWN: shown}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over :meth:`state_dict`; files of older versions have none."""
        self.known = int(state.get(KNOWN, 0))
        self.shown = set(state[SHOWN].tolist()) if SHOWN in state else set()
