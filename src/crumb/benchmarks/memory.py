"""Row ``memory``: time of a step with replay memories of increasing size.

It also measures writing and drawing alone. Their time must not depend on the size of the memory.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from crumb.benchmarks.report import Comparison, Figure
from crumb.benchmarks.timing import interleaved, seconds, timed
from crumb.benchmarks.workplace import BATCH_SIZE, Workplace
from crumb.data.batches import Batch
from crumb.memory.capacity import WritePolicy
from crumb.memory.end_of_task import EndOfTask
from crumb.memory.replay import ReplayMemory
from crumb.methods.crumb import Crumb

SIZES = (100, 1_000, 10_000, 100_000)
# Classes that fill the memory, and classes that arrive while it is full.
_STORED, _NEW = 10, 2
_STEPS = 2
# Sizes for writing and drawing alone. The largest has the bytes of 10,000 images (1.5 GB of codes).
SMALL, LARGE = 1_000, 278_342
# Codes are short, so that finding exemplars is measured and not copying them.
_CODE_BYTES = 64
_BATCHES = 20
_AT_MOST = 2.0


def measure(place: Workplace) -> list[Comparison]:
    """Ratios to the time with the smallest memory: of steps, then of writing and drawing."""
    steps = [*_policy(place, "end-of-task"), *_policy(place, "on-arrival")]
    return [*steps, *_alone(place.setting.repeats)]


def _policy(place: Workplace, policy: WritePolicy) -> list[Comparison]:
    turns = {f"{size:,}": _turn(place, policy, size) for size in SIZES}
    taken = interleaved(turns, place.setting.repeats, f"memory, {policy}")
    least, *larger = turns
    per_step = {name: taken[name] / _STEPS for name in turns}
    return [
        Comparison(
            "memory",
            f"step with a full memory, {policy}",
            (Figure(name, per_step[name]), Figure(least, per_step[least])),
            details={"stored_classes": _STORED, "steps_of_a_turn": _STEPS},
        )
        for name in larger
    ]


def _turn(place: Workplace, policy: WritePolicy, size: int) -> Callable[[], float]:
    """Seconds of a few steps on new classes, always starting from the same full memory.

    ``on-arrival`` writes every frame of a new class, and each replaces an older exemplar.
    """
    learner = place.learner(_STORED + _NEW, memory_size=size, write_policy=policy)
    learner.add_classes(f"class {number}" for number in range(_STORED + _NEW))
    batches = [_batch(learner, seed) for seed in range(_STEPS)]
    learner.learn(batches[0])
    memory = _full_memory(learner, size)

    def turn() -> float:
        assert learner.exemplars is not None
        learner.exemplars.load_state_dict(memory)
        return seconds(lambda: [learner.learn(batch) for batch in batches], place.setting.device)

    return turn


def _batch(learner: Crumb, seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(BATCH_SIZE, *learner.network.feature_shape, generator=generator)
    features = features.to(learner.device).contiguous(memory_format=torch.channels_last)
    labels = _STORED + torch.arange(BATCH_SIZE) % _NEW
    return Batch(labels, features)


def _full_memory(learner: Crumb, size: int) -> dict[str, Tensor]:
    """A state with random codes: equally many of each class, all counted as seen."""
    assert learner.codebook is not None
    generator = torch.Generator().manual_seed(0)
    shape, dtype = (size, learner.codebook.code_length), learner.codebook.dtype
    codes = torch.randint(len(learner.codebook.blocks), shape, generator=generator, dtype=dtype)
    labels = torch.arange(size) % _STORED
    seen = [[label, int((labels == label).sum()), 0] for label in range(_STORED)]
    return {"rows": codes, "labels": labels, "seen": torch.tensor(seen)}


def _alone(repeats: int) -> list[Comparison]:
    turns = {
        (work, size): turn for size in (LARGE, SMALL) for work, turn in _turns_alone(size).items()
    }
    named = {f"{work}, {size:,}": turn for (work, size), turn in turns.items()}
    taken = interleaved(timed(named, "cpu"), repeats, "memory, alone")
    works = dict.fromkeys(work for work, _ in turns)
    found = []
    for work in works:
        each = {size: taken[f"{work}, {size:,}"] / _BATCHES for size in (LARGE, SMALL)}
        figures = [Figure(f"{size:,}", value) for size, value in each.items()]
        found.append(Comparison("memory", work, figures, at_most=_AT_MOST))
    return found


def _turns_alone(size: int) -> dict[str, Callable[[], object]]:
    """Time batches of one class at the end of a task, which are thinned, and draws."""
    memory = ReplayMemory(size, (_CODE_BYTES,), torch.uint8)
    generator = torch.Generator().manual_seed(0)
    for label in range(_STORED):
        memory.add(label, torch.zeros(size // _STORED, _CODE_BYTES, dtype=torch.uint8))
    rows = torch.ones(BATCH_SIZE, _CODE_BYTES, dtype=torch.uint8)
    labels = torch.zeros(BATCH_SIZE, dtype=torch.int64)
    policy = EndOfTask(memory, generator)
    policy.begin(_STORED, 1, BATCH_SIZE)
    return {
        "a batch at the end of a task": lambda: [
            policy.offer(rows, labels) for _ in range(_BATCHES)
        ],
        "drawing by class": lambda: [
            memory.draw([0] * BATCH_SIZE, generator) for _ in range(_BATCHES)
        ],
        "drawing from all": lambda: [memory.sample(BATCH_SIZE, generator) for _ in range(_BATCHES)],
    }
