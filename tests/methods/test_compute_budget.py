"""``compute_budget``: maps through the tail per new image, by hand, kept, resumed and refused."""

from __future__ import annotations

from typing import Any

import pytest
from networks import Task, batch_of, tiny_network

from crumb.errors import InputError
from crumb.methods.compute import Budgeted, TailBudget
from crumb.methods.crumb_config import CrumbConfig
from crumb.methods.registry import find_method, methods
from crumb.testing import variants
from crumb.testing.memory_checks import check_all_that_is_kept_is_claimed
from crumb.testing.resuming_checks import check_saved_and_loaded_it_goes_on_to_the_bit

STORED = {"storage": "raw_feature"}
KEEPING: dict[str, dict[str, Any]] = {
    "er": STORED,
    "er_ace": STORED,
    "der": STORED,
    "derpp": STORED,
    "scr": STORED,
    "crumb": {"write_policy": "end-of-task"},
    "remind": {"images_per_step": 2},
    "siesta": {"sleep_batch_size": 6},
}
REFUSING = ("mir", "gss", "gem", "agem", "agem_r", "icarl", "aanets", "bic", "rainbow", "gdumb")


def maps_per_image(name: str, budget: int, **more: Any) -> float:
    """Of three tasks of two classes, of which the first is read twice."""
    kind = find_method(name)
    settings = {"memory_size": 12, **KEEPING[name], **more}
    learner: Any = kind(tiny_network(), kind.Config(compute_budget=budget, **settings))
    images, maps = 0, 0

    def counted(call: Any, *given: Any) -> None:
        nonlocal maps
        before = learner.network.maps
        call(*given)
        maps += learner.network.maps - before

    for task, labels in enumerate(((0, 1), (2, 3), (4, 5))):
        learner.begin_task([f"class {label}" for label in labels])
        read = [batch_of(learner, *labels * 3, seed=10 * task + seed) for seed in range(6)]
        for _ in range(2 if task == 0 else 1):
            for batch in read:
                counted(learner.learn, batch)
                learner.predict(batch.images)
                images += len(batch)
        if learner.needs_task_boundaries:
            counted(learner.end_task, Task(read))
    return maps / images


@pytest.mark.parametrize("budget", [3, 6])
@pytest.mark.parametrize("name", KEEPING)
def test_so_many_maps_per_new_image(name: str, budget: int):
    assert maps_per_image(name, budget) == pytest.approx(budget, abs=0.1)


@pytest.mark.parametrize("name", ["er", "crumb", "siesta"])
def test_measuring_for_grasp_is_within_the_budget(name: str):
    assert maps_per_image(name, 5, draw_policy="grasp") == pytest.approx(5, abs=0.3)


def test_several_replay_steps_and_both_losses_are_within_the_budget():
    more = {"replay_times": 3, "direct_loss": 1.0}
    assert maps_per_image("crumb", 6, **more) == pytest.approx(6, abs=0.1)


def test_counts_by_hand():
    network = tiny_network()
    budget = TailBudget(network, 5)
    budget.begin(4)
    assert budget.replayed(4) == 16
    assert budget.replayed(4, passes=2) == 6
    assert budget.replayed(4, draws=2) == 8
    network.maps += 4
    budget.note()
    assert budget.left == budget.after(4) == 16
    # Nothing was replayed: the next batch makes up for it, by twice as many at most.
    budget.begin(4)
    assert budget.replayed(4) == 32
    network.maps += 100
    budget.note()
    budget.begin(4)
    assert budget.left == 16 + 20 - 100 + 20
    assert budget.replayed(4) == budget.after(4) == 0


@pytest.mark.parametrize("name", KEEPING)
def test_conforms(name: str):
    (variant, *_) = variants(find_method(name), compute_budget=4, **KEEPING[name])
    check_saved_and_loaded_it_goes_on_to_the_bit(variant)
    check_all_that_is_kept_is_claimed(variant)


@pytest.mark.parametrize("name", [*REFUSING, "cope"])
def test_a_method_that_cannot_keep_it_says_why(name: str):
    kind = find_method(name)
    line = f"^compute_budget=4: cannot be kept by {name}, because "
    with pytest.raises(InputError, match=line):
        kind(tiny_network(), kind.Config(compute_budget=4))


def test_every_replay_method_keeps_or_refuses_it():
    having = {name for name, kind in methods().items() if issubclass(kind, Budgeted)}
    assert having == {*KEEPING, *REFUSING, "cope"}
    assert having == {n for n, kind in methods().items() if hasattr(kind.Config, "compute_budget")}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("remind", {"rehearsal_samples_per_update": 20}),
        ("siesta", {"sleep_steps": 20}),
        ("scr", {"replay_size": 20}),
    ],
)
def test_what_it_replaces_has_no_effect(name: str, settings: dict[str, int]):
    with pytest.raises(InputError, match=r"has no effect with compute_budget=4"):
        find_method(name).Config(compute_budget=4, **settings)


def test_impossible_settings():
    unused: list[dict[str, Any]] = [{"storage": "none"}, {"replay_times": 0}]
    for settings in unused:
        with pytest.raises(InputError, match=r"^compute_budget=4: has no effect"):
            CrumbConfig(compute_budget=4, **settings)
    with pytest.raises(InputError, match=r"^compute_budget=4: cannot be kept with storage="):
        CrumbConfig(compute_budget=4, storage="enhanced_feature")
    with pytest.raises(InputError, match=r"^compute_budget=1: .*from 2"):
        CrumbConfig(compute_budget=1)
