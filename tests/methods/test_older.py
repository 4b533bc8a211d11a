"""Learner files that lack what has been added since, or hold what has been dropped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import SIZE, batch_of, images_of, tiny_network
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from crumb.errors import InputError
from crumb.methods import persistence
from crumb.methods.older import EARLIER, LATER
from crumb.methods.registry import find_method

KEY = "crumb-learner"
ADDED = ("jpeg_quality", "new_as_stored", "trained_outputs")
PIXELS = {"jpeg_quality": 0, "new_as_stored": False, "memory_size": 4, "exemplar_side": SIZE // 2}


@pytest.fixture(autouse=True)
def tiny_backbone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(persistence, "build_network", lambda *_: tiny_network())


def learner_of(method: str, **settings: Any) -> Any:
    kind = find_method(method)
    learner = kind(tiny_network(), kind.Config(**settings))
    learner.begin_task(["a", "b"])
    for seed in range(2):
        learner.learn(batch_of(learner, 0, 1, 1, seed=seed))
    return learner


def described(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()[KEY])


def as_it_was(path: Path, method: str | None = None, **dropped: Any) -> Path:
    """The file without the settings that were added, and with others that were dropped."""
    tensors, about = load_file(path), described(path)
    for name in ADDED:
        about["config"].pop(name, None)
    about["config"] |= dropped
    about["method"] = method or about["method"]
    kept = {name: value for name, value in tensors.items() if not name.endswith(".shown")}
    save_file(kept, path, {KEY: json.dumps(about)})
    return path


def saved(learner: Any, folder: Path) -> Path:
    learner.save(folder / "learner")
    return folder / "learner"


@pytest.mark.parametrize("method", ["er", "gss", "crumb"])
def test_images_without_a_quality_are_pixels(method: str, tmp_path: Path):
    more = {"storage": "image", "write_policy": "on-arrival"} if method == "crumb" else {}
    learner = learner_of(method, **PIXELS, **more)
    loaded: Any = persistence.load_learner(as_it_was(saved(learner, tmp_path)))
    assert loaded.config == learner.config
    rows = learner.state_dict()["memory.rows"]
    assert len(rows)
    assert torch.equal(loaded.state_dict()["memory.rows"], rows)
    assert loaded.predict(images_of(0, 2)) == learner.predict(images_of(0, 2))


@pytest.mark.parametrize("method", ["l2", "si"])
def test_penalties_trained_all_outputs(method: str, tmp_path: Path):
    learner = learner_of(method)
    learner.end_task([])
    loaded: Any = persistence.load_learner(as_it_was(saved(learner, tmp_path)))
    assert loaded.config.trained_outputs == "all"


def test_what_the_task_had_shown_was_not_noted(tmp_path: Path):
    learner = learner_of("lwf")
    assert learner.previous.shown == {0, 1}
    loaded: Any = persistence.load_learner(as_it_was(saved(learner, tmp_path)))
    assert loaded.previous.shown == set()


def test_settings_that_were_dropped_are_left_out(tmp_path: Path):
    learner = learner_of("icarl", **PIXELS)
    path = as_it_was(saved(learner, tmp_path), lr_milestones=[0.5], lr_factor=0.1)
    assert persistence.load_learner(path).config == learner.config


@pytest.mark.parametrize("policy", ["on-arrival", "reservoir"])
def test_agem_on_arrival_is_agem_r(policy: str, tmp_path: Path):
    learner = learner_of("agem_r", **PIXELS, write_policy=policy)
    loaded = persistence.load_learner(as_it_was(saved(learner, tmp_path), method="agem"))
    assert loaded.name == "agem_r"
    assert loaded.config == learner.config


def test_scores_were_beside_the_memory(tmp_path: Path):
    learner = learner_of("gss", **PIXELS)
    path = saved(learner, tmp_path)
    tensors = load_file(path)
    tensors["memory.scores.rows"] = tensors.pop("memory.payload.score")
    save_file(tensors, path, {KEY: json.dumps(described(path))})
    loaded: Any = persistence.load_learner(as_it_was(path))
    for label in (0, 1):
        assert torch.equal(loaded.exemplars.scores_of(label), learner.exemplars.scores_of(label))


def test_exemplars_of_another_form_are_refused_by_the_name_of_the_file(tmp_path: Path):
    learner = learner_of("er", **PIXELS)
    path = as_it_was(saved(learner, tmp_path), exemplar_side=SIZE)
    with pytest.raises(InputError, match=r"learner: cannot be loaded \(the saved replay memory"):
        persistence.load_learner(path)


@pytest.mark.parametrize("method", ["ewc", "lwf", "stable_sgd", "icarl"])
def test_tensors_that_came_later_or_went_are_not_asked_for(method: str, tmp_path: Path):
    path = saved(learner_of(method, **(PIXELS if method == "icarl" else {})), tmp_path)
    tensors = {name: value for name, value in load_file(path).items() if name not in LATER}
    assert method == "icarl" or len(tensors) < len(load_file(path))
    tensors |= {name: torch.zeros(1) for name in EARLIER if method == "icarl"}
    save_file(tensors, path, {KEY: json.dumps(described(path))})
    assert persistence.load_learner(path).classes
