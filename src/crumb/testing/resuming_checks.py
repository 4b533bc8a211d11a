"""Checks of determinism and resuming: equal seeds give equal bytes, and loaded learners continue
bit for bit.
"""

from __future__ import annotations

from itertools import pairwise

import torch

from crumb.data.batches import Batch
from crumb.errors import InputError
from crumb.testing.expecting import assert_same, refused
from crumb.testing.learning_checks import evaluate
from crumb.testing.networks import images_of
from crumb.testing.runs import (
    EVENTS,
    LAST,
    SAVED,
    batch,
    begin,
    end,
    finish,
    loaded,
    main_run,
    other_run,
    saved,
    stream,
)
from crumb.testing.variants import Variant


def check_same_seed_same_bytes(variant: Variant) -> None:
    """Also where it is saved on the way, and whatever the global generators are at."""
    assert_same(main_run(variant).learner, other_run(variant), "two runs with one seed")


def check_another_seed_another_result(variant: Variant) -> None:
    """The seed has an effect."""
    other, stop = variant.make(seed=4), SAVED[0] + 1
    finish(other, stop=stop)
    one, state = main_run(variant).states[SAVED[0]], other.state_dict()
    # The state of a generator is its seed as well, whether anything is drawn from it or not.
    results = {name: value for name, value in one.items() if not name.startswith("generator.")}
    same = all(torch.equal(value, state[name]) for name, value in results.items())
    assert not same, "seeds 0 and 4 give the same"


def check_global_random_state_is_left_alone(variant: Variant) -> None:
    """Other parts of a program may draw from it."""
    assert main_run(variant).untouched, "the global random state is another after a run"


def check_saved_and_loaded_it_goes_on_to_the_bit(variant: Variant) -> None:
    """From within each task and from after one, each time up to where it was saved next."""
    run = main_run(variant)
    learner = run.copy(SAVED[0])
    for start, stop in pairwise(SAVED):
        state, before = learner.state_dict(), run.states[start]
        wrong = [name for name, value in before.items() if not torch.equal(value, state[name])]
        assert not wrong, f"after event {start}: {wrong} differ when it is loaded"
        finish(learner, start + 1, stop + 1)
        found = run.copy(stop)
        assert_same(learner, found, f"gone on from event {start} to {stop}")
        learner = found
    assert_same(learner, run.learner, "the file and the learner")


def check_saved_twice_gives_the_same_bytes(variant: Variant) -> None:
    """A file is the same whenever it is written."""
    run = main_run(variant)
    assert saved(run.learner) == saved(run.learner) == run.files[LAST], "two files differ"


def check_loaded_learner_predicts_the_same(variant: Variant) -> None:
    """A loaded learner predicts the same as the saved one."""
    run = main_run(variant)
    images = torch.cat([images_of(label, 3, seed=50) for label in range(6)])
    found = run.copy().predict(images), run.learner.predict(images)
    assert found[0] == found[1], f"{found[0]} when loaded, {found[1]} before"


def check_loaded_file_must_be_whole_and_ours(variant: Variant) -> None:
    """A truncated file is refused in one line."""
    content = main_run(variant).files[LAST]
    for cut in (0, 7, 100, len(content) // 2, len(content) - 1):
        with refused(r"learner\.crumb", InputError):
            loaded(content[:cut])


def check_evaluation_changes_nothing(variant: Variant) -> None:
    """Neither what is saved, nor the mode of the network, nor the next evaluation."""
    learner = main_run(variant).copy()
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    held, scores = learner.bytes_held(), evaluate(learner)
    after = learner.state_dict()
    assert before.keys() == after.keys(), f"{before.keys() ^ after.keys()} is in one only"
    wrong = [name for name, value in before.items() if not torch.equal(value, after[name])]
    assert not wrong, f"{wrong} differ"
    assert learner.bytes_held() == held, "other bytes are held"
    assert learner.network.tail.training, "the network is left in eval mode"
    assert learner.prepared is None, "what was prepared is kept"
    assert torch.equal(evaluate(learner), scores), "another evaluation gives other scores"


def check_a_learner_that_is_tested_after_each_batch_learns_the_same(variant: Variant) -> None:
    """Nothing that a test leaves behind, saved or not, is learned from."""
    learner = variant.make()
    for _ in stream(learner):
        evaluate(learner)
    assert_same(learner, main_run(variant).learner, "tested on the way or not")


def check_cuda_learns_what_the_cpu_learns(variant: Variant) -> None:
    """Up to rounding; only where there is a GPU."""
    one, other = variant.make(dropout=0.0), variant.make(dropout=0.0, device="cuda")
    finish(one)
    for event in range(EVENTS):
        task, place = divmod(event, 4)
        if place == 0:
            begin(other, task)
        if place == 3:
            if other.needs_task_boundaries:
                end(other, task)
            continue
        b = batch(one, event)
        images = b.images if b.images is None else b.images.cuda()
        other.learn(Batch(b.labels, b.features.cuda(), images))
    for name, value in one.parameters().items():
        there = other.parameters()[name].cpu()
        torch.testing.assert_close(value, there, rtol=1e-2, atol=1e-3, msg=name)
