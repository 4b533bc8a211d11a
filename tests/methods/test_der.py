"""DER and DER++: the steps by hand, and the stored logits."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from linear_tail import batch_at, head_of, linear_learner, vectors
from networks import TERMS, batch_of, tiny_network
from tests.rounding import assert_rounded, rounded

from crumb.errors import InputError
from crumb.methods.der import Der, DerConfig
from crumb.methods.derpp import Derpp, DerppConfig


def stored_logits(learner: Any, label: int) -> torch.Tensor:
    return learner.exemplars.memory.payload_of(label)["logits"]


def with_exemplar(kind: Any, **settings: Any) -> Any:
    """(1, 1) of class 0 is stored with logits 3 and 1; now they are 2 and 0."""
    learner = linear_learner(kind, [[2.0, 0.0], [0.0, 0.0]], **settings)
    learner.exemplars.on_batch(batch_at([0], (1, 1)), {"logits": torch.tensor([[3.0, 1.0]])})
    return learner


def test_step_of_der_by_hand():
    learner = with_exemplar(Der, alpha=0.5)
    losses = learner.learn(batch_at([1], (0, 1)))
    # The new image: logits 0 and 0, p = 1/2. The exemplar: (1 + 1) / 2.
    assert losses["direct"].item() == rounded(math.log(2), terms=4)
    assert losses["logits"].item() == rounded(1.0, terms=4)
    # Direct: (1/2, -1/2) times (0, 1). Logits: 1/2 * (-1, -1) times (1, 1).
    weights, biases = head_of(learner)
    assert_rounded(weights, [[2.25, 0], [0.25, 0.5]], terms=4, magnitude=3)
    assert_rounded(biases, [0, 0.5], terms=4, magnitude=3)


def test_step_of_derpp_adds_the_cross_entropy_of_exemplars():
    learner = with_exemplar(Derpp, alpha=0.5, beta=0.25)
    losses = learner.learn(batch_at([1], (0, 1)))
    p = 1 / (1 + math.exp(2))
    assert losses["replay"].item() == rounded(-math.log(1 - p), terms=4, magnitude=2)
    # Besides the step of DER: beta * (-p, p) times (1, 1), times the learning rate of 1/2.
    more = 0.25 * p / 2
    weights, biases = head_of(learner)
    expected = [[2.25 + more, more], [0.25 - more, 0.5 - more]]
    assert_rounded(weights, expected, terms=4, magnitude=3)
    assert_rounded(biases, [more, 0.5 - more], terms=4, magnitude=3)


def test_outputs_that_no_class_uses_take_part():
    """They are pushed down, and stored as they are."""
    learner = linear_learner(Der, [[0.0, 0.0]] * 3, known=1)
    losses = learner.learn(batch_at([0], (0, 1)))
    assert losses["direct"].item() == rounded(math.log(3), terms=4)
    weights, _ = head_of(learner)
    assert_rounded(weights, [[0, 1 / 3], [0, -1 / 6], [0, -1 / 6]], terms=4)
    learner.learn(batch_at([0], (0, 1)))
    # 1/3 by the weight and 1/3 by the bias.
    assert_rounded(stored_logits(learner, 0)[-1], [2 / 3, -1 / 3, -1 / 3], terms=4)
    assert learner.scores(vectors((0, 1))).shape == (1, 1)


def test_the_logits_of_the_training_pass_are_stored():
    learner = linear_learner(Der, [[2.0, 0.0], [0.0, 3.0]])
    learner.learn(batch_at([1], (1, 2)))
    assert stored_logits(learner, 1).tolist() == [[2.0, 6.0]]
    assert head_of(learner)[0] != [[2.0, 0.0], [0.0, 3.0]]


def test_every_epoch_stores():
    learner = linear_learner(Der, [[2.0, 0.0], [0.0, 0.0]])
    learner.learn(batch_at([1], (1, 0)))
    learner.learn(batch_at([1], (1, 0), first=False))
    first, second = stored_logits(learner, 1).tolist()
    assert first == [2.0, 0.0]
    assert second[0] < first[0]
    assert Der(tiny_network(), DerConfig(memory_size=4)).wants_images


def test_exemplars_get_the_logits_of_fresh_outputs():
    learner = with_exemplar(Der)
    learner.exemplars.on_batch(batch_at([1], (1, 0)), {"logits": torch.tensor([[7.0, 8.0]])})
    learner.add_classes(["class 2"])
    assert learner.network.outputs == 4
    with torch.no_grad():
        now = learner.network(vectors((1, 1), (1, 0)))
    found = torch.cat([stored_logits(learner, 0), stored_logits(learner, 1)])
    assert found[:, :2].tolist() == [[3.0, 1.0], [7.0, 8.0]]
    assert_rounded(found[:, 2:], now[:, 2:], TERMS)
    assert found[:, 2:].abs().min() > 0


@pytest.mark.parametrize("policy", ["reservoir", "on-arrival", "greedy"])
@pytest.mark.parametrize("quality", [0, 75])
def test_logits_of_new_outputs_take_their_room_from_exemplars(policy: Any, quality: int):
    form: dict[str, Any] = {"exemplar_side": 8, "jpeg_quality": quality}
    learner: Any = Der(tiny_network(), DerConfig(budget_bytes=6000, write_policy=policy, **form))
    held = []
    for first in range(0, 40, 4):
        labels = range(first, first + 4)
        learner.add_classes([f"class {label}" for label in labels])
        # The logits of outputs that were just added count already.
        held.append(learner.bytes_held())
        learner.learn(batch_of(learner, *labels, *labels, seed=first))
        held.append(learner.bytes_held())
        stored = learner.exemplars.memory.payload.nbytes
        assert stored == 4 * learner.network.outputs * len(learner.exemplars)
    assert learner.network.outputs == 64
    assert all(one.replay + one.reading <= 6000 for one in held)
    assert held[-1].replay + held[-1].reading > 5000


def test_a_budget_that_logits_fill_is_refused_in_one_line():
    learner = Der(tiny_network(), DerConfig(budget_bytes=400, exemplar_side=8, jpeg_quality=0))
    with pytest.raises(InputError, match="budget_bytes=400: .*not even one exemplar of 596 bytes"):
        learner.add_classes([f"class {label}" for label in range(100)])


@pytest.mark.parametrize(
    ("config", "settings", "named"),
    [
        (DerConfig, {"alpha": -1.0}, "alpha=-1.0"),
        (DerppConfig, {"beta": float("inf")}, "beta=inf"),
        (DerConfig, {"write_policy": "end-of-task"}, "write_policy='end-of-task'"),
    ],
)
def test_impossible_settings(config: Any, settings: dict[str, Any], named: str):
    with pytest.raises(InputError, match=named):
        config(**settings)


def test_defaults_are_the_authors():
    """For CIFAR-10 and 500 exemplars."""
    assert DerConfig().alpha == 0.3
    assert (DerppConfig().alpha, DerppConfig().beta) == (0.2, 0.5)
    assert DerConfig().write_policy == DerppConfig().write_policy == "reservoir"
