"""Every method on two tiny streams of cached features: what it came to, with three seeds.

In one stream every task brings new classes. There, methods that keep nothing but weights come to
no more than fine-tuning does. In the other one the same classes come back with other looks, after
which fine-tuning takes the first look of each for the other class, and what helps is seen to help.

After a change that is meant to change results, write the table anew with

    python -m pytest tests/methods/test_golden_table.py --write-golden-table
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import SIZE as SIDE
from networks import tiny_network
from torch import Tensor

from crumb.data.batches import Batch
from crumb.files import write_json
from crumb.methods.base import Learner
from crumb.methods.registry import find_method, methods

TABLE = Path(__file__).parent / "golden_table.json"
BATCHES, SIZE, TESTED = 8, 10, 30
# In points of the mean over the seeds: machines round differently, and a choice may then differ.
TOLERANCE = 6.0
Colours = tuple[tuple[int, int, int], ...]


class Reading(list):
    """Batches of a task."""

    @property
    def batch_size(self) -> int:
        return SIZE


@dataclass(frozen=True)
class Stream:
    """Two classes a task.

    Attributes:
        classes: labels of each task.
        colours: of the images of each label, in each task.
        epochs: readings of each task.
        lr: learning rate.
        tested: the tasks that the accuracy is of.
    """

    classes: tuple[tuple[int, int], ...]
    colours: tuple[Colours, ...]
    epochs: tuple[int, ...]
    lr: float
    tested: tuple[int, ...]


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
        tested=(0, 1, 2),
    ),
    # Red and green tell the classes of the first task apart. In the second one they are the other
    # way round, and blue tells more; a network that weighs blue enough is right about both.
    "returning classes": Stream(
        classes=((0, 1), (0, 1)),
        colours=(((180, 40, 110), (40, 180, 110)), ((55, 165, 190), (165, 55, 30))),
        epochs=(4, 8),
        lr=0.02,
        tested=(0,),
    ),
}
# With the defaults these two take as long as all others together.
QUICK: dict[str, dict[str, Any]] = {
    "rainbow": {"memory_only_epochs": 15},
    "remind": {"images_per_step": 5},
}
# Where the defaults are for larger networks and longer streams.
SETTINGS: dict[tuple[str, str], dict[str, Any]] = {
    # Images of the present task in the memory agree with its gradient: they would let it forget.
    ("agem", "returning classes"): {"write_policy": "end-of-task"},
    ("ewc", "returning classes"): {"regularisation": 1000.0},
    ("l2", "returning classes"): {"regularisation": 0.1},
    ("mas", "returning classes"): {"regularisation": 0.1},
    ("si", "returning classes"): {"regularisation": 10.0},
    # The rate that others have in the first task, and a tenth of it in the second one.
    ("stable_sgd", "returning classes"): {"lr": 0.2, "gamma": 0.1},
}
# Where a method is seen to help, if not with returning classes: CRUMB replays the classes that a
# batch does not show, and there each batch shows all.
HELPS_WITH = {"crumb": "new classes"}


def shown(colours: Colours, labels: Sequence[int], generator: torch.Generator) -> Tensor:
    """Images in the colours of their labels, uint8 [n, 3, 8, 8]."""
    noise = torch.randint(0, 75, (len(labels), 3, SIDE, SIDE), generator=generator)
    return (torch.tensor(colours)[list(labels), :, None, None] + noise).to(torch.uint8)


@cache
def features_of(stream: Stream) -> tuple[list[Reading], Tensor, Tensor]:
    """Batches of the tasks; features and labels of the test."""
    network, generator = tiny_network(), torch.Generator().manual_seed(0)
    tasks, tests, truth = [], [], []
    for classes, colours in zip(stream.classes, stream.colours, strict=True):
        labels = torch.tensor(classes * (SIZE // 2))
        places = [0, 1] * (SIZE // 2)
        images = [shown(colours, places, generator) for _ in range(BATCHES)]
        tasks.append(Reading(Batch(labels, network.features(some), some) for some in images))
    for number in stream.tested:
        places = [0] * TESTED + [1] * TESTED
        tests.append(network.features(shown(stream.colours[number], places, generator)))
        truth.append(torch.tensor(stream.classes[number]).repeat_interleave(TESTED))
    return tasks, torch.cat(tests), torch.cat(truth)


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
        learner.meet(names)
        for epoch in range(stream.epochs[number]):
            for batch in read:
                learner.learn(Batch(batch.labels, batch.features, batch.images, epoch == 0))
        last = number == len(tasks) - 1
        if learner.needs_task_boundaries and (learner.tested_after_task_end or not last):
            learner.end_task(read)


def accuracy(method: str, name: str, seed: int) -> float:
    """Of the tested tasks after the last one, in percent."""
    kind, stream = find_method(method), STREAMS[name]
    own = QUICK.get(method, {}) | SETTINGS.get((method, name), {})
    settings: dict[str, Any] = {"lr": stream.lr} | own
    if kind.stores_exemplars():
        settings["budget_bytes"] = 5000
    learner = kind(tiny_network(), kind.Config(**settings), seed)
    tasks, test, truth = features_of(stream)
    learn(learner, stream, tasks)
    with learner.evaluation():
        predicted = learner.scores(test).argmax(1)
    return round(100 * (predicted == truth).float().mean().item(), 2)


@cache
def accuracies(method: str, name: str) -> list[float]:
    """With three seeds; computed once for all tests."""
    return [accuracy(method, name, seed) for seed in range(3)]


def table() -> dict[str, dict[str, list[float]]]:
    return json.loads(TABLE.read_text())


def skip_unless_known(method: str) -> None:
    if method not in table():
        pytest.skip(f"{method} is not in golden_table.json yet: --write-golden-table adds it")


@pytest.mark.parametrize("method", methods())
def test_accuracies(request: pytest.FixtureRequest, method: str):
    if request.config.getoption("--write-golden-table"):
        found = {name: accuracies(method, name) for name in STREAMS}
        kept = {known: row for known, row in table().items() if known in methods()}
        write_json(TABLE, dict(sorted({**kept, method: found}.items())))
        return
    skip_unless_known(method)
    for name, expected in table()[method].items():
        found = accuracies(method, name)
        assert sum(found) / 3 == pytest.approx(sum(expected) / 3, abs=TOLERANCE), name


@pytest.mark.parametrize("method", [name for name in methods() if name != "finetune"])
def test_every_method_forgets_less_than_finetune(method: str):
    """By so much that no tolerance above could hide it if what it does were not done."""
    skip_unless_known(method)
    name = HELPS_WITH.get(method, "returning classes")
    gained = sum(accuracies(method, name)) - sum(accuracies("finetune", name))
    assert gained / 3 > 2 * TOLERANCE


def test_the_table_is_of_methods_and_streams_that_there_are():
    assert table().keys() <= methods().keys()
    assert all(row.keys() == STREAMS.keys() for row in table().values())
