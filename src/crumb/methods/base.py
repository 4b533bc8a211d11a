"""The contract of every learner, and what all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from crumb.data.batches import Batch, Batches
from crumb.data.names import canonical
from crumb.device import usual_torch
from crumb.errors import InputError
from crumb.memory.capacity import END_OF_TASK, with_policy
from crumb.memory.images import ImageForm
from crumb.methods.described import Described
from crumb.methods.optimisation import optimizer_state, replace_parameters, restore_optimizer
from crumb.methods.teachable import Teachable
from crumb.nets.split import SplitNetwork
from crumb.seeds import generator


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


def _as_usual(call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)
    def usual(learner: Learner, *given: Any) -> Any:
        with usual_torch():
            return call(learner, *map(_trainable, given))

    return usual


def _trainable(given: Any) -> Any:
    """A batch that was made in inference mode as one that gradients can be computed of."""
    if not isinstance(given, Batch) or not given.labels.is_inference():
        return given
    return replace(given, labels=given.labels.clone())


class Learner(Described, Teachable, ABC):
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
        prepared: what :meth:`prepare` returned, within :meth:`evaluation`; None elsewhere.
        checks_losses: whether a loss that is no longer finite is refused; costs a wait for a GPU.
    """

    optimizer: torch.optim.Optimizer
    """Of the weights; only where :attr:`trains`."""
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
        self.prepared: Any = None
        self._start: dict[str, Tensor] = {}
        self.checks_losses = False
        self.temperature = self.usual_temperature
        self.generators = {
            name: generator(seed, name) for name in ("head", "codebook", "replay", "memory")
        }
        self.generators["dropout"] = generator(seed, "dropout", device)
        network.use_generator(self.generators["dropout"])
        network.new_head(16, self.generators["head"])
        if self.trains:
            self.optimizer = self.make_optimizer([*network.tail.parameters()])

    def make_optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """SGD with the settings of the method; override it for any other optimizer of torch."""
        config = self.config
        return torch.optim.SGD(
            parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )

    def put_through(self, form: ImageForm) -> None:
        """Let every image pass through a form, if that changes it."""
        self.form = None if form.lossless else form

    # What the stream loop calls, and whoever has tasks of their own.

    def __init_subclass__(cls, **words: Any) -> None:
        """What the caller has set for torch changes nothing in these calls either."""
        super().__init_subclass__(**words)
        for name in ("begin_task", "learn", "end_task", "features"):
            if name in cls.__dict__:
                setattr(cls, name, _as_usual(cls.__dict__[name]))

    @abstractmethod
    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Learn from one batch whose classes have been met.

        Returns:
            the losses by name, detached scalars on the device.
        """

    @usual_torch()
    def features(self, images: Tensor) -> Tensor:
        """What the front makes of images, uint8 [B, 3, S, S], as the learner is to see them."""
        return self.network.features(images if self.form is None else self.form(images))

    def scores(self, features: Tensor) -> Tensor:
        """Logits of the classes met so far, [B, classes], from the features themselves."""
        return self.active(self.network(features))

    def mem_scores(self, features: Tensor) -> Tensor | None:
        """The same from what the memory would make of the features; None where that is the same."""
        return None

    def expect_task(self, steps: int) -> None:
        """The task that begins next is learned in so many batches at most, all readings together.

        Told before each :meth:`begin_task`, for schedules; not by callers who do not know.
        """

    @usual_torch()
    def begin_task(self, names: Sequence[str]) -> None:
        """A task that may show these classes begins."""
        self.add_classes(names)

    def end_task(self, batches: Batches) -> None:
        """The task is over; ``batches`` reads it once more, if :attr:`needs_second_pass`."""

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
        return self.network.trained()

    def add_classes(self, names: Iterable[str]) -> None:
        """Give a label to each class that is new; the head grows when it must."""
        new = [name for name in dict.fromkeys(map(canonical, names)) if name not in self.classes]
        if self.keeps_start and not self.classes:
            head = f"tail.{self.network.head_name}."
            named = self.parameters().items()
            self._start = {n: p.detach().clone() for n, p in named if not n.startswith(head)}
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

    def _resize_head(self, outputs: int, keep: int | None = None) -> None:
        old = list(self.network.head.parameters())
        keep = len(self.classes) if keep is None else keep
        self.network.new_head(outputs, self.generators["head"], keep)
        if self.trains:
            replace_parameters(self.optimizer, old, list(self.network.head.parameters()))

    # What method files are written with.

    def reset(self) -> None:
        """Weights and optimizer as before anything was learned, the head drawn anew.

        Classes, exemplars and generators stay. Needs :attr:`keeps_start`.
        """
        self._resize_head(self.network.outputs, keep=0)
        parameters = self.parameters()
        with torch.no_grad():
            for name, value in self._start.items():
                parameters[name].copy_(value)
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.optimizer = self.make_optimizer(trained)

    def train_also(self, parameters: Iterable[nn.Parameter]) -> None:
        """Let the optimizer train more than the tail; :meth:`parameters` must name it as well."""
        self.optimizer.param_groups[0]["params"].extend(parameters)

    def add_adapter(self, name: str, adapter: nn.Module, layer: str | None = None) -> None:
        """Train a module of the method's own within the network; to be called in constructors.

        It is saved, and named by :meth:`parameters`. Its bytes are ``network.adapter_bytes``, which
        :meth:`bytes_held` must count as extra ones.

        Args:
            name: of the adapter.
            adapter: with initial values from a generator of the learner.
            layer: as in :meth:`SplitNetwork.add_adapter`: beside a layer of the tail, or between
                cut and tail.
        """
        self.network.add_adapter(name, adapter.to(self.device), layer)
        self.train_also(adapter.parameters())

    def active(self, logits: Tensor) -> Tensor:
        """The columns of the classes met so far."""
        return logits[:, : len(self.classes)]

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Mean cross entropy over the classes met so far, of features through the tail."""
        labels = labels.to(features.device, non_blocking=True)
        return cross_entropy(self.active(self.network(features)), labels)

    def step(self, loss: Tensor) -> None:
        """One clipped step of the optimizer; a parameter without gradient is left alone."""
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
        """One step of the optimizer along the gradients as they stand, clipped."""
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

    def measure_reach(
        self, scores: Sequence[Tensor], labels: Sequence[int], learned: float = 1.0
    ) -> None:
        """Note how far things are that were not learned from, for methods that measure distances.

        Args:
            scores: of the frames of each thing, [frames, classes].
            labels: of each thing.
            learned: share of all frames that has been learned; the others are learned next.
        """

    @contextmanager
    def inference(self) -> Iterator[None]:
        """A context in which the network is in eval mode and records no gradients."""
        mode = self.network.training
        self.network.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            self.network.train(mode)

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """The same, for predictions: :attr:`prepared` is at hand."""
        with self.inference():
            before, self.prepared = self.prepared, self.prepare()
            try:
                yield
            finally:
                self.prepared = before

    def prepare(self) -> Any:
        """What predictions need besides what is kept, computed before the first of them.

        It is :attr:`prepared` as long as :meth:`evaluation` lasts, and neither saved nor counted.
        """

    def state_dict(self) -> dict[str, Tensor]:
        """Every tensor that the learner's future depends on."""
        state = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        state |= {f"generator.{name}": g.get_state() for name, g in self.generators.items()}
        state |= {f"start.{name}": value for name, value in self._start.items()}
        return state | (optimizer_state(self.optimizer, self.parameters()) if self.trains else {})

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over :meth:`state_dict` of a learner with the same settings and classes."""
        self.network.load_state_dict(strip_prefix(state, "network."))
        for name, value in strip_prefix(state, "generator.").items():
            # Dropout masks of a CPU cannot be continued on a GPU, nor the other way round.
            if len(value) == len(self.generators[name].get_state()):
                self.generators[name].set_state(value.cpu())
        self._start = {
            n: v.to(self.device).clone() for n, v in strip_prefix(state, "start.").items()
        }
        if self.trains:
            restore_optimizer(self.optimizer, self.parameters(), state)


def strip_prefix(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries whose names begin with ``prefix``, without it."""
    return {name[len(prefix) :]: v for name, v in state.items() if name.startswith(prefix)}
