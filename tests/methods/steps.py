"""Steps of SGD worked out beside a learner, with settings that make each part of them visible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from networks import TERMS
from tests.rounding import assert_rounded, tolerance
from torch import Tensor

VISIBLE: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}
"""Settings with which a step without momentum, or without weight decay, is seen to be another."""


def sgd(
    theta: Tensor,
    gradient: Tensor,
    velocity: Tensor | None,
    *,
    lr: float = VISIBLE["lr"],
    momentum: float = VISIBLE["momentum"],
    weight_decay: float = VISIBLE["weight_decay"],
    clip: float = 10.0,
) -> tuple[Tensor, Tensor]:
    """Clip each element, add weight decay, then momentum: the order matters."""
    update = gradient.clamp(-clip, clip) + weight_decay * theta
    velocity = update if velocity is None else momentum * velocity + update
    return theta - lr * velocity, velocity


class ByHand:
    """The way of a learner's parameters from where they are, with the momentum that they have.

    Args:
        learner: that takes the same steps.
        settings: of :func:`sgd`.
    """

    def __init__(self, learner: Any, **settings: float) -> None:
        self.learner, self.settings = learner, settings
        trained = {name: p for name, p in learner.parameters().items() if p.requires_grad}
        self.start = {name: p.detach().clone() for name, p in trained.items()}
        state = learner.optimizer.state
        self.velocity = {
            name: state[p]["momentum_buffer"].clone() if p in state else None
            for name, p in trained.items()
        }
        self.gradients: list[dict[str, Tensor]] = []

    def step(self, gradients: Sequence[Tensor]) -> None:
        """Take a step along these gradients, in the order of the parameters that are trained."""
        self.gradients.append(dict(zip(self.start, gradients, strict=True)))

    def way(self, **changed: float) -> dict[str, Tensor]:
        """How far all steps so far move each parameter, with some settings changed."""
        theta, velocity = dict(self.start), dict(self.velocity)
        for gradients in self.gradients:
            for name, gradient in gradients.items():
                theta[name], velocity[name] = sgd(
                    theta[name], gradient, velocity[name], **(self.settings | changed)
                )
        return {name: value - self.start[name] for name, value in theta.items()}

    def check(self) -> None:
        """The learner has gone this way, and no other that lacks a part of each step."""
        expected = self.way()
        size = max(float(value.abs().max()) for value in self.start.values())
        parameters = self.learner.parameters()
        for name, way in expected.items():
            moved = parameters[name].detach() - self.start[name]
            assert_rounded(moved, way, TERMS, magnitude=max(size, 1.0))
        for part in ("momentum", "weight_decay"):
            other = self.way(**{part: 0.0})
            apart = max(float((other[name] - expected[name]).abs().max()) for name in expected)
            assert apart > 10 * tolerance(TERMS, max(size, 1.0)), f"{part} does not show"
