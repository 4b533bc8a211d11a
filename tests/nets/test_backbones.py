from __future__ import annotations

import pytest
import torch

from crumb.errors import InputError
from crumb.nets.backbones import BACKBONES, build_network, find_backbone
from crumb.nets.config import NetworkConfig, Preprocessing

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_registered_backbones_know_their_cut():
    cuts = {name: find_backbone(name).cut for name in BACKBONES}
    assert cuts == {
        "squeezenet1_0": "features.12",
        "mobilenet_v2": "features.8",
        "efficientnet_lite0": "blocks.6",
        "efficientnet_lite1": "blocks.6",
        "efficientnet_lite2": "blocks.6",
    }


@pytest.mark.parametrize("name", ["squeezenet1_0", "mobilenet_v2", "resnet18"])
def test_published_preprocessing(name: str):
    preprocessing = find_backbone(name, "layer4").preprocessing
    assert preprocessing == Preprocessing(224, *IMAGENET)


def test_preprocessing_scales_then_normalises():
    pixels = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    pixels[0, :, 0, 0] = torch.tensor([255, 128, 51], dtype=torch.uint8)
    values = Preprocessing(2)(pixels)
    mean, std = torch.tensor(IMAGENET[0]), torch.tensor(IMAGENET[1])
    expected = (torch.tensor([1.0, 128 / 255, 0.2]) - mean) / std
    torch.testing.assert_close(values[0, :, 0, 0], expected)
    torch.testing.assert_close(values[0, :, 1, 1], -mean / std)
    assert pixels[0, 0, 0, 0] == 255


def test_a_cut_replaces_the_registered_one_and_nothing_else():
    assert vars(find_backbone("squeezenet1_0", "features.3")) == {
        **vars(BACKBONES["squeezenet1_0"]),
        "cut": "features.3",
    }


def test_torchvision_comes_before_timm():
    assert find_backbone("resnet18", "layer4").library == "torchvision"


@pytest.mark.parametrize(
    ("name", "library", "size", "interpolation"),
    [
        ("resnet10t", "timm", 176, "bicubic"),
        ("dla34", "timm", 224, "bilinear"),
        ("vit_small_patch14_dinov2.lvd142m", "timm", 518, "bicubic"),
        ("efficientnet_b1", "torchvision", 240, "bicubic"),
        ("inception_v3", "torchvision", 299, "bilinear"),
        ("vit_b_16", "torchvision", 224, "bilinear"),
    ],
)
def test_networks_see_images_as_in_their_training(
    name: str, library: str, size: int, interpolation: str
):
    backbone = find_backbone(name, "some.layer")
    assert backbone.library == library
    assert backbone.preprocessing.square == (size, "crop", interpolation)


def test_mean_and_deviation_are_those_of_the_weights():
    clip = find_backbone("vit_base_patch32_clip_224.openai", "blocks.10").preprocessing
    assert clip.mean == (0.48145466, 0.4578275, 0.40821073)
    large = find_backbone("efficientnet_v2_l", "features.7").preprocessing
    assert (large.size, large.mean, large.std) == (480, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize("name", ["squeezenet1_0", "mobilenet_v2", "efficientnet_lite0"])
def test_published_results_are_of_bilinear_images(name: str):
    assert BACKBONES[name].preprocessing.square == (224, "crop", "bilinear")


@pytest.mark.parametrize("name", ["resnet18", "resnet10t"])
def test_unregistered_network_needs_a_cut(name: str):
    with pytest.raises(InputError, match=f"backbone='{name}': .*cut"):
        find_backbone(name)


@pytest.mark.parametrize(("name", "near"), [("squeezenet10", "squeezenet1_0"), ("qqq", "mobile")])
def test_unknown_network_names_its_neighbours(name: str, near: str):
    with pytest.raises(InputError, match=f"backbone='{name}': .*did you mean .*{near}"):
        find_backbone(name)


def test_weights_follow_from_the_seed():
    config = NetworkConfig("squeezenet1_0", weights="random")
    first, again, other = (build_network(config, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["front.features.0.weight"], other["front.features.0.weight"])


def test_network_is_ready_for_prediction_and_knows_its_cut():
    network = build_network(NetworkConfig("mobilenet_v2", weights="random"))
    assert not network.training
    assert not network.tail.training
    assert network.config.cut == "features.8"
    assert network.outputs == 1000


@pytest.mark.parametrize(("name", "cut"), [("googlenet", "inception5a")])
def test_network_with_auxiliary_heads_has_one_head_in_training_mode(name: str, cut: str):
    network = build_network(NetworkConfig(name, cut, "random")).train()
    network.use_generator(torch.Generator())
    assert network(torch.rand(2, *network.feature_shape)).shape == (2, 1000)


def test_googlenet_rescales_its_input_as_in_its_training():
    network = build_network(NetworkConfig("googlenet", "conv1", "random"))
    black = network.preprocessing(torch.zeros(1, 3, 2, 2, dtype=torch.uint8))
    torch.testing.assert_close(network.front(black), torch.full((1, 3, 2, 2), -1.0))


@pytest.mark.parametrize("dropout", [-0.1, 1.0, float("nan")])
def test_dropout_must_be_a_probability(dropout: float):
    with pytest.raises(InputError, match="dropout"):
        NetworkConfig(dropout=dropout)
