"""The network as it was when the last task ended, for methods that distil from it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from crumb.nets.split import SplitNetwork


class PreviousNetwork:
    """A frozen copy of the tail's weights; of the head only the rows of the classes so far.

    The copy is computed with by lending its weights to the live network, so it is of the same
    layers and precision.

    Args:
        network: that is copied.

    Attributes:
        weights: by the names of the network's own parameters; empty before the first copy.
    """

    def __init__(self, network: SplitNetwork) -> None:
        self._network = network
        self.weights: dict[str, Tensor] = {}

    def remember(self, classes: int) -> None:
        """Copy the present tail, with the head's rows of this many classes."""
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
        """Bytes of the copy."""
        return sum(value.nbytes for value in self.weights.values())

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
        """The copy."""
        return dict(self.weights)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over :meth:`state_dict` of a copy of the same network."""
        present = self._parameters()
        self.weights = {name: _copy(present[name], value) for name, value in state.items()}

    def _parameters(self) -> dict[str, nn.Parameter]:
        return {f"tail.{name}": p for name, p in self._network.tail.named_parameters()}

    def _of_head(self) -> tuple[str, str]:
        name = self._network.head_name
        return f"tail.{name}.weight", f"tail.{name}.bias"


def _copy(like: nn.Parameter, value: Tensor) -> Tensor:
    # In the memory format of the parameter: sums in another order would differ in the last bits.
    return torch.empty_like(like[: len(value)], requires_grad=False).copy_(value)
