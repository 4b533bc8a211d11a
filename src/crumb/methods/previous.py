"""The network as it was when the last task ended, for methods that distil from it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from crumb.data.batches import Batches
from crumb.methods.base import BytesHeld, Learner, under
from crumb.nets.split import SplitNetwork

_SHOWN = "shown"


class PreviousNetwork:
    """A frozen copy of the tail's weights; of the head only the rows of the classes so far.

    The copy is computed with by lending its weights to the live network, so it is of the same
    layers and precision.

    Args:
        network: that is copied.

    Attributes:
        weights: by the names of the network's own parameters; empty before the first copy.
        shown: labels that the present task has shown.
    """

    def __init__(self, network: SplitNetwork) -> None:
        self._network = network
        self.weights: dict[str, Tensor] = {}
        self.shown: set[int] = set()

    def show(self, labels: Tensor) -> None:
        """Note which classes the present task shows; int64 [B], on the CPU."""
        self.shown.update(labels.tolist())

    def old(self, classes: int) -> Tensor:
        """Of so many classes those that the copy knows and the task has not shown, bool [classes].

        All others are new to the task: a class that comes back is learned from its images again.
        """
        known = self.classes
        return torch.tensor([n < known and n not in self.shown for n in range(classes)])

    def remember(self, classes: int) -> None:
        """The task is over: copy the present tail, with the head's rows of this many classes."""
        self.shown.clear()
        present = self._parameters()
        self.weights = {
            name: _copy(p, p[:classes] if name in self._of_head() else p)
            for name, p in present.items()
        }

    @property
    def classes(self) -> int:
        """Of which it has logits."""
        return len(self.weights[self._of_head()[0]]) if self.weights else 0

    @property
    def nbytes(self) -> int:
        """Bytes of the copy and of the labels shown."""
        return sum(value.nbytes for value in self.weights.values()) + 8 * len(self.shown)

    @torch.no_grad()
    def logits(self, features: Tensor, linear: bool = False) -> Tensor:
        """Logits without dropout, float32 [B, classes]; arguments as of the network itself."""
        training = self._network.training
        self._network.eval()
        try:
            return functional_call(self._network, self.weights, (features, linear))
        finally:
            self._network.train(training)

    def state_dict(self) -> dict[str, Tensor]:
        """The copy, and which classes the task has shown."""
        return {**self.weights, _SHOWN: torch.tensor(sorted(self.shown), dtype=torch.int64)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over :meth:`state_dict` of a copy of the same network."""
        present = self._parameters()
        copied = {name: value for name, value in state.items() if name != _SHOWN}
        self.weights = {name: _copy(present[name], value) for name, value in copied.items()}
        self.shown = set(state[_SHOWN].tolist())

    def _parameters(self) -> dict[str, nn.Parameter]:
        return self._network.trained()

    def _of_head(self) -> tuple[str, str]:
        name = self._network.head_name
        return f"tail.{name}.weight", f"tail.{name}.bias"


def _copy(like: nn.Parameter, value: Tensor) -> Tensor:
    # In the memory format of the parameter: sums in another order would differ in the last bits.
    return torch.empty_like(like[: len(value)], requires_grad=False).copy_(value)


class Distiller(Learner):
    """A learner that keeps the network of the last task, and nothing else.

    Attributes:
        previous: the copy.
    """

    needs_task_boundaries = True

    def __init__(
        self, network: SplitNetwork, config: Any, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(network, config, seed, device)
        self.previous = PreviousNetwork(self.network)

    def end_task(self, batches: Batches) -> None:
        """Copy the network; the task is not read again."""
        self.previous.remember(len(self.classes))

    def bytes_held(self) -> BytesHeld:
        """The copy of the network and what the task has shown."""
        return BytesHeld(0, self.previous.nbytes)

    def state_dict(self) -> dict[str, Tensor]:
        """Network, generators and momentum; the copy, what the task has shown."""
        copied = {f"previous.{name}": v for name, v in self.previous.state_dict().items()}
        return super().state_dict() | copied

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over :meth:`state_dict` of a learner with the same settings and classes."""
        super().load_state_dict(state)
        self.previous.load_state_dict(under(state, "previous."))
