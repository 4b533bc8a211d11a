"""A copy of the network at the end of the last task, for distillation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from crumb.data.batches import Batches
from crumb.methods.base import BytesHeld, Learner, strip_prefix
from crumb.methods.present import SHOWN, PresentTask
from crumb.nets.split import SplitNetwork


class PreviousNetwork(PresentTask):
    """A frozen copy of the tail's weights, with the head rows of the known classes only.

    It is evaluated by lending its weights to the live network, so layers and precision are the
    same.

    Args:
        network: network to copy.

    Attributes:
        weights: copied weights by parameter name; empty before the first copy.
        known: number of classes it has logits for.
    """

    def __init__(self, network: SplitNetwork) -> None:
        super().__init__()
        self._network = network
        self.weights: dict[str, Tensor] = {}

    def finish(self, classes: int) -> None:
        """At the end of a task, copy the current tail with the head rows of this many classes."""
        super().finish(classes)
        present = self._parameters()
        self.weights = {
            name: _copy(p, p[:classes] if name in self._of_head() else p)
            for name, p in present.items()
        }

    @property
    def nbytes(self) -> int:
        """Bytes of the copy and of the labels shown."""
        return sum(value.nbytes for value in self.state_dict().values())

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
        """The copy, and the classes shown in the task."""
        # The number of known classes follows from the copy.
        return {**self.weights, SHOWN: super().state_dict()[SHOWN]}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the :meth:`state_dict` of a copy of the same network."""
        present = self._parameters()
        copied = {name: value for name, value in state.items() if name != SHOWN}
        self.weights = {name: _copy(present[name], value) for name, value in copied.items()}
        super().load_state_dict(state)
        self.known = len(self.weights[self._of_head()[0]]) if self.weights else 0

    def _parameters(self) -> dict[str, nn.Parameter]:
        return self._network.trained()

    def _of_head(self) -> tuple[str, str]:
        name = self._network.head_name
        return f"tail.{name}.weight", f"tail.{name}.bias"


def _copy(like: nn.Parameter, value: Tensor) -> Tensor:
    # Use the memory format of the parameter: another summation order changes the last bits.
    return torch.empty_like(like[: len(value)], requires_grad=False).copy_(value)


class Distiller(Learner):
    """A learner whose only memory is the network of the last task.

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
        """Copy the network, without reading the task again."""
        self.previous.finish(len(self.classes))

    def bytes_held(self) -> BytesHeld:
        """The copy of the network and the classes shown in the task."""
        return BytesHeld(0, self.previous.nbytes)

    def state_dict(self) -> dict[str, Tensor]:
        """Network, generators and momentum; the copy, classes shown in the task."""
        copied = {f"previous.{name}": v for name, v in self.previous.state_dict().items()}
        return super().state_dict() | copied

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the :meth:`state_dict` of a learner with the same settings and classes."""
        super().load_state_dict(state)
        self.previous.load_state_dict(strip_prefix(state, "previous."))
