"""What the arms of the ablation study need of CRUMB and of pretrained files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from networks import batch_of, tiny_network

from crumb.data.batches import Batch
from crumb.errors import InputError
from crumb.methods.crumb import Crumb, CrumbConfig
from crumb.methods.persistence import load_pretrained


def learner_of(seed: int = 0, **settings: Any) -> Any:
    learner = Crumb(tiny_network(), CrumbConfig(memory_size=8, lr=0.1, **settings), seed)
    learner.start_head(4)
    learner.begin_task(["a", "b", "c", "d"])
    return learner


def state_of(learner: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in learner.state_dict().items()}


@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_blocks_stay_as_they_are_while_the_tail_learns(frozen: bool):
    learner = learner_of(frozen_blocks=frozen)
    learner.statistics(batch_of(learner, 0, 1))
    before = {name: value.detach().clone() for name, value in learner.parameters().items()}
    assert "codebook.blocks" in before
    for step in range(3):
        # With exemplars, replay would reach the blocks as well.
        row = learner.codebook.encode(batch_of(learner, 3, seed=step).features)
        learner.exemplars.memory.add(3, row)
        assert "replay" in learner.learn(batch_of(learner, 0, 1, 2, seed=step))
    after = learner.parameters()
    assert after["codebook.blocks"].equal(before["codebook.blocks"]) is frozen
    tail = [name for name in before if name.startswith("tail.")]
    assert not any(after[name].equal(before[name]) for name in tail)


def test_enhanced_features_are_weighed_by_the_gradient_of_the_loss():
    learner = learner_of(storage="enhanced_feature")
    batch = batch_of(learner, 0, 1, 2)
    features = batch.features.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(learner.loss(features, batch.labels), features)
    saliency = gradient.abs()
    wanted = batch.features * saliency / saliency.mean()
    # As the memory is written: without gradients, and leaving none behind.
    with learner.evaluation():
        batch = Batch(batch.labels + 0, batch.features + 0)
        assert batch.labels.is_inference()
        found = learner.exemplars.storage.encode(batch)
    torch.testing.assert_close(found, wanted)
    assert not found.requires_grad
    assert all(p.grad is None for p in learner.parameters().values())
    assert not found.allclose(batch.features)
    assert learner.exemplars.storage.features(found).equal(found)


def test_features_that_no_loss_depends_on_are_kept_as_they_are():
    learner = learner_of(storage="enhanced_feature")
    batch = batch_of(learner, 0, 1)
    with torch.no_grad():
        for parameter in learner.network.tail.parameters():
            parameter.zero_()
    assert learner.exemplars.storage.encode(batch).equal(batch.features)


@pytest.mark.parametrize(
    ("parts", "tail", "blocks"),
    [("both", True, True), ("weights", True, False), ("blocks", False, True)],
)
def test_parts_of_a_pretrained_file(tmp_path: Path, parts: Any, tail: bool, blocks: bool):
    source = learner_of(seed=1)
    for step in range(3):
        source.learn(batch_of(source, 0, 1, 2, seed=step))
    source.save(tmp_path / "file")
    trained, learner = state_of(source), learner_of()
    before = state_of(learner)
    load_pretrained(learner, tmp_path / "file", parts)
    after = learner.state_dict()
    head = f"network.tail.{learner.network.head_name}."
    body = [n for n in before if n.startswith("network.tail.") and not n.startswith(head)]
    changed = [n for n in body if not trained[n].equal(before[n])]
    assert changed
    for name in changed:
        assert after[name].equal(trained[name]) is tail
        assert after[name].equal(before[name]) is not tail
    assert after["codebook.blocks"].equal(trained["codebook.blocks"]) is blocks
    assert bool(after["codebook.initialised"]) is blocks
    for name in before:
        assert after[name].equal(before[name]) or not name.startswith(head), name


def test_weights_alone_need_no_codebook_of_the_same_size(tmp_path: Path):
    source = learner_of(blocks=16)
    source.learn(batch_of(source, 0, 1))
    source.save(tmp_path / "file")
    load_pretrained(learner_of(blocks=8), tmp_path / "file", "weights")
    for parts in ("both", "blocks"):
        with pytest.raises(InputError, match="holds a codebook of"):
            load_pretrained(learner_of(blocks=8), tmp_path / "file", parts)
