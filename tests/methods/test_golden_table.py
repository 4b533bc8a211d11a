"""Every method on two tiny streams of cached features: what it came to, with three seeds.

In one stream every task brings new classes. There, methods that keep nothing but weights come to
no more than fine-tuning does. In the other one the same classes come back with other looks, after
which fine-tuning takes the first look of each for the other class, and what helps is seen to help.

The table holds two figures of each stream: the accuracy on what the tasks before the last one
showed, and on what the last one showed. The first alone would not tell a method that remembers from
one that has stopped learning.

After a change that is meant to change results, write the table anew with

    python -m pytest tests/methods/test_golden_table.py --write-golden-table

which takes as long as the test, and leaves the figures of all other methods as they are if it is
given ``-k`` and the name of one.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import SIZE as SIDE
from networks import Task, tiny_network
from torch import Tensor

from crumb.data.batches import Batch
from crumb.files import write_json
from crumb.methods.base import Learner
from crumb.methods.finetune import Finetune
from crumb.methods.registry import find_method, methods

TABLE = Path(__file__).parent / "golden_table.json"
BATCHES, SIZE, TESTED = 8, 10, 30
# In points of the mean over the seeds: machines round differently, and a choice may then differ.
TOLERANCE = 6.0
SEEDS = 3
OLD, NEWEST = "before the last task", "last task"
LEARNED = 70.0
Colours = tuple[tuple[int, int, int], ...]


class Reading(list):
    """Batches of a task."""

    @property
    def batch_size(self) -> int:
        return SIZE

    def shuffled(self, generator: torch.Generator) -> Iterator[Batch]:
        return Task(self).shuffled(generator)


@dataclass(frozen=True)
class Stream:
    """Two classes a task.

    Attributes:
        classes: labels of each task.
        colours: of the images of each label, in each task.
        epochs: readings of each task.
        lr: learning rate.
    """

    classes: tuple[tuple[int, int], ...]
    colours: tuple[Colours, ...]
    epochs: tuple[int, ...]
    lr: float


STREAMS = {
    "new classes": Stream(
        classes=((0, 1), (2, 3), (4, 5)),
        colours=(
            ((180, 40, 40), (40, 180, 40)),
            ((40, 40, 180), (180, 180, 40)),
            ((40, 180, 180), (180, 40, 180)),
        ),
        epochs=(6, 2, 2),
        lr=0.1,
    ),
    # Red and green tell the classes of the first task apart. In the second one they are the other
    # way round, and blue tells more; a network that weighs blue enough is right about both.
    "returning classes": Stream(
        classes=((0, 1), (0, 1)),
        colours=(((180, 40, 110), (40, 180, 110)), ((55, 165, 190), (165, 55, 30))),
        epochs=(4, 8),
        lr=0.02,
    ),
}
# With the defaults these take as long as all others together.
QUICK: dict[str, dict[str, Any]] = {
    "rainbow": {"memory_only_epochs": 15},
    "gdumb": {"memory_epochs": 15, "lr": 0.1},
    "remind": {"images_per_step": 5},
}
# Where the defaults are for larger networks and longer streams.
SETTINGS: dict[tuple[str, str], dict[str, Any]] = {
    # New outputs are trained without the old ones, which they have to outgrow in two readings.
    ("ewc", "new classes"): {"lr": 0.3, "regularisation": 1000.0},
    ("l2", "new classes"): {"lr": 0.4, "regularisation": 0.01},
    ("si", "new classes"): {"lr": 0.3, "regularisation": 1.0},
    ("mas", "new classes"): {"lr": 0.3, "regularisation": 0.01},
    ("ewc", "returning classes"): {"regularisation": 1000.0},
    ("l2", "returning classes"): {"regularisation": 0.1},
    # Two readings of a task at the common rate are too few to learn it as well.
    ("lwf", "new classes"): {"lr": 0.2},
    ("lwf_mc", "new classes"): {"lr": 0.5},
    # With more of it the second look is not learned.
    ("mas", "returning classes"): {"regularisation": 0.1},
    ("remind", "new classes"): {"images_per_step": 2},
    # A mean depends on how many exemplars of each look a plain reservoir happens to hold.
    ("scr", "returning classes"): {"write_policy": "on-arrival"},
    ("si", "returning classes"): {"regularisation": 1.0},
    # In the first task a rate as large as others have, in the second one a seventh of it.
    ("stable_sgd", "returning classes"): {"lr": 0.2, "gamma": 0.15},
}
# Where a method is seen to help, if not with returning classes. CRUMB replays the classes that a
# batch does not show, and there each batch shows all. iCaRL, AANets, LwF and LwF-MC take a class
# that returns for a new one: they learn it from its labels and choose its exemplars anew, so that
# of its first look there are few. DER uses no label of an exemplar, and keeps what the network
# answered while it learned the first look.
HELPS_WITH: dict[str, str] = dict.fromkeys(
    ("aanets", "crumb", "der", "icarl", "lwf", "lwf_mc"), "new classes"
)
# A memory that holds images of the present task as well hardly ever conflicts with it. LoRA is
# fine-tuning of fewer weights.
NO_HELP = ("finetune", "agem_r", "lora")
# What a method cannot learn, and why: the test fails if it learns it all the same.
CANNOT = {
    ("ncm", "returning classes"): "one mean does not stand for two looks of a class",
    ("gdumb", "returning classes"): "the first look of a class has filled its share of the memory",
}


def shown(colours: Colours, labels: Sequence[int], generator: torch.Generator) -> Tensor:
    """Images in the colours of their labels, uint8 [n, 3, 8, 8]."""
    noise = torch.randint(0, 75, (len(labels), 3, SIDE, SIDE), generator=generator)
    return (torch.tensor(colours)[list(labels), :, None, None] + noise).to(torch.uint8)


@cache
def features_of(
    stream: Stream, attention: bool
) -> tuple[list[Reading], list[tuple[Tensor, Tensor]]]:
    """Batches of the tasks; features and labels of the test of each."""
    network, generator = tiny_network(attention=attention), torch.Generator().manual_seed(0)
    tasks, tests = [], []
    for classes, colours in zip(stream.classes, stream.colours, strict=True):
        labels = torch.tensor(classes * (SIZE // 2))
        places = [0, 1] * (SIZE // 2)
        images = [shown(colours, places, generator) for _ in range(BATCHES)]
        tasks.append(Reading(Batch(labels, network.features(some), some) for some in images))
    for classes, colours in zip(stream.classes, stream.colours, strict=True):
        places = [0] * TESTED + [1] * TESTED
        features = network.features(shown(colours, places, generator))
        tests.append((features, torch.tensor(classes).repeat_interleave(TESTED)))
    return tasks, tests


def mixed(batches: list[Batch]) -> Reading:
    """All frames so far in random order: the tasks of an upper bound."""
    features = torch.cat([batch.features for batch in batches])
    labels = torch.cat([batch.labels for batch in batches])
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(len(labels)))
    return Reading(Batch(labels[some], features[some]) for some in order.split(SIZE))


def learn(learner: Learner, stream: Stream, tasks: list[Reading]) -> None:
    """Through the whole stream, as the loop does it."""
    read = Reading()
    for number, task in enumerate(tasks):
        names = [f"class {label}" for label in stream.classes[number]]
        read = mixed([*read, *task]) if learner.offline else task
        if learner.needs_task_boundaries:
            learner.begin_task(names)
        learner.add_classes(names)
        for epoch in range(stream.epochs[number]):
            for batch in read:
                learner.learn(Batch(batch.labels, batch.features, batch.images, epoch == 0))
        last = number == len(tasks) - 1
        if learner.needs_task_boundaries and (learner.tested_after_task_end or not last):
            learner.end_task(read)


def accuracy(kind: type[Learner], name: str, seed: int) -> dict[str, float]:
    """After the last task, in percent: of those before it and of itself."""
    stream = STREAMS[name]
    own = QUICK.get(kind.name, {}) | SETTINGS.get((kind.name, name), {})
    settings: dict[str, Any] = ({"lr": stream.lr} if kind.trains else {}) | own
    if kind.stores_exemplars():
        settings["budget_bytes"] = 5000
    if getattr(kind.Config, "storage", None) == "image":
        # JPEG would leave little of 8 x 8 pixels; features here are those of images as they are.
        settings["jpeg_quality"] = 0
    attention = kind.needs_attention
    learner = kind(tiny_network(attention=attention), kind.Config(**settings), seed)
    tasks, tests = features_of(stream, attention)
    learn(learner, stream, tasks)
    with learner.evaluation():
        right = [learner.scores(features).argmax(1) == labels for features, labels in tests]
    parts = {OLD: torch.cat(right[:-1]), NEWEST: right[-1]}
    return {part: round(100 * each.float().mean().item(), 2) for part, each in parts.items()}


def figures(kind: type[Learner]) -> dict[str, dict[str, list[float]]]:
    """Of a method with three seeds, by stream and by what is tested."""
    found = {name: [accuracy(kind, name, seed) for seed in range(SEEDS)] for name in STREAMS}
    return {
        name: {part: [one[part] for one in runs] for part in (OLD, NEWEST)}
        for name, runs in found.items()
    }


@cache
def accuracies(method: str) -> dict[str, dict[str, list[float]]]:
    """Computed once for all tests."""
    return figures(find_method(method))


def means(rows: dict[str, dict[str, list[float]]], name: str) -> tuple[float, float]:
    """Of what was shown before the last task of a stream, and of what the last one showed."""
    old, newest = (sum(rows[name][part]) / SEEDS for part in (OLD, NEWEST))
    return old, newest


def table() -> dict[str, dict[str, dict[str, list[float]]]]:
    return json.loads(TABLE.read_text())


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No other worker is in this context: each adds a row of its own."""
    place = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX)
        yield
    finally:
        os.close(place)


@pytest.mark.parametrize("method", methods())
def test_accuracies(request: pytest.FixtureRequest, method: str):
    if request.config.getoption("--write-golden-table"):
        row = accuracies(method)
        with alone(TABLE.parent):
            kept = {known: row for known, row in table().items() if known in methods()}
            write_json(TABLE, dict(sorted({**kept, method: row}.items())))
        return
    assert method in table(), "no row in golden_table.json: --write-golden-table adds it"
    for name in STREAMS:
        found = means(accuracies(method), name)
        assert found == pytest.approx(means(table()[method], name), abs=TOLERANCE), name


def helps(rows: dict[str, dict[str, list[float]]], name: str) -> bool:
    """Whether figures are those of a method that remembers, in the stream where it should.

    By so much that no tolerance could hide it if what the method does were not done.
    """
    old, _ = means(rows, name)
    bound, _ = means(accuracies("finetune"), name)
    return old > bound + 2 * TOLERANCE


def learns(rows: dict[str, dict[str, list[float]]], name: str) -> bool:
    """Whether figures are those of a method that learned the last task of a stream.

    In the one stream the last task is two of six classes, in the other the same two classes turned
    round: who learns nothing in it is right about a sixth at best, or about none.
    """
    _, newest = means(rows, name)
    return newest > LEARNED


@pytest.mark.parametrize("method", [name for name in methods() if name not in NO_HELP])
def test_every_method_forgets_less_than_finetune(method: str):
    assert helps(accuracies(method), HELPS_WITH.get(method, "returning classes"))


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("method", methods())
def test_every_method_learns_the_last_task(method: str, name: str):
    """Where it remembers as well: with the same settings in the same runs."""
    assert learns(accuracies(method), name) != ((method, name) in CANNOT)


@pytest.mark.parametrize("name", STREAMS)
def test_a_method_frozen_after_the_first_task_does_not_pass(name: str):
    class Frozen(Finetune):
        """Learns the first task and no other."""

        name = "frozen"
        needs_task_boundaries = True
        tasks = 0

        def begin_task(self, names: Sequence[str]) -> None:
            super().begin_task(names)
            self.tasks += 1

        def learn(self, batch: Batch) -> dict[str, Tensor]:
            return super().learn(batch) if self.tasks == 1 else {}

    assert not learns(figures(Frozen), name)


def test_the_table_is_of_methods_and_streams_that_there_are():
    assert table().keys() == methods().keys()
    for row in table().values():
        assert row.keys() == STREAMS.keys()
        assert all(parts.keys() == {OLD, NEWEST} for parts in row.values())
