"""The network and the images of :mod:`crumb.testing`, and what several tests do with them."""

from __future__ import annotations

from typing import Any

from crumb.data.batches import Batch
from crumb.testing.networks import (
    SIZE,
    TERMS,
    Task,
    TinyClassifier,
    batch_of,
    images_of,
    tiny_network,
)

__all__ = ["SIZE", "TERMS", "Task", "TinyClassifier", "batch_of", "images_of", "tiny_network"]


def learn_task(learner: Any, *labels: int, seed: int = 0, batches: int = 3) -> list[Batch]:
    """So many batches of images of these labels, and the end of their task; the batches."""
    read = [batch_of(learner, *labels, seed=seed + 10 * number) for number in range(batches)]
    for batch in read:
        learner.learn(batch)
    learner.end_task(Task(read))
    return read


def in_second_task(learner: Any) -> Any:
    """The learner, which has learned classes 0 and 1 and begun the task of two others."""
    learn_task(learner, 0, 1, 0, 1)
    learner.begin_task(["c", "d"])
    return learner
