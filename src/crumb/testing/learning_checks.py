"""Checks of learning: what is trained, on which data, and when."""

from __future__ import annotations

import torch
from torch import Tensor

from crumb.data.batches import Batch
from crumb.errors import InputError
from crumb.memory.capacity import second_pass
from crumb.methods.base import Learner
from crumb.testing.expecting import assert_same, refused
from crumb.testing.networks import Task, batch_of, images_of
from crumb.testing.runs import main_run
from crumb.testing.variants import Variant

_MAX_BATCHES = 60
"""Maximum number of batches to learn two easy classes."""


def evaluate(learner: Learner) -> Tensor:
    """Check the shape of scores for streams and users."""
    learner.predict(images_of(0, 4))
    features = batch_of(learner, 0, 1).features
    with learner.evaluation():
        scores, mem = learner.scores(features), learner.mem_scores(features)
    assert scores.shape == (2, len(learner.classes)), f"scores are {tuple(scores.shape)}"
    assert mem is None or mem.shape == scores.shape
    return scores


def check_says_what_it_is(variant: Variant) -> None:
    """Tables and help show it."""
    kind = variant.kind
    for name in ("__doc__", "name", "summary", "paper", "keeps"):
        assert getattr(kind, name, None), f"{kind.__name__} has no {name}"


def check_learns_two_easy_classes(variant: Variant) -> None:
    """Red from blue, in at most 60 batches of six."""
    learner = variant.make(dropout=0.0)
    learner.begin_task(["red", "blue"])
    names: list[str] = []
    for seed in range(_MAX_BATCHES):
        learner.learn(batch_of(learner, 0, 0, 1, 1, 0, 1, seed=seed))
        if seed % 10 == 9:
            names = learner.predict(torch.cat([images_of(0, 20, 500), images_of(1, 20, 501)]))
            if names == ["red"] * 20 + ["blue"] * 20:
                return
    raise AssertionError(f"after {_MAX_BATCHES} batches red and blue are taken for {names}")


def check_batch_of_one_and_a_single_class(variant: Variant) -> None:
    """Predictions with a single class."""
    learner = variant.make()
    learner.begin_task(["only"])
    learner.learn(batch_of(learner, 0))
    assert learner.predict(images_of(3, 2)) == ["only", "only"]


def check_new_classes_at_any_time_beyond_the_room_of_the_head(variant: Variant) -> None:
    """One by one, in tasks of their own or not."""
    learner = variant.make()
    for label in range(20):
        if learner.needs_task_boundaries:
            learner.begin_task([f"thing {label}"])
        learner.add_classes([f"thing {label}"])
        pixels = images_of(label % 6, 2, label)
        index = torch.full((2,), label)
        losses = learner.learn(Batch(index, learner.network.features(pixels), pixels))
        silent = learner.learns_at_task_end or not learner.trains
        assert losses or silent, "a method that trains has a loss"
        assert all(value.isfinite() for value in losses.values()), f"{losses}"
    assert learner.classes == [f"thing {label}" for label in range(20)]
    assert learner.network.outputs >= 20
    assert set(learner.predict(images_of(0, 2))) <= set(learner.classes)


def check_front_never_changes(variant: Variant) -> None:
    """Nor its batch norm's running statistics, which steps in train mode would move."""
    before = variant.network().front.state_dict()
    after = main_run(variant).learner.network.front.state_dict()
    assert before.keys() == after.keys() >= {"stem.norm.running_mean"}
    wrong = [name for name, value in before.items() if not torch.equal(value, after[name])]
    assert not wrong, f"{wrong} of the frozen front has changed"


def check_what_is_said_to_be_trained_is_what_changes(variant: Variant) -> None:
    """All that the method names as trained, and no other weight."""
    learner = variant.make()
    learner.start_head(6)
    learner.begin_task([f"class {label}" for label in range(6)])
    trained = {name for name, p in learner.parameters().items() if p.requires_grad}
    before = {name: p.detach().clone() for name, p in learner.network.named_parameters()}
    task = Task([batch_of(learner, *range(6), seed=seed) for seed in range(3)])
    for batch in task.batches:
        learner.learn(batch)
    if learner.learns_at_task_end:
        learner.end_task(task)
    assert bool(trained) == learner.trains, f"trains: {learner.trains}, and {trained} is trained"
    for name, p in learner.network.named_parameters():
        changed, said = not torch.equal(p, before[name]), name in trained
        assert changed == said, f"{name} changes: {changed}, is named as trained: {said}"


def check_a_task_is_read_again_only_where_the_method_says_so(variant: Variant) -> None:
    """By ``needs_second_pass``; the stream has no second reading for others."""
    learner = variant.make()
    assert learner.needs_task_boundaries or not learner.needs_second_pass
    said = learner.needs_second_pass
    learner.begin_task(["a", "b"])
    task = Task([batch_of(learner, 0, 1)])
    learner.learn(task.batches[0])
    learner.end_task(task)
    assert (task.reads > 0) == said, f"it is read {task.reads} times more"


def check_the_end_of_a_task_trains_only_where_the_method_says_so(variant: Variant) -> None:
    """By ``learns_at_task_end``."""
    learner = variant.make()
    assert learner.tested_after_task_end or not learner.learns_at_task_end
    assert learner.needs_task_boundaries or not learner.tested_after_task_end
    learner.begin_task(["a", "b"])
    task = Task([batch_of(learner, 0, 1, seed=seed) for seed in range(3)])
    for batch in task.batches:
        learner.learn(batch)
    before = {name: p.detach().clone() for name, p in learner.parameters().items()}
    said = learner.learns_at_task_end
    learner.end_task(task)
    after = learner.parameters()
    changed = not all(torch.equal(value, after[name]) for name, value in before.items())
    assert changed == said, f"weights change at the end: {changed}"


def _observing(variant: Variant) -> Learner | None:
    """A learner that users may call observe of; None if it cannot learn so."""
    learner = variant.make()
    if not learner.needs_task_boundaries and not learner.offline:
        return learner
    always = type(learner).needs_task_boundaries or second_pass(learner.config) is None
    line = "needs task boundaries" if always else "needs task ends"
    with refused("all data so far" if learner.offline else line, InputError):
        learner.observe(images_of(0, 1), "a")
    assert learner.classes == [], "a class was met in a call that was refused"
    return None


def check_observe_learns_in_batches_what_learn_learns(variant: Variant) -> None:
    """Or says in one line why it cannot."""
    learner, other = _observing(variant), variant.make()
    if learner is None:
        return
    pixels = torch.cat([images_of(0, 3), images_of(1, 2)])
    learner.observe(pixels, ["a", "a", "a", "b", "b"], batch_size=2)
    for labels, shown in zip(([0, 0], [0, 1], [1]), pixels.split(2), strict=True):
        other.add_classes(["ab"[label] for label in labels])
        other.learn(Batch(torch.tensor(labels), other.network.features(shown), shown))
    assert_same(learner, other, "observe and learn")


def check_a_loss_that_is_not_finite_is_not_learned_from(variant: Variant) -> None:
    """A user of ``observe`` gets one line, and the weights as they were."""
    learner = _observing(variant)
    if learner is None or not learner.trains:
        return
    learner.observe(torch.cat([images_of(0, 2), images_of(1, 2)]), ["a", "a", "b", "b"])
    with torch.no_grad():
        # Any that the method trains: not every one trains its head.
        next(p for p in learner.parameters().values() if p.requires_grad).view(-1)[0] = torch.nan
    before = {name: p.detach().clone() for name, p in learner.parameters().items()}
    with refused("no longer finite", InputError):
        learner.observe(images_of(0, 2), "a")
    for name, p in learner.parameters().items():
        assert torch.equal(p.nan_to_num(), before[name].nan_to_num()), f"{name} has changed"


def check_labels_must_fit_the_images(variant: Variant) -> None:
    """Each slip is one line."""
    learner = _observing(variant)
    if learner is None:
        return
    with refused("2 for 3 images", InputError):
        learner.observe(images_of(0, 3), ["a", "b"])
    for labels in ([""], [3], 3):
        with refused("not a class name", InputError):
            learner.observe(images_of(0, 1), labels)
    with refused("no class has been observed", InputError):
        learner.predict(images_of(0, 1))
