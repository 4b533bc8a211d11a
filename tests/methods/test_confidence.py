"""Temperatures and limits against distributions that are known."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chi2

from crumb.methods.confidence import distance_limits, fit_temperature, own_distances, reach_of


@pytest.mark.parametrize("temperature", [0.5, 1.0, 7.0])
def test_the_temperature_that_drew_the_labels_is_found(temperature):
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20_000, 5, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    scores = torch.cat([logits * temperature, torch.full((len(logits), 1), -torch.inf)], 1)
    assert fit_temperature(scores, labels) == pytest.approx(temperature, rel=0.05)


def test_scores_that_say_nothing_are_not_believed():
    scores = torch.tensor([[9.0, 0.0], [9.0, 0.0]])
    assert fit_temperature(scores, torch.tensor([0, 1])) > 100


def test_limits_are_those_of_the_distribution():
    generator = torch.Generator().manual_seed(0)
    freedom, count = 50, 4000
    distances = torch.randn(count, freedom, generator=generator).square().sum(1)
    labels = torch.arange(count) % 2
    # A class twice as wide, and all of them coded so that distances grew by a tenth.
    distances = torch.where(labels == 1, 2 * distances, distances) * 1.1
    own = own_distances(distances, labels, 3, mean=1.5 * freedom)
    assert own is not None
    limits = distance_limits(*own, share=0.01)
    limit = chi2.isf(0.01, freedom)
    assert limits[0].item() == pytest.approx(limit, rel=0.03)
    assert limits[1].item() == pytest.approx(2 * limit, rel=0.03)
    assert limits[0] < limits[2] < limits[1]


def test_a_class_of_one_frame_has_a_limit_that_others_tell():
    """A single frame is where its class is, so that it says nothing of how far others are."""
    distances, labels = torch.tensor([0.0, 3.0, 5.0]), torch.tensor([0, 1, 1])
    own = own_distances(distances, labels, 2, mean=8 / 3)
    assert own is not None
    means, variance = own
    assert means.tolist() == pytest.approx([4 / 3, (8 + 8 / 3) / 3])
    assert variance == pytest.approx(2 / 16)
    assert (distance_limits(means, variance, 0.01) > means).all()


@pytest.mark.parametrize("distances", [[], [0.0, 0.0]])
def test_frames_without_distances_give_no_limits(distances):
    labels = torch.arange(len(distances))
    assert own_distances(torch.tensor(distances), labels, 2, mean=0.0) is None


def test_frames_that_were_not_learned_from_are_as_far_as_their_reach_says():
    generator = torch.Generator().manual_seed(0)
    # Gamma distributed: mean 3, variance 9 / 25.
    every = 3 * torch.randn(20_000, 50, generator=generator).square().mean(1)
    farther, variance = reach_of(list(every.split(100)))
    assert farther == pytest.approx(3, rel=0.01)
    assert variance == pytest.approx(2 / 50, rel=0.05)
    (limit,) = distance_limits(torch.tensor([farther]).double(), variance, 0.05)
    assert (every > limit).double().mean() == pytest.approx(0.05, abs=0.01)
    # Half of what is farther is expected where as many frames are learned afterwards.
    assert reach_of(list(every.split(100)), 0.5)[0] == pytest.approx(1 + (farther - 1) / 2)
    # Nearer than what was learned from is chance.
    assert reach_of([torch.tensor([0.2, 0.4])])[0] == 1


@pytest.mark.parametrize("doubt", [0.0, 0.1])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_class_that_cannot_be_changes_no_temperature(place, doubt):
    generator = torch.Generator().manual_seed(0)
    scores = 9 * torch.randn(50, 2, generator=generator)
    labels = torch.randint(0, 2, (50,), generator=generator)
    impossible = torch.full((50, 1), -torch.inf)
    wider = torch.cat([scores[:, :place], impossible, scores[:, place:]], 1)
    found = fit_temperature(wider, labels + (labels >= place), doubt)
    assert found == pytest.approx(fit_temperature(scores, labels, doubt))


def test_a_learner_that_was_right_a_few_times_is_not_sure_of_everything():
    scores = torch.tensor([[0.0, -9.0], [-7.0, 0.0], [0.0, -8.0]])
    labels = torch.tensor([0, 1, 0])
    assert fit_temperature(scores, labels) < 0.1
    temperature = fit_temperature(scores, labels, doubt=0.2)
    # One in ten frames goes wrong, as a fifth of them are spread over both classes.
    assert (scores / temperature).softmax(1).max(1).values.mean() == pytest.approx(0.9, abs=0.01)
