"""The contract of every learner, and what all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from crumb.data.batches import Batch, Batches
from crumb.errors import InputError, require, setting
from crumb.kinds import check_kinds
from crumb.memory.capacity import END_OF_TASK, with_policy
from crumb.memory.images import ImageForm
from crumb.methods.optimisation import momentum_state, replace_parameters, restore_momentum
from crumb.methods.teachable import Teachable
from crumb.nets.split import SplitNetwork
from crumb.seeds import generator

MOST_FLOAT = 1e38
"""Steps compute in float32, which holds no more than 3.4e38."""


Ranges = Mapping[str, tuple[float, float]]
"""Least and largest value, above 0, by name of the setting."""


@dataclass(frozen=True)
class TrainingConfig:
    """What every learner that trains by gradient descent is set by."""

    lr: float = 0.001
    """Learning rate of SGD, constant."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 0.0001
    """Weight decay of SGD, added after the clipping."""
    clip: float = 10.0
    """Gradient elements are clipped to [-CLIP, CLIP]."""

    def __post_init__(self) -> None:
        check_kinds(self)
        most = f"at most {MOST_FLOAT:g}"
        require("lr", self.lr, 0 < self.lr <= MOST_FLOAT, f"above 0 and {most}")
        require("momentum", self.momentum, 0 <= self.momentum < 1, "in [0, 1)")
        decay = self.weight_decay
        require("weight_decay", decay, 0 <= decay <= MOST_FLOAT, f"at least 0 and {most}")
        require("clip", self.clip, 0 < self.clip <= MOST_FLOAT, f"above 0 and {most}")

    @property
    def least_lr(self) -> float:
        """The learning rate must not be below it, given the other settings."""
        return 0.0


@dataclass(frozen=True)
class BytesHeld:
    """What a learner keeps between batches besides one copy of the network.

    Attributes:
        replay: bytes of the exemplars.
        extra: bytes of everything else that the method needs (row numbers, codebook, prototypes,
            copies and importances of weights, ...).
        reading: those of ``extra`` without which the exemplars could not be read (row numbers,
            labels, codebook, quantiser). ``--budget-bytes`` bounds these and ``replay`` together.
    """

    replay: int
    extra: int
    reading: int = 0


class Learner(Teachable, ABC):
    """A network that learns classes from a stream.

    Users call :meth:`observe`, :meth:`predict` and :meth:`save`. The stream loop calls
    :meth:`learn` with features that it computed beforehand, and :meth:`begin_task` and
    :meth:`end_task` where :attr:`needs_task_boundaries` says so.

    Args:
        network: split, with any head.
        config: of the method.
        seed: of every random number that the learner draws.
        device: where it computes.

    Attributes:
        classes: names in the order in which they were met; a label is an index into it.
        steps: gradient steps so far; a learner that is loaded counts from 0.
        checks_losses: whether a loss that is no longer finite is refused; costs a wait for a GPU.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    """What it does against forgetting, in a line."""
    paper: ClassVar[str]
    """Authors, venue and year, or which bound it is."""
    keeps: ClassVar[str]
    """What it holds between batches besides one copy of the network."""
    Config: ClassVar[type] = TrainingConfig
    tuned: ClassVar[Ranges] = {}
    """The settings, at most two, that ``crumb tune`` searches besides ``lr``, which it searches
    where :attr:`trains`."""
    trains: ClassVar[bool] = True
    """Changes weights by gradient descent, with the settings of :class:`TrainingConfig`. A method
    that does not may return no loss."""
    usual_temperature: ClassVar[float] = 1.0
    """What scores are divided by where they become probabilities, before it is measured."""
    optimizer: torch.optim.SGD
    """Of the weights; only where :attr:`trains`."""
    offline: ClassVar[bool] = False
    """Trains on everything so far at each task (an upper bound)."""
    needs_task_boundaries: bool = False
    """Is told when tasks begin and end."""
    reads_twice: bool = False
    """Reads a task again when it is over, so that it cannot learn in a single pass."""
    tested_after_task_end: bool = False
    """Predicts with what :meth:`end_task` makes, which a stream then calls before the last test of
    each task, the last one included; other learners are tested first, and are not told that the
    stream is over. Asks for :attr:`needs_task_boundaries`."""
    learns_at_task_end: bool = False
    """Trains in :meth:`end_task`; asks for :attr:`tested_after_task_end`."""
    least_epochs: int = 1
    """Readings of each task, where a stream would read it less often."""
    goes_back: ClassVar[bool] = True
    """Can go back to the best epoch: what a task adds to it are its parameters and nothing else."""
    needs_images: bool = False
    """Stores images: batches of the reading in which it stores hold them."""
    form: ImageForm | None = None
    """Every image, new or to be tested on, passes through it before the network sees it."""

    def __init__(
        self, network: SplitNetwork, config: Any, seed: int = 0, device: str = "cpu"
    ) -> None:
        self.network = network.to(device).train()
        self.config = with_policy(config, END_OF_TASK)
        self.seed = seed
        self.device = torch.device(device)
        self.classes: list[str] = []
        self.steps = 0
        self.checks_losses = False
        self.temperature = self.usual_temperature
        self.generators = {
            name: generator(seed, name) for name in ("head", "codebook", "replay", "memory")
        }
        self.generators["dropout"] = generator(seed, "dropout", device)
        network.use_generator(self.generators["dropout"])
        network.new_head(16, self.generators["head"])
        if self.trains:
            self.optimizer = torch.optim.SGD(
                [*network.tail.parameters()],
                lr=config.lr,
                momentum=config.momentum,
                weight_decay=config.weight_decay,
            )

    @classmethod
    def searched(cls) -> tuple[str, ...]:
        """Names of the settings that ``crumb tune`` searches."""
        return ("lr", *cls.tuned) if cls.trains else (*cls.tuned,)

    @classmethod
    def stores_exemplars(cls) -> bool:
        """Whether a budget in bytes says how much of the past it keeps."""
        return "budget_bytes" in cls.Config.__dataclass_fields__

    @classmethod
    def strict(cls) -> bool:
        """Whether it can learn with each frame shown once, storing exemplars on arrival."""
        return not (cls.reads_twice or cls.offline)

    @classmethod
    def boundaries(cls) -> str:
        """Whether it must be told where tasks begin and end, by default."""
        if cls.needs_task_boundaries or cls.offline:
            return "yes"
        return "in paper mode" if cls.leaves_policy_open() else "no"

    @classmethod
    def leaves_policy_open(cls) -> bool:
        """Whether exemplars are by default stored when the mode lets them be."""
        policy = cls.Config.__dataclass_fields__.get("write_policy")
        return policy is not None and policy.default is None

    def put_through(self, form: ImageForm) -> None:
        """Let every image pass through a form, if that changes it."""
        self.form = None if form.lossless else form

    # What the stream loop calls.

    @abstractmethod
    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Learn from one batch whose classes have been met.

        Returns:
            the losses by name, detached scalars on the device.
        """

    def features(self, images: Tensor) -> Tensor:
        """What the front makes of images, uint8 [B, 3, S, S], as the learner is to see them."""
        return self.network.features(images if self.form is None else self.form(images))

    def scores(self, features: Tensor) -> Tensor:
        """Logits of the classes met so far, [B, classes], from the features themselves."""
        return self.active(self.network(features))

    def mem_scores(self, features: Tensor) -> Tensor | None:
        """The same from what the memory would make of the features; None where that is the same."""
        return None

    def begin_task(self, names: Sequence[str]) -> None:
        """A task that may show these classes begins."""
        self.meet(names)

    def end_task(self, batches: Batches) -> None:
        """The task is over; ``batches`` reads it once more, if :attr:`reads_twice`."""

    def converged(self) -> bool:
        """Whether the task need not be read again; asked after each reading."""
        return False

    def statistics(self, batch: Batch) -> dict[str, float] | None:
        """Figures of the codebook on this batch, for learners that have one."""
        return None

    def start_codebook(self, blocks: Tensor | None, source: object) -> bool:
        """Begin with pretrained memory blocks, float [K, D], for learners that have a codebook.

        Returns:
            whether there is one.

        Raises:
            InputError: naming ``source``: they are missing or of another size.
        """
        return False

    def check_room(self, classes: int) -> None:
        """Refuse settings under which the exemplars of so many classes could not be kept.

        Raises:
            InputError: with what would do.
        """

    def check_tasks(self, tasks: int) -> None:
        """Refuse settings under which the exemplars of so many tasks could not be kept.

        Raises:
            InputError: with what would do.
        """

    @abstractmethod
    def bytes_held(self) -> BytesHeld:
        """What is kept between batches, measured on the live tensors."""

    def parameters(self) -> dict[str, nn.Parameter]:
        """All that is trained, by name."""
        return {f"tail.{name}": p for name, p in self.network.tail.named_parameters()}

    def meet(self, names: Iterable[str]) -> None:
        """Give a label to each class that is new; the head grows when it must."""
        new = [name for name in dict.fromkeys(names) if name not in self.classes]
        self.reserve(len(self.classes) + len(new))
        self.classes.extend(new)

    def reserve(self, classes: int) -> None:
        """Make room in the head for so many classes (doubling, so that growth is rare)."""
        if classes > self.network.outputs:
            self._resize_head(max(classes, 2 * self.network.outputs))

    def start_head(self, outputs: int) -> None:
        """A fresh head of exactly this size; only before anything was learned."""
        assert not self.classes
        self._resize_head(outputs)

    def _resize_head(self, outputs: int) -> None:
        old = list(self.network.head.parameters())
        self.network.new_head(outputs, self.generators["head"], keep=len(self.classes))
        if self.trains:
            replace_parameters(self.optimizer, old, list(self.network.head.parameters()))

    # What method files are written with.

    def active(self, logits: Tensor) -> Tensor:
        """The columns of the classes met so far."""
        return logits[:, : len(self.classes)]

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Mean cross entropy over the classes met so far, of features through the tail."""
        labels = labels.to(features.device, non_blocking=True)
        return cross_entropy(self.active(self.network(features)), labels)

    def step(self, loss: Tensor) -> None:
        """One clipped SGD step; a parameter without gradient is left alone."""
        self.backward(loss)
        self.descend()

    def backward(self, loss: Tensor) -> None:
        """The gradients of this loss and no other.

        Raises:
            InputError: it is not finite, with :attr:`checks_losses` (as in :meth:`observe`).
        """
        if self.checks_losses and not loss.isfinite():
            raise InputError("the loss", "is no longer finite", "load the last save, lower the lr")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()

    def descend(self) -> None:
        """One SGD step along the gradients as they stand, clipped."""
        parameters = (p for group in self.optimizer.param_groups for p in group["params"])
        nn.utils.clip_grad_value_(parameters, self.config.clip)
        self.optimizer.step()
        self.steps += 1

    def frames_seen(self) -> int | None:
        """Frames learned from, for methods that count them."""
        return None

    def distance_limits(self, share: float) -> Tensor | None:
        """Squared distances that all but ``share`` of a class's own frames keep, [classes].

        None for methods that measure none.
        """
        return None

    def measure_reach(self, scores: Sequence[Tensor], labels: Sequence[int]) -> None:
        """Note how far things are that were not learned from, for methods that measure distances.

        Args:
            scores: of the frames of each thing, [frames, classes].
            labels: of each thing.
        """

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """A context in which the network is in eval mode and records no gradients."""
        self.network.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            self.network.train()

    def state_dict(self) -> dict[str, Tensor]:
        """Every tensor that the learner's future depends on."""
        state = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        state |= {f"generator.{name}": g.get_state() for name, g in self.generators.items()}
        return state | (momentum_state(self.optimizer, self.parameters()) if self.trains else {})

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over :meth:`state_dict` of a learner with the same settings and classes."""
        self.network.load_state_dict(under(state, "network."))
        for name, value in under(state, "generator.").items():
            # Dropout masks of a CPU cannot be continued on a GPU, nor the other way round.
            if len(value) == len(self.generators[name].get_state()):
                self.generators[name].set_state(value.cpu())
        if self.trains:
            restore_momentum(self.optimizer, self.parameters(), state)


def refuse_trainable_front(network: SplitNetwork) -> None:
    """For methods whose exemplars are codes of features.

    Raises:
        InputError: the front is trained, so that codes would soon stand for other features.
    """
    if network.config.trainable == "all":
        problem = "leaves no features that codes could stand for"
        raise InputError(
            setting("trainable", "all"),
            problem,
            f"use {setting('trainable', 'tail')}, or {setting('storage', 'image')}",
        )


def under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries whose names begin with ``prefix``, without it."""
    return {name[len(prefix) :]: v for name, v in state.items() if name.startswith(prefix)}
