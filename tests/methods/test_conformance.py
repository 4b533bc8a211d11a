"""What every registered method must do. A new method is tested here unasked."""

from __future__ import annotations

import gc
import random
import weakref
from pathlib import Path
from typing import cast, get_type_hints

import numpy as np
import pytest
import torch
from networks import Task, batch_of, images_of, tiny_network

from crumb.data.batches import Batch
from crumb.errors import InputError
from crumb.kinds import choices_of
from crumb.memory.capacity import CAPACITIES
from crumb.methods import persistence
from crumb.methods.base import BytesHeld, Learner
from crumb.methods.finetune import Finetune
from crumb.methods.registry import find_method, methods

MEMORY = 6
NOT_MEMORY = {
    "codebook.initialised": "one bit: whether the blocks that are counted hold anything yet",
    "quantiser.ready": "one bit: whether the centroids that are counted hold anything yet",
    "directions": "follow from the pretrained network, like its weights",
}
"""What a learner's file holds besides network, generators, momentum and what is claimed, and why
that is not held against the past. Nothing that tells of a frame may be listed here."""
DOCS = Path(__file__).parents[2] / "docs/methods.md"


def variants():
    """Each method, and each value of its settings that changes what it keeps or when."""
    for name, kind in methods().items():
        names = get_type_hints(kind.Config)
        for storage in choices_of(names.get("storage")) or (None,):
            for policy in choices_of(names.get("write_policy")) or (None,):
                chosen = {"storage": storage, "write_policy": policy}
                sized = "memory_size" in names and storage not in ("merec", "none")
                chosen |= {"memory_size": MEMORY if sized else None}
                chosen = {key: value for key, value in chosen.items() if value is not None}
                yield pytest.param(
                    (name, chosen), id="-".join(filter(None, (name, storage, policy)))
                )


def maker(name, settings):
    """A function that builds learners of this method with these settings and more."""
    kind = find_method(name)

    def build(seed=0, dropout=0.3, device="cpu", network=None, **more) -> Learner:
        chosen = {**settings, **more}
        if "budget_bytes" in more:
            chosen.pop("memory_size", None)
        return kind(network or tiny_network(dropout), kind.Config(**chosen), seed, device)

    return build


def variants_that(holds):
    """Those of which something is true, by their method and settings."""
    found = []
    for one in variants():
        name, settings = cast(tuple[str, dict], one.values[0])
        if holds(find_method(name), settings):
            found.append(one)
    return found


def keeps_exemplars(kind, settings):
    return "memory_size" in settings


def has_a_budget(kind, settings):
    return kind.stores_exemplars() and settings.get("storage") not in ("merec", "none")


@pytest.fixture(params=list(variants()))
def make(request):
    return maker(*request.param)


@pytest.fixture(params=variants_that(keeps_exemplars))
def make_with_exemplars(request):
    return maker(*request.param)


@pytest.fixture(params=variants_that(has_a_budget))
def make_within_budget(request):
    return maker(*request.param)


@pytest.fixture(params=variants_that(lambda *one: not has_a_budget(*one)))
def make_without_budget(request):
    return maker(*request.param)


@pytest.fixture(autouse=True)
def tiny_backbone(monkeypatch):
    """Files name a backbone; loading one must find ours."""
    monkeypatch.setattr(persistence, "build_network", lambda config, seed: tiny_network(0.3))


def run(learner, tasks=((0, 1), (2, 3), (4, 5)), start=0):
    """Stream two classes at a time; yields after every batch."""
    for number, pair in enumerate(tasks[start:], start):
        if learner.needs_task_boundaries:
            learner.begin_task([f"class {label}" for label in pair])
        learner.meet([f"class {label}" for label in pair])
        batches = [batch_of(learner, *pair, *pair, seed=10 * number + i) for i in range(3)]
        for batch in batches:
            learner.learn(batch)
            yield learner
        if learner.needs_task_boundaries:
            learner.end_task(Task(batches))
            yield learner


def finish(learner, **kwargs):
    for _ in run(learner, **kwargs):
        pass
    return learner


def assert_same(one, other):
    assert one.classes == other.classes
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_is_documented(make):
    kind = type(make())
    assert kind.__doc__ is not None
    assert kind.summary
    assert kind.paper
    assert kind.keeps
    assert kind.name in methods()
    assert f"| `{kind.name}` |" in DOCS.read_text()


def kept_beyond_one_network(learner, network_names) -> int:
    """Bytes of all that a learner's file holds besides one network, generators and momentum.

    A replay memory is one tensor, as long as ``allocated`` says, and four bytes for each row of
    it: the number of the row, in the list of its class or of those that are free. Its file holds
    the rows in use and their labels.
    """
    total, state = 0, learner.state_dict()
    for name, value in state.items():
        stem, _, part = name.rpartition(".")
        rows = state.get(f"{stem}.allocated")
        if name.startswith(("generator.", "momentum.")) or name in {*network_names, *NOT_MEMORY}:
            continue
        if rows is None or part not in ("rows", "labels", "allocated"):
            total += value.nbytes
        elif part == "rows":
            total += int(rows) * (value[0].nbytes if len(value) else 0) + 4 * int(rows)
    return total


def test_all_that_is_kept_is_claimed(make):
    learner = make()
    network_names = {f"network.{name}" for name in learner.network.state_dict()}
    for _ in run(learner):
        held = learner.bytes_held()
        assert held.replay + held.extra == kept_beyond_one_network(learner, network_names)
        assert 0 <= held.reading <= held.extra


def test_memory_size_is_kept_at_every_step_and_used(make_with_exemplars):
    learner = make_with_exemplars()
    storage = learner.exemplars.storage
    row = torch.empty(storage.row_shape, dtype=storage.dtype, device="meta").nbytes
    for _ in run(learner):
        held = learner.bytes_held()
        assert held.replay <= MEMORY * row
        assert held.replay == learner.exemplars.memory.rows.nbytes
    assert learner.bytes_held().replay == MEMORY * row
    assert len(learner.exemplars.memory) >= MEMORY - 2


def test_what_is_kept_besides_exemplars_does_not_grow_with_the_frames_of_a_task(make):
    check_that_nothing_is_kept_of_each_frame(make)


def check_that_nothing_is_kept_of_each_frame(make):
    """The same tasks and classes in six times as many frames take no more bytes.

    Of exemplars there may be more, up to ``MEMORY``: a row number, a score, a label and a length of
    each, of eight bytes at most.
    """
    extra, room = [], 0
    for batches in (4, 24):
        learner = make()
        for number, pair in enumerate(((0, 1), (2, 3))):
            names = [f"class {label}" for label in pair]
            if learner.needs_task_boundaries:
                learner.begin_task(names)
            learner.meet(names)
            task = [batch_of(learner, *pair, seed=100 * number + i) for i in range(batches)]
            for batch in task:
                learner.learn(batch)
            if learner.needs_task_boundaries:
                learner.end_task(Task(task))
        extra.append(learner.bytes_held().extra)
        room = 32 * MEMORY if learner.stores_exemplars() else 0
    assert extra[1] <= extra[0] + room


def with_budget(make) -> tuple[Learner, int]:
    """A learner with a budget in bytes that it has to keep to, and the bytes."""
    learner = make()
    if getattr(learner, "exemplars", None) is None:
        # Half of what it holds where it may.
        held = finish(learner).bytes_held()
        budget = (held.replay + held.reading) // 2
    else:
        storage = learner.exemplars.storage
        row = torch.empty(storage.row_shape, dtype=storage.dtype, device="meta").nbytes
        # Of the images of 192 bytes, or of what else is kept; and of what it is read with.
        budget = storage.reader_bytes + (MEMORY + 3) * (max(row, 192) + 12) + 5
    return make(budget_bytes=budget), budget


def test_a_budget_in_bytes_is_kept_at_every_step_and_used(make_within_budget):
    learner, budget = with_budget(make_within_budget)
    for _ in run(learner):
        held = learner.bytes_held()
        assert held.replay + held.reading <= budget
    held = learner.bytes_held()
    assert held.replay + held.reading > budget / 3


def test_a_budget_for_nothing_is_refused(make_within_budget):
    with pytest.raises(InputError, match=r"budget_bytes=3: .*at least \d+"):
        make_within_budget(budget_bytes=3)


def test_a_method_without_exemplars_takes_no_budget(make_without_budget):
    """A budget that nothing keeps to would make it look as if it did."""
    kind = type(make_without_budget())
    for name in CAPACITIES:
        if name in kind.Config.__dataclass_fields__:
            with pytest.raises(InputError, match="no exemplars that a capacity could count"):
                make_without_budget(**{name: 10_000})
        else:
            with pytest.raises(TypeError, match=name):
                make_without_budget(**{name: 10_000})


def test_holds_on_to_nothing_that_it_was_shown(make):
    learner = make()
    kept = []

    def watched():
        for number, pair in enumerate(((0, 1), (2, 3))):
            learner.begin_task([f"class {label}" for label in pair])
            batches = [batch_of(learner, *pair, *pair, seed=10 * number + i) for i in range(3)]
            for batch in batches:
                parts = (batch, batch.features, batch.images, batch.labels)
                kept.extend(weakref.ref(part) for part in parts)
                learner.learn(batch)
            if learner.needs_task_boundaries:
                learner.end_task(Task(batches))

    watched()
    gc.collect()
    assert not [one for one in kept if one() is not None]
    # Nor to a view of it, which would keep the whole of it.
    for name, value in learner.state_dict().items():
        if not name.startswith("network."):
            assert value.untyped_storage().nbytes() <= 2 * max(value.nbytes, 256) + 4096, name


def test_same_seed_same_bytes(make):
    assert_same(finish(make(seed=3)), finish(make(seed=3)))


def test_another_seed_another_result(make):
    one, other = (finish(make(seed=seed)).state_dict() for seed in (3, 4))
    # The state of a generator is its seed as well, whether anything is drawn from it or not.
    results = {name: value for name, value in one.items() if not name.startswith("generator.")}
    assert any(not torch.equal(value, other[name]) for name, value in results.items())


def global_random_state():
    return torch.get_rng_state().tolist(), random.getstate(), repr(np.random.get_state())  # noqa: NPY002


def test_global_random_state_is_neither_used_nor_changed(make):
    torch.manual_seed(1)
    before = global_random_state()
    one = finish(make())
    assert global_random_state() == before
    torch.manual_seed(2)
    random.seed(2)
    np.random.seed(2)  # noqa: NPY002
    assert_same(one, finish(make()))


def test_saved_and_loaded_it_goes_on_to_the_bit(make, tmp_path):
    tasks = ((0, 1), (2, 3), (4, 5))
    undisturbed = finish(make(), tasks=tasks)
    half = finish(make(), tasks=tasks[:2])
    half.save(tmp_path / "half.crumb")
    loaded = persistence.load(tmp_path / "half.crumb")
    assert_same(loaded, half)
    assert_same(finish(loaded, tasks=tasks, start=2), undisturbed)


@pytest.mark.parametrize("after", [1, 5, 8])
def test_loaded_in_the_middle_of_a_task_it_goes_on_to_the_bit(make, tmp_path, after):
    undisturbed = finish(make())
    learner = other = make()
    for number, pair in enumerate(((0, 1), (2, 3), (4, 5))):
        if learner.needs_task_boundaries:
            learner.begin_task([f"class {label}" for label in pair])
        learner.meet([f"class {label}" for label in pair])
        batches = [batch_of(learner, *pair, *pair, seed=10 * number + i) for i in range(3)]
        for place, batch in enumerate(batches):
            learner.learn(batch)
            if 3 * number + place == after:
                learner.save(tmp_path / "half.crumb")
                learner = persistence.load(tmp_path / "half.crumb")
        if learner.needs_task_boundaries:
            learner.end_task(Task(batches))
    assert learner is not other
    assert_same(learner, undisturbed)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_learns_what_the_cpu_learns(make):
    one, other = finish(make(dropout=0.0)), make(dropout=0.0, device="cuda")
    for number, pair in enumerate(((0, 1), (2, 3), (4, 5))):
        if other.needs_task_boundaries:
            other.begin_task([f"class {label}" for label in pair])
        other.meet([f"class {label}" for label in pair])
        batches = [
            Batch(b.labels, b.features.cuda(), b.images if b.images is None else b.images.cuda())
            for b in (batch_of(one, *pair, *pair, seed=10 * number + i) for i in range(3))
        ]
        for batch in batches:
            other.learn(batch)
        if other.needs_task_boundaries:
            other.end_task(Task(batches))
    for name, value in one.parameters().items():
        torch.testing.assert_close(value, other.parameters()[name].cpu(), rtol=1e-2, atol=1e-3)


def test_saved_twice_gives_the_same_bytes(make, tmp_path):
    learner = finish(make())
    for name in ("one", "two"):
        learner.save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_loaded_learner_predicts_the_same(make, tmp_path):
    learner = finish(make())
    learner.save(tmp_path / "learner.crumb")
    images = torch.cat([images_of(label, 3, seed=50) for label in range(6)])
    assert persistence.load(tmp_path / "learner.crumb").predict(images) == learner.predict(images)


def test_new_classes_at_any_time_beyond_the_room_of_the_head(make):
    learner = make()
    for label in range(20):
        if learner.needs_task_boundaries:
            learner.begin_task([f"thing {label}"])
        learner.meet([f"thing {label}"])
        pixels = images_of(label % 6, 2, label)
        index = torch.full((2,), label)
        losses = learner.learn(Batch(index, learner.network.features(pixels), pixels))
        assert losses or not learner.trains
        assert all(value.isfinite() for value in losses.values())
    assert learner.classes == [f"thing {label}" for label in range(20)]
    assert learner.network.outputs >= 20
    assert set(learner.predict(images_of(0, 2))) <= set(learner.classes)


def test_batch_of_one_and_a_single_class(make):
    learner = make()
    learner.begin_task(["only"])
    learner.learn(batch_of(learner, 0))
    assert learner.predict(images_of(3, 2)) == ["only", "only"]


def evaluate(learner):
    """What a stream and a user ask for; the scores."""
    learner.predict(images_of(0, 4))
    features = batch_of(learner, 0, 1).features
    with learner.evaluation():
        scores, mem = learner.scores(features), learner.mem_scores(features)
    assert scores.shape == (2, len(learner.classes))
    assert mem is None or mem.shape == scores.shape
    return scores


def test_evaluation_changes_nothing(make):
    learner = finish(make())
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    held, scores = learner.bytes_held(), evaluate(learner)
    after = learner.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert learner.bytes_held() == held
    assert learner.network.tail.training
    assert torch.equal(evaluate(learner), scores)


def test_a_learner_that_is_tested_after_each_batch_learns_the_same(make):
    """Nothing that a test leaves behind, saved or not, is learned from."""
    learner = make()
    for _ in run(learner):
        evaluate(learner)
    assert_same(learner, finish(make()))


def test_learns_two_easy_classes(make):
    learner = make(dropout=0.0)
    learner.begin_task(["red", "blue"])
    for seed in range(60):
        batch = batch_of(learner, 0, 0, 1, 1, 0, 1, seed=seed)
        learner.learn(batch)
    wrong = [*learner.predict(images_of(0, 20, 500)), *learner.predict(images_of(1, 20, 501))]
    assert wrong == ["red"] * 20 + ["blue"] * 20


def test_front_never_changes(make):
    """Nor its batch norm's running statistics, which steps in train mode would move."""
    network = tiny_network(0.3, norm_in_front=True)
    before = {name: value.clone() for name, value in network.front.state_dict().items()}
    assert "stem.norm.running_mean" in before
    after = finish(make(network=network)).network.front.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_what_is_said_to_be_trained_is_what_changes(make):
    """All that the method names as trained, in most of its elements, and no other weight."""
    learner = make()
    learner.start_head(6)
    learner.begin_task([f"class {label}" for label in range(6)])
    trained = {name for name, p in learner.parameters().items() if p.requires_grad}
    before = {name: p.detach().clone() for name, p in learner.network.named_parameters()}
    for seed in range(3):
        learner.learn(batch_of(learner, *range(6), seed=seed))
    assert bool(trained) == learner.trains
    for name, p in learner.network.named_parameters():
        assert torch.equal(p, before[name]) != (name in trained), name


def test_a_task_is_read_again_only_where_the_method_says_so(make):
    learner = make()
    learner.begin_task(["a", "b"])
    task = Task([batch_of(learner, 0, 1)])
    learner.learn(task.batches[0])
    learner.end_task(task)
    assert (task.reads > 0) == learner.reads_twice
    assert learner.needs_task_boundaries or not learner.reads_twice


def test_the_end_of_a_task_trains_only_where_the_method_says_so(make):
    learner = make()
    assert learner.tested_after_task_end or not learner.learns_at_task_end
    assert learner.needs_task_boundaries or not learner.tested_after_task_end
    learner.begin_task(["a", "b"])
    task = Task([batch_of(learner, 0, 1, seed=seed) for seed in range(3)])
    for batch in task.batches:
        learner.learn(batch)
    before = {name: p.detach().clone() for name, p in learner.parameters().items()}
    learner.end_task(task)
    after = learner.parameters()
    same = all(torch.equal(value, after[name]) for name, value in before.items())
    assert same != learner.learns_at_task_end


def observing(make):
    """A learner that users may call observe of; None if it cannot learn so."""
    learner = make()
    if not learner.needs_task_boundaries and not learner.offline:
        return learner
    line = "tasks begin and end" if type(learner).needs_task_boundaries else "on-arrival"
    with pytest.raises(InputError, match="everything so far" if learner.offline else line):
        learner.observe(images_of(0, 1), "a")
    assert learner.classes == []
    return None


def test_observe_learns_in_batches_what_learn_learns(make):
    learner, other = observing(make), make()
    if learner is None:
        return
    pixels = torch.cat([images_of(0, 3), images_of(1, 2)])
    learner.observe(pixels, ["a", "a", "a", "b", "b"], batch_size=2)
    for labels, shown in zip(([0, 0], [0, 1], [1]), pixels.split(2), strict=True):
        other.meet(["ab"[label] for label in labels])
        other.learn(Batch(torch.tensor(labels), other.network.features(shown), shown))
    assert_same(learner, other)


def test_a_loss_that_is_not_finite_is_not_learned_from(make):
    learner = observing(make)
    if learner is None or not learner.trains:
        return
    learner.observe(torch.cat([images_of(0, 2), images_of(1, 2)]), ["a", "a", "b", "b"])
    with torch.no_grad():
        # Any that the method trains: not every one trains its head.
        next(iter(learner.parameters().values())).view(-1)[0] = float("nan")
    before = {name: p.detach().clone() for name, p in learner.parameters().items()}
    with pytest.raises(InputError, match="no longer finite"):
        learner.observe(images_of(0, 2), "a")
    after = learner.parameters()
    assert all(torch.equal(p.nan_to_num(), after[name].nan_to_num()) for name, p in before.items())


def test_labels_must_fit_the_images(make):
    learner = observing(make)
    if learner is None:
        return
    with pytest.raises(InputError, match="2 for 3 images"):
        learner.observe(images_of(0, 3), ["a", "b"])
    for labels in ([""], [3], 3):
        with pytest.raises(InputError, match="no class name"):
            learner.observe(images_of(0, 1), labels)
    with pytest.raises(InputError, match="no class has been observed"):
        learner.predict(images_of(0, 1))


def test_loaded_file_must_be_whole_and_ours(make, tmp_path):
    learner = finish(make())
    path = tmp_path / "learner.crumb"
    learner.save(path)
    content = path.read_bytes()
    for cut in (0, 7, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(InputError, match=r"learner\.crumb"):
            persistence.load(path)


def test_a_method_that_hoards_frames_does_not_conform():
    class Hoard(Finetune):
        name = "hoard"

        def __init__(self, *arguments, **settings):
            super().__init__(*arguments, **settings)
            self.kept = []

        def learn(self, batch):
            self.kept.append(batch.features.clone())
            return super().learn(batch)

        def bytes_held(self):
            return BytesHeld(0, sum(value.nbytes for value in self.kept))

    def build():
        return Hoard(tiny_network(), Hoard.Config())

    with pytest.raises(AssertionError):
        check_that_nothing_is_kept_of_each_frame(build)
