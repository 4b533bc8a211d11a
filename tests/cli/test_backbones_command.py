"""``crumb backbones``: the table is that of the networks themselves."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from crumb.benchmarks import backbones as measured
from crumb.cli.main import main
from crumb.codebook.codebook import Codebook
from crumb.nets.backbones import BACKBONES, build_network
from crumb.nets.config import NetworkConfig
from crumb.nets.known import FACTS
from crumb.nets.split import SplitNetwork


def table(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, list[str]]:
    """Cells by backbone."""
    assert main(["backbones", *words]) == 0
    _, _, *lines = capsys.readouterr().out.splitlines()
    return {line.split()[0]: line.split()[1:] for line in lines}


@pytest.mark.parametrize("name", BACKBONES)
def test_what_is_written_down_is_true(name: str):
    network = build_network(NetworkConfig(name, weights="random"))
    weights = [value for value in network.state_dict().values() if value.is_floating_point()]
    facts = FACTS[name]
    assert facts.feature_shape == network.feature_shape
    # The paper's head of SqueezeNet is larger than the one that its weights come with.
    assert facts.weight_bytes == sum(value.nbytes for value in weights)


def test_known_backbones_are_listed(capsys: pytest.CaptureFixture[str]):
    found = table(capsys)
    assert found.keys() == BACKBONES.keys()
    for name, cells in found.items():
        blocks = torch.zeros(256, BACKBONES[name].block_length)
        code = Codebook(blocks, FACTS[name].feature_shape).code_length
        assert cells[:2] == [BACKBONES[name].cut, str(BACKBONES[name].preprocessing.size)]
        assert cells[7] == f"{code:,}"


def test_any_other_network_is_looked_at(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def milliseconds(networks: Mapping[str, SplitNetwork]) -> dict[str, float]:
        return dict.fromkeys(networks, 1.25)

    monkeypatch.setattr(measured, "milliseconds_per_image", milliseconds)
    found = table(capsys, "test_vit", "--cut", "blocks.1", "--measure")
    cells = found["test_vit"]
    assert cells[:8] == ["blocks.1", "160", "64", "x", "101", "x", "1", "404"]
    assert cells[-4:] == ["timm,", "downloaded", "torch", "1.2"]


def test_milliseconds_are_of_an_image(monkeypatch: pytest.MonkeyPatch):
    def seconds(contestants: Mapping[str, object], repeats: int, title: str) -> dict[str, float]:
        return dict.fromkeys(contestants, 0.02)

    monkeypatch.setattr(measured, "interleaved", seconds)
    network = build_network(NetworkConfig("test_vit", "blocks.1", "random"))
    assert measured.milliseconds_per_image({"test_vit": network}) == {"test_vit": 5.0}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["nothing_known"],
            "--backbone nothing_known: is not a network of Crumb, torchvision or timm",
        ),
        (["--cut", "layer4"], "--cut layer4: is of one backbone; name the backbone"),
        (["resnet10t"], "--backbone resnet10t: has no default cut"),
    ],
)
def test_mistakes_are_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    assert main(["backbones", *words]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"crumb: {said}")
    assert printed.err.count("\n") == 1
