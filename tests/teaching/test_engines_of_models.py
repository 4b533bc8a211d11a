"""A model keeps the engine that its features came from, and does without it where it must."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.rounding import assert_rounded

from crumb.files import read_metadata
from crumb.methods import persistence
from crumb.methods.answers import scores_of
from crumb.methods.base import Learner
from crumb.methods.registry import create, find_method
from crumb.methods.saving import KEY
from crumb.nets import engines
from crumb.nets.fronts import use_engine
from crumb.testing import resuming_checks
from crumb.testing.conformance import run_check
from crumb.testing.networks import TERMS, images_of, tiny_network
from crumb.testing.variants import variants

pytestmark = pytest.mark.usefixtures("all_engines")
SHOWN = torch.cat([images_of(label, 4) for label in (0, 1, 2)])
NAMES = [name for name in "abc" for _ in range(4)]
TINY = "crumb.testing.networks:TINY"


def taught(engine: Any) -> Any:
    learner = create("slda", backbone=TINY, weights="random", engine=engine, device="cpu")
    learner.observe(SHOWN, NAMES)
    return learner


def engine_of(learner: Learner) -> str:
    engine = learner.network.front_engine()
    return "torch" if engine is None else engine.name


def test_a_model_goes_on_with_its_engine_to_the_bit(tmp_path: Path):
    learner = taught("onnxruntime")
    learner.save(tmp_path / "model")
    loaded: Any = persistence.load_learner(tmp_path / "model", "cpu")
    assert engine_of(loaded) == "onnxruntime"
    for one in (learner, loaded):
        one.observe(SHOWN[:2], "b")
        one.save(tmp_path / str(one is learner))
    assert (tmp_path / "True").read_bytes() == (tmp_path / "False").read_bytes()


def test_without_the_engine_torch_predicts_the_same_up_to_rounding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    learner = taught("onnxruntime")
    learner.save(tmp_path / "model")
    monkeypatch.setattr(engines, "is_installed", lambda name: False)
    loaded: Any = persistence.load_learner(tmp_path / "model", "cpu")
    assert engine_of(loaded) == "torch"
    (found, expected) = (one.features(SHOWN) for one in (loaded, learner))
    assert_rounded(found, expected, TERMS)
    answers = scores_of(loaded, SHOWN).argmax(1)
    assert [loaded.classes[answer] for answer in answers] == NAMES
    # Back on the first machine it is computed as before.
    loaded.save(tmp_path / "again")
    assert '"engine": "onnxruntime"' in read_metadata(tmp_path / "again", "")[KEY]


def test_models_of_earlier_versions_are_of_torch(tmp_path: Path):
    path = tmp_path / "model"
    taught("torch").save(path)
    about = json.loads(read_metadata(path, "")[KEY])
    del about["network"]["engine"]
    save_file(load_file(path), path, {KEY: json.dumps(about)})
    loaded = persistence.load_learner(path, "cpu")
    assert (loaded.network.config.engine, engine_of(loaded)) == ("torch", "torch")


@pytest.mark.parametrize("method", ["slda", "crumb", "er"])
def test_learners_resume_with_an_engine_as_with_torch(method: str, monkeypatch: pytest.MonkeyPatch):
    def network(*arguments: Any, **words: Any) -> Any:
        made = tiny_network(*arguments, **words)
        use_engine(made, "onnxruntime")
        return made

    monkeypatch.setattr(import_module("crumb.testing.variants"), "tiny_network", network)
    variant = next(variants(find_method(method)))
    checks = {
        name: check
        for name, check in vars(resuming_checks).items()
        if name.startswith("check_") and "cuda" not in name
    }
    assert checks
    for name, check in checks.items():
        run_check(variant, name, check)
