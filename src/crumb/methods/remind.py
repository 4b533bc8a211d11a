"""REMIND: replay of feature maps rebuilt from the codes of a product quantiser.

Hayes, Kafle, Shrestha, Acharya, Kanan, "REMIND Your Neural Network to Prevent Catastrophic
Forgetting", ECCV 2020.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from crumb.data.batches import Batch
from crumb.errors import InputError, require, setting
from crumb.methods.augmentation import beta, mixed, random_resized_crops
from crumb.methods.base import BytesHeld, strip_prefix
from crumb.methods.class_rates import ClassRates
from crumb.methods.described import Ranges
from crumb.methods.quantised import QuantisedConfig, QuantisedRehearsal
from crumb.methods.registry import register
from crumb.methods.training import MAX_FLOAT
from crumb.nets.split import SplitNetwork
from crumb.nets.tokens import check_grid, on_grid


@dataclass(frozen=True)
class RemindConfig(QuantisedConfig):
    """Settings of REMIND."""

    schedule: Literal["constant", "class"] = "constant"
    """Learning rate after the first task: constant LR, or (class) the authors' for ImageNet, with
    LR 0.1: it falls from LR to FINAL-LR with the number of images of each class."""
    final_lr: float = 0.001
    """Learning rate of a class after IMAGES-PER-CLASS images, with SCHEDULE class."""
    lr_step: int = 100
    """Number of images of a class after which its learning rate falls."""
    images_per_class: int = 1300
    """Number of images of a class until its learning rate is FINAL-LR (that of ImageNet)."""
    images_per_step: int = 1
    """Number of new images per step after the first task (1 in the paper)."""
    rehearsal_samples_per_update: int = 50
    """Number of exemplars per step."""
    mixup_alpha: float = 0.1
    """Mixup parameter: exemplars are mixed in pairs with shares from Beta(ALPHA, ALPHA). 0 turns
    mixup off."""
    random_resized_crops: bool = True
    """Whether to augment feature maps by random resized crops."""

    def __post_init__(self) -> None:
        super().__post_init__()
        most = f"at most {MAX_FLOAT:g}"
        final = self.final_lr
        require("final_lr", final, 0 < final <= MAX_FLOAT, f"above 0 and {most}")
        if self.schedule == "class" and final > self.lr:
            problem = f"is above {setting('lr', self.lr)}"
            raise InputError(
                setting("final_lr", final), problem, "give a final rate below the rate"
            )
        alpha = self.mixup_alpha
        holds = alpha == 0 or 1e-6 <= alpha <= 1e6
        require("mixup_alpha", alpha, holds, "from 1e-6 to 1e6, or 0")
        for name in ("lr_step", "images_per_class"):
            require(
                name, (value := getattr(self, name)), 1 <= value < 1 << 31, "from 1 to 2^31 - 1"
            )
        self.check_budget("rehearsal_samples_per_update")
        for name in ("images_per_step", "rehearsal_samples_per_update"):
            require(name, (value := getattr(self, name)), 1 <= value <= 1 << 16, "from 1 to 65536")

    @property
    def least_lr(self) -> float:
        """The final rate, with a schedule that ends there."""
        return self.final_lr if self.schedule == "class" else 0.0


@register
class Remind(QuantisedRehearsal):
    """Trains normally on the first task, then on one image at a time with exemplars, all rebuilt
    from codes.

    The first task (base initialisation) is learned in plain steps on the features. At its end, a
    product quantiser is fitted to a random sample of its channel vectors (see
    :meth:`ProductQuantiser.fit`). Codes of random frames of the task then fill the memory, with
    equal shares for its classes, and the momentum is reset. From then on, each new image is learned
    from its own reconstruction, together with exemplars drawn uniformly (without replacement if
    there are enough). In the first pass its code is then stored. A full memory drops a random
    exemplar of the largest class.

    Every feature map of a step is randomly cropped. With mixup, twice as many exemplars are drawn
    and mixed in pairs; new images are not mixed. The share is drawn once per step. The loss is the
    mean cross entropy over new images and (mixed) exemplars. Predictions use reconstructions as
    soon as the quantiser is fitted, which is before the last test of the first task.

    The original program differs in four ways. It trains the whole network in the first task; here
    the feature extractor is frozen, as for every method. It stores the codes of all frames of that
    task and keeps this number, whatever the capacity. Its softmax is over all outputs, including
    those of unseen classes; here it is over the classes seen so far. It starts the stream with the
    weights of the epoch that was best on test images. ``images_per_step`` is an addition for speed.
    Gradients are clipped as for all methods.

    The rate is constant, as in the CRUMB authors' runs; ``schedule`` class is that of the paper's
    runs on ImageNet (see :class:`ClassRates`).
    """

    name = "remind"
    summary = "replay of feature maps rebuilt from product-quantised codes"
    paper = "Hayes et al., ECCV 2020"
    keeps = "codes, quantiser"
    Config = RemindConfig
    why_no_budget = ""
    tuned: ClassVar[Ranges] = {
        "mixup_alpha": (0.01, 1.0),
        "rehearsal_samples_per_update": (10, 100),
    }

    def __init__(
        self, network: SplitNetwork, config: RemindConfig, seed: int = 0, device: str = "cpu"
    ) -> None:
        if config.random_resized_crops:
            check_grid(network, setting("random_resized_crops", True))
        super().__init__(network, config, seed, device)
        steps = (config.lr_step, config.images_per_class)
        falling = config.schedule == "class"
        self.rates = ClassRates(config.lr, config.final_lr, *steps) if falling else None

    # The update rule.

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Take steps on the images in order; after the first task each step includes exemplars.

        Returns:
            mean losses over the steps.
        """
        if not self.quantiser.ready:
            if self.budget:
                self.budget.begin(len(batch))
            steps = self.learn_base(batch)
            while self.budget and self.budget.left >= len(batch):
                steps += self.learn_base(batch)
        else:
            steps = []
            size, codes = self.config.images_per_step, self.exemplars.storage.encode(batch)
            for some, labels in zip(codes.split(size), batch.labels.split(size), strict=True):
                steps.append(self._step_with_exemplars(some, labels))
                if batch.first_pass:
                    self.store(some, labels)
        return {name: torch.stack([step[name] for step in steps]).mean() for name in steps[0]}

    def _step_with_exemplars(self, codes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Take one step on new images, uint8 [n, code_length], and exemplars, all rebuilt from
        codes.
        """
        config, generator, new = self.config, self.generators["replay"], len(codes)
        if self.rates is not None:
            self.optimizer.param_groups[0]["lr"] = self.rates.next(labels)
        count = config.rehearsal_samples_per_update
        if self.budget:
            # A step without exemplars would have no share of them to mix.
            count = max(1, self.replay_count(new))
        drawn = count * (2 if config.mixup_alpha else 1)
        stored, theirs = self.exemplars.memory.sample(drawn, generator)
        maps = self.exemplars.storage.features(torch.cat([codes, stored]))
        targets = one_hot(torch.cat([labels, theirs]), len(self.classes)).float().to(self.device)
        if config.random_resized_crops:
            crops = partial(random_resized_crops, generator=generator)
            maps = on_grid(self.network, maps, crops)
        if config.mixup_alpha:
            share = beta(config.mixup_alpha, generator)
            maps, targets = (mixed(values, new, share) for values in (maps, targets))
        each = cross_entropy(self.active(self.network(maps)), targets, reduction="none")
        self.step(each.mean())
        return {"quantised": each[:new].mean().detach(), "replay": each[new:].mean().detach()}

    # The rest of the contract.

    def bytes_held(self) -> BytesHeld:
        """Codes; plus their row numbers, the quantiser and the images counted for the rates."""
        held = super().bytes_held()
        return replace(held, extra=held.extra + (self.rates.nbytes if self.rates else 0))

    def state_dict(self) -> dict[str, Tensor]:
        """Network, generators and momentum; codes, quantiser and counts of images."""
        rates = self.rates.state_dict() if self.rates else {}
        return super().state_dict() | {f"rates.{name}": value for name, value in rates.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the :meth:`state_dict` of a learner with the same settings and classes."""
        super().load_state_dict(state)
        if self.rates is not None:
            self.rates.load_state_dict(strip_prefix(state, "rates."))
