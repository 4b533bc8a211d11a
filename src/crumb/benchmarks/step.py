"""Row ``step``: overhead of the stream loop.

The plain loop is written by hand for one method and one network: the same tail, codebook, optimizer
and replay, on tensors that hold all features, labels and exemplars, without a framework. It uses
its fastest memory format and number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from crumb.benchmarks.report import Comparison, Figure
from crumb.benchmarks.timing import in_words, interleaved, seconds, thread_counts, threads
from crumb.benchmarks.workplace import BATCH_SIZE, ShortStream, Workplace
from crumb.methods.crumb import Crumb

FORMATS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
# Number of batches in the trials that choose format and threads.
_TRIAL = 6


@dataclass(frozen=True)
class PlainMemory:
    """Exemplars of past classes as plain tensors.

    Attributes:
        codes: all exemplars, class after class, [n, N].
        first: row number of the first exemplar of each class, int64 [classes], on the CPU.
        count: number of exemplars of each class, int64 [classes], on the CPU.
    """

    codes: Tensor
    first: Tensor
    count: Tensor


def plain_epoch(
    learner: Crumb,
    memory: PlainMemory,
    features: Tensor,
    labels: Tensor,
    memory_format: torch.memory_format,
) -> list[Tensor]:
    """One pass over a task with replay, on plain tensors.

    Args:
        learner: learner whose tail, codebook, optimizer, generator and settings are used.
        memory: exemplars of earlier classes.
        features: features of the task, float32 [n, C, H, W].
        labels: int64 [n], on the CPU.
        memory_format: memory format of the inputs of the tail.

    Returns:
        the losses of the steps, in order.
    """
    tail, codebook, optimizer = learner.network.tail, learner.codebook, learner.optimizer
    assert codebook is not None
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    generator, settings = learner.generators["replay"], learner.config
    classes = len(learner.classes)
    stored = set(memory.count.nonzero().flatten().tolist())

    def step(rebuilt: Tensor, targets: Tensor, weight: float) -> Tensor:
        logits = tail(rebuilt.contiguous(memory_format=memory_format))[:, :classes]
        loss = cross_entropy(logits, targets.to(logits.device, non_blocking=True))
        optimizer.zero_grad(set_to_none=True)
        (weight * loss).backward()
        nn.utils.clip_grad_value_(parameters, settings.clip)
        optimizer.step()
        return loss.detach()

    losses = []
    for start in range(0, len(labels), BATCH_SIZE):
        targets = labels[start : start + BATCH_SIZE]
        rebuilt = codebook(features[start : start + BATCH_SIZE])
        losses.append(step(rebuilt, targets, settings.codebook_loss))
        if absent := sorted(stored - set(targets.tolist())):
            drawn = torch.tensor(absent * -(-len(targets) // len(absent)))
            chances = torch.rand(len(drawn), generator=generator, dtype=torch.float64)
            rows = memory.first[drawn] + (chances * memory.count[drawn]).long()
            rebuilt = codebook.decode(memory.codes[rows.to(memory.codes.device)])
            losses.append(step(rebuilt, drawn, settings.replay_coefficient))
    return losses


class Contest:
    """The stream loop and the plain loop on the second task, always starting from the same state.

    Args:
        place: with settings and data.
    """

    def __init__(self, place: Workplace) -> None:
        self.short, self._device = place.short, place.setting.device
        learner = partial(place.learner, len(place.short.tasks.classes))
        self._ours, self._plain = learner(), learner()
        _fill_memory(self._ours, self.short)
        self._state = {name: value.clone() for name, value in self._ours.state_dict().items()}
        self._plain.add_classes(self._ours.classes)
        batches = list(self.short.reading(1))
        self._features = torch.cat([batch.features for batch in batches])
        self._labels = torch.cat([batch.labels for batch in batches])

    def ours(self) -> float:
        """Seconds of the stream loop."""
        self._ours.load_state_dict(self._state)
        return seconds(lambda: self.short.read(self._ours, 1), self._device)

    def plain(self, form: str, count: int, images: int | None = None) -> float:
        """Seconds of the plain loop with one memory format and number of threads."""
        call = self._plain_call(form, images)
        with threads(count):
            return seconds(call, self._device)

    def best_plain(self) -> tuple[str, int]:
        """The fastest memory format and number of threads of the plain loop."""
        images = _TRIAL * BATCH_SIZE
        choices = [(form, count) for form in FORMATS for count in thread_counts()]
        turns = {str(choice): partial(self.plain, *choice, images) for choice in choices}
        taken = interleaved(turns, 2, "plain loop: formats and threads")
        return min(choices, key=lambda choice: taken[str(choice)])

    def disagreement(self, form: str) -> float:
        """Largest relative difference between the losses of the loops, from the same state."""
        self._ours.load_state_dict(self._state)
        ours = [
            loss for batch in self.short.reading(1) for loss in self._ours.learn(batch).values()
        ]
        plain = self._plain_call(form, None)()
        assert len(ours) == len(plain)
        difference = (torch.stack(ours) - torch.stack(plain)).abs()
        return float((difference / torch.stack(plain).abs().clamp_min(1e-3)).max())

    def _plain_call(self, form: str, images: int | None) -> Callable[[], list[Tensor]]:
        """Run the plain loop from the common state, with all tensors in one memory format."""
        learner, layout = self._plain, FORMATS[form]
        learner.load_state_dict(self._state)
        learner.network.tail.to(memory_format=layout)
        for state in learner.optimizer.state.values():
            if (buffer := state.get("momentum_buffer")) is not None and buffer.ndim == 4:
                state["momentum_buffer"] = buffer.contiguous(memory_format=layout)
        features = self._features[:images].contiguous(memory_format=layout)
        memory = _plain_memory(learner)
        return lambda: plain_epoch(learner, memory, features, self._labels[:images], layout)


def measure(place: Workplace) -> list[Comparison]:
    """Ratio of the plain loop's seconds to ours, for one pass over a task with replay."""
    contest = Contest(place)
    form, count = contest.best_plain()
    turns = {"plain": partial(contest.plain, form, count), "crumb": contest.ours}
    taken = interleaved(turns, place.setting.repeats, "step")
    difference = contest.disagreement(form)
    details = {
        "images": len(contest.short.tasks.tasks[1].paths),
        "batch_size": BATCH_SIZE,
        "plain_memory_format": form,
        "plain_threads": count,
        "largest_relative_difference_of_a_loss": difference,
    }
    return [
        Comparison(
            "step",
            "reading a task with replay",
            (Figure("plain", taken["plain"]), Figure("crumb", taken["crumb"])),
            at_least=0.95,
            details=details,
            note=f"the plain loop is fastest in {form} memory with {in_words(count)}; "
            f"the losses of the loops differ by at most {difference:.1e} of their value",
        )
    ]


def _fill_memory(learner: Crumb, short: ShortStream) -> None:
    """Make one step on the first task, store its exemplars, and begin the second task."""
    learner.begin_task(short.classes(0))
    learner.learn(next(iter(short.reading(0))))
    learner.end_task(short.reading(0))
    learner.begin_task(short.classes(1))


def _plain_memory(learner: Crumb) -> PlainMemory:
    assert learner.exemplars is not None
    held = learner.exemplars.state_dict()
    count = torch.bincount(held["labels"], minlength=len(learner.classes))
    return PlainMemory(held["rows"], count.cumsum(0) - count, count)
