"""CRUMB 2: the metric of each class, the rule of its axes, when the tail is tuned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from networks import Task, batch_of, images_of, learn_task, tiny_network
from tests.rounding import assert_rounded

import crumb
from crumb.data.batches import Batch
from crumb.errors import InputError
from crumb.methods.crumb2 import Crumb2, Crumb2Config
from crumb.methods.persistence import load_learner
from crumb.methods.slda import StreamingLda

BAD = [("rank", -1), ("class_share", 1.0)]
FROZEN: dict[str, Any] = {"tail": "frozen", "crumbs": 4}


def make(**settings: Any) -> Crumb2:
    given: dict[str, Any] = {"lr": 0.1} | settings
    return Crumb2(tiny_network(0.3), Crumb2Config(**given))


def tuning(**settings: Any) -> Crumb2:
    learner = make(**settings)
    learner.begin_task(["a", "b"])
    return learner


def given(learner, vectors, labels, monkeypatch):
    """The learner after frames that are described by these vectors."""
    table = torch.as_tensor(vectors, dtype=torch.float32)
    monkeypatch.setattr(learner, "describe", lambda maps: table[maps[:, 0, 0, 0].long()])
    learner.add_classes([f"class {label}" for label in sorted(set(labels))])
    maps = torch.arange(len(labels)).float()[:, None, None, None].expand(-1, 8, 2, 2)
    learner.learn(Batch(torch.tensor(labels), maps))
    return learner


def test_hand_computed(monkeypatch):
    """Class means (0, 0) and (4, 2); both classes vary by diag(2, 1/2), and so do all frames.

    Without shrinkage the shared metric is whitening by diag(2, 1/2). Half of a class's covariance
    is its own: its main axis is (sqrt 2, 0), the other fifth of the variance has the shape of the
    shared covariance. Its covariance is (1/2 + 1/10) S + diag(1, 0) = diag(2.2, 0.3).
    """
    table = [[2, 0], [-2, 0], [0, 1], [0, -1], [6, 2], [2, 2], [4, 3], [4, 1]]
    settings = {"dimensions": 2, "rank": 1, "shrinkage": 1e-9, "prior_frames": 0}
    learner = given(make(**settings, **FROZEN), table, [0] * 4 + [1] * 4, monkeypatch)
    found = learner.nearness(torch.tensor([[1.0, 1]]))[0]
    # Squared distances: 1 / 2.2 + 1 / 0.3 and 9 / 2.2 + 1 / 0.3. Determinants: as shares of S's.
    determinant = np.log(2.2 / 2 * 0.3 / 0.5)
    expected = [-(x / 2.2 + 1 / 0.3 + determinant) / 2 for x in (1, 9)]
    assert found.tolist() == pytest.approx(expected, rel=0.02)


def test_scores_are_those_of_the_covariances_written_out(monkeypatch):
    draws = np.random.default_rng(0)
    labels = [0, 1, 2] * 30
    vectors = draws.normal(size=(90, 6)) * (1 + np.array(labels)[:, None])
    settings = {"dimensions": 6, "rank": 2, "class_share": 0.7, "prior_frames": 20}
    learner = given(make(**settings, **FROZEN), vectors, labels, monkeypatch)
    moments, share = learner.moments, 0.7 * 30 / (30 + 20)
    least = 0.05 + 0.95 * 20 / (20 + 90)
    shared = moments.covariance_matrix().double().numpy()
    shared = (1 - least) * shared + least * np.trace(shared) / 6 * np.eye(6)
    asked = draws.normal(size=(5, 6))
    expected = []
    for label, mean in enumerate(moments.mean_vectors().double().numpy()):
        factor, captured = moments.factor_of(label)
        own = factor.double().numpy().T @ factor.double().numpy() + (1 - captured) * shared
        covariance = (1 - share) * shared + share * own
        away = asked - mean
        distance = (away @ np.linalg.inv(covariance) * away).sum(1)
        expected.append(-(distance + np.linalg.slogdet(covariance)[1]) / 2)
    found = learner.nearness(torch.from_numpy(asked).float()).double().numpy()
    # A constant is the same for all classes.
    written = np.stack(expected, 1)
    assert_rounded(found - found[:, :1], written - written[:, :1], 6, layers=4, magnitude=40)


def test_classes_of_one_mean_are_told_apart_by_their_axes(monkeypatch):
    """One class varies along x, the other along y."""
    draws = np.random.default_rng(1)
    labels = [0, 1] * 200
    vectors = draws.normal(size=(400, 2)) * np.array([[3, 0.3], [0.3, 3]])[labels]
    settings = {"dimensions": 2, "rank": 1, "class_share": 0.9}
    learner = given(make(**settings, **FROZEN), vectors, labels, monkeypatch)
    answers = learner.nearness(torch.tensor([[3.0, 0], [0, 3], [-3, 0], [0, -3]])).argmax(1)
    assert answers.tolist() == [0, 1, 0, 1]


def test_classes_of_few_frames_are_measured_as_in_slda():
    settings = {"prior_frames": 1 << 30, "crumbs": 4}
    learners = (
        make(**settings, tail="frozen", rank=3),
        StreamingLda(tiny_network(0.3), StreamingLda.Config(**settings)),
    )
    scores = []
    for learner in learners:
        learner.add_classes(["a", "b"])
        for seed in range(3):
            learner.learn(batch_of(learner, 0, 1, 0, 1, seed=seed))
        with learner.evaluation():
            scores.append(learner.scores(batch_of(learner, 0, 1).features))
    magnitude = scores[1].abs().max().item()
    # Their statistics round by other draws.
    torch.testing.assert_close(*scores, rtol=0, atol=0.02 * magnitude)


@pytest.mark.parametrize(
    ("budget", "classes", "rank"),
    [(None, 10, 16), (20_000, 12, 2), (64_000, 12, 4), (250_000, 12, 10), (64_000, 100, 0)],
)
def test_axes_take_at_most_a_quarter_of_the_bytes_of_the_covariance(
    budget, classes, rank, monkeypatch
):
    learner = make(budget_bytes=budget, classes_expected=classes, **FROZEN | {"crumbs": 0})
    monkeypatch.setattr(learner, "most_dimensions", lambda: 1280)
    assert learner.rank_for(classes) == rank
    if budget:
        count = learner._affordable(classes, 1280)
        factors = learner.moments.bytes_of_factors(classes, count, rank)
        # The covariance takes two bytes for each entry on and below the diagonal.
        assert factors <= 0.3 * count * (count + 1)
        assert learner.bytes_for(classes, count) <= budget < learner.bytes_for(classes, count + 1)


def test_axes_are_given_up_when_classes_come():
    learner = make(budget_bytes=500, classes_expected=1, **FROZEN | {"crumbs": 0})
    ranks = []
    for label in range(4):
        learner.add_classes([f"class {label}"])
        learner.learn(batch_of(learner, label, label))
        ranks.append(learner.moments.rank)
        assert learner.bytes_held().extra <= 500
    assert ranks[0] == 2
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[-1] == 0


def test_tasks_are_read_again_only_until_the_tail_is_tuned(tmp_path):
    learner = tuning()
    assert learner.needs_task_boundaries
    assert learner.needs_second_pass
    with pytest.raises(InputError, match="tail='first-task': needs task ends"):
        learner.observe(images_of(0, 1), ["a"])
    task = Task([batch_of(learner, 0, 1, seed=seed) for seed in range(3)])
    for batch in task.batches:
        learner.learn(batch)
    learner.end_task(task)
    # Five epochs and the statistics.
    assert task.reads == 6
    learner.save(path := tmp_path / "model.crumb")
    for one in (learner, load_learner(path, "cpu")):
        assert not one.needs_task_boundaries
        one.observe(images_of(2, 3), ["c"] * 3)
        assert one.classes == ["a", "b", "c"]


def test_a_frozen_tail_learns_in_one_pass():
    learner: Any = crumb.create(
        "crumb2", backbone="test_efficientnet", cut="blocks.4", weights="random"
    )
    assert learner.config.tail == "frozen"
    assert not learner.needs_task_boundaries
    made = make(**FROZEN)
    made.add_classes(["a", "b"])
    before = {name: value.detach().clone() for name, value in made.parameters().items()}
    made.learn(batch_of(made, 0, 1, 0, 1))
    assert all(torch.equal(value, before[name]) for name, value in made.parameters().items())
    assert made.predict(torch.cat([images_of(0, 1), images_of(1, 1)])) == ["a", "b"]


@pytest.mark.parametrize(("setting", "value"), BAD)
def test_settings_are_checked(setting, value):
    with pytest.raises(InputError, match=f"{setting}={value}"):
        make(**{setting: value})


def test_the_mean_distance_is_that_of_the_frames_learned(monkeypatch):
    draws = np.random.default_rng(2)
    labels = [0, 1, 2] * 100
    spread = np.array([[4, 1, 1, 0.3, 1, 1], [1, 4, 0.3, 1, 1, 1], [1, 1, 1, 1, 4, 0.3]])
    vectors = draws.normal(size=(300, 6)) * spread[labels] + 5 * np.array(labels)[:, None]
    for rank in (1, 4):
        settings = {"dimensions": 6, "rank": rank, "prior_frames": 20}
        learner = given(make(**settings, **FROZEN), vectors, labels, monkeypatch)
        distances = -2 * learner.nearness(torch.from_numpy(vectors).float())
        own = distances[torch.arange(300), torch.tensor(labels)].mean().item()
        assert learner._mean_distance() == pytest.approx(own, rel=0.1)


def test_forgetting_a_class_leaves_the_distances_to_others(monkeypatch):
    draws = np.random.default_rng(3)
    labels = [0, 1, 2] * 40
    vectors = draws.normal(size=(120, 4)) * (0.2 + np.array(labels)[:, None])
    settings = {"dimensions": 4, "rank": 2, "prior_frames": 0}
    learner = given(make(**settings, **FROZEN), vectors, labels, monkeypatch)
    asked = torch.from_numpy(draws.normal(size=(5, 4))).float()
    before = learner.nearness(asked)
    learner.forget("class 0")
    assert torch.equal(learner.nearness(asked), before[:, 1:])


def test_weights_that_diverge_are_named_by_the_rate():
    learner = tuning(lr=1e30)
    with pytest.raises(InputError, match=r"lr=1e\+30: made the weights infinite"):
        learn_task(learner, 0, 1, 0, 1)
    assert not learner.adapted
