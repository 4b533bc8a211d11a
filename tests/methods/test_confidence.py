"""Temperatures and limits against distributions that are known."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chi2

from crumb.methods.confidence import distance_limits, fit_temperature


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
    limits = distance_limits(distances, labels, 3, mean=1.5 * freedom, share=0.01)
    limit = chi2.isf(0.01, freedom)
    assert limits[0].item() == pytest.approx(limit, rel=0.03)
    assert limits[1].item() == pytest.approx(2 * limit, rel=0.03)
    assert limits[0] < limits[2] < limits[1]


def test_one_frame_of_a_class_gives_a_limit():
    limits = distance_limits(torch.tensor([4.0]), torch.tensor([0]), 1, mean=4.0, share=0.5)
    assert 0 < limits[0] < 10


def test_a_learner_that_was_right_a_few_times_is_not_sure_of_everything():
    scores = torch.tensor([[0.0, -9.0], [-7.0, 0.0], [0.0, -8.0]])
    labels = torch.tensor([0, 1, 0])
    assert fit_temperature(scores, labels) < 0.1
    temperature = fit_temperature(scores, labels, doubt=0.2)
    # One in ten frames goes wrong, as a fifth of them are spread over both classes.
    assert (scores / temperature).softmax(1).max(1).values.mean() == pytest.approx(0.9, abs=0.01)
