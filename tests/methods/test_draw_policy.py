"""``draw_policy``: methods that draw by GRASP, within their budget, and resumed exactly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from networks import batch_of, learn_task, tiny_network

from crumb.errors import InputError
from crumb.methods.cope import CopeConfig
from crumb.methods.crumb_config import CrumbConfig
from crumb.methods.registry import find_method, methods
from crumb.testing import Variant, variants
from crumb.testing.conformance import run_check
from crumb.testing.memory_checks import (
    check_a_budget_in_bytes_is_kept_at_every_step_and_used,
    check_a_budget_in_bytes_is_kept_with_many_classes,
    check_all_that_is_kept_is_claimed,
)
from crumb.testing.resuming_checks import check_saved_and_loaded_it_goes_on_to_the_bit

CHECKS = (
    check_a_budget_in_bytes_is_kept_at_every_step_and_used,
    check_a_budget_in_bytes_is_kept_with_many_classes,
    check_all_that_is_kept_is_claimed,
    check_saved_and_loaded_it_goes_on_to_the_bit,
)
DRAWING: dict[str, dict[str, Any]] = {
    "er": {"storage": "raw_feature", "write_policy": "end-of-task"},
    "er_ace": {"storage": "image", "write_policy": "reservoir"},
    "derpp": {"storage": "raw_feature", "write_policy": "on-arrival"},
    "crumb": {"storage": "feature", "write_policy": "end-of-task"},
    "siesta": {"sleep_steps": 3, "sleep_batch_size": 6},
}
PRESCRIBED = ("mir", "gdumb", "agem", "agem_r")


def drawing() -> Iterator[Any]:
    for name, settings in DRAWING.items():
        (variant,) = variants(find_method(name), draw_policy="grasp", **settings)
        for check in CHECKS:
            yield pytest.param(variant, check, id=f"{name}-{check.__name__}")


@pytest.mark.parametrize(("variant", "check"), list(drawing()))
def test_conforms(variant: Variant, check: Any):
    run_check(variant, check.__name__, check)


@pytest.mark.parametrize("name", DRAWING)
def test_replay_is_drawn_by_it_and_uniformly_without(name: str):
    kind, settings = find_method(name), DRAWING[name]
    drawn: dict[str, int] = {}
    for policy in ("grasp", "uniform"):
        chosen = {"draw_policy": policy, "memory_size": 6, **settings}
        learner: Any = kind(tiny_network(), kind.Config(**chosen))
        learner.begin_task(["a", "b"])
        learn_task(learner, 0, 1, 0, 1)
        learner.begin_task(["c", "d"])
        learner.learn(batch_of(learner, 2, 3))
        memory = learner.exemplars.memory
        stored = [memory.payload_of(label).get("draws") for label in memory.counts]
        drawn[policy] = sum(int(one.sum()) for one in stored if one is not None)
    assert drawn["grasp"] > 0 == drawn["uniform"]


def test_embeddings_are_of_the_network_at_rest():
    """Neither dropout nor a gradient: measuring changes no later draw of a mask."""
    kind = find_method("er")
    config = kind.Config(memory_size=6, storage="raw_feature", draw_policy="grasp")
    learner: Any = kind(tiny_network(0.5), config)
    learner.begin_task(["a"])
    features = batch_of(learner, 0, 0).features
    state = learner.generators["dropout"].get_state()
    found = learner.embed_quietly(features)
    assert torch.equal(found, learner.embed_quietly(features))
    assert not found.requires_grad
    assert torch.equal(state, learner.generators["dropout"].get_state())
    assert learner.network.tail.training


@pytest.mark.parametrize("name", PRESCRIBED)
def test_a_method_whose_paper_prescribes_the_draw_refuses_another(name: str):
    with pytest.raises(InputError, match="draw_policy='grasp'.*uniform"):
        find_method(name).Config(draw_policy="grasp")


def test_only_these_methods_have_it():
    having = {name for name, kind in methods().items() if hasattr(kind.Config, "draw_policy")}
    assert having == {*DRAWING, *PRESCRIBED, "der", "cope", "scr"}


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (CrumbConfig, {"storage": "merec"}),
        (CrumbConfig, {"storage": "none"}),
        (CrumbConfig, {"replay_times": 0}),
        (CopeConfig, {"storage": "none"}),
    ],
)
def test_refused_where_nothing_is_drawn(config: Any, settings: dict[str, Any]):
    with pytest.raises(InputError, match=r"^draw_policy='grasp': has no effect"):
        config(draw_policy="grasp", **settings)
