"""Exemplars grouped by task."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from crumb.data.batches import Batch
from crumb.errors import InputError
from crumb.memory.capacity import CapacityConfig
from crumb.memory.tasks import TaskExemplars
from crumb.testing.networks import Task


class Serials:
    """Keeps of each frame its number, which stands in its features."""

    row_shape: tuple[int, ...] = (1,)
    dtype = torch.int32
    reader_bytes = 0

    def encode(self, batch: Batch) -> Tensor:
        return batch.features.flatten(1).int()

    def features(self, rows: Tensor) -> Tensor:
        return rows.float()


def frames_of(start: int, count: int) -> Task:
    """A task of frames numbered from ``start``; the label of a frame is its number modulo 3."""
    parts = torch.arange(start, start + count).split(7)
    return Task([Batch(part % 3, part.view(-1, 1, 1, 1).float()) for part in parts])


def exemplars_of(capacity: int, seed: int = 0) -> TaskExemplars:
    config = CapacityConfig(memory_size=capacity)
    return TaskExemplars(config, Serials(), torch.Generator().manual_seed(seed), "cpu")


def learn(exemplars: TaskExemplars, task: Task) -> None:
    exemplars.on_task_end(task, 3)
    exemplars.finish_task()


def held(exemplars: TaskExemplars, task: int) -> list[int]:
    """Numbers of a task's frames, whose labels must still be theirs."""
    found = []
    for features, labels in exemplars.of_task(task, 2):
        assert 1 <= len(features) <= 2
        assert labels.dtype == torch.int64
        assert torch.equal(features[:, 0].long() % 3, labels)
        found += features[:, 0].int().tolist()
    return found


def test_every_task_has_an_equal_share_of_its_own_frames():
    exemplars = exemplars_of(10)
    before: list[int] = []
    for task, share in enumerate((10, 5, 3, 2)):
        learn(exemplars, frames_of(100 * task, 40))
        assert exemplars.memory.counts == dict.fromkeys(range(task + 1), share)
        assert exemplars.nbytes <= 10 * 4
        for old in range(task + 1):
            assert {number // 100 for number in held(exemplars, old)} == {old}
            assert len(set(held(exemplars, old))) == share
        assert not before or set(held(exemplars, 0)) < set(before)
        before = held(exemplars, 0)


def test_a_short_task_is_kept_whole():
    exemplars = exemplars_of(20)
    learn(exemplars, frames_of(0, 4))
    learn(exemplars, frames_of(100, 40))
    assert sorted(held(exemplars, 0)) == [0, 1, 2, 3]
    assert exemplars.memory.count(1) == 10


def test_every_frame_is_kept_equally_often():
    counts = torch.zeros(30)
    runs = 500
    for seed in range(runs):
        exemplars = exemplars_of(6, seed)
        learn(exemplars, frames_of(0, 30))
        learn(exemplars, frames_of(100, 10))
        counts[held(exemplars, 0)] += 1
    assert counts.sum() == 3 * runs
    # 29 degrees of freedom: 60 has a chance of 0.0006.
    assert ((counts - runs / 10).square() / (runs / 10)).sum() < 60


def test_bytes_are_those_of_the_live_tensors():
    exemplars = exemplars_of(8)
    learn(exemplars, frames_of(0, 40))
    assert exemplars.nbytes == 8 * 4
    # A label and a row number of four bytes each.
    assert exemplars.bookkeeping_bytes == 8 * 8 + 16


def test_goes_on_after_a_restart():
    first, again = exemplars_of(9), exemplars_of(9)
    learn(first, frames_of(0, 30))
    again.load_state_dict(first.state_dict())
    again._generator.set_state(first._generator.get_state())
    for exemplars in (first, again):
        learn(exemplars, frames_of(100, 30))
    one, other = first.state_dict(), again.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert held(first, 0) == held(again, 0)


def test_more_tasks_than_exemplars():
    exemplars = exemplars_of(2)
    for task in range(2):
        learn(exemplars, frames_of(100 * task, 9))
    with pytest.raises(InputError, match="memory_size=2: .* 3 tasks; .*at least 3"):
        learn(exemplars, frames_of(200, 9))
    assert exemplars.memory.counts == {0: 1, 1: 1}


def test_frames_offered_on_arrival_are_of_a_task_that_is_not_past():
    whole, parts = exemplars_of(9), exemplars_of(9)
    for exemplars in (whole, parts):
        learn(exemplars, frames_of(0, 30))
        assert exemplars.past == 1
    learn(whole, frames_of(100, 30))
    for batch in frames_of(100, 30):
        parts.offer(batch)
        assert parts.past == 1
        assert parts.memory.count(0) == 4
        assert len(parts.memory) <= 9
    parts.finish_task()
    assert held(parts, 1) == held(whole, 1)
    assert held(parts, 0) == held(whole, 0)


def test_a_task_without_frames_is_none():
    exemplars = exemplars_of(9)
    exemplars.finish_task()
    assert exemplars.past == 0
