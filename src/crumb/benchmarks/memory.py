"""Row ``memory``: time of a step for replay memories that grow by factors of ten."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from crumb.benchmarks.report import Comparison, Figure
from crumb.benchmarks.timing import interleaved, seconds
from crumb.benchmarks.workplace import BATCH_SIZE, Workplace
from crumb.data.batches import Batch
from crumb.memory.capacity import WritePolicy
from crumb.methods.crumb import Crumb

SIZES = (100, 1_000, 10_000, 100_000)
# Classes that fill the memory, and classes that arrive while it is full.
_STORED, _NEW = 10, 2
_STEPS = 2


def measure(place: Workplace) -> list[Comparison]:
    """Ratio to the time at the smallest memory: without writing, and writing every frame."""
    return [*_policy(place, "end-of-task"), *_policy(place, "on-arrival")]


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
    """Seconds of a few steps on new classes, each time from the same full memory.

    Every frame of a new class is written by ``on-arrival``, in the place of an older one.
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
    """Random codes, as a state: equally many of each stored class, all of them counted as seen."""
    assert learner.codebook is not None
    generator = torch.Generator().manual_seed(0)
    shape, dtype = (size, learner.codebook.code_length), learner.codebook.dtype
    codes = torch.randint(len(learner.codebook.blocks), shape, generator=generator, dtype=dtype)
    labels = torch.arange(size) % _STORED
    seen = [[label, int((labels == label).sum()), 0] for label in range(_STORED)]
    return {"rows": codes, "labels": labels, "seen": torch.tensor(seen)}
