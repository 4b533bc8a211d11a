"""What BiC holds out: shares of each class, and that any frame may be kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from networks import tiny_network

from crumb.data.batches import Batch
from crumb.memory.capacity import CapacityConfig
from crumb.memory.held_out import SplitExemplars, validating
from crumb.memory.storage import RawFeatureStorage
from crumb.nets.split import SplitNetwork


def split_exemplars(
    capacity: int, network: SplitNetwork | None = None, seed: int = 3
) -> SplitExemplars:
    network = network or tiny_network()
    config = CapacityConfig(memory_size=capacity, storage="raw_feature")
    generator = torch.Generator().manual_seed(seed)
    return SplitExemplars(config, RawFeatureStorage(network), generator, "cpu")


def frames(*labels: int, start: int = 0) -> Batch:
    """Maps that hold the number of the frame."""
    numbers = torch.arange(start, start + len(labels)).float()
    return Batch(torch.tensor(labels), numbers.view(-1, 1, 1, 1).expand(-1, 8, 2, 2))


def numbers_of(exemplars: SplitExemplars, key: int) -> list[int]:
    return exemplars.memory.class_rows(key)[:, 0, 0, 0].int().tolist()


@pytest.mark.parametrize(
    ("capacity", "classes", "shares"),
    [(100, 2, (45, 5)), (19, 1, (18, 1)), (8, 2, (3, 1)), (8, 4, (1, 1)), (8, 5, (1, 0))],
)
def test_shares(capacity: int, classes: int, shares: tuple[int, int]):
    assert split_exemplars(capacity).shares(classes) == shares


def test_the_parts_of_a_class_are_disjoint_and_what_offer_says():
    exemplars, held_out = split_exemplars(20), set()
    for start in range(0, 200, 10):
        taken = exemplars.offer(frames(*[0] * 10, start=start), 1)
        held_out |= {start + i for i in taken.nonzero().flatten().tolist()}
    train, validate = numbers_of(exemplars, 0), numbers_of(exemplars, validating(0))
    assert (len(set(train)), len(set(validate))) == (18, 2)
    assert set(validate) <= held_out
    assert not set(train) & held_out
    ((features, labels),) = exemplars.validation(64)
    assert features[:, 0, 0, 0].int().tolist() == validate
    assert labels.tolist() == [0, 0]


def test_every_frame_is_equally_likely_to_be_kept():
    kept = np.zeros((2, 30))
    network = tiny_network()
    for seed in range(600):
        exemplars = split_exemplars(6, network, seed)
        exemplars.offer(frames(*[0] * 30), 1)
        kept[0, numbers_of(exemplars, 0)] += 1
        kept[1, numbers_of(exemplars, validating(0))] += 1
    # 600 runs keep 5 of 30 to train on and 1 to validate on; six standard deviations.
    total = kept.sum(0)
    assert np.abs(total - 120).max() < 6 * np.sqrt(120 * 0.8)
    assert np.abs(kept[1, 6:] - 20).max() < 6 * np.sqrt(20)


def test_classes_share_equally_as_they_come():
    exemplars = split_exemplars(12)
    for classes in (1, 2, 3, 6, 12, 15):
        for _ in range(4):
            exemplars.offer(frames(*[classes - 1] * 10), classes)
            assert len(exemplars) <= 12
            counts = exemplars.memory.counts
            train, validate = exemplars.shares(classes)
            for key, count in counts.items():
                assert count <= (train if key >= 0 else validate)
    # More classes than exemplars: those that were there first stay.
    assert exemplars.training == [0, 1, 2, 5, 11, 14]


def test_a_single_exemplar_is_for_both():
    exemplars = split_exemplars(2)
    assert not exemplars.offer(frames(0, 1, 0, 1), 2).any()
    ((features, labels),) = exemplars.validation(64)
    assert labels.tolist() == [0, 1]
    assert features[:, 0, 0, 0].int().tolist() == numbers_of(exemplars, 0) + numbers_of(
        exemplars, 1
    )
