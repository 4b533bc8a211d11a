"""Herding against a search of all candidates, and what is stored of its choice."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crumb.data.batches import Batch
from crumb.memory.herding import herd, store
from crumb.memory.replay import ReplayMemory


def unit(count, width, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, width, generator=generator)
    return rows / rows.norm(dim=1, keepdim=True)


def searched(features, count):
    """Algorithm 4 word by word: every candidate is tried at every pick."""
    rows = features.double().numpy()
    chosen: list[int] = []
    for k in range(1, count + 1):
        gaps = {
            i: np.linalg.norm(rows.mean(0) - (rows[i] + rows[chosen].sum(0)) / k)
            for i in range(len(rows))
            if i not in chosen
        }
        chosen.append(min(gaps, key=lambda i: gaps[i]))
    return chosen


@pytest.mark.parametrize("seed", range(20))
def test_every_pick_is_the_best_of_all_candidates(seed):
    features = unit(8, 3, seed)
    assert herd(features, 8) == searched(features, 8)


@given(st.integers(1, 12), st.integers(1, 15), st.integers(0, 99))
def test_no_repeats_and_a_smaller_count_is_a_prefix(items, count, seed):
    features = unit(items, 2, seed)
    chosen = herd(features, count)
    assert len(set(chosen)) == len(chosen) == min(items, count)
    assert herd(features, max(1, count // 2)) == chosen[: max(1, count // 2)]


def test_equal_items_are_taken_in_order_and_once():
    assert herd(torch.ones(4, 3), 4) == [0, 1, 2, 3]


def test_by_hand():
    # The mean is 3. 2 and 4 are equally near, the first of them is taken; then 4 makes the mean 3,
    # then 0 (to 2) and 6 (to 4) are equally good.
    assert herd(torch.tensor([[0.0], [2.0], [4.0], [6.0]]), 3) == [1, 2, 0]


class Pixels:
    """Keeps a number that is written in the images."""

    row_shape, dtype, reader_bytes = (1,), torch.float32, 0

    def encode(self, batch):
        return batch.features

    def features(self, rows):
        return rows


def task(*labels):
    """Batches of three; frame n holds the number n."""
    rows = torch.arange(len(labels), dtype=torch.float32).view(-1, 1)
    pairs = zip(torch.tensor(labels).split(3), rows.split(3), strict=True)
    return [Batch(part, values) for part, values in pairs]


class Counted(SimpleNamespace):
    read = 0
    batch_size = 3

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        for batch in self.batches:
            self.read += 1
            yield batch


def test_stored_in_the_order_of_the_choice_and_others_left_alone():
    memory = ReplayMemory(9, (1,), torch.float32)
    memory.add(7, torch.tensor([[70.0]]))
    memory.add(1, torch.tensor([[10.0], [11.0]]))
    batches: Any = Counted(batches=task(1, 0, 1, 0, 0, 1, 1, 0))
    # Of class 1, positions 0 and 1 are held; its frames 0, 2, 5, 6 are positions 2 to 5.
    store(memory, Pixels(), batches, {1: [4, 0, 2], 0: [2, 0]})
    assert memory.class_rows(1).flatten().tolist() == [5, 10, 0]
    assert memory.class_rows(0).flatten().tolist() == [4, 1]
    assert memory.class_rows(7).flatten().tolist() == [70]
    # All that was chosen lies in the first two of three batches.
    assert batches.read <= 3


def test_only_what_is_held_may_be_chosen():
    memory = ReplayMemory(4, (1,), torch.float32)
    memory.add(0, torch.tensor([[1.0], [2.0], [3.0]]))
    store(memory, Pixels(), Counted(batches=task(0, 0)), {0: [2, 0]})  # pyright: ignore[reportArgumentType]
    assert memory.class_rows(0).flatten().tolist() == [3, 1]
