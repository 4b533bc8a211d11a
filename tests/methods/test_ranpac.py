"""RanPAC against ridge regression worked out by hand, by leaving out frames, and in batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from networks import batch_of, tiny_network

from crumb.data.batches import Batch
from crumb.errors import InputError
from crumb.methods.ranpac import Ranpac, RanpacConfig, validation_errors


def make(seed: int = 0, **settings: Any) -> Ranpac:
    return Ranpac(tiny_network(), RanpacConfig(**settings), seed)


def shown(learner: Ranpac, monkeypatch: pytest.MonkeyPatch, table: Any) -> Any:
    """Let the learner see the rows of a table for features; a function that learns some of them."""
    rows = torch.as_tensor(table, dtype=torch.float32)
    monkeypatch.setattr(learner, "describe", lambda maps: rows[maps[:, 0, 0, 0].long()])

    def maps(start: int, stop: int) -> torch.Tensor:
        numbers = torch.arange(start, stop).float()
        return numbers[:, None, None, None].expand(-1, 8, 2, 2)

    return maps


def test_the_regression_of_three_frames(monkeypatch: pytest.MonkeyPatch):
    """G = ((2, 0), (0, 4)) of frames (1, 0), (1, 0), (0, 2), so C = ((2, 0), (0, 2)).

    The mean eigenvalue is 3. Lambda is 3, and the weights are 2 / 5 and 2 / 7.
    """
    learner = make(dimensions=2, ridge=1.0)
    maps = shown(learner, monkeypatch, [[1, 0], [1, 0], [0, 2], [1, 2]])
    learner.add_classes(["a", "b", "never seen"])
    learner.learn(Batch(torch.tensor([0, 0, 1]), maps(0, 3)))
    scores = learner.scores(maps(3, 4))[0].tolist()
    assert scores == pytest.approx([2 / 5, 4 / 7, -torch.inf], rel=2e-3)


def test_the_validation_error_of_one_feature():
    """Features 1, 1, 2, 2 of two classes: eigenvalue 5/2, targets 1/2 and 1.

    With lambda / 4 = 5/2 the mean squared error is 1 - (5/4)(15/2) / 25 = 5/8, and half a parameter
    is in use of four.
    """
    found = validation_errors(
        torch.tensor([2.5]), torch.tensor([[0.5, 1.0]]), torch.tensor([2.5]), 4
    )
    assert found.tolist() == pytest.approx([(5 / 8) / (7 / 8) ** 2])


def test_the_validation_error_is_that_of_leaving_out_one_frame():
    """Five features of five frames, each of them shifted by one: every frame weighs the same."""
    first = torch.tensor([3.0, 1, 0, 0, 1], dtype=torch.float64)
    frames = torch.stack([first.roll(place) for place in range(5)])
    labels = torch.eye(2, dtype=torch.float64)[[0, 1, 1, 0, 1]]
    ridge, error = 0.7, 0.0
    for out in range(5):
        kept = [place for place in range(5) if place != out]
        gram = frames[kept].T @ frames[kept] + ridge * torch.eye(5)
        weights = torch.linalg.solve(gram, frames[kept].T @ labels[kept])
        error += float((labels[out] - frames[out] @ weights).square().sum()) / 5
    eigenvalues, axes = torch.linalg.eigh(frames.T @ frames / 5)
    targets = axes.T @ frames.T @ labels / 5
    found = validation_errors(eigenvalues, targets, torch.tensor([ridge / 5]), 5)
    assert found.tolist() == pytest.approx([error])


def test_as_many_parameters_as_frames_are_never_chosen():
    """A single frame: with a tiny ridge the fit is perfect and says nothing."""
    found = validation_errors(
        torch.tensor([4.0, 0.0]), torch.tensor([[2.0], [0.0]]), torch.tensor([1e-9, 4.0]), 1
    )
    assert found[0] == torch.inf
    assert found[1].isfinite()


def test_it_is_the_ridge_regression_of_all_frames_at_once(monkeypatch: pytest.MonkeyPatch):
    count, wide, ridge = 400, 12, 0.01
    draws = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (count,), generator=draws)
    table = torch.randn(count, wide, generator=draws).relu() + torch.eye(wide)[labels]
    learner = make(dimensions=wide, ridge=ridge)
    maps = shown(learner, monkeypatch, table)
    learner.add_classes(["a", "b", "c"])
    for start in range(0, count, 20):
        learner.learn(Batch(labels[start : start + 20], maps(start, start + 20)))
    exact = table.double()
    gram, targets = exact.T @ exact, torch.eye(3, dtype=torch.float64)[labels]
    unit = gram.diagonal().mean()
    weights = torch.linalg.solve(gram + ridge * unit * torch.eye(wide), exact.T @ targets)
    # Half precision: about 1 % of an entry of the covariance.
    torch.testing.assert_close(
        learner.scores(maps(0, count)).double(), exact @ weights, rtol=0, atol=0.02
    )


def test_labels_that_are_noise_get_a_larger_ridge(monkeypatch: pytest.MonkeyPatch):
    """Features that tell the labels, and others that do not."""
    draws = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (60,), generator=draws)
    noise = torch.randn(60, 20, generator=draws)
    sizes = []
    for table in (noise / 4 + torch.eye(20)[labels], noise):
        learner = make(dimensions=20)
        maps = shown(learner, monkeypatch, table)
        learner.add_classes(["a", "b"])
        learner.learn(Batch(labels, maps(0, 60)))
        sizes.append(float(learner.prepare().norm()))
    assert sizes[1] < sizes[0] / 5


def test_random_features_follow_from_the_seed_and_are_rectified():
    learner, same, other = make(dimensions=6), make(dimensions=6), make(1, dimensions=6)
    features = batch_of(learner, 0, 1, 2).features
    vectors = [one.describe(features) for one in (learner, same, other)]
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.equal(vectors[0], vectors[2])
    assert (vectors[0] >= 0).all()
    assert (vectors[0] == 0).any()


def test_a_budget_chooses_the_number_of_random_features():
    """Three classes in d features: 3 (2 d + 4) + 2 d + d (d + 1) + 8 bytes."""
    learner = make(budget_bytes=2000, classes_expected=3)
    size = learner.dimensions
    assert 3 * (2 * size + 4) + 2 * size + size * (size + 1) + 8 <= 2000
    assert 3 * (2 * size + 6) + 2 * size + 2 + (size + 1) * (size + 2) + 8 > 2000
    assert make().dimensions == 2000


@pytest.mark.parametrize(("setting", "value"), [("ridge", 0.0), ("dimensions", 0)])
def test_settings_that_cannot_be_are_refused(setting: str, value: Any):
    with pytest.raises(InputError, match=f"{setting}={value}"):
        make(**{setting: value})
