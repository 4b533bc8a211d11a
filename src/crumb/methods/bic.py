"""BiC: distillation, and a linear correction of the bias towards new classes.

Wu, Chen, Wang, Ye, Liu, Guo, Fu, "Large Scale Incremental Learning", CVPR 2019, arXiv 1905.13260.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from crumb.data.batches import Batch, Batches
from crumb.errors import require
from crumb.memory.held_out import SplitExemplars
from crumb.methods.base import BytesHeld, strip_prefix
from crumb.methods.described import Ranges
from crumb.methods.lwf import distillation, require_temperature
from crumb.methods.previous import PreviousNetwork
from crumb.methods.registry import register
from crumb.methods.rehearsal import Rehearsal, RehearsalConfig
from crumb.methods.training import MAX_FLOAT
from crumb.nets.split import SplitNetwork

_AT_ONCE = 64
NO_CORRECTION = (1.0, 0.0)
# Adam's own constants (Kingma and Ba 2015).
_BETAS, _EPSILON = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class BicConfig(RehearsalConfig):
    """Settings of BiC."""

    temperature: float = 2.0
    """Temperature of the distillation softmax."""
    bias_lr: float = 0.001
    """Learning rate of Adam in the bias-correction stage."""
    bias_steps: int = 2000
    """Number of bias-correction steps, each on the whole validation set."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_temperature(self.temperature)
        rate, most = self.bias_lr, f"above 0 and at most {MAX_FLOAT:g}"
        require("bias_lr", rate, 0 < rate <= MAX_FLOAT, most)
        steps = self.bias_steps
        require("bias_steps", steps, 0 <= steps <= 1_000_000, "from 0 to 1000000")


@register
class Bic(Rehearsal[SplitExemplars]):
    """Two stages: train with distillation, then fit alpha and beta for the new classes.

    Stage 1 trains on new images and as many exemplars. The loss is lambda L_d + (1 - lambda) L_c
    with lambda = n / (n + m) for n old and m new classes. L_c is the cross entropy over all
    classes. L_d is the distillation loss between the softmaxes over the old classes at temperature
    2. It is computed as a Kullback-Leibler divergence, which differs from the paper's cross entropy
    by a constant. Its targets are the corrected outputs of the old network. An old class that the
    task shows again counts as new in lambda, so a task with only old classes is learned too.

    Stage 2 uses a validation set. The output o becomes alpha o + beta for the new classes and is
    unchanged for the old ones. Alpha and beta minimise the cross entropy. As in the authors'
    program, the correction covers the last task only: earlier corrections are part of the targets
    that later networks learn. The first task has no correction.

    The validation images are a tenth of the exemplars of each class, at least one, and within the
    same capacity. As in the paper, they are never trained on, even while their class is new. Here
    training and validation exemplars are chosen at random as frames arrive, with equal shares for
    all classes. (The authors' program chooses training exemplars by herding.) So there is no second
    pass over a task, and the last task is corrected too, although its end is not announced. Stage 2
    runs whenever predictions are made, with the current exemplars and network, and changes neither.
    All classes have the same weight in it. If each class has a single exemplar, it is used for both
    training and validation.

    The paper shuffles new images and exemplars over many epochs. As in the paper, L_d has no factor
    of the squared temperature. Unlike in the authors' program, there is no penalty on beta, and
    Adam uses full batches, not single images. That program also validates on one image per class,
    weights only L_c by its share, distils the wrong number of classes, and corrects both networks
    in the same way. Gradients are clipped as for all methods.
    """

    name = "bic"
    summary = "distils, then corrects the bias towards new classes"
    paper = "Wu et al., CVPR 2019"
    keeps = "images or feature maps, a copy of the tail"
    Config = BicConfig
    why_no_budget = "a copy of the tail computes the targets"
    supports_best_epoch = False
    tuned: ClassVar[Ranges] = {"temperature": (0.5, 10.0)}
    needs_task_boundaries = True

    def __init__(
        self, network: SplitNetwork, config: BicConfig, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(network, config, seed, device)
        generator = self.generators["memory"]
        self.exemplars = SplitExemplars(self.config, self.storage(), generator, self.device)
        self.previous = PreviousNetwork(self.network)
        # First corrected class of the previous network, and its alpha and beta.
        self._previous_from, self._previous_correction = 0, NO_CORRECTION
        # First corrected class of the current network.
        self._new_from = 0
        # Current task: frames of the first and of later epochs, and held-out frames.
        self._frames = self._again = 0
        self._held_out: set[int] = set()

    # Stage 1.

    def begin_task(self, names: Sequence[str]) -> None:
        """Add the classes and give them their share of the memory."""
        super().begin_task(names)
        self.exemplars.thin(len(self.classes))
        self._frames = self._again = 0
        self._held_out.clear()

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step of lambda L_d + (1 - lambda) L_c on the frames that are not held out."""
        old = self._new_from = self.previous.known
        self.previous.show(batch.labels)
        mine = ~self._hold_out(batch)
        kept = Batch(batch.labels[mine], batch.features[mine.to(batch.features.device)])
        stored, generator = self.exemplars.training, self.generators["replay"]
        features, labels = self.exemplars.beside(kept, generator, stored)
        labels = labels.to(features.device, non_blocking=True)
        if not len(labels):
            return {"classification": torch.zeros((), device=self.device)}
        logits = self.active(self.network(features))
        losses = {"classification": cross_entropy(logits, labels)}
        loss = losses["classification"]
        if old:
            unseen = int(self.previous.old(len(self.classes)).sum())
            share, temperature = unseen / len(self.classes), self.config.temperature
            divergence = distillation(logits[:, :old], self._targets(features), temperature)
            losses["distillation"] = divergence / temperature**2
            loss = share * losses["distillation"] + (1 - share) * loss
        self.step(loss)
        return {name: loss.detach() for name, loss in losses.items()}

    def _targets(self, features: Tensor) -> Tensor:
        """Corrected logits of the previous network, [B, old classes]."""
        logits = self.previous.logits(features)
        return corrected(logits, self._previous_from, *self._previous_correction)

    def _hold_out(self, batch: Batch) -> Tensor:
        """Held-out frames, bool [B]; the same in each epoch of a task."""
        if batch.first_pass:
            taken = self.exemplars.offer(batch, len(self.classes))
            self._held_out.update((self._frames + taken.nonzero().flatten()).tolist())
            self._frames += len(batch)
            return taken
        places = [(self._again + i) % max(1, self._frames) for i in range(len(batch))]
        self._again += len(batch)
        return torch.tensor([place in self._held_out for place in places])

    # Stage 2.

    def end_task(self, batches: Batches) -> None:
        """Copy the network with its correction, without reading the task again."""
        # The copy is of the trained weights, so the correction is theirs, not that of a teacher.
        with self.inference():
            self._previous_from, self._previous_correction = self._new_from, self.prepare()
        self.previous.finish(len(self.classes))

    def scores(self, features: Tensor) -> Tensor:
        """Logits of the classes seen so far, [B, classes], corrected during :meth:`evaluation`."""
        correction = NO_CORRECTION if self.prepared is None else self.prepared
        return corrected(super().scores(features), self._new_from, *correction)

    def prepare(self) -> tuple[float, float]:
        """Alpha and beta for the current network and exemplars."""
        parts = self.exemplars.validation(_AT_ONCE) if self._new_from else []
        labels = torch.cat([torch.tensor([]), *(labels for _, labels in parts)]).long()
        # Without old and new classes there is nothing to balance.
        if not 0 < int((labels < self._new_from).sum()) < len(labels):
            return NO_CORRECTION
        logits = torch.cat([self.active(self.network(features)) for features, _ in parts]).cpu()
        # Divergence is reported where losses are checked.
        if not logits.isfinite().all():
            return NO_CORRECTION
        config = self.config
        return fit_correction(logits, labels, self._new_from, config.bias_lr, config.bias_steps)

    # The rest of the contract.

    def bytes_held(self) -> BytesHeld:
        """Exemplars; plus row numbers, counts, the copy with its correction, and held-out
        frames.
        """
        held = super().bytes_held()
        numbers = len(self._held_out) + len(self._numbers()) + len(self._previous_correction)
        return replace(held, extra=held.extra + self.previous.nbytes + 8 * numbers)

    def _numbers(self) -> list[int]:
        return [self._previous_from, self._new_from, self._frames, self._again]

    def state_dict(self) -> dict[str, Tensor]:
        """Network, generators and momentum; exemplars, the copy, held-out frames."""
        state = super().state_dict()
        state |= {f"previous.{name}": v for name, v in self.previous.state_dict().items()}
        state["correction"] = torch.tensor(self._previous_correction, dtype=torch.float64)
        state["numbers"] = torch.tensor(self._numbers())
        state["held_out"] = torch.tensor(sorted(self._held_out), dtype=torch.int64)
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the :meth:`state_dict` of a learner with the same settings and classes."""
        super().load_state_dict(state)
        self.previous.load_state_dict(strip_prefix(state, "previous."))
        alpha, beta = state["correction"].tolist()
        self._previous_correction = (alpha, beta)
        numbers = state["numbers"].tolist()
        self._previous_from, self._new_from, self._frames, self._again = numbers
        self._held_out = set(state["held_out"].tolist())


def corrected(logits: Tensor, first: int, alpha: float, beta: float) -> Tensor:
    """The logits, float [B, K], replaced by alpha o + beta from class ``first`` on."""
    return torch.cat([logits[:, :first], alpha * logits[:, first:] + beta], dim=1)


def fit_correction(
    logits: Tensor, labels: Tensor, first: int, lr: float, steps: int
) -> tuple[float, float]:
    """Alpha and beta that minimise the cross entropy of the corrected logits, by Adam.

    Adam is written out here because a library step costs ten times as much for two numbers.

    Args:
        logits: logits of validation images, float [N, K], on the CPU.
        labels: their labels, int64 [N]. All classes have the same weight.
        first: the first corrected class.
        lr: learning rate of Adam.
        steps: steps of Adam on all images, from alpha 1 and beta 0.
    """
    logits = logits.double()
    values, truth = logits.numpy(), labels.numpy()
    # Only the constant sum of exponentials of the old classes matters.
    old, new = logits[:, :first].logsumexp(1).numpy(), values[:, first:]
    own, is_new = values[np.arange(len(truth)), truth], truth >= first
    counts = np.bincount(truth)
    weights = 1 / (counts[truth] * np.count_nonzero(counts))
    # Contribution of the true classes of new images to the gradient.
    right = np.array([weights @ (is_new * own), weights @ is_new])
    correction, mean, square = np.array(NO_CORRECTION), np.zeros(2), np.zeros(2)
    for step in range(1, steps + 1):
        outputs = correction[0] * new + correction[1]
        largest = np.maximum(outputs.max(1), old)[:, None]
        shares = np.exp(outputs - largest)
        shares /= shares.sum(1, keepdims=True) + np.exp(old[:, None] - largest)
        weighted = weights @ (shares * new), weights @ shares
        gradient = np.array([part.sum() for part in weighted]) - right
        mean = _BETAS[0] * mean + (1 - _BETAS[0]) * gradient
        square = _BETAS[1] * square + (1 - _BETAS[1]) * gradient**2
        spread = np.sqrt(square / (1 - _BETAS[1] ** step)) + _EPSILON
        correction = correction - lr * mean / (1 - _BETAS[0] ** step) / spread
    return float(correction[0]), float(correction[1])
