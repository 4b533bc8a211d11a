"""The learner against numbers from an independent implementation (see tests/golden/README.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from crumb.data.batches import Batch
from crumb.data.images import load_images
from crumb.methods.crumb import Crumb, CrumbConfig
from crumb.nets.backbones import build_network
from crumb.nets.config import NetworkConfig

GOLDEN = Path(__file__).parents[1] / "golden"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
STREAM = json.loads((GOLDEN / "stream.json").read_text())
BATCH = 21


def features_of(learner, part):
    paths, labels = zip(*STREAM[part], strict=True)
    images = load_images(GOLDEN / "images", paths, 224)
    maps = torch.cat([learner.network.features(piece) for piece in images.split(BATCH)])
    return maps, torch.tensor(labels)


def batches(maps, labels):
    pieces = zip(maps.split(BATCH), labels.split(BATCH), strict=True)
    return [Batch(labels=label, features=features) for features, label in pieces]


def accuracy(learner, maps, labels):
    seen = labels < len(learner.classes)
    with learner.evaluation():
        direct, mem = learner.scores(maps[seen]), learner.mem_scores(maps[seen])
    return {
        name: 100 * (logits.argmax(1) == labels[seen]).float().mean().item()
        for name, logits in (("direct", direct), ("mem", mem))
    }


@pytest.fixture(scope="module")
def start():
    initial = load_file(GOLDEN / "initial.safetensors")
    source = NetworkConfig(
        "squeezenet1_0", weights=str(GOLDEN / "initial.safetensors"), dropout=0.0
    )
    learner: Any = Crumb(build_network(source), CrumbConfig(memory_size=2))
    learner.start_head(4)
    with torch.no_grad():
        learner.network.head.weight.copy_(initial["classifier.1.weight"])
        learner.network.head.bias.copy_(initial["classifier.1.bias"])
    learner.set_codebook(initial["codebook"])
    return learner, {part: features_of(learner, part) for part in STREAM if part != "classes"}


@pytest.fixture(scope="module")
def trace(start):
    """Losses, accuracies and tensors after each task of the golden stream."""
    learner, data = start
    result: dict[str, Any] = {"losses": {}, "accuracy": {}, "after": {}}
    first = batches(*data["task0"])[0]
    result["first"] = learner.statistics(first)
    result["codes"] = learner.codebook.encode(first.features[:1])[0]
    result["feature_mean"] = first.features.mean().item()
    for task, epochs in enumerate((6, 1)):
        learner.begin_task(STREAM["classes"][2 * task : 2 * task + 2])
        if task == 1:
            stored = load_file(GOLDEN / "memory_after_task0.safetensors")
            for label in (0, 1):
                learner.exemplars.memory.add(label, stored[f"class{label}"])
        for epoch in range(epochs):
            key = f"task{task}_epoch{epoch}"
            result["losses"][key] = []
            for batch in batches(*data[f"task{task}"]):
                with torch.no_grad():
                    direct = learner.loss(batch.features, batch.labels).item()
                losses = {name: value.item() for name, value in learner.learn(batch).items()}
                result["losses"][key].append(losses | {"direct": direct})
            result["accuracy"][key] = accuracy(learner, *data["test"])
        state = learner.network.tail.state_dict() | {"codebook": learner.codebook.blocks}
        result["after"][task] = {name: value.detach().clone() for name, value in state.items()}
    return result


def test_block_indices_of_the_first_image(trace):
    expected = torch.tensor(EXPECTED["codes_first_image"])
    assert (trace["codes"].long() == expected).sum() >= 5_400


def test_features_and_reconstruction_of_the_first_batch(trace):
    expected, first = EXPECTED["first_batch"], trace["first"]
    assert trace["feature_mean"] == pytest.approx(expected["feature_mean"], rel=1e-4)
    assert first["orig_fbanks_std"] == pytest.approx(expected["feature_std"], rel=1e-4)
    assert first["reconstr_mse"] == pytest.approx(expected["reconstruction_mse"], rel=1e-3)


@pytest.mark.parametrize("key", EXPECTED["losses"])
def test_losses(trace, key):
    assert len(trace["losses"][key]) == len(EXPECTED["losses"][key])
    for found, expected in zip(trace["losses"][key], EXPECTED["losses"][key], strict=True):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, rel=1e-3), name


@pytest.mark.parametrize("task", [0, 1])
def test_change_of_every_tensor(trace, task):
    initial = load_file(GOLDEN / "initial.safetensors")
    expected = load_file(GOLDEN / f"after_task{task}.safetensors")
    found = trace["after"][task]
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        change = value - initial[name]
        error = (found[name] - initial[name] - change).norm() / change.norm()
        assert error < 0.01, f"{name}: {error:.4f}"


@pytest.mark.parametrize("key", EXPECTED["accuracy"])
def test_accuracy_within_one_image(trace, key):
    images = 24 if key.startswith("task0") else 48
    for name, value in EXPECTED["accuracy"][key].items():
        assert abs(trace["accuracy"][key][name] - value) <= 100 / images + 1e-6
