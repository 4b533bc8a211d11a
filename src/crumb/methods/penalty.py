"""The quadratic penalty of L2, EWC, SI and MAS: important weights stay near their anchors.

    penalty = sum over slots, parameters and elements of importance * (theta - anchor)^2

The anchor is the value at the end of a past task. The methods differ only in the importance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from crumb.data.batches import Batch, Batches
from crumb.errors import require
from crumb.methods.base import BytesHeld, Learner, strip_prefix
from crumb.methods.present import PresentTask
from crumb.methods.training import MAX_FLOAT, TrainingConfig
from crumb.nets.split import SplitNetwork
from crumb.progress import bar

Named = dict[str, Tensor]
"""Tensors by parameter name."""


@dataclass(frozen=True)
class PenaltyConfig(TrainingConfig):
    """Settings of a method with a quadratic penalty."""

    regularisation: float = 1.0
    """Weight of the penalty (no factor of one half)."""
    trained_outputs: Literal["task", "all"] = "task"
    """Outputs in the loss of new images: the classes of the current task only (as in the authors'
    code), or all classes seen so far."""

    def __post_init__(self) -> None:
        super().__post_init__()
        holds = 0 <= self.regularisation <= MAX_FLOAT
        allowed = f"at least 0 and at most {MAX_FLOAT:g}"
        require("regularisation", self.regularisation, holds, allowed)


@dataclass
class Slot:
    """One term of the penalty.

    Attributes:
        anchors: float32, of the shape of each parameter.
        importances: at least 0, of the shape of each parameter or broadcastable to it; empty at
            first.
    """

    anchors: Named
    importances: Named

    @property
    def nbytes(self) -> int:
        """Bytes of all its tensors."""
        return nbytes(self.anchors) + nbytes(self.importances)


class QuadraticPenalty:
    """The sum of importance * (theta - anchor)^2 over slots: one slot, or one per past task.

    Attributes:
        slots: oldest first.
    """

    def __init__(self) -> None:
        self.slots: list[Slot] = []

    def __call__(self, parameters: dict[str, nn.Parameter]) -> Tensor | None:
        """The penalty, a scalar with a gradient; None before the first task ends."""
        terms = [
            (importance * (parameters[name] - slot.anchors[name]).square()).sum()
            for slot in self.slots
            for name, importance in slot.importances.items()
        ]
        return torch.stack(terms).sum() if terms else None

    @property
    def nbytes(self) -> int:
        """Bytes of all anchors and importances."""
        return sum(slot.nbytes for slot in self.slots)

    def follow_head(self, head: dict[str, nn.Parameter], keep: int) -> None:
        """Adapt to a new head: keep the rows of known classes; the other rows have no importance.

        Args:
            head: parameters of the new head, by name.
            keep: number of known classes.
        """
        for slot in self.slots:
            slot.anchors = with_rows(slot.anchors, copies(head), keep)
            if slot.importances:
                zeros = {
                    name: p.new_zeros(len(p), *slot.importances[name].shape[1:])
                    for name, p in head.items()
                }
                slot.importances = with_rows(slot.importances, zeros, keep)

    def state_dict(self) -> Named:
        """Every tensor, as ``<slot>.anchor.<parameter>`` and ``<slot>.importance.<parameter>``."""
        state = {}
        for number, slot in enumerate(self.slots):
            state |= {f"{number}.anchor.{name}": value for name, value in slot.anchors.items()}
            held = slot.importances.items()
            state |= {f"{number}.importance.{name}": value for name, value in held}
        return state

    def load_state_dict(self, state: Named, parameters: dict[str, nn.Parameter]) -> None:
        """Load the :meth:`state_dict` of a penalty on the same parameters.

        Raises:
            LookupError, RuntimeError: a tensor is missing or of another shape.
        """
        count = len({name.partition(".")[0] for name in state})
        self.slots = [
            Slot(
                restored(strip_prefix(state, f"{number}.anchor."), parameters),
                restored(strip_prefix(state, f"{number}.importance."), parameters, may_lack=True),
            )
            for number in range(count)
        ]


class PenaltyLearner(Learner):
    """SGD on the cross entropy plus the weighted penalty.

    The head rows of unseen classes have no importance, so a head with spare rows learns like one
    that grows. As for every learner, the gradient of the whole loss is clipped element by element.

    The cross entropy is over the outputs of the present task alone: those of classes that had not
    been met when the last task ended, and of others that the task has shown. Over all outputs, new
    images push those of absent classes down, which no penalty could hold. Where no task has ended
    yet, as for a caller who names none, these are all classes. Predictions are over all classes.

    Attributes:
        penalty: anchors and importances.
        present: the classes of the current task.
    """

    needs_task_boundaries = True
    Config = PenaltyConfig

    def __init__(
        self, network: SplitNetwork, config: Any, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(network, config, seed, device)
        self.penalty = QuadraticPenalty()
        self.present = PresentTask()

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step of cross entropy + regularisation * penalty."""
        loss = self.direct_loss(batch)
        losses = {"direct": loss}
        if (penalty := self.penalty(self.parameters())) is not None:
            losses["penalty"] = penalty
            loss = loss + self.config.regularisation * penalty
        self.step(loss)
        return {name: value.detach() for name, value in losses.items()}

    def direct_loss(self, batch: Batch) -> Tensor:
        """Mean cross entropy of new images over the trained outputs."""
        self.present.show(batch.labels)
        logits = self.trained_logits(batch.features)
        return cross_entropy(logits, batch.labels.to(logits.device, non_blocking=True))

    def trained_logits(self, features: Tensor) -> Tensor:
        """Logits of the classes seen so far, [B, classes]; minus infinity for outputs that are not
        trained.
        """
        logits = self.active(self.network(features))
        return self.present.without_old(logits) if self.config.trained_outputs == "task" else logits

    def end_task(self, batches: Batches) -> None:
        """End the task: its outputs do not belong to the next one."""
        self.present.finish(len(self.classes))

    def mean_gradients(
        self, losses: Iterable[Tensor], magnitude: Callable[[Tensor], Tensor]
    ) -> Named:
        """Mean of the magnitude of each loss's gradient, with the network in eval mode.

        Args:
            losses: scalars, one per frame, computed lazily so that only one frame's graph is held
                at a time. (``torch.func.vmap`` over a batch of them takes more memory and, on a
                CPU, 1.6 to 2.2 times as long.)
            magnitude: elementwise magnitude of a gradient.

        Returns:
            float32, of the shape of each parameter, by name.
        """
        parameters, count = self.parameters(), 0
        sums = zeros(parameters)
        self.network.eval()
        try:
            for loss in losses:
                gradients = gradients_of(loss, parameters)
                for name, gradient in gradients.items():
                    sums[name] += magnitude(gradient)
                count += 1
        finally:
            self.network.train()
        return {name: value / max(count, 1) for name, value in sums.items()}

    def head_parameters(self) -> dict[str, nn.Parameter]:
        """Weight and bias of the head, whose rows are the classes, by name."""
        prefix = f"tail.{self.network.head_name}."
        return {name: p for name, p in self.parameters().items() if name.startswith(prefix)}

    def _resize_head(self, outputs: int, keep: int | None = None) -> None:
        super()._resize_head(outputs, keep)
        kept = len(self.classes) if keep is None else keep
        self.penalty.follow_head(self.head_parameters(), kept)

    def bytes_held(self) -> BytesHeld:
        """No exemplars; anchors, importances and the classes of the task."""
        return BytesHeld(0, self.penalty.nbytes + self.present.nbytes)

    def state_dict(self) -> dict[str, Tensor]:
        """Network, generators and momentum; anchors, importances, the classes of the task."""
        own = {f"penalty.{name}": value for name, value in self.penalty.state_dict().items()}
        own |= {f"present.{name}": value for name, value in self.present.state_dict().items()}
        return super().state_dict() | own

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load a :meth:`state_dict` of a learner with the same settings and classes."""
        super().load_state_dict(state)
        self.penalty.load_state_dict(strip_prefix(state, "penalty."), self.parameters())
        self.present.load_state_dict(strip_prefix(state, "present."))


def frames(batches: Batches, title: str, most: int | None = None) -> Iterator[tuple[Tensor, int]]:
    """Iterate over single frames of a task, with a progress bar.

    Args:
        batches: one pass over the task.
        title: title of the bar.
        most: maximum number of frames, evenly spaced because neighbours in a stream are alike. A
            short last batch yields fewer.

    Yields:
        features, float32 [1, C, H, W], and the label.
    """
    room = len(batches) * batches.batch_size
    most, place = room if most is None else min(most, room), 0
    for batch in bar(batches, title, "batch", leave=False):
        for row, label in enumerate(batch.labels.tolist()):
            if place * most // room != (place + 1) * most // room:
                yield batch.features[row : row + 1], label
            place += 1


def gradients_of(loss: Tensor, parameters: dict[str, nn.Parameter]) -> Named:
    """The gradient of a scalar, by name; zero for a parameter that it does not depend on."""
    found = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
    return dict(zip(parameters, found, strict=True))


def copies(parameters: dict[str, nn.Parameter]) -> Named:
    """The present values, by name."""
    return {name: p.detach().clone() for name, p in parameters.items()}


def zeros(parameters: dict[str, nn.Parameter]) -> Named:
    """Zeros of the same shapes, by name."""
    return {name: torch.zeros_like(p, requires_grad=False) for name, p in parameters.items()}


def with_rows(old: Named, new: Named, keep: int) -> Named:
    """``old`` updated with the tensors of ``new``, whose first ``keep`` rows keep their old
    values.
    """
    for name, value in new.items():
        value[:keep] = old[name][:keep]
    return old | new


def nbytes(tensors: Named) -> int:
    """Bytes of all of them."""
    return sum(value.nbytes for value in tensors.values())


def restored(state: Named, parameters: dict[str, nn.Parameter], may_lack: bool = False) -> Named:
    """Load the saved tensor of each parameter, on its device and in its memory format.

    Args:
        state: state by name of the parameter; of its shape or, with ``may_lack``, broadcast to it.
        parameters: parameters by name.
        may_lack: accept a state without any of them.

    Raises:
        LookupError, RuntimeError: a tensor is missing or of another shape.
    """
    if may_lack and not state:
        return {}
    found = {}
    for name, parameter in parameters.items():
        value = state[name]
        if value.shape == parameter.shape:
            # Sums follow memory order, so bit-identical results need the same memory format.
            found[name] = torch.empty_like(parameter, requires_grad=False).copy_(value)
        elif may_lack and torch.broadcast_shapes(value.shape, parameter.shape) == parameter.shape:
            found[name] = value.to(parameter.device, copy=True)
        else:
            raise RuntimeError(f"{name} has shape {tuple(value.shape)}")
    return found
