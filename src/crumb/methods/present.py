"""The classes of the current task, for methods that train only its outputs."""

from __future__ import annotations

import torch
from torch import Tensor

SHOWN, KNOWN = "shown", "known"


class PresentTask:
    """The classes of earlier tasks and those shown so far in the current task.

    Attributes:
        known: number of known classes at the end of the last task; 0 in the first task.
        shown: labels shown in the current task.
    """

    def __init__(self) -> None:
        self.known = 0
        self.shown: set[int] = set()

    def show(self, labels: Tensor) -> None:
        """Record the classes shown in the current task; labels int64 [B], on the CPU."""
        self.shown.update(labels.tolist())

    def old(self, classes: int) -> Tensor:
        """Known classes that the task has not shown, bool [classes].

        All others belong to the task: a class that comes back is learned from its images again.
        """
        return torch.tensor([n < self.known and n not in self.shown for n in range(classes)])

    def without_old(self, logits: Tensor) -> Tensor:
        """Logits, float [B, classes], with minus infinity for those of :meth:`old`."""
        return logits.masked_fill(self.old(logits.shape[1]).to(logits.device), -torch.inf)

    def finish(self, classes: int) -> None:
        """End the task, with so many known classes."""
        self.known = classes
        self.shown.clear()

    @property
    def nbytes(self) -> int:
        """Bytes of :meth:`state_dict`."""
        return 8 * (1 + len(self.shown))

    def state_dict(self) -> dict[str, Tensor]:
        """The number of known classes and the classes shown in the task."""
        shown = torch.tensor(sorted(self.shown), dtype=torch.int64)
        return {KNOWN: torch.tensor(self.known), SHOWN: shown}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load a :meth:`state_dict`; files of older versions have none."""
        self.known = int(state.get(KNOWN, 0))
        self.shown = set(state[SHOWN].tolist()) if SHOWN in state else set()
