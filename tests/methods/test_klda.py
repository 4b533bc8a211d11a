"""KLDA: its features by hand, its kernel, and LDA of all frames at once."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from networks import batch_of, tiny_network

from crumb.data.batches import Batch
from crumb.errors import InputError
from crumb.methods.klda import Klda, KldaConfig


def make(seed: int = 0, **settings: Any) -> Klda:
    return Klda(tiny_network(), KldaConfig(**settings), seed)


def shown(learner: Klda, monkeypatch: pytest.MonkeyPatch, table: Any) -> Any:
    """Let the rows of a table enter the head; gives the maps that number them."""
    rows = torch.as_tensor(table, dtype=torch.float32)
    monkeypatch.setattr(learner, "pooled", lambda maps: rows[maps[:, 0, 0, 0].long()])
    return torch.arange(len(rows)).float()[:, None, None, None].expand(-1, 8, 2, 2)


def test_features_are_cosines_of_vectors_of_length_one(monkeypatch: pytest.MonkeyPatch):
    """Of (3, 4), with frequencies (pi, 0) and (0, pi) and phases 0 and pi / 2."""
    learner = make(dimensions=2)
    maps = shown(learner, monkeypatch, [[3, 4]])
    learner._directions = torch.tensor([[math.pi, 0], [0, math.pi], [0, math.pi / 2]])
    expected = [math.cos(0.6 * math.pi), math.cos(1.3 * math.pi)]
    assert learner.describe(maps)[0].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 3.0])
def test_inner_products_approximate_the_kernel(monkeypatch: pytest.MonkeyPatch, gamma: float):
    learner = make(dimensions=20_000, gamma=gamma, crumbs=0)
    table = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    vectors = learner.describe(shown(learner, monkeypatch, table))
    units = table / table.norm(dim=1, keepdim=True)
    kernel = (-gamma * torch.cdist(units, units).square()).exp()
    # The standard error of a mean of 20,000 products is at most 0.007.
    torch.testing.assert_close(2 * vectors @ vectors.T / 20_000, kernel, rtol=0, atol=0.035)


def test_it_is_the_lda_of_all_frames_at_once(monkeypatch: pytest.MonkeyPatch):
    count, size, shrinkage = 600, 10, 0.2
    draws = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (count,), generator=draws)
    table = torch.randn(count, 8, generator=draws) / 2 + torch.eye(8)[labels]
    learner = make(dimensions=size, shrinkage=shrinkage, prior_frames=0)
    maps = shown(learner, monkeypatch, table)
    learner.add_classes(["a", "b", "c"])
    for start in range(0, count, 20):
        learner.learn(Batch(labels[start : start + 20], maps[start : start + 20]))
    exact = learner.describe(maps).double()
    means = torch.stack([exact[labels == label].mean(0) for label in range(3)])
    deviations = exact - means[labels]
    covariance = deviations.T @ deviations / count
    variance = covariance.diagonal().mean() * torch.eye(size)
    metric = torch.linalg.inv((1 - shrinkage) * covariance + shrinkage * variance)
    away = exact[:, None] - means
    expected = -((away @ metric) * away).sum(2) / 2
    # Half precision: about 1 % of a covariance and of a deviation.
    torch.testing.assert_close(learner.scores(maps).double(), expected, rtol=0.05, atol=0.1)


def test_the_kernel_follows_from_the_seed():
    features = batch_of(make(), 0, 1).features
    one, same, other = (make(seed, dimensions=6).describe(features) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_new_classes_take_room_from_the_last_features():
    learner = make(budget_bytes=600, classes_expected=2)
    learner.add_classes(["a", "b"])
    batch = batch_of(learner, 0, 1, 0, 1)
    learner.learn(batch)
    before, size = learner.describe(batch.features), learner.dimensions
    learner.add_classes(["c", "d", "e"])
    assert learner.dimensions < size
    held = learner.bytes_held()
    assert held.replay + held.extra <= 600
    assert torch.equal(learner.describe(batch.features), before[:, : learner.dimensions])


@pytest.mark.parametrize(("setting", "value"), [("gamma", 0.0), ("dimensions", 0)])
def test_settings_that_cannot_be_are_refused(setting: str, value: Any):
    with pytest.raises(InputError, match=f"{setting}={value}"):
        make(**{setting: value})
