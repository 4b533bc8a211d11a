"""Weights and pretrained learners that cannot be used: one line that names them."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from damage import empty, half, text
from safetensors.torch import load_file, save_file

import crumb
from crumb.data.index import Dataset

Refused = Callable[..., str]


# Networks and weights.


@pytest.mark.parametrize("cut", ["blocks.9", "nowhere", "classifier", "conv"])
def test_cut(refused: Refused, stream: list, cut: str):
    refused(*stream, "--cut", cut, names=f"--cut {cut}")


def test_cut_inside_a_residual_block(refused: Refused, dataset: Dataset, output: Path):
    words = ["--backbone", "test_resnet", "--weights", "random", "--cut", "layer2.0.conv2"]
    line = refused("stream", dataset.folder, *words, "--output", output, names="--cut layer2.0")
    assert "values cross the cut" in line


def test_no_cut(refused: Refused, dataset: Dataset, output: Path):
    words = ["--backbone", "test_resnet", "--weights", "random", "--output", output]
    refused("stream", dataset.folder, *words, names=("--backbone test_resnet", "--cut"))


class Code:
    """Unpickling it would make a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def write_code(path: Path) -> None:
    torch.save({"conv_stem.weight": Code(path.with_suffix(".run"))}, path)


def write_bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Code(path.with_suffix(".run"))))


def write_truncated(path: Path) -> None:
    torch.save(timm.create_model("test_efficientnet").state_dict(), path)
    half(path)


def write_other_network(path: Path) -> None:
    torch.save(timm.create_model("test_resnet").state_dict(), path)


def write_number(path: Path) -> None:
    torch.save(3, path)


@pytest.mark.parametrize(
    "write",
    [
        text,
        empty,
        write_truncated,
        write_other_network,
        write_number,
        write_code,
        write_bare_pickle,
        Path.mkdir,
        lambda path: None,
    ],
)
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_weights(
    refused: Refused, dataset: Dataset, tmp_path: Path, output: Path, write: Callable, name: str
):
    write(tmp_path / name)
    words = ["--backbone", "test_efficientnet", "--cut", "blocks.4", "--output", output]
    refused("stream", dataset.folder, *words, "--weights", tmp_path / name, names=name)
    assert not (tmp_path / "w.run").exists()


# Pretrained learners.


def learner_file(path: Path, method: str = "crumb", cut: str = "blocks.4", **config) -> Path:
    learner = crumb.create(
        method, backbone="test_efficientnet", cut=cut, weights="random", **config
    )
    learner.save(path)
    return path


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"cut": "blocks.3"}, "has cut blocks.3, but this run has blocks.4"),
        ({"block_length": 8}, "(256, 8), but this run needs (256, 16)"),
        ({"blocks": 64}, "(64, 16), but this run needs (256, 16)"),
        ({"method": "finetune"}, "no codebook"),
    ],
)
def test_pretrained_of_another_kind(
    refused: Refused, stream: list, tmp_path: Path, config: dict, names: str
):
    path = learner_file(tmp_path / "other.safetensors", **config)
    refused(*stream, "--pretrained", path, names=(str(path), names))


def test_pretrained_of_another_backbone(refused: Refused, stream: list, tmp_path: Path):
    path = tmp_path / "other.safetensors"
    crumb.create(backbone="test_resnet", cut="layer4", weights="random").save(path)
    refused(*stream, "--pretrained", path, names=(str(path), "has backbone test_resnet"))


def test_weights_in_the_place_of_a_pretrained_learner(refused: Refused, stream: list, weights):
    refused(*stream, "--pretrained", weights, names=(str(weights), "is not a learner file"))


@pytest.mark.parametrize(
    "write", [lambda path: None, Path.mkdir, text, empty, lambda path: half(learner_file(path))]
)
def test_pretrained_of_another_sort_of_file(
    refused: Refused, stream: list, tmp_path: Path, write: Callable
):
    path = tmp_path / "bad.safetensors"
    write(path)
    refused(*stream, "--pretrained", path, names=str(path))


@pytest.mark.parametrize(
    ("meta", "names"),
    [
        ({"crumb-learner": '{"version": 2}'}, "has format version 2"),
        ({"crumb-learner": "{"}, "is damaged"),
        ({"crumb-learner": "{}"}, "is damaged"),
        ({"crumb-learner": "[]"}, "is damaged"),
        ({"crumb-learner": '{"version": 1, "network": 3}'}, "is damaged"),
    ],
)
def test_pretrained_with_a_bad_description(
    refused: Refused, stream: list, tmp_path: Path, meta: dict, names: str
):
    path = learner_file(tmp_path / "bad.safetensors")
    header = {"crumb-learner": "{}"}
    save_file(load_file(path), path, metadata=header | meta)
    refused(*stream, "--pretrained", path, names=(str(path), names))


@pytest.mark.parametrize("change", ["missing", "of another shape"])
def test_pretrained_with_a_tensor(refused: Refused, stream: list, tmp_path: Path, change: str):
    from safetensors import safe_open

    path = learner_file(tmp_path / "bad.safetensors")
    with safe_open(path, "pt") as file:
        meta = file.metadata()
    tensors = load_file(path)
    name = next(name for name in tensors if name.startswith("network.tail.") and "conv" in name)
    tensor = tensors.pop(name)
    save_file(tensors | ({name: tensor[:1]} if change != "missing" else {}), path, metadata=meta)
    refused(*stream, "--pretrained", path, names=(str(path), "lacks tensors"))
