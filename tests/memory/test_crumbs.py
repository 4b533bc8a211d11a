"""A coded sample of each class."""

from __future__ import annotations

import pytest
import torch

from crumb.memory.crumbs import ClassCrumbs


def crumbs(dimensions=8, each=4, classes=2, seed=0):
    made = ClassCrumbs(
        dimensions, each, seed, torch.Generator().manual_seed(seed), torch.device("cpu")
    )
    made.make_room(classes, each)
    return made


def vectors(count, dimensions=8, seed=0):
    return torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed))


def test_a_vector_of_blocks_comes_back_as_it_was():
    made = crumbs(dimensions=6)
    made.refer(torch.ones(6), torch.full((6,), 2.0))
    # Two slices of four, of which six numbers count.
    blocks = made._blocks[[7, 200]].flatten()[:6]
    made.offer((1 + 2 * blocks)[None], torch.tensor([1]), torch.tensor([0, 0]))
    found, labels = made.vectors()
    assert labels.tolist() == [1]
    assert found.shape == (1, 6)
    assert torch.equal(found[0, :4], 1 + 2 * blocks[:4])


def test_codes_lose_an_eighth_of_the_variance():
    made = crumbs(64, each=200, classes=1)
    given = 3 + 0.5 * vectors(200, 64)
    made.refer(torch.full((64,), 3.0), torch.full((64,), 0.5))
    made.offer(given, torch.zeros(200, dtype=torch.int64), torch.tensor([0]))
    found, _ = made.vectors()
    assert 0.05 < (found - given).square().mean() / 0.25 < 0.2


def test_each_frame_is_kept_with_the_same_chance():
    kept = torch.zeros(12)
    made = crumbs(4, each=3, classes=1)
    made.refer(torch.zeros(4), torch.ones(4))
    marks = 2 * vectors(12, 4)
    codes = made._encode(marks)
    for _ in range(2000):
        made.held = torch.zeros_like(made.held)
        for frame in range(12):
            made.offer(marks[frame][None], torch.tensor([0]), torch.tensor([frame]))
        for code in made.codes[0]:
            kept[(codes == code).all(1).nonzero().flatten()] += 1
    distinct = [(codes == code).all(1).sum().item() == 1 for code in codes]
    shares = kept[torch.tensor(distinct)] / 2000
    assert len(shares) > 6
    # A quarter each; six standard deviations of a share of 2000.
    assert (shares - 0.25).abs().max() < 6 * (0.25 * 0.75 / 2000) ** 0.5


def test_a_new_spread_codes_what_is_held_anew():
    made = crumbs(8, each=16, classes=1)
    made.refer(torch.zeros(8), torch.ones(8))
    given = vectors(16)
    made.offer(given, torch.zeros(16, dtype=torch.int64), torch.tensor([0]))
    first, before = made.vectors()[0], made.codes.clone()
    made.refer(torch.full((8,), 0.1), torch.full((8,), 1.1))
    assert torch.equal(made.codes, before)
    made.refer(torch.full((8,), 1.0), torch.full((8,), 2.0))
    assert not torch.equal(made.codes, before)
    assert made.reference[1].tolist() == [2.0] * 8
    # Coded with a wider spread: coarser, but of the same vectors.
    assert (made.vectors()[0] - first).square().mean() < 0.7


def test_room_for_more_classes_costs_vectors_of_the_others():
    made = crumbs(8, each=4, classes=2)
    made.refer(torch.zeros(8), torch.ones(8))
    labels = torch.tensor([0, 0, 0, 0, 1])
    made.offer(vectors(5), labels, torch.tensor([0, 0]))
    before = made.codes.clone()
    assert made.held.tolist() == [4, 1]
    made.make_room(3, 2)
    assert made.held.tolist() == [2, 1, 0]
    assert {*rows(made, 0)} < {tuple(code) for code in before[0].tolist()}
    assert torch.equal(made.codes[1], before[1, :2])
    made.drop(3)
    assert made.codes.shape == (3, 2, 1)
    assert made.vectors()[0].shape == (3, 3)
    assert made.nbytes + made.reading_bytes == ClassCrumbs.bytes_for(3, 3, 2)


def rows(made, label):
    """The codes of a class."""
    return [tuple(code) for code in made.codes[label, : int(made.held[label])].tolist()]


@pytest.mark.parametrize("narrowed", [9, 20])
def test_each_frame_is_kept_with_the_same_chance_when_there_is_less_room(narrowed):
    """Of 24 frames 8 are kept, and 3 after a new class has come."""
    kept, repeats = torch.zeros(24), 2000
    made = crumbs(16, each=8, classes=1)
    made.refer(torch.zeros(16), torch.ones(16))
    marks = vectors(24, 16)
    place_of = {tuple(code): place for place, code in enumerate(made._encode(marks).tolist())}
    assert len(place_of) == 24
    for _ in range(repeats):
        made.codes = torch.zeros(1, 8, 4, dtype=torch.uint8)
        made.held = torch.zeros(1, dtype=torch.int16)
        for start, stop in ((0, narrowed), (narrowed, 24)):
            labels = torch.zeros(stop - start, dtype=torch.int64)
            made.offer(marks[start:stop], labels, torch.tensor([start]))
            made.make_room(1, 3)
        for code in rows(made, 0):
            kept[place_of[code]] += 1
    share = 3 / 24
    # Five standard deviations.
    most = 5 * (share * (1 - share) / repeats) ** 0.5
    assert (kept / repeats - share).abs().max() < most


@pytest.mark.parametrize(("frames", "first"), [((30, 10), 3), ((10, 30), 1), ((1000, 1), 4)])
def test_merged_classes_share_the_room(frames, first):
    made = crumbs(8, each=4, classes=3)
    made.refer(torch.zeros(8), torch.ones(8))
    made.offer(vectors(10), torch.tensor([0] * 4 + [2] * 6), torch.tensor([0, 0, 0]))
    # One slot of the second class is empty.
    made.held[2] = 3 if frames[0] < 1000 else 1
    one, two = rows(made, 0), rows(made, 2)
    drawn = set()
    for _ in range(60):
        again = crumbs(8, each=4, classes=3)
        again._draws = made._draws
        again.codes, again.held = made.codes.clone(), made.held.clone()
        again.merge(0, 2, frames)
        assert again.held.tolist() == [4, 0]
        both = rows(again, 0)
        assert {*both[:first]} <= {*one}
        assert {*both[first:]} <= {*two}
        assert len({*both}) == 4
        drawn |= {*both}
    # Not always the same ones: whatever was held can be kept.
    assert drawn == ({*one} if first == 4 else {*one, *two})
