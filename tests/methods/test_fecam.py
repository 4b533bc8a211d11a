"""FeCAM against metrics worked out by hand and in batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from networks import batch_of, tiny_network

from crumb.data.batches import Batch
from crumb.errors import InputError
from crumb.methods.fecam import Fecam, FecamConfig


def make(**settings: Any) -> Fecam:
    return Fecam(tiny_network(), FecamConfig(**settings))


def shown(learner: Fecam, monkeypatch: pytest.MonkeyPatch, table: Any) -> Any:
    """Let the learner see the rows of a table for features; gives the maps that number them."""
    rows = torch.as_tensor(table, dtype=torch.float32)
    monkeypatch.setattr(learner, "describe", lambda maps: rows[maps[:, 0, 0, 0].long()])
    return torch.arange(len(rows)).float()[:, None, None, None].expand(-1, 8, 2, 2)


def test_each_class_has_its_own_metric(monkeypatch: pytest.MonkeyPatch):
    """Means (2, 0) and (0, 2); covariances ((1, 0), (0, 1)) and ((1, 1), (1, 1)).

    The mean variance is added to each variance: correlations 0 and 1/2. Of length 1, the means are
    (1, 0) and (0, 1), and the vector (3, 4) is (0.6, 0.8).
    """
    learner = make(dimensions=2, off_diagonal_shrinkage=0.0)
    table = [[3, 1], [1, -1], [3, -1], [1, 1], [1, 3], [-1, 1], [3, 4]]
    maps = shown(learner, monkeypatch, table)
    learner.add_classes(["a", "b", "never seen"])
    learner.learn(Batch(torch.tensor([0, 0, 0, 0, 1, 1]), maps[:6]))
    near = (0.6**2 + 0.2**2 + 0.6 * 0.2) / (3 / 4)
    expected = [-(0.4**2 + 0.8**2) / 2, -near / 2, -torch.inf]
    assert learner.scores(maps[6:])[0].tolist() == pytest.approx(expected, rel=1e-3)


def with_covariances(learner: Fecam, counts: list[int], triangles: list[list[float]]) -> Fecam:
    learner.add_classes([f"class {label}" for label in range(len(counts))])
    learner.moments.counts = torch.tensor(counts, dtype=torch.int32)
    learner.moments.triangle = torch.tensor(triangles, dtype=torch.float16)
    return learner


def test_a_covariance_is_shrunk_before_it_is_normalised():
    """Variances 1 and 3, covariance 1/2: 3 and 5, and 1/2 + 2 (1/2)."""
    learner = make(dimensions=2, off_diagonal_shrinkage=2.0)
    correlation = with_covariances(learner, [4], [[1, 0.5, 3]]).correlation(0)
    expected = 1.5 / 15**0.5
    assert correlation.flatten().tolist() == pytest.approx([1, expected, expected, 1])


def test_a_share_of_the_pooled_covariance():
    """Pooled over one and three frames: variances 5/2, covariance 3/4. Half of it and of class 0's
    own: 7/4 and 3/8.
    """
    none: dict[str, Any] = {"diagonal_shrinkage": 0.0, "off_diagonal_shrinkage": 0.0}
    triangles = [[1.0, 0, 1], [3, 1, 3]]
    learner = with_covariances(make(dimensions=2, pooled_share=0.5, **none), [1, 3], triangles)
    assert learner.correlation(0)[0, 1].item() == pytest.approx(3 / 14)
    learner = with_covariances(make(dimensions=2, pooled_share=1.0, **none), [1, 3], triangles)
    assert torch.equal(learner.correlation(0), learner.correlation(1))


def test_it_is_what_all_frames_at_once_give(monkeypatch: pytest.MonkeyPatch):
    count, wide = 600, 6
    draws = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (count,), generator=draws)
    mixing = torch.randn(3, wide, wide, generator=draws)
    noise = (torch.randn(count, 1, wide, generator=draws) @ mixing[labels])[:, 0]
    table = noise / 3 + 2 * torch.eye(wide)[labels]
    learner = make(dimensions=wide)
    maps = shown(learner, monkeypatch, table)
    learner.add_classes(["a", "b", "c"])
    for start in range(0, count, 20):
        learner.learn(Batch(labels[start : start + 20], maps[start : start + 20]))
    exact = table.double()
    units, expected = exact / exact.norm(dim=1, keepdim=True), []
    for label in range(3):
        own = exact[labels == label]
        covariance = own.T.cov(correction=0)
        off = ~torch.eye(wide, dtype=torch.bool)
        between, variance = covariance[off].mean(), covariance.diagonal().mean()
        shrunk = torch.where(off, covariance + between, covariance + variance)
        deviations = shrunk.diagonal().sqrt()
        away = units - own.mean(0) / own.mean(0).norm()
        metric = torch.linalg.inv(shrunk / torch.outer(deviations, deviations))
        expected.append(-((away @ metric) * away).sum(1) / 2)
    scores = learner.scores(maps).double()
    # Half precision: about 1 % of a covariance.
    torch.testing.assert_close(scores, torch.stack(expected, 1), rtol=0.05, atol=0.01)


def test_one_frame_of_each_class_is_compared_by_plain_distance(monkeypatch: pytest.MonkeyPatch):
    learner = make(dimensions=2)
    maps = shown(learner, monkeypatch, [[2, 0], [0, 1], [3, 4]])
    learner.add_classes(["a", "b"])
    learner.learn(Batch(torch.tensor([0, 1]), maps[:2]))
    assert learner.scores(maps[2:])[0].tolist() == pytest.approx([-0.4, -0.2], rel=1e-3)


def test_new_classes_take_room_from_the_last_directions():
    """Two classes in d directions: 2 (2 d + 4) + 2 d + 8 + 2 d (d + 1) bytes."""
    learner = make(budget_bytes=130, classes_expected=2)
    assert learner.dimensions == 5
    learner.add_classes(["a", "b"])
    learner.learn(batch_of(learner, 0, 1, 0, 1))
    before = learner.moments.covariance_of(0)
    learner.add_classes(["c"])
    size = learner.dimensions
    assert size < 5
    assert learner.bytes_held().extra == learner.bytes_for(3, size) <= 130
    assert torch.equal(learner.moments.covariance_of(0), before[:size, :size])


def test_all_features_are_kept_as_they_are():
    """The correlation depends on the axes, which are those of the paper if there is room."""
    learner = make(transform="none")
    features = batch_of(learner, 0, 1).features
    assert torch.equal(learner.describe(features), learner.network.penultimate(features))


@pytest.mark.parametrize(
    ("setting", "value"), [("diagonal_shrinkage", -1.0), ("pooled_share", 1.5)]
)
def test_settings_that_cannot_be_are_refused(setting: str, value: float):
    with pytest.raises(InputError, match=f"{setting}={value}"):
        make(**{setting: value})
