"""Learners of REMIND on a tiny network, and what they hold."""

from __future__ import annotations

from typing import Any

import torch
from networks import Task, images_of, tiny_network

from crumb.data.batches import Batch
from crumb.methods.remind import Remind, RemindConfig

PLAIN = {"mixup_alpha": 0.0, "random_resized_crops": False}
CODE = 3
"""Bytes of a code of 2 sub-vectors on 2 x 2 places, of three bits each."""


def learner_of(seed: int = 0, dropout: float = 0.0, **settings: Any) -> Remind:
    sized = {"memory_size", "memory_bytes", "budget_bytes"} & settings.keys()
    usual: dict[str, Any] = {
        "pq_codebooks": 2,
        "pq_centroids": 8,
        "rehearsal_samples_per_update": 4,
    }
    usual |= {} if sized else {"memory_size": 8}
    learner = Remind(tiny_network(dropout), RemindConfig(**usual | settings), seed)
    learner.begin_task(["a", "b"])
    return learner


def batch_of(learner: Remind, *labels: int, seed: int = 0, first: bool = True) -> Batch:
    pixels = torch.cat([images_of(label, 1, seed + i) for i, label in enumerate(labels)])
    return Batch(torch.tensor(labels), learner.network.features(pixels), None, first)


def streaming(*, labels: tuple[int, ...] = (0, 1, 0, 1), **settings: Any) -> Remind:
    """A learner whose first task is over."""
    learner = learner_of(**settings)
    batches = [batch_of(learner, *labels, seed=10 * seed) for seed in range(3)]
    for batch in batches:
        learner.learn(batch)
    learner.end_task(Task(batches))
    learner.begin_task(["c", "d"])
    return learner


def codes_held(learner: Remind) -> list[tuple[int, bytes]]:
    memory = learner.exemplars.memory
    return sorted(
        (label, row.numpy().tobytes())
        for label in memory.counts
        for row in memory.class_rows(label)
    )


def counted_steps(learner: Any) -> list[int]:
    steps: list[int] = []
    descend = learner.descend
    learner.descend = lambda: (steps.append(1), descend())[1]
    return steps
