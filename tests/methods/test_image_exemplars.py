"""Every method that stores images, with JPEG in a budget of bytes."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest
import torch
from networks import Task, batch_of, images_of, tiny_network

from crumb.data.batches import Batch
from crumb.errors import InputError
from crumb.kinds import choices_of
from crumb.memory.encoded import EncodedMemory
from crumb.methods import persistence
from crumb.methods.crumb import Crumb, CrumbConfig
from crumb.methods.crumb_config import adapted
from crumb.methods.er import ErConfig, ExperienceReplay
from crumb.methods.rainbow import Rainbow, RainbowConfig
from crumb.methods.registry import find_method, methods

BUDGET = 1400
"""For the 623 bytes that JPEG files have in common, and about ten of them."""
CHEAP = {"rainbow": {"memory_only_epochs": 1, "views": 2}}


def variants():
    """Each method that can store images, with each way to choose them."""
    for name, kind in methods().items():
        names = get_type_hints(kind.Config)
        if "image" in choices_of(names.get("storage")):
            for policy in choices_of(names.get("write_policy")) or (None,):
                own = {} if policy is None else {"write_policy": policy}
                yield pytest.param(name, own, id="-".join(filter(None, (name, policy))))


def learner_of(name: str, seed: int = 0, **settings: Any) -> Any:
    kind = find_method(name)
    usual = {"storage": "image", "budget_bytes": BUDGET} | CHEAP.get(name, {})
    return kind(tiny_network(0.3), kind.Config(**usual | settings), seed)


def batches_of(learner: Any, task: int) -> list[Batch]:
    pair = (2 * task, 2 * task + 1)
    return [batch_of(learner, *pair, *pair, *pair, seed=10 * task + i) for i in range(4)]


def learn(learner: Any, tasks: range) -> Any:
    for task in tasks:
        names = [f"class {label}" for label in range(2 * task + 2)]
        if learner.needs_task_boundaries:
            learner.begin_task(names)
        learner.add_classes(names)
        for batch in batches_of(learner, task):
            learner.learn(batch)
            check(learner)
        if learner.needs_task_boundaries:
            learner.end_task(Task(batches_of(learner, task)))
            check(learner)
    return learner


def check(learner: Any) -> None:
    """What is claimed to be held is held, within the budget, and can be read."""
    held, memory = learner.bytes_held(), learner.exemplars.memory
    assert isinstance(memory, EncodedMemory)
    state = learner.exemplars.state_dict()
    assert held.replay == len(state["rows"]) == int(state["lengths"].sum())
    header = len(learner.exemplars.storage.form.header)
    assert held.reading >= header + state["lengths"].nbytes + 4 * len(memory)
    assert held.replay + held.reading <= BUDGET
    for label in memory.counts:
        maps = learner.exemplars.storage.features(memory.class_rows(label))
        assert maps.shape == (memory.count(label), *learner.network.feature_shape)


@pytest.mark.parametrize(("name", "settings"), [*variants()])
def test_real_bytes_are_within_the_budget_at_every_step(name: str, settings: dict[str, Any]):
    learner = learn(learner_of(name, **settings), range(3))
    assert learner.config.jpeg_quality == 75
    held, memory = learner.bytes_held(), learner.exemplars.memory
    longest = max(cost for label in memory.counts for cost in memory.costs(label))
    # Six classes, or three tasks, have shares, unless all exemplars share one room.
    policy = settings.get("write_policy")
    shared = name in ("gss", "rainbow") or policy in ("on-arrival", "reservoir")
    shares = 3 if name == "gem" else 1 if shared else 6
    assert BUDGET - (held.replay + held.reading) < shares * longest
    # Of these, each is kept with 16 logits.
    assert len(memory) >= (6 if name in ("der", "derpp") else 18)


@pytest.mark.parametrize(("name", "settings"), [*variants()])
def test_saved_and_loaded_it_goes_on_to_the_bit(
    name: str, settings: dict[str, Any], tmp_path, monkeypatch
):
    monkeypatch.setattr(persistence, "build_network", lambda *_: tiny_network(0.3))
    learner = learn(learner_of(name, **settings), range(2))
    learner.save(tmp_path / "half")
    loaded = persistence.load_learner(tmp_path / "half")
    one, other = (learn(each, range(2, 3)).state_dict() for each in (learner, loaded))
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.parametrize("name", ["er", "crumb"])
@pytest.mark.parametrize("form", [{"exemplar_side": 4}, {"jpeg_quality": 20}])
def test_new_images_are_seen_as_stored_ones_are(name: str, form: dict[str, Any]):
    learner = learner_of(name, **form)
    images = images_of(0, 3)
    storage = learner.exemplars.storage
    batch = Batch(torch.zeros(3).long(), learner.network.features(images), images)
    torch.testing.assert_close(learner.features(images), storage.features(storage.encode(batch)))
    assert not torch.allclose(learner.features(images), batch.features)
    sharp = learner_of(name, new_as_stored=False, **form)
    assert torch.equal(sharp.features(images), batch.features)


def test_observe_and_predict_see_images_as_they_are_stored():
    learner = learner_of("er", exemplar_side=4)
    seen = []
    features = learner.network.features
    learner.network.features = lambda images: (seen.append(images), features(images))[1]
    learner.observe(images_of(0, 2), "a")
    learner.predict(images_of(0, 2))
    assert all(torch.equal(each, learner.form(images_of(0, 2))) for each in (seen[0], seen[-1]))


def test_pixels_of_full_size_are_new_images_themselves():
    assert learner_of("er", jpeg_quality=0, exemplar_side=8).form is None


def test_pixels_are_the_default_of_a_capacity_in_exemplars():
    learner = ExperienceReplay(tiny_network(), ErConfig(memory_size=5))
    assert (learner.config.jpeg_quality, learner.config.exemplar_side) == (0, 8)
    encoded = ExperienceReplay(tiny_network(), ErConfig(memory_size=5, jpeg_quality=50))
    encoded.add_classes(["a", "b"])
    encoded.learn(batch_of(encoded, *[0, 1] * 5))
    assert isinstance(encoded.exemplars.memory, EncodedMemory)
    assert len(encoded.exemplars) == 5


def test_crumb_keeps_images_as_large_as_lets_many_fit():
    learner = Crumb(tiny_network(), CrumbConfig(storage="image", memory_bytes=5000))
    assert learner.config.exemplar_side == 8
    exemplars: Any = learner.exemplars
    assert learner.bytes_held().extra == len(exemplars.storage.form.header)


@pytest.mark.parametrize("perturb", ["feature", "image"])
def test_views_are_of_images_as_they_are_stored(perturb: Any):
    config = RainbowConfig(budget_bytes=BUDGET, perturb=perturb, memory_only_epochs=0, views=2)
    assert len(learn(Rainbow(tiny_network(), config), range(2)).exemplars) >= 4


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"jpeg_quality": 96}, "jpeg_quality=96.*from 1 to 95, or 0"),
        ({"jpeg_quality": -1}, "jpeg_quality=-1"),
        ({"exemplar_side": 0}, "exemplar_side=0"),
        ({"storage": "raw_feature", "jpeg_quality": 75}, "jpeg_quality=75: has no effect with st"),
        ({"storage": "raw_feature", "new_as_stored": False}, "new_as_stored=False: has no effect"),
        ({"storage": "raw_feature", "exemplar_side": 8}, "exemplar_side=8: has no effect with st"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], named: str):
    with pytest.raises(InputError, match=named):
        ErConfig(**settings)


def test_settings_of_images_go_with_the_images():
    config = CrumbConfig(storage="image", jpeg_quality=50, new_as_stored=False)
    changed = adapted(config, storage="feature")
    assert (changed.jpeg_quality, changed.new_as_stored) == (None, True)


def test_a_budget_for_less_than_what_jpeg_files_have_in_common():
    with pytest.raises(InputError, match=r"budget_bytes=600: .*the 623 bytes.*at least \d+"):
        learner_of("er", budget_bytes=600)
