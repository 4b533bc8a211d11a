"""A teacher: the exponential moving average of the network's weights, which predicts.

Tarvainen, Valpola, "Mean Teachers Are Better Role Models", NeurIPS 2017, section 2. For continual
learning: Soutif-Cormerais, Carta, van de Weijer, "Improving Online Continual Learning Performance
and Stability with Temporal Ensembles", CoLLAs 2023, arXiv 2306.16817.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from crumb.nets.split import SplitNetwork


class EmaTeacher:
    """The average of the weights of tail and adapters.

    After each step, average <- decay * average + (1 - decay) * weights. Before the first step there
    is no average. The outputs of a new class start as those of the network.

    Args:
        network: the network that is trained.
        decay: share of the average that a step keeps, in [0, 1).

    Attributes:
        weights: the averages, by parameter name; empty before the first step.
    """

    def __init__(self, network: SplitNetwork, decay: float) -> None:
        self._network, self._decay = network, decay
        self.weights: dict[str, Tensor] = {}
        self._lent = False

    def start(self) -> None:
        """Set the average to the present weights, before the first step."""
        if not self.weights:
            self.weights = {n: p.detach().clone() for n, p in self._network.trained().items()}

    @torch.no_grad()
    def follow(self) -> None:
        """Update the average after a step."""
        present = self._network.trained()
        for name, average in self.weights.items():
            average.lerp_(present[name].detach(), 1 - self._decay)

    def replace_head(self, keep: int) -> None:
        """Follow a replaced head. Averages of the first outputs are kept, and others start again.

        Args:
            keep: number of outputs to keep.
        """
        for part, parameter in self._network.head.named_parameters():
            name = f"tail.{self._network.head_name}.{part}"
            if name in self.weights:
                renewed = parameter.detach().clone()
                renewed[:keep] = self.weights[name][:keep]
                self.weights[name] = renewed

    @contextmanager
    def predicting(self) -> Iterator[None]:
        """A context in which the network has the averaged weights."""
        if self._lent:
            yield
            return
        self._swap()
        self._lent = True
        try:
            yield
        finally:
            self._swap()
            self._lent = False

    def _swap(self) -> None:
        present: dict[str, nn.Parameter] = self._network.trained()
        for name, average in self.weights.items():
            parameter = present[name]
            # Only the storages are swapped, so no bit is lost and the optimizer is not affected.
            self.weights[name], parameter.data = parameter.data, average

    @property
    def nbytes(self) -> int:
        """Bytes of the averages."""
        return sum(value.nbytes for value in self.weights.values())

    def state_dict(self) -> dict[str, Tensor]:
        """The averages."""
        return dict(self.weights)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the :meth:`state_dict` of a teacher of the same network."""
        present = self._network.trained()
        self.weights = {
            name: torch.empty_like(present[name], requires_grad=False).copy_(value)
            for name, value in state.items()
        }
