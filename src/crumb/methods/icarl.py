"""iCaRL: herded exemplars, distillation, and the nearest mean of exemplars.

Rebuffi, Kolesnikov, Sperl, Lampert, "iCaRL: Incremental Classifier and Representation Learning",
CVPR 2017.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, normalize, one_hot

from crumb.data.batches import Batch, Batches
from crumb.memory.exemplars import ChosenExemplars
from crumb.memory.herding import Herding
from crumb.memory.replay import take
from crumb.methods.base import BytesHeld, strip_prefix
from crumb.methods.previous import PreviousNetwork
from crumb.methods.registry import register
from crumb.methods.rehearsal import Rehearsal, RehearsalConfig
from crumb.nets.split import SplitNetwork

RECENT = 256
"""Window of the running class means, in frames. Older embeddings come from an older network."""


def sigmoid_targets(
    previous: PreviousNetwork, features: Tensor, labels: Tensor, classes: int
) -> tuple[Tensor, Tensor]:
    """Targets of the outputs: the previous network's sigmoids or the labels.

    Args:
        previous: the network that gives the targets of old classes.
        features: float [B, C, H, W].
        labels: int64 [B], on the features' device.
        classes: number of classes seen so far.

    Returns:
        targets, float [B, classes]: sigmoids for old classes, one-hot labels for the others; and
        which classes are old, bool [classes].
    """
    targets, known = one_hot(labels, classes).float(), previous.known
    old = previous.old(classes).to(features.device)
    if known:
        before = previous.logits(features, linear=True).sigmoid()
        targets[:, :known] = torch.where(old[:known], before, targets[:, :known])
    return targets, old


def sigmoid_losses(logits: Tensor, targets: Tensor, old: Tensor) -> dict[str, Tensor]:
    """Binary cross entropy averaged over images and summed over new and over old classes.

    Args:
        logits: float [B, classes].
        targets: float [B, classes], in [0, 1].
        old: bool [classes].
    """
    entropies = binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(0)
    return {"classification": entropies[~old].sum(), "distillation": entropies[old].sum()}


@register
class Icarl(Rehearsal[ChosenExemplars]):
    """Trains independent sigmoid outputs and predicts by the nearest mean of exemplars.

    This implements algorithms 1 to 5 of the paper. Phi is the input of the head, averaged over
    positions and scaled to length 1. The outputs are taken before any rectifier that follows the
    head, as in SqueezeNet: the sigmoid of a rectified output is never below 0.5.

    Each step trains on the new batch and as many exemplars, drawn uniformly. The paper shuffles
    both together over many epochs. The loss is summed over classes and averaged over images. The
    classes of the current task (new classes in the paper) are those that its frames have shown and
    those that the previous network does not know. So a class that returns is new again, and its
    exemplars are chosen from the stored ones and the new frames.

    As in the paper, the last test of a task comes after its exemplars have been chosen. Before the
    end of its first task a class has no exemplars. Predictions until then use a running mean of phi
    over about the last 256 frames of the class, computed without dropout after each step. A class
    without exemplars and frames scores minus infinity.

    The published program differs. Its phi are the logits. Its exemplars repeat and exceed the
    capacity. Its targets are compared with outputs of other images. It uses softmax cross entropy
    for new images and separate steps for replay. Its task ends when all exemplars have been seen.
    Gradients are clipped as for all methods.
    """

    name = "icarl"
    summary = "herded exemplars, distillation, nearest mean"
    paper = "Rebuffi et al., CVPR 2017"
    keeps = "images or feature maps, a copy of the tail"
    Config = RehearsalConfig
    why_no_budget = "a copy of the tail computes the targets"
    supports_best_epoch = False
    needs_task_boundaries = True
    needs_second_pass = True
    tested_after_task_end = True

    def __init__(
        self, network: SplitNetwork, config: RehearsalConfig, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(network, config, seed, device)
        memory = self.generators["memory"]
        self.exemplars = ChosenExemplars(self.config, self.storage(), memory, self.device)
        self.previous = PreviousNetwork(self.network)
        self._running: dict[int, Tensor] = {}
        self._frames: dict[int, int] = {}

    # The update rule.

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on new images and exemplars (algorithm 3), then update the running
        means.
        """
        self.previous.show(batch.labels)
        features, labels = self._joined(batch)
        targets, old = sigmoid_targets(self.previous, features, labels, len(self.classes))
        losses = sigmoid_losses(self.active(self.network(features, linear=True)), targets, old)
        self.step(losses["classification"] + losses["distillation"])
        self._follow(batch)
        return {name: loss.detach() for name, loss in losses.items()}

    def _joined(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The batch and as many exemplars of any class: features and labels, on the device."""
        stored, generator = list(self.exemplars.memory.counts), self.generators["replay"]
        features, labels = self.exemplars.beside(batch, generator, stored)
        return features, labels.to(features.device, non_blocking=True)

    # Prediction.

    def scores(self, features: Tensor) -> Tensor:
        """Minus the squared distance to the mean of each class, [B, classes] (algorithm 1)."""
        phi = self._phi(features)
        means = self.prepare() if self.prepared is None else self.prepared
        distances = phi.square().sum(1, True) - 2 * phi @ means.T + means.square().sum(1)
        return (-distances).masked_fill(means.isnan().any(1), -torch.inf)

    def prepare(self) -> Tensor:
        """Unit class means, [classes, D], of exemplars or else of frames; NaN for neither."""
        width = self.network.penultimate_size
        means = torch.full((len(self.classes), width), torch.nan, device=self.device)
        for label, mean in self._running.items():
            means[label] = normalize(mean, dim=0)
        for label in self.exemplars.memory.counts:
            phi = self.exemplars.embedded(label, self._phi)
            means[label] = normalize(phi.mean(0), dim=0)
        return means

    def _phi(self, features: Tensor) -> Tensor:
        return normalize(self.network.penultimate(features))

    def _follow(self, batch: Batch) -> None:
        """Update the running means of classes without exemplars."""
        new = [n for n in set(batch.labels.tolist()) if not self.exemplars.count(n)]
        if not new:
            return
        with self.inference():
            phi = self._phi(batch.features)
        for label in new:
            places = (batch.labels == label).nonzero().flatten()
            mean, count = take(phi, places).mean(0), len(places)
            self._frames[label] = min(self._frames.get(label, 0) + count, max(RECENT, count))
            before = self._running.get(label, mean)
            self._running[label] = before + count / self._frames[label] * (mean - before)

    # The memory.

    def end_task(self, batches: Batches) -> None:
        """Reduce the exemplars of all classes, choose those of this task's classes, copy the
        network.

        Raises:
            InputError: fewer exemplars than classes.
        """
        self.check_room(len(self.classes))
        memory = self.exemplars.memory
        with self.inference():
            herding = Herding(memory, self.exemplars.storage, self._phi)
            herding.write(batches, len(self.classes))
        for label in memory.counts:
            self._running.pop(label, None)
            self._frames.pop(label, None)
        self.previous.finish(len(self.classes))

    # The rest of the contract.

    def bytes_held(self) -> BytesHeld:
        """Exemplars; plus their row numbers, the copy of the network and the running means."""
        running = sum(mean.nbytes for mean in self._running.values()) + 16 * len(self._frames)
        held = super().bytes_held()
        return replace(held, extra=held.extra + self.previous.nbytes + running)

    def state_dict(self) -> dict[str, Tensor]:
        """Network, generators and momentum; exemplars, the copy, classes shown in the task."""
        state = super().state_dict()
        state |= {f"previous.{name}": v for name, v in self.previous.state_dict().items()}
        state |= {f"running.{label}": mean for label, mean in self._running.items()}
        frames = [[label, count] for label, count in sorted(self._frames.items())]
        state["frames"] = torch.tensor(frames, dtype=torch.int64).view(-1, 2)
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the :meth:`state_dict` of a learner with the same settings and classes."""
        super().load_state_dict(state)
        self.previous.load_state_dict(strip_prefix(state, "previous."))
        means = strip_prefix(state, "running.").items()
        self._running = {int(label): mean.to(self.device) for label, mean in means}
        self._frames = dict(state["frames"].tolist())
