"""Every method on a tiny stream of cached features: what it came to, with three seeds.

After a change that is meant to change results, write the table anew with

    python -m pytest tests/methods/test_golden_table.py --write-golden-table
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from networks import SIZE as SIDE
from networks import tiny_network

from crumb.data.batches import Batch
from crumb.files import write_json
from crumb.methods.registry import find_method, methods

TABLE = Path(__file__).parent / "golden_table.json"
CLASSES, BATCHES, SIZE, EPOCHS, TESTED = 6, 8, 10, (6, 2, 2), 30
# In points of the mean over the seeds: machines round differently, and a choice may then differ.
TOLERANCE = 6.0


COLOURS = torch.tensor(
    [[180, 40, 40], [40, 180, 40], [40, 40, 180], [180, 180, 40], [40, 180, 180], [180, 40, 180]]
)


def shown(labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Images of classes that a linear layer can tell apart, uint8 [n, 3, 8, 8]."""
    noise = torch.randint(0, 75, (len(labels), 3, SIDE, SIDE), generator=generator)
    return (COLOURS[labels][:, :, None, None] + noise).to(torch.uint8)


class Reading(list):
    """Batches of a task."""

    @property
    def batch_size(self) -> int:
        return SIZE


@cache
def stream() -> tuple[list[Reading], torch.Tensor]:
    """Features of two classes a task, and those of the test, class by class."""
    network, generator = tiny_network(), torch.Generator().manual_seed(0)
    tasks = []
    for first in range(0, CLASSES, 2):
        labels = torch.tensor([first, first + 1] * (SIZE // 2))
        images = [shown(labels, generator) for _ in range(BATCHES)]
        tasks.append(Reading(Batch(labels, network.features(some), some) for some in images))
    test = shown(torch.arange(CLASSES).repeat_interleave(TESTED), generator)
    return tasks, network.features(test)


def mixed(batches: list[Batch]) -> Reading:
    """All frames so far in random order: the tasks of an upper bound."""
    features = torch.cat([batch.features for batch in batches])
    labels = torch.cat([batch.labels for batch in batches])
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(len(labels)))
    return Reading(Batch(labels[some], features[some]) for some in order.split(SIZE))


def final_accuracy(method: str, seed: int) -> float:
    kind = find_method(method)
    room = {"budget_bytes": 5000} if kind.stores_exemplars() else {}
    learner = kind(tiny_network(), kind.Config(lr=0.1, **room), seed)
    tasks, test = stream()
    read = Reading()
    for number, task in enumerate(tasks):
        names = [f"class {label}" for label in range(2 * number, 2 * number + 2)]
        read = mixed([*read, *task]) if kind.offline else task
        if learner.needs_task_boundaries:
            learner.begin_task(names)
        learner.meet(names)
        for epoch in range(EPOCHS[number]):
            for batch in read:
                learner.learn(Batch(batch.labels, batch.features, batch.images, epoch == 0))
        last = number == len(tasks) - 1
        if learner.needs_task_boundaries and (learner.learns_at_task_end or not last):
            learner.end_task(read)
    with learner.evaluation():
        predicted = learner.scores(test).argmax(1)
    truth = torch.arange(CLASSES).repeat_interleave(TESTED)
    return round(100 * (predicted == truth).float().mean().item(), 2)


@pytest.mark.parametrize("method", methods())
def test_final_accuracy(request: pytest.FixtureRequest, method: str):
    found = [final_accuracy(method, seed) for seed in range(3)]
    table = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    if request.config.getoption("--write-golden-table"):
        write_json(TABLE, dict(sorted({**table, method: found}.items())))
        return
    assert method in table, "write the table anew: see above"
    assert sum(found) / 3 == pytest.approx(sum(table[method]) / 3, abs=TOLERANCE)
