"""Seven tiny methods: each shows one thing that a method may do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from crumb.data.batches import Batch, Batches
from crumb.memory.payload import Field, Fields
from crumb.methods.base import BytesHeld, Learner, strip_prefix
from crumb.methods.previous import PreviousNetwork
from crumb.methods.rehearsal import PolicyRehearsal, PolicyRehearsalConfig

MAX_CLASSES = 20
STEPS_FROM_START = 5


@dataclass(frozen=True)
class NoConfig:
    """A method without settings."""


@dataclass(frozen=True)
class ArrivalConfig(PolicyRehearsalConfig):
    """Exemplars are stored on arrival: a second reading could not store a payload."""

    write_policy: Literal["on-arrival", "reservoir"] = "on-arrival"  # pyright: ignore


class RunningMeans(Learner):
    """1. No loss and no gradients: the mean of what enters the head, by class."""

    name = "example_means"
    summary = "the nearest mean of a class"
    paper = "an example"
    keeps = "class means"
    Config = NoConfig
    trains = False

    def __init__(self, network: Any, config: Any, seed: int = 0, device: str = "cpu") -> None:
        super().__init__(network, config, seed, device)
        self.sums = torch.zeros(0, self.network.penultimate_size + 1, device=self.device)

    def add_classes(self, names: Any) -> None:
        super().add_classes(names)
        new = self.sums.new_zeros(len(self.classes) - len(self.sums), self.sums.shape[1])
        self.sums = torch.cat([self.sums, new])

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        if batch.first_pass:
            with self.inference():
                vectors = self.network.penultimate(batch.features)
            ones = torch.ones_like(vectors[:, :1])
            self.sums.index_add_(0, batch.labels.to(self.device), torch.cat([vectors, ones], 1))
        return {}

    def scores(self, features: Tensor) -> Tensor:
        means = self.sums[:, :-1] / self.sums[:, -1:].clamp(min=1)
        distances = torch.cdist(self.network.penultimate(features), means)
        return (-distances).masked_fill(self.sums[:, -1] == 0, -torch.inf)

    def parameters(self) -> dict[str, nn.Parameter]:
        return {}

    def bytes_held(self) -> BytesHeld:
        return BytesHeld(0, self.sums.nbytes)

    def state_dict(self) -> dict[str, Tensor]:
        return super().state_dict() | {"sums": self.sums}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.sums = state["sums"].to(self.device).clone()


class LogitReplay(PolicyRehearsal):
    """2. A payload: the logits that the network had for each exemplar when it was stored."""

    name = "example_logits"
    summary = "exemplars are to keep the logits that they had"
    paper = "an example"
    keeps = "images or feature maps, logits"
    Config = ArrivalConfig

    def fields(self) -> Fields:
        return {"logits": Field((MAX_CLASSES,), torch.float16), "known": Field((), torch.int16)}

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        losses = {"direct": self.loss(batch.features, batch.labels)}
        if len(self.exemplars):
            features, _, stored = self.exemplars.sample_with_payload(
                len(batch), self.generators["replay"]
            )
            mine = torch.arange(MAX_CLASSES) < stored["known"][:, None]
            targets = stored["logits"].float().to(self.device)
            now = self._padded(self.active(self.network(features)))
            losses["logits"] = mse_loss(now[mine], targets[mine])
        self.step(torch.stack([*losses.values()]).sum())
        with self.inference():
            logits = self._padded(self.active(self.network(batch.features)))
        known = torch.full((len(batch),), len(self.classes))
        self.exemplars.on_batch(batch, {"logits": logits, "known": known})
        return {name: loss.detach() for name, loss in losses.items()}

    def _padded(self, logits: Tensor) -> Tensor:
        return nn.functional.pad(logits, (0, MAX_CLASSES - logits.shape[1]))


class TwoViews(Learner):
    """3. New images in every reading: each is learned as it is and mirrored."""

    name = "example_views"
    summary = "cross entropy of two views"
    paper = "an example"
    keeps = "nothing"
    wants_images = True

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.images is not None
        mirrored = self.features(batch.images.flip(3))
        loss = self.loss(torch.cat([batch.features, mirrored]), batch.labels.repeat(2))
        self.step(loss)
        return {"direct": loss.detach()}

    def bytes_held(self) -> BytesHeld:
        return BytesHeld(0, 0)


class FromTheStart(PolicyRehearsal):
    """4. The length of a task, a reset, a call before predictions.

    The rate falls over a task. At its end the weights go back to the start and the memory alone is
    learned. Scores are corrected by how many exemplars a class has.
    """

    name = "example_start"
    summary = "learns its memory from the start after each task"
    paper = "an example"
    keeps = "images or feature maps"
    Config = ArrivalConfig
    keeps_start = True
    tested_after_task_end = True
    learns_at_task_end = True

    def __init__(self, network: Any, config: Any, seed: int = 0, device: str = "cpu") -> None:
        super().__init__(network, config, seed, device)
        self.needs_task_boundaries = True
        self.length, self.done = 0, 0

    def expect_task(self, steps: int) -> None:
        self.length, self.done = steps, 0

    def begin_task(self, names: Sequence[str]) -> None:
        super().begin_task(names)
        self.done = 0

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        if self.length:
            share = 1 - self.done / self.length
            self.optimizer.param_groups[0]["lr"] = self.config.lr * share
        self.done += 1
        loss = self.loss(batch.features, batch.labels)
        self.step(loss)
        self.exemplars.on_batch(batch)
        return {"direct": loss.detach()}

    def end_task(self, batches: Batches) -> None:
        self.reset()
        for _ in range(STEPS_FROM_START):
            for features, labels in self.exemplars.shuffled(8, self.generators["replay"]):
                self.step(self.loss(features, labels))

    def prepare(self) -> Tensor:
        counts = [self.exemplars.count(label) for label in range(len(self.classes))]
        return torch.tensor(counts, device=self.device).clamp(min=1).log()

    def scores(self, features: Tensor) -> Tensor:
        prior = self.prepare() if self.prepared is None else self.prepared
        return super().scores(features) - prior

    def bytes_held(self) -> BytesHeld:
        held = super().bytes_held()
        return replace(held, extra=held.extra + 16)

    def state_dict(self) -> dict[str, Tensor]:
        return super().state_dict() | {"place": torch.tensor([self.length, self.done])}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.length, self.done = state["place"].tolist()


class AdamFinetune(Learner):
    """5. Another optimizer."""

    name = "example_adam"
    summary = "Adam on new batches"
    paper = "an example"
    keeps = "nothing"

    def make_optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr=self.config.lr, amsgrad=True)

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        loss = self.loss(batch.features, batch.labels)
        self.step(loss)
        return {"direct": loss.detach()}

    def bytes_held(self) -> BytesHeld:
        return BytesHeld(0, 0)


class LowRank(AdamFinetune):
    """6. Adapters, before the tail and beside a layer of it; of the tail only the head is trained.

    Hu et al., "LoRA", ICLR 2022: the second factor is zero at first.
    """

    name = "example_adapters"
    summary = "low-rank changes of frozen layers"
    keeps = "adapters"
    make_optimizer = Learner.make_optimizer

    def __init__(self, network: Any, config: Any, seed: int = 0, device: str = "cpu") -> None:
        network.tail.requires_grad_(False)
        super().__init__(network, config, seed, device)
        self.add_adapter("cut", self._low_rank(residual=True))
        self.add_adapter("norm", self._low_rank(), "norm")

    def _low_rank(self, residual: bool = False) -> nn.Module:
        channels = self.network.feature_shape[0]
        with torch.device("meta"):
            made = Factors(channels, 2, residual)
        made = made.to_empty(device="cpu")
        with torch.no_grad():
            made.down.weight.normal_(0, 0.5, generator=self.generators["head"])
            made.up.weight.zero_()
        return made

    def bytes_held(self) -> BytesHeld:
        return BytesHeld(0, self.network.adapter_bytes)


class Factors(nn.Module):
    """A convolution of 1 x 1 of low rank, with what goes in or without."""

    def __init__(self, channels: int, rank: int, residual: bool) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, rank, 1, bias=False)
        self.up = nn.Conv2d(rank, channels, 1, bias=False)
        self.residual = residual

    def forward(self, maps: Tensor) -> Tensor:
        change = self.up(self.down(maps))
        return maps + change if self.residual else change


class CopyingReplay(PolicyRehearsal):
    """7. All bytes count, those of a copy of the network too, which a budget cannot bound."""

    name = "example_total"
    summary = "replay, and distillation from a copy"
    paper = "an example"
    keeps = "images or feature maps, a copy of the tail"
    Config = ArrivalConfig
    total_counts = True

    def __init__(self, network: Any, config: Any, seed: int = 0, device: str = "cpu") -> None:
        super().__init__(network, config, seed, device)
        self.needs_task_boundaries = True
        self.previous = PreviousNetwork(self.network)

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        features, labels = self.exemplars.beside(batch, self.generators["replay"])
        logits = self.active(self.network(features))
        loss = cross_entropy(logits, labels.to(self.device))
        if old := self.previous.known:
            loss = loss + mse_loss(logits[:, :old], self.previous.logits(features))
        self.step(loss)
        self.exemplars.on_batch(batch)
        return {"direct": loss.detach()}

    def end_task(self, batches: Batches) -> None:
        self.previous.finish(len(self.classes))

    def bytes_held(self) -> BytesHeld:
        held = super().bytes_held()
        return replace(held, extra=held.extra + self.previous.nbytes)

    def state_dict(self) -> dict[str, Tensor]:
        copied = {f"previous.{n}": v for n, v in self.previous.state_dict().items()}
        return super().state_dict() | copied

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.previous.load_state_dict(strip_prefix(state, "previous."))


class Seen(TwoViews):
    """Notes what a stream tells and shows it."""

    name = "seen"
    needs_task_boundaries = True
    told: ClassVar[list[Any]] = []

    def expect_task(self, steps):
        self.told.append(steps)

    def begin_task(self, names):
        super().begin_task(names)
        self.told.append("begin")

    def learn(self, batch):
        assert batch.images is not None
        self.told.append(len(batch.images))
        return super().learn(batch)


EXAMPLES = (
    RunningMeans,
    LogitReplay,
    TwoViews,
    FromTheStart,
    AdamFinetune,
    LowRank,
    CopyingReplay,
)
