"""Vision transformers: what crosses the cut, what is a patch, and methods that need a map."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from split_networks import images
from torch import Tensor, nn

from crumb.data.batches import Batch
from crumb.errors import InputError
from crumb.methods import rainbow, remind
from crumb.methods.registry import find_method
from crumb.nets.backbones import build_network
from crumb.nets.config import Backbone, NetworkConfig, Preprocessing
from crumb.nets.engines import ENGINES
from crumb.nets.fronts import disagreement, open_engine
from crumb.nets.split import SplitNetwork
from crumb.nets.tokens import check_grid, grid_of_tokens, on_grid
from crumb.testing.networks import Task


class Tokens(nn.Module):
    """16 patches of 4 x 4 pixels in 6 channels, and tokens of the whole image before them."""

    def __init__(self, prefix: int | None = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 4, 4)
        self.first = nn.Parameter(torch.full((1, prefix or 0, 6), 5.0))
        self.block = nn.Linear(6, 6)
        self.fc = nn.Linear(6, 5)
        if prefix is not None:
            self.num_prefix_tokens = prefix

    def forward(self, values: Tensor) -> Tensor:
        patches = self.stem(values).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.first.expand(values.shape[0], -1, -1), patches], 1)
        return self.fc(self.block(tokens)[:, 0])


def split(prefix: int | None) -> SplitNetwork:
    backbone = Backbone("timm", "tokens", "block", preprocessing=Preprocessing(16))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SplitNetwork(Tokens(prefix), backbone, NetworkConfig("tokens", "block", "random"))


def test_each_token_is_a_place_with_its_channels():
    network = split(2)
    features = network.features(images(3, 16))
    assert features.shape == (3, 6, 18, 1)
    assert features.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(features[:, :, :2, 0], torch.full((3, 6, 2), 5.0))
    with torch.no_grad():
        maps = network.front.get_submodule("stem")(network.preprocessing(images(3, 16)))
    torch.testing.assert_close(features[:, :, 2:, 0], maps.flatten(2))


def test_the_head_is_given_the_class_token():
    network = split(1)
    features = network.features(images(3, 16))
    with torch.no_grad():
        expected = network.tail.get_submodule("block")(features[:, :, 0, 0])
        torch.testing.assert_close(network.penultimate(features), expected)


@pytest.mark.parametrize(
    ("stated", "tokens", "expected"),
    [
        (1, 17, (1, (4, 4))),
        (5, 21, (5, (4, 4))),
        (0, 16, (0, (4, 4))),
        # The class token comes in a later block.
        (1, 16, (0, (4, 4))),
        (1, 18, (0, None)),
        (None, 16, (0, None)),
    ],
)
def test_order_of_tokens(stated: int | None, tokens: int, expected: tuple[int, object]):
    model = nn.Module()
    if stated is not None:
        vars(model)["num_prefix_tokens"] = stated
    assert grid_of_tokens(model, tokens) == expected


def test_a_map_of_patches_is_changed_and_the_tokens_before_it_stay():
    network = split(1)
    tokens = torch.arange(2 * 6 * 17.0).view(2, 6, 17, 1)
    seen = []

    def mirrored(maps: Tensor) -> Tensor:
        seen.append(maps.shape)
        return maps.flip(3)

    found = on_grid(network, tokens, mirrored)
    assert seen == [(2, 6, 4, 4)]
    assert found.shape == tokens.shape
    assert found[0, 0, :, 0].tolist() == [0, 4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13]


def test_tokens_in_an_unknown_order_are_no_map():
    with pytest.raises(InputError, match="^here: needs a map, and the order .* cut='block'"):
        check_grid(split(None), "here")


def test_remind_crops_the_patches_alone(monkeypatch: pytest.MonkeyPatch):
    kind = find_method("remind")
    with pytest.raises(InputError, match="random_resized_crops=True: needs a map"):
        kind(split(None), kind.Config(pq_codebooks=2))
    shapes = []

    def crop(maps: Tensor, generator: torch.Generator) -> Tensor:
        shapes.append(tuple(maps.shape[1:]))
        return maps

    monkeypatch.setattr(remind, "random_resized_crops", crop)
    network = split(1)
    learner = kind(network, kind.Config(pq_codebooks=2, pq_centroids=4))
    learner.add_classes(["cup", "duck"])
    batch = Batch(torch.tensor([0, 1] * 4), network.features(images(8, 16)))
    learner.learn(batch)
    learner.end_task(Task([batch]))
    learner.learn(batch)
    assert set(shapes) == {(6, 4, 4)}


@pytest.mark.usefixtures("all_engines")
@pytest.mark.parametrize("name", ENGINES)
def test_engines_compute_tokens(name: str):
    pytest.importorskip(name)
    network = split(2)
    assert disagreement(network, open_engine(network, name)) < 1e-4


@pytest.mark.parametrize(
    ("name", "shape", "prefix"),
    [("test_vit", (64, 101, 1), 1), ("test_vit_relpos", (96, 100, 1), 0)],
)
def test_vision_transformers_of_timm(name: str, shape: tuple[int, ...], prefix: int):
    """Those that take images of any size are built for one."""
    network = build_network(NetworkConfig(name, "blocks.1", "random"))
    assert (network.feature_shape, network.prefix_tokens, network.grid) == (shape, prefix, (10, 10))


def test_scr_crops_the_patches_alone(monkeypatch: pytest.MonkeyPatch):
    kind = find_method("scr")
    with pytest.raises(InputError, match="^method='scr': needs a map"):
        kind(split(None), kind.Config())
    learner = kind(split(1), kind.Config(memory_size=4))
    learner.add_classes(["a", "b"])
    seen, whole = [], learner.network.penultimate

    def penultimate(maps: Tensor) -> Tensor:
        seen.append(maps)
        return whole(maps)

    monkeypatch.setattr(learner.network, "penultimate", penultimate)
    features = learner.network.features(images(4, 16))
    learner.learn(Batch(torch.tensor([0, 1, 0, 1]), features, images(4, 16)))
    new, cropped = seen[0].split(4)
    assert torch.equal(new, features)
    # The class token is the same in both views, and the patches are not.
    assert torch.equal(cropped[:, :, 0], features[:, :, 0])
    assert not torch.equal(cropped[:, :, 1:], features[:, :, 1:])


@pytest.mark.parametrize(
    "settings", [{"perturb": "feature"}, {"perturb": "image", "cutmix_probability": 1.0}]
)
def test_rainbow_changes_the_patches_alone(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    kind = find_method("rainbow")
    config = kind.Config(memory_size=2, memory_only_epochs=1, views=2, **settings)
    with pytest.raises(InputError, match="^(perturb|cutmix_prob).*: needs a map"):
        kind(split(None), config)
    shapes = []

    def crop(maps: Tensor, *_: Any) -> Tensor:
        shapes.append(tuple(maps.shape[1:]))
        return maps

    def mix(maps: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
        return crop(maps), torch.arange(len(maps)), 1.0

    if settings["perturb"] == "feature":
        monkeypatch.setattr(rainbow, "random_crops", crop)
    monkeypatch.setattr(rainbow, "cutmix", mix)
    learner = kind(split(1), config)
    learner.add_classes(["cup", "duck"])
    batch = Batch(torch.tensor([0, 1] * 2), learner.network.features(images(4, 16)), images(4, 16))
    learner.learn(batch)
    learner.end_task(Task([batch]))
    assert set(shapes) == {(6, 4, 4)}
