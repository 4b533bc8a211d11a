"""The base class of all learners."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from crumb.data.batches import Batch, Batches
from crumb.data.names import canonical
from crumb.device import usual_torch
from crumb.errors import InputError
from crumb.memory.capacity import by_mode
from crumb.memory.images import ImageForm
from crumb.methods.described import Described
from crumb.methods.optimisation import optimizer_state, replace_parameters, restore_optimizer
from crumb.methods.teachable import Teachable
from crumb.nets.split import SplitNetwork
from crumb.seeds import generator


@dataclass(frozen=True)
class BytesHeld:
    """Memory that a learner keeps between batches besides one copy of the network.

    Attributes:
        replay: bytes of the exemplars.
        extra: bytes of all other state of the method (row numbers, codebook, prototypes, copies and
            importances of weights, ...).
        reading: the part of ``extra`` that is needed to decode the exemplars (row numbers, labels,
            codebook, quantiser). ``--budget-bytes`` bounds these and ``replay`` together.
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
    """Convert a batch made in inference mode so that autograd can use it."""
    if not isinstance(given, Batch) or not given.labels.is_inference():
        return given
    return replace(given, labels=given.labels.clone())


class Learner(Described, Teachable, ABC):
    """A network that learns classes from a stream.

    Users call :meth:`observe`, :meth:`predict` and :meth:`save`. The stream loop calls
    :meth:`learn` with precomputed features, and :meth:`begin_task` and :meth:`end_task` if
    :attr:`needs_task_boundaries`.

    Args:
        network: split network with any head.
        config: configuration of the method.
        seed: seed of all random numbers of the learner.
        device: device to compute on.

    Attributes:
        classes: class names in the order of first appearance; a label is an index into it.
        steps: gradient steps so far, or since the learner was loaded.
        prepared: what :meth:`prepare` returned, within :meth:`evaluation`; None elsewhere.
        checks_losses: whether to refuse non-finite losses; synchronises with the GPU.
    """

    optimizer: torch.optim.Optimizer
    """Optimizer of the weights, only if :attr:`trains`."""
    form: ImageForm | None = None
    """Transform applied to every training and test image before the network."""
    state_sha256: str | None = None
    """SHA-256 of the state in the exported folder that it was loaded from; None for a file."""

    def __init__(
        self, network: SplitNetwork, config: Any, seed: int = 0, device: str = "cpu"
    ) -> None:
        self.network = network.to(device).train()
        self.config = by_mode(config)
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
        """SGD with the method's settings. Override it to use another torch optimizer."""
        config = self.config
        return torch.optim.SGD(
            parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )

    def put_through(self, form: ImageForm) -> None:
        """Set the transform of every image, if it changes images."""
        self.form = None if form.lossless else form

    # Called by the stream loop, or by callers with their own tasks.

    def __init_subclass__(cls, **words: Any) -> None:
        """The caller's global torch settings do not affect these calls."""
        super().__init_subclass__(**words)
        for name in ("begin_task", "learn", "end_task", "features"):
            if name in cls.__dict__:
                setattr(cls, name, _as_usual(cls.__dict__[name]))

    @abstractmethod
    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Learn from one batch whose classes have been added.

        Returns:
            the losses by name, detached scalars on the device.
        """

    @usual_torch()
    def features(self, images: Tensor) -> Tensor:
        """Features of images, uint8 [B, 3, S, S], after the learner's image transform."""
        return self.network.features(images if self.form is None else self.form(images))

    def scores(self, features: Tensor) -> Tensor:
        """Logits of the classes seen so far, [B, classes], from the original features."""
        return self.active(self.network(features))

    def mem_scores(self, features: Tensor) -> Tensor | None:
        """Logits from features as the memory would reconstruct them; None if they are the same."""
        return None

    def expect_task(self, steps: int) -> None:
        """Announce the maximum number of batches of the next task, over all epochs.

        For learning-rate schedules. Called before each :meth:`begin_task` by callers that know it.
        """

    @usual_torch()
    def begin_task(self, names: Sequence[str]) -> None:
        """Begin a task that may show these classes."""
        self.add_classes(names)

    def end_task(self, batches: Batches) -> None:
        """End the task. ``batches`` reads it once more if :attr:`needs_second_pass`."""

    def converged(self) -> bool:
        """Whether no further epoch is needed; asked after each epoch."""
        return False

    def statistics(self, batch: Batch) -> dict[str, float] | None:
        """Codebook statistics on this batch, for learners with a codebook."""
        return None

    def start_codebook(self, blocks: Tensor | None, source: object) -> bool:
        """Start from pretrained memory blocks, float [K, D], if the learner has a codebook.

        Returns:
            whether the learner has a codebook.

        Raises:
            InputError: the blocks are missing or of another size; names ``source``.
        """
        return False

    def check_room(self, classes: int) -> None:
        """Refuse settings whose memory cannot hold exemplars of so many classes.

        Raises:
            InputError: the memory is too small; the message says how much is needed.
        """

    def check_tasks(self, tasks: int) -> None:
        """Refuse settings whose memory cannot hold exemplars of so many tasks.

        Raises:
            InputError: the memory is too small; the message says how much is needed.
        """

    @abstractmethod
    def bytes_held(self) -> BytesHeld:
        """Memory kept between batches, measured on the live tensors."""

    def parameters(self) -> dict[str, nn.Parameter]:
        """All trained parameters, by name."""
        return self.network.trained()

    def add_classes(self, names: Iterable[str]) -> None:
        """Give each new class a label, and grow the head if needed."""
        new = [name for name in dict.fromkeys(map(canonical, names)) if name not in self.classes]
        if self.keeps_start and not self.classes:
            head = f"tail.{self.network.head_name}."
            named = self.parameters().items()
            self._start = {n: p.detach().clone() for n, p in named if not n.startswith(head)}
        self.reserve(len(self.classes) + len(new))
        self.classes.extend(new)

    def reserve(self, classes: int) -> None:
        """Grow the head to at least so many classes (doubling, so growth is rare)."""
        if classes > self.network.outputs:
            self._resize_head(max(classes, 2 * self.network.outputs))

    def start_head(self, outputs: int) -> None:
        """Replace the head by a fresh one of exactly this size, before any learning."""
        assert not self.classes
        self._resize_head(outputs)

    def _resize_head(self, outputs: int, keep: int | None = None) -> None:
        old = list(self.network.head.parameters())
        keep = len(self.classes) if keep is None else keep
        self.network.new_head(outputs, self.generators["head"], keep)
        if self.trains:
            replace_parameters(self.optimizer, old, list(self.network.head.parameters()))

    # Helpers for method files.

    def reset(self) -> None:
        """Reset weights and optimizer to their initial state, with a newly drawn head.

        Classes, exemplars and generators are kept. Needs :attr:`keeps_start`.
        """
        self._resize_head(self.network.outputs, keep=0)
        parameters = self.parameters()
        with torch.no_grad():
            for name, value in self._start.items():
                parameters[name].copy_(value)
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.optimizer = self.make_optimizer(trained)

    def train_also(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add parameters to the optimizer. :meth:`parameters` must include them too."""
        self.optimizer.param_groups[0]["params"].extend(parameters)

    def add_adapter(self, name: str, adapter: nn.Module, layer: str | None = None) -> None:
        """Add a trained module of the method to the network. Call it in constructors.

        The module is saved and included in :meth:`parameters`. :meth:`bytes_held` must count
        ``network.adapter_bytes`` as extra.

        Args:
            name: name of the adapter.
            adapter: module with initial values from a generator of the learner.
            layer: as in :meth:`SplitNetwork.add_adapter`: beside a layer of the tail, or between
                cut and tail.
        """
        self.network.add_adapter(name, adapter.to(self.device), layer)
        self.train_also(adapter.parameters())

    def active(self, logits: Tensor) -> Tensor:
        """The columns of the classes seen so far."""
        return logits[:, : len(self.classes)]

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Mean cross entropy of features through the tail, over the classes seen so far."""
        labels = labels.to(features.device, non_blocking=True)
        return cross_entropy(self.active(self.network(features)), labels)

    def embed(self, features: Tensor) -> Tensor:
        """What enters the head, scaled to length 1: float [n, C, H, W] to float [n, D]."""
        return normalize(self.network.penultimate(features))

    def embed_quietly(self, features: Tensor) -> Tensor:
        """As :meth:`embed`, without gradients and dropout, for the choice of exemplars."""
        with self.inference():
            return self.embed(features)

    def step(self, loss: Tensor) -> None:
        """Take one optimizer step with clipped gradients. Parameters without gradient are
        unchanged.
        """
        self.backward(loss)
        self.descend()

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of this loss alone.

        Raises:
            InputError: the loss is not finite and :attr:`checks_losses` is set (as in
                :meth:`observe`).
        """
        if self.checks_losses and not loss.isfinite():
            raise InputError(
                "the loss", "is no longer finite", "load the last save and lower the lr"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()

    def descend(self) -> None:
        """Clip the current gradients and take one optimizer step."""
        parameters = (p for group in self.optimizer.param_groups for p in group["params"])
        nn.utils.clip_grad_value_(parameters, self.config.clip)
        self.optimizer.step()
        self.steps += 1

    def frames_seen(self) -> int | None:
        """Number of frames learned, for methods that count them."""
        return None

    def distance_limits(self, share: float) -> Tensor | None:
        """Squared distance within which all but ``share`` of a class's own frames lie, [classes].

        None for methods without distances.
        """
        return None

    def measure_reach(
        self, scores: Sequence[Tensor], labels: Sequence[int], learned: float = 1.0
    ) -> None:
        """Record how far held-out inputs are from their class, for methods with distances.

        Args:
            scores: scores of the frames of each input, [frames, classes].
            labels: label of each input.
            learned: share of all frames that has been learned; the others are learned next.
        """

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Context with the network in eval mode and without gradients."""
        mode = self.network.training
        self.network.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            self.network.train(mode)

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Like :meth:`quiet`, with :attr:`prepared` available for predictions."""
        with self.inference():
            before, self.prepared = self.prepared, self.prepare()
            try:
                yield
            finally:
                self.prepared = before

    def prepare(self) -> Any:
        """Compute what predictions need besides the stored state.

        The result is available as :attr:`prepared` during :meth:`evaluation`. It is neither saved
        nor counted.
        """

    def state_dict(self) -> dict[str, Tensor]:
        """All tensors that determine the learner's future behaviour."""
        state = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        state |= {f"generator.{name}": g.get_state() for name, g in self.generators.items()}
        state |= {f"start.{name}": value for name, value in self._start.items()}
        return state | (optimizer_state(self.optimizer, self.parameters()) if self.trains else {})

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the :meth:`state_dict` of a learner with the same settings and classes."""
        self.network.load_state_dict(strip_prefix(state, "network."))
        for name, value in strip_prefix(state, "generator.").items():
            # A GPU cannot continue the dropout masks of a CPU, nor the other way round.
            if len(value) == len(self.generators[name].get_state()):
                self.generators[name].set_state(value.cpu())
        self._start = {
            n: v.to(self.device).clone() for n, v in strip_prefix(state, "start.").items()
        }
        if self.trains:
            restore_optimizer(self.optimizer, self.parameters(), state)


def strip_prefix(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries whose names start with ``prefix``, with the prefix removed."""
    return {name[len(prefix) :]: v for name, v in state.items() if name.startswith(prefix)}
