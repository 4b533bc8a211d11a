"""A learner treats the images it is given as it treated those it has learned from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import crumb
from crumb.cli.main import main
from crumb.data.batches import Batch
from crumb.data.images import as_images
from crumb.data.resize import RESIZES, Resize
from crumb.files import read_tensors, write_tensors
from crumb.methods.older import preprocessing_of
from crumb.methods.persistence import load_learner
from crumb.nets.config import NetworkConfig, Preprocessing

SMALL = ["--backbone", "test_efficientnet", "--cut", "blocks.4", "--weights", "random"]
HEADER = "crumb-learner"


def wide(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 60, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def own_images(root: Path) -> None:
    """Two classes of two sessions of an image each."""
    for place, name in enumerate(("bed", "car")):
        for session in range(2):
            path = root / name / str(session) / "1.png"
            path.parent.mkdir(parents=True)
            wide(2 * place + session).save(path)


def small() -> Any:
    return crumb.create(
        "finetune", backbone="test_efficientnet", cut="blocks.4", weights="random", device="cpu"
    )


def test_a_learner_of_its_own_crops(monkeypatch: pytest.MonkeyPatch):
    """What it learns from and what it predicts from are the same pixels."""
    learner, image = small(), wide(0)
    seen: list[torch.Tensor] = []

    def learn(batch: Batch) -> dict[str, torch.Tensor]:
        assert batch.images is not None
        seen.append(batch.images)
        return {}

    features = learner.network.features

    def watch(images: torch.Tensor) -> torch.Tensor:
        seen.append(images)
        return features(images)

    monkeypatch.setattr(learner, "learn", learn)
    monkeypatch.setattr(learner.network, "features", watch)
    learner.observe([image], "noise")
    learner.predict([image])
    assert learner.network.preprocessing.square == (160, "crop", "bicubic")
    expected = as_images(image, 160, "crop", "bicubic")
    assert len(seen) == 3
    assert all(torch.equal(images, expected) for images in seen)


def test_how_images_become_square_is_saved_with_the_learner(tmp_path: Path):
    small().save(tmp_path / "a.safetensors")
    assert load_learner(tmp_path / "a.safetensors").network.preprocessing.resize == "crop"


def changed(path: Path, **new: Any) -> None:
    """Other words about a learner; None takes one out."""
    tensors, meta = read_tensors(path, "")
    about = json.loads(meta[HEADER]) | new
    about = {name: value for name, value in about.items() if value is not None}
    write_tensors(path, tensors, {HEADER: json.dumps(about)})


def test_learners_of_older_versions_squash(tmp_path: Path):
    small().save(tmp_path / "a.safetensors")
    changed(tmp_path / "a.safetensors", resize=None)
    assert load_learner(tmp_path / "a.safetensors").network.preprocessing.resize == "squash"


@pytest.mark.parametrize(
    ("what", "value"),
    [("resize", "stretch"), ("interpolation", "box"), ("size", 99_999), ("size", "large")],
)
def test_an_unknown_form_is_damage(tmp_path: Path, what: str, value: Any):
    small().save(tmp_path / "a.safetensors")
    changed(tmp_path / "a.safetensors", **{what: value})
    with pytest.raises(crumb.InputError, match=rf"a\.safetensors: is damaged \(.*'?{value}'"):
        crumb.load(tmp_path / "a.safetensors")


def test_learners_of_older_versions_see_bilinear_images(tmp_path: Path):
    small().save(tmp_path / "a.safetensors")
    changed(tmp_path / "a.safetensors", interpolation=None, size=None)
    seen = load_learner(tmp_path / "a.safetensors").network.preprocessing
    assert seen.square == (160, "crop", "bilinear")


def test_the_size_and_filter_of_images_are_saved_with_the_learner(tmp_path: Path):
    small().save(tmp_path / "a.safetensors")
    changed(tmp_path / "a.safetensors", size=96, interpolation="bilinear")
    network = load_learner(tmp_path / "a.safetensors").network
    assert network.preprocessing.square == (96, "crop", "bilinear")
    assert network.feature_shape[1:] == (6, 6)


def test_networks_of_torchvision_had_images_of_224_pixels():
    config = NetworkConfig("efficientnet_b1", "features.7", "random")
    assert preprocessing_of(config, {"resize": "pad"}) == Preprocessing(resize="pad")
    now = {"resize": "pad", "interpolation": "bicubic", "size": 240}
    assert preprocessing_of(config, now).square == (240, "pad", "bicubic")


@pytest.mark.parametrize("resize", RESIZES)
def test_a_learner_of_a_stream_does_as_its_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resize: Resize
):
    monkeypatch.chdir(tmp_path)
    own_images(tmp_path / "mine")
    words: list[Any] = ["--output", "set", "--resize", resize]
    assert main(["index", "folder", "mine", *words]) == 0
    words = [*SMALL, "--method", "finetune", "--runs", "1", "--save-model", "--device", "cpu"]
    assert main(["stream", "set", *words, "--output", "run"]) == 0
    (saved,) = (tmp_path / "run").glob("learner*.safetensors")
    assert load_learner(saved).network.preprocessing.resize == resize


def test_a_run_is_not_resumed_with_images_of_another_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    own_images(tmp_path / "mine")
    assert main(["index", "folder", "mine", "--output", "set"]) == 0
    words = [*SMALL, "--method", "finetune", "--runs", "1", "--device", "cpu", "--output", "run"]
    assert main(["stream", "set", *words]) == 0
    assert main(["index", "folder", "mine", "--output", "set", "--resize", "pad"]) == 0
    assert main(["stream", "--resume", "run", "--runs", "2"]) == 2
    assert "index" in capsys.readouterr().err
