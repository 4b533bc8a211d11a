"""The greedy class-balanced sampler, step by step."""

from __future__ import annotations

import torch

from crumb.memory.encoded import EncodedMemory, as_rows
from crumb.memory.greedy import Greedy
from crumb.memory.policies import NOWHERE
from crumb.memory.replay import ReplayMemory


def greedy(capacity: int, seed: int = 0) -> Greedy:
    memory = ReplayMemory(capacity, (1,), torch.int32)
    return Greedy(memory, torch.Generator().manual_seed(seed))


def offer(policy: Greedy, label: int, *places: int) -> list[bool]:
    """Whether each frame is stored."""
    rows = torch.tensor(places, dtype=torch.int32)[:, None]
    slots = policy.offer(rows, torch.full((len(places),), label))
    return (slots != NOWHERE).tolist()


def places(policy: Greedy, label: int) -> list[int]:
    return policy.memory.class_rows(label).flatten().tolist()


def test_the_first_frames_fill_equal_shares():
    policy = greedy(6)
    assert offer(policy, 0, *range(8)) == [True] * 6 + [False] * 2
    # The share is 3: frames of class 0 give way to the first three of class 1.
    assert offer(policy, 1, 10, 11, 12, 13) == [True] * 3 + [False]
    assert places(policy, 1) == [10, 11, 12]
    assert policy.memory.counts == {0: 3, 1: 3}
    assert set(places(policy, 0)) < set(range(6))
    # The share is 2: each of the larger classes loses one.
    assert offer(policy, 2, 20, 21, 22) == [True, True, False]
    assert policy.memory.counts == {0: 2, 1: 2, 2: 2}
    assert offer(policy, 0, 30) == [False]


def test_which_exemplars_give_way_is_random():
    kept = set()
    for seed in range(40):
        policy = greedy(4, seed)
        offer(policy, 0, 0, 1, 2, 3)
        offer(policy, 1, 10)
        kept.add(frozenset(places(policy, 0)))
    assert kept == {frozenset({0, 1, 2, 3} - {gone}) for gone in range(4)}


def test_shares_of_encoded_images_are_in_bytes():
    memory = EncodedMemory(20, 0, 1, "memory_bytes=20")
    policy = Greedy(memory, torch.Generator().manual_seed(0))
    large, small = as_rows([b"\x01" * 8]), as_rows([b"\x02" * 3])
    for _ in range(3):
        policy.offer(large, torch.tensor([0]))
    assert memory.counts == {0: 2}
    # Class 1 has a share of ten bytes: three images of three. One of class 0 gives way.
    for _ in range(5):
        policy.offer(small, torch.tensor([1]))
    assert memory.counts == {0: 1, 1: 3}
    assert memory.nbytes == 17
