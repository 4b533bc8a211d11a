"""Nearest class mean and streaming LDA against numbers worked out by hand and in batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from networks import batch_of, images_of, tiny_network
from tests.rounding import assert_rounded

from crumb.data.batches import Batch
from crumb.errors import InputError
from crumb.methods.closed_form import ClosedForm
from crumb.methods.ncm import NearestClassMean
from crumb.methods.registry import find_method
from crumb.methods.slda import StreamingLda


def make(name="slda", **settings) -> ClosedForm:
    kind = find_method(name)
    learner = kind(tiny_network(0.3), kind.Config(**settings))
    assert isinstance(learner, ClosedForm)
    return learner


def taught(name="slda", **settings):
    learner = make(name, **settings)
    learner.add_classes(["a", "b"])
    for seed in range(5):
        learner.learn(batch_of(learner, 0, 1, 0, 1, seed=seed))
    return learner


def vectors_of(learner, monkeypatch, table):
    """Let the learner describe feature maps by the rows of a table that they number."""
    monkeypatch.setattr(learner, "describe", lambda features: table[features[:, 0, 0, 0].long()])


def numbered(labels, start=0):
    maps = torch.arange(start, start + len(labels)).float()[:, None, None, None]
    return Batch(torch.tensor(labels), maps.expand(-1, 8, 2, 2))


def test_slda_solves_what_the_paper_says(monkeypatch):
    """Class means (0, 0) and (4, 2), covariance ((2, 0), (0, 1/2)), shrinkage 1/2.

    The mean variance is 5/4, so that the metric is ((13/8, 0), (0, 7/8)).
    """
    learner = make(dimensions=2, shrinkage=0.5, prior_frames=0)
    table = torch.tensor([[2, 0], [-2, 0], [0, 1], [0, -1], [6, 2], [2, 2], [4, 3], [4, 1], [1, 1]])
    vectors_of(learner, monkeypatch, table.float())
    learner.add_classes(["a", "b"])
    learner.learn(numbered([0, 0, 0, 0, 1, 1, 1, 1]))
    assert learner.moments.covariance_matrix().tolist() == [[2, 0], [0, 0.5]]
    scores = learner.scores(numbered([0], 8).features)
    expected = [-0.5 * (8 / 13 + 8 / 7), -0.5 * (9 * 8 / 13 + 8 / 7)]
    assert_rounded(scores[0], expected, terms=2, layers=3)


def test_few_frames_are_compared_almost_by_plain_distance(monkeypatch):
    """Eight frames beside a prior of eight: half of the covariance is its mean variance."""
    shrunk, other = (
        make(dimensions=2, shrinkage=0.5, prior_frames=0),
        make(dimensions=2, shrinkage=1e-9, prior_frames=8),
    )
    table = torch.tensor([[2, 0], [-2, 0], [0, 1], [0, -1], [6, 2], [2, 2], [4, 3], [4, 1], [1, 1]])
    scores = []
    for learner in (shrunk, other):
        vectors_of(learner, monkeypatch, table.float())
        learner.add_classes(["a", "b"])
        learner.learn(numbered([0, 0, 0, 0, 1, 1, 1, 1]))
        scores.append(learner.scores(numbered([0], 8).features))
    assert_rounded(*scores, terms=2, layers=3)


def test_ncm_measures_plain_distances(monkeypatch):
    learner = make("ncm", dimensions=2)
    vectors_of(learner, monkeypatch, torch.tensor([[0.0, 0], [2, 0], [4, 2], [1, 1]]))
    learner.add_classes(["a", "b", "never seen"])
    learner.learn(numbered([0, 0, 1]))
    scores = learner.scores(numbered([0], 3).features)
    assert scores[0].tolist() == pytest.approx([-0.5, -5, -torch.inf], rel=2e-3)


@pytest.mark.parametrize("name", ["ncm", "slda"])
def test_the_order_of_frames_does_not_matter(name):
    labels = ((0, 1), (1, 2), (0, 0), (2, 1), (1, 2))
    frames = [batch_of(make(name), *pair, seed=9 * n) for n, pair in enumerate(labels)]
    scores = []
    for order in ((0, 1, 2, 3, 4), (3, 4, 0, 2, 1)):
        learner = make(name)
        learner.add_classes(["a", "b", "c"])
        for place in order:
            learner.learn(frames[place])
        with learner.evaluation():
            scores.append(learner.scores(frames[0].features))
    torch.testing.assert_close(*scores, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("name", ["ncm", "slda"])
def test_a_frame_counts_once(name):
    learner = make(name)
    learner.add_classes(["a", "b"])
    learner.learn(batch_of(learner, 0, 1))
    before = {key: value.clone() for key, value in learner.moments.state_dict().items()}
    learner.learn(batch_of(learner, 0, 1, first=False))
    after = learner.moments.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def resident_bytes() -> int:
    """Memory of this process; 0 where the system does not say."""
    file = Path("/proc/self/statm")
    return 4096 * int(file.read_text().split()[1]) if file.exists() else 0


def test_a_million_frames_leave_what_one_batch_would_in_the_same_bytes(monkeypatch):
    """Through the learner: statistics, crumbs and their reference, within a budget."""
    learner = make(budget_bytes=600, classes_expected=3)
    assert isinstance(learner, StreamingLda)
    count, size, repeats, wide = 20_000, 1000, 50, learner.dimensions
    draws = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (count,), generator=draws)
    centres = 3 * torch.randn(3, wide, generator=draws)
    mixing = torch.randn(wide, wide, generator=draws) / wide**0.5
    table = torch.randn(count, wide, generator=draws) @ mixing + centres[labels]
    vectors_of(learner, monkeypatch, table)
    learner.add_classes(["a", "b", "c"])
    batches = [numbered(labels[at : at + size].tolist(), at) for at in range(0, count, size)]
    held, resident = learner.bytes_held(), []
    for _ in range(repeats):
        for batch in batches:
            learner.learn(batch)
        resident.append(resident_bytes())
    assert learner.frames_seen() == repeats * count == 1_000_000
    assert learner.bytes_held() == held
    assert held.replay + held.extra <= 600
    # A number kept of each frame would come to 6 MB.
    assert max(resident[10:]) - resident[9] < 4 << 20
    exact = table.double()
    means = torch.stack([exact[labels == label].mean(0) for label in range(3)])
    deviations = exact - means[labels]
    covariance = deviations.T @ deviations / count
    spread = covariance.diagonal().sqrt()
    assert ((learner.moments.mean_vectors() - means).abs() / spread).max() < 0.04
    errors = (learner.moments.covariance_matrix() - covariance).abs()
    assert (errors / torch.outer(spread, spread)).max() < 0.03
    assert all(share is not None and share > 80 for share in learner.self_test())


def test_square_roots_keep_their_signs():
    learner, plain = make(transform="sqrt"), make(transform="none")
    features = batch_of(plain, 0, 1).features
    with plain.evaluation():
        pooled = plain.network.penultimate(features)
    assert (pooled < 0).any()
    expected = torch.where(pooled < 0, -pooled.abs().sqrt(), pooled.abs().sqrt())
    with learner.evaluation():
        vectors = learner.describe(features)
    # The basis is orthonormal, so it keeps lengths and angles.
    assert_rounded(vectors @ vectors.T, expected @ expected.T, expected.shape[1], layers=2)


@pytest.mark.parametrize("name", ["ncm", "slda"])
def test_dropout_is_not_applied(name):
    kind = find_method(name)
    learners: list[ClosedForm] = []
    for dropout in (0.0, 0.9):
        learner = kind(tiny_network(dropout), kind.Config())
        assert isinstance(learner, ClosedForm)
        learner.add_classes(["a", "b"])
        learner.learn(batch_of(learner, 0, 1, 0, 1))
        assert learner.network.tail.training
        learners.append(learner)
    one, other = learners
    assert torch.equal(one.moments.mean_vectors(), other.moments.mean_vectors())


@pytest.mark.parametrize(("name", "dimensions"), [("slda", 4), ("ncm", 7)])
def test_new_classes_take_room_from_the_last_directions(name, dimensions):
    # Two classes in 4 directions: 20 + 2 * 12 + 8 + 8 bytes. 7 * 6 + 16 for ncm.
    crumbs = {"crumbs": 0} if name == "slda" else {}
    learner = make(name, budget_bytes=60, classes_expected=2, **crumbs)
    assert learner.dimensions == dimensions
    learner.add_classes(["a", "b"])
    learner.learn(batch_of(learner, 0, 1, 0, 1))
    before = learner.moments.mean_vectors()
    learner.add_classes(["c"])
    assert learner.dimensions < dimensions
    assert learner.bytes_held().extra <= 60
    assert torch.equal(learner.moments.mean_vectors()[:2], before[:, : learner.dimensions])
    with pytest.raises(InputError, match="does not hold one direction for 9 classes; give at"):
        learner.add_classes([f"thing {number}" for number in range(9 - 3)])
    assert learner.classes == ["a", "b", "c"]


def test_a_budget_holds_exactly_as_many_directions_as_fit():
    for budget in range(40, 220, 9):
        learner = make(budget_bytes=budget, classes_expected=1, crumbs=0)
        used = learner.bytes_for(1, learner.dimensions)
        assert used <= budget
        assert learner.dimensions == 8 or learner.bytes_for(1, learner.dimensions + 1) > budget


def test_crumbs_take_an_eighth_of_the_budget():
    learner = make(budget_bytes=400, classes_expected=3)
    names = [f"thing {number}" for number in range(9)]
    for count in (3, 6, 9):
        learner.add_classes(names[:count])
        shown = [number for number in range(count) for _ in range(30)]
        learner.learn(batch_of(learner, *[number % 6 for number in shown]))
        held = learner.bytes_held()
        assert held.replay + held.extra <= 400
        assert held.replay > 0


def test_a_learner_tests_itself_on_its_crumbs():
    learner = taught()
    assert isinstance(learner, StreamingLda)
    assert learner.self_test() == [100.0, 100.0]
    # Wrong about one class: its mean is where another one's is.
    learner.moments.means[0] = learner.moments.means[1] * 1.01
    learner.add_classes(["c"])
    found = learner.self_test()
    assert found[0] is not None
    assert found[0] < 100
    assert found[2] is None


def test_limits_hold_for_frames_that_were_learned_and_not_for_other_things():
    learner = make(crumbs=100)
    assert isinstance(learner, StreamingLda)
    learner.add_classes(["a", "b", "never seen"])
    shown = [0, 1] * 150
    learner.learn(batch_of(learner, *shown))
    limits = learner.distance_limits(0.1)
    with learner.evaluation():
        nearness = learner.scores(batch_of(learner, *shown).features)
        strange = learner.scores(batch_of(learner, *[2] * 20).features)
    nearest = nearness.argmax(1)
    share = (-2 * nearness.max(1).values > limits[nearest]).float().mean()
    assert 0.02 < share < 0.2
    assert (-2 * strange.max(1).values > limits[strange.argmax(1)]).all()
    unknown = make(crumbs=0)
    assert isinstance(unknown, StreamingLda)
    unknown.observe(images_of(0, 4), "red")
    with pytest.raises(InputError, match=r"unknown_share=0.1: cannot be measured"):
        unknown.predict(images_of(0, 1), unknown_share=0.1)


def test_one_frame_of_each_class_is_enough():
    learner = make()
    learner.observe(torch.cat([images_of(0, 1), images_of(1, 1)]), ["red", "blue"])
    assert learner.predict(torch.cat([images_of(0, 1), images_of(1, 1)])) == ["red", "blue"]
    with pytest.raises(InputError, match=r"unknown_share=0.01: cannot be measured"):
        learner.predict(images_of(0, 1), unknown_share=0.01)


def test_what_was_held_back_says_how_far_known_things_may_be():
    """Frames that were learned from are near; others of the same classes are twice as far."""
    learner = make(crumbs=100)
    assert isinstance(learner, StreamingLda)
    learner.add_classes(["a", "b"])
    learner.learn(batch_of(learner, *[0, 1] * 100))
    near = learner.distance_limits(0.05)
    with learner.evaluation():
        scores = learner.scores(batch_of(learner, *[0] * 40, seed=5000).features)
    learner.measure_reach([2 * scores], [0])
    far = learner.distance_limits(0.05)
    assert (far > near).all()
    beyond = (-4 * scores[:, 0] > far[0]).float().mean()
    assert 0 <= beyond < 0.2


def test_a_covariance_that_rounding_left_without_a_factor_is_mended():
    learner = taught()
    assert isinstance(learner, StreamingLda)
    covariance = -torch.eye(learner.dimensions)
    covariance[0, 0] = 100.0
    learner.moments.triangle = torch.zeros_like(learner.moments.triangle)
    learner.moments.triangle[0] = 100.0
    learner.moments.triangle[2] = -20.0
    learner.add_classes([])
    with learner.evaluation():
        assert learner.scores(batch_of(learner, 0, 1).features).isfinite().all()


def test_features_that_are_not_finite_are_refused():
    learner = taught()
    before = learner.moments.means.clone()
    bad = batch_of(learner, 0, 1)
    bad.features[0, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match="features: are not finite"):
        learner.learn(bad)
    assert torch.equal(learner.moments.means, before)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"shrinkage": 0.0}, "shrinkage=0.0"),
        ({"dimensions": 0}, "dimensions=0"),
        ({"transform": "log"}, "transform='log'"),
        ({"budget_bytes": 10}, "budget_bytes=10"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, line):
    with pytest.raises(InputError, match=line):
        make(**settings)


def test_they_are_registered_by_their_names():
    assert find_method("ncm") is NearestClassMean
    assert find_method("slda") is StreamingLda


@pytest.mark.parametrize("name", ["ncm", "slda"])
def test_whatever_was_dropped_for_new_classes_a_saved_state_fits(name: str):
    """With every number of classes: what a loaded learner makes room for, in which order."""
    names = [f"thing {number}" for number in range(9)]
    for budget in range(180, 420, 20):
        learner, count = make(name, budget_bytes=budget, classes_expected=2), 0
        while count < len(names):
            try:
                learner.add_classes(names[count : count + 1])
            except InputError:
                break
            count += 1
            learner.learn(batch_of(learner, *[number % 6 for number in range(count)] * 3))
            again = make(name, budget_bytes=budget, classes_expected=2)
            again.classes = names[:count]
            again.load_state_dict(learner.state_dict())
            for key, value in learner.state_dict().items():
                assert torch.equal(value, again.state_dict()[key]), (budget, count, key)
        assert count > 1
