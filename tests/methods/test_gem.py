"""GEM: the dual problem against slow solutions, and the step along its answer."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import TERMS, Task, batch_of, images_of, tiny_network
from tests.rounding import assert_rounded
from torch import Tensor
from torch.nn.functional import cross_entropy

from crumb.data.batches import Batch
from crumb.errors import InputError
from crumb.methods import gem as module
from crumb.methods import persistence
from crumb.methods.finetune import Finetune
from crumb.methods.gem import EPSILON, Gem, GemConfig, project, solve_dual
from crumb.methods.registry import create

PLAIN = {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}


def objective(gram: np.ndarray, products: np.ndarray, v: np.ndarray) -> float:
    return float(0.5 * v @ (gram + EPSILON * np.eye(len(v))) @ v + products @ v)


def enumerated(gram: np.ndarray, products: np.ndarray, margin: float) -> np.ndarray:
    """Every choice of which bounds hold with equality; the best feasible one."""
    whole, best = gram + EPSILON * np.eye(len(products)), None
    for pattern in product((False, True), repeat=len(products)):
        free = np.array(pattern)
        v = np.full(len(products), margin)
        if free.any():
            linear = products[free] + whole[np.ix_(free, ~free)] @ v[~free]
            v[free] = np.linalg.solve(whole[np.ix_(free, free)], -linear)
        feasible = (v >= margin - 1e-12).all()
        if feasible and (best is None or objective(gram, products, v) < best[0]):
            best = objective(gram, products, v), v
    assert best is not None
    return best[1]


@given(st.integers(1, 4), st.integers(0, 10_000), st.sampled_from([0.0, 0.5, 1.0]), st.booleans())
def test_dual_against_every_active_set(tasks: int, seed: int, margin: float, alike: bool):
    draw = np.random.default_rng(seed)
    past, gradient = draw.normal(size=(tasks, 6)), draw.normal(size=6)
    if alike:
        past[:] = past[0]
    gram, products = past @ past.T, past @ gradient
    expected = enumerated(gram, products, margin)
    found = solve_dual(gram, products, margin)
    assert (found >= margin).all()
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("tasks", "points"), [(2, 401), (3, 81)])
def test_dual_against_a_dense_grid(tasks: int, points: int, seed: int):
    draw = np.random.default_rng(seed)
    past, gradient = draw.normal(size=(tasks, 5)), 2 * draw.normal(size=5)
    gram, products = past @ past.T, past @ gradient
    found = solve_dual(gram, products, 0.25)
    axis = np.linspace(0.25, 0.25 + 1.5 * (found.max() - 0.25) + 1, points)
    grid = np.stack(np.meshgrid(*[axis] * tasks), -1).reshape(-1, tasks)
    whole = gram + EPSILON * np.eye(tasks)
    values = 0.5 * np.einsum("ni,ij,nj->n", grid, whole, grid) + grid @ products
    step = axis[1] - axis[0]
    assert objective(gram, products, found) <= values.min() + 1e-9
    # The best point of the grid is about as near as the grid is fine.
    slack = 0.5 * np.linalg.eigvalsh(whole).max() * tasks * step**2 + 2 * tasks * step
    assert values.min() <= objective(gram, products, found) + slack


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_projection_without_margin_conflicts_with_no_task(scale: float):
    for seed in range(20):
        draw = torch.Generator().manual_seed(seed)
        past, gradient = torch.randn(3, 40, generator=draw), torch.randn(40, generator=draw)
        past *= scale
        projected = project(gradient, past, 0.0)
        if (past @ gradient >= 0).all():
            assert torch.equal(projected, gradient)
        elif scale > 1:
            assert (past @ projected >= -1e-5 * scale * gradient.norm()).all()


def test_projection_onto_one_task_by_hand():
    past, gradient = torch.tensor([[2.0, 0.0]]), torch.tensor([-1.0, 3.0])
    # v = 2 / (4 + 0.001), which leaves -1 + 2 v of the first component.
    projected = project(gradient, past, 0.0)
    torch.testing.assert_close(projected, torch.tensor([4 / 4.001 - 1, 3.0]))
    # The margin is larger than that: v = 1.
    torch.testing.assert_close(project(gradient, past, 1.0), torch.tensor([1.0, 3.0]))
    # No conflict, so the margin adds nothing.
    assert torch.equal(project(-gradient, past, 1.0), -gradient)


def test_gradients_that_are_not_finite_are_handed_on():
    gradient = torch.tensor([-1.0, 1.0])
    for value in ("nan", "inf"):
        past = torch.tensor([[1.0, 0.0], [float(value), 0.0]])
        assert torch.equal(project(gradient, past, 0.5), gradient)


def learner_of(**chosen: Any) -> Gem:
    learner = Gem(tiny_network(), GemConfig(**{"memory_size": 12, **PLAIN, **chosen}))
    learner.start_head(6)
    return learner


def learn_tasks(learner: Gem, tasks: int, start: int = 0) -> None:
    for task in range(start, start + tasks):
        pair = (2 * task, 2 * task + 1)
        learner.begin_task([f"class {label}" for label in pair])
        batches = Task([batch_of(learner, *pair * 2, seed=50 * task + 5 * i) for i in range(3)])
        for batch in batches:
            learner.learn(batch)
            shape = learner.exemplars.storage.row_shape
            assert shape is not None
            row = learner.exemplars.memory.rows[:0].new_empty(shape)
            assert learner.bytes_held().replay <= 12 * row.nbytes
        learner.end_task(batches)


def weights(learner: Any) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in learner.parameters().values()])


def largest_weight(learner: Any) -> float:
    return weights(learner).abs().max().item()


def flat(learner: Gem, features: Tensor, labels: Tensor) -> Tensor:
    """An independent gradient."""
    loss = cross_entropy(learner.network(features)[:, : len(learner.classes)], labels)
    parts = torch.autograd.grad(loss, [*learner.parameters().values()])
    return torch.cat([part.reshape(-1) for part in parts])


@pytest.mark.parametrize("storage", ["image", "raw_feature"])
@pytest.mark.parametrize("at_a_time", [2, 128])
def test_step_by_hand(storage: str, at_a_time: int, monkeypatch):
    monkeypatch.setattr(module, "AT_A_TIME", at_a_time)
    learner = learner_of(storage=storage, margin=0.5)
    learn_tasks(learner, 2)
    learner.begin_task(["class 4", "class 5"])
    assert learner.exemplars.memory.counts == {0: 6, 1: 6}
    # The first task's images under a label of the third pull against the first task.
    (old, old_labels), *_ = learner.exemplars.of_task(0, 6)
    assert set(old_labels.tolist()) <= {0, 1}
    batch = Batch(torch.full((6,), 4), old)
    past = [flat(learner, *next(iter(learner.exemplars.of_task(task, 6)))) for task in range(2)]
    gradient, before = flat(learner, batch.features, batch.labels), weights(learner)
    rows = torch.stack(past).double().numpy()
    products = rows @ gradient.double().numpy()
    assert products.min() < 0
    v = enumerated(rows @ rows.T, products, 0.5)
    expected = gradient + torch.from_numpy(v @ rows).float()
    learner.learn(batch)
    update = (before - weights(learner)) / 0.1
    assert_rounded(update, expected, TERMS, magnitude=largest_weight(learner) / 0.1)


def test_first_task_is_fine_tuning():
    learner, plain = learner_of(), Finetune(tiny_network(), Finetune.Config(**PLAIN))
    plain.start_head(6)
    for one in (learner, plain):
        one.begin_task(["class 0", "class 1"])
        for seed in range(4):
            one.learn(batch_of(one, 0, 1, seed=seed))
    assert torch.equal(weights(learner), weights(plain))


def test_no_conflict_is_fine_tuning():
    learner = learner_of()
    learn_tasks(learner, 1)
    (old, labels), *_ = learner.exemplars.of_task(0, 12)
    gradient, before = flat(learner, old, labels), weights(learner)
    learner.learn(Batch(labels, old))
    moved = before - weights(learner)
    assert_rounded(moved, 0.1 * gradient, TERMS, magnitude=largest_weight(learner))


def test_memory_is_divided_over_tasks():
    learner = learner_of()
    for task, share in enumerate((12, 6, 4)):
        learn_tasks(learner, 1, start=task)
        assert learner.exemplars.memory.counts == dict.fromkeys(range(task + 1), share)
        labels = [
            torch.cat([theirs for _, theirs in learner.exemplars.of_task(t, 5)])
            for t in range(task + 1)
        ]
        assert all(set(found.tolist()) <= {2 * t, 2 * t + 1} for t, found in enumerate(labels))


def test_saved_in_the_middle_of_a_task_it_goes_on_to_the_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(persistence, "build_network", lambda *_: tiny_network())
    first = learner_of(storage="raw_feature")
    learn_tasks(first, 2)
    first.begin_task(["class 4", "class 5"])
    first.learn(batch_of(first, 4, 5))
    first.save(tmp_path / "half")
    again: Any = persistence.load_learner(tmp_path / "half")
    for learner in (first, again):
        batches = Task([batch_of(learner, 4, 5, seed=seed) for seed in range(6)])
        for batch in batches:
            learner.learn(batch)
        learner.end_task(batches)
    one, other = first.state_dict(), again.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_observe_says_what_it_lacks():
    learner = create("gem", weights="random", backbone="squeezenet1_0")
    with pytest.raises(InputError, match=r"method='gem': needs task boundaries.*end_task"):
        learner.observe(images_of(0, 1), "a")


@pytest.mark.parametrize(
    ("chosen", "named"),
    [
        ({"margin": -0.1}, "margin=-0.1"),
        ({"margin": float("nan")}, "margin=nan"),
        ({"storage": "none"}, "storage='none'"),
        ({"memory_bytes": 0}, "memory_bytes"),
    ],
)
def test_impossible_settings(chosen: dict[str, Any], named: str):
    with pytest.raises(InputError, match=named):
        GemConfig(**chosen)


def test_exemplars_that_arrive_constrain_nothing_before_their_task_is_over():
    learner = Gem(tiny_network(), GemConfig(memory_size=6, write_policy="on-arrival"))
    assert not learner.needs_second_pass
    learn_tasks(learner, 1)
    plain = Gem(tiny_network(), GemConfig(memory_size=6))
    learn_tasks(plain, 1)
    for one, other in zip(learner.parameters().values(), plain.parameters().values(), strict=True):
        assert torch.equal(one, other)
    assert learner.exemplars.past == 1
    assert learner.exemplars.memory.count(0) == 6
