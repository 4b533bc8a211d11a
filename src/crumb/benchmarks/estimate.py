"""Estimate the run time of the original code from measured parts.

The original code is not run. Its operations are counted from its training loop. The time of each is
measured on this machine in the same form: batches of 21 in contiguous memory, all threads, and
every image decoded and passed through the front each time it is used. Work without a known cost
(printing, look-ups by name, the drifting batch norm) is ignored, and decoding uses all threads of
the machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from crumb.benchmarks import assignment
from crumb.benchmarks.timing import interleaved, timed
from crumb.benchmarks.workplace import Workplace
from crumb.codebook.codebook import Codebook
from crumb.data.images import load_image
from crumb.data.protocol import TaskList
from crumb.device import cores
from crumb.methods.base import Learner


@dataclass(frozen=True)
class Work:
    """Number of operations of the original code. Each use of an image counts.

    Attributes:
        front: images decoded and passed through the front.
        assignment: images whose slices are assigned to memory blocks.
        training: images passed through the tail, forward and backward.
        testing: images passed through the tail, forward only.
        step: optimizer steps.
    """

    front: int
    assignment: int
    training: int
    testing: int
    step: int


@dataclass(frozen=True)
class Units:
    """Seconds of one operation of each kind in :class:`Work`."""

    front: float
    assignment: float
    training: float
    testing: float
    step: float


@dataclass(frozen=True)
class Estimate:
    """Estimated time of the original code.

    Attributes:
        work: number of operations.
        units: seconds of one operation of each kind.
    """

    work: Work
    units: Units

    @property
    def seconds(self) -> float:
        """Total seconds."""
        prices = asdict(self.units)
        return sum(count * prices[kind] for kind, count in asdict(self.work).items())


def original_work(tasks: TaskList, epochs: Sequence[int], batch_size: int) -> Work:
    """Count the work of one run of the original.

    Each training image, in each epoch: the front, an assignment, and two passes through the tail,
    although one would be enough. Each replayed exemplar: one pass. After each task except the last,
    for storage: the front and an assignment for every image. After each epoch, three tests, on the
    classes seen so far, of the first task and of the current task: the front, an assignment and two
    passes.

    Args:
        tasks: tasks of the run.
        epochs: number of epochs of each task.
        batch_size: batch size of the stream.
    """
    front = assigned = training = tested = steps = 0
    stored: set[int] = set()
    first = {*tasks.tasks[0].labels.tolist()}
    for number, (frames, count) in enumerate(zip(tasks.tasks, epochs, strict=True)):
        labels = frames.labels.tolist()
        current = set(labels) - stored or set(labels)
        batches = [labels[at : at + batch_size] for at in range(0, len(labels), batch_size)]
        replayed = [_replayed(batch, stored) for batch in batches]
        training += count * (2 * len(labels) + sum(replayed))
        steps += count * (len(batches) + sum(images > 0 for images in replayed))
        images = count * len(labels)
        if number < len(tasks.tasks) - 1:
            images += len(labels)
        stored |= set(labels)
        test = tasks.test.labels.tolist()
        shown = count * sum(label in group for group in (stored, first, current) for label in test)
        front += images + shown
        assigned += images + shown
        tested += 2 * shown
    return Work(front, assigned, training, tested, steps)


def _replayed(batch: Sequence[int], stored: set[int]) -> int:
    """Exemplars replayed after a batch: equally many of each stored class that is not in it."""
    absent = len(stored - set(batch))
    return absent * math.ceil(len(batch) / absent) if absent else 0


def measure_units(place: Workplace) -> Units:
    """Measure the time of every operation on images of the data set."""
    learner = place.learner(len(place.short.tasks.classes))
    assert learner.codebook is not None
    learner.network.to(memory_format=torch.contiguous_format)
    batch = next(iter(place.short.reading(0)))
    learner.add_classes(place.short.classes(0))
    learner.learn(batch)
    features = batch.features.contiguous()
    device = place.setting.device
    with ThreadPoolExecutor(cores()) as pool:
        calls = {
            "front": _front(place, learner, pool),
            "assignment": lambda: _assign(learner.codebook, features),
            "training": lambda: _train(learner, features, batch.labels.to(learner.device)),
            "testing": lambda: _test(learner, features),
            "step": lambda: _step(learner),
        }
        taken = interleaved(timed(calls, device), place.setting.repeats, "parts of the original")
    images = {name: taken[name] / len(batch) for name in taken if name != "step"}
    return Units(**images, step=taken["step"])


def _front(place: Workplace, learner: Learner, pool: ThreadPoolExecutor) -> Callable[[], Tensor]:
    network, root = learner.network, place.dataset.images
    paths = place.short.reading(0).paths(0)
    square = network.preprocessing.square

    @torch.no_grad()
    def call() -> Tensor:
        pixels = torch.stack([*pool.map(lambda path: load_image(root / path, *square), paths)])
        return network.front(network.preprocessing(pixels.to(learner.device)).contiguous())

    return call


@torch.no_grad()
def _assign(codebook: Codebook | None, features: Tensor) -> Tensor:
    assert codebook is not None
    return assignment.plain(codebook, features)


def _train(learner: Learner, features: Tensor, labels: Tensor) -> None:
    learner.optimizer.zero_grad(set_to_none=True)
    cross_entropy(learner.network(features), labels).backward()


def _test(learner: Learner, features: Tensor) -> Tensor:
    with learner.evaluation():
        return learner.network(features)


def _step(learner: Learner) -> None:
    """Make a step with the gradients of the turn before."""
    nn.utils.clip_grad_value_(learner.parameters().values(), learner.config.clip)
    learner.optimizer.step()
