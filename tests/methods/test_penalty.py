"""What L2, EWC, SI and MAS share: the penalty by hand, growth with the head, what is saved."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from closed_form import learner_of, task_of
from hypothesis import given
from hypothesis import strategies as st
from networks import TERMS, Task, batch_of, tiny_network
from tests.rounding import rounded
from torch import nn
from torch.nn.functional import cross_entropy

from crumb.data.batches import Batch
from crumb.errors import InputError
from crumb.methods import persistence
from crumb.methods.ewc import EWC
from crumb.methods.finetune import Finetune
from crumb.methods.l2 import L2
from crumb.methods.mas import MAS
from crumb.methods.penalty import PenaltyLearner, QuadraticPenalty, Slot, frames
from crumb.methods.si import SI

FAMILY = pytest.mark.parametrize("kind", [L2, EWC, SI, MAS])


def two_anchors():
    penalty = QuadraticPenalty()
    penalty.slots = [
        Slot({"a": torch.tensor([1.0, 2.0])}, {"a": torch.tensor([3.0, 0.0])}),
        Slot({"a": torch.tensor([0.0, -1.0])}, {"a": torch.tensor([0.5, 2.0])}),
    ]
    return penalty


def test_value_and_gradient_of_two_anchors_by_hand():
    theta = nn.Parameter(torch.tensor([2.0, 1.0]))
    penalty = two_anchors()({"a": theta})
    # 3 (2-1)^2 + 0 (1-2)^2 + 0.5 (2-0)^2 + 2 (1+1)^2
    assert penalty is not None
    assert penalty.item() == 3 + 0 + 2 + 8
    penalty.backward()
    # 2 * 3 * 1 + 2 * 0.5 * 2 and 2 * 0 * -1 + 2 * 2 * 2
    assert theta.grad is not None
    assert theta.grad.tolist() == [8, 8]


def test_nothing_important_is_no_penalty():
    penalty = QuadraticPenalty()
    assert penalty({"a": nn.Parameter(torch.ones(2))}) is None
    penalty.slots = [Slot({"a": torch.zeros(2)}, {})]
    assert penalty({"a": nn.Parameter(torch.ones(2))}) is None
    assert penalty.nbytes == 8


def test_bytes_are_those_of_the_tensors():
    assert two_anchors().nbytes == 2 * 2 * 2 * 4


def test_new_head_keeps_rows_of_old_classes_and_frees_the_others():
    penalty = QuadraticPenalty()
    anchors = {"body": torch.tensor([7.0]), "head": torch.tensor([[1.0], [2.0], [3.0]])}
    broad = {"body": torch.tensor([1.0]), "head": torch.tensor([[4.0], [5.0], [6.0]])}
    penalty.slots = [Slot(anchors, broad)]
    head = nn.Parameter(torch.tensor([[9.0], [8.0], [7.0], [6.0]]))
    penalty.follow_head({"head": head}, keep=2)
    assert penalty.slots[0].anchors["head"].flatten().tolist() == [1, 2, 7, 6]
    assert penalty.slots[0].importances["head"].flatten().tolist() == [4, 5, 0, 0]
    assert penalty.slots[0].anchors["body"].item() == 7
    # The anchors are copies: what is learned from now on does not move them.
    with torch.no_grad():
        head.zero_()
    assert penalty.slots[0].anchors["head"].flatten().tolist() == [1, 2, 7, 6]


@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=8),
    most=st.one_of(st.none(), st.integers(1, 50)),
)
def test_frames_are_evenly_spaced_and_no_more_than_asked_for(sizes, most):
    # All batches but the last have the same size.
    sizes = [max(sizes)] * (len(sizes) - 1) + [sizes[-1]] if len(sizes) > 1 else sizes
    labels = torch.arange(sum(sizes))
    maps = labels.float().view(-1, 1, 1, 1)
    batches = [Batch(*part) for part in zip(labels.split(sizes), maps.split(sizes), strict=True)]
    found = list(frames(Task(batches), "", most))
    assert all(features.shape == (1, 1, 1, 1) for features, _ in found)
    assert [int(features) for features, _ in found] == [label for _, label in found]
    places = [label for _, label in found]
    if most is None or most >= len(sizes) * sizes[0]:
        assert places == labels.tolist()
    else:
        short = sizes[0] - sizes[-1]
        assert most - short <= len(places) <= most
        gaps = {after - before for before, after in pairwise(places)}
        assert not gaps or max(gaps) - min(gaps) <= 1


def test_weight_of_the_penalty_and_what_is_reported():
    learner = learner_of(L2, "a", "b", regularisation=3.0, dropout=0.0)
    learner.end_task(task_of(learner, 0, 1))
    with torch.no_grad():
        learner.parameters()["tail.norm.bias"].add_(0.5)
    batch = batch_of(learner, 0, 1)
    direct = learner.loss(batch.features, batch.labels).item()
    seen = []
    learner.step = lambda loss: seen.append(loss.item())
    losses = learner.learn(batch)
    # Eight elements, each 0.5 away.
    assert losses["penalty"].item() == 2.0
    assert losses["direct"].item() == direct
    assert seen == [pytest.approx(direct + 3.0 * 2.0)]


@FAMILY
def test_without_a_past_it_is_fine_tuning(kind):
    learner, other = learner_of(kind, "a", "b"), learner_of(Finetune, "a", "b")
    for seed in range(3):
        batch = batch_of(learner, 0, 1, seed=seed)
        assert learner.learn(batch).keys() == {"direct"}
        other.learn(batch)
    for name, value in other.parameters().items():
        assert torch.equal(value, learner.parameters()[name])


@FAMILY
@pytest.mark.parametrize("outputs", ["task", "all"])
def test_new_images_are_told_from_the_classes_of_the_task_alone(kind, outputs):
    learner = taught(kind, trained_outputs=outputs, dropout=0.0)
    learner.begin_task(["e", "f"])

    def direct(*labels):
        batch = batch_of(learner, *labels, seed=70)
        logits = learner.network(batch.features).detach()
        return logits, batch.labels, learner.learn(batch)["direct"].item()

    logits, labels, found = direct(4, 5, 5)
    task = cross_entropy(logits[:, 4:6], labels - 4).item()
    everything = cross_entropy(logits[:, :6], labels).item()
    assert found == rounded(task if outputs == "task" else everything, TERMS, magnitude=4)
    assert abs(task - everything) > 0.1
    if outputs == "all":
        return
    # A class that comes back is the task's from then on, in batches without it as well.
    direct(1, 4)
    logits, _, found = direct(4, 5)
    expected = cross_entropy(logits[:, [1, 4, 5]], torch.tensor([1, 2])).item()
    assert found == rounded(expected, TERMS, magnitude=4)
    # In the next task it is not.
    learner.end_task(task_of(learner, 4, 5))
    learner.begin_task(["g"])
    logits, _, found = direct(6, 6)
    assert found == rounded(0, TERMS, magnitude=1)


@FAMILY
def test_before_any_task_has_ended_all_classes_are_the_present_ones(kind):
    learner = learner_of(kind, "a", "b", "c", dropout=0.0)
    batch = batch_of(learner, 2, 2)
    expected = cross_entropy(learner.network(batch.features)[:, :3], batch.labels).item()
    assert learner.learn(batch)["direct"].item() == rounded(expected, TERMS, magnitude=4)


def taught(kind, **settings):
    """Two tasks of two classes each, in a head with room for more."""
    learner = learner_of(kind, "a", "b", outputs=6, **settings)
    for first in (0, 2):
        learner.begin_task("abcd"[first : first + 2])
        task = task_of(learner, first, first + 1, first, seed=first)
        for batch in task:
            learner.learn(batch)
        learner.end_task(task)
    return learner


@FAMILY
def test_classes_not_met_have_no_importance(kind):
    learner = taught(kind)
    assert isinstance(learner, PenaltyLearner)
    for slot in learner.penalty.slots:
        for name in learner.head_parameters():
            assert slot.importances[name][4:].count_nonzero() == 0
    name = "tail.classifier.bias"
    total = torch.stack([slot.importances[name] for slot in learner.penalty.slots]).sum(0)
    assert total[:4].count_nonzero() == 4


@FAMILY
def test_growth_of_the_head_leaves_the_penalty_as_it_is(kind):
    learner = taught(kind)
    with torch.no_grad():
        for p in learner.parameters().values():
            p += 0.1
    before = learner.penalty(learner.parameters())
    held = learner.bytes_held().extra
    learner.add_classes([f"new {n}" for n in range(10)])
    assert learner.network.outputs == 14
    torch.testing.assert_close(learner.penalty(learner.parameters()), before)
    assert learner.bytes_held().extra > held
    batch = batch_of(learner, 0, 3, 4, 5)
    assert all(value.isfinite() for value in learner.learn(batch).values())


@FAMILY
def test_bytes_held_are_what_is_saved_beside_the_network(kind):
    learner = taught(kind)
    kept = ("penalty.", "path.", "present.")
    own = [v for name, v in learner.state_dict().items() if name.startswith(kept)]
    assert learner.bytes_held().replay == 0
    assert learner.bytes_held().extra == sum(value.nbytes for value in own)
    weights = sum(p.nbytes for p in learner.parameters().values())
    copies = {L2: 1, EWC: 4, SI: 3, MAS: 2}[kind] * weights
    # The importance 1 of L2 is a number for each tensor, or for each row of the head.
    # And how many classes the last task knew, in eight bytes.
    assert learner.bytes_held().extra == copies + (2 * 4 + 2 * 6 * 4 if kind is L2 else 0) + 8


@FAMILY
def test_anchors_hold_important_weights(kind):
    """With a strong penalty old weights stay nearer to their anchors than without."""
    moved = {}
    for strength in (0.0, 1000.0):
        learner = taught(kind, regularisation=0.0, dropout=0.0)
        learner.config = replace(learner.config, regularisation=strength)
        learner.begin_task(["e"])
        for seed in range(10):
            learner.learn(batch_of(learner, 4, 4, seed=seed))
        moved[strength] = learner.penalty(learner.parameters()).item()
    assert moved[1000.0] < 0.5 * moved[0.0]


@FAMILY
def test_saved_tensors_of_another_shape_are_refused(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(persistence, "build_network", lambda *_: tiny_network(0.5))
    learner = taught(kind)
    state = learner.state_dict()
    for name in [key for key in state if key.startswith(("penalty.", "path.", "present.known"))]:
        wrong = state | {name: torch.zeros(3, 1, 1)}
        learner.state_dict = lambda wrong=wrong: wrong
        learner.save(tmp_path / "learner")
        with pytest.raises(InputError, match="is damaged"):
            persistence.load_learner(tmp_path / "learner")


@FAMILY
def test_settings_out_of_range_are_refused(kind):
    for value in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="regularisation"):
            kind.Config(regularisation=value)
