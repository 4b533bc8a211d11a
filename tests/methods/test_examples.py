"""The seven tiny methods conform, and each gets what it asks for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from examples import (
    EXAMPLES,
    AdamFinetune,
    CopyingReplay,
    FromTheStart,
    LogitReplay,
    LowRank,
    Seen,
)
from networks import batch_of, tiny_network

from crumb.methods.base import Learner
from crumb.methods.er import ExperienceReplay
from crumb.methods.optimisation import optimizer_state, restore_optimizer
from crumb.methods.slda import StreamingLda
from crumb.testing import checks_of, variants
from crumb.testing.conformance import check_learner, run_check
from crumb.testing.runs import END_OF_FIRST, finish

PAIRS = [
    pytest.param(variant, name, check, id=f"{variant}-{name}")
    for kind in EXAMPLES
    for variant in variants(kind, **({"lr": 0.01} if kind.trains else {}))
    for name, check in checks_of(variant).items()
]


@pytest.mark.parametrize(("variant", "name", "check"), PAIRS)
def test_conforms(variant, name, check):
    run_check(variant, name, check)


def made(kind: type[Learner], **settings: Any) -> Any:
    return kind(tiny_network(0.3), kind.Config(**settings))


def test_a_check_that_fails_names_method_and_check():
    class Leaky(AdamFinetune):
        """Keeps a batch and does not say so."""

        name = "leaky"

        def learn(self, batch):
            self.kept = batch
            return super().learn(batch)

    with pytest.raises(AssertionError, match="^leaky, .*holds on to nothing.*still referred to"):
        check_learner(Leaky, lr=0.01)


def test_the_logits_are_those_of_the_time_of_storing():
    learner = made(LogitReplay, memory_size=40, storage="raw_feature")
    learner.add_classes(["a", "b"])
    learner.learn(batch_of(learner, 0, 1))
    with learner.inference():
        expected = learner.active(learner.network(learner.exemplars.memory.class_rows(0)))
    first = learner.exemplars.memory.payload_of(0)
    assert torch.allclose(first["logits"][:, :2].float(), expected, atol=1e-3)
    assert first["known"].tolist() == [2]
    learner.add_classes(["c"])
    learner.learn(batch_of(learner, 2, 0))
    kept = learner.exemplars.memory.payload_of(0)
    assert torch.equal(kept["logits"][:1], first["logits"])
    assert kept["known"].tolist() == [2, 3]
    each = 2 * 20 + 2
    # A row number beside each, and what the policy counts of three classes.
    assert learner.bytes_held().reading == 4 * (each + 4) + 3 * 24


def test_the_rate_falls_over_a_task_and_the_weights_go_back_after_it():
    learner = made(FromTheStart, lr=0.5, memory_size=6, storage="raw_feature")
    before = {name: p.detach().clone() for name, p in learner.parameters().items()}
    rates = []
    learner.expect_task(4)
    learner.begin_task(["a", "b"])
    for seed in range(4):
        learner.learn(batch_of(learner, 0, 1, seed=seed))
        rates.append(learner.optimizer.param_groups[0]["lr"])
    assert rates == [0.5, 0.375, 0.25, 0.125]
    learner.reset()
    for name, p in learner.parameters().items():
        assert torch.equal(p, before[name]) != name.startswith("tail.classifier"), name
    assert learner.optimizer.param_groups[0]["lr"] == 0.5
    assert not learner.optimizer.state


def test_what_was_prepared_lasts_as_long_as_the_evaluation():
    learner = made(FromTheStart, memory_size=6, storage="raw_feature")
    finish(learner, stop=END_OF_FIRST + 1)
    features = batch_of(learner, 0, 1).features
    with learner.evaluation():
        assert learner.prepared.tolist() == pytest.approx([1.0986, 1.0986], abs=1e-3)
        with learner.evaluation():
            inside = learner.scores(features)
        assert not learner.network.training
        assert torch.equal(learner.scores(features), inside)
    assert learner.prepared is None
    assert learner.network.training


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (torch.optim.Adam, {"amsgrad": True}),
        (torch.optim.AdamW, {"weight_decay": 0.1}),
        (torch.optim.NAdam, {}),
        (torch.optim.RMSprop, {"momentum": 0.5, "centered": True}),
        (torch.optim.Adagrad, {}),
        (torch.optim.ASGD, {}),
        (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    ],
)
def test_any_optimizer_is_resumed_to_the_bit(kind, settings):
    def start():
        weights = {n: torch.nn.Parameter(torch.full((3, 2), 0.5)) for n in ("one", "two.three")}
        return weights, kind([*weights.values()], lr=0.01, **settings)

    def steps(weights, optimizer, numbers):
        for number in numbers:
            for place, p in enumerate(weights.values()):
                p.grad = torch.linspace(-1, 1, 6).view(3, 2) * (number + place)
            optimizer.param_groups[0]["lr"] = 0.01 / (number + 1)
            optimizer.step()

    weights, optimizer = start()
    steps(weights, optimizer, range(3))
    saved = optimizer_state(optimizer, weights)
    again, other = start()
    with torch.no_grad():
        for name, p in again.items():
            p.copy_(weights[name])
    restore_optimizer(other, again, {name: value.clone() for name, value in saved.items()})
    assert other.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"] == 0.01 / 3
    for one, its in ((weights, optimizer), (again, other)):
        steps(one, its, range(3, 6))
    assert all(torch.equal(p, again[name]) for name, p in weights.items())


def test_an_optimizer_whose_state_cannot_be_saved_says_so():
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.LBFGS([weight])
    optimizer.step(lambda: weight.square().sum().backward() or weight.square().sum())  # type: ignore
    with pytest.raises(TypeError, match="LBFGS keeps .* cannot be saved"):
        optimizer_state(optimizer, {"weight": weight})


def test_adapters_are_trained_and_the_tail_is_not():
    learner = made(LowRank, lr=0.1)
    plain = tiny_network(0.3)
    features = batch_of(learner, 0, 1).features
    learner.network.eval()
    entering = learner.network.penultimate(features)
    assert torch.equal(entering, plain.eval().penultimate(features))
    learner.network.train()
    finish(learner, stop=END_OF_FIRST)
    own, other = (
        dict(one.tail.named_parameters())["norm.weight"] for one in (learner.network, plain)
    )
    assert torch.equal(own, other)
    assert not torch.equal(learner.network.penultimate(features), entering)
    assert learner.bytes_held().extra == 2 * 4 * (8 * 2 + 2 * 8)
    with pytest.raises(ValueError, match="is the head"):
        learner.add_adapter("head", torch.nn.Identity(), "classifier")


def test_more_than_the_budget_is_told_where_all_bytes_count():
    learner = made(CopyingReplay, budget_bytes=700, storage="raw_feature", lr=0.01)
    finish(learner)
    held = learner.bytes_held()
    assert held.replay + held.reading <= 700 < held.replay + held.extra
    assert CopyingReplay.over_budget(held.replay + held.extra, 700)
    assert not CopyingReplay.over_budget(700, 700)
    assert not ExperienceReplay.over_budget(held.replay + held.extra, 700)
    assert StreamingLda.over_budget(701, 700)


def test_a_stream_tells_the_length_of_a_task_and_shows_images_in_each_reading(
    streamed, monkeypatch
):
    """The method is named by where it lies, as that of any package can be."""
    monkeypatch.setattr(Seen, "told", told := [])
    record = streamed("--method", "examples:Seen", "--save-model").finished()[0]
    tasks = len(record.scores)
    assert told.count("begin") == tasks > 1
    for _ in range(tasks):
        length = told.pop(0)
        assert told.pop(0) == "begin"
        # The number of images of each batch.
        assert min(told.pop(0) for _ in range(length)) > 0
    assert not told
