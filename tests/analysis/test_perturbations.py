"""The five perturbations, and what is made of the accuracies under them."""

from __future__ import annotations

import math
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crumb.analysis.perturbation_panels import advantage_panel, drop_panel
from crumb.analysis.perturbations import (
    PERTURBATIONS,
    advantages,
    drops,
    perturb,
    perturbed_accuracy,
    relative_drop,
)
from crumb.data.batches import Batch
from crumb.seeds import generator

SHAPE = (4, 6, 3, 5)


def numbered(shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    """Every value another one, none zero."""
    return torch.arange(1.0, 1 + math.prod(shape)).view(shape)


def changed(kind: Any, maps: torch.Tensor, seed: int = 0) -> torch.Tensor:
    before = maps.clone()
    found = perturb(maps, kind, generator(seed, "test"))
    assert torch.equal(maps, before)
    assert found.shape == maps.shape
    return found


def test_spatial_moves_whole_positions():
    maps = numbered()
    found = changed("spatial", maps)
    for before, after in zip(maps.flatten(2), found.flatten(2), strict=True):
        columns = {tuple(column) for column in before.T.tolist()}
        assert {tuple(column) for column in after.T.tolist()} == columns
    assert not torch.equal(found, maps)


def test_rows_and_columns_keep_what_is_in_a_row():
    maps = numbered()
    found = changed("rows_and_columns", maps)
    for before, after in zip(maps, found, strict=True):
        for axis in (1, 2):
            lines = {frozenset(line.flatten().tolist()) for line in before.split(1, axis)}
            assert {frozenset(line.flatten().tolist()) for line in after.split(1, axis)} == lines
    assert not torch.equal(found, maps)


@pytest.mark.parametrize(("channels", "zero"), [(6, 3), (5, 2), (7, 4), (1, 0)])
def test_feature_zero_is_half_of_the_channels_everywhere(channels: int, zero: int):
    maps = numbered((3, channels, 2, 2))
    found = changed("feature_zero", maps)
    gone = (found == 0).flatten(2)
    assert gone.all(2).sum(1).tolist() == [zero] * 3
    assert torch.equal(gone.any(2), gone.all(2))
    assert torch.equal(found[found != 0], maps[found != 0])


def test_feature_permutation_keeps_every_channel():
    maps = numbered()
    found = changed("feature_permutation", maps)
    for before, after in zip(maps.flatten(2), found.flatten(2), strict=True):
        assert sorted(map(tuple, after.tolist())) == sorted(map(tuple, before.tolist()))
    assert not torch.equal(found, maps)


def test_feature_swap_overwrites_half_with_the_other_half():
    maps = numbered()
    for before, after in zip(maps, changed("feature_swap", maps), strict=True):
        same = [torch.equal(one, other) for one, other in zip(before, after, strict=True)]
        assert sum(same) == 3
        kept = [channel for channel, is_same in zip(before, same, strict=True) if is_same]
        new = [channel for channel, is_same in zip(after, same, strict=True) if not is_same]
        assert sorted(c.flatten().tolist() for c in new) == sorted(
            c.flatten().tolist() for c in kept
        )


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_each_image_is_perturbed_in_its_own_way(kind):
    maps = numbered(SHAPE)[:1].expand(30, -1, -1, -1).contiguous()
    found = changed(kind, maps)
    assert len({tuple(one.flatten().tolist()) for one in found}) > 10


@pytest.mark.parametrize("kind", PERTURBATIONS)
@given(split=st.integers(1, 7))
@settings(max_examples=7, deadline=None)
def test_the_size_of_batches_changes_nothing(kind, split):
    maps, source = numbered((8, 6, 3, 5)), generator(3, "test")
    parts = [perturb(part, kind, source) for part in maps.split(split)]
    assert torch.equal(torch.cat(parts), changed(kind, maps, 3))


def test_accuracy_of_a_learner_that_looks_at_the_first_channel():
    """It knows an image by the mean of its first channel: places do not matter to it."""
    maps = torch.zeros(40, 4, 2, 2)
    maps[20:, 0] = 1.0
    labels = torch.arange(40) // 20

    def scores(features: torch.Tensor) -> torch.Tensor:
        mean = features[:, 0].mean((1, 2))
        return torch.stack([0.5 - mean, mean - 0.5], 1)

    network = SimpleNamespace(grid=(2, 2), prefix_tokens=0)
    learner: Any = SimpleNamespace(seed=0, scores=scores, evaluation=nullcontext, network=network)

    class Reading(list):
        frames = SimpleNamespace(paths=range(40))

    reading: Any = Reading([Batch(labels[:25], maps[:25]), Batch(labels[25:], maps[25:])])
    found = perturbed_accuracy(learner, reading)
    assert list(found) == ["none", *PERTURBATIONS]
    assert found["none"] == found["spatial"] == found["rows_and_columns"] == 100
    assert 60 < found["feature_zero"] < 90
    assert found == perturbed_accuracy(learner, reading)


def test_relative_drop():
    assert relative_drop(80, 60) == 0.25
    assert relative_drop(50, 60) == pytest.approx(-0.2)
    assert relative_drop(0, 0) is None


OWN = {0: {"none": 80.0, "spatial": 40.0}, 1: {"none": 50.0, "spatial": 50.0}}
OTHER = {0: {"none": 50.0, "spatial": 20.0}, 1: {"none": 0.0, "spatial": 10.0}}


def test_advantage_is_run_by_run():
    assert drops(OWN) == {"spatial": {0: 0.5, 1: 0.0}}
    # The other arm's second run has nothing to lose.
    assert advantages(OWN, OTHER) == {"spatial": {0: pytest.approx(0.1)}}
    panel = advantage_panel(["crumb", "er"], OWN, OTHER)
    assert panel is not None
    assert list(panel.rows[0]) == ["spatial", pytest.approx(10), None, None, 1, 1, 1]
    assert advantage_panel(["crumb", "er"], OWN, {1: OTHER[1]}) is None


def test_panel_of_two_arms():
    panel = drop_panel({"crumb": OWN, "er": {1: OTHER[1]}})
    assert [list(row) for row in panel.rows] == [
        ["crumb", "spatial", 65, 45, None, None, 25, None, None, 2],
        ["er", "spatial", 0, 10, None, None, None, None, None, 0],
    ]
