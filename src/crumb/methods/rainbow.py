"""Rainbow Memory: exemplars over the whole range of the network's uncertainty.

Bang, Kim, Yoo, Ha, Choi, "Rainbow Memory: Continual Learning with a Memory of Diverse Samples",
CVPR 2021, arXiv 2103.17230.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from crumb.data.batches import Batch, Batches
from crumb.data.spacing import evenly
from crumb.errors import InputError, require, setting
from crumb.memory.budget import fitting
from crumb.memory.exemplars import ChosenExemplars
from crumb.memory.herding import note_costs, store
from crumb.memory.storage import ImageStorage
from crumb.methods.augmentation import cutmix, random_crops
from crumb.methods.registry import register
from crumb.methods.rehearsal import Rehearsal, RehearsalConfig
from crumb.nets.split import SplitNetwork
from crumb.nets.tokens import check_grid, on_grid
from crumb.progress import bar

MIN_AREA = 0.25
"""Smallest share of an image that a perturbed view shows."""


@dataclass(frozen=True)
class RainbowConfig(RehearsalConfig):
    """Settings of Rainbow Memory."""

    memory_only_epochs: int = 256
    """Number of epochs over the shuffled memory at the end of each task."""
    schedule: Literal["constant", "cos"] = "cos"
    """Learning-rate schedule of these epochs: constant LR, or LR / 10 followed by cosines from LR
    to LR / 100 over 1, 2, 4, ... epochs."""
    views: int = 12
    """Number of perturbed views per candidate for its uncertainty."""
    perturb: Literal["feature", "image"] = "feature"
    """What to crop and mirror for a view: the feature map, or the stored pixels (one pass of the
    feature extractor per view)."""
    cutmix_probability: float = 0.0
    """Share of steps on batches mixed by CutMix (of feature maps)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        epochs, views, share = self.memory_only_epochs, self.views, self.cutmix_probability
        most = 1_000_000
        require("memory_only_epochs", epochs, 0 <= epochs <= most, f"from 0 to {most}")
        require("views", views, 2 <= views <= 10_000, "from 2 to 10000")
        require("cutmix_probability", share, 0 <= share <= 1, "from 0 to 1")
        if self.perturb == "image" and self.storage != "image":
            problem = f"needs pixels, which {setting('storage', self.storage)} does not keep"
            raise InputError(setting("perturb", "image"), problem, "leave one of them out")


def rate(epoch: int) -> float:
    """Learning-rate factors of the schedule ``cos`` in epochs 0, 1, 2, ...

    A tenth at first as warm-up, then a cosine from 1 to 0.01 that restarts in epochs 1, 2, 4, 8,
    ...
    """
    if epoch == 0:
        return 0.1
    period = 1 << (epoch.bit_length() - 1)
    return 0.01 + 0.99 * (1 + math.cos(math.pi * (epoch - period) / period)) / 2


def uncertainty(votes: Tensor) -> Tensor:
    """Uncertainty of candidates: one minus the largest share of views predicted as the same class.

    Args:
        votes: predicted class of each view, int64 [views, n].

    Returns:
        float64 [n], from 0 to 1 - 1 / views.
    """
    agreeing = torch.stack([(votes == vote).sum(0) for vote in votes])
    return 1 - agreeing.amax(0).double() / len(votes)


def even_steps(uncertainties: Tensor, count: int) -> list[int]:
    """Choose evenly spaced candidates by ascending uncertainty, from the most certain on.

    Args:
        uncertainties: float [n].
        count: number of candidates to choose; all if there are fewer.

    Returns:
        their indices; ties go to the earlier one.
    """
    order = uncertainties.argsort(stable=True).tolist()
    return [order[place] for place in evenly(len(order), count, at="start").tolist()]


@register
class Rainbow(Rehearsal[ChosenExemplars]):
    """Replays during the stream. At the end of a task, chooses a diverse memory and trains on it.

    Each step uses the new batch and as many exemplars. At the end of a task, every class gets
    capacity // classes exemplars. The candidates are its exemplars and its frames of the task. They
    are sorted by uncertainty, and evenly spaced ones are chosen (the paper's diversity-aware memory
    update). The remaining capacity goes to other candidates at random, as in the published program.
    The network is then trained for some epochs on the memory only, and tested after that, also in
    the last task, as in the paper.

    The paper perturbs the pixels of a view at random, including colours. By default this method
    uses random crops and mirror images of the feature map: a convolutional feature extractor nearly
    commutes with both, so a view needs no pass through it. All methods get the same images, so
    training uses no augmentation. The paper's best results use augmentation;
    ``cutmix_probability`` adds its CutMix.

    The published program chooses the first exemplars at random and divides the memory among all
    future classes. It steps through the candidates by an integer: with 150 candidates for 100
    places it never takes the 50 least certain ones. It resets the last layer and the optimizer at
    each task and also uses warm-up during the stream. Here the head grows, the momentum is kept,
    and the learning rate of the stream is constant. The program reports the memory-only epoch that
    is best on test images; here the last epoch counts. Gradients are clipped as for all methods.
    """

    name = "rainbow"
    summary = "exemplars chosen by uncertainty, final training on them alone"
    paper = "Bang et al., CVPR 2021"
    keeps = "images or feature maps"
    Config = RainbowConfig
    why_no_budget = "it trains on the memory alone at the end of a task"
    needs_task_boundaries = True
    needs_second_pass = True
    tested_after_task_end = True
    learns_at_task_end = True

    def __init__(
        self, network: SplitNetwork, config: RainbowConfig, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(network, config, seed, device)
        if config.perturb == "feature":
            check_grid(network, setting("perturb", "feature"))
        if config.cutmix_probability:
            check_grid(network, setting("cutmix_probability", config.cutmix_probability))
        memory = self.generators["memory"]
        self.exemplars = ChosenExemplars(self.config, self.storage(), memory, self.device)

    # The update rule.

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on the new batch and as many exemplars."""
        new = len(batch)
        each = self._losses(*self.exemplars.beside(batch, self.generators["replay"]))
        self.step(each.mean())
        losses = {"direct": each[:new].mean().detach()}
        if len(each) > new:
            losses["replay"] = each[new:].mean().detach()
        return losses

    def end_task(self, batches: Batches) -> None:
        """Write the memory, then train on it alone.

        Raises:
            InputError: fewer exemplars than classes, or no room for one of some class.
        """
        self.check_room(len(self.classes))
        with self.inference():
            chosen = self._choose(*self._uncertainties(batches))
        store(self.exemplars.memory, self.exemplars.storage, batches, chosen)
        self._train_on_memory(batches.batch_size)

    def _train_on_memory(self, batch_size: int) -> None:
        group, config = self.optimizer.param_groups[0], self.config
        title = f"{self.name}, memory only"
        epochs = range(config.memory_only_epochs)
        for epoch in bar(epochs, title, "epoch", leave=False):
            group["lr"] = config.lr * (rate(epoch) if config.schedule == "cos" else 1)
            for some in self.exemplars.shuffled(batch_size, self.generators["replay"]):
                self.step(self._losses(*some).mean())
        group["lr"] = config.lr

    def _losses(self, features: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy of each map, float [B]; mixed maps weight both labels by their share."""
        generator, chosen = self.generators["replay"], self.config.cutmix_probability
        labels = labels.to(features.device, non_blocking=True)
        if not chosen or torch.rand((), generator=generator) >= chosen:
            return cross_entropy(self.active(self.network(features)), labels, reduction="none")
        found: list[Any] = []

        def mix(maps: Tensor) -> Tensor:
            mixed, *others = cutmix(maps, generator)
            found.extend(others)
            return mixed

        logits = self.active(self.network(on_grid(self.network, features, mix)))
        partners, own = found
        theirs = cross_entropy(logits, labels[partners.to(labels.device)], reduction="none")
        return own * cross_entropy(logits, labels, reduction="none") + (1 - own) * theirs

    # The memory.

    def _uncertainties(self, batches: Batches) -> tuple[dict[int, Tensor], dict[int, list[int]]]:
        """Candidates of each class: its exemplars, then its frames of the task.

        Returns:
            by label, uncertainties, float64 [n] on the CPU, and the capacity that each takes.
        """
        found: dict[int, list[Tensor]] = {}
        storage, memory = self.exemplars.storage, self.exemplars.memory
        costs = {label: memory.costs(label) for label in memory.counts}
        for label in memory.counts:
            parts = memory.class_rows(label).split(batches.batch_size)
            found[label] = [self._uncertainty(self._seen(rows)) for rows in parts]
        title = f"{self.name}, {self.config.views} views"
        for batch in bar(batches, title, "batch", leave=False):
            note_costs(costs, memory, storage, batch)
            pixels = self.config.perturb == "image"
            each = self._uncertainty(
                self._seen(storage.encode(batch)) if pixels else batch.features
            )
            for label in batch.labels.unique().tolist():
                found.setdefault(label, []).append(each[batch.labels == label])
        return {label: torch.cat(parts) for label, parts in sorted(found.items())}, costs

    def _seen(self, rows: Tensor) -> Tensor:
        """Decode rows of the storage to the source of views: feature maps or pixels."""
        storage = self.exemplars.storage
        if self.config.perturb == "feature":
            return storage.features(rows)
        assert isinstance(storage, ImageStorage)
        return storage.pixels(rows)

    def _uncertainty(self, shown: Tensor) -> Tensor:
        """Uncertainties of feature maps or pixels, [n, ...]: float64 [n], on the CPU."""
        votes = [self._vote(shown) for _ in range(self.config.views)]
        return uncertainty(torch.stack(votes)).cpu()

    def _vote(self, shown: Tensor) -> Tensor:
        """Predicted class of one perturbed view of each, int64 [n]."""
        generator = self.generators["memory"]
        if self.config.perturb == "feature":
            view = on_grid(
                self.network, shown, lambda maps: random_crops(maps, MIN_AREA, generator)
            )
        else:
            crops = random_crops(shown.float(), MIN_AREA, generator)
            view = self.network.features(crops.round().byte())
        return self.active(self.network(view)).argmax(1)

    def _choose(
        self, uncertainties: dict[int, Tensor], costs: dict[int, list[int]]
    ) -> dict[int, list[int]]:
        """Indices of the chosen candidates of each class: its share, plus random ones for the
        remainder.
        """
        capacity, chosen = self.exemplars.memory.capacity, {}
        share = capacity // len(self.classes)
        for label, each in uncertainties.items():
            own = costs[label]
            wanted = even_steps(each, share * len(own) // sum(own))
            taken = fitting([own[place] for place in wanted], share)
            chosen[label] = [wanted[place] for place in taken]
        others = [
            (label, position)
            for label, each in uncertainties.items()
            for position in sorted({*range(len(each))} - {*chosen[label]})
        ]
        room = capacity - sum(costs[label][n] for label, each in chosen.items() for n in each)
        order = torch.randperm(len(others), generator=self.generators["memory"])
        others = [others[n] for n in order.tolist()]
        for n in fitting([costs[label][position] for label, position in others], room):
            chosen[others[n][0]].append(others[n][1])
        return chosen
